"""The machine, driven by hand: events and times go in as numbers, orders and deadlines come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.driving import SECOND, Drive, Recorder, drive, nothing, to_handover, to_precopy, to_the_end
from tests.support.looks import MIB, Looks
from whimbrel.engine.foresight import Basis, Outlook
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Machine, Marked, Measured, Order, Sampled
from whimbrel.engine.policy import Abilities, Decision, Measurement, Objectives, Observation, Reason
from whimbrel.engine.protocol import DEFAULT_WAITS
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import STAGES, Fact, Owner, Phase
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Mark

C, P, S = Command, Phase, Signal


# ---- a move that goes well


def test_a_move_gives_the_commands_in_order_and_a_report() -> None:
    it = to_the_end(drive())
    assert it.commands == [
        C.INSPECT, C.PREPARE, C.ARM, C.MIGRATE, C.QUIESCE, C.CONTINUE, C.CLAIM, C.RESUME_DESTINATION, C.RELEASE_SOURCE,
    ]  # fmt: skip
    report = it.machine.report()
    assert report is not None
    assert report.moved
    assert (report.outcome, report.owner, report.guest, report.why) == ("completed", "destination", "running", "moved")
    assert it.machine.next_deadline_ns() is None


def test_orders_are_given_once() -> None:
    machine = drive().machine
    machine.receive(Happened(S.START), 0)
    assert machine.orders() == [Order(C.INSPECT)]
    assert machine.orders() == []


def test_the_stages_add_up_to_the_whole() -> None:
    """Stage 1: 0 to 3 s; 2: 3 to 10 s; 3: 10 to 11 s; 4: 11 to 12 s; 5: 12 to 14 s."""
    report = to_the_end(drive()).machine.report()
    assert report is not None
    assert [(each.stage, each.seconds) for each in report.stages] == [(1, 3.0), (2, 7.0), (3, 1.0), (4, 1.0), (5, 2.0)]
    assert [each.name for each in report.stages] == list(STAGES.values())
    assert sum(each.seconds for each in report.stages) == report.total_s == 14.0


def test_time_counts_from_the_start_and_stops_at_the_end() -> None:
    it = drive()
    assert it.machine.progress().elapsed_s == 0.0
    it.at(100, S.START).at(101, S.INSPECT_DONE)
    assert it.machine.progress().elapsed_s == 1.0
    ended = to_the_end(drive()).time(1000)
    assert ended.machine.progress().elapsed_s == 14.0


def test_a_second_start_does_not_move_the_beginning() -> None:
    it = drive().at(0, S.START).at(5, S.START).at(6, S.INSPECT_DONE)
    assert it.machine.progress().elapsed_s == 6.0
    assert it.commands == [C.INSPECT, C.INSPECT, C.PREPARE]


def test_a_clock_that_goes_back_is_not_followed() -> None:
    it = drive().at(10, S.START).at(5, S.INSPECT_DONE)
    assert it.machine.progress().elapsed_s == 0.0
    assert it.next_s == 10 + DEFAULT_WAITS.preparing_ns / SECOND
    it.time(12).time(11)
    assert it.machine.progress().elapsed_s == 2.0


def test_there_is_no_report_before_the_end() -> None:
    it = drive()
    assert it.machine.report() is None
    assert to_handover(it).machine.report() is None


def test_statistics_and_iterations_are_in_the_report() -> None:
    it = to_precopy(drive()).sample(5, sent=100, left=900).sample(6, iteration=2, sent=600, left=400)
    assert len(it.machine.ledger.iterations) == 1
    report = to_the_end(drive()).machine.report()
    assert report is not None
    assert (report.ram_transferred_bytes, report.ram_total_bytes, report.iterations) == (0, 0, ())
    it.at(10, S.SOURCE_PRE_SWITCHOVER).at(11, S.QUIESCE_DONE).at(12, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)
    it.at(13, S.DESTINATION_RUNNING).at(14, S.RELEASE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert (report.ram_transferred_bytes, report.ram_total_bytes) == (600, 1000)
    assert [each.number for each in report.iterations] == [1]


def test_the_downtime_is_itemised_for_a_move_and_only_for_one() -> None:
    moments = {
        Mark.SOURCE_STOP: 50.0,
        Mark.SOURCE_PRE_SWITCHOVER: 50.1,
        Mark.CONTINUE_SENT: 50.2,
        Mark.DESTINATION_COMPLETED: 50.6,
        Mark.CONT_SENT: 50.7,
        Mark.DESTINATION_RESUME: 50.8,
    }
    marks = [Marked(mark, wall_s) for mark, wall_s in moments.items()]
    it = to_precopy(drive()).sample(9, sent=500, left=20)
    it.at(10, S.SOURCE_PRE_SWITCHOVER).at(11, S.QUIESCE_DONE, *marks).sample(11.5, sent=520)
    it.at(12, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED).at(13, S.DESTINATION_RUNNING).at(14, S.SOURCE_ENDED)
    report = it.machine.report()
    assert report is not None
    assert report.downtime is not None
    assert report.downtime.total_s == pytest.approx(0.8)
    # 20 bytes went over after the stop, at the 100 B/s that it had before.
    assert report.downtime.last_ram_s == pytest.approx(0.2)
    assert report.downtime.device_state_s == pytest.approx(0.2)
    failed = to_handover(drive()).at(12, *marks, S.SOURCE_FAILED).at(13, S.DISCARD_DESTINATION_DONE)
    failed.at(14, S.RESTORE_SOURCE_DONE)
    report = failed.machine.report()
    assert report is not None
    assert report.downtime is None


# ---- what is learnt


def test_what_is_learnt_stands_in_the_report() -> None:
    it = drive().at(0, Learnt({"qemu": "7.2"}), Learnt({"pid": 7}, note="multifd dropped"))
    assert it.machine.facts == {"qemu": "7.2", "pid": 7}
    report = to_the_end(it).machine.report()
    assert report is not None
    assert report.facts == {"qemu": "7.2", "pid": 7}
    assert report.notes == ("multifd dropped",)


def test_a_guest_that_was_paused_stays_paused() -> None:
    it = drive().at(0, Learnt({}, paused_before=True))
    to_handover(it).at(12, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED).at(13, S.CLAIM_DONE, S.RELEASE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.guest) == ("completed", "paused")
    assert C.RESUME_DESTINATION not in it.commands


def test_what_the_pair_can_do_reaches_the_policy() -> None:
    policy = Recorder()
    it = drive(policy).at(0, Learnt({}, abilities=Abilities(capabilities=frozenset({"xbzrle"}))))
    to_precopy(it)
    assert policy.seen[0].abilities.capabilities == {"xbzrle"}


# ---- the policy


def test_the_policy_is_asked_at_setup_at_iterations_at_ticks_and_at_the_deadline() -> None:
    policy = Recorder({Reason.SETUP: Decision(wake_after_s=2.0)})
    it = to_precopy(drive(policy, Objectives(deadline_s=20.0)))
    assert policy.reasons == [Reason.SETUP]
    it.sample(4.5, sent=10, left=900)
    assert policy.reasons == [Reason.SETUP]
    it.sample(4.8, iteration=2, sent=400, left=500)
    assert policy.reasons[1:] == [Reason.ITERATION]
    it.sample(6.0, iteration=2, sent=500, left=400)
    assert policy.reasons[1:] == [Reason.ITERATION]
    it.sample(6.8, iteration=2, sent=600, left=400)
    assert policy.reasons[2:] == [Reason.TICK]
    assert it.next_s == 23.0
    it.time(22.9)
    assert policy.reasons[3:] == []
    it.time(23.0).time(23.1)
    assert policy.reasons[3:] == [Reason.DEADLINE]
    assert it.machine.wake_every_ns == 2 * SECOND


def test_elapsed_time_counts_from_migrate() -> None:
    policy = Recorder()
    to_precopy(drive(policy)).sample(5, left=9).sample(6, iteration=2, left=9)
    assert [seen.elapsed_s for seen in policy.seen] == [0.0, 3.0]


def test_the_setup_goes_with_arm_and_counts_as_a_decision() -> None:
    policy = Recorder({Reason.SETUP: Decision(downtime_limit_s=0.1, capabilities={"xbzrle": True}, because="low")})
    it = to_precopy(drive(policy))
    (arm,) = (order for order in it.out if isinstance(order, Order) and order.command is C.ARM)
    assert arm.setup is not None
    assert arm.setup.knobs.downtime_limit_s == 0.1
    assert arm.setup.decision.capabilities == {"xbzrle": True}
    assert it.machine.progress().because == "low"
    assert all(order.setup is None for order in it.out if isinstance(order, Order) and order is not arm)


def test_a_decision_becomes_an_order_to_turn_the_knobs() -> None:
    policy = Recorder(
        {Reason.ITERATION: Decision(downtime_limit_s=0.2, bandwidth_bytes_per_s=77, because="it converges")}
    )
    it = to_precopy(drive(policy)).sample(5, left=9).sample(6, iteration=2, left=9)
    (tune,) = it.tunes
    assert tune.steering.changes == {"downtime_limit_s": 0.2, "bandwidth_bytes_per_s": 77}
    progress = it.machine.progress()
    assert (progress.knobs.bandwidth_bytes_per_s, progress.because) == (77, "it converges")
    it.sample(7, iteration=3, left=9)
    assert len(it.tunes) == 1, "the same decision again changes nothing"


def test_a_change_without_a_reason_keeps_the_last_one() -> None:
    policy = Recorder(
        {
            Reason.SETUP: Decision(downtime_limit_s=0.1, because="low"),
            Reason.ITERATION: Decision(bandwidth_bytes_per_s=7),
        }
    )
    it = to_precopy(drive(policy)).sample(5, left=9).sample(6, iteration=2, left=9)
    assert len(it.tunes) == 1
    assert it.machine.progress().because == "low"


def test_what_was_clamped_is_noted_once() -> None:
    policy = Recorder({Reason.ITERATION: Decision(downtime_limit_s=9.0)})
    it = to_precopy(drive(policy)).sample(5, left=9).sample(6, iteration=2, left=9).sample(7, iteration=3, left=9)
    it.at(8, S.SOURCE_FAILED, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert report.notes == ("clamped: downtime limit: 9 is outside 0.001 to 0.3",)
    assert report.decisions == 0


def test_what_is_clamped_anew_each_time_does_not_fill_the_report() -> None:
    """A policy may be asked a hundred times a second, for hours."""
    wants = iter(range(1000))
    it = to_precopy(drive(lambda seen: Decision(downtime_limit_s=1.0 + next(wants))))
    for iteration in range(1, 200):
        it.sample(5 + iteration, iteration=iteration)
    it.at(300, S.SOURCE_FAILED, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    clamps = [note for note in report.notes if note.startswith("clamped")]
    assert len(clamps) == 51
    assert clamps[-1] == "clamped: more than that, see the log"


def test_a_policy_that_gives_up_ends_it() -> None:
    policy = Recorder({Reason.ITERATION: Decision(abort=True, because="it will never fit")})
    it = to_precopy(drive(policy, Objectives(may_abort=True))).sample(5, left=9).sample(6, iteration=2, left=9)
    assert it.machine.phase is P.CANCELLING
    assert it.commands[-1] is C.CANCEL_MIGRATION
    it.at(7, S.SOURCE_CANCELLED).at(8, S.DISCARD_DESTINATION_DONE).at(9, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.owner, report.why) == ("failed", "source", "it will never fit")


def test_giving_up_without_a_word_still_has_a_reason() -> None:
    policy = Recorder({Reason.ITERATION: Decision(abort=True)})
    it = to_precopy(drive(policy, Objectives(may_abort=True))).sample(5, left=9).sample(6, iteration=2, left=9)
    it.at(7, S.SOURCE_CANCELLED).at(8, S.DISCARD_DESTINATION_DONE).at(9, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert report.why == "the policy gave up"


def test_outside_precopy_no_policy_is_asked() -> None:
    """Statistics go on coming while the source is watched; nothing is there to be steered."""
    policy = Recorder()
    it = drive(policy, Objectives(deadline_s=9.0)).at(0, S.START).sample(0.5, left=9).sample(0.6, iteration=2, left=9)
    assert policy.seen == []
    to_handover(it).sample(11.5, iteration=4, left=9).time(20)
    assert policy.reasons == [Reason.SETUP]


# ---- waits and stalls


COURSES: dict[str, tuple[Callable[[Drive], Drive], int]] = {
    "preflight": (lambda it: it.at(0, S.START), DEFAULT_WAITS.preflight_ns),
    "preparing": (lambda it: it.at(0, S.START, S.INSPECT_DONE), DEFAULT_WAITS.preparing_ns),
    "connect": (lambda it: it.at(0, S.START, S.INSPECT_DONE, S.ARM_DONE), DEFAULT_WAITS.connect_ns),
    "switchover": (lambda it: to_precopy(it).at(10, S.SOURCE_PRE_SWITCHOVER), DEFAULT_WAITS.switchover_ns),
    "handover": (to_handover, DEFAULT_WAITS.handover_ns),
    "activating": (
        lambda it: to_handover(it).at(12, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED),
        DEFAULT_WAITS.activating_ns,
    ),
    "cancelling": (lambda it: to_precopy(it).at(10, S.CANCEL), DEFAULT_WAITS.cancelling_ns),
    "resolving": (lambda it: to_precopy(it).at(10, S.SOURCE_LOST), DEFAULT_WAITS.resolving_ns),
}


@pytest.mark.parametrize("course", COURSES)
def test_a_wait_ends_when_it_should_and_not_before(course: str) -> None:
    drive_to, wait_ns = COURSES[course]
    it = drive_to(drive())
    due_s = it.now_s + wait_ns / SECOND
    assert it.next_s == due_s
    before = it.machine.state
    it.time(due_s - 0.001)
    assert it.machine.state == before
    it.time(due_s)
    assert it.machine.state != before


def test_a_wait_that_was_too_long_is_the_reason() -> None:
    it = drive().at(0, S.START).time(30).at(31, S.DISCARD_DESTINATION_DONE).at(32, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.why) == ("failed", "waited too long in preflight")


def test_a_stalled_stream_is_ended() -> None:
    """QEMU has no timeout: a destination that is frozen leaves the source active for ever."""
    it = to_precopy(drive(stall_s=10)).sample(5, sent=10, left=90).sample(8, sent=20, left=80)
    assert it.next_s == 18.0
    assert it.sample(12, sent=20, left=80).time(17.9).machine.phase is P.PRECOPY
    assert it.time(18).machine.phase is P.CANCELLING
    assert it.commands[-1] is C.CANCEL_MIGRATION
    it.at(19, S.SOURCE_CANCELLED).at(20, S.DISCARD_DESTINATION_DONE).at(21, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert report.why == "nothing was sent for 10 s"


def test_a_stalled_stream_is_not_steered_any_more() -> None:
    """Where the user's deadline passes at the same moment the policy is not asked: it is being ended."""
    policy = Recorder()
    it = to_precopy(drive(policy, Objectives(deadline_s=11.0), stall_s=10)).time(14)
    assert it.machine.phase is P.CANCELLING
    assert policy.reasons == [Reason.SETUP]


