"""Post-copy: the source is out for ever, and the link is mended as often as it breaks."""

from __future__ import annotations

import pytest

from tests.support.walking import TO_POSTCOPY, TO_PRECOPY, TO_RECOVERING, knowing, walk
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal

RUNS = (*TO_POSTCOPY, S.CLAIM_DONE, S.DESTINATION_RUNNING)
NEVER = {C.CANCEL_MIGRATION, C.BREAK, C.DISCARD_DESTINATION, C.RESTORE_SOURCE, C.RESUME_SOURCE, C.RECLAIM}


def test_the_stall_detector_watches_once_it_runs() -> None:
    assert walk(TO_POSTCOPY)[0].deadline_ns is not None
    assert walk(RUNS)[0].deadline_ns is None


@pytest.mark.parametrize("no", [S.CLAIM_REFUSED, S.CLAIM_UNKNOWN])
def test_a_veto_comes_too_late(no: Signal) -> None:
    state, sent = walk((*TO_POSTCOPY, no))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.HELD)
    assert not NEVER & set(sent)


@pytest.mark.parametrize("before", [TO_POSTCOPY, RUNS, TO_RECOVERING])
@pytest.mark.parametrize("ended", [(S.SOURCE_ENDED, S.VERDICT_LOST), (S.DESTINATION_ENDED,), (S.DESTINATION_FAILED,)])
def test_with_either_process_the_guest_is_lost(before: tuple[Signal, ...], ended: tuple[Signal, ...]) -> None:
    """A source that ended may have sent everything, though: both are asked first."""
    state, sent = walk((*before, *ended))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.LOST)
    assert not NEVER & set(sent)


def test_a_source_that_has_sent_everything_may_end() -> None:
    state, _ = walk((*RUNS, S.SOURCE_COMPLETED, S.SOURCE_ENDED, S.DESTINATION_COMPLETED, S.RELEASE_SOURCE_DONE))
    assert (state.phase, state.guest) == (P.COMPLETED, Guest.RUNNING)


def test_a_guest_that_stood_paused_stays_so() -> None:
    state, sent = walk((*TO_POSTCOPY, S.CLAIM_DONE), knowing(F.PAUSED_BEFORE))
    assert C.RESUME_DESTINATION not in sent
    state, _ = walk((S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED, S.RELEASE_SOURCE_DONE), state)
    assert (state.phase, state.guest) == (P.COMPLETED, Guest.PAUSED)


@pytest.mark.parametrize("broken", [S.SOURCE_POSTCOPY_PAUSED, S.DESTINATION_POSTCOPY_PAUSED, S.STALLED])
def test_a_broken_link_is_given_up_by_both_and_made_anew(broken: Signal) -> None:
    state, sent = walk((*RUNS, broken, S.PAUSE_POSTCOPY_REFUSED, S.LISTEN_AGAIN_DONE, S.SEND_AGAIN_DONE))
    assert sent[-3:] == [C.PAUSE_POSTCOPY, C.LISTEN_AGAIN, C.SEND_AGAIN]
    assert walk((S.SOURCE_POSTCOPY,), state)[0].phase is P.RECOVERING, "the destination may have said paused since"
    for order in ((S.SOURCE_POSTCOPY, S.DESTINATION_POSTCOPY), (S.DESTINATION_POSTCOPY, S.SOURCE_POSTCOPY)):
        mended, more = walk(order, state)
        assert (mended.phase, mended.deadline_ns, more) == (P.POSTCOPY, None, [])


def test_a_link_that_broke_before_the_guest_was_claimed() -> None:
    """It is claimed once both are back; a claim that is answered meanwhile is taken up at once."""
    early, _ = walk((*TO_PRECOPY, S.POSTCOPY_CHOSEN, S.SOURCE_POSTCOPY, S.SOURCE_POSTCOPY_PAUSED))
    _, sent = walk((S.SOURCE_POSTCOPY, S.DESTINATION_POSTCOPY, S.CLAIM_DONE), early)
    assert sent == [C.CLAIM, C.RESUME_DESTINATION]
    claimed, _ = walk((*TO_POSTCOPY, S.SOURCE_POSTCOPY_PAUSED))
    assert walk((S.CLAIM_DONE,), claimed)[1] == [C.RESUME_DESTINATION]
    assert walk((S.CLAIM_REFUSED,), claimed)[0].guest is Guest.HELD


