"""Figures that are not certain: an estimate before, a range after, and the draws that lead from one to the other.

Nothing here is random. The draws are a low-discrepancy sequence: they fill the space evenly, so that 200 of them tell
what 600 random ones would, and the same question always has the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from .errors import BadInput

NORMAL = NormalDist()
LOW, HIGH = 0.05, 0.95
"""Ends of a range: it holds in nine of ten cases."""
_PRIMES = (59, 103, 3, 2, 409, 457, 283, 73, 281, 31, 367, 167, 137, 23, 107, 139, 311, 43, 389, 241)
"""Of those below 463 the ones with which 40, 100 and 200 points are least correlated between any two dimensions: the
first primes, and steps by the generalised golden ratio, do worse than random points from a dozen dimensions on."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure above 0, or 0, and how sure it is.

    Attributes:
        value: as likely too high as too low.
        spread: standard deviation of its logarithm, 0 or more: 0.1 is "give or take a tenth".
        source: where it comes from, as words for people ("given", "probed", "from 12 migrations").
    """

    value: float
    spread: float = 0.0
    source: str = "given"

    def drawn(self, normal: float) -> float:
        """What it may really be, for a draw out of the normal distribution."""
        return self.value * math.exp(self.spread * normal)


@dataclass(frozen=True, slots=True)
class Range:
    """Between what a figure lies in nine of ten cases, and its median."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Range:
        """Of values that are all as likely; at least one. ``inf`` counts as greater than all."""
        rising = sorted(values)
        return cls(_quantile(rising, LOW), _quantile(rising, 0.5), _quantile(rising, HIGH))

    def holds(self, value: float) -> bool:
        """Whether it lies within."""
        return self.low <= value <= self.high

    def widened(self, spread: float) -> Range:
        """With something more that is not known: a relative standard deviation, independent of all else.

        On a logarithmic scale each half is what two independent normal errors come to together.
        """
        if not spread or not 0 < self.middle < math.inf:
            return self
        more = spread * NORMAL.inv_cdf(HIGH)
        below = math.log(self.middle / self.low) if self.low > 0 else math.inf
        above = math.log(self.high / self.middle) if self.high < math.inf else math.inf
        return Range(
            self.middle * math.exp(-math.hypot(below, more)),
            self.middle,
            self.middle * math.exp(math.hypot(above, more)) if above < math.inf else math.inf,
        )


def plain(given: Range) -> dict[str, float | None]:
    """A range as JSON has it: ``null`` stands for ``inf``, for which it has no word."""
    ends = {"low": given.low, "middle": given.middle, "high": given.high}
    return {name: end if end < math.inf else None for name, end in ends.items()}


def range_of(told: Mapping[str, float | None]) -> Range:
    """A range out of a log: see `plain`.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    low, middle, high = (told[name] for name in ("low", "middle", "high"))
    return Range(*(math.inf if end is None else float(end) for end in (low, middle, high)))


def _quantile(rising: list[float], part: float) -> float:
    place = part * (len(rising) - 1)
    below = math.floor(place)
    low, high = rising[below], rising[min(below + 1, len(rising) - 1)]
    if low == high or place == below:
        return low
    return low + (high - low) * (place - below)


@lru_cache(maxsize=32)
def normal_draws(count: int, dimensions: int) -> tuple[tuple[float, ...], ...]:
    """Points that lie in space as those of independent normal distributions do, evenly; the first of them do, too.

    By Richtmyer's sequence (R. Richtmyer, "The evaluation of definite integrals, and a quasi-Monte-Carlo method", 1951:
    ``x = (1/2 + n sqrt(p)) mod 1`` with a prime for each dimension) and the inverse of the normal distribution. Every
    second point is the mirror image of the one before: so medians are right, and ranges are as wide to either side.

    Args:
        count: how many, above 0.
        dimensions: of each, 1 to 20.

    Raises:
        BadInput: there are no points of so many dimensions.
    """
    if not 1 <= dimensions <= len(_PRIMES):
        raise BadInput("dimensions", dimensions, f"1 to {len(_PRIMES)}")
    steps = [math.sqrt(prime) for prime in _PRIMES[:dimensions]]
    least = 0.5 / count
    found: list[tuple[float, ...]] = []
    for n in range(1, (count + 1) // 2 + 1):
        parts = ((0.5 + n * step) % 1.0 for step in steps)
        point = tuple(NORMAL.inv_cdf(min(max(part, least), 1.0 - least)) for part in parts)
        found += (point, tuple(-each for each in point))
    return tuple(found[:count])
