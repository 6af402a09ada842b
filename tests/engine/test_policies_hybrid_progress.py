"""``hybrid_progress``: post-copy when a pass leaves hardly less than the one before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, ended, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import HybridProgress
from whimbrel.engine.policy import Decision, Objectives, Observation
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20


def after(before: int, left: int, *, passes: int = 1, **what: Any) -> Observation:
    """The start of a pass with so much left; the one before began with so much."""
    made = tuple(ended(number, 0.0, 1.0, remaining_at_start_bytes=before) for number in range(1, passes + 1))
    return boundary(9.0, **({"iteration": passes + 1, "iterations": made, "remaining_bytes": left} | what))


def test_nova_switched_below_ten_percent() -> None:
    """From 1000 to 900 is 10 %, to 901 is 9.9 %."""
    assert HybridProgress()(after(1000, 900)) == Decision()
    assert HybridProgress()(after(1000, 901)) == Decision(
        start_postcopy=True, because="the last pass brought 10%, less than 10%"
    )


def test_a_rest_that_grows_is_no_progress() -> None:
    assert HybridProgress()(after(1000, 1500)).because == "the last pass brought -50%, less than 10%"


def test_passes_may_be_asked_for() -> None:
    policy = HybridProgress(passes=3)
    assert not policy(after(100, 100, passes=2)).start_postcopy
    assert policy(after(100, 100, passes=3)).start_postcopy


def test_after_a_pass_with_nothing_to_send_there_is_nothing_to_compare() -> None:
    assert HybridProgress()(after(0, 500)) == Decision()


def test_it_decides_at_the_start_of_a_pass_only() -> None:
    assert HybridProgress()(tick(1.0)) == HybridProgress()(boundary(1.0)) == Decision()


def test_the_capability_is_asked_for_before_the_start() -> None:
    assert HybridProgress()(setup()) == Decision(
        capabilities={"postcopy-ram": True}, because="post-copy when a pass brings less than 10%"
    )


def test_without_post_copy_the_guest_is_stopped_there_as_far_as_that_is_allowed() -> None:
    decision = HybridProgress()(setup(objectives=Objectives()))
    assert decision.capabilities == {}
    assert decision.because.endswith("the objectives do not allow post-copy")
    assert HybridProgress()(after(100, 100, objectives=Objectives(may_pause=True))).pause
    assert HybridProgress()(after(100, 100, objectives=Objectives())).switch_over


@pytest.mark.parametrize(("dirty_mib", "postcopy"), [(20, False), (200, True)])
def test_only_a_guest_that_does_not_converge_goes_over(dirty_mib: int, postcopy: bool) -> None:
    writer = Writer(name="w", size_bytes=48 * MIB, rate_bytes_per_s=dirty_mib * MIB)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=64 * MIB, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=64 * MIB),
        objectives=Objectives(downtime_s=0.05, may_postcopy=True),
        limit_s=60.0,
    )
    truth = simulate(scenario, 1, HybridProgress()).truth
    assert truth.postcopy == postcopy
    assert truth.outage_s is not None
    assert truth.outage_s < 0.15


@pytest.mark.parametrize("wrong", [{"least_progress": 1.5}, {"passes": 0}])
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        HybridProgress(**wrong)
