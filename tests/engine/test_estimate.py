"""Figures that are not certain: what they may be, between what they lie, and how that is written down."""

from __future__ import annotations

import json
import math
from itertools import combinations
from operator import mul
from random import Random
from statistics import NormalDist, correlation, fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Estimate, Range, normal_draws, plain, range_of

SIZES = st.floats(0.001, 1e12)
RANGES = st.lists(st.one_of(SIZES, st.just(math.inf), st.just(0.0)), min_size=3, max_size=3).map(
    lambda ends: Range(*sorted(ends))
)


def test_an_estimate_is_as_likely_too_high_as_too_low() -> None:
    estimate = Estimate(100.0, 0.1)
    assert estimate.drawn(0.0) == 100.0
    assert math.isclose(estimate.drawn(1.0) * estimate.drawn(-1.0), 100.0**2)
    assert Estimate(100.0).drawn(3.0) == 100.0, "one that is sure is the same in every draw"


@given(st.lists(SIZES, min_size=1, max_size=50))
def test_a_range_lies_within_its_values_in_order(values: list[float]) -> None:
    found = Range.of(values)
    assert min(values) <= found.low <= found.middle <= found.high <= max(values)
    assert found.holds(found.middle)


def test_a_range_leaves_out_a_twentieth_at_each_end() -> None:
    found = Range.of(range(101))
    assert (found.low, found.middle, found.high) == (5, 50, 95)
    assert Range.of([1.0, 2.0, math.inf]).high == math.inf
    assert not any(found.holds(value) for value in (4.9, 95.1))


@given(SIZES, st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_two_doubts_together_are_more_than_each_and_less_than_their_sum(
    middle: float, one: float, other: float
) -> None:
    z = NormalDist().inv_cdf(0.95)
    narrow = Range(middle * math.exp(-one * z), middle, middle * math.exp(one * z))
    wide = narrow.widened(other)
    both = math.log(wide.high / wide.middle) / z
    assert wide.middle == middle
    assert math.isclose(both, math.hypot(one, other), rel_tol=1e-6)
    assert math.isclose(math.log(wide.middle / wide.low) / z, both, rel_tol=1e-6)


def test_what_has_no_end_or_no_size_is_not_widened_there() -> None:
    never = Range(1.0, math.inf, math.inf)
    assert never.widened(0.5) == never
    assert Range(0.0, 0.0, 0.0).widened(0.5) == Range(0.0, 0.0, 0.0)
    assert Range(1.0, 2.0, 3.0).widened(0.0) == Range(1.0, 2.0, 3.0)
    half = Range(0.0, 2.0, math.inf).widened(0.5)
    assert (half.low, half.middle, half.high) == (0.0, 2.0, math.inf)


@pytest.mark.parametrize("dimensions", [1, 5, 14, 20])
@pytest.mark.parametrize("count", [40, 200])
def test_draws_lie_as_the_normal_distribution_does_in_every_dimension(count: int, dimensions: int) -> None:
    draws = normal_draws(count, dimensions)
    assert len(draws) == count
    for values in zip(*draws, strict=True):
        assert math.isclose(fmean(values), 0.0, abs_tol=1e-12)
        assert abs(pstdev(values) - 1.0) < 0.08
        assert abs(sum(value > 1.645 for value in values) - count / 20) <= 2, "a twentieth lies beyond"
    assert normal_draws(count, dimensions) is draws, "the same question has the same answer"


def test_no_two_dimensions_of_draws_go_together() -> None:
    """Else what is not known of the link, say, would be the same as what is not known of the guest."""
    for count, most in ((40, 0.45), (200, 0.21)):
        dimensions = tuple(zip(*normal_draws(count, 20), strict=True))
        assert max(abs(correlation(one, other)) for one, other in combinations(dimensions, 2)) < most


@pytest.mark.parametrize(("count", "least", "most"), [(40, 0.7, 0.97), (200, 0.84, 0.95)])
def test_a_range_out_of_draws_holds_in_nine_of_ten_cases_whatever_matters(
    count: int, least: float, most: float
) -> None:
    """A sum of fourteen things, each weighing as much as chance has it; how likely its range holds is known exactly."""
    dice = Random(1)
    held: list[float] = []
    for _ in range(60):
        weights = [dice.gammavariate(0.7, 1.0) ** 0.5 for _ in range(14)]
        found = Range.of(sum(map(mul, weights, draw)) / math.hypot(*weights) for draw in normal_draws(count, 14))
        assert abs(found.middle) < 1e-9
        held.append(NormalDist().cdf(found.high) - NormalDist().cdf(found.low))
    assert least < min(held)
    assert max(held) < most
    assert abs(fmean(held) - 0.9) < 0.04


def test_every_second_draw_mirrors_the_one_before() -> None:
    draws = normal_draws(7, 3)
    assert [tuple(-each for each in draw) for draw in draws[0:6:2]] == list(draws[1:6:2])


@pytest.mark.parametrize("dimensions", [0, 21])
def test_there_are_draws_of_so_many_dimensions_only(dimensions: int) -> None:
    with pytest.raises(BadInput, match="1 to 20"):
        normal_draws(10, dimensions)


@given(RANGES)
def test_a_range_comes_back_out_of_json_as_it_was(ends: Range) -> None:
    assert range_of(json.loads(json.dumps(plain(ends), allow_nan=False))) == ends


@pytest.mark.parametrize("told", [{}, {"low": 1, "middle": 2}, {"low": 1, "middle": 2, "high": "x"}])
def test_what_is_no_range_is_refused(told: dict[str, float]) -> None:
    with pytest.raises((KeyError, ValueError)):
        range_of(told)
