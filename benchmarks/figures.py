"""Medians, how sure they are, and ratios of two that were measured side by side. Pure functions."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

RESAMPLES = 4000
"""Enough for the second digit of a 95 % interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
section 14.5, ask for 1000 to 2000)."""
CONFIDENCE = 0.95
_SEED = 20_231
"""Fixed: the same measurements give the same table."""

Statistic: TypeAlias = Callable[[Sequence[int]], float]
"""A figure of the runs with these numbers."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % bootstrap interval (percentile method), in the unit of what was measured."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit; `factor` is above 0."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def median(values: Sequence[float]) -> Estimate:
    """The median of one series.

    Raises:
        ValueError: there are no values.
    """
    series = _whole(values)
    return _bootstrap(len(series), lambda runs: statistics.median(series[run] for run in runs))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The median of ours less the median of theirs, of pairs.

    Raises:
        ValueError: there are no values, or not as many of one as of the other.
    """
    a, b = _pairs(ours, theirs)
    return _bootstrap(
        len(a), lambda runs: statistics.median(a[run] for run in runs) - statistics.median(b[run] for run in runs)
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The median of ours over the median of theirs, of pairs.

    Pairs are drawn whole, so that what slowed both halves of a pair does not count as chance twice.

    Raises:
        ValueError: there are no values, not as many of one as of the other, or one of theirs is not above 0.
    """
    a, b = _pairs(ours, theirs)
    if min(b) <= 0:
        raise ValueError("what is divided by must be above 0")
    return _bootstrap(
        len(a), lambda runs: statistics.median(a[run] for run in runs) / statistics.median(b[run] for run in runs)
    )


def _whole(values: Sequence[float]) -> list[float]:
    if not values:
        raise ValueError("nothing was measured")
    return list(values)


def _pairs(ours: Sequence[float], theirs: Sequence[float]) -> tuple[list[float], list[float]]:
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} runs of ours and {len(theirs)} of theirs make no pairs")
    return _whole(ours), _whole(theirs)


def _bootstrap(count: int, figure: Statistic) -> Estimate:
    draw = random.Random(_SEED)
    again = sorted(figure([draw.randrange(count) for _ in range(count)]) for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    low, high = (again[min(RESAMPLES - 1, round(share * (RESAMPLES - 1)))] for share in (tail, 1 - tail))
    return Estimate(figure(range(count)), low, high)
