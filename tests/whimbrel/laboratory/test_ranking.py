"""Ranks, leagues and their agreement, on rows whose order can be seen by looking at them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.whimbrel.laboratory.matrices import row
from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.ranking import Standing, agreement, cost_s, league, taus_of, time_s
from whimbrel.laboratory.records import Row
from whimbrel.laboratory.statistics import Interval

CASES = tuple(f"case{number}@link" for number in range(4))


def runs(policy: str, totals_s: Sequence[float], seeds: int = 3, **figures: float | bool | None) -> Iterator[Row]:
    """Runs of a policy: one time for each case, the same for each seed."""
    for case, total_s in zip(CASES, totals_s, strict=False):
        for seed in range(1, seeds + 1):
            yield row(policy, case=case, seed=seed, total_s=total_s, **figures)  # type: ignore[arg-type]


def standing(rows: Sequence[Row], policy: str) -> Standing:
    """Where a policy stands among all that have rows."""
    policies = tuple(dict.fromkeys(each.policy for each in rows))
    return next(each for each in league(rows, policies).standings if each.policy == policy)


def test_the_cost_of_a_run_is_time_and_lost_work_in_seconds() -> None:
    """Waiting before the start is time, too: somebody waits for it."""
    waited = replace(row(total_s=10.0, lost_guest_s=2.0), waited_s=3.0)
    assert time_s(waited) == 13.0
    assert cost_s(waited) == 15.0
    assert cost_s(waited, 10.0) == 33.0


def test_who_is_better_everywhere_is_surely_first() -> None:
    rows = [*runs("quick", (1, 2, 3, 4)), *runs("slow", (2, 3, 4, 5))]
    first, second = league(rows, ("slow", "quick")).standings
    assert (first.policy, first.rank, first.place, first.best) == ("quick", Interval(1, 1, 1), Interval(1, 1, 1), 1.0)
    assert (second.policy, second.rank, second.best) == ("slow", Interval(2, 2, 2), 0.0)
    assert second.time_ratio.value == pytest.approx(1.33, abs=0.01)
    assert second.beaten_by == ("quick",)
    assert first.beaten_by == ()


def test_equals_share_their_places() -> None:
    rows = [*runs("one", (1, 2)), *runs("other", (1, 2))]
    for each in league(rows, ("one", "other")).standings:
        assert (each.rank.value, each.place.value, each.best) == (1.5, 1.5, 0.5)
        assert each.ranks["time"].value == 1.5
        assert each.beaten_by == ()


def test_the_goal_comes_before_the_cost() -> None:
    """One misses the goal a little, and is ten times as quick; another one did not move the guest at all."""
    rows = [
        *runs("meets", (10, 10)),
        *runs("misses", (1, 1), downtime_s=0.21),
        *runs("never", (0.5, 0.5), moved=False, downtime_s=None, lost_guest_s=0.0),
    ]
    told = league(rows, ("meets", "misses", "never")).standings
    assert [(each.policy, each.rank.value) for each in told] == [("meets", 1), ("misses", 2), ("never", 3)]
    assert [each.goal_met.value for each in told] == [1, 0, 0]
    assert [each.moved.value for each in told] == [1, 1, 0]


def test_those_that_missed_the_goal_stand_by_how_far() -> None:
    """A downtime of 20 s in a quick run is worse than one of 0.3 s in a slow one, where 0.2 s are allowed."""
    rows = [*runs("paused", (20, 20), downtime_s=20.0), *runs("nearly", (60, 60), downtime_s=0.3)]
    assert [each.policy for each in league(rows, ("paused", "nearly")).standings] == ["nearly", "paused"]


def test_a_deadline_that_was_missed_counts_as_a_downtime_does() -> None:
    late = [replace(each, goal_deadline_s=10.0, goal_met=False) for each in runs("late", (20, 20))]
    long = [replace(each, goal_deadline_s=10.0) for each in runs("long", (5, 5), downtime_s=0.3)]
    assert [each.policy for each in league([*late, *long], ("late", "long")).standings] == ["long", "late"]


def test_a_deadline_is_counted_from_the_start_and_not_from_the_order() -> None:
    """What a policy waits for before it begins is in its cost; it missed the deadline by a fifth, the other by half."""
    waited = [replace(each, goal_deadline_s=10.0, waited_s=50.0) for each in runs("waited", (12, 12))]
    at_once = [replace(each, goal_deadline_s=10.0) for each in runs("at_once", (15, 15))]
    rows = [replace(each, goal_met=False) for each in (*waited, *at_once)]
    assert [each.policy for each in league(rows, ("waited", "at_once")).standings] == ["waited", "at_once"]


def test_runs_that_took_no_time_are_alike() -> None:
    rows = [replace(each, total_s=0.0) for each in (*runs("one", (1, 1)), *runs("other", (1, 1)))]
    assert standing(rows, "other").time_ratio.value == 1.0


def test_who_does_not_move_the_guest_is_last_in_every_metric() -> None:
    """It lost no work and sent little: nothing that anybody asked for."""
    rows = [*runs("moves", (10, 10)), *runs("gives_up", (0.1, 0.1), moved=False, downtime_s=None, lost_guest_s=0.0)]
    told = standing(rows, "gives_up")
    assert {each.value for each in told.ranks.values()} == {2}
    assert told.time_ratio.value == math.inf


def test_where_neither_moves_the_guest_they_are_alike() -> None:
    rows = [*runs("one", (3, 3), moved=False, downtime_s=None), *runs("other", (3, 3), moved=False, downtime_s=None)]
    told = standing(rows, "other")
    assert (told.rank.value, told.time_ratio.value, told.moved.value) == (1.5, 1.0, 0.0)


def test_cases_that_disagree_leave_the_order_unsure() -> None:
    """Each is first in two of four cases: whichever cases are drawn decides."""
    rows = [*runs("one", (1, 1, 9, 9)), *runs("other", (2, 2, 2, 2))]
    for each in league(rows, ("one", "other")).standings:
        assert each.rank.value == 1.5
        assert (each.rank.low, each.rank.high) == (1.0, 2.0)
        assert 0.4 < each.best < 0.6
        assert (each.place.low, each.place.high) == (1, 2)


def test_a_compromise_is_on_the_pareto_front_and_what_it_beats_is_not() -> None:
    rows = [
        *runs("quick", (1, 1), lost_guest_s=0.5),
        *runs("gentle", (2, 2), lost_guest_s=0.1),
        *runs("neither", (3, 3), lost_guest_s=0.6),
    ]
    told = {each.policy: each.beaten_by for each in league(rows, ("quick", "gentle", "neither")).standings}
    assert told == {"quick": (), "gentle": (), "neither": ("quick", "gentle")}


def test_the_weight_of_lost_work_decides_between_quick_and_gentle() -> None:
    rows = [*runs("quick", (1.0,), lost_guest_s=0.5), *runs("gentle", (2.0,), lost_guest_s=0.1)]
    told = league(rows, ("quick", "gentle"))
    assert told.standings[0].policy == "quick"
    assert told.other_weights == {0.1: 1.0, 10.0: -1.0}


def test_only_blocks_that_everybody_was_run_in_count() -> None:
    rows = [*runs("one", (1, 1, 1)), *runs("other", (2, 2))]
    told = league(rows, ("one", "other"))
    assert (told.cases, told.blocks) == (2, 6)
    with pytest.raises(BadInput, match="every policy"):
        league([row("one", seed=1), row("other", seed=2)], ("one", "other"))


def test_a_single_policy_is_first() -> None:
    told = league(list(runs("one", (1, 2))), ("one",))
    assert (told.standings[0].rank.value, told.standings[0].best, told.other_weights) == (1.0, 1.0, {})


# ---- agreement


def test_the_same_order_agrees_and_the_opposite_does_not() -> None:
    simulated = [*runs("a", (1, 1)), *runs("b", (2, 2)), *runs("c", (3, 3))]
    same = agreement(simulated, [replace(each, total_s=2 * each.total_s) for each in simulated])
    assert same.tau == Interval(1, 1, 1)
    assert same.disagreements == ()
    assert (same.policies, same.cases) == (("a", "b", "c"), CASES[:2])
    opposite = agreement(simulated, [*runs("a", (3, 3)), *runs("b", (2, 2)), *runs("c", (1, 1))])
    assert opposite.tau.value == -1
    assert len(opposite.disagreements) == 3


def test_tau_is_kendalls() -> None:
    """Of four, one pair of neighbours is exchanged: (5 - 1) / 6; the pair is named."""
    simulated = [*runs("a", (1,)), *runs("b", (2,)), *runs("c", (3,)), *runs("d", (4,))]
    real = [*runs("a", (1,)), *runs("b", (3,)), *runs("c", (2,)), *runs("d", (4,))]
    found = agreement(simulated, real)
    assert found.tau.value == pytest.approx(4 / 6)
    (pair,) = found.disagreements
    assert (pair.better, pair.worse, pair.first, pair.second) == ("b", "c", 1.0, -1.0)


def test_agreement_is_only_of_what_both_have() -> None:
    simulated = [*runs("a", (1, 1, 9)), *runs("b", (2, 2, 1)), *runs("x", (0.5, 0.5, 0.5))]
    real = [*runs("a", (1, 1), seeds=2), *runs("b", (2, 2), seeds=2), *runs("y", (5, 5), seeds=2)]
    found = agreement(simulated, real)
    assert (found.policies, found.cases, found.tau.value) == (("a", "b"), CASES[:2], 1.0)


def test_a_case_that_one_of_them_has_only_in_part_is_left_out_of_both() -> None:
    """In the second case the first ranking has it the other way round; the second ranking lacks a policy there."""
    first = [*runs("a", (1, 2)), *runs("b", (2, 1))]
    second = [*runs("a", (1, 1)), *runs("b", (2,))]
    found = agreement(first, second)
    assert (found.cases, found.tau.value) == (CASES[:1], 1.0)


def test_the_disagreements_that_both_are_sure_of_come_first() -> None:
    """By the smaller of the two gaps: a wide one in one ranking is nothing where the other hardly sees one."""
    first = [*runs("a", (1,) * 4), *runs("c", (2,) * 4), *runs("b", (3,) * 4), *runs("d", (4,) * 4)]
    second = [*runs("d", (1,) * 4), *runs("b", (2, 2, 2, 3)), *runs("a", (3, 3, 3, 2)), *runs("c", (4,) * 4)]
    pairs = [(each.better, each.worse) for each in agreement(first, second).disagreements]
    assert pairs[:2] == [("c", "d"), ("a", "d")]
    assert pairs[-1] == ("a", "b")


def test_many_taus_are_those_of_scipy() -> None:
    """With ties on either side, and a row without any order."""
    dice = np.random.default_rng(1)
    first, second = dice.integers(0, 4, (50, 7)).astype(float), dice.integers(0, 5, (50, 7)).astype(float)
    first[0] = 1.0
    expected = [stats.kendalltau(*rows).statistic for rows in zip(first, second, strict=True)]
    assert taus_of(first, second) == pytest.approx(np.array(expected), nan_ok=True)
    assert math.isnan(taus_of(first, second)[0])


def test_an_unsure_order_makes_the_agreement_unsure() -> None:
    simulated = [*runs("a", (1, 1, 1, 1)), *runs("b", (2, 2, 2, 2))]
    real = [*runs("a", (1, 1, 3, 3)), *runs("b", (2.1, 2.1, 2.1, 1.9))]
    found = agreement(simulated, real)
    assert (found.tau.low, found.tau.high) == (-1.0, 1.0)


def test_where_one_has_no_order_there_is_no_tau() -> None:
    simulated = [*runs("a", (1, 1)), *runs("b", (1, 1))]
    found = agreement(simulated, [*runs("a", (1, 1)), *runs("b", (2, 2))])
    assert math.isnan(found.tau.value)
    assert found.disagreements == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([*runs("a", (1,))], [*runs("a", (1,))]),
        ([*runs("a", (1,)), *runs("b", (1,))], [row("a", case="x@y"), row("b", case="x@y")]),
    ],
)
def test_rankings_with_too_little_in_common_are_refused(first: list[Row], second: list[Row]) -> None:
    with pytest.raises(BadInput, match="in common"):
        agreement(first, second)
