"""What no pre-copy can beat, over all that the guest may really be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support.beliefs import MIB, belief, points, uniform_bytes
from whimbrel.engine.bounds import goodput
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.plan import Floors
from whimbrel.engine.planning_floors import floors
from whimbrel.engine.policy import Objectives

BUSY: dict[str, Any] = {"points": points(200 * MIB, 0.8), "bandwidth_bytes_per_s": Estimate(114 * MIB)}


def told(downtime_s: float = 0.3, cap: int | None = None, **change: Any) -> Floors:
    return floors(belief(**(BUSY | change)), Objectives(downtime_s=downtime_s, bandwidth_bytes_per_s=cap))


def test_they_are_those_of_the_curve_with_the_fixed_cost() -> None:
    """Known exactly: f(tau) = W (1 - exp(-tau / T)), greatest ahead of B tau where W / T exp(-tau / T) = B."""
    it = told(points=points(200 * MIB, 0.8, 1e-4), fixed_s=Estimate(0.05), pipe_bytes=Estimate(0.1 * 114 * MIB))
    rate = goodput(114 * MIB)
    window_s = 0.8 * math.log(200 * MIB / 0.8 / rate)
    floor_s = (uniform_bytes(window_s, 200 * MIB, 0.8) - rate * window_s) / rate
    assert it.floor_s.middle == pytest.approx(floor_s + 0.05, rel=0.03)
    plateau_s = 1.0
    for _ in range(200):
        plateau_s = uniform_bytes(plateau_s, 200 * MIB, 0.8) / rate
    assert it.plateau_s.middle == pytest.approx(plateau_s + 0.05 + 0.1, rel=0.03)
    assert it.first_pass_s == pytest.approx(300 * MIB / rate, rel=0.02)


def test_the_least_bandwidth_brings_the_iterations_down_to_the_downtime() -> None:
    least = told().least_bandwidth_bytes_per_s
    assert least is not None
    there = told(bandwidth_bytes_per_s=Estimate(least.middle)).plateau_s
    assert there.low < 0.3 < there.high
    assert there.middle == pytest.approx(0.3, rel=0.05)
    assert told(bandwidth_bytes_per_s=Estimate(1.3 * least.high)).plateau_s.high < 0.3


def test_the_least_throttle_does_the_same() -> None:
    """Of a vCPU that needs all of its time: with a part s of it f(s tau) is dirtied."""
    it = told(vcpu_shares=(1.0,), pipe_bytes=Estimate(1.0), fixed_s=Estimate(1e-6))
    throttle = it.least_throttle
    assert throttle is not None
    left = 1 - throttle.middle
    assert uniform_bytes(left * 0.3, 200 * MIB, 0.8) == pytest.approx(goodput(114 * MIB) * 0.3, rel=0.03)


def test_a_guest_with_time_to_spare_needs_a_stronger_one() -> None:
    all_of_it, half = told(vcpu_shares=(1.0,)).least_throttle, told(vcpu_shares=(0.5,)).least_throttle
    assert all_of_it is not None
    assert half is not None
    assert 1 - half.middle == pytest.approx((1 - all_of_it.middle) / 2, rel=0.05)


def test_a_guest_that_fits_needs_none() -> None:
    it = told(points=points(10 * MIB))
    assert it.least_throttle is not None
    assert it.least_throttle.high == 0.0
    assert it.least_bandwidth_bytes_per_s is not None
    assert it.least_bandwidth_bytes_per_s.high < 114 * MIB


def test_nothing_helps_against_a_fixed_cost() -> None:
    it = told(fixed_s=Estimate(0.4))
    assert it.least_throttle is None
    assert it.least_bandwidth_bytes_per_s is None
    assert it.floor_s.low > 0.4


def test_nor_does_a_throttle_where_the_pipe_takes_longer() -> None:
    it = told(pipe_bytes=Estimate(0.4 * 114 * MIB))
    assert it.least_throttle is None
    assert it.least_bandwidth_bytes_per_s is not None


def test_nor_where_even_the_strongest_leaves_too_much() -> None:
    it = told(0.02, vcpu_shares=(0.01,), pipe_bytes=Estimate(1.0), fixed_s=Estimate(1e-3))
    assert it.least_throttle is None


def test_some_ways_in_which_it_can_be_had_are_told_as_open_above() -> None:
    """The pipe alone takes as long as is allowed, more or less."""
    it = told(pipe_bytes=Estimate(0.26 * 114 * MIB, 0.1))
    assert it.least_throttle is not None
    assert it.least_throttle.high == math.inf
    assert it.least_throttle.middle < 1


def test_the_users_cap_counts_and_the_thread_too() -> None:
    capped, slow = told(cap=10 * MIB), told(cpu_bytes_per_s=Estimate(10 * MIB))
    assert capped == slow
    assert capped.first_pass_s > 10 * told().first_pass_s