@pytest.mark.parametrize("word", [S.SOURCE_FAILED, S.SOURCE_RUNNING, S.SOURCE_CANCELLED])
def test_a_source_that_could_not_send_runs_again_by_itself(word: Signal) -> None:
    """7.2 says postcopy-active before the package is sent."""
    said = (*TO_PRECOPY, S.POSTCOPY_CHOSEN, S.SOURCE_POSTCOPY)
    state, sent = walk((*said, word))
    assert (state.phase, state.owner, sent[-1]) == (P.CANCELLING, Owner.SOURCE, C.DISCARD_DESTINATION)
    assert F.POSTCOPY not in state.facts
    assert walk((*said, S.DESTINATION_ENDED))[1][-1] is C.INSPECT_BOTH
    assert walk((word,), walk(TO_POSTCOPY)[0]) == (walk(TO_POSTCOPY)[0], []), "behind a destination that has it: old"


def test_what_went_as_precopy_after_all_can_be_given_back() -> None:
    """Every version says postcopy-active before completed; where words were missed nobody can tell."""
    asked = (*TO_PRECOPY, S.POSTCOPY_CHOSEN, S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE, S.SOURCE_DEVICE)
    _, sent = walk((*asked, S.DESTINATION_ENDED, S.SOURCE_COMPLETED, S.DISCARD_DESTINATION_DONE))
    assert sent[-1] is C.RESUME_SOURCE
    missed = (S.SOURCE_LOST, S.VERDICT_GOES_ON, S.DESTINATION_ENDED, S.SOURCE_COMPLETED)
    state, sent = walk((*asked, *missed))
    assert (state.guest, C.RESUME_SOURCE in sent) == (Guest.HELD, False)


def test_a_handover_to_postcopy_is_never_broken() -> None:
    """The destination may have the guest already."""
    asked = (*TO_PRECOPY, S.POSTCOPY_CHOSEN, S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE)
    assert walk((*asked, S.DEADLINE))[1][-1] is C.INSPECT_BOTH


@pytest.mark.parametrize(
    "no", [S.LISTEN_AGAIN_REFUSED, S.LISTEN_AGAIN_UNKNOWN, S.SEND_AGAIN_REFUSED, S.SEND_AGAIN_UNKNOWN]
)
def test_what_could_not_be_mended_is_tried_again_from_the_start(no: Signal) -> None:
    state, _ = walk((*TO_RECOVERING, S.PAUSE_POSTCOPY_DONE, no))
    assert walk((S.DEADLINE,), state)[1] == [C.PAUSE_POSTCOPY]


def test_mending_can_be_given_up_and_nobody_is_ended_for_it() -> None:
    state, sent = walk((*TO_RECOVERING, S.CANCEL))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.UNCONFIRMED)
    assert not NEVER & set(sent)


def test_words_that_come_while_it_is_mended_count() -> None:
    state, sent = walk((*TO_RECOVERING, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED))
    assert (state.phase, sent[-1]) == (P.RELEASING, C.RELEASE_SOURCE)
    state, _ = walk((*TO_RECOVERING, S.SOURCE_COMPLETED))
    assert state.phase is P.POSTCOPY


def test_a_cont_in_doubt_is_sent_once_more_and_then_left_to_a_person() -> None:
    doubt = (*TO_POSTCOPY, S.CLAIM_DONE, S.DESTINATION_LOST, S.VERDICT_POSTCOPY)
    state, sent = walk(doubt)
    assert (state.phase, sent.count(C.RESUME_DESTINATION)) == (P.POSTCOPY, 2)
    state, sent = walk((S.DEADLINE, S.VERDICT_POSTCOPY, S.DEADLINE, S.VERDICT_POSTCOPY), state)
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.UNCONFIRMED)
    assert not NEVER & set(sent)


def test_one_that_somebody_else_began_is_followed() -> None:
    state, sent = walk((*TO_PRECOPY, S.SOURCE_POSTCOPY))
    assert (state.phase, state.owner, F.POSTCOPY in state.facts) == (P.POSTCOPY, Owner.DESTINATION, True)
    assert walk((S.DESTINATION_POSTCOPY,), state)[1] == [C.CLAIM]
    assert not NEVER & set(sent)


@pytest.mark.parametrize("before", [TO_POSTCOPY, RUNS, TO_RECOVERING])
def test_a_new_manager_asks_first(before: tuple[Signal, ...]) -> None:
    assert walk((*before, S.ADOPTED))[1][-1] is C.INSPECT_BOTH
