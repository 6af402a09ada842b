"""Which policy is the better one: ranks, run by run, and how sure the order is.

Within each case and seed the policies are ranked, the best first, equal ones sharing the mean of their places (1 is the
best); a policy's rank is the mean over the seeds of a case and then over the cases. That is done for each metric, and
for the **whole**, whose order is:

1. runs that met the goal (moved, within the greatest downtime and the deadline), by their cost;
2. runs that moved the guest and missed the goal, by how far they missed it: the greater of downtime over the greatest
   downtime allowed, and time over the deadline;
3. runs that did not move the guest, all alike.

The **cost** of a run, in seconds, is what it took from the user's order to the end (waiting before the start included,
for the whole of which a second host is kept for the guest) plus the guest-seconds of work that were lost (to throttles,
to faults of post-copy, to the outage): ``waited_s + total_s + lost_guest_s``. A lost guest-second weighs as much as a
second of waiting; `League.other_weights` tells how far the order depends on that. Bytes are not in it: on a given link
they are time.

In each single metric a run that did not move the guest comes last, whatever it saved by that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from whimbrel.engine.errors import BadInput

from .records import Row
from .statistics import Clusters, Interval, interval_of

__all__ = [
    "METRICS",
    "Agreement",
    "Disagreement",
    "League",
    "Standing",
    "agreement",
    "cost_s",
    "league",
    "taus_of",
    "time_s",
]

Floats = NDArray[np.float64]

OTHER_WEIGHTS = (0.1, 10.0)
"""Of a lost guest-second, for the sake of seeing what follows from its weight."""


def time_s(row: Row) -> float:
    """From the user's order to the end, seconds."""
    return row.waited_s + row.total_s


def cost_s(row: Row, weight: float = 1.0) -> float:
    """What a run cost, in seconds (see the module), where a lost guest-second weighs so much."""
    return time_s(row) + weight * row.lost_guest_s


def _downtime_s(row: Row) -> float:
    return math.inf if row.downtime_s is None else row.downtime_s


METRICS: Mapping[str, Callable[[Row], float]] = {
    "time": time_s,
    "downtime": _downtime_s,
    "lost": lambda row: row.lost_guest_s,
    "sent": lambda row: row.transferred_bytes,
}
"""What runs are ranked by, the less the better: seconds, seconds, guest-seconds, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a policy stands. Ranks lie between 1 and the number of policies.

    Attributes:
        policy: which.
        goal_met, moved: the part of its runs that met the goal, that moved the guest; each case has the same weight.
        rank: its mean rank in the whole.
        place: its place in the order of mean ranks, 1 for the first.
        best: how probable it is that it is the first: the part of all resamples in which it is.
        ranks: its mean rank in each of `METRICS`.
        time_ratio: the median, over runs paired by case and seed, of its time over that of the policy that stands
            first; infinite where it did not move the guest and the other did.
        beaten_by: policies that meet the goal as often at least, rank as well at least in every metric, and are better
            in one of these; empty: it is on the Pareto front.
    """

    policy: str
    goal_met: Interval
    moved: Interval
    rank: Interval
    place: Interval
    best: float
    ranks: Mapping[str, Interval]
    time_ratio: Interval
    beaten_by: tuple[str, ...]

    @property
    def places(self) -> str:
        """Between which places it stands; equal ones share the mean of theirs."""
        low, high = self.place.low, self.place.high
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class League:
    """The order of the policies.

    Attributes:
        standings: the best first.
        blocks: pairs of case and seed that it rests on.
        cases: how many there are.
        other_weights: Kendall's tau between this order and the one in which a lost guest-second weighs so much.
    """

    standings: tuple[Standing, ...]
    blocks: int
    cases: int
    other_weights: Mapping[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Two policies whose order two rankings see differently: the first says that `better` is.

    Attributes:
        better, worse: which, in the first ranking.
        first, second: by how many ranks the second of them is behind, in either ranking; the latter is negative.
    """

    better: str
    worse: str
    first: float
    second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two rankings of the same policies over the same cases agree.

    Attributes:
        tau: Kendall's tau-b between their mean ranks: 1 the same order, 0 none, -1 the opposite; not a number where one
            of them has no order at all.
        policies, cases: what both have.
        disagreements: pairs that are ordered differently, those that the rankings are surest of first.
    """

    tau: Interval
    policies: tuple[str, ...]
    cases: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]


