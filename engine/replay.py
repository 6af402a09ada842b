"""A migration out of its log: the machine as it stood when its manager died.

The lines are fed to the machine as they came; no policy is asked, for its decisions are in the log. What the
machine does on the way is compared with what the log says that it did. Where the two differ (the tables have
changed since) the log is right: the state of its last ``step`` line is taken, and both sides are asked anyway
before anything is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .foresight_watch import Foresight
from .machine import Decided, Event, Happened, Inspected, Learnt, Machine, Marked, Measured, Order, Sampled
from .policy import Abilities, Measurement, Objectives, Policy
from .prediction import prediction_of
from .protocol import DEFAULT_WAITS, SECOND_NS, Waits, is_settled, reopened
from .resolve import DestinationClass, SourceClass
from .signals import FACT_OF_COMMAND, Command, Signal
from .states import Fact, Guest, Owner, Phase
from .statistics import Statistics
from .timeline import Mark

Line = Mapping[str, Any]


@dataclass(slots=True)
class Replayed:
    """What a log says.

    Attributes:
        machine: as it stood at the last line.
        last_ns: the migration's clock at the last line.
        ended: the last end stands: nothing came after it.
        differs: where the log and these tables part, as a sentence; ``None``: nowhere.
    """

    machine: Machine
    last_ns: int = 0
    ended: bool = False
    differs: str | None = None
    _expected: list[Command] = field(default_factory=list[Command])

    @property
    def settled(self) -> bool:
        """Whether it ended, and who has the guest is certain."""
        return self.ended and is_settled(self.machine.state)

    def take(self, line: Line) -> None:
        """Take one line; kinds that are not known here are passed over.

        Raises:
            ValueError, KeyError, TypeError: a line that lacks what its kind has, or holds something else there.
        """
        self.last_ns = max(self.last_ns, int(line["t_ns"]))
        match line["kind"]:
            case "signal":
                self._take_signal(line)
            case "step":
                self._take_step(line)
            case "command":
                self._take_command(line)
            case "reopened":
                self.machine.state, self.ended = reopened(self.machine.state), False
            case "prediction":
                # Nothing is decided by it: one that another version wrote must not keep a guest from being settled.
                with suppress(KeyError, TypeError, ValueError, AttributeError):
                    self.machine.reckoning.prediction = prediction_of(line)
            case "end":
                self._take_end(line)
            case _:
                event = event_of(line)
                if event is not None:
                    self.machine.recall(event, self.last_ns)
                if isinstance(event, Measured):
                    self._expected.append(Command.ARM)  # that is what waited for it, whatever else came meanwhile

    def _take_end(self, line: Line) -> None:
        """What it ended as is in its report, whatever these tables would have made of it."""
        report = line["report"]
        phase, owner, guest = Phase(report["outcome"]), Owner(report["owner"]), Guest(report["guest"])
        state = self.machine.state
        if (state.phase, state.owner, state.guest) != (phase, owner, guest):
            self._differ(line, f"it ended {phase.value}, owner {owner.value}, guest {guest.value}")
            self.machine.state = replace(state, phase=phase, owner=owner, guest=guest, deadline_ns=None)
        self.ended = True

    def _take_signal(self, line: Line) -> None:
        try:
            signal = Signal(line["signal"])
        except ValueError:
            self._differ(line, f"the signal {line['signal']} is not known here")
            return
        if line["phase"] != self.machine.phase.value:
            self._differ(line, f"{signal.value} came in {line['phase']}, not in {self.machine.phase.value}")
        self._expected.clear()
        self.machine.recall(Happened(signal, str(line.get("detail", ""))), self.last_ns)
        self._expected = [order.command for order in self.machine.orders() if isinstance(order, Order)]
        self.machine.taken()

    def _take_step(self, line: Line) -> None:
        """The log says where it stood: what is logged there is what the one who wrote it acted on."""
        known = {name: fact for fact in Fact if (name := fact.name) in line["facts"]}
        phase, owner = Phase(line["phase"]), Owner(line["owner"])
        state = self.machine.state
        if len(known) != len(line["facts"]):
            self._differ(line, "it names facts that are not known here")
        if (state.phase, state.owner, state.facts) != (phase, owner, frozenset(known.values())):
            self._differ(
                line, f"it stood in {phase.value}, owner {owner.value}, and would stand in {state.phase.value} now"
            )
            self.machine.state = replace(state, phase=phase, owner=owner, facts=frozenset(known.values()))

    def _take_command(self, line: Line) -> None:
        try:
            command = Command(line["command"])
        except ValueError:
            self._differ(line, f"the command {line['command']} is not known here")
            return
        if command not in self._expected:
            self._differ(line, f"{command.value} went out, and would not now")
        issued = FACT_OF_COMMAND.get(command)
        if issued is not None:  # it went out, whatever these tables would have done
            self.machine.state = replace(self.machine.state, facts=self.machine.state.facts | {issued})

    def _differ(self, line: Line, how: str) -> None:
        if self.differs is None:
            self.differs = f"line {line.get('n', '?')}: {how}"


def replay(
    lines: Iterable[Line],
    *,
    policy: Policy,
    objectives: Objectives | None = None,
    waits: Waits = DEFAULT_WAITS,
    stall_ns: int = 30 * SECOND_NS,
    foresight: Foresight | None = None,
) -> Replayed:
    """Rebuild a migration from the lines of its log.

    Args:
        lines: as `whimbrel.qmp_driver.journal.read` gives them; the header is the first.
        policy: steers from where the log ends; it is not asked before.
        objectives: as for `Machine`, for what follows.
        waits: as for `Machine`.
        stall_ns: as for `Machine`.
        foresight: as for `Machine`; it learns from what the log tells.

    Raises:
        ValueError: a line is not what its kind says; it is named by its number.
    """
    machine = Machine(
        policy=policy, objectives=objectives or Objectives(), waits=waits, stall_ns=stall_ns, foresight=foresight
    )
    told = Replayed(machine)
    for number, line in enumerate(lines, 1):
        try:
            told.take(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is no line of a log: {error!r}") from error
    return told


def event_of(line: Line) -> Event | Decided | None:
    """The event that a line records; ``None`` for a line that is only worth reading."""
    match line["kind"]:
        case "sample":
            names = {each.name for each in fields(Statistics)}
            told: dict[str, Any] = {name: value for name, value in line.items() if name in names}
            told["vcpu_s"] = tuple(told.get("vcpu_s", ()))
            return Sampled(Statistics(**told))
        case "mark":
            return Marked(Mark(line["mark"]), float(line["at_s"]))
        case "learnt":
            can = line.get("abilities")
            abilities = can and Abilities(
                capabilities=frozenset(can["capabilities"]),
                parameters=frozenset(can["parameters"]),
                outside_throttle=bool(can.get("outside_throttle", False)),
                measuring=bool(can.get("measuring", False)),
            )
            return Learnt(line["facts"], abilities, paused_before=bool(line["paused_before"]), note=line["note"])
        case "inspected":
            return Inspected(SourceClass(line["source"]), DestinationClass(line["destination"]))
        case "measured":
            return Measured(tuple(_measurement(each) for each in line["measurements"]))
        case "decision":
            asked_for = tuple(map(str, line.get("capabilities", ())))
            return Decided(line["asked"], line["because"], line["changes"], tuple(line["clamped"]), asked_for)
        case _:
            return None


def _measurement(told: Mapping[str, Any]) -> Measurement:
    return Measurement(
        at_s=float(told["at_s"]),
        window_s=float(told["window_s"]),
        dirtied_bytes=float(told["dirtied_bytes"]),
        vcpu_shares=tuple(float(share) for share in told["vcpu_shares"]),
    )
