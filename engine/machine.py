"""The machine: the protocol, the policy's pilot and the records of one migration, without any I/O.

Drive it like this: `receive` what happened, with the time; carry out what `orders` gives; call
`receive_time` at `next_deadline_ns`. Time is integer nanoseconds on any clock that does not go backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .events import (
    Decided,
    Event,
    Happened,
    Inspected,
    Learnt,
    Marked,
    Measured,
    Order,
    Probe,
    Sampled,
    Shadowed,
    Tune,
)
from .foresight import Basis, Outlook
from .foresight_watch import Foresight
from .lookout import Lookout
from .pilot import LEAST_WAKE_S, Pilot, Steering
from .policy import Measurement, Objectives, Policy, Reason
from .prediction import of_outlook
from .protocol import DEFAULT_WAITS, SECOND_NS, Step, Waits, reopened, step
from .reckoning import Reckoning
from .report import CompletedReport, OngoingReport
from .resolve import learn, verdict
from .signals import Command, Signal
from .states import STAGES, Fact, Guest, Owner, Phase, State
from .statistics import Ledger, Statistics

__all__ = [
    "Decided",
    "Event",
    "Happened",
    "Inspected",
    "Learnt",
    "Machine",
    "Marked",
    "Measured",
    "Order",
    "Probe",
    "Sampled",
    "Shadowed",
    "Taken",
    "Tune",
]

BAD_NEWS = frozenset(
    signal
    for signal in Signal
    if signal.value.endswith(("-refused", "-unknown", "-lost", "-ended", "-failed", "-cancelled"))
    or signal in (Signal.CANCEL, Signal.DEADLINE, Signal.STALLED, Signal.GIVEN_UP, Signal.ADOPTED)
)
"""Signals whose words explain a bad end."""

MOST_CLAMPS = 50
"""So many different clamps are noted for the report: a policy that asks for a little more each time never ends."""
MOST_VERDICTS = 10
"""So often it is noted for the report that a verdict was drawn or taken back; the log has all."""
AND_MORE = "clamped: more than that, see the log"

STEERED_PHASES = frozenset({Phase.PRECOPY})
SENDING_PHASES = STEERED_PHASES | {Phase.POSTCOPY}
"""Where nothing being sent for long means that the link is dead."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A signal that was taken, for the log: those that the machine raised itself (deadlines, stalls) too."""

    signal: Signal
    detail: str
    before: State
    step: Step

    @property
    def moved(self) -> bool:
        """Whether the phase, the owner or what is known changed."""
        after = self.step.state
        before = self.before
        return (after.phase, after.owner, after.facts) != (before.phase, before.owner, before.facts)