def test_a_source_that_never_gives_statistics_is_stalled_too() -> None:
    it = to_precopy(drive(stall_s=10))
    assert it.next_s == 14.0
    assert it.time(14).machine.phase is P.CANCELLING


def test_a_source_with_nothing_left_that_does_not_switch_over_is_stalled_too() -> None:
    it = to_precopy(drive(stall_s=10)).sample(5, sent=10, left=0)
    assert it.next_s == 15.0
    assert it.time(15).machine.phase is P.CANCELLING


def test_a_connection_that_came_back_is_not_stalled_for_the_time_that_it_was_gone() -> None:
    it = to_precopy(drive(stall_s=10)).sample(5, sent=10, left=90).at(6, S.SOURCE_LOST)
    it.at(20, Inspected(SourceClass.MOVING, DestinationClass.LOADING)).at(21, S.SOURCE_ACTIVE)
    assert it.machine.phase is P.PRECOPY
    assert it.next_s == 31.0


def test_while_it_connects_its_own_wait_holds_and_not_the_stall() -> None:
    it = drive(stall_s=1).at(0, S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE)
    assert it.time(5).machine.phase is P.PRECOPY
    assert it.next_s == DEFAULT_WAITS.connect_ns / SECOND


# ---- bad ends and unknown outcomes


