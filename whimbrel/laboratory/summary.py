"""What a comparison comes to: figures of each policy on each case, the league, regrets; as records and as an object."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from whimbrel.sim.bounds import Bounds

from .matrix import Matrix
from .ranking import Agreement, League, league
from .records import Row
from .statistics import Clusters, Interval, median, survival

__all__ = ["REGRETS", "Comparison", "Figures", "Regrets", "as_dict", "compared", "figures_of"]

REGRETS = (
    "mechanism_downtime_s",
    "policy_downtime_s",
    "mechanism_time_s",
    "policy_time_s",
    "mechanism_bytes",
    "policy_bytes",
    "policy_lost_guest_s",
    "policy_cost_s",
)
"""Columns of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one policy did on one case.

    Times are medians with their intervals; total time over all runs, those that were called off as censored ones
    (infinite: more than half of them), the rest over those that moved the guest (not a number: none did).

    Attributes:
        case, policy: whose.
        runs, moved, goal_met: how many there were, moved the guest, met the goal.
        total_s, downtime_s, lost_guest_s, transferred_bytes: as in `Row`.
        waited_s: the median of what it waited before the start, which is no part of `total_s`; over all runs.
        limit_s: until when a run was waited for.
        throttle: the most that any run was slowed by, 0 to 1.
        postcopy: how many went over to post-copy.
        faults: how often the policy failed, over all runs.
    """

    case: str
    policy: str
    runs: int
    moved: int
    goal_met: int
    total_s: Interval
    downtime_s: Interval
    lost_guest_s: Interval
    transferred_bytes: Interval
    waited_s: Interval
    limit_s: float
    throttle: float
    postcopy: int
    faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrets:
    """How far a policy is from the best, over the runs that moved the guest and have bounds.

    Attributes:
        policy: whose.
        runs: how many these are.
        medians: of each of `REGRETS`, cases with the same weight; not a number where none has one.
    """

    policy: str
    runs: int
    medians: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A whole matrix and what came of it: what text, pictures and pages are made from.

    Attributes:
        matrix: what was run.
        rows: all of it, in the canonical order.
        league: the order of the policies.
        figures: of each policy on each case: the cases in the order of the matrix, the best policy of each first.
        regrets: of each policy, in the order of the league; empty without bounds.
        bounds: of the first seed of each case, by its name; those of cases that have none are left out.
    """

    matrix: Matrix
    rows: tuple[Row, ...]
    league: League
    figures: tuple[Figures, ...]
    regrets: tuple[Regrets, ...]
    bounds: Mapping[str, Bounds]

    def of_case(self, name: str) -> tuple[Figures, ...]:
        """The figures of a case, the best policy first."""
        return tuple(each for each in self.figures if each.case == name)


def compared(matrix: Matrix, rows: Sequence[Row], bounds: Mapping[str, Bounds] | None = None) -> Comparison:
    """Put a whole matrix together.

    Args:
        matrix: what was run.
        rows: what came of each of its cells.
        bounds: see `Comparison`.
    """
    whole = league(rows, matrix.policies)
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, []).append(row)
    figures: list[Figures] = []
    for case in matrix.cases:
        of_case = by_case[case.name]
        order = whole if len(matrix.cases) == 1 else league(of_case, matrix.policies)
        figures += [
            figures_of([row for row in of_case if row.policy == standing.policy]) for standing in order.standings
        ]
    regrets = [_regrets(standing.policy, rows) for standing in whole.standings]
    return Comparison(
        matrix=matrix,
        rows=tuple(rows),
        league=whole,
        figures=tuple(figures),
        regrets=tuple(regrets) if any(each.runs for each in regrets) else (),
        bounds=bounds or {},
    )


def figures_of(rows: Sequence[Row]) -> Figures:
    """The figures of the runs of one policy on one case; at least one."""
    moved = [row for row in rows if row.converged]
    # Who gave up early is known not to have moved the guest until the limit: giving up is no merit, and no accident.
    times = [row.total_s if row.converged else max(row.total_s, row.limit_s) for row in rows]

    def of(value: Callable[[Row], float | None]) -> Interval:
        return median([each for each in map(value, moved) if each is not None])

    return Figures(
        case=rows[0].case,
        policy=rows[0].policy,
        runs=len(rows),
        moved=len(moved),
        goal_met=sum(row.goal_met for row in rows),
        total_s=survival(times, [row.converged for row in rows]).median_s,
        downtime_s=of(lambda row: row.downtime_s),
        lost_guest_s=of(lambda row: row.lost_guest_s),
        transferred_bytes=of(lambda row: row.transferred_bytes),
        waited_s=median([row.waited_s for row in rows]),
        limit_s=rows[0].limit_s,
        throttle=max(row.throttle for row in rows),
        postcopy=sum(row.postcopy for row in rows),
        faults=sum(row.faults for row in rows),
    )


def _regrets(policy: str, rows: Sequence[Row]) -> Regrets:
    ours = [row for row in rows if row.policy == policy]
    medians: dict[str, Interval] = {}
    for name in REGRETS:
        known = [row for row in ours if getattr(row, name) is not None]
        if known:
            values = np.array([getattr(row, name) for row in known], dtype=np.float64)
            medians[name] = Clusters([row.case for row in known]).median(values)
        else:
            medians[name] = Interval(math.nan, math.nan, math.nan)
    has_one = [row for row in ours if any(getattr(row, name) is not None for name in REGRETS)]
    return Regrets(policy=policy, runs=len(has_one), medians=medians)


def as_dict(comparison: Comparison, agreement: Agreement | None = None) -> dict[str, Any]:
    """One object with the same keys for every comparison; figures that are infinite or unknown are ``null``.

    Args:
        comparison: what is told.
        agreement: of its ranking with another one; ``None``: there is none.
    """
    matrix = comparison.matrix
    told = {
        "backend": matrix.backend.value,
        "policies": list(matrix.policies),
        "cases": [case.name for case in matrix.cases],
        "seeds": list(matrix.seeds),
        "runs": len(comparison.rows),
        "league": asdict(comparison.league),
        "figures": [asdict(each) for each in comparison.figures],
        "regrets": [asdict(each) for each in comparison.regrets],
        "agreement": agreement and asdict(agreement),
    }
    return cast("dict[str, Any]", _plain(told))


def _plain(value: Any) -> Any:
    """Without what JSON has no word for."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
