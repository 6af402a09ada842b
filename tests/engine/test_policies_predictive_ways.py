"""The ways that a migration could go: what each comes to, worked by hand where that can be done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from whimbrel.engine.policies.predictive_ways import (
    MOST_PASSES,
    Means,
    Prospect,
    Way,
    compared,
    page_s,
    said,
    throttles,
)
from whimbrel.engine.slowing import SYNC_S, Headroom


def linear(rate: float, most_s: float = 1e9) -> Callable[[float], float]:
    """A guest that dirties so many seconds of link in a second, up to a working set."""
    return lambda window_s: min(most_s, rate * window_s)


def prospect(dirty_s: Callable[[float], float], **what: Any) -> Prospect:
    """2 s are left; the rest may take 0.2 s, an outage takes 0.05 s besides."""
    given: dict[str, Any] = {
        "most_s": 3.0,
        "left_s": 2.0,
        "ran_s": 0.0,
        "limit_s": 0.2,
        "room_s": 0.2,
        "after_s": 0.05,
        "fault_s": 0.001,
        "page_s": 4e-5,
        "headroom": Headroom((1.0,)),
        "slice_s": 0.002,
    }
    return Prospect(dirty_s=dirty_s, **(given | what))


def test_stopping_now_sends_all_that_is_left_with_the_guest_stopped() -> None:
    first = next(prospect(linear(0.5)).plain())
    assert (first.means, first.waits, first.stops_s) == (Means.STOP, 0, 0.0)
    assert first.outage_s == pytest.approx(2.05)
    assert first.total_s == first.lost_s == first.outage_s


def test_passes_halve_until_the_rest_fits_within_one() -> None:
    """2, 1, 0.5, 0.25 s: during the fourth pass what is left and what is dirty by then come to 0.2 s."""
    ways = list(prospect(linear(0.5)).plain())
    fitting = [way for way in ways if way.outage_s <= 0.2501]
    first = min(fitting, key=lambda way: way.total_s)
    assert first.waits == 3
    # From 0.25 s: 0.25 - s + s / 2 = 0.2 after 0.1 s.
    assert first.stops_s == pytest.approx(2 + 1 + 0.5 + 3 * SYNC_S + 0.1, abs=0.02)
    assert len(ways) > MOST_PASSES  # each pass more is a way, to as many as are thought ahead


def test_passes_that_do_not_shrink_are_not_followed() -> None:
    assert len(list(prospect(linear(1.0)).plain())) == 1


def test_syncing_often_sends_what_is_dirtied_before_it_is_sent_only_once() -> None:
    """At 0.9 of the link, at random in 2 s of memory."""

    def at_random(window_s: float) -> float:
        return -2.0 * math.expm1(-0.45 * window_s)

    seen = prospect(at_random, most_s=2.0, limit_s=0.3, room_s=0.3)
    eager = seen.eager()
    assert eager is not None
    assert eager.outage_s <= 0.35
    quickest = min((way for way in seen.plain() if way.outage_s <= 0.35), key=lambda way: way.total_s)
    assert eager.total_s < quickest.total_s


def test_syncing_often_does_not_help_where_more_is_dirtied_than_sent() -> None:
    assert prospect(linear(3.0), most_s=30.0).eager() is None
    assert prospect(lambda window_s: min(1.0, 40 * window_s), most_s=1.0).eager() is None


def test_syncing_often_begins_where_the_pass_stands() -> None:
    fresh, later = prospect(linear(0.5)).eager(), prospect(linear(0.5), ran_s=1.0, left_s=0.1).eager()
    assert fresh is not None
    assert later is not None
    assert later.total_s < fresh.total_s


def test_what_shrinks_too_slowly_is_taken_not_to() -> None:
    creeping = prospect(lambda window_s: max(0.0, window_s - 1e-4), left_s=0.9, most_s=1e9)
    assert creeping.eager() is None


def test_a_throttle_slows_what_is_dirtied_and_costs_what_it_takes() -> None:
    """A tenth of its speed: 2 s of link become 0.4, which becomes 0.08; it loses nine tenths of that time."""
    way = prospect(linear(2.0)).slowed(0.9, 0)
    assert way.outage_s == pytest.approx(0.25, abs=0.01)
    # Besides those two passes less what is left over, two syncs that wait for a vCPU that sleeps 18 ms, and the stop.
    assert way.total_s == pytest.approx(2.0 + 0.4, abs=0.2)
    assert way.lost_s == pytest.approx(0.9 * (way.total_s - way.outage_s) + way.outage_s, rel=0.02)
    assert way.stops_s < way.total_s - way.outage_s


def test_one_that_begins_later_waits_at_full_speed() -> None:
    now, later = (prospect(linear(2.0, most_s=1.5)).slowed(0.9, waits) for waits in (0, 1))
    assert later.begins_s == pytest.approx(2.0 + SYNC_S)
    assert later.lost_s < now.lost_s
    assert later.total_s > now.total_s


def test_one_that_is_not_enough_says_how_far_it_gets() -> None:
    way = prospect(linear(2.0)).slowed(0.4, 0)
    assert way.outage_s > 2.0
    creeping = prospect(lambda window_s: max(0.0, window_s - 0.05), headroom=Headroom((0.01,)))
    assert creeping.slowed(0.5, 0).outage_s > 0.25


def test_postcopy_sends_each_page_once_and_the_guest_waits_for_some() -> None:
    way = prospect(linear(1.0)).postcopy(0)
    assert way.outage_s == 0.05
    assert way.total_s == pytest.approx(2.05)
    assert 0.05 < way.lost_s < 2.05


def test_postcopy_later_has_less_to_send_if_the_guest_dirties_less_than_that() -> None:
    now, later = (prospect(linear(0.1)).postcopy(waits) for waits in (0, 1))
    assert later.begins_s == pytest.approx(2.0 + SYNC_S)
    assert later.lost_s < now.lost_s


def test_the_longer_a_page_takes_to_come_the_more_is_lost() -> None:
    seen = prospect(linear(1.0))
    waits = [replace(seen, fault_s=fault_s).waited_s(2.0) for fault_s in (0.0, 0.0005, 0.02)]
    assert waits[0] == pytest.approx(0.0)
    assert waits[0] < waits[1] < waits[2] < 2.0
    assert seen.waited_s(0.0) == 0.0


def test_throttles_get_denser_and_end_at_the_greatest() -> None:
    found = list(throttles(0.99))
    assert found == sorted(found)
    assert found[-1] == 0.99
    assert list(throttles(0.3))[-1] == 0.3
    assert list(throttles(0.005)) == []


def test_a_page_is_4096_bytes() -> None:
    assert page_s(4096.0) == 1.0


def test_ways_are_said_with_their_numbers() -> None:
    way = Way(Means.THROTTLE, 0.64, 2, 0.0, 6.0, 7.1, 2.5, 0.24)
    assert said(way) == "throttle 64% after 2 more passes: 7.10 s, outage 0.24 s, 2.50 guest-seconds lost"
    assert said(replace(way, waits=1)).startswith("throttle 64% after 1 more pass:")


def test_what_was_compared_is_said_kind_by_kind() -> None:
    stop = Way(Means.STOP, 0.0, 0, 0.0, 0.0, 1.3, 1.3, 1.3)
    late = Way(Means.POSTCOPY, 0.0, 0, 0.0, 0.0, 9.0, 1.0, 0.1)
    throttled = Way(Means.THROTTLE, 0.9, 0, 0.0, 2.0, 2.2, 2.0, 0.2)

    def miss(way: Way) -> float:
        return max(way.outage_s / 0.3, way.total_s / 5.0)

    ways = (stop, throttled, late)
    assert compared(throttled, ways, miss, lambda way: way.total_s, 0.3) == (
        "throttle 90% now: 2.20 s, outage 0.20 s, 2.00 guest-seconds lost; waiting: outage never below 1.30 s; "
        "post-copy now: outage never below 0.10 s, 9.00 s"
    )
    assert compared(None, ways, miss, lambda way: way.total_s, 0.3).startswith(
        "nothing that is allowed will do; waiting: outage never below 1.30 s; throttle 90% now: 2.20 s"
    )
