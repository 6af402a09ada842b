"""``sdps_like``: nothing where the guest is slow enough, and as much as it takes where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.asking import ABLE, ALL_ALLOWED, boundary, ended, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import SdpsLike
from whimbrel.engine.policy import Abilities, Decision, Objectives, Observation
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20
HERE = Abilities(outside_throttle=True)


def after(dirtied: int, sent: int = 1000, **what: Any) -> Observation:
    last = ended(1, 0.0, 1.0, dirtied_bytes=dirtied, sent_bytes=sent)
    return boundary(1.0, **({"iteration": 2, "iterations": (last,), "abilities": HERE} | what))


def ready(**parameters: Any) -> SdpsLike:
    """With a link that it has learnt, and a target of 0.9."""
    policy = SdpsLike(**({"target": 0.9} | parameters))
    policy(tick(0.5, iteration=2, abilities=HERE))
    return policy


@pytest.mark.parametrize("dirtied", [450, 700, 900])
def test_a_guest_that_dirties_less_than_is_sent_is_left_alone(dirtied: int) -> None:
    assert ready()(after(dirtied)) == Decision()


def test_a_guest_that_was_not_slowed_is_not_let_go_either() -> None:
    assert ready()(after(100)) == ready()(after(0)) == Decision()


def test_what_is_taken_brings_what_is_dirtied_below_what_is_sent() -> None:
    """Twice what is sent: 45 % of its time are left to the guest, so that it dirties 0.9 per byte."""
    decision = ready()(after(2000))
    assert decision.outside_throttle == pytest.approx(0.55)
    assert decision.because == "2.00 dirtied per byte sent: 55% of the vCPUs' time is taken"


def test_it_is_adapted_until_it_is_below() -> None:
    """The guest did not slow in proportion: what was left, 45 %, times 0.9 / 1.5 is left now."""
    policy = ready()
    policy(after(2000))
    assert policy(after(1500)).outside_throttle == pytest.approx(1 - 0.45 * 0.6)
    assert policy(after(900)) == Decision()


def test_it_is_let_go_again_when_it_does_not_need_it() -> None:
    policy = ready()
    policy(after(2000))
    assert policy(after(300)).outside_throttle == 0.0
    assert policy(after(300)) == Decision()


def test_a_vcpu_with_time_to_spare_is_slowed_from_what_it_ran() -> None:
    assert ready()(after(1800, vcpu_shares=(0.2, 0.4))).outside_throttle == pytest.approx(0.8)


def test_a_vcpu_that_idles_is_no_reason_to_slow_it_further() -> None:
    """It ran a tenth of the time, and what that dirtied says that 23 % would do: less than is left to it already."""
    policy = ready()
    policy(after(2000))
    assert policy(after(400, vcpu_shares=(0.1,))) == Decision()


def test_no_more_is_taken_than_is_allowed() -> None:
    allowed = replace(ALL_ALLOWED, greatest_throttle=0.3)
    assert ready()(after(2000, objectives=allowed)).outside_throttle == 0.3
    policy = ready()
    policy(after(2000, objectives=allowed))
    assert policy(after(2000, objectives=allowed)) == Decision()


def test_an_iteration_that_sent_nothing_says_nothing() -> None:
    assert ready()(after(500, sent=0)) == Decision()


def test_it_decides_at_iterations_only() -> None:
    assert ready()(tick(1.0, abilities=HERE)) == ready()(boundary(1.0, abilities=HERE)) == Decision()


def test_before_the_start_it_says_by_what_it_will_slow_the_guest() -> None:
    assert SdpsLike()(setup(abilities=HERE)).because == "slowed from outside once more is dirtied than sent"
    assert SdpsLike()(setup(abilities=ABLE)) == Decision(
        downtime_limit_s=10.0,
        capabilities={"auto-converge": True},
        throttle_trigger=0.5,
        throttle_initial=0.05,
        throttle_increment=0.05,
        throttle_ceiling=0.99,
        throttle_tailslow=True,
        wake_after_s=0.05,
        because="this host can't slow the source's vCPUs: QEMU's throttle in steps of 5%",
    )
    assert ready()(after(2000, abilities=ABLE)) == Decision()


def test_where_nothing_may_slow_the_guest_it_is_plain_pre_copy() -> None:
    decision = SdpsLike()(setup(objectives=Objectives()))
    because = "the objectives do not allow slowing the guest: plain pre-copy"
    assert decision == Decision(downtime_limit_s=0.3, wake_after_s=0.05, because=because)


def test_the_limit_leaves_room_for_what_qemu_does_not_count() -> None:
    """Once, with the link known or not; 25 ms are for the switchover itself."""
    policy = SdpsLike()
    decision = policy(after(2000, objectives=replace(ALL_ALLOWED, downtime_s=0.3)))
    assert decision.downtime_limit_s == pytest.approx(0.275)
    assert decision.outside_throttle == pytest.approx(0.75)
    slowing, room = decision.because.split("; ")
    assert slowing == "2.00 dirtied per byte sent: 75% of the vCPUs' time is taken"
    assert room == "275 ms, of 300 ms: the rest is for what QEMU leaves out"
    assert policy(tick(2.0, iteration=2)) == Decision()


@pytest.mark.parametrize("local", [True, False])
def test_a_guest_that_would_never_converge_does(local: bool) -> None:
    """From outside, and on another host's source by QEMU's throttle; which takes longer."""
    writer = Writer(name="w", size_bytes=96 * MIB, rate_bytes_per_s=96 * MIB, cpu_share=1.0)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=128 * MIB, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=64 * MIB),
        objectives=Objectives(greatest_throttle=0.9),
        limit_s=120.0,
    )
    scenario = replace(scenario, qemu=replace(scenario.qemu, local=local))
    truth = simulate(scenario, 1, SdpsLike()).truth
    assert truth.outage_s is not None
    assert truth.outage_s < 0.45
    assert 0 < truth.throttle <= 0.9


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"target": 1.5}, {"ease": -1.0}, {"step": 0.0}])
def test_shares_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        SdpsLike(**wrong)
