"""A dirty curve out of the few points that a running migration gives away.

Each iteration is a window in which the guest dirtied so much, and so a point of f. But these windows are long, and what
matters for a throttle is what a short one holds. A straight line from 0 to the shortest would say far too little, for
curves bend: a page that is written twice counts once. So outside of the measured windows the curve is that of a working
set that is written at random, ``W (1 - exp(-tau / T))``, which fits the points best, the shorter ones above all. One
point alone leaves open how much it bends; then the rate at its beginning is the one that the caller takes for likely,
and each further point outweighs that.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from .statistics import Iteration

NOISE = 0.05
"""How far a point is thought to be off, as a part of it: iterations of one guest differ by about so much."""
DOUBT = 0.7
"""How far the likely rate is thought to be off, as the logarithm of a factor: up to 2 either way is nothing strange."""
ALIKE = 0.1
"""Windows that differ by less than a tenth are one point: noise would tell more between them than the curve does."""
COARSE = 8
_BENDS = [0.05 * 1.12**i for i in range(64)]
"""What is tried for the shortest window, counted in T: from hardly bent to a working set that is long since dirty."""


@dataclass(frozen=True, slots=True)
class LearntCurve:
    """A curve through measured points; see the module's text. It is a `whimbrel.engine.curve.DirtyCurve`.

    Attributes:
        points: (window in seconds of the guest's own time, distinct bytes dirtied in it), at least one, windows above
            0, in any order. Bytes that fall, which noise brings about, are raised to the greatest before them.
        most_bytes: all that can ever be dirty.
        likely_bytes_per_s: at what rate the shortest windows are likely to be dirtied, above 0.
    """

    points: Sequence[tuple[float, float]]
    most_bytes: float
    likely_bytes_per_s: float
    _known: list[tuple[float, float]] = field(init=False, repr=False, compare=False)
    _time_s: float = field(init=False, repr=False, compare=False)
    """T."""
    _below: float = field(init=False, repr=False, compare=False)
    """-W of the curve through the shortest point, bytes."""
    _above: float = field(init=False, repr=False, compare=False)
    """The same of the longest."""

    def __post_init__(self) -> None:
        known = _put_together(self.points)
        time_s = _fitted_time_s(known, self.likely_bytes_per_s)
        (short_s, short), (long_s, long) = known[0], known[-1]
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_time_s", time_s)
        object.__setattr__(self, "_below", short / math.expm1(-short_s / time_s))
        object.__setattr__(self, "_above", long / math.expm1(-long_s / time_s))

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        known = self._known
        if window_s <= known[0][0]:
            bent = self._below * math.expm1(-window_s / self._time_s)
        elif window_s >= known[-1][0]:
            bent = self._above * math.expm1(-window_s / self._time_s)
        else:
            i = bisect_left(known, (window_s, 0.0))
            (low_s, low), (high_s, high) = known[i - 1], known[i]
            return low + (high - low) * (window_s - low_s) / (high_s - low_s)
        most = self.most_bytes
        return bent if bent < most else most

    @property
    def knots_s(self) -> tuple[float, ...]:
        """The points: it is concave between them."""
        return tuple(window_s for window_s, _ in self._known)


def point_of(ended: Sequence[Iteration]) -> tuple[float, float] | None:
    """The point of the curve that the last of these iterations gives, of a guest that nobody slowed.

    What was dirtied among the pages that it left unsent does not show: they are taken to have been dirtied as the
    others were that are ever dirtied, which are no less than the most that was found so far.

    Args:
        ended: all that have, one at least.

    Returns:
        Its length and the bytes dirtied in it; ``None``: it was no time at all, or most was left, so that it tells
        nothing.
    """
    last = ended[-1]
    left, most = last.remaining_at_end_bytes, max(each.dirtied_bytes for each in ended)
    if last.duration_s <= 0 or 2 * left > last.remaining_at_start_bytes:
        return None
    return last.duration_s, last.dirtied_bytes / (1.0 - left / max(most, last.remaining_at_start_bytes, 1))


def _put_together(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Rising windows and bytes; windows that are alike are one."""
    groups: list[list[tuple[float, float]]] = []
    for point in sorted(points):
        if groups and point[0] <= (1 + ALIKE) * groups[-1][0][0]:
            groups[-1].append(point)
        else:
            groups.append([point])
    known: list[tuple[float, float]] = []
    greatest = 1.0  # a byte: a guest that is wholly idle has a curve, too
    for group in groups:
        greatest = max(greatest, sum(dirty for _, dirty in group) / len(group))
        known.append((sum(window_s for window_s, _ in group) / len(group), greatest))
    return known


def _fitted_time_s(known: list[tuple[float, float]], likely_bytes_per_s: float) -> float:
    """T of the curve that fits best: squares of how far points and the likely rate are off, as logarithms."""
    shortest_s = known[0][0]
    logs = [(shortest_s / window_s, window_s / shortest_s, math.log(dirty)) for window_s, dirty in known]
    weights = sum(weight for weight, _, _ in logs)
    likely = math.log(shortest_s * likely_bytes_per_s)

    def off(bends: float) -> float:
        size, squares = 0.0, 0.0
        ratios: list[float] = []
        for weight, windows, dirty in logs:
            ratio = dirty - math.log(-math.expm1(-bends * windows))
            ratios.append(ratio)
            size += weight * ratio
        size /= weights  # log W
        for (weight, _, _), ratio in zip(logs, ratios, strict=True):
            squares += weight * (ratio - size) ** 2
        return squares / NOISE**2 + ((size - likely + math.log(bends)) / DOUBT) ** 2

    # Every eighth first, and then those between the two beside the best.
    best = min(range(0, len(_BENDS), COARSE), key=lambda place: off(_BENDS[place]))
    near = _BENDS[max(0, best - COARSE + 1) : best + COARSE]
    return shortest_s / min(near, key=off)
