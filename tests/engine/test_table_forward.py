"""Stages 1 to 3: what is asked before the guest may leave, and every way to call it off."""

from __future__ import annotations

import pytest

from tests.support.walking import TO_PRECOPY, TO_PREPARING, TO_SWITCHOVER, knowing, walk
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal

TO_MIRRORING = (*TO_PREPARING, S.PREPARE_DONE, S.ARM_DONE)


def test_disks_are_copied_before_ram_and_drained_in_the_window() -> None:
    state, sent = walk(TO_MIRRORING, knowing(F.COPIES_DISKS))
    assert (state.phase, sent[-1], state.deadline_ns) == (P.MIRRORING, C.MIRROR, None)
    state, sent = walk((S.MIRROR_DONE, *TO_SWITCHOVER[4:], S.QUIESCE_DONE), state)
    assert sent == [C.MIGRATE, C.QUIESCE, C.DRAIN]
    assert (state.phase, state.owner) == (P.SWITCHOVER, Owner.SOURCE)
    state, sent = walk((S.DRAIN_DONE,), state)
    assert (sent, state.owner) == ([C.CONTINUE], Owner.LIMBO)


@pytest.mark.parametrize(
    "bad",
    [S.MIRROR_REFUSED, S.MIRROR_UNKNOWN, S.DISK_COPY_FAILED, S.STALLED, S.SOURCE_LOST, S.DESTINATION_ENDED, S.CANCEL],
)
def test_a_copy_that_fails_backs_out_before_anything_was_migrated(bad: Signal) -> None:
    state, sent = walk((*TO_MIRRORING, bad), knowing(F.COPIES_DISKS))
    assert (state.phase, sent[-1]) == (P.CANCELLING, C.DISCARD_DESTINATION)
    assert C.CANCEL_MIGRATION not in sent


@pytest.mark.parametrize("bad", [S.DRAIN_REFUSED, S.DRAIN_UNKNOWN, S.DISK_COPY_FAILED])
def test_disks_that_are_not_in_step_call_it_off(bad: Signal) -> None:
    state, _ = walk((*TO_MIRRORING, S.MIRROR_DONE, *TO_SWITCHOVER[4:], S.QUIESCE_DONE), knowing(F.COPIES_DISKS))
    state, sent = walk((bad,), state)
    assert (state.phase, state.owner, sent) == (P.CANCELLING, Owner.SOURCE, [C.CANCEL_MIGRATION])


@pytest.mark.parametrize("before", [TO_PREPARING, TO_PRECOPY])
def test_a_guest_that_its_owner_stops_meanwhile_stays_stopped(before: tuple[Signal, ...]) -> None:
    state, _ = walk((*before, S.SOURCE_STOPPED, S.SOURCE_PAUSED))
    assert F.PAUSED_BEFORE in state.facts
    assert F.PAUSED_BEFORE not in walk((S.SOURCE_RUNNING,), state)[0].facts, "and one that is resumed again runs"
    rest = (*TO_SWITCHOVER[len(before) :], S.QUIESCE_DONE, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.CLAIM_DONE)
    state, sent = walk((*rest, S.RELEASE_SOURCE_DONE), state)
    assert C.RESUME_DESTINATION not in sent
    assert (state.phase, state.guest) == (P.COMPLETED, Guest.PAUSED)


def test_a_guest_that_powers_itself_off_is_not_lost() -> None:
    state, _ = walk((*TO_PRECOPY, S.SOURCE_SHUT_DOWN, S.SOURCE_ENDED, S.DISCARD_DESTINATION_DONE))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.SHUT_DOWN)


def test_postcopy_is_asked_for_once_and_a_refusal_changes_nothing() -> None:
    asked, sent = walk((*TO_PRECOPY, S.POSTCOPY_CHOSEN, S.POSTCOPY_CHOSEN))
    assert sent.count(C.START_POSTCOPY) == 1
    refused, _ = walk((S.START_POSTCOPY_REFUSED,), asked)
    assert refused == walk(TO_PRECOPY)[0], "no deadline is left running either"
    assert walk((S.START_POSTCOPY_UNKNOWN,), asked)[1] == [C.INSPECT_BOTH]


@pytest.mark.parametrize("before", [(S.START,), TO_PREPARING, TO_MIRRORING[:-1]])
def test_a_new_manager_ends_a_preparation(before: tuple[Signal, ...]) -> None:
    state, sent = walk((*before, S.ADOPTED))
    assert (state.phase, sent[-1]) == (P.CANCELLING, C.DISCARD_DESTINATION)


@pytest.mark.parametrize("before", [TO_PRECOPY, TO_SWITCHOVER])
def test_a_new_manager_asks_and_carries_a_transfer_on(before: tuple[Signal, ...]) -> None:
    state, sent = walk((*before, S.ADOPTED))
    assert sent[-1] is C.INSPECT_BOTH
    state, sent = walk((S.VERDICT_GOES_ON, S.SOURCE_PRE_SWITCHOVER), state)
    assert (state.phase, sent) == (P.SWITCHOVER, [C.QUIESCE])
