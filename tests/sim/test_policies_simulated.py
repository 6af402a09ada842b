"""What simulation taught about the policies that ship: each case is one where they were found wanting."""

from __future__ import annotations

import pytest

from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Objectives
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20

SHORT = Scenario(
    guest=GuestPlan(
        ram_bytes=128 * MIB,
        zero_bytes=51 * MIB,
        writers=(Writer(name="hot", size_bytes=12 * MIB, rate_bytes_per_s=325e6),),
    ),
    link=LinkPlan(bandwidth_bytes_per_s=250e6),
    objectives=Objectives(downtime_s=0.3),
    limit_s=40.0,
)
"""Its first iteration is over before the link is known: once 20 ms were held for ever."""

HIGH = Scenario(
    guest=GuestPlan(
        ram_bytes=512 * MIB,
        zero_bytes=128 * MIB,
        writers=(Writer(name="hot", size_bytes=128 * MIB, rate_bytes_per_s=162.5e6),),
    ),
    link=LinkPlan(bandwidth_bytes_per_s=125e6, pipe_bytes=200_000),
    objectives=Objectives(downtime_s=0.3),
    limit_s=40.0,
)
"""Its iterations stop shrinking above what is allowed; with all of that, syncs come earlier and find less."""


@pytest.mark.parametrize("scenario", [SHORT, HIGH], ids=["short first iteration", "plateau above the limit"])
def test_the_default_ends_where_qemus_own_way_does(scenario: Scenario) -> None:
    bare, ours = (simulate(scenario, 1, policy) for policy in (Fixed(), LeastDowntime()))
    assert bare.report is not None
    assert ours.report is not None
    assert bare.report.outcome == ours.report.outcome == "completed"
    assert bare.truth.outage_s is not None
    assert ours.truth.outage_s is not None
    assert ours.truth.outage_s <= bare.truth.outage_s
    assert ours.truth.total_s is not None
    assert bare.truth.total_s is not None
    assert ours.truth.total_s <= 1.1 * bare.truth.total_s + 0.5


SLOWER = Scenario(
    guest=GuestPlan(
        ram_bytes=64 * MIB,
        zero_bytes=8 * MIB,
        writers=(
            Writer(name="first", size_bytes=3844 << 10, rate_bytes_per_s=8.24e6, pattern=Pattern.ZIPF, skew=0.664),
            Writer(name="second", size_bytes=2924 << 10, rate_bytes_per_s=3.9e6),
        ),
    ),
    link=LinkPlan(bandwidth_bytes_per_s=19.6e6, pipe_bytes=391_468, steps=((3.0, 9.8e6),)),
    objectives=Objectives(downtime_s=0.3),
    limit_s=24.0,
)
"""After the first iteration the link is half as fast: the limit that fits what is left fell with it, never fitting."""


def test_the_default_gets_there_on_a_link_that_has_become_slower() -> None:
    bare, ours = (simulate(SLOWER, 1, policy) for policy in (Fixed(), LeastDowntime()))
    assert ours.report is not None
    assert ours.report.outcome == "completed"
    assert ours.truth.outage_s is not None
    assert bare.truth.outage_s is not None
    assert ours.truth.outage_s < bare.truth.outage_s
    assert ours.truth.total_s < bare.truth.total_s + 2.0


HOVERING = Scenario(
    guest=GuestPlan(
        ram_bytes=64 * MIB,
        zero_bytes=8 * MIB,
        writers=(
            Writer(name="first", size_bytes=3152 << 10, rate_bytes_per_s=2.52e6, period_s=2.973, duty=0.585),
            Writer(name="second", size_bytes=10780 << 10, rate_bytes_per_s=24.6e6, pattern=Pattern.SWEEP),
        ),
    ),
    link=LinkPlan(bandwidth_bytes_per_s=19.6e6, pipe_bytes=391_468, noise=0.083, noise_memory=0.9),
    objectives=Objectives(downtime_s=0.3),
    limit_s=40.0,
)
"""What is left hovers above what is allowed: only a limit that stays high catches a quiet moment."""


@pytest.mark.parametrize("seed", [1, 2])
def test_the_default_waits_for_a_quiet_moment_with_all_of_the_limit(seed: int) -> None:
    bare, ours = (simulate(HOVERING, seed, policy) for policy in (Fixed(), LeastDowntime()))
    assert ours.report is not None
    assert ours.report.outcome == "completed"
    assert ours.truth.total_s < bare.truth.total_s + 2.0
