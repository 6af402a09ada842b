"""The fixed cost of a switchover: below what any simulated one takes, and near it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.sim.bounds.worlds import changing, scenario, steady, writer
from whimbrel.engine.policies import Fixed
from whimbrel.sim.bounds.switchover import Switchover, switchover_of
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import QemuPlan
from whimbrel.sim.world import simulate


@pytest.mark.parametrize("version", list(Version))
def test_no_simulated_guest_that_writes_nothing_stands_for_less_and_some_hardly_longer(version: Version) -> None:
    idle = scenario(writer(rate_mb_per_s=0.0), rate_mb_per_s=500.0)
    idle = replace(idle, qemu=QemuPlan(source=version, destination=version))
    outages = [simulate(idle, seed, Fixed(downtime_limit_s=0.001)).truth.outage_s for seed in range(1, 13)]
    least_s = switchover_of(idle).least_s
    assert all(outage_s is not None and least_s <= outage_s for outage_s in outages)
    assert min(outage_s for outage_s in outages if outage_s is not None) < least_s + 0.0015


def test_a_way_and_a_sync_that_take_longer_make_it_longer_by_as_much() -> None:
    plain, far = scenario(), scenario(latency_s=0.04)
    assert switchover_of(far).least_s == pytest.approx(switchover_of(plain).least_s + 0.04 - plain.link.latency_s)
    costs = plain.qemu.costs
    slow = replace(plain, qemu=replace(plain.qemu, costs=replace(costs, sync_s=costs.sync_s + 0.03)))
    assert switchover_of(slow).before_s == pytest.approx(switchover_of(plain).before_s + 0.03)


def test_what_is_left_goes_over_before_the_devices_state() -> None:
    switchover = Switchover(before_s=0.5, state_bytes=10, after_s=0.25)
    stops_s, carried = np.array([2.0, 2.0, 2.0]), 2.0 * 100
    # Nothing left: the state alone, behind the last sync; then 40 bytes, which are through by then; then 290.
    due = np.array([carried, carried + 40, carried + 290])
    arrivals_s = switchover.arrivals_s(stops_s, due, steady(100.0))
    assert arrivals_s == pytest.approx([2.5 + 0.1 + 0.25, 2.5 + 0.1 + 0.25, 2.0 + 3.0 + 0.25])


def test_the_guest_waits_for_an_outage_of_the_link() -> None:
    switchover = Switchover(before_s=0.0, state_bytes=0, after_s=0.0)
    link = changing([10.0, 0.0, 0.0, 10.0])
    assert switchover.arrivals_s(np.array([0.5]), np.array([15.0]), link) == pytest.approx([3.5])