@dataclass(slots=True)
class Machine:
    """One migration.

    Attributes:
        policy: steers pre-copy.
        objectives: what the user wants.
        waits: how long each wait of the protocol may take.
        stall_ns: how long nothing may be sent before the migration is ended; QEMU itself never gives up.
        policy_name: for what is said of the policy.
        shadows: policies that only watch, by name: what they would have done is told by `shadowed`.
        foresight: looks ahead while it runs, and knows what was predicted before, if anything was; ``None``: nobody
            does, which is quicker where thousands are simulated.
    """

    policy: Policy
    objectives: Objectives = field(default_factory=Objectives)
    waits: Waits = DEFAULT_WAITS
    stall_ns: int = 30 * SECOND_NS
    policy_name: str = ""
    shadows: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    foresight: Foresight | None = None
    state: State = field(default_factory=State)
    ledger: Ledger = field(default_factory=Ledger)
    reckoning: Reckoning = field(default_factory=Reckoning)
    """What the report's figures are made of."""
    last_step: Step | None = None
    _pilot: Pilot = field(init=False)
    _watchers: list[Pilot] = field(init=False)
    _shadowed: list[Shadowed] = field(default_factory=list[Shadowed])
    _lookout: Lookout | None = field(init=False)
    _probing: bool = False
    """The policy is asked again before the start, when what it wanted to know is measured."""
    _taken: list[Taken] = field(default_factory=list[Taken])
    _orders: list[Order | Tune | Probe] = field(default_factory=list[Order | Tune | Probe])
    _started_ns: int | None = None
    _ended_ns: int | None = None
    _now_ns: int = 0
    _connected_ns: int = 0
    """When the wait for a connection ended: the stall detector watches from here."""
    _facts: dict[str, Any] = field(default_factory=dict[str, Any])
    _notes: list[str] = field(default_factory=list[str])
    _why: str = ""
    _because: str = ""
    _decisions: int = 0
    _clamps: int = 0
    _verdicts: int = 0
    _recalling: bool = False
    """What comes in is out of a log: no policy is asked, and nothing is raised that the log itself will tell."""

    def __post_init__(self) -> None:
        self._pilot = Pilot(self.policy, self.objectives, self.policy_name)
        self._lookout = Lookout(self.foresight) if self.foresight is not None else None
        self._watchers = [Pilot(policy, self.objectives, name) for name, policy in self.shadows.items()]

    # ---- what goes in

    def receive(self, event: Event, now_ns: int) -> None:
        """Take one event. Never raises for anything that a QEMU may do."""
        self._now_ns = max(self._now_ns, now_ns)
        match event:
            case Happened(signal, detail):
                self._signal(signal, detail)
            case Sampled(statistics):
                self._sample(statistics)
            case Marked(mark, wall_s):
                self.reckoning.mark(mark, wall_s, self._now_ns)
            case Inspected(source, destination):
                found = f"the source is {source.value}, the destination {destination.value}"
                follows = verdict(source, destination, self.state.facts)
                self.state = learn(self.state, source, destination)
                if not self._recalling:  # the log has the verdict that was drawn then
                    self._signal(follows, found)
            case Measured(measurements):
                self._measured(measurements)
            case _:  # the type checkers see that only Learnt is left
                self._learn(event)

    def receive_time(self, now_ns: int) -> None:
        """Tell the time; everything that is due by then happens (the policy's ticks wait for statistics)."""
        self._now_ns = max(self._now_ns, now_ns)
        deadline_ns = self.state.deadline_ns
        if deadline_ns is not None and self._now_ns >= deadline_ns:
            waited = f"waited too long in {self.phase.value}"
            self.state = replace(self.state, deadline_ns=None)
            self._signal(Signal.DEADLINE, waited)
        if self.phase in SENDING_PHASES and self.state.deadline_ns is None and self._stalled():
            self._signal(Signal.STALLED, f"nothing was sent for {self.stall_ns / 1e9:g} s")
            return
        if self.phase in STEERED_PHASES:
            user_ns = self._pilot.deadline_ns()
            if user_ns is not None and self._now_ns >= user_ns:
                self._watch(Reason.DEADLINE)
                self._steer(Reason.DEADLINE)

    # ---- a migration that another manager began

    def recall(self, event: Event | Decided, now_ns: int) -> None:
        """Take one event out of the log of a manager that died; what it ordered then is among the `orders`."""
        self._recalling = True
        try:
            if isinstance(event, Decided):
                self._recall_decision(event)
            else:
                self.receive(event, now_ns)
        finally:
            self._recalling = False

    def take_over(self, now_ns: int, detail: str = "the manager died") -> None:
        """Go on where the log ends: all waits begin afresh, and what is true is looked at first."""
        self._now_ns = max(self._now_ns, now_ns)
        self._connected_ns = self._now_ns
        self._pilot.next_wake_ns = self._now_ns  # a policy that knows nothing yet is asked at the first statistics
        self._signal(Signal.ADOPTED, detail)

    def reopen(self, now_ns: int, detail: str = "looked at again") -> None:
        """Go on from an end that settled nothing (see `protocol.reopened`), as `take_over`."""
        self.state, self._ended_ns = reopened(self.state), None
        self.take_over(now_ns, detail)

    # ---- what comes out

    def orders(self) -> list[Order | Tune | Probe]:
        """What is to be carried out, in order; asking empties the list."""
        given, self._orders = self._orders, []
        return given

    def taken(self) -> list[Taken]:
        """The signals taken since the last call, in order; for the log."""
        given, self._taken = self._taken, []
        return given

    def shadowed(self) -> list[Shadowed]:
        """What the policies that only watch would have done since the last call, in order; for the log."""
        given, self._shadowed = self._shadowed, []
        return given

    def outlooks(self) -> list[Outlook]:
        """The live forecast that is due, if one is; for the log.

        Making it takes milliseconds: what was ordered should be under way when this is asked.
        """
        if self._lookout is None or self.phase not in SENDING_PHASES:
            return []
        made = self._lookout.look(self.ledger, self._pilot, self._now_ns, moved=self.phase is Phase.POSTCOPY)
        if self._lookout.fault:
            self._notes.append(f"no forecasts from here on, by an internal error: {self._lookout.fault}")
            self._lookout = None
        if made is None:
            return []
        if made.basis is Basis.ITERATIONS and self.reckoning.prediction is None:
            self.reckoning.predict(of_outlook(made, self.policy_name))
        if made.news and self._verdicts < MOST_VERDICTS:
            self._verdicts += 1
            self._notes.append(made.news)
        return [made]

    def next_deadline_ns(self) -> int | None:
        """When `receive_time` must be called at the latest; ``None``: only events matter."""
        times = [self.state.deadline_ns]
        if self.phase in STEERED_PHASES:
            times.append(self._pilot.deadline_ns())
        if self.phase in SENDING_PHASES and self.state.deadline_ns is None:
            times.append(self._quiet_since_ns + self.stall_ns)
        return min((t for t in times if t is not None), default=None)

    @property
    def wake_every_ns(self) -> int | None:
        """The cadence that the policies asked for: statistics are worth having at least as often."""
        asked = [pilot.wake_every_ns for pilot in (self._pilot, *self._watchers)]
        return min((each for each in asked if each is not None), default=None)

    @property
    def phase(self) -> Phase:
        """Where the migration stands."""
        return self.state.phase

    @property
    def owner(self) -> Owner:
        """Who may run the guest."""
        return self.state.owner

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was learnt so far."""
        return self._facts

    def progress(self) -> OngoingReport:
        """A glance at it, whatever the phase."""
        last = self.ledger.last
        stage = self.phase.stage
        ended = self.ledger.iterations
        return OngoingReport(
            phase=self.phase.value,
            stage=stage,
            stage_name=STAGES[stage] if stage else self.phase.value,
            owner=self.owner.value,
            elapsed_s=self._elapsed_ns() / 1e9,
            iteration=last.iteration if last else 0,
            remaining_bytes=last.remaining_bytes if last else 0,
            transferred_bytes=last.transferred_bytes if last else 0,
            total_bytes=last.total_bytes if last else 0,
            bandwidth_bytes_per_s=self.ledger.sent_bandwidth_bytes_per_s,
            dirty_bytes_per_s=ended[-1].dirty_bytes_per_s if ended else 0.0,
            throttle=last.throttle if last else 0.0,
            knobs=self._pilot.knobs,
            because=self._because,
            since_migrate_s=self._since_migrate_s,
            objectives=self.objectives,
            outlook=None if self._lookout is None or self.phase.is_end else self._lookout.last,
            news=self._lookout.news if self._lookout is not None else "",
        )

    def report(self) -> CompletedReport | None:
        """The finished report; ``None`` while the migration goes on."""
        if not self.phase.is_end:
            return None
        last = self.ledger.last
        report = CompletedReport(
            outcome=self.phase.value,
            owner=self.owner.value,
            guest=(self.state.guest or Guest.UNCONFIRMED).value,
            why=self._why or "moved",
            total_s=self._elapsed_ns() / 1e9,
            iterations=tuple(self.ledger.iterations),
            ram_transferred_bytes=last.transferred_bytes if last else 0,
            ram_total_bytes=last.total_bytes if last else 0,
            normal_pages=last.normal_pages if last else 0,
            duplicate_pages=last.duplicate_pages if last else 0,
            decisions=self._decisions,
            facts=dict(self._facts),
            notes=tuple(self._notes),
            postcopy=Fact.POSTCOPY in self.state.facts,
        )
        cap_bytes_per_s = self._pilot.knobs.bandwidth_bytes_per_s
        return self.reckoning.into(report, cap_bytes_per_s=cap_bytes_per_s, foreseen=self.foresight is not None)

    # ---- inside

    @property
    def _since_migrate_s(self) -> float:
        """0.0 before it."""
        return (self._now_ns - self._pilot.started_ns) / SECOND_NS if self.phase in SENDING_PHASES else 0.0

    def _elapsed_ns(self) -> int:
        if self._started_ns is None:
            return 0
        return (self._ended_ns if self._ended_ns is not None else self._now_ns) - self._started_ns

    def _signal(self, signal: Signal, detail: str = "") -> None:
        if signal is Signal.START and self._started_ns is None:
            self._started_ns = self._now_ns
            if self.foresight is not None and self.foresight.prediction is not None and not self._recalling:
                self.reckoning.predict(self.foresight.prediction)
            self._enter(self.phase)
        before = self.state
        taken = step(before, signal, self._now_ns, self.waits)
        self.last_step, self.state = taken, taken.state
        if before.deadline_ns is not None and taken.state.deadline_ns is None:
            self._connected_ns = self._now_ns
        changed = taken.rule.to is not None and taken.rule.to is not before.phase
        self._taken.append(Taken(signal, detail, before, taken))
        if changed:
            self._enter(self.phase)
        self._explain(signal, detail, taken, changed)
        if taken.command is not None:
            self._order(taken.command)

    def _enter(self, phase: Phase) -> None:
        self.reckoning.enter(phase, self._now_ns)
        if phase.is_end:
            self._ended_ns = self._now_ns

    def _explain(self, signal: Signal, detail: str, taken: Step, changed: bool) -> None:
        """Keep the first bad news that changed the course: that is why it ended as it did."""
        if not changed and signal is not Signal.DEADLINE:
            return  # it was noted, and others decided
        if changed and taken.state.phase is Phase.COMPLETED and taken.rule.because:
            self._notes.append(taken.rule.because)
        if taken.state.phase is Phase.COMPLETED or (signal is Signal.VERDICT_GOES_ON and not self.phase.is_end):
            self._why = ""  # whatever went wrong on the way was overcome
        elif signal is Signal.CANCEL:
            self._why = detail or signal.value
        elif not self._why and (signal in BAD_NEWS or taken.state.phase is Phase.FAILED):
            self._why = detail or taken.rule.because or signal.value

    def _order(self, command: Command) -> None:
        setup = None
        if command is Command.ARM and self._recalling:
            self._pilot.reset(self._now_ns)
        elif command is Command.ARM:
            setup = self._pilot.setup(self._now_ns)
            self._note_steering(setup)
            if setup.decision.abort:
                self._signal(Signal.GIVEN_UP, setup.decision.because or "the policy gave up")
                return
            if setup.decision.not_yet_s is not None or setup.decision.measure_s:
                self._probe(setup)
                return
            self._watch(Reason.SETUP)
        elif command is Command.MIGRATE:
            for pilot in (self._pilot, *self._watchers):
                pilot.start(self._now_ns)
        self._orders.append(Order(command, setup))

    def _probe(self, setup: Steering) -> None:
        """The policy wants to know more before the start: the order to arm waits for that."""
        windows_s = setup.decision.measure_s if self._pilot.abilities.measuring else ()
        # It is asked again, but not without an end in one moment.
        wait_s = setup.decision.not_yet_s or (0.0 if windows_s else LEAST_WAKE_S)
        self._probing = True
        # What was decided along with it is decided anew when it is asked again.
        held = replace(setup, changes={})
        self._orders.append(Probe(held, windows_s, wait_s))
        allowed_ns = self.waits.preparing_ns + round(wait_s * SECOND_NS) + round(sum(windows_s) * SECOND_NS)
        self.state = replace(self.state, deadline_ns=self._now_ns + allowed_ns)

    def _measured(self, measurements: tuple[Measurement, ...]) -> None:
        for pilot in (self._pilot, *self._watchers):
            pilot.measurements += measurements
        if self._lookout is not None:
            self._lookout.foresight.measured(self._pilot.measurements)
        if self._probing and self.phase is Phase.PREPARING and not self._recalling:
            self._probing = False
            self.state = replace(self.state, deadline_ns=self._now_ns + self.waits.preparing_ns)
            self._order(Command.ARM)

    def _watch(self, reason: Reason) -> None:
        """Ask those who only watch."""
        for pilot in self._watchers:
            if reason is not Reason.TICK or pilot.tick_due(self._now_ns):
                asked = (
                    pilot.setup(self._now_ns)
                    if reason is Reason.SETUP
                    else pilot.ask(reason, self.ledger, self._now_ns)
                )
                self._shadowed.append(Shadowed(pilot.name, asked))

    def _sample(self, statistics: Statistics) -> None:
        before = len(self.ledger.iterations)
        self.ledger = self.ledger.add(statistics)
        self.reckoning.see(statistics)
        if self.phase in STEERED_PHASES and not self._recalling:
            self._ask_policies(Reason.ITERATION if len(self.ledger.iterations) > before else Reason.TICK)
        if self._lookout is not None and self.phase in SENDING_PHASES:
            self._lookout.see(self.ledger, self._pilot, silent=self._recalling)

    def _ask_policies(self, reason: Reason) -> None:
        """Those who only watch are asked first, so that they see what the policy sees.

        A tick is taken at the first answer after it is due: a policy is asked on fresh statistics only.
        """
        self._watch(reason)
        if reason is Reason.ITERATION or self._pilot.tick_due(self._now_ns):
            self._steer(reason)

    @property
    def _quiet_since_ns(self) -> int:
        """When something was last sent; not before the source said that it is connected.

        A source that never answers with statistics is quiet too, and so is one that has nothing left to send
        and yet does not switch over.
        """
        return max(self.ledger.moved_ns, self._connected_ns)

    def _stalled(self) -> bool:
        return self._now_ns - self._quiet_since_ns >= self.stall_ns

    def _steer(self, reason: Reason) -> None:
        steering = self._pilot.ask(reason, self.ledger, self._now_ns)
        self._note_steering(steering)
        decision = steering.decision
        if steering.changes:
            self._orders.append(Tune(steering))
        if decision.abort:
            self._signal(Signal.GIVEN_UP, decision.because or "the policy gave up")
        elif decision.start_postcopy:
            self._signal(Signal.POSTCOPY_CHOSEN, decision.because)

    def _recall_decision(self, made: Decided) -> None:
        self._pilot.recall(made.asked, made.changes, made.capabilities)
        self._note_decision(bool(made.changes), made.because, made.clamped)

    def _note_steering(self, steering: Steering) -> None:
        if steering.fault and steering.fault not in self._notes:
            self._notes.append(steering.fault)
        self._note_decision(bool(steering.changes), steering.decision.because, steering.clamped)

    def _note_decision(self, changes: bool, because: str, clamped: tuple[str, ...]) -> None:
        if changes:
            self._decisions += 1
            self._because = because or self._because
        for sentence in clamped:
            note = f"clamped: {sentence}" if self._clamps < MOST_CLAMPS else AND_MORE
            if note not in self._notes:
                self._notes.append(note)
                self._clamps += 1

    def _learn(self, news: Learnt) -> None:
        self._facts.update(news.facts)
        if news.abilities is not None:
            for pilot in (self._pilot, *self._watchers):
                pilot.learn(news.abilities)
        if news.paused_before:
            self.state = replace(self.state, facts=self.state.facts | {Fact.PAUSED_BEFORE})
        if news.note:
            self._notes.append(news.note)
