"""How often a page of its class is chosen: tables that guest and host share to the last digit.

The guest draws a uniform 32-bit number, finds the step whose inclusive ``limit`` is the first not below it, and
then chooses uniformly (without bias) among the pages of that step. So the probability of every page is a known
rational number, and whatever curve follows from it is exact.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["Step", "hotspot_steps", "probabilities", "stride_for", "uniform_steps", "zipf_steps"]

_DRAWS: Final = 1 << 32
#: The first ranks of a zipf law stand alone, later ones in groups that grow by this factor: within a group of
#: ranks [a, 1.19 a) the probability is their mean, at most 1.19 ** (skew / 2) = 9 % (skew 1) off its own.
_SINGLE_RANKS: Final = 16
_GROWTH: Final = 2**0.25


@dataclass(frozen=True, slots=True)
class Step:
    """Pages that are chosen with equal probability.

    Attributes:
        pages: how many they are.
        limit: the largest 32-bit draw that leads to them.
    """

    pages: int
    limit: int


def _steps(weights: list[tuple[int, float]]) -> tuple[Step, ...]:
    """Turns (pages, weight) into steps; one too rare to be drawn at all joins its neighbour."""
    total = math.fsum(weight for _pages, weight in weights)
    steps: list[Step] = []
    sums = itertools.accumulate(weight for _pages, weight in weights)
    for (pages, _weight), cumulated in zip(weights, sums, strict=True):
        limit = round(cumulated / total * _DRAWS) - 1
        if limit <= (steps[-1].limit if steps else -1):
            pages += steps.pop().pages if steps else 0
        steps.append(Step(pages, limit))
    last = steps.pop()
    return (*steps, Step(last.pages, _DRAWS - 1))


def uniform_steps(pages: int) -> tuple[Step, ...]:
    """Every page alike."""
    return (Step(pages, _DRAWS - 1),)


def hotspot_steps(pages: int, share: float, part: float) -> tuple[Step, ...]:
    """``share`` of the draws for the first ``part`` of the pages (rounded, at least one), the rest for the rest."""
    hot = min(max(round(pages * part), 1), pages)
    if hot == pages:
        return uniform_steps(pages)
    return _steps([(hot, share), (pages - hot, 1 - share)])


@lru_cache(maxsize=64)
def zipf_steps(pages: int, skew: float) -> tuple[Step, ...]:
    """Rank r (from 1) with probability in proportion to ``r ** -skew``, averaged over groups of like ranks."""
    edges = list(range(min(_SINGLE_RANKS, pages) + 1))
    while edges[-1] < pages:
        edges.append(min(max(edges[-1] + 1, round(edges[-1] * _GROWTH)), pages))
    weights = [
        (end - start, math.fsum(rank**-skew for rank in range(start + 1, end + 1)))
        for start, end in itertools.pairwise(edges)
    ]
    return _steps(weights)


def probabilities(steps: tuple[Step, ...]) -> list[tuple[int, float]]:
    """For each step the number of its pages and the probability of *each* of them."""
    limits = [-1, *(step.limit for step in steps)]
    return [
        (step.pages, (step.limit - before) / _DRAWS / step.pages) for step, before in zip(steps, limits, strict=False)
    ]


def stride_for(pages: int) -> int:
    """The stride that scatters ranks over a class: rank r is page ``r * stride % pages``.

    Coprime with ``pages``, so that it is a permutation, and near the golden section of them, so that neighbours in
    rank lie far apart (Knuth, TAOCP vol. 3, 6.4: Fibonacci hashing).
    """
    stride = max(1, round(pages * 0.6180339887498949))
    while math.gcd(stride, pages) != 1:
        stride -= 1
    return stride
