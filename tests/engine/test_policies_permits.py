"""What policies may do, and the stop that is made within it."""

from __future__ import annotations

import pytest

from tests.support.asking import ABLE, boundary, ended, setup, tick
from whimbrel.engine.policies.permits import (
    as_fixed,
    left_s,
    stop_now,
    why_no_outside_throttle,
    why_no_postcopy,
    why_no_qemu_throttle,
)
from whimbrel.engine.policy import Abilities, Decision, Objectives, Observation

HERE = Abilities(outside_throttle=True)
NOTHING = Abilities()


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (setup(), ""),
        (setup(objectives=Objectives()), "the objectives do not allow post-copy"),
        (setup(abilities=NOTHING), "this pair of QEMUs has no postcopy-ram"),
    ],
)
def test_post_copy_needs_the_permission_and_both_ends(seen: Observation, why: str) -> None:
    assert why_no_postcopy(seen) == why


@pytest.mark.parametrize(
    ("seen", "outside", "by_qemu"),
    [
        (setup(abilities=HERE), "", "this pair of QEMUs has no auto-converge"),
        (setup(abilities=ABLE), "this host can't slow the source's vCPUs", ""),
        (setup(objectives=Objectives()), *["the objectives do not allow slowing the guest"] * 2),
    ],
)
def test_a_throttle_needs_the_permission_and_somebody_who_can(seen: Observation, outside: str, by_qemu: str) -> None:
    assert (why_no_outside_throttle(seen), why_no_qemu_throttle(seen)) == (outside, by_qemu)


def test_what_may_not_be_slowed_is_held_at_the_limit_and_that_is_said() -> None:
    assert as_fixed(0.25, "no") == Decision(downtime_limit_s=0.25, because="no: held at 250 ms, as fixed does")


def test_where_pausing_is_allowed_the_guest_is_stopped_whatever_is_left() -> None:
    assert stop_now(setup(), "enough") == Decision(pause=True, because="enough")


def test_where_it_is_not_the_rest_must_fit_and_that_is_said() -> None:
    decision = stop_now(setup(objectives=Objectives(downtime_s=0.25)), "enough", bandwidth_bytes_per_s=0)
    because = "enough; pausing is not allowed: only if the rest fits 250 ms"
    assert decision == Decision(switch_over=True, bandwidth_bytes_per_s=0, because=because)


def test_what_is_left_is_measured_by_the_last_iteration_and_else_by_the_last_second() -> None:
    last = ended(1, 0.0, 2.0, sent_bytes=400)
    assert left_s(boundary(2.0, iterations=(last,), remaining_bytes=100, bandwidth_bytes_per_s=50.0)) == 0.5
    instant = ended(1, 0.0, 0.0, sent_bytes=400)
    assert left_s(boundary(2.0, iterations=(instant,), remaining_bytes=100, bandwidth_bytes_per_s=50.0)) == 2.0
    assert left_s(tick(2.0, remaining_bytes=100)) is None
