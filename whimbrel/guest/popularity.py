"""How often a page of its class is chosen: tables that guest and host share to the last digit.

The guest draws a uniform 32-bit number, finds the step whose inclusive ``limit`` is the first not below it, and
then chooses uniformly (without bias) among the pages of that step. So the probability of every page is a known
rational number, and whatever curve follows from it is exact. How ranks are grouped and scattered over the class is
the simulator's, too: `whimbrel.sim.guests.popularity`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from whimbrel.sim.guests.popularity import rank_groups

__all__ = ["Step", "hotspot_steps", "probabilities", "uniform_steps", "zipf_steps"]

_DRAWS: Final = 1 << 32


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
    """Rank r (from 1) with probability in proportion to ``r ** -skew``, averaged over groups of like ranks.

    Every rank is summed, where the simulator takes the trapezoidal rule: the limits are good to the last draw.
    """
    groups = rank_groups(pages)
    return _steps([(len(ranks), math.fsum(rank**-skew for rank in ranks)) for ranks in groups])


def probabilities(steps: tuple[Step, ...]) -> list[tuple[int, float]]:
    """For each step the number of its pages and the probability of *each* of them."""
    limits = [-1, *(step.limit for step in steps)]
    return [
        (step.pages, (step.limit - before) / _DRAWS / step.pages) for step, before in zip(steps, limits, strict=False)
    ]
