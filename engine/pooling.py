"""A figure out of a few earlier migrations, drawn towards what is thought of it without them.

One migration tells little and ten tell a lot; both are put to use by one formula, that of the normal distribution with
an unknown mean and an unknown variance and their conjugate prior (A. Gelman et al., "Bayesian Data Analysis", 3rd ed.,
section 3.3), on the logarithms, for what is off is off by a factor. Migrations that are less like the one ahead count
as a part of one (the power prior: J. Ibrahim and M.-H. Chen, Statistical Science 15, 2000).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from .estimate import HIGH, NORMAL, Estimate

LEAST_SPREAD = 0.01
"""Nothing repeats itself to better than a hundredth."""
OUTLYING = 3.0
"""So many spreads from the median count as just so many: a host that was busy with something else, once."""
MAD_TO_SPREAD = 1.4826
"""The median absolute deviation of a normal distribution is the spread over this (F. Hampel, 1974)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one earlier migration says.

    Attributes:
        value: above 0.
        weight: how much like the one ahead it was, above 0 and up to 1.
        own_spread: how far it was to be off for reasons that are known and foreseen by others, 0 or more, as the
            standard deviation of its logarithm; the spread that is found is what remains beyond it.
    """

    value: float
    weight: float = 1.0
    own_spread: float = 0.0


def pooled(seen: Sequence[Seen], prior: Estimate, *, mean_worth: float, spread_worth: float, source: str) -> Estimate:
    """What the next one is likely to show.

    With weights ``w`` of sum ``W``, logarithms ``x``, own spreads ``u``, and the prior's logarithm ``m`` and spread
    ``s``, which are worth ``k`` and ``v`` migrations::

        p        = w s^2 / (s^2 + u^2)    of sum P: one that was to be off by chance tells less of the mean
        mean     = sum p x / P
        value    = exp((k m + P mean) / (k + P))
        spread^2 = (v s^2 + sum w ((x - mean)^2 - u^2) + k P / (k + P) (mean - m)^2) / (v + W) (1 + 1 / (k + P))

    times what the 95 % point of Student's t distribution with ``v + W`` degrees of freedom is above the normal one's: a
    spread that is known from few is less known, and the range has to hold all the same. (The weights ``p`` and the
    spread beyond what is foreseen are R. DerSimonian's and N. Laird's, Controlled Clinical Trials 7, 1986.)

    Args:
        seen: the earlier ones, in any order; none: the prior as it is.
        prior: what is thought without them; its spread above 0.
        mean_worth: how many migrations the prior's value is worth, 0 or more.
        spread_worth: and its spread, 2 or more.
        source: for the estimate that comes out.
    """
    if not seen:
        return prior
    logs = _within_reason(seen, prior.spread)
    telling = [each.weight * prior.spread**2 / (prior.spread**2 + each.own_spread**2) for each in seen]
    worth = sum(telling)
    mean = sum(p * x for p, x in zip(telling, logs, strict=True)) / worth
    thought = math.log(prior.value)
    settled = (mean_worth * thought + worth * mean) / (mean_worth + worth)
    squares = spread_worth * prior.spread**2 + mean_worth * worth / (mean_worth + worth) * (mean - thought) ** 2
    for each, x in zip(seen, logs, strict=True):
        squares += each.weight * ((x - mean) ** 2 - each.own_spread**2)
    freedom = spread_worth + sum(each.weight for each in seen)
    spread = max(LEAST_SPREAD, math.sqrt(max(0.0, squares / freedom)))
    ahead = spread * math.sqrt(1.0 + 1.0 / (mean_worth + worth)) * _heavier(freedom)
    return Estimate(math.exp(settled), ahead, source)


def _within_reason(seen: Sequence[Seen], spread: float) -> list[float]:
    """Their logarithms, those that lie far from the rest brought nearer."""
    logs = [math.log(each.value) for each in seen]
    weights = [each.weight for each in seen]
    middle = _middle(logs, weights)
    usual = max(spread, LEAST_SPREAD, MAD_TO_SPREAD * _middle([abs(x - middle) for x in logs], weights))
    reaches = [OUTLYING * math.hypot(usual, each.own_spread) for each in seen]
    return [min(max(x, middle - reach), middle + reach) for x, reach in zip(logs, reaches, strict=True)]


def _middle(values: Sequence[float], weights: Sequence[float]) -> float:
    """The median by weight, half-way between two that share it."""
    rising = sorted(zip(values, weights, strict=True))
    reached = list(accumulate(weight for _, weight in rising))
    half = reached[-1] / 2
    below = next(value for (value, _), passed in zip(rising, reached, strict=True) if passed >= half)
    above = next(value for (value, _), passed in zip(rising, reached, strict=True) if passed > half)
    return (below + above) / 2


def _heavier(freedom: float) -> float:
    """The 95 % point of Student's t over that of the normal distribution.

    By the expansion in powers of 1/freedom (M. Abramowitz and I. Stegun, 26.7.5), to 1 % from 2 degrees on.
    """
    z = NORMAL.inv_cdf(HIGH)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return (z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4) / z
