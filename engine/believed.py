"""The dirty curve that a plan believes in: through the measured points, and as likely as they make it elsewhere.

What was measured are a few windows, the shortest of them often longer than the last iterations of a migration, and
what these find is what decides. There the curve is that of up to three classes of pages, each written at random at a
rate of its own: a sum of ``W (1 - exp(-tau / T))``, a hot set and the rest. Which times T it has is left open as far as
the points leave it open: every choice out of a grid weighs as much as the points are likely under it, with the sizes W
that fit best, and each draw takes one. Two points that differ by little say that what is hot was all dirtied long
before the first of them, and not when; the draws then reach from one end to the other of what is possible. Within the
measured windows the curve goes through the points, as they are drawn.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, combinations, pairwise

from .belief import CurvePoint
from .curve import PAGE_BYTES, Curve
from .errors import BadInput
from .estimate import NORMAL

COMMON = 0.8
"""Of the variance of the points' errors, what they have in common: the same pages are looked at for every window."""
NOISE = 0.03
"""How far a point is off besides its own error, as a part of it: no two windows of a guest are alike. It counts when a
curve is fitted and when one is drawn."""
LIKELY = {1: 0.4, 2: 0.3, 3: 0.3}
"""How likely so many classes of pages are before anything was measured."""
_TIMES = 12
"""T that are tried: from `_FASTEST` of the shortest window to `_SLOWEST` of the longest, evenly as logarithms."""
_FASTEST, _SLOWEST = 0.02, 30.0
_LEAST_S, _MOST_S, _PER_DECADE = 1e-3, 1e3, 12
"""The windows of a drawn curve: between two of them a straight line is within 0.3 % of any curve of the family."""
_WINDOWS_S = tuple(
    _LEAST_S * 10 ** (place / _PER_DECADE) for place in range(round(_PER_DECADE * math.log10(_MOST_S / _LEAST_S)) + 1)
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """One pair of times, fitted.

    Attributes:
        classes: (bytes, T in seconds) of each class.
        at_points: the fit at each measured window, above 0.
        whole: the fit at each of the windows of a drawn curve.
    """

    classes: tuple[tuple[float, float], ...]
    at_points: tuple[float, ...]
    whole: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Believed:
    """All the curves that measured points allow.

    Attributes:
        points: measured, windows rising.
        shapes: the likely ones, those with the least in a short window first.
        reach: up to which part of 1 each of them is drawn; rising, the last is 1.
    """

    points: tuple[CurvePoint, ...]
    shapes: tuple[_Shape, ...]
    reach: tuple[float, ...]

    def drawn(self, level: float, tilt: float, bend: float, *, total_bytes: float, zero_bytes: float) -> Curve:
        """One of them.

        Args:
            level, tilt: draws of a normal distribution: of what all points are off by, and of what the shortest and
                the longest are off by besides, one up and the other down; those in between in proportion, by the
                logarithms of their windows.
            bend: another one: which shape it has outside of them.
            total_bytes, zero_bytes: as of a `Curve`; it never rises above what is not zero.
        """
        shape = self.shapes[min(bisect_left(self.reach, NORMAL.cdf(bend)), len(self.shapes) - 1)]
        points = self.points
        common, apart = math.sqrt(COMMON) * level, math.sqrt(1 - COMMON) * tilt
        first, last = math.log(points[0].window_s), math.log(points[-1].window_s)
        most = total_bytes - zero_bytes
        ratios: list[float] = []
        for point, fitted in zip(points, shape.at_points, strict=True):
            place = (math.log(point.window_s) - first) / (last - first) if last > first else 0.5
            off = common + apart * (1 - 2 * place)
            error = math.hypot(point.error_bytes, NOISE * point.dirtied_bytes)
            ratios.append(max(0.0, point.dirtied_bytes + error * off) / fitted)
        greatest = 0.0
        drawn: list[tuple[float, float]] = []
        for window_s, fitted, ratio in zip(_WINDOWS_S, shape.whole, _between(points, ratios), strict=True):
            greatest = min(max(greatest, fitted * ratio), most)
            drawn.append((window_s, greatest))
        return Curve(tuple(drawn), total_bytes, zero_bytes)


@lru_cache(maxsize=8)
def believed(points: tuple[CurvePoint, ...]) -> Believed:
    """What measured points allow.

    Raises:
        BadInput: there is no point, or the windows are not above 0 and rising.
    """
    windows_s = [point.window_s for point in points]
    if not windows_s or not 0 < windows_s[0] < math.inf or any(a >= b for a, b in pairwise(windows_s)):
        raise BadInput("points", windows_s, "one window or more, in seconds, above 0 and rising")
    known: list[float] = []
    for point in points:
        known.append(max(point.dirtied_bytes, known[-1] if known else PAGE_BYTES))
    low_s, high_s = _FASTEST * points[0].window_s, _SLOWEST * points[-1].window_s
    step = (high_s / low_s) ** (1 / (_TIMES - 1))
    times_s = [low_s * step**place for place in range(_TIMES)]
    found = [
        (fitted, len(chosen))
        for size in LIKELY
        for chosen in combinations(times_s, size)
        if (fitted := _fit(points, known, chosen)) is not None
    ]
    least = min(off for (_, off), _ in found)
    short_s = points[0].window_s / 8
    weighed = sorted(
        (
            (_at(classes, short_s), math.exp((least - off) / 2) * LIKELY[size] / math.comb(_TIMES, size), classes)
            for (classes, off), size in found
        ),
        key=lambda each: each[0],
    )
    whole = sum(weight for _, weight, _ in weighed)
    shapes = tuple(
        _Shape(
            classes,
            tuple(_at(classes, point.window_s) for point in points),
            tuple(_at(classes, window_s) for window_s in _WINDOWS_S),
        )
        for _, _, classes in weighed
    )
    return Believed(points, shapes, tuple(accumulate(weight / whole for _, weight, _ in weighed)))


def _fit(
    points: Sequence[CurvePoint], known: Sequence[float], times_s: tuple[float, ...]
) -> tuple[tuple[tuple[float, float], ...], float] | None:
    """The sizes of the classes with these times, by least squares.

    Returns:
        (bytes, T) of each, and the sum of squares of how many standard errors the points are off; ``None``: one of them
        has nothing, so that fewer fit as well, or two of them can't be told apart.
    """
    weights = [1.0 / (point.error_bytes**2 + (NOISE * size) ** 2) for point, size in zip(points, known, strict=True)]
    bases = [[-math.expm1(-point.window_s / time_s) for point in points] for time_s in times_s]

    def dot(ones: Sequence[float], others: Sequence[float]) -> float:
        return sum([weight * one * other for weight, one, other in zip(weights, ones, others, strict=True)])

    sizes = _solved([[dot(ones, others) for others in (*bases, known)] for ones in bases])
    if sizes is None:
        return None
    classes = tuple(zip(sizes, times_s, strict=True))
    if min(sizes) <= 0:
        return None
    off = sum(
        weight * (_at(classes, point.window_s) - size) ** 2
        for weight, point, size in zip(weights, points, known, strict=True)
    )
    return classes, off


def _solved(rows: list[list[float]]) -> list[float] | None:
    """Linear equations, the right-hand side last in each row; ``None``: they are as good as dependent."""
    count = len(rows)
    least = [1e-9 * rows[place][place] for place in range(count)]
    for place in range(count):
        if rows[place][place] <= least[place]:
            return None
        for row in rows[:place] + rows[place + 1 :]:
            part = row[place] / rows[place][place]
            for column in range(place, count + 1):
                row[column] -= part * rows[place][column]
    return [rows[place][count] / rows[place][place] for place in range(count)]


def _at(classes: tuple[tuple[float, float], ...], window_s: float) -> float:
    return sum(-size * math.expm1(-window_s / time_s) for size, time_s in classes)


def _between(points: Sequence[CurvePoint], ratios: Sequence[float]) -> list[float]:
    """What the points have, at the windows of a drawn curve: straight between two, as the nearest outside of them."""
    windows_s = [point.window_s for point in points]
    found: list[float] = []
    for window_s in _WINDOWS_S:
        after = bisect_left(windows_s, window_s)
        if after == 0:
            found.append(ratios[0])
        elif after == len(windows_s):
            found.append(ratios[-1])
        else:
            part = (window_s - windows_s[after - 1]) / (windows_s[after] - windows_s[after - 1])
            found.append(ratios[after - 1] + part * (ratios[after] - ratios[after - 1]))
    return found
