"""Courses of a migration from where it stands: closed form against what is known of simple guests."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.bounds import plateau_s
from whimbrel.engine.curve import ConstantRate
from whimbrel.engine.foresight_course import (
    ANY_BEND,
    MOST_SYNCS,
    WIRE,
    Ending,
    Ladder,
    SeenCurve,
    Standing,
    Straight,
    bend_of_slope,
    courses,
    likeliest,
    lucks,
    noises,
)
from whimbrel.engine.slowing import Headroom

MB = 1e6
RATE = 100 * MB
POINT = st.tuples(st.floats(1e-3, 1e3), st.floats(1.0, 1e12))


def linear(bytes_per_s: float) -> SeenCurve:
    """A guest that dirties in proportion to time, seen in windows from 10 ms to 10 s."""
    return SeenCurve([(window_s, bytes_per_s * window_s) for window_s in (0.01, 0.1, 1.0, 10.0)], 1e12)


def hot(size: float) -> SeenCurve:
    """A working set that is dirty all over after 10 ms."""
    return SeenCurve([(0.01, size), (0.1, size), (1.0, size), (10.0, size)], 1e12)


def standing(curve: SeenCurve | None, **changed: object) -> Standing:
    """At the beginning of the second iteration, 1 GB sent."""
    plain = Standing(
        at_s=10.0,
        sent_bytes=1000 * MB * WIRE,
        left_bytes=300 * MB,
        iteration_bytes=300 * MB,
        curve=curve,
        total_bytes=1000 * MB,
        bytes_per_s=RATE,
        limit_s=0.3,
        least_limit_s=0.3,
        goal_limit_s=0.3,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def middle(curve: SeenCurve | None, **changed: object) -> Ending:
    """The one course in the middle, without noise."""
    return likeliest(standing(curve, **changed))


# ---- luck


@pytest.mark.parametrize("count", [40, 200])
def test_luck_is_the_same_every_time_and_even(count: int) -> None:
    assert lucks(count) == lucks(count)
    assert len(lucks(count)) == count
    for place in range(8):
        mean = sum(luck[place] for luck in lucks(count)) / count
        assert abs(mean - (0.5 if place in (1, 3, 5, 6, 7) else 0.0)) < 0.2


def test_noise_is_normal_and_has_no_run_of_one_sign() -> None:
    table = noises()
    assert sum(table) == pytest.approx(0.0, abs=1e-9)
    assert sum(each**2 for each in table) / len(table) == pytest.approx(1.0, abs=0.05)
    signs = "".join("+" if each > 0 else "-" for each in table)
    assert "++++" not in signs
    assert "----" not in signs


# ---- the curve


@given(st.floats(0.01, 1.0))
def test_a_bend_has_the_slope_that_is_asked_for(slope: float) -> None:
    x = bend_of_slope(slope)
    assert (1.0 if x < 1e-6 else x / math.expm1(x)) == pytest.approx(slope, abs=0.006)


@given(st.lists(POINT, min_size=1, max_size=6, unique_by=lambda point: round(math.log(point[0]), 1)), st.floats(0, 1))
def test_a_seen_curve_rises_and_stays_below_all_memory(points: list[tuple[float, float]], bend: float) -> None:
    points.sort()
    rising = [(window_s, max(dirtied for _, dirtied in points[: i + 1])) for i, (window_s, _) in enumerate(points)]
    curve = SeenCurve(rising, 1e11)
    bent = curve.bent(bend)
    values = [curve.at(window_s, bent) for window_s in (0.0, 1e-6, 1e-3, 0.1, 1.0, 10.0, 1e4)]
    assert values[0] == 0.0
    assert all(before <= after * (1 + 1e-9) for before, after in pairwise(values))
    assert max(values) <= 1e11
    assert bent >= 0.0


def test_a_seen_curve_goes_through_its_points() -> None:
    curve = SeenCurve([(0.1, 10 * MB), (1.0, 50 * MB)], 1e12)
    assert [curve.at(window_s, curve.bent(0.5)) for window_s in (0.1, 1.0)] == pytest.approx([10 * MB, 50 * MB])
    assert curve.greatest_bytes == pytest.approx(50 * MB)
    assert curve.at(10.0, 0.0) > 50 * MB


def test_with_luck_a_curve_does_not_bend_at_all() -> None:
    assert linear(MB).bent(1.0) == pytest.approx(0.0, abs=1e-3)
    assert hot(MB).bent(0.0) > 4
    one = SeenCurve([(1.0, MB)], 1e12)
    assert (one.bent(1.0), one.bent(0.0)) == pytest.approx(ANY_BEND)
    assert one.at(4.0, 0.0) == pytest.approx(MB * 4**0.15)


def test_as_a_plain_curve_it_is_straight_below() -> None:
    plain = Straight(SeenCurve([(1.0, 10 * MB), (2.0, 15 * MB)], 1e12))
    assert plain.at(0.5) == pytest.approx(5 * MB)
    assert plain.at(0.0) == 0.0
    assert plain.knots_s == (1.0, 2.0)
    assert plain.most_bytes == 1e12


# ---- courses


def test_an_idle_guest_is_sent_once() -> None:
    ended = middle(SeenCurve([(1.0, 4096.0)], 1e12))
    assert ended.ends_s == pytest.approx(10.0 + 2.7 + 0.3, abs=0.35)
    assert ended.downtime_s == pytest.approx(0.3 + 0.025, abs=0.02)
    assert ended.sent_bytes == pytest.approx(1300 * MB * WIRE, rel=0.01)


@given(st.floats(0.05, 0.8))
def test_a_constant_rate_below_the_link_ends_as_the_geometric_series_says(part: float) -> None:
    """Each pass is `part` of the one before: ``300 MB (1 + part + part^2 + ...)``, but for what is left at the stop."""
    ended = middle(linear(part * RATE), limit_s=0.05, least_limit_s=0.05, goal_limit_s=0.05, total_bytes=1e12)
    whole_s = 300 * MB / RATE / (1 - part)
    assert 10.0 + whole_s * 0.8 - 0.3 <= ended.ends_s <= 10.0 + whole_s * 1.15 + 0.3
    assert ended.downtime_s <= 0.05 + 0.025 + 1e-9


def test_a_hot_set_greater_than_the_limit_lets_through_never_ends() -> None:
    ended = middle(hot(80 * MB))
    assert (ended.ends_s, ended.sent_bytes) == (math.inf, math.inf)
    assert ended.downtime_s == pytest.approx(0.8 + 0.025, rel=0.2)
    assert ended.left_bytes == pytest.approx(80 * MB, rel=0.2)


@given(st.floats(0.2, 5.0), st.floats(10 * MB, 500 * MB))
def test_it_ends_just_where_the_plateau_is_within_the_limit(part: float, most: float) -> None:
    """Far from the limit the closed form of `bounds` and the courses agree; near it they may differ by early syncs."""
    truth = ConstantRate(part * RATE, most)
    windows = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0)
    curve = SeenCurve([(window_s, truth.at(window_s)) for window_s in windows], 1e12)
    plateau = plateau_s(truth, RATE)
    ended = middle(curve, limit_s=0.3, total_bytes=1e12)
    if plateau <= 0.15 and part < 0.8:
        assert ended.ends_s < math.inf
    if plateau >= 0.9 and part > 2:
        assert ended.ends_s == math.inf


def test_the_limit_is_raised_when_iterations_shrink_no_more() -> None:
    held = middle(hot(20 * MB), limit_s=0.02, least_limit_s=0.02, goal_limit_s=0.02)
    raised = middle(hot(20 * MB), limit_s=0.02, least_limit_s=0.02)
    assert held.ends_s == math.inf
    assert raised.ends_s < math.inf
    assert raised.downtime_s > 0.1


def test_the_limit_is_raised_when_the_deadline_has_passed() -> None:
    slow = linear(0.7 * RATE)
    changed = {"limit_s": 0.01, "least_limit_s": 0.01, "total_bytes": 1e12}
    at_leisure, in_haste = middle(slow, **changed), middle(slow, deadline_s=10.5, **changed)
    assert in_haste.ends_s < at_leisure.ends_s
    assert in_haste.downtime_s > at_leisure.downtime_s


def test_a_policy_with_postcopy_goes_over_to_it_when_stuck() -> None:
    ended = middle(hot(80 * MB), postcopy=True)
    assert ended.ends_s < math.inf
    assert ended.downtime_s == pytest.approx(0.025)


def test_a_sync_that_did_not_shrink_counts_already() -> None:
    """With post-copy at hand it is the sooner over."""
    stuck = {"left_bytes": 80 * MB, "iteration_bytes": 80 * MB, "postcopy": True}
    before, after = (middle(hot(80 * MB), shrank=shrank, **stuck) for shrank in (True, False))
    assert after.ends_s < before.ends_s


def test_a_throttle_that_is_on_slows_what_is_dirtied() -> None:
    busy = {"headroom": Headroom((1.0,)), "total_bytes": 1e12}
    assert middle(linear(1.5 * RATE), **busy).ends_s == math.inf
    assert middle(linear(1.5 * RATE), throttle=0.8, **busy).ends_s < math.inf


def test_a_ladder_is_climbed_until_it_ends() -> None:
    ladder = Ladder(initial=0.2, increment=0.2, ceiling=0.99, trigger=0.5)
    course = {"headroom": Headroom((1.0,)), "total_bytes": 1e12}
    climbed = middle(linear(1.3 * RATE), ladder=ladder, **course)
    assert 12.0 < climbed.ends_s < math.inf
    stuck = middle(linear(1.3 * RATE), ladder=replace(ladder, ceiling=0.2, increment=0.01), **course)
    assert stuck.ends_s == math.inf


def test_a_ladder_has_a_first_rung_and_a_last() -> None:
    ladder = Ladder(initial=0.2, increment=0.3, ceiling=0.6, trigger=0.5)
    assert [ladder.above(each) for each in (0.0, 0.2, 0.5, 0.6)] == pytest.approx([0.2, 0.5, 0.6, 0.6])


def test_zero_pages_may_shorten_the_first_iteration() -> None:
    spans = [each.ends_s for each in courses(standing(None, zero_bytes=300 * MB), 40)]
    assert min(spans) < 11.5
    assert max(spans) == math.inf


def test_a_cap_is_lifted_for_the_last_of_the_ram() -> None:
    plain, capped = middle(hot(10 * MB)), middle(hot(10 * MB), capped=True)
    assert capped.downtime_s < plain.downtime_s
    assert capped.ends_s <= plain.ends_s


def test_a_limit_that_was_lowered_once_may_be_lowered_again() -> None:
    plain = standing(hot(MB), least_limit_s=0.01)
    assert [replace(plain, lowers=True).limit_within(part) for part in (0.0, 0.5, 1.0)] == pytest.approx(
        [0.01, math.sqrt(0.003), 0.3]
    )
    assert [plain.limit_within(part) for part in (0.0, 0.5, 1.0)] == pytest.approx([0.01, 0.3, 0.3])
    assert replace(plain, least_limit_s=0.0).limit_within(0.0) == 0.3


@given(
    st.lists(POINT, min_size=1, max_size=5, unique_by=lambda point: point[0]),
    st.floats(1.0, 1e11),
    st.floats(0.0, 1e13),
    st.floats(0.001, 100.0),
    st.floats(0.0, 0.99),
    st.booleans(),
)
def test_whatever_was_seen_courses_come_to_an_end(
    points: list[tuple[float, float]], rate: float, left: float, limit_s: float, throttle: float, postcopy: bool
) -> None:
    curve = SeenCurve(sorted(points), 1e12)
    found = courses(
        standing(
            curve, bytes_per_s=rate, left_bytes=left, iteration_bytes=left, limit_s=limit_s, least_limit_s=0.001,
            throttle=throttle, postcopy=postcopy, noise=0.3, curve_spread=0.5,
        ),
        20,
    )  # fmt: skip
    for each in found:
        assert each.ends_s > 10.0
        assert each.downtime_s > 0.0
        assert each.sent_bytes >= 1000 * MB
        assert 0.0 <= each.left_bytes <= 3e13


@given(st.floats(0.1, 3.0))
def test_more_bandwidth_never_ends_later(part: float) -> None:
    curve = linear(part * RATE)
    spans = [middle(curve, bytes_per_s=rate * RATE, total_bytes=1e12).ends_s for rate in (1.0, 2.0, 4.0, 8.0)]
    assert all(after <= before + 0.1 for before, after in pairwise(spans))


def test_no_more_is_looked_ahead_than_so_many_syncs() -> None:
    """A guest that shrinks by less than 5 % at each is stuck, and one that shrinks by 6 % never gets there in time."""
    ended = middle(linear(0.94 * RATE), left_bytes=1e12, iteration_bytes=1e12, total_bytes=1e15)
    assert 0.94**MOST_SYNCS * 1e12 > 0.3 * RATE
    assert ended.ends_s == math.inf
