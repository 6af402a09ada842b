"""The curve that a few iterations give away."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.bounds import plateau_s
from whimbrel.engine.learnt import LearntCurve, point_of
from whimbrel.engine.statistics import Iteration

MIB = 1 << 20
SET, RATE = 256.0 * MIB, 171.0 * MIB
"""A working set, and at what rate it is written at random: the guest of the measured baselines."""


def true(window_s: float) -> float:
    return SET * -math.expm1(-RATE * window_s / SET)


def learnt(*windows_s: float, likely: float = RATE) -> LearntCurve:
    return LearntCurve([(window_s, true(window_s)) for window_s in windows_s], 512.0 * MIB, likely)


def test_it_goes_through_its_points() -> None:
    curve = learnt(3.93, 2.08, 1.68)
    for window_s in (1.68, 2.08, 3.93):
        assert curve.at(window_s) == pytest.approx(true(window_s))
    assert curve.knots_s == (1.68, 2.08, 3.93)


@pytest.mark.parametrize("window_s", [0.02, 0.2, 0.5, 1.0, 1.5])
def test_two_long_iterations_tell_of_a_short_window(window_s: float) -> None:
    assert learnt(3.93, 2.08).at(window_s) == pytest.approx(true(window_s), rel=0.06)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_what_was_thought_likely_gives_way_to_what_was_seen(factor: float) -> None:
    believed = learnt(3.93, likely=factor * RATE).at(0.2)
    seen = learnt(3.93, 2.08, 0.9, likely=factor * RATE).at(0.2)
    assert abs(math.log(seen / true(0.2))) < abs(math.log(believed / true(0.2))) / 2
    assert seen == pytest.approx(true(0.2), rel=0.15)


def test_one_iteration_alone_bends_as_is_likely() -> None:
    assert learnt(3.93).at(0.01) / 0.01 == pytest.approx(RATE, rel=0.1)


def test_beyond_the_longest_window_the_same_bend_goes_on_up_to_all_memory() -> None:
    assert learnt(0.5, 1.0).at(4.0) == pytest.approx(true(4.0), rel=0.1)
    small = LearntCurve([(1.0, 40.0 * MIB), (2.0, 80.0 * MIB)], 90.0 * MIB, 40.0 * MIB)
    assert small.at(100.0) == 90.0 * MIB


def test_windows_that_are_alike_are_one_point() -> None:
    curve = LearntCurve([(1.0, 100.0), (1.05, 110.0), (2.0, 150.0)], 1000.0, 100.0)
    assert curve.knots_s == pytest.approx((1.025, 2.0))
    assert curve.at(1.025) == pytest.approx(105.0)


def test_windows_are_alike_to_the_shortest_of_them_and_not_each_to_the_next() -> None:
    """Else a long chain of iterations, each a little longer than the one before, would be one point."""
    assert len(LearntCurve([(1.0, 100.0), (1.08, 110.0), (1.16, 120.0)], 1000.0, 100.0).knots_s) == 2


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_two_points_outweigh_a_rate_that_was_thought_likely(factor: float) -> None:
    assert learnt(3.93, 2.08, likely=factor * RATE).at(0.2) == pytest.approx(true(0.2), rel=0.12)


def test_the_shorter_points_count_for_more() -> None:
    """A guest that did less in one long iteration is still taken to bend as its short ones say."""
    curve = LearntCurve([(0.5, true(0.5)), (1.0, true(1.0)), (8.0, 0.6 * true(8.0))], 512.0 * MIB, RATE)
    assert curve.at(0.1) == pytest.approx(true(0.1), rel=0.1)


def test_an_idle_guest_has_a_curve_too() -> None:
    curve = LearntCurve([(4.0, 0.0), (0.1, 0.0)], 1e9, 1e8)
    assert curve.at(1.0) <= 1.0
    assert plateau_s(curve, 1e8) < 1e-6


@given(
    points=st.lists(
        st.tuples(st.floats(0.01, 100.0), st.floats(0.0, 1e10)),
        min_size=1,
        max_size=8,
    ),
    likely=st.floats(1e3, 1e10),
    windows=st.tuples(st.floats(0.0, 200.0), st.floats(0.0, 200.0)),
)
def test_it_never_falls(points: list[tuple[float, float]], likely: float, windows: tuple[float, float]) -> None:
    curve = LearntCurve(points, 2e10, likely)
    short_s, long_s = sorted(windows)
    assert 0 <= curve.at(short_s) <= curve.at(long_s) * (1 + 1e-9) + 1e-6
    assert curve.at(0.0) == 0


def iteration(*, duration_s: float = 1.0, start: float = 100.0, left: float = 0.0, dirtied: float = 60.0) -> Iteration:
    """Sizes in MiB."""
    return Iteration(
        number=1,
        started_ns=0,
        ended_ns=round(duration_s * 1e9),
        remaining_at_start_bytes=round(start * MIB),
        remaining_at_end_bytes=round(left * MIB),
        sent_bytes=round((start - left) * MIB),
        dirtied_bytes=round(dirtied * MIB),
    )


def test_an_iteration_is_a_point() -> None:
    assert point_of([iteration(duration_s=2.0)]) == (2.0, 60.0 * MIB)


def test_what_was_dirtied_among_the_pages_that_were_left_is_added() -> None:
    """A quarter of all that is ever dirtied was left: the others were dirtied as it was."""
    point = point_of([iteration(dirtied=120.0), iteration(left=30.0)])
    assert point is not None
    assert point[1] == pytest.approx(80.0 * MIB)


@pytest.mark.parametrize("ended", [iteration(duration_s=0.0), iteration(left=51.0), iteration(start=0.0, left=1.0)])
def test_an_iteration_that_tells_nothing_is_none(ended: Iteration) -> None:
    assert point_of([ended]) is None
