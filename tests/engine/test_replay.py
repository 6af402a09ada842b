"""A machine rebuilt from its log is the machine that wrote it, whatever happened, and wherever the log stops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.driving import SECOND, Recorder, nothing
from tests.support.exploration import ABANDONED, UNASKED
from tests.support.looks import MIB, Looks
from tests.support.scribe import Scribe
from whimbrel.engine import records
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Machine, Marked, Measured, Order, Sampled
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Objectives, Observation, Reason
from whimbrel.engine.protocol import is_settled
from whimbrel.engine.replay import Replayed, replay
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Fact, Guest, Owner, Phase
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Mark

C, P, S = Command, Phase, Signal

TO_PRECOPY = (S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE, S.MIGRATE_DONE, S.SOURCE_ACTIVE)
TO_HANDOVER = (*TO_PRECOPY, S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE)
TO_THE_END = (
    *(*TO_HANDOVER, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED, S.CLAIM_DONE, S.DESTINATION_RUNNING),
    S.RELEASE_SOURCE_DONE,
)


def eager(seen: Observation) -> Decision:
    """A policy whose decisions leave traces, allowed and not."""
    return Decision(
        downtime_limit_s=0.01 * (1 + len(seen.iterations)), throttle_initial=0.5, wake_after_s=0.5, because="eager"
    )


def told(*signals: Signal, policy: Any = eager) -> Scribe:
    """A log in which these happened, a second apart."""
    scribe = Scribe(Machine(policy=policy))
    for signal in signals:
        scribe.take(signal, SECOND)
    return scribe


def again(scribe: Scribe, lines: int | None = None) -> Replayed:
    """The log read again, up to a line."""
    return replay(scribe.lines[:lines], policy=refused)


def refused(_: Observation) -> Decision:
    """A policy that may not be asked while a log is read."""
    raise AssertionError("the policy was asked")


def same(one: Machine, other: Machine) -> None:
    """Demand that nothing tells the two apart but their policies."""
    assert one.state == other.state
    assert one.ledger == other.ledger
    assert one.facts == other.facts
    assert one.report() == other.report()
    if not one.phase.is_end:
        # Time that passed without a word is not in the log.
        assert replace(one.progress(), elapsed_s=0.0) == replace(other.progress(), elapsed_s=0.0)


@pytest.mark.parametrize("length", range(len(TO_THE_END) + 1))
def test_a_move_is_the_same_after_every_signal(length: int) -> None:
    scribe = told(*TO_THE_END[:length])
    read = again(scribe)
    same(read.machine, scribe.machine)
    assert read.differs is None
    assert read.last_ns == scribe.now_ns


def test_what_comes_while_the_guest_is_measured_does_not_hide_the_order_that_waited_for_it() -> None:
    questions: list[int] = []

    def looks_first(seen: Observation) -> Decision:
        questions.append(len(seen.measurements))
        return Decision(not_yet_s=5.0) if len(questions) == 1 else Decision()

    scribe = told(S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.POSTCOPY_CHOSEN, policy=looks_first)
    scribe.take(Measured(), SECOND)
    scribe.take(S.ARM_DONE, SECOND)
    read = again(scribe)
    assert read.differs is None
    same(read.machine, scribe.machine)


def test_whoever_takes_over_may_have_what_was_asked_for_at_the_start() -> None:
    """Post-copy was made possible before the manager died: the policy can still go over to it."""

    def asks(seen: Observation) -> Decision:
        return Decision(capabilities={"postcopy-ram": True})

    objectives = Objectives(may_postcopy=True)
    lines = told(*TO_PRECOPY, policy=asks).lines
    machine = replay(lines, policy=lambda seen: Decision(start_postcopy=True), objectives=objectives).machine
    machine.take_over(8 * SECOND)
    machine.receive(Inspected(SourceClass.MOVING, DestinationClass.LOADING), 8 * SECOND)
    machine.receive(Sampled(statistics(9 * SECOND, 1, 4096)), 9 * SECOND)
    assert Command.START_POSTCOPY in [order.command for order in machine.orders() if isinstance(order, Order)]


def test_the_log_may_stop_at_any_line() -> None:
    scribe = told(*TO_THE_END)
    phases: list[Phase] = []
    for length in range(1, len(scribe.lines) + 1):
        read = again(scribe, length)
        assert read.differs is None
        phases.append(read.machine.phase)
    assert phases == sorted(phases, key=list(Phase).index), "it goes forward only"
    assert phases[-1] is P.COMPLETED


def test_a_command_that_went_out_counts_though_these_tables_would_not_send_it() -> None:
    """The one thing that may never be forgotten is that the destination was told to run."""
    scribe = told(*TO_HANDOVER)
    scribe.write("command", {"command": "resume-destination", "phase": "handover", "owner": "limbo"})
    read = again(scribe)
    assert Fact.CONT_SENT in read.machine.state.facts
    assert read.differs is not None


def statistics(at_ns: int, iteration: int, sent: int) -> Statistics:
    """One answer of ``query-migrate``."""
    return Statistics(
        at_ns=at_ns,
        status="active",
        iteration=iteration,
        remaining_bytes=1 << 20,
        transferred_bytes=sent,
        total_bytes=1 << 24,
        page_bytes=4096,
        normal_pages=sent // 4096,
        duplicate_pages=0,
        dirty_bytes_per_s=1e6,
        bandwidth_bytes_per_s=1e8,
        vcpu_s=(0.5, sent / 1e6),
    )


def measurement(window_s: float, dirtied_bytes: float) -> Measurement:
    """One window before the start."""
    return Measurement(at_s=window_s, window_s=window_s, dirtied_bytes=dirtied_bytes, vcpu_shares=(0.25,))


EVENTS: st.SearchStrategy[Event | Signal] = st.one_of(
    st.sampled_from(UNASKED),
    st.sampled_from([S.POSTCOPY_CHOSEN, S.SOURCE_POSTCOPY, S.DESTINATION_POSTCOPY, S.SOURCE_SHUT_DOWN]),
    st.builds(Marked, st.sampled_from(Mark), st.floats(0, 1e9)),
    st.builds(
        Learnt,
        st.dictionaries(st.text(max_size=3), st.integers()),
        st.none()
        | st.builds(
            Abilities,
            capabilities=st.frozensets(st.sampled_from(["xbzrle", "multifd"])),
            outside_throttle=st.booleans(),
            measuring=st.booleans(),
        ),
        paused_before=st.booleans(),
        note=st.none() | st.text(max_size=5),
    ),
    st.builds(statistics, st.just(0), st.integers(1, 4), st.integers(0, 1 << 22)).map(Sampled),
    st.lists(st.builds(measurement, st.floats(0, 9), st.floats(0, 1e9)), max_size=2).map(tuple).map(Measured),
)


def course(data: st.DataObject, scribe: Scribe, steps: int) -> Iterator[None]:
    """Anything may happen, and commands are answered or not, in any way."""
    out: list[Command] = []
    for _ in range(steps):
        after_ns = data.draw(st.integers(0, 2 * SECOND), label="after")
        answered = data.draw(st.sampled_from([None, *out]), label="answered")
        event: Event | Signal
        if answered is None:
            event = data.draw(EVENTS, label="event")
        else:
            out.remove(answered)
            if answered is C.INSPECT_BOTH:
                classes = st.builds(Inspected, st.sampled_from(SourceClass), st.sampled_from(DestinationClass))
                event = data.draw(classes, label="classes")
            else:
                event = answer(answered, data.draw(st.sampled_from(Outcome), label="outcome"))
        if isinstance(event, Sampled):
            event = Sampled(replace(event.statistics, at_ns=scribe.now_ns + after_ns))
        issued = [order.command for order in scribe.take(event, after_ns)]
        if C.DISCARD_DESTINATION in issued:
            out = [command for command in out if command not in ABANDONED]
        out += [command for command in issued if command not in out]
        if data.draw(st.integers(0, 9), label="time") == 0:
            out += [order.command for order in scribe.wait(31) if order.command not in out]
        yield


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_happened_is_read_again_as_it_was(data: st.DataObject) -> None:
    scribe = Scribe(Machine(policy=eager))
    scribe.take(S.START)
    for _ in course(data, scribe, data.draw(st.integers(0, 25), label="steps")):
        pass
    read = again(scribe)
    assert read.differs is None
    same(read.machine, scribe.machine)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_new_manager_goes_on_and_its_successor_reads_both(data: st.DataObject) -> None:
    scribe = Scribe(Machine(policy=eager))
    scribe.take(S.START)
    for _ in course(data, scribe, data.draw(st.integers(0, 10), label="steps")):
        pass
    read = replay(scribe.lines, policy=eager)
    if read.machine.phase.is_end:
        return
    heir = Scribe(read.machine, scribe.lines, scribe.now_ns)
    del heir.lines[-1]  # the header of its own, which an heir does not write
    heir.take_over()
    for _ in course(data, heir, data.draw(st.integers(0, 10), label="more")):
        pass
    same(again(heir).machine, heir.machine)


def test_taking_over_asks_what_is_true_and_all_waits_begin_afresh() -> None:
    read = again(told(*TO_HANDOVER))
    machine = read.machine
    machine.take_over(100 * SECOND)
    assert machine.phase is P.RESOLVING
    assert [order.command for order in machine.orders() if isinstance(order, Order)] == [C.INSPECT_BOTH]
    assert machine.state.deadline_ns == 100 * SECOND + machine.waits.resolving_ns


def test_the_migration_in_flight_is_carried_on() -> None:
    read = replay(told(*TO_PRECOPY).lines, policy=nothing)
    machine = read.machine
    machine.take_over(read.last_ns)
    machine.receive(Inspected(SourceClass.MOVING, DestinationClass.LOADING), read.last_ns)
    assert machine.phase is P.PRECOPY
    for signal in (S.SOURCE_ACTIVE, *TO_THE_END[len(TO_PRECOPY) :]):
        machine.receive(Happened(signal), read.last_ns + SECOND)
    report = machine.report()
    assert report is not None
    assert (report.outcome, report.owner, report.why) == ("completed", "destination", "moved")


def test_a_policy_that_knows_nothing_yet_is_asked_at_the_first_statistics() -> None:
    heir = Recorder()
    scribe = told(*TO_PRECOPY)
    read = replay(scribe.lines, policy=heir)
    read.machine.take_over(read.last_ns)
    read.machine.receive(Inspected(SourceClass.MOVING, DestinationClass.LOADING), read.last_ns)
    assert heir.reasons == []
    read.machine.receive(Sampled(statistics(read.last_ns, 1, 4096)), read.last_ns)
    assert heir.reasons == [Reason.TICK]
    assert heir.seen[0].knobs == scribe.machine.progress().knobs, "they stand as the decisions in the log left them"


def test_an_end_that_settled_nothing_is_looked_at_again() -> None:
    scribe = told(*TO_HANDOVER, S.SOURCE_LOST, S.VERDICT_HOLD)
    scribe.write("end", {"report": asdict(scribe.machine.report())})  # type: ignore[arg-type]
    read = again(scribe)
    assert (read.ended, read.settled, read.machine.state.guest) == (True, False, Guest.HELD)
    scribe.reopen()
    read = again(scribe)
    assert (read.ended, read.machine.phase) == (False, P.RESOLVING)
    same(read.machine, scribe.machine)
    scribe.take(Inspected(SourceClass.COMPLETED, DestinationClass.READY))
    scribe.take(S.CLAIM_DONE)
    scribe.take(S.DESTINATION_RUNNING)
    scribe.take(S.RELEASE_SOURCE_DONE)
    assert is_settled(again(scribe).machine.state)


def test_an_end_that_is_settled_cannot_be_reopened() -> None:
    with pytest.raises(ValueError, match="only an end that settled nothing"):
        told(*TO_THE_END).machine.reopen(0)


def test_where_the_tables_have_changed_the_log_is_right() -> None:
    scribe = told(*TO_HANDOVER)
    step = next(line for line in scribe.lines if line["kind"] == "step" and line["phase"] == "handover")
    step["owner"] = "destination"
    step["facts"] = ["CONTINUED", "SOURCE_COMPLETED"]
    read = again(scribe)
    assert (read.machine.owner, read.machine.state.facts) == (
        Owner.DESTINATION,
        frozenset({Fact.CONTINUED, Fact.SOURCE_COMPLETED}),
    )
    assert read.differs is not None
    assert "it stood in handover, owner destination" in read.differs


def test_an_end_is_what_its_report_says_and_can_be_reopened() -> None:
    """Whatever these tables would have made of what led to it."""
    scribe = told(*TO_HANDOVER)
    scribe.write("end", {"report": {"outcome": "failed", "owner": "limbo", "guest": "held"}})
    read = again(scribe)
    state = read.machine.state
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.LIMBO, Guest.HELD)
    assert (read.ended, read.settled) == (True, False)
    assert read.differs == f"line {len(scribe.lines)}: it ended failed, owner limbo, guest held"
    read.machine.reopen(read.last_ns)
    assert read.machine.phase is P.RESOLVING


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("signal", "signal", "an-event-of-tomorrow", "the signal an-event-of-tomorrow is not known here"),
        ("command", "command", "a-command-of-tomorrow", "the command a-command-of-tomorrow is not known here"),
        ("command", "command", "break", "break went out, and would not now"),
        ("step", "facts", ["A_FACT_OF_TOMORROW"], "it names facts that are not known here"),
        ("signal", "phase", "precopy", "start came in precopy, not in preflight"),
    ],
)
def test_words_of_another_version_are_named(kind: str, field: str, value: object, said: str) -> None:
    scribe = told(*TO_PRECOPY)
    line = next(line for line in scribe.lines if line["kind"] == kind)
    line[field] = value
    read = again(scribe)
    assert read.differs == f"line {line['n']}: {said}"


@pytest.mark.parametrize(
    ("kind", "field"), [("signal", "signal"), ("step", "phase"), ("command", "command"), ("decision", "changes")]
)
def test_a_line_that_lacks_something_is_named_by_its_number(kind: str, field: str) -> None:
    scribe = told(*TO_PRECOPY)
    line = next(line for line in scribe.lines if line["kind"] == kind)
    del line[field]
    with pytest.raises(ValueError, match=f"line {line['n']} is no line of a log"):
        again(scribe)


def test_lines_that_are_only_worth_reading_change_nothing() -> None:
    scribe = told(*TO_PRECOPY)
    before = again(scribe).machine.state
    scribe.write("note", {"text": "something"})
    scribe.write("qmp", {"side": "source", "event": "STOP", "data": {}, "at_s": 0.0})
    scribe.write("a-kind-of-tomorrow", {})
    assert again(scribe).machine.state == before


def test_live_forecasts_in_a_log_change_nothing_and_what_was_seen_is_known_to_the_next_manager() -> None:
    goal = Objectives(downtime_s=0.3)
    scribe = Scribe(Machine(policy=nothing, objectives=goal, foresight=Foresight(objectives=goal)))
    for signal in TO_PRECOPY:
        scribe.take(signal, SECOND)
    before_ns = 0
    for ledger in Looks(lambda _: 150.0 * MIB).run(4):
        assert ledger.last is not None
        passed_ns, before_ns = ledger.last.at_ns - before_ns, ledger.last.at_ns
        scribe.take(Sampled(replace(ledger.last, at_ns=scribe.now_ns + passed_ns)), passed_ns)
        for outlook in scribe.machine.outlooks():
            scribe.write(*records.of_outlook(outlook))
    assert sum(line["kind"] == "outlook" for line in scribe.lines) > 4
    read = replay(scribe.lines, policy=refused, objectives=goal, foresight=Foresight(objectives=goal))
    assert read.differs is None
    assert read.machine.state == scribe.machine.state
    assert read.machine.outlooks() == []
    assert read.machine.foresight is not None
    assert scribe.machine.foresight is not None
    theirs, ours = (
        each.outlook(each_ledger, Knobs(), 20.0)
        for each, each_ledger in (
            (scribe.machine.foresight, scribe.machine.ledger),
            (read.machine.foresight, read.machine.ledger),
        )
    )
    assert theirs is not None
    assert ours is not None
    assert (ours.ends_s, ours.downtime_s, ours.meets) == (theirs.ends_s, theirs.downtime_s, theirs.meets)
