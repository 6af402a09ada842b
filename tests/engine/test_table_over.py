"""Stages 4 and 5: the token in limbo, the claim, the resumption, the release."""

from __future__ import annotations

import pytest

from tests.support.walking import TO_ACTIVATING, TO_HANDOVER, TO_RELEASING, TO_SWITCHOVER, knowing, walk
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal
SC, DC = SourceClass, DestinationClass

BOTH_THERE = (SC.COMPLETED, DC.READY)


@pytest.mark.parametrize("no", [S.CLAIM_REFUSED, S.CLAIM_UNKNOWN])
def test_a_veto_gives_the_guest_back_with_its_lock(no: Signal) -> None:
    back = (BOTH_THERE, S.DISCARD_DESTINATION_DONE, S.RECLAIM_DONE, S.RESUME_SOURCE_DONE)
    state, sent = walk((*TO_ACTIVATING, no, *back))
    assert sent[-3:] == [C.DISCARD_DESTINATION, C.RECLAIM, C.RESUME_SOURCE]
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.RUNNING)


@pytest.mark.parametrize("no", [S.RECLAIM_REFUSED, S.RECLAIM_UNKNOWN])
def test_without_its_lock_the_source_stays_stopped(no: Signal) -> None:
    state, sent = walk((*TO_ACTIVATING, S.CLAIM_REFUSED, BOTH_THERE, S.DISCARD_DESTINATION_DONE, no))
    assert (sent[-1], state.phase, state.guest) == (C.RECLAIM, P.FAILED, Guest.HELD)


@pytest.mark.parametrize("source", [SC.ENDED, SC.GONE, SC.UNREACHABLE])
@pytest.mark.parametrize("no", [S.CLAIM_REFUSED, S.CLAIM_UNKNOWN])
def test_a_veto_over_a_source_that_is_not_there_leaves_the_guest_paused_where_it_is(
    no: Signal, source: SourceClass
) -> None:
    """The destination may hold the only copy."""
    state, sent = walk((*TO_ACTIVATING, no, (source, DC.READY)))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.HELD)
    assert C.DISCARD_DESTINATION not in sent


def test_a_source_that_ends_before_its_destination_is_discarded_leaves_the_only_copy_alone() -> None:
    back = (S.CLAIM_REFUSED, BOTH_THERE, S.SOURCE_ENDED, S.DISCARD_DESTINATION_REFUSED)
    state, _ = walk((*TO_ACTIVATING, *back))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.HELD)


@pytest.mark.parametrize("late", [S.CLAIM_DONE, S.CLAIM_REFUSED, S.CLAIM_UNKNOWN])
def test_a_late_answer_to_an_earlier_claim_changes_nothing(late: Signal) -> None:
    told, _ = walk((*TO_ACTIVATING, S.CLAIM_DONE))
    assert walk((late,), told) == (told, [])


def test_a_cont_that_was_refused_was_not_sent() -> None:
    """A lock of the destination's disks, say: the guest did not run there, and the source can have it back."""
    refused, _ = walk((*TO_ACTIVATING, S.CLAIM_DONE, S.RESUME_DESTINATION_REFUSED))
    assert F.CONT_SENT not in refused.facts
    back = (BOTH_THERE, S.DISCARD_DESTINATION_DONE, S.RECLAIM_DONE, S.RESUME_SOURCE_DONE)
    state, sent = walk(back, refused)
    assert sent == [C.DISCARD_DESTINATION, C.RECLAIM, C.RESUME_SOURCE]
    assert (state.owner, state.guest) == (Owner.SOURCE, Guest.RUNNING)


def test_one_that_was_refused_after_one_in_doubt_may_have_been() -> None:
    doubt = (*TO_ACTIVATING, S.CLAIM_DONE, S.RESUME_DESTINATION_UNKNOWN, S.VERDICT_ACTIVATE)
    state, sent = walk((*doubt, S.RESUME_DESTINATION_REFUSED, S.VERDICT_ACTIVATE))
    assert sent.count(C.RESUME_DESTINATION) == 2
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.HELD)


