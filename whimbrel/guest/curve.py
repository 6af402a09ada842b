"""The guest's own part of its curve f(tau): what befalls a *range* of a class's pages.

Distinct pages of a whole class follow from the laws of writers that the simulator has, too
(`whimbrel.sim.guests.laws`), and phases from `whimbrel.sim.guests.streams`. But the guest also keeps accumulators, 8
bytes for each 64 pages, so a page of them is dirty if any of a range of pages was written: exactly, in closed form.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from whimbrel.sim.guests.laws import Counted, Independent
from whimbrel.sim.guests.popularity import stride_for

from .popularity import Step, probabilities

__all__ = ["Range", "range_law", "share_of_range"]


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


def range_law(steps: tuple[Step, ...], pages: int, begin: int, end: int) -> Counted:
    """Whether any of the pages [begin, end) of a class was written, as a function of the writes: 0 to 1.

    Args:
        steps: the popularity of its pages; empty for a sweep.
        pages: of the class.
        begin: the range's first.
        end: the one after its last.
    """
    if not steps:
        return Range(pages, end - begin)
    return Independent([(1, share_of_range(steps, pages, begin, end))])


def share_of_range(steps: tuple[Step, ...], pages: int, begin: int, end: int) -> float:
    """Probability that one draw of a class goes to one of its pages [begin, end); arguments as for `range_law`."""
    if len(steps) <= 1:
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


def _scattered_below(ranks: int, pages: int, stride: int, bound: int) -> int:
    """How many of the first ``ranks`` ranks lie on a page below ``bound``."""
    if bound >= pages:
        return ranks
    shifted = _floor_sum(ranks, pages, stride, pages - bound)
    return _floor_sum(ranks, pages, stride, pages) - shifted


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
