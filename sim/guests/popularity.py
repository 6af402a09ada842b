"""How often each page of a writer's range is chosen, and where the popular ones lie.

The workload guest draws from tables made of the same groups of ranks, scattered by the same stride, so that a writer
here and a page class there dirty the same pages equally often.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

from whimbrel.sim.scenario import Pattern, Writer

_SINGLE_RANKS = 16
_GROWTH = 2**0.25
"""Zipf's first ranks stand alone, later ones in groups that grow by this factor and share their mean probability: in
a group of ranks [a, 1.19 a) it is at most 1.19 ** (skew / 2) = 9 % (skew 1) off a rank's own."""
_GOLDEN = 0.6180339887498949

Groups = tuple[tuple[int, float], ...]
"""(number of pages, probability that a draw hits a given one of them), the most popular first."""


def groups_of(writer: Writer, pages: int) -> Groups:
    """The popularity of a writer's pages; of a sweep, too: each is hit equally often.

    Args:
        writer: whose.
        pages: of its range.
    """
    match writer.pattern:
        case Pattern.ZIPF:
            return _zipf(pages, writer.skew)
        case Pattern.HOTSPOT:
            hot = min(max(round(pages * writer.part), 1), pages)
            if hot < pages:
                return ((hot, writer.share / hot), (pages - hot, (1 - writer.share) / (pages - hot)))
        case Pattern.UNIFORM | Pattern.POISSON | Pattern.SWEEP:
            pass
    return ((pages, 1 / pages),)


def rank_groups(pages: int) -> list[range]:
    """The ranks of so many pages, from 1, in the groups that have one probability under a zipf law."""
    edges = list(range(min(_SINGLE_RANKS, pages) + 1))
    while edges[-1] < pages:
        edges.append(min(max(edges[-1] + 1, round(edges[-1] * _GROWTH)), pages))
    return [range(before + 1, last + 1) for before, last in itertools.pairwise(edges)]


@lru_cache(maxsize=64)
def _zipf(pages: int, skew: float) -> Groups:
    groups = rank_groups(pages)
    weights = [_zipf_weight(ranks, skew) for ranks in groups]
    total = math.fsum(weights)
    return tuple((len(ranks), weight / total / len(ranks)) for ranks, weight in zip(groups, weights, strict=True))


def _zipf_weight(ranks: range, skew: float) -> float:
    """Sum of ``rank ** -skew``.

    Long sums by the trapezoidal rule, so that a range of millions of pages costs no more than a small one: a group so
    long begins beyond rank 10000, where the rule is off by less than 1e-8 of the sum.
    """
    if len(ranks) <= 2048:
        return math.fsum(rank**-skew for rank in ranks)
    low, high = float(ranks[0]), float(ranks[-1])
    area = math.log(high / low) if skew == 1 else (math.pow(high, 1 - skew) - math.pow(low, 1 - skew)) / (1 - skew)
    return area + (math.pow(low, -skew) + math.pow(high, -skew)) / 2


def stride_for(pages: int) -> int:
    """Rank r is page ``r * stride % pages``: coprime with the pages and near their golden section.

    Neighbours in rank lie far apart (Knuth, TAOCP vol. 3, 6.4), and the pages of any group of ranks are spread
    evenly over the range.
    """
    stride = max(1, round(pages * _GOLDEN))
    while math.gcd(stride, pages) != 1:
        stride -= 1
    return stride
