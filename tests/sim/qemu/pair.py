"""A source and a destination on one link, with a client at each: what the tests of the processes play with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.memory.build import memory_of
from whimbrel.sim.memory.contract import Memory
from whimbrel.sim.qemu.contract import Costs, QmpMessage, Version
from whimbrel.sim.qemu.images import Images
from whimbrel.sim.qemu.monitor import Client
from whimbrel.sim.qemu.process import Qemu
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Writer
from whimbrel.sim.seeds import stream

MIB = 1 << 20
PLAIN = "qemu-system-x86_64 -accel tcg -machine q35 -m 64 -nodefaults -qmp unix:a.sock,server=on -qmp unix:b.sock"
WAITING = f"{PLAIN} -incoming defer"
VERSIONS = tuple(Version)


def guest(rate_bytes_per_s: float = 1e6, size_bytes: int = 16 * MIB) -> Memory:
    """A guest of 64 MiB, and its ROMs, that writes evenly to a part of it."""
    writer = Writer(name="load", size_bytes=size_bytes, rate_bytes_per_s=rate_bytes_per_s)
    return memory_of(GuestPlan(ram_bytes=64 * MIB + 532_480, zero_bytes=32 * MIB, writers=(writer,)), seed=1)


@dataclass(slots=True)
class Seat:
    """A QEMU and a client of its first monitor, with all that the client has heard."""

    qemu: Qemu
    clock: Clock
    client: Client | None = None
    heard: list[QmpMessage] = field(default_factory=list[QmpMessage])
    closed: bool = False
    asked: int = 0

    def sit(self, monitor: int = 0, *, negotiate: bool = True) -> Seat:
        """Connect, and leave the negotiation behind."""
        self.client = self.qemu.connect(self.heard.append, self.leave, monitor)
        if negotiate:
            self.ask("qmp_capabilities", enable=["oob"])
        return self

    def leave(self) -> None:
        """The connection has ended."""
        self.closed = True

    def say(self, command: str, *, oob: bool = False, **arguments: Any) -> int:
        """Send a command; the number that its answer will have."""
        assert self.client is not None
        self.asked += 1
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.client.send({"exec-oob" if oob else "execute": command, "arguments": names, "id": self.asked})
        return self.asked

    def answer(self, number: int, within_s: float = 5.0) -> Any:
        """The answer of that number: what is returned, or the description of the error."""

        def found() -> QmpMessage | None:
            return next((each for each in self.heard if each.get("id") == number), None)

        self.clock.run(lambda: found() is not None, self.clock.now_ns + round(within_s * SECOND_NS))
        message: Any = found()
        assert message is not None, f"no answer within {within_s} s"
        return message["return"] if "return" in message else message["error"]["desc"]

    def ask(self, command: str, *, oob: bool = False, **arguments: Any) -> Any:
        """Send a command and wait for its answer; ``_`` stands for ``-`` in the names of arguments."""
        return self.answer(self.say(command, oob=oob, **arguments))

    @property
    def events(self) -> list[str]:
        """What happened: names of events, and of MIGRATION the status."""
        told: list[str] = []
        for message in self.heard:
            data: Any = message.get("data")
            if message.get("event") == "MIGRATION":
                told.append(data["status"])
            elif "event" in message and message["event"] != "MIGRATION_PASS":
                told.append(str(message["event"]))
        return told

    def wait_for(self, event: str, within_s: float = 60.0) -> None:
        """Go on until it was told."""
        happened = self.clock.run(lambda: event in self.events, self.clock.now_ns + round(within_s * SECOND_NS))
        assert happened, f"no {event} within {within_s} s, only {self.events}"


class Pair:
    """Two QEMUs that can reach each other; the destination waits with ``-incoming defer``."""

    def __init__(
        self,
        version: Version = Version.V7_2,
        *,
        source: str = PLAIN,
        destination: str = WAITING,
        destination_version: Version | None = None,
        rate_bytes_per_s: float = 1e6,
        bandwidth_bytes_per_s: float = 200e6,
        capabilities: Sequence[str] = (),
        costs: Costs | None = None,
    ) -> None:
        """Start both, connect to both, and switch capabilities on at both, ``events`` always."""
        self.clock = Clock(order=stream(1, "order"))
        self.network = LocalNetwork(self.clock, LinkPlan(bandwidth_bytes_per_s=bandwidth_bytes_per_s), 1)
        images = Images()
        self.memory = guest(rate_bytes_per_s)
        seats: list[Seat] = []
        for number, (line, memory) in enumerate(((source, self.memory), (destination, None))):
            which = destination_version if number and destination_version is not None else version
            qemu = Qemu(
                self.clock,
                which,
                self.network,
                line.split(),
                memory,
                costs or Costs(),
                number,
                100 + number,
                1e9,
                images=images,
            )
            seat = Seat(qemu, self.clock).sit()
            states = [{"capability": name, "state": True} for name in ("events", *capabilities)]
            assert seat.ask("migrate-set-capabilities", capabilities=states) == {}
            seats.append(seat)
        self.source, self.destination = seats

    @property
    def uri(self) -> str:
        """Where the destination listens."""
        return f"tcp:127.0.0.1:{self.destination.ask('query-migrate')['socket-address'][-1]['port']}"

    def migrate(self, **arguments: Any) -> None:
        """Have the destination listen and the source begin."""
        assert self.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0") == {}
        assert self.source.ask("migrate", uri=self.uri, **arguments) == {}

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance_to(self.clock.now_ns + round(seconds * SECOND_NS))