@pytest.mark.parametrize(
    ("answers", "guest"),
    [((), Guest.RUNNING), ((S.CLAIM_DONE,), Guest.LOST)],
    ids=["before its cont", "after its cont"],
)
def test_a_destination_that_ends(answers: tuple[Signal, ...], guest: Guest) -> None:
    ended = (*TO_ACTIVATING, *answers, S.DESTINATION_ENDED)
    state, _ = walk((*ended, S.DISCARD_DESTINATION_DONE, S.RECLAIM_DONE, S.RESUME_SOURCE_DONE))
    assert (state.phase, state.guest) == (P.FAILED, guest)


def test_both_that_end_before_its_cont() -> None:
    state, _ = walk((*TO_HANDOVER, S.SOURCE_ENDED, S.DESTINATION_COMPLETED, S.DESTINATION_ENDED))
    assert (state.phase, state.guest) == (P.FAILED, Guest.LOST)


def test_a_source_that_still_stands_before_the_switchover_is_told_again() -> None:
    """``migrate-continue`` was announced, and lost with its connection or its manager."""
    lost = (*TO_SWITCHOVER, S.QUIESCE_DONE, S.CONTINUE_UNKNOWN, S.VERDICT_GOES_ON)
    state, sent = walk((*lost, S.SOURCE_PRE_SWITCHOVER))
    assert (state.phase, sent[-2:]) == (P.HANDOVER, [C.INSPECT_BOTH, C.CONTINUE])
    assert walk((S.CONTINUE_REFUSED,), state)[1] == [], "it was on its way already: its status tells"


@pytest.mark.parametrize(
    ("before", "then"),
    [(TO_HANDOVER, C.INSPECT_BOTH), (TO_ACTIVATING, C.INSPECT_BOTH), (TO_RELEASING, C.INSPECT_BOTH)],
)
def test_a_new_manager(before: tuple[Signal, ...], then: Command) -> None:
    assert walk((*before, S.ADOPTED))[1][-1] is then


def test_a_new_manager_lets_the_source_go_only_behind_a_guest_that_runs() -> None:
    """Somebody may have brought the source back since."""
    asked, _ = walk((*TO_RELEASING, S.ADOPTED))
    assert walk(((SC.COMPLETED, DC.RUNNING),), asked)[1] == [C.RELEASE_SOURCE]
    assert walk(((SC.COMPLETED, DC.READY),), asked)[1] == [C.RELEASE_SOURCE], "its owner paused it there since"
    paused, _ = walk((*TO_ACTIVATING, S.CLAIM_DONE, S.ADOPTED), knowing(F.PAUSED_BEFORE))
    state, sent = walk(((SC.COMPLETED, DC.READY), S.RELEASE_SOURCE_DONE), paused)
    assert (sent, state.guest) == ([C.RELEASE_SOURCE], Guest.PAUSED), "nobody resumes a guest that stood paused"
    state, sent = walk(((SC.HOLDING, DC.ENDED),), asked)
    assert (state.phase, sent) == (P.FAILED, [])


@pytest.mark.parametrize("late", [S.DEADLINE, S.RELEASE_SOURCE_REFUSED])
def test_a_paused_guest_whose_new_process_ended_is_still_the_sources(late: Signal) -> None:
    """Nobody ever ran it there; one whose source ended too is lost."""
    releasing, _ = walk((*TO_ACTIVATING, S.CLAIM_DONE, S.DESTINATION_ENDED), knowing(F.PAUSED_BEFORE))
    back = ((SC.COMPLETED, DC.ENDED), S.DISCARD_DESTINATION_DONE, S.RECLAIM_DONE, S.RESUME_SOURCE_DONE)
    state, _ = walk((late, *back), releasing)
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.PAUSED)
    assert walk((late, (SC.ENDED, DC.ENDED), S.DISCARD_DESTINATION_DONE), releasing)[0].guest is Guest.LOST
    assert walk((S.SOURCE_ENDED,), releasing)[0].guest is Guest.LOST


def test_a_new_manager_does_not_know_whether_cont_was_taken() -> None:
    state, _ = walk((*TO_ACTIVATING, S.CLAIM_DONE, S.ADOPTED))
    assert F.CONT_DOUBT in state.facts
    state, _ = walk((*TO_ACTIVATING, S.ADOPTED))
    assert F.CONT_DOUBT not in state.facts
