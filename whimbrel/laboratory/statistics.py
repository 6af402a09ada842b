"""Figures of many runs, each with how sure it is.

Three things are different here from a plain sample:

- A run that was called off is no missing one. It is known not to have moved its guest until then: its time is
  right-censored, and what is told of times comes from the Kaplan-Meier estimate (`scipy.stats.ecdf`).
- Runs are paired by case and seed: policies are compared run by run, on the same guest.
- Runs of one case are alike. Who wants to know what holds for other cases than these must draw cases, and seeds within
  them; drawing runs as if they were independent would claim a certainty that is not there (Davison and Hinkley,
  Bootstrap Methods and their Application, 1997, section 3.8).

Every bootstrap has a fixed seed: the same rows give the same figures.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["DRAWS", "LEAST_RUNS", "LEVEL", "Clusters", "Interval", "Survival", "interval_of", "median", "survival"]

DRAWS = 2000
"""Resamples of a bootstrap: the ends of a 95 % interval then vary by about a twentieth of its width."""
LEVEL = 0.95
"""Of every interval."""
LEAST_RUNS = 6
"""With fewer no interval of a median has this confidence (for 5 even that from the least to the greatest has 94 %):
what is given then is the range of what was seen."""
SEED = 20_260_101
"""Of every bootstrap."""

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and where it lies with a confidence of `LEVEL`.

    Infinite ends, and an infinite figure, are those of censored data: it lies beyond what was waited for.
    """

    value: float
    low: float
    high: float


def interval_of(value: float, draws: Floats) -> Interval:
    """A figure with the percentiles of its bootstrap draws, which may be infinite.

    The percentiles are draws themselves and not between two of them: there is nothing between a number and infinity.
    """
    if draws.size == 0:
        return Interval(value, value, value)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return Interval(float(value), float(low), float(high))


def median(values: Sequence[float]) -> Interval:
    """The median of independent finite values with its bootstrap interval; not a number where there are none.

    Of fewer than `LEAST_RUNS` the interval is their range.
    """
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    middle = float(np.median(values))
    if len(values) == 1 or min(values) == max(values):
        return Interval(middle, middle, middle)
    found = stats.bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.median,
        n_resamples=DRAWS,
        confidence_level=LEVEL,
        method="percentile",  # the corrected ones go by the jackknife, which says nothing of a median
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(middle, float(found.low), float(found.high))


# ---- times that may be censored


@dataclass(frozen=True, slots=True)
class Survival:
    """The part of runs that have not moved their guest yet, over time: Kaplan-Meier, with log-log intervals.

    Attributes:
        times_s: where it falls, or a run is censored, ascending.
        left: from that time on, 1 down to 0.
        low, high: its interval.
        median_s: when half of them have; infinite: never within what was waited for. Of fewer than `LEAST_RUNS` runs
            that all have, the interval is the range of their times.
        censored_s: the longest that a run was waited for that did not; 0: all did.
    """

    times_s: tuple[float, ...]
    left: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    median_s: Interval
    censored_s: float


def survival(times_s: Sequence[float], moved: Sequence[bool]) -> Survival:
    """Estimate survival.

    Args:
        times_s: how long each run took, or until when it is known not to have moved its guest; at least one.
        moved: whether it did.
    """
    gone = [time_s for time_s, did in zip(times_s, moved, strict=True) if did]
    stayed = [time_s for time_s, did in zip(times_s, moved, strict=True) if not did]
    censored: Any = stats.CensoredData(uncensored=gone, right=stayed)  # which the types of `ecdf` leave out
    estimate: Any = stats.ecdf(censored).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        band = estimate.confidence_interval(LEVEL, method="log-log")
    left = np.asarray(estimate.probabilities, dtype=np.float64)
    # Undefined it is where everybody is left, or nobody: there the band is taken for a point.
    low = np.where(np.isnan(band.low.probabilities), left, band.low.probabilities)
    high = np.where(np.isnan(band.high.probabilities), left, band.high.probabilities)
    times = np.asarray(estimate.quantiles, dtype=np.float64)
    return Survival(
        times_s=tuple(map(float, times)),
        left=tuple(map(float, left)),
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        # Brookmeyer and Crowley, Biometrics 38 (1982): the times at which the band holds one half.
        median_s=Interval(_half(times, left), _half(times, low), _half(times, high)),
        censored_s=max(stayed, default=0.0),
    )


def _half(times: Floats, left: Floats) -> float:
    """When no more than half is left."""
    there = np.flatnonzero(left <= 0.5 + 1e-12)
    return float(times[there[0]]) if there.size else math.inf


# ---- runs that come in cases


class Clusters:
    """Bootstrap of runs that come in cases: cases are drawn, and runs within each that was drawn.

    With one case it is the runs alone that are drawn, and what is found holds for that case.

    Attributes:
        weights: how often each run was drawn, divided by how many its case has and by how many cases there are, so that
            each row of it sums to 1; shape (draws, runs).
        plain: the same of the data as they are; shape (runs,).
    """

    def __init__(self, cases: Sequence[str], *, draws: int = DRAWS, runs_of: int = 0) -> None:
        """Draw.

        Args:
            cases: the case of each run; at least one.
            draws: how many. The same cases are drawn for the same names, whatever runs there are.
            runs_of: another number draws other runs from the same cases.
        """
        names, number = np.unique(np.asarray(cases), return_inverse=True)
        sizes = np.bincount(number)
        copies = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
        self.plain: Floats = 1.0 / (sizes[number] * len(names))
        self.weights: Floats = np.empty((draws, len(cases)))
        for index, size in enumerate(sizes):
            # A case that was drawn twice has its runs drawn twice over: together they are one larger drawing.
            drawn = np.random.default_rng([SEED, runs_of, index]).multinomial(
                copies[:, index] * size, np.full(size, 1 / size)
            )
            self.weights[:, number == index] = drawn / (size * len(names))

    def mean(self, values: Floats) -> Interval:
        """The mean over cases of the mean over runs, of finite values."""
        return interval_of(*self.means(values))

    def means(self, values: Floats) -> tuple[Any, Floats]:
        """The same, and those of all draws; of values with a second axis, for each along it.

        They are without their last bits, in which means that are equal in truth may differ.
        """
        return np.round(self.plain @ values, 9), np.round(self.weights @ values, 9)

    def median(self, values: Floats) -> Interval:
        """The median, each case with the same weight; values may be infinite."""
        order = np.argsort(values, kind="stable")
        ranked = values[order]

        def middle(weights: Floats) -> Numbers:
            # Half of the weight, but for the error of so many sums.
            return np.asarray(np.argmax(np.cumsum(weights[..., order], axis=-1) >= 0.5 - 1e-9, axis=-1))

        return interval_of(float(ranked[middle(self.plain)]), ranked[middle(self.weights)])
