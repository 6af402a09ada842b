"""Floor, plateau and least throttle: the published tables, brute force on small traces, and what must hold of all."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.published import FLOOR_MS, LEAST_THROTTLE, PLATEAU_MS, link, memcached
from whimbrel.engine.bounds import (
    Sender,
    floor_s,
    goodput,
    least_goodput,
    least_left_pages,
    least_speed,
    least_throttle,
    plateau_s,
)
from whimbrel.engine.curve import PAGE_BYTES, ConstantRate, Curve, DirtyCurve, PoissonClasses, Slowed, Together

MEMCACHED = memcached()


@pytest.mark.parametrize(("gbit_per_s", "expected_ms"), FLOOR_MS.items())
def test_the_published_floors(gbit_per_s: float, expected_ms: int) -> None:
    assert round(floor_s(MEMCACHED, goodput(link(gbit_per_s))) * 1e3) == expected_ms


@pytest.mark.parametrize(("gbit_per_s", "expected_ms"), PLATEAU_MS.items())
def test_the_published_plateaus(gbit_per_s: float, expected_ms: int) -> None:
    reached_s = plateau_s(MEMCACHED, goodput(link(gbit_per_s)))
    assert math.floor(reached_s * 1e3 + 0.5) == expected_ms


@pytest.mark.parametrize(("row", "gbit_per_s"), [(row, rate) for row in LEAST_THROTTLE for rate in LEAST_THROTTLE[row]])
def test_the_published_least_throttles(row: tuple[str, int], gbit_per_s: float) -> None:
    """Printed on a grid of 0.5 %, the next one up; one of the 20 (4 Gbit/s, rounds) is a step of the grid higher."""
    sender, limit_ms = row
    least = least_throttle(MEMCACHED, goodput(link(gbit_per_s)), limit_ms / 1e3, Sender(sender))
    assert least is not None
    printed = LEAST_THROTTLE[row][gbit_per_s]
    slack = 0.52 if (sender, limit_ms, gbit_per_s) == ("rounds", 300, 4) else 0.5
    assert printed - slack <= least * 100 <= printed + 0.01


def test_a_page_has_a_header_on_the_wire() -> None:
    assert goodput(4104.0) == 4096.0


# ---- the floor of a trace


def _most_sent(last_writes: list[int], stop: int, pages_per_slot: int) -> int:
    """By maximum matching of pages with places in slots, slot j lasting from j to j + 1."""
    places = [slot for slot in range(stop) for _ in range(pages_per_slot)]
    taken: dict[int, int] = {}

    def place(page: int, seen: set[int]) -> bool:
        for number, slot in enumerate(places):
            if slot >= last_writes[page] and number not in seen:
                seen.add(number)
                if number not in taken or place(taken[number], seen):
                    taken[number] = page
                    return True
        return False

    return sum(place(page, set()) for page in range(len(last_writes)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_order_of_sending_beats_the_floor_of_a_trace_and_one_meets_it(data: st.DataObject) -> None:
    """Hall's condition against a brute-force matching, on all small traces that chance comes up with."""
    stop = data.draw(st.integers(1, 8))
    pages_per_slot = data.draw(st.integers(1, 3))
    last_writes = data.draw(st.lists(st.integers(0, stop), max_size=14))
    left = len(last_writes) - _most_sent(last_writes, stop, pages_per_slot)
    assert least_left_pages([float(each) for each in last_writes], float(stop), pages_per_slot) == left


@given(
    st.lists(st.floats(0, 10), max_size=30),
    st.floats(0.1, 5),
    st.floats(0.1, 5),
)
def test_a_faster_link_never_leaves_more(last_writes: list[float], slow: float, more: float) -> None:
    assert least_left_pages(last_writes, 10.0, slow + more) <= least_left_pages(last_writes, 10.0, slow)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_sender_in_rounds_leaves_no_less_than_the_floor(data: st.DataObject) -> None:
    """Pages are sent round by round, one a second, on a trace of random writes; the guest stops at any second."""
    pages = data.draw(st.integers(1, 10))
    stop = data.draw(st.integers(1, 40))
    writes = [data.draw(st.lists(st.integers(0, pages - 1), max_size=2)) for _ in range(stop)]
    to_send = list(range(pages))
    dirty: set[int] = set()
    last = [0.0] * pages
    for second in range(stop):
        if not to_send:
            to_send = sorted(dirty)
            dirty.clear()
        if to_send:
            to_send.pop(0)  # read at the beginning of the second, before what is written in it
        for page in writes[second]:
            last[page] = second + 0.5
            dirty.add(page)
    assert len(dirty | set(to_send)) >= least_left_pages(last, float(stop), 1.0)


