"""The ways back, and out of not knowing."""

from __future__ import annotations

import pytest

from tests.support.walking import TO_HANDOVER, TO_PRECOPY, TO_SWITCHOVER, walk
from whimbrel.engine.protocol import reopened
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal


def test_a_migration_that_cannot_succeed_is_called_off_before_its_destination_is_ended() -> None:
    """In pre-switchover a source does not notice that its destination died: it would stand for ever."""
    state, sent = walk((*TO_SWITCHOVER, S.SOURCE_LOST, S.VERDICT_CALL_OFF))
    assert sent[-1] is C.CANCEL_MIGRATION
    assert walk((S.SOURCE_CANCELLED,), state)[1] == [C.DISCARD_DESTINATION]


def test_a_source_that_comes_back_standing_there_is_woken() -> None:
    unseen = (*TO_SWITCHOVER, S.SOURCE_LOST, S.VERDICT_SOURCE, S.DISCARD_DESTINATION_DONE)
    state, sent = walk((*unseen, S.SOURCE_PRE_SWITCHOVER))
    assert sent[-2:] == [C.RESTORE_SOURCE, C.CANCEL_MIGRATION]
    assert walk((S.SOURCE_CANCELLED, S.RESTORE_SOURCE_DONE), state)[0].phase is P.FAILED


def test_two_sides_that_were_seen_at_two_moments_are_seen_again() -> None:
    """Before migrate-continue, where somebody else sent it: the destination had everything a moment later."""
    skewed = (SourceClass.COMPLETED, DestinationClass.LOADING)
    asked, sent = walk((*TO_PRECOPY, S.SOURCE_LOST, skewed))
    assert (asked.phase, sent[-1]) == (P.RESOLVING, C.INSPECT_BOTH)
    assert walk(((SourceClass.COMPLETED, DestinationClass.READY),), asked)[1] == [C.CLAIM]
    assert walk((skewed,), asked)[0].guest is Guest.HELD


def test_an_end_that_settled_nothing_is_reopened_without_what_was_tried() -> None:
    unseen = (S.VERDICT_SOURCE, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_REFUSED)
    end, sent = walk((*TO_SWITCHOVER, S.SOURCE_LOST, *unseen, S.CANCEL_MIGRATION_REFUSED, *unseen))
    assert sent.count(C.CANCEL_MIGRATION) == 1, "it may stand there, and would for ever"
    assert (end.phase, end.owner, end.guest) == (P.FAILED, Owner.SOURCE, Guest.UNCONFIRMED)
    again = reopened(end)
    assert (again.phase, again.guest, F.DISCARDING in again.facts) == (P.RESOLVING, None, False)
    state, sent = walk((S.ADOPTED, S.VERDICT_CALL_OFF, S.SOURCE_CANCELLED, S.DISCARD_DESTINATION_DONE), again)
    assert sent == [C.INSPECT_BOTH, C.CANCEL_MIGRATION, C.DISCARD_DESTINATION, C.RESTORE_SOURCE]
    assert walk((S.RESTORE_SOURCE_DONE,), state)[0].guest is Guest.RUNNING


def test_a_new_manager_goes_on_backing_out_where_it_was() -> None:
    for why in (S.CANCEL, S.STALLED):
        asked, sent = walk((*TO_PRECOPY, why, S.ADOPTED))
        assert sent[-1] is C.INSPECT_BOTH
        assert walk((S.VERDICT_GOES_ON,), asked)[1] == [C.CANCEL_MIGRATION], "it is not carried on after all"
        assert walk((S.VERDICT_SOURCE,), asked)[1] == [C.DISCARD_DESTINATION]


def test_a_source_that_completed_something_is_not_believed_to_have_completed_this() -> None:
    """A log that was left before migrate-continue, and a source that was moved away since."""
    for left in ((*TO_PRECOPY, S.ADOPTED), (*TO_PRECOPY, S.CANCEL, S.ADOPTED)):
        for found in (
            (SourceClass.COMPLETED, DestinationClass.ENDED),
            (SourceClass.COMPLETED, DestinationClass.LOADING),
        ):
            state, sent = walk((*left, S.SOURCE_COMPLETED, found, found))
            assert (state.phase, state.guest, C.RESUME_SOURCE in sent) == (P.FAILED, Guest.HELD, False)
    discarding = (*TO_PRECOPY, S.ADOPTED, S.VERDICT_SOURCE, S.SOURCE_COMPLETED, S.DISCARD_DESTINATION_DONE)
    state, sent = walk(discarding)
    assert (state.phase, state.guest, C.RESUME_SOURCE in sent) == (P.FAILED, Guest.HELD, False)


