"""What QEMU really does, and what the protocol therefore does: a test for each rule.

Every test quotes the line of a recorded session of QEMU 7.2, 10.0 or 11.1 that taught the rule (side, then
QMP message, shortened to the part that matters), replays what led up to it, and says what must follow. That
``return-path`` is always set belongs to negotiation and is tested there.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.exploration import UNASKED
from whimbrel.engine.protocol import step
from whimbrel.engine.resolve import DestinationClass, SourceClass, classify_destination, classify_source, verdict
from whimbrel.engine.signals import FACT_OF_SIGNAL, Command, Signal
from whimbrel.engine.states import ENDS, Fact, Guest, Owner, Phase, State
from whimbrel.engine.tables import TABLE

C, P, S = Command, Phase, Signal

STARTED = (S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE, S.MIGRATE_DONE, S.SOURCE_ACTIVE, S.DESTINATION_ACTIVE)
PAUSED = (*STARTED, S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER)
CONTINUED = (*PAUSED, S.QUIESCE_DONE)


def replay(signals: Iterable[Signal], state: State | None = None) -> tuple[State, list[Command]]:
    """Where the protocol stands after these signals, and the commands that it sent."""
    now = state or State()
    sent: list[Command] = []
    for signal in signals:
        taken = step(now, signal, 0)
        now = taken.state
        sent += [taken.command] if taken.command is not None else []
    return now, sent


def test_rule_1_completed_on_the_source_is_not_yet_a_reason_to_resume_the_destination() -> None:
    """Device state that does not fit, 7.2: the source says completed 4 ms before the destination fails.

    src {"event": "MIGRATION", "data": {"status": "completed"}}
    dst {"event": "MIGRATION", "data": {"status": "failed"}}
    """
    state, sent = replay((*CONTINUED, S.SOURCE_COMPLETED))
    assert state.phase is P.HANDOVER
    assert C.RESUME_DESTINATION not in sent
    state, sent = replay((*CONTINUED, S.SOURCE_COMPLETED, S.DESTINATION_FAILED, S.DISCARD_DESTINATION_DONE))
    assert sent[-2:] == [C.DISCARD_DESTINATION, C.RESUME_SOURCE]
    assert state.owner is Owner.SOURCE


def test_rule_1_failed_on_the_source_means_that_it_runs_again_by_itself() -> None:
    """The same mismatch with the return path, 7.2: nobody sent cont.

    src {"event": "MIGRATION", "data": {"status": "failed"}}
    src {"event": "RESUME"}
    """
    state, sent = replay((*CONTINUED, S.DESTINATION_FAILED, S.SOURCE_FAILED, S.SOURCE_RUNNING))
    assert (state.phase, state.owner) == (P.CANCELLING, Owner.SOURCE)
    assert C.RESUME_SOURCE not in sent
    state, sent = replay((S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE), state)
    assert sent == [C.RESTORE_SOURCE], "which only looks whether it runs"
    assert (state.phase, state.guest) == (P.FAILED, Guest.RUNNING)


def test_rule_2_the_destination_gets_cont_only_after_the_source_is_proven_out() -> None:
    """Cancel racing the switchover, 10.0: the destination ends completed beside a source that runs.

    src {"event": "RESUME"}
    src {"event": "MIGRATION", "data": {"status": "cancelled"}}
    dst {"event": "MIGRATION", "data": {"status": "completed"}}
    """
    state, sent = replay((*CONTINUED, S.SOURCE_DEVICE, S.SOURCE_RUNNING, S.SOURCE_CANCELLED, S.DESTINATION_COMPLETED))
    assert C.RESUME_DESTINATION not in sent
    assert (state.phase, state.owner) == (P.CANCELLING, Owner.SOURCE)
    state, sent = replay((*CONTINUED, S.DESTINATION_COMPLETED))
    assert C.RESUME_DESTINATION not in sent, "its own word proves nothing"
    _, sent = replay((S.SOURCE_COMPLETED, S.CLAIM_DONE), state)
    assert sent == [C.CLAIM, C.RESUME_DESTINATION]


def test_rule_2_no_cont_reaches_a_destination_that_is_still_loading() -> None:
    """cont while it is inmigrate, 7.2: accepted, and it cancels the -S silently.

    dst {"execute": "cont"}
    dst {"event": "RESUME"}
    """
    resuming = 0
    for (phase, signal), rules in TABLE.items():
        for rule in rules:
            if rule.do is C.CLAIM and rule.to is P.ACTIVATING and signal is not S.VERDICT_ACTIVATE:
                assert Fact.DESTINATION_COMPLETED in rule.when | {FACT_OF_SIGNAL.get(signal)}, (phase, signal)
                resuming += 1
    assert resuming >= 4
    for source in SourceClass:
        for facts in (frozenset[Fact](), frozenset({Fact.CONTINUED}), frozenset({Fact.CONTINUED, Fact.CONT_SENT})):
            for loading in set(DestinationClass) - {DestinationClass.READY}:
                assert verdict(source, loading, facts) is not S.VERDICT_ACTIVATE


def test_rule_3_no_cancel_after_the_point_of_no_return() -> None:
    """migrate_cancel right after migrate-continue, 7.2: both sides run.

    src {"event": "RESUME"}
    dst {"event": "RESUME"}
    dst {"event": "MIGRATION", "data": {"status": "completed"}}
    """
    for signal in (S.CANCEL, S.DEADLINE, S.STALLED, S.GIVEN_UP, S.DESTINATION_LOST, S.DESTINATION_ENDED, S.SOURCE_LOST):
        _, sent = replay((*CONTINUED, signal))
        assert C.CANCEL_MIGRATION not in sent, signal
    for phase in (P.HANDOVER, P.ACTIVATING, P.RELEASING):
        assert not any(rule.do is C.CANCEL_MIGRATION for signal in Signal for rule in TABLE[phase, signal]), phase


def test_rule_3_device_is_the_point_of_no_return_whoever_went_on() -> None:
    """10.0 says device always, so also when somebody else sent migrate-continue.

    src {"event": "MIGRATION", "data": {"status": "device"}}
    """
    for prefix in (STARTED, PAUSED):
        state, _ = replay((*prefix, S.SOURCE_DEVICE))
        assert (state.phase, state.owner) == (P.HANDOVER, Owner.LIMBO)
        assert replay((S.CANCEL,), state) == (state, [])


@pytest.mark.parametrize(
    "signals",
    [
        (*STARTED, S.SOURCE_ACTIVE, S.SOURCE_ACTIVE),
        (*PAUSED, S.SOURCE_PRE_SWITCHOVER, S.SOURCE_STOPPED),
        (*CONTINUED, S.SOURCE_DEVICE, S.SOURCE_DEVICE),
        (*CONTINUED, S.SOURCE_COMPLETED, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.DESTINATION_COMPLETED),
        (*STARTED, S.SOURCE_FAILED, S.SOURCE_FAILED, S.SOURCE_RUNNING),
    ],
    ids=["active", "pre-switchover", "device", "completed", "failed"],
)
def test_rule_4_the_same_news_by_event_and_by_query_has_no_second_effect(signals: tuple[Signal, ...]) -> None:
    """Both are listened to, since some states have no event on some versions.

    src {"event": "MIGRATION", "data": {"status": "failed"}}
    src {"return": {"status": "failed", "error-desc": "Unable to write to socket: Connection reset by peer"}}
    """
    _, sent = replay(signals)
    assert len(sent) == len(set(sent))


@pytest.mark.parametrize("word", ["a-word-of-tomorrow", "postcopy-of-tomorrow"])
def test_rule_5_an_unknown_status_is_unclear_and_decides_nothing(word: str) -> None:
    """11.1 has words that 7.2 has not, and so will its successors.

    src {"event": "MIGRATION", "data": {"status": "postcopy-device"}}
    """
    source = classify_source(word, "running")
    destination = classify_destination(word, "inmigrate")
    assert (source, destination) == (SourceClass.UNCLEAR, DestinationClass.UNCLEAR)
    for facts in (frozenset[Fact](), frozenset({Fact.CONTINUED})):
        for other in DestinationClass:
            assert verdict(source, other, facts) is S.VERDICT_HOLD
        assert verdict(SourceClass.COMPLETED, destination, facts) is S.VERDICT_HOLD


def test_rule_5_failing_is_not_yet_failed() -> None:
    """11.1 cleans up first: a source in failing still has a migration under way.

    src {"event": "MIGRATION", "data": {"status": "failing"}}
    src {"event": "MIGRATION", "data": {"status": "failed"}}
    """
    assert classify_source("failing", "running") is SourceClass.MOVING
    assert classify_source("failed", "running") is SourceClass.HOLDING


def test_rule_6_a_destination_that_fails_ends_and_both_mean_the_same() -> None:
    """Its status is failed and its exit code 1; which of them is seen first is chance.

    dst {"event": "MIGRATION", "data": {"status": "failed"}}
    dst process had exited rc=1. stderr: 'load of migration failed: Invalid argument'
    """
    for prefix in (STARTED, PAUSED, CONTINUED):
        said = replay((*prefix, S.DESTINATION_FAILED, S.DESTINATION_ENDED))
        ended = replay((*prefix, S.DESTINATION_ENDED, S.DESTINATION_FAILED))
        assert said == ended


def test_rule_7_one_process_per_attempt() -> None:
    """A stray connection kills it; one that has failed cannot listen again.

    - stray TCP connect+close done
    dst process had exited rc=1. stderr: 'Not a migration stream'
    """
    back_at_the_source = {Guest.RUNNING, Guest.PAUSED}
    for (phase, signal), rules in TABLE.items():
        for rule in rules:
            if rule.to in ENDS and rule.owner is Owner.SOURCE and rule.guest in back_at_the_source:
                assert phase is P.CANCELLING, (phase, signal)
    for prefix in ((S.START,), STARTED[:2], STARTED[:3], STARTED, PAUSED):
        state, sent = replay((*prefix, S.CANCEL, S.SOURCE_CANCELLED, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE))
        assert state.phase is P.CANCELLED
        assert sent.count(C.DISCARD_DESTINATION) == 1
        assert sent.index(C.DISCARD_DESTINATION) < sent.index(C.RESTORE_SOURCE)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in ENDS])
def test_rule_8_a_silent_monitor_is_not_dead(phase: Phase) -> None:
    """4 GiB, 7.2: the destination answered after 211 ms while it loaded, the source not for 263 ms.

    - dst query-status RTT ms [precopy pass1] n=50 median=6.01 p95=202.19 p99=210.91 max=210.9

    There is no signal for a slow answer. Nothing but an end, a lost connection, a deadline, or somebody's
    word makes the protocol turn back or ask; the stall detector counts bytes, not answers.
    """
    a_word = {S.CANCEL, S.GIVEN_UP, S.START}
    an_end = {S.SOURCE_ENDED, S.DESTINATION_ENDED, S.SOURCE_LOST, S.DESTINATION_LOST, S.DEADLINE, S.STALLED}
    a_status = {
        S.SOURCE_FAILED, S.SOURCE_CANCELLED, S.SOURCE_IDLE, S.SOURCE_RUNNING, S.SOURCE_DEVICE, S.SOURCE_COMPLETED,
        S.DESTINATION_FAILED,
    }  # fmt: skip
    for signal in set(UNASKED) - a_word - an_end - a_status:
        for rule in TABLE[phase, signal]:
            assert rule.to not in (P.CANCELLING, P.RESOLVING, *ENDS), (phase, signal)


def test_rule_8_a_lost_monitor_ends_nothing_it_only_asks() -> None:
    """The process may live on: its end is seen from the process, not from the connection."""
    for prefix in (STARTED, PAUSED, CONTINUED):
        state, sent = replay((*prefix, S.SOURCE_LOST))
        assert (state.phase, sent[-1]) == (P.RESOLVING, C.INSPECT_BOTH)


def test_a_source_that_completed_can_have_the_guest_back_once_the_destination_is_dead() -> None:
    """The way out of postmigrate, all versions.

    src {"return": {"status": "postmigrate", "running": false}}
    src {"execute": "cont"}
    src {"event": "RESUME"}
    """
    state, sent = replay((*CONTINUED, S.SOURCE_COMPLETED, S.DESTINATION_ENDED))
    assert sent[-1] is C.DISCARD_DESTINATION, "first it is made certain that it is dead"
    state, sent = replay((S.DISCARD_DESTINATION_REFUSED,), state)
    assert (state.phase, state.guest, sent) == (P.FAILED, Guest.HELD, [])


def test_a_frozen_destination_is_found_by_the_bytes() -> None:
    """SIGSTOP on the destination: four seconds later the source is still active; a cancel works.

    - dst SIGSTOPped
    src {"execute": "migrate_cancel"}
    src {"event": "MIGRATION", "data": {"status": "cancelled"}}
    """
    state, sent = replay((*STARTED, S.STALLED, S.CANCEL_MIGRATION_DONE, S.SOURCE_CANCELLED))
    assert sent[-2:] == [C.CANCEL_MIGRATION, C.DISCARD_DESTINATION]
    assert state.owner is Owner.SOURCE
