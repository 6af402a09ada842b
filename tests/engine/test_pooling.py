"""A few migrations move an estimate a little, many move it all the way; the range holds as often as it should."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from whimbrel.engine.estimate import HIGH, NORMAL, Estimate
from whimbrel.engine.pooling import LEAST_SPREAD, Seen, pooled

PRIOR = Estimate(1.0, 0.1, "default")


def learnt(*seen: float | Seen, prior: Estimate = PRIOR, mean_worth: float = 1.0) -> Estimate:
    """What comes of them."""
    told = [each if isinstance(each, Seen) else Seen(each) for each in seen]
    return pooled(told, prior, mean_worth=mean_worth, spread_worth=4.0, source=f"from {len(told)}")


def test_without_any_the_prior_stands() -> None:
    assert learnt() is PRIOR


def test_one_migration_goes_half_the_way_and_many_go_all_of_it() -> None:
    assert learnt(1.21).value == pytest.approx(1.1)
    assert learnt(*[1.21] * 99).value == pytest.approx(1.21, rel=0.003)
    assert learnt(1.21, mean_worth=0.0).value == pytest.approx(1.21), "a prior that is worth nothing says nothing"
    assert learnt(1.21).source == "from 1"


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_the_estimate_lies_among_what_was_seen_and_thought_in_any_order(values: list[float], weight: float) -> None:
    seen = [Seen(value, weight) for value in values]
    found = learnt(*seen)
    assert min(*values, 1.0) * 0.999 <= found.value <= max(*values, 1.0) * 1.001
    assert found.spread >= LEAST_SPREAD
    again = learnt(*reversed(seen))
    assert (again.value, again.spread) == pytest.approx((found.value, found.spread))


@given(st.floats(0.5, 2.0), st.floats(0.05, 0.9))
def test_one_that_is_less_alike_moves_it_less(value: float, weight: float) -> None:
    whole, part = learnt(value), learnt(Seen(value, weight))
    assert abs(math.log(part.value)) <= abs(math.log(whole.value)) + 1e-12


def test_one_that_was_to_be_off_by_chance_moves_it_less_and_widens_it_less() -> None:
    sure, unsure = learnt(1.3, 0.9), learnt(Seen(1.3, own_spread=0.2), Seen(0.9, own_spread=0.2))
    assert abs(math.log(unsure.value)) < abs(math.log(sure.value))
    assert unsure.spread < sure.spread


def test_more_of_the_same_is_known_better() -> None:
    spreads = [learnt(*[1.0] * count).spread for count in (1, 3, 10, 100)]
    assert spreads == sorted(spreads, reverse=True)
    assert learnt(*[1.0] * 10_000).spread == pytest.approx(LEAST_SPREAD, rel=1e-3), "nothing repeats itself exactly"


def test_a_single_outlier_does_not_carry_it_away() -> None:
    usual = [0.98, 0.99, 1.0, 1.01, 1.02, 1.0, 0.99]
    assert learnt(*usual, 50.0).value == pytest.approx(learnt(*usual).value, rel=0.05)


def test_few_degrees_of_freedom_widen_the_range_as_students_t_does() -> None:
    seen = [0.9, 1.0, 1.1, 1.05]
    found = learnt(*seen, mean_worth=0.0)
    logs = [math.log(value) for value in seen]
    mean = sum(logs) / 4
    spread = math.sqrt((4 * 0.1**2 + sum((x - mean) ** 2 for x in logs)) / 8) * math.sqrt(1 + 1 / 4)
    assert found.spread == pytest.approx(spread * t.ppf(0.95, 8) / norm.ppf(0.95), rel=1e-3)


@pytest.mark.parametrize("count", [1, 3, 14])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_the_range_holds_the_next_one_in_about_nine_of_ten(count: int, noise: float) -> None:
    """Hosts whose biases scatter as their migrations do, each migration with noise that was foreseen, too."""
    chance, held, tries = random.Random(7 * count), 0, 3000
    for _ in range(tries):
        bias = chance.gauss(0.0, 0.1)
        seen = [Seen(math.exp(bias + chance.gauss(0, 0.1) + chance.gauss(0, noise)), 1.0, noise) for _ in range(count)]
        found = learnt(*seen)
        reach = NORMAL.inv_cdf(HIGH) * math.hypot(found.spread, noise)
        ahead = bias + chance.gauss(0, 0.1) + chance.gauss(0, noise)
        held += abs(ahead - math.log(found.value)) <= reach
    assert 0.86 <= held / tries <= 0.96