# ---- the floor and the plateau of a curve


def _by_looking(value: Callable[[float], float], end_s: float) -> float:
    return max(value(end_s * (i / 5000) ** 3) for i in range(5001))


CURVES: dict[str, DirtyCurve] = {
    "measured": MEMCACHED,
    "classes": PoissonClasses(((1e5, 5.0), (1e6, 0.01), (3e5, 0.2))),
    "sweep": ConstantRate(4e8, 2e9),
    "together": Together((ConstantRate(4e8, 2e9), Slowed(MEMCACHED, 0.1))),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("bytes_per_s", [5e7, 2e8, 6e8])
def test_the_floor_is_the_greatest_lead(name: str, bytes_per_s: float) -> None:
    curve = CURVES[name]
    end_s = min(curve.most_bytes / bytes_per_s, 200.0)
    seen = _by_looking(lambda tau: curve.at(tau) / bytes_per_s - tau, end_s)
    assert floor_s(curve, bytes_per_s) == pytest.approx(max(0.0, seen), rel=2e-3, abs=1e-9)
    assert floor_s(curve, bytes_per_s) >= seen * (1 - 1e-9)


@pytest.mark.parametrize("name", CURVES)
def test_no_iterations_end_below_the_floor(name: str) -> None:
    """The plateau is the outage of a sender in rounds; the floor that of any."""
    for bytes_per_s in (5e7, 2e8, 3e8, 6e8):
        assert plateau_s(CURVES[name], bytes_per_s) >= floor_s(CURVES[name], bytes_per_s) - 1e-9


@pytest.mark.parametrize("name", CURVES)
def test_at_the_plateau_an_iteration_makes_one_like_itself(name: str) -> None:
    curve = CURVES[name]
    for bytes_per_s in (5e7, 2e8):
        reached_s = plateau_s(curve, bytes_per_s)
        if reached_s > 0:
            assert curve.at(reached_s) / bytes_per_s == pytest.approx(reached_s, rel=1e-6)


@pytest.mark.parametrize("name", CURVES)
def test_iterations_come_down_to_the_plateau_from_above(name: str) -> None:
    curve = CURVES[name]
    for bytes_per_s in (5e7, 2e8, 3e8, 6e8):
        now_s = 2 * curve.most_bytes / bytes_per_s
        for _ in range(3000):
            now_s = curve.at(now_s) / bytes_per_s
        assert plateau_s(curve, bytes_per_s) == pytest.approx(now_s, rel=1e-6, abs=1e-9)


def test_a_rate_without_an_end_shrinks_to_nothing_or_grows_for_ever() -> None:
    assert plateau_s(ConstantRate(50.0), 100.0) == 0.0
    assert floor_s(ConstantRate(50.0), 100.0) == 0.0
    assert plateau_s(ConstantRate(150.0), 100.0) == math.inf
    assert floor_s(ConstantRate(150.0), 100.0) == math.inf


def test_a_guest_as_fast_as_its_link_comes_down_to_its_end() -> None:
    """At a tangent each iteration is as long as the one before."""
    assert plateau_s(ConstantRate(100.0, 700.0), 100.0) == pytest.approx(7.0)


class _Rounded:
    """A curve that rounding has put a little below 0 all along."""

    most_bytes = 10.0
    knots_s = ()

    def at(self, window_s: float, /) -> float:
        return -1e-12 - window_s * 0.0


def test_what_rounding_puts_below_nothing_is_nothing() -> None:
    assert plateau_s(_Rounded(), 100.0) == 0.0
    assert floor_s(_Rounded(), 100.0) == 0.0


def test_an_idle_guest_has_neither() -> None:
    assert plateau_s(ConstantRate(0.0, 0.0), 100.0) == 0.0
    assert floor_s(ConstantRate(0.0, 0.0), 100.0) == 0.0


def test_a_measured_curve_that_is_not_concave_may_be_ahead_in_the_middle_only() -> None:
    """Behind the link at 1 s, ahead of it at 2 s, behind again at 3 s."""
    bump = Curve(((1.0, 50.0), (2.0, 230.0), (3.0, 240.0)), 1000.0, 700.0)
    reached_s = plateau_s(bump, 100.0)
    assert 2.0 < reached_s < 3.0
    assert bump.at(reached_s) == pytest.approx(100.0 * reached_s)
    assert floor_s(bump, 100.0) == pytest.approx(0.3)


# ---- throttles


def test_a_limit_that_is_met_anyhow_needs_no_throttle() -> None:
    assert least_throttle(ConstantRate(10.0, 100.0), 100.0, 0.1) == 0.0


def test_a_guest_that_no_throttle_slows_enough() -> None:
    assert least_throttle(ConstantRate(1e6, 1e6), 100.0, 0.1) is None


def test_devices_are_not_slowed() -> None:
    """Half of the writes come by DMA: the throttle must do more to the other half."""
    half = ConstantRate(60.0, 600.0)
    alone = least_throttle(Together((half, half)), 100.0, 0.5)
    beside = least_throttle(half, 100.0, 0.5, throttled=lambda part: Together((half, Slowed(half, 1 - part))))
    assert alone is not None
    assert beside is not None
    assert beside > alone


@pytest.mark.parametrize("sender", Sender)
def test_the_least_throttle_is_enough_and_less_is_not(sender: Sender) -> None:
    reached = floor_s if sender is Sender.CLAIRVOYANT else plateau_s
    least = least_throttle(CURVES["classes"], 1e8, 0.3, sender)
    assert least is not None
    assert reached(Slowed(CURVES["classes"], 1 - least), 1e8) <= 0.3
    assert reached(Slowed(CURVES["classes"], 1 - least + 2e-4), 1e8) > 0.3


def test_pages_are_those_of_the_curve() -> None:
    assert PAGE_BYTES == 4096


# ---- what would do


@pytest.mark.parametrize("window_s", [0.1, 0.5, 2.0])
def test_the_least_goodput_makes_a_plateau_of_that_length(window_s: float) -> None:
    least = least_goodput(MEMCACHED, window_s)
    assert plateau_s(MEMCACHED, least * 1.001) <= window_s
    assert plateau_s(MEMCACHED, least * 0.999) > window_s


@pytest.mark.parametrize("gbit_per_s", [1, 2.5, 4])
def test_the_least_speed_is_what_the_least_throttle_leaves(gbit_per_s: float) -> None:
    rate = goodput(link(gbit_per_s))
    least = least_throttle(MEMCACHED, rate, 0.3)
    assert least is not None
    assert 1 - least_speed(MEMCACHED, rate, 0.3) == pytest.approx(least, abs=2e-4)


def test_a_guest_that_fits_keeps_its_speed() -> None:
    assert least_speed(ConstantRate(1e6), 2e6, 0.3) == 1.0


def test_a_rate_without_bends_needs_its_own_goodput_whatever_the_window() -> None:
    assert least_goodput(ConstantRate(1e6), 0.3) == 1e6
    assert least_speed(ConstantRate(1e6), 0.25e6, 0.3) == pytest.approx(0.25, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e5, 1e9), st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1e9)), min_size=2, max_size=8,
                                     unique_by=lambda each: each[0]))  # fmt: skip
def test_for_straight_curves_the_knots_are_enough(rate: float, found: list[tuple[float, float]]) -> None:
    """The search between them, that other curves need, finds nothing more."""
    curve = Curve(tuple(sorted(found)), 1e9)
    assert floor_s(Together((curve,)), rate) == pytest.approx(floor_s(curve, rate), rel=1e-6, abs=1e-9)
    assert plateau_s(Together((curve,)), rate) == pytest.approx(plateau_s(curve, rate), rel=1e-6, abs=1e-6)