# ---- runs side by side


class _Blocks:
    """Rows as arrays of shape (blocks, policies)."""

    def __init__(self, rows: Sequence[Row], policies: Sequence[str], cases: frozenset[str] | None = None) -> None:
        wanted = set(policies)
        found: dict[tuple[str, int], dict[str, Row]] = {}
        for row in rows:
            if row.policy in wanted and (cases is None or row.case in cases):
                found.setdefault((row.case, row.seed), {})[row.policy] = row
        self.keys = sorted(key for key, block in found.items() if len(block) == len(wanted))
        if not self.keys:
            raise BadInput("rows", f"{len(rows)} rows", "runs of every policy with the same case and the same seed")
        self.policies = tuple(policies)
        self.rows = [[found[key][policy] for policy in policies] for key in self.keys]
        self.cases = [case for case, _ in self.keys]
        self.moved = np.array([[row.converged for row in block] for block in self.rows])

    def values(self, of: Callable[[Row], float]) -> Floats:
        return np.array([[of(row) for row in block] for block in self.rows], dtype=np.float64)

    def metric(self, name: str) -> Floats:
        """Its values; infinite where the guest did not move."""
        return np.where(self.moved, self.values(METRICS[name]), math.inf)

    def overall(self, weight: float = 1.0) -> Floats:
        """Ranks in the whole."""
        tier = np.array([[0 if row.goal_met else 1 if row.converged else 2 for row in block] for block in self.rows])
        costs, misses = self.values(lambda row: cost_s(row, weight)), self.values(_miss)
        within = np.select([tier == 0, tier == 1], [costs, misses], 0.0)
        # Ranks keep order and ties, and lie below the step from one tier to the next.
        return _ranks(tier * (len(self.policies) + 1.0) + _ranks(within))


def _miss(row: Row) -> float:
    late = 0.0 if row.goal_deadline_s is None else row.total_s / row.goal_deadline_s
    return max(_downtime_s(row) / row.goal_downtime_s, late)


def _ranks(values: Floats) -> Floats:
    return np.asarray(stats.rankdata(values, axis=-1), dtype=np.float64)


# ---- the league


def league(rows: Sequence[Row], policies: Sequence[str]) -> League:
    """Rank policies.

    Args:
        rows: of one backend; those of other policies, and blocks in which a policy is missing, are left out.
        policies: at least one.

    Raises:
        BadInput: there is no case and seed that all of them were run on.
    """
    blocks = _Blocks(rows, policies)
    clusters = Clusters(blocks.cases)
    overall = blocks.overall()
    mean, draws = clusters.means(overall)
    places = _ranks(draws)
    firsts = draws == draws.min(axis=1, keepdims=True)
    best = (firsts / firsts.sum(axis=1, keepdims=True)).mean(axis=0)
    ranks = {name: _ranks(blocks.metric(name)) for name in METRICS}
    goals = blocks.values(lambda row: row.goal_met)
    order = sorted(range(len(policies)), key=lambda index: (mean[index], policies[index]))
    merits = np.column_stack([-clusters.means(goals)[0], *(clusters.means(each)[0] for each in ranks.values())])
    place = _ranks(mean)
    return League(
        standings=tuple(
            Standing(
                policy=policies[index],
                goal_met=clusters.mean(goals[:, index]),
                moved=clusters.mean(blocks.moved[:, index].astype(np.float64)),
                rank=interval_of(mean[index], draws[:, index]),
                place=interval_of(place[index], places[:, index]),
                best=float(best[index]),
                ranks={name: clusters.mean(each[:, index]) for name, each in ranks.items()},
                time_ratio=clusters.median(_ratios(blocks.metric("time"), index, order[0])),
                beaten_by=tuple(policies[other] for other in order if _beats(merits[other], merits[index])),
            )
            for index in order
        ),
        blocks=len(blocks.keys),
        cases=len(set(blocks.cases)),
        other_weights={
            weight: _tau(mean, clusters.means(blocks.overall(weight))[0])
            for weight in OTHER_WEIGHTS
            if len(policies) > 1
        },
    )


