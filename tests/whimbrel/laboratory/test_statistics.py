"""Figures with their uncertainty: against values worked out by hand, published ones, and their own coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whimbrel.laboratory.statistics import Clusters, Interval, interval_of, median, survival

REMISSION_WEEKS = (6, 6, 6, 7, 10, 13, 16, 22, 23)
STILL_IN_REMISSION_WEEKS = (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
"""Patients on 6-MP, Freireich et al., Blood 21 (1963): the data on which Kaplan-Meier estimates are taught."""


def test_survival_is_that_of_the_taught_example() -> None:
    """Left after 6, 10 and 23 weeks: 0.857, 0.753, 0.448; the median is 23 weeks."""
    times = [float(each) for each in (*REMISSION_WEEKS, *STILL_IN_REMISSION_WEEKS)]
    moved = [True] * len(REMISSION_WEEKS) + [False] * len(STILL_IN_REMISSION_WEEKS)
    found = survival(times, moved)
    left = dict(zip(found.times_s, found.left, strict=True))
    assert [left[6], left[7], left[10], left[23]] == pytest.approx([0.857, 0.807, 0.753, 0.448], abs=5e-4)
    assert found.median_s.value == 23
    assert found.censored_s == 35


def test_the_interval_of_a_median_time_is_that_of_the_taught_example() -> None:
    """R's survfit with conf.type = "log-log" has 13 weeks to "not reached", and 0.432 to 0.849 left at 13 weeks."""
    times = [float(each) for each in (*REMISSION_WEEKS, *STILL_IN_REMISSION_WEEKS)]
    moved = [True] * len(REMISSION_WEEKS) + [False] * len(STILL_IN_REMISSION_WEEKS)
    found = survival(times, moved)
    at = found.times_s.index(13.0)
    assert (found.low[at], found.high[at]) == pytest.approx((0.432, 0.849), abs=2e-3)
    assert (found.median_s.low, found.median_s.high) == (13, math.inf)


def test_runs_that_never_move_have_no_median_but_a_limit() -> None:
    found = survival([60.0, 60.0, 60.0], [False, False, False])
    assert found.median_s == Interval(math.inf, math.inf, math.inf)
    assert found.censored_s == 60.0
    assert found.left == (1.0,)


def test_without_censoring_the_median_time_is_the_plain_one() -> None:
    found = survival([3.0, 1.0, 2.0], [True, True, True])
    assert found.median_s == Interval(2.0, 1.0, 3.0)
    assert (found.left[-1], found.high[-1], found.censored_s) == (0.0, 0.0, 0.0)


def test_a_run_that_is_left_out_would_make_it_look_quicker_than_one_that_is_censored() -> None:
    with_it = survival([1.0, 2.0, 3.0, 9.0, 9.0], [True, True, True, False, False])
    without = survival([1.0, 2.0, 3.0], [True, True, True])
    assert with_it.median_s.value == 3.0 > without.median_s.value


def test_a_median_has_its_interval() -> None:
    found = median([float(each) for each in range(1, 102)])
    assert found.value == 51
    # The exact interval for 101 values, from the binomial distribution, is the 41st to the 61st.
    assert found.low == pytest.approx(41, abs=2)
    assert found.high == pytest.approx(61, abs=2)


def test_the_median_of_one_of_equals_and_of_none() -> None:
    assert median([4.0]) == Interval(4.0, 4.0, 4.0)
    assert median([4.0, 4.0, 4.0]) == Interval(4.0, 4.0, 4.0)
    assert all(map(math.isnan, (median([]).value, median([]).low, median([]).high)))


def test_the_same_values_give_the_same_interval() -> None:
    values = list(np.random.default_rng(1).normal(size=30))
    assert median(values) == median(values)


def test_an_interval_without_draws_is_a_point() -> None:
    assert interval_of(3.0, np.array([])) == Interval(3.0, 3.0, 3.0)


def test_the_percentiles_of_draws_may_be_infinite() -> None:
    draws = np.array([1.0] * 50 + [math.inf] * 50)
    assert interval_of(1.0, draws) == Interval(1.0, 1.0, math.inf)


# ---- runs that come in cases


def test_every_case_has_the_same_weight_whatever_its_runs() -> None:
    """One run of 10 in a case of its own weighs as much as nine of 0 in another."""
    clusters = Clusters(["a"] + ["b"] * 9)
    values = np.array([10.0] + [0.0] * 9)
    assert clusters.mean(values).value == 5.0
    assert clusters.weights.sum(axis=1) == pytest.approx(1.0)


def test_runs_of_one_case_alone_are_drawn_as_plain_ones() -> None:
    """The standard error of a mean is the deviation over the root of the number: 1 / 10."""
    values = np.random.default_rng(2).normal(size=100)
    values = (values - values.mean()) / values.std()
    found = Clusters(["a"] * 100).mean(values)
    assert (found.low, found.high) == pytest.approx((-0.196, 0.196), abs=0.02)


def test_alike_runs_of_a_case_make_nobody_sure_of_other_cases() -> None:
    """Ten cases that differ, each with 50 runs that don't: the interval is that of ten values, not of 500."""
    cases = [str(number) for number in range(10) for _ in range(50)]
    values = np.repeat(np.arange(10.0), 50)
    found = Clusters(cases).mean(values)
    # 1.96 times the deviation of 0..9 over the root of 10.
    half = 1.96 * math.sqrt(8.25 / 10)
    assert (found.low, found.high) == pytest.approx((4.5 - half, 4.5 + half), abs=0.25)


def test_a_median_over_cases_takes_infinite_values() -> None:
    clusters = Clusters(["a"] * 5)
    found = clusters.median(np.array([1.0, 2.0, 3.0, math.inf, math.inf]))
    assert (found.value, found.low, found.high) == (3.0, 1.0, math.inf)


@pytest.mark.parametrize("count", [4, 12, 28])
def test_a_median_is_the_first_time_by_which_half_of_them_are_through(count: int) -> None:
    """Of an even number the lower of the two in the middle, though so many weights may not come to just a half."""
    times_s = [float(number) for number in range(1, count + 1)]
    assert survival(times_s, [True] * count).median_s.value == count / 2
    assert Clusters(["a"] * count).median(np.array(times_s)).value == count / 2


def test_the_same_cases_are_drawn_for_the_same_names() -> None:
    """Two rankings are resampled over the same cases; their runs are drawn apart."""
    one, other = Clusters(["a", "a", "b"]), Clusters(["a", "b", "b", "b"], runs_of=1)
    assert one.weights[:, :2].sum(axis=1) == pytest.approx(other.weights[:, 0])
    apart = Clusters(["a"] * 4), Clusters(["a"] * 4, runs_of=1)
    assert not np.array_equal(apart[0].weights, apart[1].weights)
