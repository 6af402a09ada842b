"""``kubevirt_legacy``: timeouts in KubeVirt's order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies.kubevirt_legacy import KubevirtLegacy, gigabytes
from whimbrel.engine.policy import Abilities, Decision, Objectives

GB = 10**9


def falling(policy: KubevirtLegacy, at_s: float, **what: Any) -> Decision:
    """A look that finds less to send than the one before, so that only time counts."""
    return policy(tick(at_s, **({"remaining_bytes": round(1e9 - at_s), "total_bytes": GB} | what)))


def test_it_leaves_qemus_300_ms_and_looks_every_400_ms() -> None:
    assert KubevirtLegacy()(setup()) == Decision(
        downtime_limit_s=0.3, wake_after_s=0.4, because="300 ms, for 150 s per gigabyte"
    )


def test_a_bandwidth_is_a_parameter() -> None:
    assert KubevirtLegacy(bandwidth_bytes_per_s=64 << 20)(setup()).bandwidth_bytes_per_s == 64 << 20


@pytest.mark.parametrize(("size", "counted"), [(1, 1), (GB, 1), (GB + 1, 2), (2 << 30, 3), (16 << 30, 18)])
def test_gigabytes_are_counted_up(size: int, counted: int) -> None:
    assert gigabytes(size) == counted


def test_a_guest_of_16_gib_runs_for_40_minutes_before_it_is_given_up() -> None:
    """The complaint of proposal 248: 150 s x 18 = 2700 s."""
    policy = KubevirtLegacy()
    assert not falling(policy, 2400.0, total_bytes=16 << 30).abort
    assert not falling(policy, 2700.0, total_bytes=16 << 30).abort
    decision = falling(policy, 2700.4, total_bytes=16 << 30)
    assert decision.abort
    assert decision.because == "not over after 2700 s: give up"


def test_it_is_given_up_once() -> None:
    policy = KubevirtLegacy()
    assert falling(policy, 151.0).abort
    assert not falling(policy, 152.0).abort


def test_a_pause_doubles_the_time() -> None:
    policy = KubevirtLegacy(action="pause")
    assert falling(policy, 151.0).pause
    assert falling(policy, 299.0) == Decision(wake_after_s=0.4)
    assert falling(policy, 301.0).abort


def test_post_copy_where_it_can_be_had() -> None:
    policy = KubevirtLegacy(action="postcopy")
    assert policy(setup()).capabilities == {"postcopy-ram": True}
    assert falling(policy, 151.0).start_postcopy


def test_and_a_pause_where_not() -> None:
    policy = KubevirtLegacy(action="postcopy")
    assert policy(setup(abilities=Abilities())).capabilities == {}
    decision = falling(policy, 151.0, abilities=Abilities())
    assert (decision.pause, decision.start_postcopy) == (True, False)


def test_without_permission_to_pause_the_limit_goes_to_what_is_allowed() -> None:
    decision = falling(KubevirtLegacy(action="pause"), 151.0, objectives=Objectives())
    assert (decision.switch_over, decision.pause, decision.abort) == (True, False, False)


def test_without_a_timeout_it_never_ends() -> None:
    policy = KubevirtLegacy(completion_timeout_s=0.0, action="pause")
    assert falling(policy, 1e6) == Decision(wake_after_s=0.4)


# ---- progress


def test_150_s_without_anything_less_to_send_end_it() -> None:
    policy = KubevirtLegacy(completion_timeout_s=1e6)
    for at_s in (1.0, 50.0, 100.0, 151.0):
        assert not policy(tick(at_s, remaining_bytes=1000)).abort
    decision = policy(tick(151.4, remaining_bytes=1000))
    assert decision.abort
    assert decision.because == "nothing less to send for 150 s: give up"


def test_any_fall_counts_as_progress_so_a_saw_tooth_never_ends_it() -> None:
    policy = KubevirtLegacy(completion_timeout_s=1e6)
    left = [1000, 900] * 500
    assert not any(policy(tick(float(n), remaining_bytes=bytes_left)).abort for n, bytes_left in enumerate(left, 1))


def test_nothing_left_counts_as_progress_too() -> None:
    policy = KubevirtLegacy(completion_timeout_s=1e6)
    assert not any(policy(tick(100.0 * n, remaining_bytes=0)).abort for n in range(1, 9))


def test_the_time_goes_before_the_progress_where_the_workload_may_be_disturbed() -> None:
    policy = KubevirtLegacy(completion_timeout_s=150.0, action="pause")
    assert policy(tick(1.0, remaining_bytes=1000, total_bytes=GB)).because == ""
    assert policy(tick(200.0, remaining_bytes=1000, total_bytes=GB)).pause
    assert policy(tick(200.4, remaining_bytes=1000, total_bytes=GB)).abort


def test_a_progress_timeout_of_0_is_none() -> None:
    policy = KubevirtLegacy(completion_timeout_s=0.0, progress_timeout_s=0.0)
    assert not any(policy(tick(1e3 * n, remaining_bytes=5)).abort for n in range(1, 9))


def test_between_its_looks_it_decides_nothing() -> None:
    policy = KubevirtLegacy(poll_s=1000.0)
    assert policy(boundary(500.0)) == Decision(wake_after_s=500.0)


@pytest.mark.parametrize(
    "wrong", [{"downtime_limit_s": 0.0}, {"poll_s": 0.0}, {"progress_timeout_s": -1.0}, {"action": "suspend"}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        KubevirtLegacy(**wrong)
