"""How many distinct pages a workload dirties in a window of time: exactly, in closed form.

This is the curve f(tau) of the guest, the truth against which measurements and predictions are judged. The
guest spreads its writes evenly, so a window holds a known number of draws x (with a fraction: that many more
windows out of all see one draw more). With p the probability that one draw hits a page, an independent choice
leaves it clean with probability ``(1 - p) ** x``; a sweep dirties ``min(x, pages)``.

With phases, a window of given length holds more or fewer draws depending on where it begins. The mean over
all beginnings is the integral of these laws over draws, which is closed, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .popularity import Step, probabilities, stride_for

__all__ = ["Draws", "Independent", "Law", "Phases", "Range", "Sweep", "mean_over_phases", "share_of_range"]


class Law(Protocol):
    """Expected number of distinct pages as a function of the number of draws."""

    def at(self, draws: float) -> float:
        """Pages after so many draws; between two whole numbers the mean of both, weighted."""
        ...

    def integral(self, draws: float) -> float:
        """Integral of :meth:`at` from 0 to ``draws``."""
        ...


@dataclass(frozen=True, slots=True)
class Independent:
    """Draws that do not depend on each other.

    Attributes:
        groups: (number of pages, probability that a draw hits a given one of them).
    """

    groups: Sequence[tuple[int, float]]

    @classmethod
    def of_steps(cls, steps: tuple[Step, ...]) -> Independent:
        """The law of a class with this popularity."""
        return cls(tuple(probabilities(steps)))

    def at(self, draws: float) -> float:
        """Sum of ``1 - (1 - p) ** draws`` over the pages."""
        whole, part = int(draws), draws - int(draws)
        return math.fsum(n * (1 - (1 - p) ** whole * (1 - part * p)) for n, p in self.groups)

    def integral(self, draws: float) -> float:
        """Trapezoids between whole draws, summed as a geometric series."""
        whole, part = int(draws), draws - int(draws)
        total = 0.0
        for n, p in self.groups:
            if p == 0:
                continue
            clean = (1 - p) ** whole
            area = (1 - clean) / p * (1 - p / 2) + clean * (part - part * part * p / 2)
            total += n * (draws - area)
        return total


@dataclass(frozen=True, slots=True)
class Sweep:
    """One page after the other, round and round.

    Attributes:
        pages: of the class.
    """

    pages: int

    def at(self, draws: float) -> float:
        """Each draw is a new page until all are."""
        return min(draws, self.pages)

    def integral(self, draws: float) -> float:
        """A parabola, then a straight line."""
        ramp = min(draws, self.pages)
        return ramp * ramp / 2 + self.pages * (draws - ramp)


@dataclass(frozen=True, slots=True)
class Range:
    """Whether a sweep that began anywhere has touched a range of its pages: 0 to 1.

    Attributes:
        pages: of the class.
        part: of them, side by side, in the range.
    """

    pages: int
    part: int

    def at(self, draws: float) -> float:
        """``draws + part - 1`` of all beginnings lead into the range, from the first draw on."""
        if draws < 1:
            return draws * self.part / self.pages
        return min(1.0, (draws + self.part - 1) / self.pages)

    def integral(self, draws: float) -> float:
        """Straight pieces: trapezoids."""
        corners = [0.0, 1.0, float(self.pages - self.part + 1)]
        points = [*(corner for corner in corners if corner < draws), draws]
        return math.fsum((self.at(a) + self.at(b)) / 2 * (b - a) for a, b in itertools.pairwise(points))


@dataclass(frozen=True, slots=True)
class Phases:
    """When a class is on; seconds.

    Attributes:
        period_s: 0 if it is always on.
        on_s: from the beginning of each period.
        shift_s: how far into its first period it began.
    """

    period_s: float = 0.0
    on_s: float = 0.0
    shift_s: float = 0.0

    def _on_before(self, time_s: float) -> float:
        periods, rest = divmod(time_s, self.period_s)
        return periods * self.on_s + min(rest, self.on_s)

    def on_in(self, start_s: float, tau_s: float) -> float:
        """Seconds for which the class is on in a window that starts ``start_s`` after the writing began."""
        if not self.period_s:
            return tau_s
        begin_s = start_s + self.shift_s
        return self._on_before(begin_s + tau_s) - self._on_before(begin_s)

    def breaks(self, tau_s: float) -> list[float]:
        """Starts between which :meth:`on_in` is linear in the start, over one period."""
        period = self.period_s
        corners = (0.0, self.on_s, -tau_s % period, (self.on_s - tau_s) % period)
        return [*sorted(corners), period]


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of a class in a window.

    Attributes:
        per_s: draws per second while on.
        phases: when it is on.
    """

    per_s: float
    phases: Phases

    def expected(self, law: Law, tau_s: float, start_s: float | None = None) -> float:
        """What the law gives for a window of ``tau_s`` from ``start_s`` on, or averaged over all starts."""
        if tau_s <= 0 or self.per_s <= 0:
            return 0.0
        if start_s is not None or not self.phases.period_s:
            return law.at(self.per_s * self.phases.on_in(start_s or 0.0, tau_s))
        return mean_over_phases(law, self, tau_s)


def mean_over_phases(law: Law, draws: Draws, tau_s: float) -> float:
    """The mean of the law over all starts of a window within a period, all alike probable."""
    phases = Phases(draws.phases.period_s, draws.phases.on_s)
    total = 0.0
    for begin_s, end_s in itertools.pairwise(phases.breaks(tau_s)):
        if end_s <= begin_s:
            continue
        low, high = sorted(draws.per_s * phases.on_in(start_s, tau_s) for start_s in (begin_s, end_s))
        if high - low > 1e-6 * (1 + high):  # else the quotient would be rounding noise
            mean = (law.integral(high) - law.integral(low)) / (high - low)
        else:
            mean = law.at((low + high) / 2)
        total += mean * (end_s - begin_s)
    return total / phases.period_s


def _floor_sum(count: int, modulus: int, factor: int, offset: int) -> int:
    """Sum of ``(factor * i + offset) // modulus`` for i below ``count``, in O(log): Euclid's way."""
    total = 0
    while True:
        total += (count - 1) * count // 2 * (factor // modulus) + count * (offset // modulus)
        factor, offset = factor % modulus, offset % modulus
        top = factor * count + offset
        if top < modulus:
            return total
        count, offset = divmod(top, modulus)
        modulus, factor = factor, modulus


def _scattered_below(ranks: int, pages: int, stride: int, bound: int) -> int:
    """How many of the first ``ranks`` ranks lie on a page below ``bound``."""
    if bound >= pages:
        return ranks
    shifted = _floor_sum(ranks, pages, stride, pages - bound)
    return _floor_sum(ranks, pages, stride, pages) - shifted


def share_of_range(steps: tuple[Step, ...], pages: int, begin: int, end: int) -> float:
    """Probability that one draw of a class goes to one of its pages [begin, end)."""
    if len(steps) == 1:
        return (end - begin) / pages
    stride = stride_for(pages)
    share, rank = 0.0, 0
    for count, probability in probabilities(steps):
        inside = [
            _scattered_below(ranks, pages, stride, end) - _scattered_below(ranks, pages, stride, begin)
            for ranks in (rank, rank + count)
        ]
        share += (inside[1] - inside[0]) * probability
        rank += count
    return min(share, 1.0)
