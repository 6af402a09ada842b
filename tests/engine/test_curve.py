"""Curves never fall, follow the published rules between and beyond their points, and say all that is wrong with one."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.published import memcached
from whimbrel.engine.curve import PAGE_BYTES, ConstantRate, Curve, DirtyCurve, PoissonClasses, Slowed, Together
from whimbrel.engine.errors import BadInput

GOOD: dict[str, object] = {
    "window_s": [0.1, 1, 10],
    "dirty_bytes": [1000, 4000, 13000],
    "total_bytes": 20000,
    "zero_bytes": 4000,
}
CURVE = Curve.from_mapping(GOOD)


@pytest.mark.parametrize(
    ("window_s", "expected"),
    [(0.1, 1000), (1, 4000), (5.5, 8500), (10, 13000), (12, 15000), (13, 16000), (1e9, 16000)],
)
def test_it_is_straight_between_its_points_and_goes_on_to_what_is_not_zero(window_s: float, expected: float) -> None:
    assert CURVE.at(window_s) == pytest.approx(expected)


def test_left_of_the_first_point_it_aims_where_the_first_two_lead() -> None:
    assert CURVE.at(0.0) == pytest.approx(2000 / 3)
    assert CURVE.at(0.05) == pytest.approx((2000 / 3 + 1000) / 2)


def test_it_does_not_aim_below_nothing() -> None:
    steep = Curve(((0.1, 1000), (0.2, 3000)), 10000)
    assert (steep.at(0.0), steep.at(0.05)) == (0.0, 500.0)


def test_counts_that_fall_are_raised_to_those_before_them() -> None:
    noisy = Curve(((0.1, 1000), (0.2, 900), (0.3, 1500)), 10000)
    assert noisy.at(0.2) == 1000


def test_more_than_what_is_not_zero_is_believed_where_it_was_measured() -> None:
    assert Curve(((0.1, 1000), (0.2, 9000)), 10000, 2000).most_bytes == 9000


def test_one_that_has_come_to_rest_stays_there() -> None:
    flat = Curve(((0.1, 1000), (0.2, 1000)), 10000)
    assert (flat.at(100.0), flat.most_bytes, flat.knots_s) == (1000, 1000, (0.0, 0.1, 0.2))


def test_its_knots_are_its_points_and_its_end() -> None:
    assert CURVE.knots_s == (0.0, 0.1, 1.0, 10.0, 13.0)
    assert Curve(((0.1, 1000), (0.2, 2000)), 2000).knots_s == (0.0, 0.1, 0.2)


def test_a_sample_counts_for_all_pages() -> None:
    curve = Curve.from_samples(100, 1000, 20, [1.0, 2.0], [5, 7])
    assert curve.points == ((1.0, 50 * PAGE_BYTES), (2.0, 70 * PAGE_BYTES))
    assert (curve.total_bytes, curve.zero_bytes) == (1000 * PAGE_BYTES, 200 * PAGE_BYTES)


def test_a_published_sample() -> None:
    """528 MiB/s over 125 ms and 99 MiB/s over a minute: why one rate is not enough."""
    curve = memcached()
    assert curve.at(0.125) / 0.125 / 2**20 == pytest.approx(528, abs=0.5)
    assert curve.at(60.0) / 60 / 2**20 == pytest.approx(99, abs=0.5)


@pytest.mark.parametrize("sampled", [0, 1001])
def test_a_sample_is_a_part_of_the_guest(sampled: int) -> None:
    with pytest.raises(BadInput, match="sampled"):
        Curve.from_samples(sampled, 1000, 0, [1.0, 2.0], [5, 7])


def test_it_is_read_from_json() -> None:
    assert Curve.from_mapping(json.loads(json.dumps(GOOD))) == CURVE


def test_no_zero_pages_need_not_be_said() -> None:
    given = {key: value for key, value in GOOD.items() if key != "zero_bytes"}
    assert Curve.from_mapping(given).most_bytes == 20000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"window_s": "1"}, "window_s"),
        ({"window_s": [1]}, "window_s"),
        ({"window_s": [0, 1, 2]}, "window_s"),
        ({"window_s": [1, 1, 2]}, "window_s"),
        ({"window_s": [1, True, 2]}, "window_s"),
        ({"dirty_bytes": [1, 2]}, "dirty_bytes"),
        ({"dirty_bytes": None}, "dirty_bytes"),
        ({"dirty_bytes": [1, 2, math.nan]}, "dirty_bytes"),
        ({"dirty_bytes": [1, -2, 3]}, "dirty_bytes"),
        ({"dirty_bytes": [1, 2, 20001]}, "dirty_bytes"),
        ({"zero_bytes": 20001}, "zero_bytes"),
        ({"zero_bytes": "x"}, "zero_bytes"),
        ({"pages": 1}, "pages"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        Curve.from_mapping(GOOD | change)
    assert caught.value.field == field


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        Curve.from_mapping({"window_s": [], "dirty_bytes": [1, -1], "total_bytes": 0, "zero_bytes": -1, "x": 2})
    assert caught.value.field == "x, window_s, dirty_bytes, total_bytes, zero_bytes"
    assert "window_s: a list of at least two numbers of seconds; " in caught.value.allowed


def test_without_a_total_the_rest_is_looked_at_all_the_same() -> None:
    with pytest.raises(BadInput) as caught:
        Curve(((1.0, 5.0), (2.0, -6.0)), math.inf)
    assert caught.value.field == "dirty_bytes, total_bytes"


def test_pages_written_at_random_times() -> None:
    classes = PoissonClasses(((100, 2.0), (50, 0.0), (10, 0.5)))
    expected = 100 * (1 - math.exp(-0.6)) + 10 * (1 - math.exp(-0.15))
    assert classes.at(0.3) == pytest.approx(expected * PAGE_BYTES)
    assert classes.most_bytes == 110 * PAGE_BYTES
    assert classes.knots_s == ()


@pytest.mark.parametrize("classes", [(), ((1, 1),) * 65, ((-1, 1),), ((1, -1),), ((1, math.inf),), ((math.nan, 1),)])
def test_classes_that_make_no_sense(classes: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(BadInput, match="classes"):
        PoissonClasses(classes)


def test_a_constant_rate_has_an_end() -> None:
    rate = ConstantRate(100.0, 250.0)
    assert (rate.at(2.0), rate.at(3.0), rate.knots_s) == (200.0, 250.0, ())


@pytest.mark.parametrize(("rate", "most"), [(-1, 1), (math.inf, 1), (1, -1), (1, math.nan)])
def test_rates_that_make_no_sense(rate: float, most: float) -> None:
    with pytest.raises(BadInput):
        ConstantRate(rate, most)


def test_a_slowed_guest_takes_longer_for_the_same() -> None:
    slowed = Slowed(CURVE, 0.5)
    assert slowed.at(2.0) == CURVE.at(1.0)
    assert (slowed.most_bytes, slowed.knots_s) == (16000, (0.0, 0.2, 2.0, 20.0, 26.0))


def test_a_guest_that_stands_still_dirties_nothing_more() -> None:
    still = Slowed(ConstantRate(10.0, 100.0), 0.0)
    assert (still.at(1e6), still.most_bytes, still.knots_s) == (0.0, 0.0, ())


def test_writers_of_different_pages_add_up() -> None:
    both = Together((CURVE, ConstantRate(100.0, 1000.0)))
    assert both.at(1.0) == 4100
    assert (both.most_bytes, both.knots_s) == (17000, CURVE.knots_s)


def _all_curves() -> st.SearchStrategy[DirtyCurve]:
    sizes = st.floats(0, 1e6)
    steps = st.lists(st.tuples(st.floats(0.01, 10), sizes), min_size=2, max_size=8)

    def measured(rises: list[tuple[float, float]]) -> Curve:
        window_s = 0.0
        points: list[tuple[float, float]] = []
        for span_s, dirty in rises:
            window_s += span_s
            points.append((window_s, dirty))
        return Curve(tuple(points), 2e6, 5e5)

    classes = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=5)
    simple = st.one_of(
        steps.map(measured),
        classes.map(lambda each: PoissonClasses(tuple(each))),
        st.builds(ConstantRate, st.floats(0, 1e6), sizes),
    )
    return st.one_of(
        simple,
        st.builds(Slowed, simple, st.floats(0, 1)),
        st.lists(simple, max_size=3).map(lambda x: Together(tuple(x))),
    )


@given(_all_curves(), st.floats(0, 50), st.floats(0, 50))
def test_no_curve_falls_or_goes_beyond_its_most(curve: DirtyCurve, a: float, b: float) -> None:
    """A window holds every shorter one, and no more than there is."""
    low, high = sorted((a, b))
    slack = 1e-9 * (1 + curve.most_bytes)
    assert -slack <= curve.at(low) <= curve.at(high) + slack
    assert curve.at(high) <= curve.most_bytes + slack


def test_a_part_of_the_memory_has_that_part_of_the_curve() -> None:
    whole = Curve(((1.0, 100.0), (2.0, 150.0)), 1000.0, 400.0)
    part = whole.scaled(0.25)
    assert (part.total_bytes, part.zero_bytes, part.most_bytes) == (250.0, 100.0, 150.0)
    for window_s in (0.1, 1.0, 1.7, 30.0):
        assert part.at(window_s) == pytest.approx(0.25 * whole.at(window_s))