def test_the_first_bad_news_is_the_reason() -> None:
    it = to_precopy(drive()).at(
        5, Happened(S.DESTINATION_ENDED, "exit code 1"), Happened(S.SOURCE_FAILED, "broken pipe")
    )
    it.at(6, S.DISCARD_DESTINATION_DONE).at(7, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.guest, report.why) == ("failed", "running", "exit code 1")
    assert report.stages[-1].stage == 2, "backing out is none of the five stages"


def test_a_move_that_went_through_trouble_is_a_move() -> None:
    it = to_handover(drive()).at(12, Happened(S.SOURCE_LOST, "the monitor hung up"))
    it.at(13, Inspected(SourceClass.COMPLETED, DestinationClass.READY)).at(14, S.DESTINATION_RUNNING)
    it.at(15, S.RELEASE_SOURCE_REFUSED)
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.why) == ("completed", "moved")


def test_what_an_inspection_found_is_the_reason_where_there_is_no_other() -> None:
    it = to_handover(drive()).at(12, S.SOURCE_IDLE)
    it.at(13, Inspected(SourceClass.UNCLEAR, DestinationClass.READY))
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.owner, report.guest) == ("failed", "limbo", "held")
    assert report.why == "the source is unclear, the destination ready"


def test_a_signal_without_words_is_explained_by_its_rule_or_its_name() -> None:
    called_off = to_precopy(drive()).at(5, S.CANCEL, S.SOURCE_CANCELLED)
    called_off.at(6, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE)
    report = called_off.machine.report()
    assert report is not None
    assert (report.outcome, report.why) == ("cancelled", "cancel")
    told = to_handover(drive()).at(12, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED).at(13, S.CLAIM_DONE)
    lost = told.at(13, S.DESTINATION_ENDED)
    report = lost.machine.report()
    assert report is not None
    assert (report.guest, report.why.split(":")[0]) == ("lost", "it had its cont and may have run")


