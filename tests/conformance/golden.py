"""Golden replay: recorded scenarios of real QEMUs, played again with modelled ones in virtual time.

The data in ``golden/`` are made by `distil` from transcripts. A scenario is played by sending its commands in the
recorded order, each after what had been seen before it and no sooner after that than it was then; what is answered and
what happens is compared. What can't be the same twice is not compared: addresses, times, byte counts, and how many
passes pre-copy took.
"""

from __future__ import annotations

import errno
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from whimbrel.sim import seeds
from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Clock
from whimbrel.sim.link.contract import Channel
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.memory.build import memory_of
from whimbrel.sim.qemu.contract import Costs, QmpMessage, Version
from whimbrel.sim.qemu.images import Images
from whimbrel.sim.qemu.monitor import Client
from whimbrel.sim.qemu.process import Qemu
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, Writer

GOLDEN = Path(__file__).parent / "golden"
MIB = 1 << 20
EPOCH_S = 1_795_381_730.0
PATIENCE_NS = 20 * SECOND_NS
"""How long something that was seen then is waited for now."""
NEAR_NS = 60 * MILLISECOND_NS
"""An answer that lies so near to a change may be from before or after it."""
BLACKHOLE_NS = 134 * SECOND_NS
"""After so long the kernels of the recording gave a connection up."""

_EXTRA_BYTES = 532_480
"""ROMs and tables beside the guest's RAM, in the machine of the recordings."""

WORKLOADS = {
    "slow.img": Writer(name="slow", size_bytes=4 * MIB, rate_bytes_per_s=4e6, pattern=Pattern.SWEEP),
    "mid.img": Writer(name="mid", size_bytes=124 * MIB, rate_bytes_per_s=105e6, pattern=Pattern.SWEEP, cpu_share=1.0),
    "fast.img": Writer(name="fast", size_bytes=124 * MIB, rate_bytes_per_s=4e9, pattern=Pattern.SWEEP, cpu_share=1.0),
    "big.img": Writer(name="big", size_bytes=2560 * MIB, rate_bytes_per_s=1e9, pattern=Pattern.SWEEP, cpu_share=1.0),
}
"""What the boot sectors of the recordings write."""

RACES = ("cancel-after-continue", "misc-args")
"""``migrate_cancel`` on the heels of ``migrate-continue``: 10.0 was seen to end in both ways."""
_UNTIL_CONTINUE = ("setup", "pass", "active", "STOP", "pre-switchover", "device")
RACES_10_0 = {
    "src": (
        (*_UNTIL_CONTINUE, "cancelling", "pass", "RESUME", "cancelled"),
        (*_UNTIL_CONTINUE, "pass", "cancelling", "RESUME", "cancelled"),
    ),
    "dst": (
        ("setup", "active", "failed"),
        ("setup", "active", "completed"),
        ("setup", "active", "RESUME", "completed"),
    ),
}
_LOAD_FAILED = "load of migration failed: "
_SOCKET_WORDS = ("Broken pipe", "Connection reset by peer", "Bad file descriptor", "Input/output error")
_MISFITS = ("Machine type", "Size mismatch", "Unknown ", "Bad config", "RAM postcopy", "multifd: received")
"""What standard error says for sure, where a destination does not fit; all else there depends on the moment."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One recorded scenario.

    Attributes:
        version: of the QEMU that it is named after.
        name: as recorded, without the version.
        sides: the command line of each QEMU.
        steps: what was done and seen, in order: kind, side, and what the kind has.
        ends: of each QEMU, exit code (``None``: it lived) and standard error.
    """

    version: str
    name: str
    sides: dict[str, list[str]]
    steps: tuple[tuple[str, str, Any, Any, float], ...]
    ends: dict[str, dict[str, Any]]

    def version_of(self, side: str) -> Version:
        """Which QEMU a side is: both are the same but for the scenarios across versions."""
        words = self.name.split("-")
        if self.name.startswith("cross-version-to-") and side == "dst":
            return Version(words[3])
        return Version(self.version)


def scenarios(version: str) -> Iterator[Scenario]:
    """All recorded scenarios of a version."""
    for line in gzip.decompress((GOLDEN / f"{version}.jsonl.gz").read_bytes()).decode().splitlines():
        row = json.loads(line)
        yield Scenario(version, row["name"], row["sides"], tuple(tuple(step) for step in row["steps"]), row["ends"])


