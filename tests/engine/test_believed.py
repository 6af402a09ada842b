"""Curves through measured points: exact where they were drawn, open where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.beliefs import MIB, points, uniform_bytes
from whimbrel.engine.belief import CurvePoint
from whimbrel.engine.believed import NOISE, believed
from whimbrel.engine.curve import Curve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Range, normal_draws

TOTAL = 1024 * MIB


def drawn(known: tuple[CurvePoint, ...], count: int = 200, zero_bytes: float = 0.0) -> list[Curve]:
    curves = believed(known)
    return [
        curves.drawn(level, tilt, bend, total_bytes=TOTAL, zero_bytes=zero_bytes)
        for level, tilt, bend in normal_draws(count, 3)
    ]


def measured(curve: Callable[[float], float], *windows_s: float, error: float = 0.02) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(window_s, curve(window_s), error * curve(window_s)) for window_s in windows_s)


def over(curves: list[Curve], window_s: float) -> Range:
    return Range.of(curve.at(window_s) for curve in curves)


def test_the_middle_draw_goes_through_the_points() -> None:
    known = points()
    curve = believed(known).drawn(0.0, 0.0, 0.0, total_bytes=TOTAL, zero_bytes=0.0)
    for point in known:
        assert curve.at(point.window_s) == pytest.approx(point.dirtied_bytes, rel=0.005)


def test_a_draw_is_off_by_as_many_standard_errors() -> None:
    def growing(window_s: float) -> float:
        return uniform_bytes(window_s, 200 * MIB, 5.0)

    known = measured(growing, 0.5, 1.0, 2.0, error=0.1)
    off = math.hypot(0.1, NOISE)
    high = believed(known).drawn(1.0, 0.0, 0.0, total_bytes=TOTAL, zero_bytes=0.0)
    assert high.at(1.0) == pytest.approx(growing(1.0) * (1 + off * math.sqrt(0.8)), rel=0.005)
    tilted = believed(known).drawn(0.0, 1.0, 0.0, total_bytes=TOTAL, zero_bytes=0.0)
    assert tilted.at(0.5) == pytest.approx(growing(0.5) * (1 + off * math.sqrt(0.2)), rel=0.005)
    assert tilted.at(1.0) == pytest.approx(growing(1.0), rel=0.005)
    assert tilted.at(2.0) == pytest.approx(growing(2.0) * (1 - off * math.sqrt(0.2)), rel=0.005)


def test_a_single_point_is_off_by_its_error_whatever_the_tilt() -> None:
    curve = believed((CurvePoint(1.0, 100 * MIB, 10 * MIB),)).drawn(0.0, 3.0, 0.0, total_bytes=TOTAL, zero_bytes=0.0)
    assert curve.at(1.0) == pytest.approx(100 * MIB, rel=0.005)


@pytest.mark.parametrize("window_s", [0.02, 0.1, 0.3, 10.0, 60.0])
def test_one_class_of_pages_is_recognised_far_from_where_it_was_measured(window_s: float) -> None:
    told = over(drawn(measured(uniform_bytes, 0.25, 0.5, 1.0, 2.0, 4.0, error=0.01)), window_s)
    assert told.middle == pytest.approx(uniform_bytes(window_s), rel=0.15)


def test_a_hot_set_that_is_dirty_at_the_first_point_leaves_open_when_it_was() -> None:
    """All of it in a second: then from a tenth to nearly all of it in a tenth of one."""
    told = over(drawn(measured(lambda window_s: uniform_bytes(window_s, time_s=0.05), 1.0, 2.0, 4.0)), 0.1)
    assert told.low < 0.4 * 64 * MIB
    assert told.high > 0.95 * 64 * MIB
    assert told.holds(uniform_bytes(0.1, time_s=0.05))


def test_a_hot_set_and_a_cold_one_are_told_apart() -> None:
    def both(window_s: float) -> float:
        return uniform_bytes(window_s, 16 * MIB, 0.1) + uniform_bytes(window_s, 200 * MIB, 10.0)

    told = drawn(measured(both, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2))
    assert over(told, 0.03).middle == pytest.approx(both(0.03), rel=0.15)
    assert over(told, 8.0).middle == pytest.approx(both(8.0), rel=0.15)


def test_an_idle_guest_stays_idle_but_for_the_error() -> None:
    told = drawn((CurvePoint(1.0, 0.0, 100_000.0), CurvePoint(2.0, 0.0, 100_000.0)))
    assert over(told, 1.0).low == 0.0
    assert over(told, 1.0).high == pytest.approx(2 * 100_000, rel=0.5)
    assert over(told, 60.0).high < 3 * MIB


sizes = st.floats(0, 600 * MIB)
some_points = st.lists(
    st.tuples(st.floats(0.02, 8.0), sizes, st.floats(0, 0.3)), min_size=1, max_size=8, unique_by=lambda each: each[0]
).map(lambda found: tuple(CurvePoint(w, dirty, error * dirty) for w, dirty, error in sorted(found)))


@settings(max_examples=30, deadline=None)
@given(some_points, st.tuples(*[st.floats(-3, 3)] * 3), st.floats(0, 900 * MIB))
def test_no_draw_ever_falls_or_rises_above_what_is_not_zero(
    known: tuple[CurvePoint, ...], draw: tuple[float, float, float], zero_bytes: float
) -> None:
    curve = believed(known).drawn(*draw, total_bytes=TOTAL, zero_bytes=zero_bytes)
    values = [curve.at(0.001 * 1.3**step) for step in range(70)]
    assert values == sorted(values)
    assert values[0] >= 0
    assert values[-1] <= TOTAL - zero_bytes
    assert curve == believed(known).drawn(*draw, total_bytes=TOTAL, zero_bytes=zero_bytes)


@pytest.mark.parametrize("windows_s", [(), (0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (math.inf,)])
def test_points_without_rising_windows_are_refused(windows_s: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="points"):
        believed(tuple(CurvePoint(window_s, 1e6, 1e4) for window_s in windows_s))