def test_what_comes_after_the_end_changes_nothing_that_is_settled() -> None:
    it = to_the_end(drive())
    before = it.machine.report()
    it.at(20, *Signal, Inspected(SourceClass.HOLDING, DestinationClass.RUNNING))
    assert it.machine.report() == before
    assert it.commands.count(C.INSPECT) == 1


# ---- a glance in every phase


def test_there_is_a_glance_in_every_phase() -> None:
    """Stage and name where there is one, the phase's own name elsewhere; always the owner and the time."""
    it = drive()
    seen: dict[str, tuple[int | None, str, str]] = {}

    def look() -> None:
        progress = it.machine.progress()
        seen[progress.phase] = (progress.stage, progress.stage_name, progress.owner)

    moments: list[Event | Signal] = [
        S.START, S.INSPECT_DONE, S.ARM_DONE, S.SOURCE_LOST,
        Inspected(SourceClass.MOVING, DestinationClass.LOADING), S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE,
        S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.DESTINATION_RUNNING, S.RELEASE_SOURCE_DONE,
    ]  # fmt: skip
    for second, event in enumerate(moments):
        it.at(second, event)
        look()
    for last in (S.CANCEL, S.SOURCE_FAILED):
        it = to_precopy(drive()).at(5, last)
        look()
        it.at(6, S.SOURCE_CANCELLED, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE)
        look()
    mirroring = drive().at(0, S.START, S.INSPECT_DONE)
    mirroring.machine.state = replace(mirroring.machine.state, facts=frozenset({Fact.COPIES_DISKS}))
    mirroring.at(2, S.ARM_DONE)
    it = mirroring
    look()
    it = to_handover(drive()).at(12, S.SOURCE_POSTCOPY)
    look()
    it.at(13, S.SOURCE_POSTCOPY_PAUSED)
    look()
    assert seen == {
        "mirroring": (2, STAGES[2], "source"),
        "postcopy": (5, STAGES[5], "destination"),
        "recovering": (5, STAGES[5], "destination"),
        "preflight": (1, STAGES[1], "source"),
        "preparing": (1, STAGES[1], "source"),
        "precopy": (2, STAGES[2], "source"),
        "switchover": (3, STAGES[3], "source"),
        "handover": (4, STAGES[4], "destination"),
        "activating": (5, STAGES[5], "destination"),
        "releasing": (5, STAGES[5], "destination"),
        "resolving": (None, "resolving", "source"),
        "cancelling": (None, "cancelling", "source"),
        "completed": (None, "completed", "destination"),
        "cancelled": (None, "cancelled", "source"),
        "failed": (None, "failed", "source"),
    }
    assert set(seen) == {phase.value for phase in Phase}


