"""``dirty_limit`` where the pair has it, and a plain word where it has not."""

from __future__ import annotations

import pytest

from tests.support.asking import boundary, setup
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies.dirty_limit import DirtyLimit
from whimbrel.engine.policy import Abilities, Decision, Objectives


def test_a_mebibyte_a_second_is_qemus_own() -> None:
    assert DirtyLimit()(setup(objectives=Objectives(downtime_s=0.25, greatest_throttle=0.99))) == Decision(
        downtime_limit_s=0.25,
        dirty_limit_bytes_per_s=1 << 20,
        capabilities={"dirty-limit": True},
        because="QEMU holds each vCPU to 1 MiB/s dirtied",
    )


def test_the_limits_are_parameters() -> None:
    decision = DirtyLimit(dirty_limit_bytes_per_s=20 << 20, downtime_limit_s=0.1)(setup())
    assert (decision.dirty_limit_bytes_per_s, decision.downtime_limit_s) == (20 << 20, 0.1)


def test_where_there_is_none_it_is_fixed_and_says_so() -> None:
    held = DirtyLimit()(setup(objectives=Objectives(downtime_s=0.25), abilities=Abilities()))
    assert held == Decision(
        downtime_limit_s=0.25, because="this pair of QEMUs has no dirty-limit: held at 250 ms, as fixed does"
    )


def test_where_the_throttle_is_bounded_it_is_fixed_and_says_so() -> None:
    held = DirtyLimit()(setup(objectives=Objectives(downtime_s=0.25, greatest_throttle=0.9)))
    assert held == Decision(
        downtime_limit_s=0.25,
        because="the objectives do not allow slowing the guest without a bound: held at 250 ms, as fixed does",
    )


def test_later_it_decides_nothing() -> None:
    assert DirtyLimit()(boundary(9.0)) == Decision()


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="dirty_limit_bytes_per_s"):
        DirtyLimit(dirty_limit_bytes_per_s=0)
