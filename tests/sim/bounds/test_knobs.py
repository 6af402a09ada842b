"""The restricted optimum lies between the clairvoyant sender and every policy."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tests.sim.bounds.worlds import FREE, at_random, scenario, writer
from whimbrel.engine.policies import BUILT_IN
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.sim.bounds.clairvoyant import Clairvoyant, Front, front_of
from whimbrel.sim.bounds.knobs import Knobs, Points
from whimbrel.sim.bounds.regret import Bounds, bounds
from whimbrel.sim.bounds.switchover import switchover_of
from whimbrel.sim.bounds.trace import trace_of
from whimbrel.sim.scenario import Scenario
from whimbrel.sim.world import Outcome, simulate

DOWNTIME, DOWNTIME_S = 0.05, 0.01
"""A policy may come so far below the restricted optimum: that part of its downtime, and seconds."""
TIME, TIME_S = 0.02, 0.03
LOST, LOST_S = 0.05, 0.02
BYTES, BYTES_AT_LEAST = 0.02, 200_000


def searched(plan: Scenario, seed: int = 1) -> tuple[Points, Front]:
    trace, switchover = trace_of(plan, seed), switchover_of(plan)
    front = Clairvoyant(trace, switchover).front()
    return Knobs(trace, switchover, plan, front.downtimes_s[-1]).search(), front


def judge(found: Bounds, outcome: Outcome) -> list[str]:
    """What a run comes below."""
    truth = outcome.truth
    if outcome.report is None or outcome.report.outcome != "completed" or truth.outage_s is None:
        return []
    lost_s = (1 - truth.work) * truth.total_s
    regret = found.regret(
        total_s=truth.total_s,
        downtime_s=truth.outage_s,
        transferred_bytes=truth.transferred_bytes,
        lost_guest_s=lost_s,
        postcopy=truth.postcopy,
    )
    least = {
        "mechanism_downtime_s": -1e-9,
        "mechanism_time_s": -1e-9,
        "mechanism_bytes": -1e-9,
        "policy_downtime_s": -DOWNTIME_S - DOWNTIME * truth.outage_s,
        "policy_time_s": -TIME_S - TIME * truth.total_s,
        "policy_bytes": -BYTES_AT_LEAST - BYTES * truth.transferred_bytes,
        "policy_lost_guest_s": -LOST_S - LOST * lost_s,
    }
    below = [
        f"{name} {value:.4f}" for name in least if (value := getattr(regret, name)) is not None and value < least[name]
    ]
    if not truth.postcopy:
        bound_s = found.clairvoyant_downtime_s(truth.total_s, found.throttled_s(truth.outage_s, lost_s))
        if bound_s is None or bound_s > truth.outage_s:
            below.append(f"the clairvoyant bound {bound_s}")
    return below


def waits(name: str) -> bool:
    """Whether a policy has another beginning, and so another trace."""
    return name in ("cycle_aware", "deadline", "throttle_to_fit")


@pytest.mark.parametrize("seed", range(10))
def test_no_policy_comes_below_either_bound_in_any_world(seed: int) -> None:
    random = Random(seed)
    plan = at_random(random)
    found = bounds(plan, seed)
    names = random.sample([name for name in BUILT_IN if not waits(name)], 3)
    below = {name: judge(found, simulate(plan, seed, BUILT_IN[name]())) for name in names}
    assert not any(below.values()), below


@pytest.mark.parametrize("name", ["auto_converge", "sdps_like", "proxmox_double"])
def test_a_throttle_does_not_buy_more_than_its_guest_seconds_are_worth(name: str) -> None:
    policy: Policy = BUILT_IN[name]()
    plan = scenario(writer(rate_mb_per_s=40.0), objectives=replace(FREE, may_postcopy=False))
    outcome = simulate(plan, 2, policy)
    assert outcome.truth.throttle > 0
    assert judge(bounds(plan, 2), outcome) == []


def test_the_clairvoyant_front_is_below_the_restricted_one() -> None:
    for plan in (scenario(), scenario(writer(rate_mb_per_s=25.0)), scenario(writer(period_s=1.0, duty=0.3))):
        points, front = searched(plan)
        free = points.throttled_s == 0
        restricted = front_of(points.totals_s[free], points.downtimes_s[free])
        for total_s, downtime_s in zip(restricted.totals_s, restricted.downtimes_s, strict=True):
            least_s = front.downtime_s(total_s)
            assert least_s is not None
            assert least_s <= downtime_s


def test_syncs_that_come_early_buy_downtime() -> None:
    # Without them a round would leave all that is dirtied in one: the plateau of f(t) = B t.
    free, _ = searched(scenario(writer(rate_mb_per_s=15.0), objectives=replace(FREE, greatest_throttle=0.0)))
    held, _ = searched(scenario(writer(rate_mb_per_s=15.0), objectives=Objectives(downtime_s=0.001, may_pause=False)))
    assert free.downtimes_s.min() < 0.9 * held.downtimes_s.min()


def test_a_throttle_is_only_used_as_far_as_it_is_allowed() -> None:
    guest = writer(rate_mb_per_s=25.0)
    none, _ = searched(scenario(guest, objectives=replace(FREE, greatest_throttle=0.0)))
    half, _ = searched(scenario(guest, objectives=replace(FREE, greatest_throttle=0.5)))
    full, _ = searched(scenario(guest))
    assert not none.throttled_s.any()
    assert none.downtimes_s.min() > half.downtimes_s.min() > full.downtimes_s.min()
    stopped, _ = searched(scenario(replace(guest, cpu_share=0.0)))
    assert not stopped.throttled_s.any()


def test_of_writers_that_need_less_of_their_vcpu_the_first_throttle_spares_some() -> None:
    both, _ = searched(scenario(writer(), writer("light", rate_mb_per_s=5.0, cpu_share=0.3)))
    greedy = both.throttled_s[both.throttled_s > 0]
    assert len(greedy)
    assert (both.lost_s >= both.throttled_s).all()


def test_the_throttle_that_just_spares_a_lighter_writer_is_tried_besides_the_greatest() -> None:
    """At 70 % the one that needs 0.3 of its vCPU runs on: less work is lost than by the greatest that is allowed."""
    guest = writer(), writer("light", rate_mb_per_s=5.0, cpu_share=0.3)
    sparing, _ = searched(scenario(*guest, objectives=replace(FREE, greatest_throttle=0.7)))
    any_of_them, _ = searched(scenario(*guest, objectives=replace(FREE, greatest_throttle=0.9)))
    least = [found.throttled_s[found.throttled_s > 0].min() for found in (sparing, any_of_them)]
    assert least[1] == pytest.approx(least[0], rel=0.2)


def test_with_phases_it_waits_for_a_quiet_one() -> None:
    quiet, _ = searched(scenario(writer(rate_mb_per_s=40.0, period_s=4.0, duty=0.4)))
    steady, _ = searched(scenario(writer(rate_mb_per_s=16.0)))
    free, always = quiet.throttled_s == 0, steady.throttled_s == 0
    assert quiet.downtimes_s[free].min() < 0.5 * steady.downtimes_s[always].min()


def test_points_are_none_worse_than_another_in_everything() -> None:
    points, _ = searched(scenario(writer(rate_mb_per_s=20.0)))
    table = np.column_stack((points.totals_s, points.downtimes_s, points.throttled_s, points.sent_bytes))
    for row in table[::7]:
        assert not ((table < row).all(axis=1)).any()


def test_a_link_that_fails_for_ever_leaves_nothing_to_be_had() -> None:
    found = bounds(scenario(outages=((0.2, 1e6),)), 1)
    assert found.points == ()
    assert found.regret(total_s=1.0, downtime_s=0.1, transferred_bytes=1, lost_guest_s=0.1).policy_downtime_s is None