def test_a_glance_shows_the_latest_numbers() -> None:
    it = to_precopy(drive()).sample(5, sent=100, left=900).sample(6, iteration=2, sent=600, left=950)
    progress = it.machine.progress()
    assert (progress.iteration, progress.remaining_bytes, progress.transferred_bytes) == (2, 950, 600)
    assert (progress.total_bytes, progress.throttle) == (1000, 0.25)
    assert progress.bandwidth_bytes_per_s == pytest.approx(500)
    assert progress.dirty_bytes_per_s == pytest.approx(50)
    assert progress.elapsed_s == 6.0
    assert it.machine.owner is Owner.SOURCE


STARTED = (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE, Signal.SOURCE_ACTIVE)


@pytest.mark.parametrize("reason", [Reason.SETUP, Reason.ITERATION])
@pytest.mark.parametrize("abort", [False, True])
def test_a_policy_that_raises_ends_the_migration_only_where_that_was_asked_for(reason: Reason, abort: bool) -> None:
    """Somebody's code may fail at any time: the report says so, and the guest moves under the last good settings."""

    def faulty(seen: Observation) -> Decision:
        if seen.reason is reason:
            raise KeyError("thing")
        return Decision()

    machine = Machine(policy=faulty, objectives=Objectives(abort_on_fault=abort), policy_name="mine")
    for signal in STARTED:
        machine.receive(Happened(signal), 0)
    machine.receive(Sampled(Statistics(at_ns=1, iteration=1, remaining_bytes=9)), 1)
    machine.receive(Sampled(Statistics(at_ns=2, iteration=2, remaining_bytes=9)), 2)
    assert machine.phase is (Phase.CANCELLING if abort else Phase.PRECOPY)
    machine.receive(Happened(Signal.CANCEL, "enough"), 3)
    for signal in (Signal.SOURCE_CANCELLED, Signal.DISCARD_DESTINATION_DONE, Signal.RESTORE_SOURCE_DONE):
        machine.receive(Happened(signal), 3)
    report = machine.report()
    assert report is not None
    fault = next(note for note in report.notes if "mine failed when it was asked" in note)
    assert "raised KeyError('thing')" in fault
    assert (report.why == fault) is abort
    assert report.owner == "source"