def test_one_that_is_heard_to_complete_beside_a_cancel_gets_the_guest_back() -> None:
    heard = (*TO_PRECOPY, S.CANCEL, S.DEADLINE, S.SOURCE_COMPLETED, S.DISCARD_DESTINATION_DONE)
    assert walk(heard)[1][-1] is C.RESUME_SOURCE


@pytest.mark.parametrize("answer", [S.RESTORE_SOURCE_REFUSED, S.RESUME_SOURCE_REFUSED])
def test_a_source_found_dead_while_it_was_put_right_is_lost(answer: Signal) -> None:
    before = (S.SOURCE_FAILED, S.DISCARD_DESTINATION_DONE, S.SOURCE_ENDED, answer)
    state, _ = walk((*TO_HANDOVER, *before))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.LOST)


@pytest.mark.parametrize(
    ("before", "command", "unknown"),
    [
        ((S.SOURCE_FAILED,), C.RESTORE_SOURCE, S.RESTORE_SOURCE_UNKNOWN),
        ((S.SOURCE_COMPLETED, S.DESTINATION_ENDED), C.RESUME_SOURCE, S.RESUME_SOURCE_UNKNOWN),
    ],
)
def test_a_source_that_went_out_of_sight_while_it_was_put_right_is_tried_once_more(
    before: tuple[Signal, ...], command: Command, unknown: Signal
) -> None:
    state, sent = walk((*TO_HANDOVER, *before, S.DISCARD_DESTINATION_DONE, unknown))
    assert sent[-2:] == [command, command]
    assert walk((unknown,), state)[0].guest is Guest.UNCONFIRMED


HANGS = (S.DEADLINE, (SourceClass.COMPLETED, DestinationClass.LOADING))


def test_a_destination_that_never_finishes_is_given_up_for_a_source_that_stands_there() -> None:
    """It never had its cont: it cannot have run."""
    state, sent = walk((*TO_HANDOVER, S.SOURCE_COMPLETED, *HANGS))
    assert (state.phase, sent[-1]) == (P.HANDOVER, C.INSPECT_BOTH)
    state, sent = walk((*HANGS, S.DISCARD_DESTINATION_DONE, S.RESUME_SOURCE_DONE), state)
    assert sent == [C.INSPECT_BOTH, C.DISCARD_DESTINATION, C.RESUME_SOURCE]
    assert (state.owner, state.guest) == (Owner.SOURCE, Guest.RUNNING)


def test_one_that_never_finishes_behind_a_source_that_ended_is_left_alone() -> None:
    hangs = (S.DEADLINE, (SourceClass.ENDED, DestinationClass.LOADING))
    state, sent = walk((*TO_HANDOVER, S.SOURCE_ENDED, *hangs, *hangs))
    assert (state.phase, state.guest, C.DISCARD_DESTINATION in sent) == (P.FAILED, Guest.HELD, False)


def test_nobody_goes_back_behind_a_destination_that_was_told_to_run() -> None:
    told = (S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.CLAIM_DONE, S.RESUME_DESTINATION_UNKNOWN, S.VERDICT_SOURCE)
    state, sent = walk((*TO_HANDOVER, *told))
    assert (state.phase, state.guest, C.DISCARD_DESTINATION in sent) == (P.FAILED, Guest.UNCONFIRMED, False)


def test_a_guest_that_was_stopped_or_resumed_while_both_were_asked() -> None:
    asked = (*TO_PRECOPY, S.SOURCE_LOST)
    stopped, _ = walk((*asked, S.SOURCE_PAUSED))
    assert F.PAUSED_BEFORE in stopped.facts
    assert F.PAUSED_BEFORE not in walk((S.SOURCE_RUNNING,), stopped)[0].facts
    in_limbo, _ = walk((*TO_HANDOVER, S.SOURCE_LOST, S.SOURCE_PAUSED))
    assert F.PAUSED_BEFORE not in in_limbo.facts


def test_a_source_seen_running_after_the_destination_was_told_to_run_is_no_setback() -> None:
    """It says nothing of the handover: somebody resumed it beside the destination."""
    told = (S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.CLAIM_DONE, S.RESUME_DESTINATION_UNKNOWN, S.SOURCE_RUNNING)
    assert F.SETBACK not in walk((*TO_HANDOVER, *told))[0].facts