class Surroundings(LocalNetwork):
    """The network of a scenario, with what was wrong in the recorded one."""

    def __init__(self, clock: Clock) -> None:
        """Lay it: loopback."""
        super().__init__(clock, LinkPlan(bandwidth_bytes_per_s=2e9, latency_s=0.00005), 1)
        self.blackholes: set[str] = set()
        """Where nobody ever answers."""
        self.deaf: set[str] = set()
        """Where somebody accepts and never reads."""
        self._paths: set[str] = set()

    def listen(self, uri: str, accept: Callable[[Channel], None]) -> dict[str, object]:
        """See `LocalNetwork`; the recordings have one address that is not this host's."""
        if "203.0.113.9" in uri:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        self._paths.add(uri)
        return super().listen(uri, accept)

    def connect(self, uri: str, connected: Callable[[Channel], None], failed: Callable[[str], None]) -> None:
        """See `LocalNetwork`."""
        if uri in self.blackholes:
            self.clock.after(BLACKHOLE_NS, lambda: failed("Connection timed out"))
        elif uri.startswith("unix:") and uri not in self._paths:
            self.clock.after(MILLISECOND_NS, lambda: failed("No such file or directory"))
        elif ".invalid:" in uri:
            self.clock.after(MILLISECOND_NS, lambda: failed("Name or service not known"))
        else:
            if uri in self.deaf:
                super().listen(uri, lambda channel: channel.hold(True))
            super().connect(uri, connected, failed)


@dataclass(slots=True)
class Side:
    """One QEMU of a scenario, and what was seen of it."""

    qemu: Qemu
    client: Client | None = None
    events: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    answers: dict[object, QmpMessage] = field(default_factory=dict[object, QmpMessage])
    sent: dict[object, QmpMessage] = field(default_factory=dict[object, QmpMessage])
    told: dict[object, int] = field(default_factory=dict[object, int])
    """How much had been told in the recording when a command was sent."""
    changed_ns: int = -(1 << 62)
    """When it last said that something changed."""