def test_every_signal_is_told_for_the_log_those_of_time_too() -> None:
    machine = Machine(policy=lambda seen: Decision())
    machine.receive(Happened(Signal.START), 0)
    machine.receive_time(DEFAULT_WAITS.preflight_ns)
    told = machine.taken()
    assert [each.signal for each in told] == [Signal.START, Signal.DEADLINE]
    assert [each.moved for each in told] == [False, True]
    assert machine.taken() == []


def test_trouble_that_was_overcome_is_not_the_reason_of_the_end() -> None:
    machine = Machine(policy=lambda seen: Decision())
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE, Signal.SOURCE_ACTIVE):
        machine.receive(Happened(signal), 0)
    machine.receive(Happened(Signal.SOURCE_LOST, "the connection was lost"), 1)
    machine.receive(Inspected(SourceClass.MOVING, DestinationClass.LOADING), 2)
    machine.receive(Happened(Signal.CANCEL, "called off by the user"), 3)
    for signal in (Signal.SOURCE_CANCELLED, Signal.DISCARD_DESTINATION_DONE, Signal.RESTORE_SOURCE_DONE):
        machine.receive(Happened(signal), 4)
    report = machine.report()
    assert report is not None
    assert report.why == "called off by the user"


def test_a_deadline_that_passed_is_the_reason_of_what_followed() -> None:
    """The handover hung, the destination was killed for it: not the failure that this led to is the reason."""
    machine = Machine(policy=lambda seen: Decision())
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE):
        machine.receive(Happened(signal), 0)
    for signal in (Signal.SOURCE_PRE_SWITCHOVER, Signal.QUIESCE_DONE):
        machine.receive(Happened(signal), 0)
    machine.receive_time(DEFAULT_WAITS.handover_ns)
    after = (Signal.BREAK_DONE, Signal.SOURCE_FAILED, Signal.DISCARD_DESTINATION_DONE, Signal.RESTORE_SOURCE_DONE)
    for signal in after:
        machine.receive(Happened(signal, "the source said failed"), DEFAULT_WAITS.handover_ns)
    report = machine.report()
    assert report is not None
    assert report.why == "waited too long in handover"


