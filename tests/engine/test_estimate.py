"""Figures that are not certain: what they may be, between what they lie, and how that is written down."""

from __future__ import annotations

import json
import math
from statistics import NormalDist, fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("dimensions", [1, 5, 12])
def test_draws_lie_as_the_normal_distribution_does_in_every_dimension(dimensions: int) -> None:
    draws = normal_draws(200, dimensions)
    assert len(draws) == 200
    for place in range(dimensions):
        values = [draw[place] for draw in draws]
        assert abs(fmean(values)) < 0.06
        assert abs(stdev(values) - 1.0) < 0.1
        assert 0.04 <= sum(value > 1.645 for value in values) / 200 <= 0.06, "a twentieth lies beyond"
    assert normal_draws(200, dimensions) is draws, "the same question has the same answer"


@given(RANGES)
def test_a_range_comes_back_out_of_json_as_it_was(ends: Range) -> None:
    assert range_of(json.loads(json.dumps(plain(ends), allow_nan=False))) == ends


@pytest.mark.parametrize("told", [{}, {"low": 1, "middle": 2}, {"low": 1, "middle": 2, "high": "x"}])
def test_what_is_no_range_is_refused(told: dict[str, float]) -> None:
    with pytest.raises((KeyError, ValueError)):
        range_of(told)
