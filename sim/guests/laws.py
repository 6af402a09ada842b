"""How many distinct pages follow from so many draws: the laws behind every curve f(tau).

A *draw* is one page write of a writer. A law says how many distinct pages ``draws`` of them hit in expectation;
what time has to do with it stands in `whimbrel.sim.guests.streams`. A measured curve and a recorded trace are laws,
too: their "draws" are seconds of the guest's own time.

Every law is that of a stationary process, so that for windows side by side the pages hit in both number
``at(a) + at(b) - at(a + b)``: `whimbrel.sim.memory.expected` rests on this.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from whimbrel.engine.curve import DirtyCurve
from whimbrel.sim.memory.contract import PAGE_BYTES


class Counted(Protocol):
    """Expected distinct pages as a function of the draws: what the mean over windows of any length rests on."""

    def at(self, draws: float) -> float:
        """Distinct pages that a window with so many draws (0 or more) hits."""
        ...

    def integral(self, draws: float) -> float:
        """Integral of `at` from 0 to ``draws``."""
        ...


class Law(Counted, Protocol):
    """The law of a writer's pages: it also says how the count goes on."""

    @property
    def most(self) -> float:
        """Pages after ever so many draws."""
        ...

    def slope(self, draws: float) -> float:
        """Derivative of `at`: the part of a further draw that hits a page that the window has not hit yet."""
        ...


class Independent:
    """Draws that do not depend on each other, evenly spread in time.

    Evenly spread draws are a known number in each window; with a fraction, so many more windows out of all see one
    more. A page that is hit with probability p is left clean by k draws with probability ``(1 - p) ** k``.

    Args:
        groups: (pages, probability that a draw hits a given one of them); the probabilities of all pages sum to 1.
    """

    def __init__(self, groups: Iterable[tuple[int, float]]) -> None:
        self._groups = tuple((float(pages), p) for pages, p in groups)
        self.most = math.fsum(pages for pages, p in self._groups if p > 0)

    def at(self, draws: float) -> float:
        """See `Law`."""
        whole = int(draws)
        part = draws - whole
        total = 0.0
        for pages, p in self._groups:
            total += pages * (1.0 - (1.0 - p) ** whole * (1.0 - part * p))
        return total

    def integral(self, draws: float) -> float:
        """See `Law`: trapezoids between whole draws, summed as a geometric series."""
        whole = int(draws)
        part = draws - whole
        total = 0.0
        for pages, p in self._groups:
            if p > 0:
                clean = (1.0 - p) ** whole
                area = (1.0 - clean) / p * (1.0 - p / 2) + clean * (part - part * part * p / 2)
                total += pages * (draws - area)
        return total

    def slope(self, draws: float) -> float:
        """See `Law`."""
        whole = int(draws)
        total = 0.0
        for pages, p in self._groups:
            total += pages * p * (1.0 - p) ** whole
        return total