def _ratios(times: Floats, index: int, leader: int) -> Floats:
    """Of each block; 1 where neither moved the guest."""
    ours, theirs = times[:, index], times[:, leader]
    neither = np.isinf(ours) & np.isinf(theirs)
    return np.divide(ours, theirs, out=np.ones_like(ours), where=~neither & (theirs > 0))


def _beats(one: Floats, other: Floats) -> bool:
    """Whether one is as good at least in everything, and better in something; less is better."""
    return bool(np.all(one <= other) and np.any(one < other))


# ---- two rankings


def agreement(first: Sequence[Row], second: Sequence[Row]) -> Agreement:
    """Compare two rankings, of simulated and of real runs, say, over the policies and cases that both have.

    In each resample the same cases are drawn for both, and runs of each apart.

    Raises:
        BadInput: they have fewer than two policies in common, or no case.
    """
    policies = tuple(sorted({row.policy for row in first} & {row.policy for row in second}))
    cases = {row.case for row in first} & {row.case for row in second}
    if len(policies) < 2 or not cases:
        common = f"{len(policies)} policies and {len(cases)} cases in common"
        raise BadInput("rows", common, "two rankings with two policies and a case in common, at least")
    blocks = [_Blocks(rows, policies, frozenset(cases)) for rows in (first, second)]
    shared = set(blocks[0].cases) & set(blocks[1].cases)
    if shared != cases:
        blocks = [_Blocks(rows, policies, frozenset(shared)) for rows in (first, second)]
    clusters = [Clusters(each.cases, runs_of=number) for number, each in enumerate(blocks)]
    means, draws = zip(
        *(each.means(block.overall()) for each, block in zip(clusters, blocks, strict=True)), strict=True
    )
    taus = taus_of(*draws)
    return Agreement(
        tau=interval_of(_tau(*means), taus[~np.isnan(taus)]),
        policies=policies,
        cases=tuple(sorted(shared)),
        disagreements=_disagreements(policies, *means),
    )


def _tau(one: Floats, other: Floats) -> float:
    return float(stats.kendalltau(one, other, variant="b").statistic)


def taus_of(first: Floats, second: Floats) -> Floats:
    """Kendall's tau-b of each row with that of the other: scipy's, which tests each, takes a second for all draws.

    Args:
        first, second: shape (draws, policies).

    Returns:
        Shape (draws,); not a number where a row has no order at all.
    """
    one, other = np.triu_indices(first.shape[-1], 1)
    signs = [np.sign(each[:, one] - each[:, other]) for each in (first, second)]
    ordered = np.sqrt(np.prod([np.abs(each).sum(axis=-1) for each in signs], axis=0))
    taus: Floats = np.full(len(first), np.nan)
    np.divide(np.prod(signs, axis=0).sum(axis=-1), ordered, out=taus, where=ordered > 0)
    return taus


def _disagreements(policies: Sequence[str], first: Floats, second: Floats) -> tuple[Disagreement, ...]:
    found: list[Disagreement] = []
    for one, other in itertools.permutations(range(len(policies)), 2):
        ahead, behind = first[other] - first[one], second[other] - second[one]
        if ahead > 0 > behind:
            found.append(
                Disagreement(better=policies[one], worse=policies[other], first=float(ahead), second=float(behind))
            )
    return tuple(sorted(found, key=lambda each: -min(each.first, -each.second)))
