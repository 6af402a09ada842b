"""What every driver keeps to."""

from __future__ import annotations

import pytest

from whimbrel.engine.driving import (
    BEFORE_THE_STOP,
    DESTINATION_TELLS,
    HAS_ALL,
    LEAST_POLL_S,
    POLL_S,
    WATCHED,
    holds_the_only_copy,
    poll_pause_s,
)
from whimbrel.engine.resolve import MOVING_STATUSES
from whimbrel.engine.states import ENDS, Fact, Phase


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.PRECOPY}, key=str))
def test_only_a_policy_that_steers_sets_the_cadence(phase: Phase) -> None:
    assert poll_pause_s(phase, 20_000_000) == POLL_S


@pytest.mark.parametrize(("asked_s", "pause_s"), [(0.02, 0.02), (3.0, POLL_S), (0.001, LEAST_POLL_S), (None, POLL_S)])
def test_a_policy_is_not_asked_more_often_than_statistics_are_worth(asked_s: float | None, pause_s: float) -> None:
    """Nor less often than QEMU's windows end."""
    wake_every_ns = None if asked_s is None else round(asked_s * 1e9)
    assert poll_pause_s(Phase.PRECOPY, wake_every_ns) == pause_s


def test_every_phase_in_which_statuses_matter_is_watched() -> None:
    assert DESTINATION_TELLS < WATCHED
    assert WATCHED.isdisjoint(ENDS)
    assert {Phase.PREFLIGHT, Phase.PREPARING, Phase.MIRRORING, Phase.RELEASING}.isdisjoint(WATCHED)


def test_the_destination_has_the_only_copy_once_both_completed_and_the_source_did_not_come_back() -> None:
    assert holds_the_only_copy(HAS_ALL)
    assert holds_the_only_copy(HAS_ALL | {Fact.CONTINUED})
    assert not holds_the_only_copy(frozenset({Fact.SOURCE_COMPLETED}))
    assert not holds_the_only_copy(HAS_ALL | {Fact.SETBACK})
    assert not holds_the_only_copy(HAS_ALL | {Fact.DESTINATION_ENDED})


def test_a_guest_that_stands_before_its_migration_stopped_it_is_in_a_status_that_moves() -> None:

    assert BEFORE_THE_STOP < MOVING_STATUSES