class Player:
    """Plays one scenario."""

    def __init__(self, scenario: Scenario, seed: int = 1) -> None:
        """Set the world up."""
        self.scenario = scenario
        self.clock = Clock(order=seeds.stream(seed, "order"))
        self.network = Surroundings(self.clock)
        self.images = Images()
        self.sides: dict[str, Side] = {}
        self.findings: list[str] = []
        self._recorded: dict[str, list[tuple[str, Any]]] = {}
        self._ports: dict[str, str] = {}
        self._first_connect = True
        self._over: set[str] = set()

    def play(self) -> list[str]:
        """Play it; what differed, as sentences."""
        before_s = 0.0
        for kind, side, what, more, at_s in self.scenario.steps:
            self._let_pass(at_s - before_s)
            before_s = at_s
            getattr(self, f"_{kind}")(side, what, more)
        self._let_pass(0.5)
        for side in self.sides:
            self._compare_events(side)
            self._compare_end(side)
        return self.findings

    def _let_pass(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_ns + max(0, round(seconds * SECOND_NS)))

    # ---- steps

    def _start(self, name: str, what: object, more: object) -> None:
        arguments = self.scenario.sides[name]
        image = next((word for word in arguments if "file=" in word and ".img" in word), "slow.img")
        writer = next(each for file, each in WORKLOADS.items() if file in image)
        version = self.scenario.version_of(name)
        incoming = "-incoming" in arguments
        ram_bytes = int(arguments[arguments.index("-m") + 1]) * MIB
        plan = GuestPlan(
            ram_bytes=ram_bytes + _EXTRA_BYTES,
            zero_bytes=ram_bytes - writer.size_bytes - 4 * MIB,
            writers=(writer,),
        )
        memory = None if incoming else memory_of(plan, seed=1)
        number = len(self.sides)
        qemu = Qemu(
            self.clock, version, self.network, arguments, memory, Costs(), number, 1000 * (number + 1), EPOCH_S,
            images=self.images,
        )  # fmt: skip
        side = Side(qemu)
        self.sides[name] = side
        self._recorded[name] = []
        side.client = qemu.connect(lambda message: self._heard(side, message), lambda: None)

    def _heard(self, side: Side, message: QmpMessage) -> None:
        if "event" in message:
            side.events.append((str(message["event"]), message.get("data")))
            side.changed_ns = self.clock.now_ns
        elif "id" in message:
            side.answers[message["id"]] = message

    def _send(self, name: str, number: int, command: dict[str, Any]) -> None:
        self._wait_for_what_was_seen()
        side = self.sides[name]
        message: QmpMessage = {**self._translated(name, command), "id": number}
        side.sent[number] = message
        side.told[number] = len(story(self._recorded[name]))
        if side.client is not None:
            side.client.send(message)

    def _translated(self, name: str, command: dict[str, Any]) -> dict[str, Any]:
        """The command with the addresses of this world."""
        side = self.sides[name]
        if command.get("execute") == "getfd" and side.client is not None:
            side.client.hand_over("mig", "unix:a pair of sockets")
        text = json.dumps(command)
        for there, here in self._ports.items():
            text = text.replace(there, here)
        translated: dict[str, Any] = json.loads(text)
        uri = translated.get("arguments", {}).get("uri", "")
        if command.get("execute") == "migrate" and self._first_connect and uri.startswith("tcp:"):
            self._first_connect = False
            if self.scenario.name.startswith("cancel-setup-blackhole"):
                self.network.blackholes.add(uri)
            elif self.scenario.name.startswith("cancel-active-blackhole"):
                self.network.deaf.add(uri)
        return translated

    def _reply(self, name: str, number: int, recorded: dict[str, Any]) -> None:
        side = self.sides[name]
        self.clock.run(lambda: number in side.answers or not side.qemu.alive, self.clock.now_ns + PATIENCE_NS)
        answer = side.answers.get(number)
        command = side.sent[number].get("execute") or side.sent[number].get("exec-oob")
        if answer is None:
            self.findings.append(f"{name}: no answer to {command}")
            return
        self._learn_addresses(answer, recorded)
        words = self._difference(name, str(command), recorded, answer)
        if words is not None:
            self.findings.append(f"{name}: {command}: {words}")

    def _event(self, name: str, event: str, data: Any) -> None:
        self._recorded[name].append((event, data))

    def _silence(self, name: str, command: str, more: object) -> None:
        side = self.sides[name]
        unanswered = [number for number in side.sent if number not in side.answers]
        if not unanswered:
            self.findings.append(f"{name}: {command} was answered, and had not been")

    def _do(self, name: str, action: str, more: object) -> None:
        qemu = self.sides[name].qemu
        if action == "kill":
            if self.scenario.ends.get(name, {}).get("exit") is None:
                self._compare_end(name)  # it lived, until the recording was over
                self._over.add(name)
            qemu.kill()
        elif action == "freeze":
            qemu.freeze()
        elif action == "thaw":
            qemu.thaw()
        else:
            self._wait_for_what_was_seen()
            address = qemu.incoming.describe()["socket-address"]
            assert isinstance(address, list)
            uri = f"tcp:127.0.0.1:{address[0]['port']}"
            self.network.connect(uri, lambda channel: channel.close(), self.findings.append)

    # ---- waiting

    def _wait_for_what_was_seen(self) -> None:
        self.clock.run(self._seen_as_much, self.clock.now_ns + PATIENCE_NS)

    def _seen_as_much(self) -> bool:
        return all(
            len(story(self.sides[name].events)) >= len(story(recorded)) or not self.sides[name].qemu.alive
            for name, recorded in self._recorded.items()
        )

    # ---- comparing

    def _learn_addresses(self, answer: QmpMessage, recorded: dict[str, Any]) -> None:
        result: Any = answer.get("return")
        ours: Any = cast("dict[str, Any]", result).get("socket-address") if isinstance(result, dict) else None
        theirs = recorded.get("socket-address")
        if ours and theirs and "port" in theirs[-1]:
            self._ports[f'"{theirs[-1]["port"]}"'] = f'"{ours[-1]["port"]}"'
            self._ports[f":{theirs[-1]['port']}"] = f":{ours[-1]['port']}"

    def _difference(self, name: str, command: str, recorded: dict[str, Any], answer: QmpMessage) -> str | None:
        if ("error" in recorded) != ("error" in answer):
            return f"was {_short(recorded)}, is {_short(answer)}"
        if "error" in recorded:
            theirs, ours = recorded["error"], answer["error"]
            return None if theirs == ours else f"was refused with {theirs}, now with {ours}"
        result: Any = answer["return"]
        near = self._is_near(name, answer["id"])
        if command == "query-status":
            theirs = recorded["return"]
            late = (theirs["status"], result["status"]) == ("finish-migrate", "postmigrate")
            if theirs == result or ((near or late) and sorted(theirs) == sorted(result)):
                return None
            return f"was {theirs}, is {result}"
        if "return" in recorded and recorded["return"] is not None:
            theirs = _normal(recorded["return"])
            return None if theirs == _normal(result) else f"was {theirs}, is {result}"
        if "fields" in recorded and isinstance(result, dict):
            return self._fields_difference(recorded, cast("dict[str, Any]", result), near=near)
        return None

    def _is_near(self, name: str, number: object) -> bool:
        """Whether an answer may be of another moment: by a change, then or now, or where this side is ahead."""
        side = self.sides[name]
        changed = len(story(self._recorded[name])) > side.told[number]
        ahead = len(story(side.events)) > side.told[number]
        return changed or ahead or self.clock.now_ns - side.changed_ns < NEAR_NS

    def _fields_difference(self, recorded: dict[str, Any], result: dict[str, Any], *, near: bool) -> str | None:
        if recorded.get("status") != result.get("status"):
            if near:
                return None  # the fields follow the status
            return f"status was {recorded.get('status')}, is {result.get('status')}"
        if recorded["fields"] != sorted(result):
            was, now = set(recorded["fields"]), set(result)
            return f"in {result.get('status')}: lacks {sorted(was - now)}, has besides {sorted(now - was)}"
        theirs, ours = recorded.get("error-desc"), result.get("error-desc")
        if theirs is not None and _words(theirs, self._ports) != _words(str(ours), {}):
            return f"error-desc was {theirs!r}, is {ours!r}"
        if "ram" in recorded and recorded["ram"] != sorted(result["ram"]):
            return f"ram has {sorted(result['ram'])}, had {recorded['ram']}"
        return None

    def _compare_events(self, name: str) -> None:
        theirs, ours = story(self._recorded[name]), story(self.sides[name].events)
        if theirs != ours and ours not in self._also_seen(name):
            self.findings.append(f"{name}: events were {' '.join(theirs)}; are {' '.join(ours)}")

    def _also_seen(self, name: str) -> list[list[str]]:
        """What the same QEMU did in the same race in another recording."""
        if self.scenario.version == "10.0" and self.scenario.name in RACES:
            return [list(words) for words in RACES_10_0[name]]
        return []

    def _compare_end(self, name: str) -> None:
        recorded = self.scenario.ends.get(name)
        if recorded is None or name in self._over:
            return
        qemu = self.sides[name].qemu
        if recorded["exit"] != qemu.exit_code and not self._also_seen(name):
            self.findings.append(f"{name}: exit code was {recorded['exit']}, is {qemu.exit_code}")
        said = [line.partition(": ")[2] for line in qemu.stderr]
        for line in recorded["stderr"]:
            words = line.partition(": ")[2]
            if any(each in words for each in _MISFITS) and words not in said:
                self.findings.append(f"{name}: stderr lacks {words!r}, has {said}")


def story(events: list[tuple[str, Any]]) -> list[str]:
    """The events that are compared: of the passes only the first (before ``active``) and that after the stop."""
    told: list[str] = []
    free = False
    for event, data in events:
        if event == "MIGRATION_PASS":
            if not free:
                told.append("pass")
            continue
        word = str(data["status"]) if event == "MIGRATION" else event
        # Between `active` and the switchover there are as many passes as it takes.
        free = word == "active" or (free and word not in ("STOP", "device", "postcopy-active", "completed"))
        told.append(word)
    return told


def _normal(value: object) -> object:
    """Lists whose order means nothing, in one order."""
    if isinstance(value, list):
        return sorted(cast("list[object]", value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


def _words(text: str, ports: dict[str, str]) -> str:
    for there, here in ports.items():
        text = text.replace(there, here)
    for words in _SOCKET_WORDS:
        text = text.replace(words, "the connection is gone")
    if text.startswith(_LOAD_FAILED):
        # Which of the two depends on where in the stream it broke.
        text = text.replace("Invalid argument", "the connection is gone")
    return text


def _short(value: Any) -> str:
    return json.dumps(value)[:120]