class Scattered:
    """Independent draws at random times: a Poisson process for each page.

    Args:
        groups: as for `Independent`.
    """

    def __init__(self, groups: Iterable[tuple[int, float]]) -> None:
        self._groups = tuple((float(pages), p) for pages, p in groups if p > 0)
        self.most = math.fsum(pages for pages, _ in self._groups)

    def at(self, draws: float) -> float:
        """See `Law`: ``1 - exp(-p draws)`` of each page."""
        return -sum(pages * math.expm1(-p * draws) for pages, p in self._groups)

    def integral(self, draws: float) -> float:
        """See `Law`."""
        return math.fsum(pages * (draws + math.expm1(-p * draws) / p) for pages, p in self._groups)

    def slope(self, draws: float) -> float:
        """See `Law`."""
        return sum(pages * p * math.exp(-p * draws) for pages, p in self._groups)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One page after the other, round and round.

    Attributes:
        pages: that it goes round.
    """

    pages: int

    @property
    def most(self) -> float:
        """See `Law`."""
        return float(self.pages)

    def at(self, draws: float) -> float:
        """See `Law`: each draw is a new page until all are."""
        return min(draws, float(self.pages))

    def integral(self, draws: float) -> float:
        """See `Law`: a parabola, then a straight line."""
        ramp = min(draws, float(self.pages))
        return ramp * ramp / 2 + self.pages * (draws - ramp)

    def slope(self, draws: float) -> float:
        """See `Law`."""
        return 1.0 if draws < self.pages else 0.0


class Measured:
    """A measured curve, by the rules of `whimbrel.engine.curve`; its draws are seconds.

    Args:
        curve: made of straight pieces between its knots, as `whimbrel.engine.curve.Curve` is.
    """

    def __init__(self, curve: DirtyCurve) -> None:
        self.knots = tuple((window_s, curve.at(window_s) / PAGE_BYTES) for window_s in curve.knots_s)
        self.most = curve.most_bytes / PAGE_BYTES
        self._windows = [window for window, _ in self.knots]
        self._slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(self.knots)] + [0.0]
        areas = ((a[1] + b[1]) / 2 * (b[0] - a[0]) for a, b in itertools.pairwise(self.knots))
        self._areas = list(itertools.accumulate(areas, initial=0.0))

    def at(self, draws: float) -> float:
        """See `Law`."""
        if draws <= 0:
            return 0.0  # whatever the offset that was measured: nothing is dirtied in no time
        i = bisect_right(self._windows, draws) - 1
        window, pages = self.knots[i]
        return pages + self._slopes[i] * (draws - window)

    def integral(self, draws: float) -> float:
        """See `Law`."""
        i = bisect_right(self._windows, draws) - 1
        window, pages = self.knots[i]
        step = draws - window
        return self._areas[i] + step * (pages + self._slopes[i] * step / 2)

    def slope(self, draws: float) -> float:
        """See `Law`."""
        return self._slopes[bisect_right(self._windows, draws) - 1]

    def sweeps(self) -> list[tuple[float, float]]:
        """The same curve as sweeps side by side: (pages, seconds for one round of them).

        A page that is written every T seconds adds ``min(tau / T, 1)`` to the curve. So a concave curve with knots
        ``T_k`` is exactly that of groups with one period each: as many pages as ``T_k`` times the slope that is lost
        at the knot. Of a curve that is not concave (noise of its measurement) the least concave one above it is meant,
        from the origin.
        """
        hull = [(0.0, 0.0)]
        for point in self.knots[1:]:
            while len(hull) > 1 and _rises(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(hull)] + [0.0]
        return [
            (window * (before - after), window)
            for (window, _), (before, after) in zip(hull[1:], itertools.pairwise(slopes), strict=True)
            if before > after
        ]


def _rises(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


class Recurring:
    """Writes that come again and again after ``period`` seconds: a recorded trace, replayed in a loop.

    A window that begins at any moment of the loop misses a page exactly if it lies in a gap between two of the page's
    writes: that happens for ``max(0, gap - tau)`` of the beginnings. So the mean over all beginnings is
    ``pages - sum(max(0, gap - tau)) / period``.

    Args:
        gaps: seconds from each write of a page to the next of the same page, round the loop, of all pages.
        pages: that are written at all.
        period: seconds of the loop, above 0.
    """

    def __init__(self, gaps: Iterable[float], pages: int, period: float) -> None:
        self._gaps = sorted(gaps)
        self._period = period
        # Sums over the gaps from each one on, and over their squares: for at() and its integral.
        backwards = list(itertools.accumulate(reversed(self._gaps), initial=0.0))
        squares = list(itertools.accumulate((gap * gap for gap in reversed(self._gaps)), initial=0.0))
        self._sums, self._squares = backwards[::-1], squares[::-1]
        self.most = float(pages)

    def at(self, draws: float) -> float:
        """See `Law`."""
        i = bisect_right(self._gaps, draws)
        return self.most - (self._sums[i] - (len(self._gaps) - i) * draws) / self._period

    def integral(self, draws: float) -> float:
        """See `Law`: a gap leaves out ``(gap² - max(0, gap - draws)²) / 2``."""
        i = bisect_right(self._gaps, draws)
        more = len(self._gaps) - i
        beyond = self._squares[i] - 2 * draws * self._sums[i] + more * draws * draws
        return self.most * draws - (self._squares[0] - beyond) / 2 / self._period

    def slope(self, draws: float) -> float:
        """See `Law`."""
        return (len(self._gaps) - bisect_right(self._gaps, draws)) / self._period
