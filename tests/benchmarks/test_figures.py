"""Medians, intervals, ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import difference, median, ratio

SERIES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=12)


def test_the_median_is_that_of_the_values_and_lies_in_its_interval() -> None:
    estimate = median([5.0, 1.0, 3.0, 2.0, 4.0])
    assert estimate.value == 3.0
    assert 1.0 <= estimate.low <= 3.0 <= estimate.high <= 5.0


def test_equal_values_leave_no_doubt() -> None:
    assert (median([2.0] * 10).low, median([2.0] * 10).high) == (2.0, 2.0)


def test_the_same_measurements_give_the_same_interval() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0]
    assert median(values) == median(values)


def test_a_ratio_is_of_medians_and_keeps_pairs_together() -> None:
    """What slows both halves of a pair alike leaves no trace in the ratio."""
    theirs = [1.0, 2.0, 4.0, 8.0, 16.0]
    estimate = ratio([value / 4 for value in theirs], theirs)
    assert (estimate.value, estimate.low, estimate.high) == (0.25, 0.25, 0.25)


def test_a_difference_is_ours_less_theirs() -> None:
    assert difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).value == 2.0


@given(SERIES)
def test_an_interval_never_leaves_the_values(values: list[float]) -> None:
    estimate = median(values)
    assert min(values) <= estimate.low <= estimate.high <= max(values)


def test_more_agreement_gives_a_narrower_interval() -> None:
    wide, narrow = median([1.0, 5.0, 9.0, 2.0, 8.0]), median([4.8, 5.0, 5.2, 4.9, 5.1])
    assert narrow.high - narrow.low < wide.high - wide.low


def test_scaling_changes_the_unit_of_all_three() -> None:
    estimate = median([1.0, 2.0, 3.0])
    assert estimate.scaled(1000).high == estimate.high * 1000


@pytest.mark.parametrize("figure", [ratio, difference])
def test_series_of_different_length_are_no_pairs(figure: object) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match="make no pairs"):
        figure([1.0], [1.0, 2.0])


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        median([])


def test_a_zero_is_not_divided_by() -> None:
    with pytest.raises(ValueError, match="above 0"):
        ratio([1.0, 1.0], [1.0, 0.0])
