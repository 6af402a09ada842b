"""What a regret is, and where there is none."""

from __future__ import annotations

import math
import pickle
from dataclasses import asdict, replace
from typing import Any

import msgspec
import pytest

from tests.sim.bounds.worlds import scenario, writer
from whimbrel.engine.errors import BadInput
from whimbrel.sim.bounds import Bounds, Regret, bounds
from whimbrel.sim.bounds.clairvoyant import Front

BOUNDS = Bounds(
    clairvoyant=Front((10.0, 12.0), (0.5, 0.1)),
    restricted=Front((12.0, 15.0), (2.0, 1.0)),
    points=(
        (12.0, 2.0, 0.0, 1200.0, 2.0),
        (15.0, 1.0, 0.0, 1500.0, 1.0),
        (15.0, 0.2, 1.5, 1400.0, 1.7),
    ),
    least_downtime_s=0.01,
    once_s=9.0,
    once_bytes=1000,
    goal_s=1.0,
    horizon_s=60.0,
    alike=True,
    most_writes_per_s=100.0,
    write_s=0.02,
    silent_s=0.0,
    may_wait=True,
)


def near(regret: Regret) -> dict[str, Any]:
    """Its fields, up to rounding."""
    return {name: value if value is None else pytest.approx(value) for name, value in asdict(regret).items()}


def test_each_regret_is_a_gap_between_two_of_the_three() -> None:
    regret = BOUNDS.regret(total_s=20.0, downtime_s=1.5, transferred_bytes=1800, lost_guest_s=1.5)
    assert near(regret) == {
        "mechanism_downtime_s": 1.0 - 0.1,
        "policy_downtime_s": 1.5 - 1.0,
        "mechanism_time_s": 15.0 - 10.0,
        "policy_time_s": 20.0 - 15.0,
        "mechanism_bytes": 1500.0 - 1000.0,
        "policy_bytes": 1800.0 - 1500.0,
        "policy_lost_guest_s": 1.5 - 1.0,
        "policy_cost_s": None,  # the objectives allow 1 s
    }


def test_a_run_that_throttled_is_compared_with_what_throttled_no_more() -> None:
    regret = BOUNDS.regret(total_s=20.0, downtime_s=0.3, transferred_bytes=1800, lost_guest_s=2.3)
    assert regret.policy_downtime_s == pytest.approx(0.3 - 0.2)
    assert regret.policy_lost_guest_s == pytest.approx(2.3 - 1.7)
    less = BOUNDS.regret(total_s=20.0, downtime_s=0.3, transferred_bytes=1800, lost_guest_s=1.3)
    assert less.policy_downtime_s == pytest.approx(0.3 - 1.0)
    assert less.policy_time_s is None


def test_where_no_point_is_as_good_there_is_no_regret() -> None:
    regret = BOUNDS.regret(total_s=11.0, downtime_s=0.5, transferred_bytes=1800, lost_guest_s=0.5)
    assert regret == Regret(policy_cost_s=11.0 + 0.5 - (15.0 + 1.0))


def test_the_cost_is_compared_with_the_least_for_which_the_objectives_can_be_met() -> None:
    """Time and loss together: 15 s and 1.7 guest-seconds are dearer than 15 s and 1; what is late is no match."""
    assert _cost(BOUNDS, 20.0) == pytest.approx(20.0 + 2.3 - 16.0)
    assert _cost(replace(BOUNDS, deadline_s=16.0), 15.5) == pytest.approx(15.5 + 2.3 - 16.0)
    assert _cost(replace(BOUNDS, deadline_s=16.0), 20.0) is None
    assert _cost(replace(BOUNDS, deadline_s=14.0), 13.0) is None


def _cost(bounds: Bounds, total_s: float) -> float | None:
    return bounds.regret(total_s=total_s, downtime_s=0.3, transferred_bytes=1800.0, lost_guest_s=2.3).policy_cost_s


def test_a_run_that_did_not_converge_has_a_regret_of_time_alone() -> None:
    regret = BOUNDS.regret(total_s=30.0, downtime_s=None, transferred_bytes=9, lost_guest_s=0.0, converged=False)
    assert near(regret) == near(Regret(mechanism_time_s=15.0 - 10.0, policy_time_s=30.0 - 15.0))
    early = BOUNDS.regret(total_s=3.0, downtime_s=None, transferred_bytes=9, lost_guest_s=0.0, converged=False)
    assert early == Regret()


