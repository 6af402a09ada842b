"""What a comparison comes to: its figures, its regrets, and the object that scripts rely on."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.whimbrel.laboratory.matrices import hot, row, small_matrix, tiny
from whimbrel.laboratory.matrix import Matrix
from whimbrel.laboratory.ranking import agreement
from whimbrel.laboratory.running import run
from whimbrel.laboratory.statistics import Interval
from whimbrel.laboratory.summary import REGRETS, as_dict, compared, figures_of

KEYS = {"backend", "policies", "cases", "seeds", "runs", "league", "figures", "regrets", "agreement"}


def test_times_of_runs_that_did_not_move_are_censored_at_the_limit() -> None:
    told = figures_of(
        [row(seed=1, total_s=1.0), row(seed=2, total_s=2.0), row(seed=3, total_s=3.0, moved=False, downtime_s=None)]
    )
    assert (told.runs, told.moved, told.goal_met) == (3, 2, 2)
    assert told.total_s.value == 2.0
    assert told.total_s.high == math.inf


def test_giving_up_early_is_no_merit() -> None:
    """It is known not to have moved the guest until the limit, and stays in the estimate until then."""
    gave_up = [row(seed=seed, total_s=0.1, moved=False, downtime_s=None) for seed in (1, 2)]
    told = figures_of([*gave_up, row(seed=3, total_s=2.9)])
    assert told.total_s.value == math.inf, "two of three never moved"
    assert figures_of(gave_up).total_s == Interval(math.inf, math.inf, math.inf)


def test_other_figures_are_those_of_runs_that_moved() -> None:
    told = figures_of(
        [
            row(seed=1, downtime_s=0.1, lost_guest_s=0.5),
            row(seed=2, downtime_s=0.3, lost_guest_s=0.7),
            row(seed=3, moved=False, downtime_s=None, lost_guest_s=0.0, total_s=3.0),
        ]
    )
    assert told.downtime_s.value == pytest.approx(0.2)
    assert told.lost_guest_s.value == pytest.approx(0.6)
    assert math.isnan(figures_of([row(moved=False, downtime_s=None)]).downtime_s.value)


def test_postcopy_faults_and_throttles_are_told() -> None:
    told = figures_of([replace(row(), postcopy=True, faults=2, throttle=0.4), replace(row(seed=2), faults=1)])
    assert (told.postcopy, told.faults, told.throttle) == (1, 3, 0.4)


def test_a_comparison_has_the_figures_of_each_policy_on_each_case_the_best_first() -> None:
    matrix = small_matrix(2)
    told = compared(matrix, [run(cell) for cell in matrix.cells()])
    assert [(each.case, each.policy) for each in told.of_case("busy@slow")] == [
        ("busy@slow", "least_downtime"),
        ("busy@slow", "fixed"),
    ]
    assert {each.moved for each in told.of_case("hot@slow")} == {0}
    assert len(told.figures) == 4
    assert (told.regrets, told.bounds) == ((), {})


def test_regrets_are_medians_over_the_runs_that_have_them() -> None:
    matrix = Matrix(cases=(tiny(), hot()), policies=("one",), seeds=(1, 2, 3))
    rows = [
        replace(row(case=case.name, seed=seed), policy_time_s=float(seed))
        for case in matrix.cases
        for seed in matrix.seeds
    ]
    rows[-1] = replace(rows[-1], policy_time_s=None)
    (told,) = compared(matrix, rows).regrets
    assert (told.policy, told.runs) == ("one", 5)
    assert told.medians["policy_time_s"].value == 2.0
    assert math.isnan(told.medians["policy_bytes"].value)
    assert set(told.medians) == set(REGRETS)


def test_the_object_has_the_same_keys_for_every_comparison_and_nothing_that_json_has_no_word_for() -> None:
    matrix = small_matrix(1)
    rows = [run(cell) for cell in matrix.cells()]
    comparison = compared(matrix, rows)
    told = as_dict(comparison)
    assert set(told) == KEYS
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    never = next(each for each in told["figures"] if each["case"] == "hot@slow")
    assert (never["moved"], never["total_s"]["value"], never["limit_s"]) == (0, None, 3.0)
    assert told["league"]["standings"][0]["ranks"]["time"]["value"] >= 1
    with_other = as_dict(comparison, agreement(rows, rows))
    assert with_other["agreement"]["tau"]["value"] == 1.0
    assert json.dumps(with_other, allow_nan=False)
