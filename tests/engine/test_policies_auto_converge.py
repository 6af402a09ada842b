"""``auto_converge`` sets QEMU's throttle at the start and leaves the rest to QEMU."""

from __future__ import annotations

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Forecast, Setting, Writers
from whimbrel.engine.policies.auto_converge import AutoConverge
from whimbrel.engine.policy import Abilities, Decision, Objectives, Policy


def test_by_default_the_knobs_are_qemus_own() -> None:
    assert AutoConverge()(setup()) == Decision(
        downtime_limit_s=10.0,
        throttle_initial=0.2,
        throttle_increment=0.1,
        throttle_ceiling=0.99,
        throttle_trigger=0.5,
        throttle_tailslow=False,
        capabilities={"auto-converge": True},
        because="QEMU slows the guest by 20%, then 10% more at a time",
    )


def test_each_knob_is_a_parameter() -> None:
    decision = AutoConverge(initial=0.5, increment=0.05, ceiling=0.8, trigger=0.2, tailslow=True, downtime_limit_s=0.1)(
        setup()
    )
    assert (decision.throttle_initial, decision.throttle_increment, decision.throttle_ceiling) == (0.5, 0.05, 0.8)
    assert (decision.throttle_trigger, decision.throttle_tailslow, decision.downtime_limit_s) == (0.2, True, 0.1)


def test_later_it_decides_nothing() -> None:
    policy = AutoConverge()
    assert policy(boundary(9.0, throttle=0.2)) == policy(tick(9.0)) == Decision()


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="initial"):
        AutoConverge(initial=20)


def course(policy: Policy, greatest_throttle: float) -> Forecast:
    """A guest that dirties 256 MiB at more than the link's 1 Gbit/s."""
    setting = Setting(
        writers=(Writers(curve=PoissonClasses(((65536, 1.0),))),),
        total_bytes=1 << 30,
        bandwidth_bytes_per_s=125e6,
        objectives=Objectives(downtime_s=0.3, greatest_throttle=greatest_throttle),
        abilities=Abilities(capabilities=frozenset({"auto-converge"})),
        limit_s=120.0,
    )
    return forecast(setting, policy)


def test_the_ladder_is_climbed_until_it_converges() -> None:
    moved = course(AutoConverge(), 0.99)
    assert moved.converged
    throttles = [row.throttle for row in moved.rows]
    steps = sorted(set(throttles))
    assert steps[:4] == pytest.approx([0.0, 0.2, 0.3, 0.4])
    assert throttles == sorted(throttles)


def test_the_users_bound_goes_before_the_ceiling() -> None:
    held = course(AutoConverge(), 0.3)
    assert held.throttle == 0.3
    assert any("0.99 is outside 0.01 to 0.3" in text for text in held.decisions[0].clamped)


def test_where_slowing_is_not_allowed_it_is_fixed_and_says_so() -> None:
    held = course(AutoConverge(), 0.0)
    assert (held.throttle, held.converged) == (0.0, False)
    assert held.decisions[0].because == ("the objectives do not allow slowing the guest: held at 300 ms, as fixed does")
    assert AutoConverge()(setup(abilities=Abilities())).capabilities == {}
