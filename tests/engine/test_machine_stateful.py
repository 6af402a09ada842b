"""Whatever happens to the machine, in whatever order and at whatever time: it keeps its word."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.exploration import ABANDONED, LEGAL_OWNERS, UNASKED
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Machine, Marked, Order, Sampled
from whimbrel.engine.policy import Decision, Objectives, Observation
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Fact, Owner, Phase
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Mark

SECOND = 1_000_000_000
LONGEST_WAIT_NS = 90 * SECOND

WILD = st.sampled_from([float("nan"), float("inf"), -float("inf")])
SHARES = st.none() | st.floats(-1, 2) | WILD
DECISIONS = st.builds(
    Decision,
    downtime_limit_s=st.none() | st.floats(-1, 1e4) | WILD,
    bandwidth_bytes_per_s=st.none() | st.integers(0, 10**11),
    throttle_initial=SHARES,
    throttle_increment=SHARES,
    throttle_ceiling=SHARES,
    switch_over=st.booleans(),
    abort=st.booleans(),
    wake_after_s=st.none() | st.floats(-1, 1e4) | WILD,
    because=st.sampled_from(["", "because"]),
)
OBJECTIVES = st.builds(
    Objectives,
    downtime_s=st.floats(0.001, 2000),
    deadline_s=st.none() | st.floats(0, 100),
    bandwidth_bytes_per_s=st.none() | st.integers(1, 10**11),
    greatest_throttle=st.floats(0, 0.99),
    may_abort=st.booleans(),
)
BYTES = st.integers(0, 2**40)

COURSE = (
    Signal.INSPECT_DONE,
    Signal.PREPARE_DONE,
    Signal.ARM_DONE,
    Signal.SOURCE_ACTIVE,
    Signal.SOURCE_PRE_SWITCHOVER,
    Signal.QUIESCE_DONE,
    Signal.SOURCE_DEVICE,
    Signal.SOURCE_COMPLETED,
    Signal.DESTINATION_COMPLETED,
    Signal.DESTINATION_RUNNING,
)
"""A move that goes well. Chance alone would hardly ever come as far as the handover, so each run begins
somewhere along it; answers that it does not need (to migrate, migrate-continue, cont) are still to come."""
ANSWERED_BY = {answer(command, Outcome.DONE): command for command in Command if command is not Command.INSPECT_BOTH}


class Migration(RuleBasedStateMachine):
    """One machine, and a world that does as it likes.

    Signals that nobody asked for come at any time. Answers come to commands that are out, late ones too;
    only work that discarding the destination has cut short is never answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.out: list[Command] = []
        self.issued: list[Command] = []
        self.decision = Decision()
        self.ended: CompletedReport | None = None
        self.machine = Machine(policy=self.policy)

    def policy(self, _: Observation) -> Decision:
        """Decides what was drawn last."""
        return self.decision

    @initialize(objectives=OBJECTIVES, paused=st.booleans(), steps=st.integers(0, len(COURSE)))
    def begin(self, objectives: Objectives, paused: bool, steps: int) -> None:
        """A machine that has been told to start, and has come a part of the way."""
        self.machine = Machine(policy=self.policy, objectives=objectives)
        if paused:
            self.give(Learnt({}, paused_before=True))
        self.give(Happened(Signal.START))
        for signal in COURSE[:steps]:
            if signal in ANSWERED_BY:
                self.out.remove(ANSWERED_BY[signal])
            self.give(Happened(signal))

    # ---- what happens

    @rule(data=st.data())
    def it_goes_well(self, data: st.DataObject) -> None:
        """The next thing that a move that goes well would bring, where the course can be told."""
        expected = {
            Phase.PRECOPY: (Signal.SOURCE_ACTIVE, Signal.SOURCE_PRE_SWITCHOVER),
            Phase.HANDOVER: (Signal.SOURCE_DEVICE, Signal.SOURCE_COMPLETED, Signal.DESTINATION_COMPLETED),
            Phase.ACTIVATING: (Signal.DESTINATION_RUNNING,),
            Phase.CANCELLING: (Signal.SOURCE_CANCELLED,),
        }
        self.give(Happened(data.draw(st.sampled_from(expected.get(self.machine.phase, (Signal.SOURCE_STOPPED,))))))

    @rule(signal=st.sampled_from(UNASKED), detail=st.sampled_from(["", "some words"]))
    def something_happens(self, signal: Signal, detail: str) -> None:
        """A side says something, the user cancels, or a timer that was not set goes off."""
        self.give(Happened(signal, detail))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)))
    def a_command_is_answered(self, data: st.DataObject, outcome: Outcome) -> None:
        """An answer, in time or late."""
        command = data.draw(st.sampled_from(self.out))
        self.out.remove(command)
        if command is Command.INSPECT_BOTH:
            source = data.draw(st.sampled_from(list(SourceClass)))
            self.give(Inspected(source, data.draw(st.sampled_from(list(DestinationClass)))))
        else:
            self.give(Happened(answer(command, outcome)))

    @precondition(lambda self: self.out)
    @rule()
    def a_command_is_done(self) -> None:
        """The latest command is done: takes the walk deeper than chance would."""
        command = self.out.pop()
        if command is Command.INSPECT_BOTH:
            self.give(Inspected(SourceClass.MOVING, DestinationClass.LOADING))
        else:
            self.give(Happened(answer(command, Outcome.DONE)))

    @rule(iteration=st.integers(0, 50), sent=BYTES, left=BYTES, late_ns=st.integers(0, SECOND))
    def statistics_come(self, iteration: int, sent: int, left: int, late_ns: int) -> None:
        """Any numbers, also ones that a QEMU would not give."""
        at_ns = max(0, self.now_ns - late_ns)
        answered = Statistics(at_ns=at_ns, iteration=iteration, transferred_bytes=sent, remaining_bytes=left)
        self.give(Sampled(answered))

    @rule(mark=st.sampled_from(list(Mark)), wall_s=st.floats(0, 2e9))
    def a_moment_is_marked(self, mark: Mark, wall_s: float) -> None:
        """On a wall clock that may jump."""
        self.give(Marked(mark, wall_s))

    @rule(note=st.none() | st.just("a note"))
    def something_is_learnt(self, note: str | None) -> None:
        """Of no consequence for the course."""
        self.give(Learnt({"key": 1}, note=note))

    @rule(decision=DECISIONS)
    def the_policy_changes_its_mind(self, decision: Decision) -> None:
        """From now on it decides this."""
        self.decision = decision

    @rule(step_ns=st.integers(0, 40 * SECOND))
    def time_passes(self, step_ns: int) -> None:
        """Any span; the machine is told."""
        self.tell(self.now_ns + step_ns)

    @precondition(lambda self: self.machine.next_deadline_ns() is not None)
    @rule()
    def nothing_happens_until_the_deadline(self) -> None:
        """Exactly as long as the machine asked for."""
        due_ns = self.machine.next_deadline_ns()
        assert due_ns is not None
        self.tell(max(self.now_ns, due_ns))

    # ---- what must hold

    def give(self, event: Event) -> None:
        """One event; what comes out is checked as it comes."""
        self.machine.receive(event, self.now_ns)
        self.collect()

    def tell(self, now_ns: int) -> None:
        """The time; whatever was due then is over, so that a timer cannot spin."""
        self.now_ns = now_ns
        self.machine.receive_time(now_ns)
        due_ns = self.machine.next_deadline_ns()
        assert due_ns is None or due_ns > now_ns
        assert due_ns is None or due_ns <= now_ns + LONGEST_WAIT_NS, "nobody waits without an end"
        self.collect()

    def collect(self) -> None:
        """The orders that came out, against those that came before."""
        for order in self.machine.orders():
            if not isinstance(order, Order):
                assert order.steering.changes, "an order to tune that changes nothing"
                continue
            self.check(order.command)
            if order.command is Command.DISCARD_DESTINATION:
                self.out = [command for command in self.out if command not in ABANDONED]
            self.issued.append(order.command)
            self.out.append(order.command)

    def check(self, command: Command) -> None:
        """What may follow what."""
        before = set(self.issued)
        if command is Command.CANCEL_MIGRATION:
            assert Command.CONTINUE not in before
        if command is Command.RESUME_DESTINATION:
            assert Command.DISCARD_DESTINATION not in before
            assert Command.CLAIM in before
        if command in (Command.DISCARD_DESTINATION, Command.BREAK, Command.RESTORE_SOURCE, Command.RESUME_SOURCE):
            assert Fact.CONT_SENT not in self.machine.state.facts
            assert Fact.POSTCOPY not in self.machine.state.facts
        if command in (Command.RESUME_SOURCE, Command.RESTORE_SOURCE):
            assert Command.DISCARD_DESTINATION in before
        if command is Command.MIGRATE:
            assert command not in before
        if command is Command.RELEASE_SOURCE:
            assert self.machine.owner is Owner.DESTINATION

    @invariant()
    def the_owner_fits_the_phase(self) -> None:
        """The token is where the phase says that it can be."""
        assert self.machine.owner in LEGAL_OWNERS[self.machine.phase]

    @invariant()
    def a_glance_is_always_possible(self) -> None:
        """And agrees with the state."""
        glance = self.machine.progress()
        assert (glance.phase, glance.owner) == (self.machine.phase.value, self.machine.owner.value)
        assert glance.elapsed_s >= 0

    @invariant()
    def there_is_a_report_at_the_end_only_and_it_stays(self) -> None:
        """Later events may add figures and notes; the outcome, the owner and the times stand."""
        report = self.machine.report()
        assert (report is not None) is self.machine.phase.is_end
        if report is None:
            return
        assert self.machine.next_deadline_ns() is None
        assert abs(sum(each.seconds for each in report.stages)) <= report.total_s + 1e-6
        assert report.moved is (self.machine.phase is Phase.COMPLETED)
        self.ended = self.ended or report
        assert settled(report) == settled(self.ended)

    def teardown(self) -> None:
        """From wherever it is left, time alone ends it.

        Post-copy's link is tried again for as long as it takes, for nobody else has the guest: there it never waits
        without an end, and giving up ends it.
        """
        for _ in range(12):
            due_ns = self.machine.next_deadline_ns()
            if due_ns is None:
                break
            self.tell(max(self.now_ns, due_ns))
        if self.machine.phase is Phase.RECOVERING:
            assert self.machine.next_deadline_ns() is not None
            self.give(Happened(Signal.CANCEL))
        assert self.machine.phase.is_end or not self.issued


def settled(report: CompletedReport) -> CompletedReport:
    """The part of a report that nothing may change any more."""
    return replace(report, downtime=None, iterations=(), ram_transferred_bytes=0, ram_total_bytes=0, facts={}, notes=())


TestMigration = Migration.TestCase
TestMigration.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
