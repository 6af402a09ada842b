"""What the heartbeats tell of a move."""

from __future__ import annotations

import pytest

from whimbrel.guest.protocol import Heartbeat
from whimbrel.guest.timeline import Beat, Continuity, continuity, gaps_s, summarise


def beat(side: str, at_ms: float, sequence: int, *, writes: int = 0, guest_us: int | None = None) -> Beat:
    """A beat; its guest clock follows its sequence unless given."""
    guest_us = sequence * 5000 if guest_us is None else guest_us
    return Beat(side, round(at_ms * 1e6), Heartbeat(sequence, guest_us, writes, 0, writes // 4, 0, 0))


MOVE = [
    beat("source", 0, 1),
    beat("source", 5, 2, writes=40),
    beat("source", 45, 3, writes=80),
    beat("destination", 75, 4, writes=90),
    beat("destination", 80, 5, writes=100),
]


def test_a_move_is_summarised() -> None:
    """The switchover's gap, the largest, the sum of those above 30 ms, and the work done."""
    timeline = summarise(MOVE)
    assert timeline.beats == 5
    assert timeline.switchover_gap_s == pytest.approx(0.030)
    assert timeline.largest_gap_s == pytest.approx(0.040)
    assert timeline.stalls_s == pytest.approx(0.040)
    assert timeline.continuity == Continuity(went_back=0, skipped=0)
    assert (timeline.writes, timeline.dropped) == (100, 25)
    assert timeline.work == pytest.approx(0.8)


def test_without_a_switch_there_is_no_switchover_gap() -> None:
    """One side alone; and an idle guest did all of its work."""
    timeline = summarise([beat("source", 0, 1), beat("source", 5, 2)])
    assert timeline.switchover_gap_s is None
    assert timeline.work == 1.0


def test_a_single_beat_has_no_gaps() -> None:
    """Nothing to measure, nothing to fail on."""
    assert gaps_s(MOVE[:1]) == []
    assert summarise(MOVE[:1]).largest_gap_s == 0


def test_no_beat_is_an_error() -> None:
    """An empty summary would look like a perfect one."""
    with pytest.raises(ValueError, match="no heartbeat"):
        summarise([])


def test_a_guest_that_went_back_in_time_is_seen() -> None:
    """Sequence, clock or writes: whichever falls behind."""
    base = beat("source", 0, 10, writes=50)
    assert continuity([base, beat("destination", 5, 9, writes=60, guest_us=60000)]).went_back == 1
    assert continuity([base, beat("destination", 5, 11, writes=60, guest_us=49999)]).went_back == 1
    assert continuity([base, beat("destination", 5, 11, writes=49)]).went_back == 1
    assert continuity([base, beat("destination", 5, 11, writes=50)]) == Continuity(0, 0)


def test_lost_beats_are_counted() -> None:
    """From 10 to 13, two are missing."""
    assert continuity([beat("source", 0, 10), beat("destination", 15, 13)]).skipped == 2