def test_a_hold_says_why_though_the_migration_goes_on() -> None:
    """Both sides say that it is under way, and it was waited for long enough."""
    it = to_handover(drive()).at(12, S.DEADLINE, S.BREAK_REFUSED)
    for second in (13, 14, 15):
        it.at(second, Inspected(SourceClass.MOVING, DestinationClass.LOADING), S.DEADLINE)
    report = it.machine.report()
    assert report is not None
    assert (report.outcome, report.guest) == ("failed", "held")
    assert report.why == "deadline", "what went wrong first"
    assert it.at(20, S.DEADLINE).machine.report() == report


# ---- looking ahead


BUSY = Objectives(downtime_s=0.3)


def looked_at(it: Drive, iterations: int, made: list[Outlook] | None = None) -> Drive:
    """A guest that is sent again and again, from 4 s on; the live forecasts are put into a list."""
    looks = Looks(lambda _: 150.0 * MIB)
    for ledger in looks.run(iterations):
        assert ledger.last is not None
        at_s = 4.0 + ledger.last.at_ns / SECOND
        outlooks = it.at(at_s, Sampled(replace(ledger.last, at_ns=round(at_s * SECOND)))).machine.outlooks()
        if made is not None:
            made += outlooks
    return it


def foreseeing(objectives: Objectives = BUSY, **more: object) -> Drive:
    """A machine with somebody who looks ahead."""
    return Drive(Machine(policy=nothing, objectives=objectives, foresight=Foresight(objectives=objectives), **more))  # type: ignore[arg-type]


