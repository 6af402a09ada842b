"""What the guest's heartbeats tell about a move: the outage as the guest and its users saw it.

Pure functions over beats that were stamped by one clock, the host's monotonic one, as they arrived.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .protocol import Heartbeat

__all__ = ["STALL_S", "Beat", "Continuity", "Timeline", "continuity", "gaps_s", "summarise"]

#: Gaps above this count as stalls, seconds: six periods at 200 beats a second, so that scheduling noise does not.
STALL_S: Final = 0.03


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat as it arrived.

    Attributes:
        side: ``"source"`` or ``"destination"``.
        received_ns: the host's monotonic clock.
        heartbeat: what the guest said.
    """

    side: str
    received_ns: int
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Continuity:
    """Whether the sequence of beats is whole.

    Attributes:
        went_back: beats whose sequence, clock or write counter is not above (for writes: below) the one before.
        skipped: beats that never arrived. A switchover that cuts a line in two, one half for each side, costs one.
    """

    went_back: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Summary of a stretch of beats; times in seconds of the host's clock.

    Attributes:
        beats: how many.
        switchover_gap_s: last beat of the source to the first of the destination; None if it did not switch.
        largest_gap_s: between any two beats.
        stalls_s: sum of all gaps above :data:`STALL_S`.
        continuity: of the sequence.
        writes: page writes from the first beat to the last.
        dropped: page writes given up in the same time.
        bad: findings of the guest's own checks up to the last beat.
    """

    beats: int
    switchover_gap_s: float | None
    largest_gap_s: float
    stalls_s: float
    continuity: Continuity
    writes: int
    dropped: int
    bad: int

    @property
    def work(self) -> float:
        """Part of the wanted writes that was done, 0 to 1 (1 if none was wanted)."""
        wanted = self.writes + self.dropped
        return self.writes / wanted if wanted else 1.0


def gaps_s(beats: Sequence[Beat]) -> list[float]:
    """Seconds between each beat and the next."""
    return [(after.received_ns - before.received_ns) / 1e9 for before, after in itertools.pairwise(beats)]


def continuity(beats: Sequence[Beat]) -> Continuity:
    """Judges the sequence of beats, which must be in the order of arrival."""
    went_back = skipped = 0
    for before, after in itertools.pairwise(beat.heartbeat for beat in beats):
        if after.sequence <= before.sequence or after.guest_us <= before.guest_us or after.writes < before.writes:
            went_back += 1
        skipped += max(0, after.sequence - before.sequence - 1)
    return Continuity(went_back, skipped)


def summarise(beats: Sequence[Beat]) -> Timeline:
    """Summarises beats that are in the order of arrival.

    Raises:
        ValueError: there are none.
    """
    if not beats:
        raise ValueError("no heartbeat to summarise")
    gaps = gaps_s(beats)
    switches = [
        gap
        for gap, (before, after) in zip(gaps, itertools.pairwise(beats), strict=True)
        if before.side == "source" and after.side == "destination"
    ]
    first, last = beats[0].heartbeat, beats[-1].heartbeat
    return Timeline(
        beats=len(beats),
        switchover_gap_s=switches[-1] if switches else None,
        largest_gap_s=max(gaps, default=0.0),
        stalls_s=sum(gap for gap in gaps if gap > STALL_S),
        continuity=continuity(beats),
        writes=last.writes - first.writes,
        dropped=last.dropped - first.dropped,
        bad=last.bad,
    )