def test_post_copy_is_compared_with_everything_once_and_nothing_left() -> None:
    regret = BOUNDS.regret(total_s=11.0, downtime_s=0.05, transferred_bytes=1100, lost_guest_s=0.8, postcopy=True)
    assert near(regret) == {
        "mechanism_downtime_s": 0.0,
        "policy_downtime_s": 0.05 - 0.01,
        "mechanism_time_s": 0.0,
        "policy_time_s": 11.0 - 9.0,
        "mechanism_bytes": 0.0,
        "policy_bytes": 100.0,
        "policy_lost_guest_s": 0.8 - 0.01,
        "policy_cost_s": 11.0 + 0.8 - (15.0 + 1.0),  # cheaper than all that can be had before it
    }


def test_what_was_waited_counts_as_time() -> None:
    waited = BOUNDS.regret(total_s=16.0, downtime_s=1.5, transferred_bytes=1800, lost_guest_s=1.5, waited_s=4.0)
    assert waited == BOUNDS.regret(total_s=20.0, downtime_s=1.5, transferred_bytes=1800, lost_guest_s=1.5)
    held = replace(BOUNDS, may_wait=False)
    assert held.regret(total_s=16.0, downtime_s=1.5, transferred_bytes=1, lost_guest_s=1.5, waited_s=4.0) == Regret()


def test_a_run_beyond_the_trace_is_not_compared() -> None:
    assert BOUNDS.regret(total_s=61.0, downtime_s=1.5, transferred_bytes=1, lost_guest_s=1.5) == Regret()


def test_a_throttle_lowers_the_clairvoyant_bound_by_no_more_than_it_took() -> None:
    assert BOUNDS.clairvoyant_downtime_s(11.0) == 0.5
    assert BOUNDS.clairvoyant_downtime_s(11.0, 0.2) == pytest.approx(0.3)
    assert BOUNDS.clairvoyant_downtime_s(11.0, 3.0) == 0.01
    assert BOUNDS.clairvoyant_downtime_s(9.0, 3.0) is None
    # Writers that are not slowed alike: 0.05 s without them are 5 writes, which the link needs 0.1 s for.
    other = replace(BOUNDS, alike=False)
    assert other.clairvoyant_downtime_s(11.0, 0.05) == pytest.approx(0.5 - 0.1)
    assert other.clairvoyant_total_s(0.3, 0.05) == pytest.approx(12.0 - 0.1)
    assert BOUNDS.clairvoyant_total_s(0.3, 0.05) == 12.0
    assert BOUNDS.clairvoyant_total_s(0.3, 0.3) == 10.0
    assert BOUNDS.clairvoyant_total_s(0.005, 0.3) is None
    assert BOUNDS.clairvoyant_total_s(0.05, 0.001) is None


def test_what_a_throttle_buys_a_run_that_took_none_is_lost_work_that_it_could_have_been_spared() -> None:
    """Where lost guest-seconds are compared, throttles are free to be used; anywhere else they are not."""
    throttled = replace(BOUNDS, points=(*BOUNDS.points, (14.0, 0.5, 0.3, 1400.0, 0.8)))
    regret = throttled.regret(total_s=20.0, downtime_s=1.5, transferred_bytes=1800, lost_guest_s=1.5)
    assert regret.policy_lost_guest_s == pytest.approx(1.5 - 0.8)
    assert regret.policy_downtime_s == pytest.approx(1.5 - 1.0)


def test_what_the_link_is_silent_for_may_be_owed_besides() -> None:
    """The writes that a throttle kept away might have waited for all of it."""
    silent = replace(BOUNDS, alike=False, silent_s=0.2)
    assert silent.clairvoyant_downtime_s(11.0, 0.05) == pytest.approx(0.5 - 0.1 - 0.2)


def test_bounds_are_plain_numbers_that_can_be_kept() -> None:
    found = bounds(scenario(), 1)
    assert pickle.loads(pickle.dumps(found)) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Bounds) == found
    assert found == bounds(scenario(), 1)
    assert found != bounds(scenario(), 2)
    assert found.once_s > found.once_bytes / 10e6
    assert all(math.isfinite(value) for point in found.points for value in point)


def test_a_guest_that_writes_nothing_loses_nothing() -> None:
    found = bounds(scenario(writer(rate_mb_per_s=0.0)), 1)
    assert {point[4] for point in found.points} == {0.0}


def test_bounds_need_pages() -> None:
    plan = scenario()
    with pytest.raises(BadInput, match="pages"):
        bounds(replace(plan, guest=replace(plan.guest, pages=False)), 1)