def test_while_memory_is_sent_a_glance_has_the_live_forecast() -> None:
    it = to_precopy(foreseeing())
    assert it.machine.progress().outlook is None
    glance = looked_at(it, 2).machine.progress()
    assert glance.outlook is not None
    assert glance.outlook.iteration == 3
    assert glance.objectives is BUSY
    assert glance.since_migrate_s == pytest.approx(it.now_s - 3.0)
    assert glance.outlook.at_s == glance.since_migrate_s
    assert it.machine.outlooks() == []


def test_without_one_who_looks_ahead_nothing_is_foreseen() -> None:
    it = looked_at(to_precopy(drive()), 2)
    assert it.machine.outlooks() == []
    assert it.machine.progress().outlook is None
    assert it.machine.progress().news == ""


def test_a_verdict_is_told_in_every_glance_from_then_on_and_stands_in_the_report() -> None:
    it = looked_at(to_precopy(foreseeing()), 6)
    news = it.machine.progress().news
    assert news.startswith("no pre-copy of the guest as it is can do")
    assert it.machine.progress().outlook is not None
    it.at(40, S.CANCEL).at(41, S.SOURCE_CANCELLED, S.CANCEL_MIGRATION_DONE).at(42, S.DISCARD_DESTINATION_DONE)
    it.at(43, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert report.notes.count(news) == 1
    assert it.machine.progress().outlook is None


def test_verdicts_that_come_and_go_do_not_fill_the_report() -> None:
    class Fickle(Foresight):
        """Has news at every look."""

        def outlook(self, *given: object, **more: object) -> Outlook | None:
            looks.append(it.now_s)
            made = super().outlook(*given, **more)  # type: ignore[arg-type]
            return made and replace(made, news=f"news of {made.at_s}")

    looks: list[float] = []
    it = to_precopy(Drive(Machine(policy=nothing, objectives=BUSY, foresight=Fickle(objectives=BUSY))))
    looked_at(it, 12).at(40, S.CANCEL).at(41, S.SOURCE_CANCELLED, S.CANCEL_MIGRATION_DONE)
    it.at(42, S.DISCARD_DESTINATION_DONE).at(43, S.RESTORE_SOURCE_DONE)
    report = it.machine.report()
    assert report is not None
    assert sum(note.startswith("news of") for note in report.notes) == 10
    assert len(looks) > 10


def test_what_is_measured_before_the_start_is_known_to_the_one_who_looks_ahead() -> None:
    probing = Recorder({Reason.SETUP: Decision(measure_s=(1.0,))})
    foresight = Foresight(objectives=BUSY)
    it = Drive(Machine(policy=probing, objectives=BUSY, foresight=foresight))
    it.at(0, S.START).at(1, S.INSPECT_DONE, Learnt({}, Abilities(measuring=True))).at(2, S.PREPARE_DONE)
    probing.decisions.clear()
    it.at(3, Measured((Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=5.0 * MIB),))).at(4, S.ARM_DONE)
    it.at(5, S.SOURCE_ACTIVE)
    made: list[Outlook] = []
    looked_at(it, 1, made)
    assert made[0].basis is Basis.MEASURED


def test_in_postcopy_it_is_foreseen_when_all_of_the_memory_is_there() -> None:
    it = looked_at(to_precopy(foreseeing(Objectives(may_postcopy=True))), 2)
    it.at(20, S.POSTCOPY_CHOSEN, S.SOURCE_STOPPED, S.SOURCE_POSTCOPY, S.DESTINATION_POSTCOPY)
    it.at(21, S.RESUME_DESTINATION_DONE, S.DESTINATION_RUNNING)
    it.machine.outlooks()
    assert it.machine.phase is P.POSTCOPY
    it.sample(22, iteration=3, sent=900 * MIB, left=50 * MIB)
    (outlook,) = it.machine.outlooks()
    assert outlook.basis is Basis.POSTCOPY
