"""``kubevirt_vep291``: the proposal's ramp, its table, and the code that was merged."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Forecast, Setting, Writers
from whimbrel.engine.policies.kubevirt_vep291 import KubevirtVep291
from whimbrel.engine.policies.qemu_default import QemuDefault
from whimbrel.engine.policy import Decision, Objectives, Policy


def ramp(policy: KubevirtVep291, until_s: int, third_s: float = 75.0) -> list[tuple[float, int]]:
    """A look every 0.5 s; the third iteration begins at some time: when which limit is set, seconds and ms."""
    found: list[tuple[float, int]] = []
    for half in range(1, 2 * until_s):
        at_s = half / 2
        iteration = 1 if at_s < third_s else 3 + round(at_s - third_s)
        limit_s = policy(tick(at_s, iteration=iteration, remaining_bytes=10**9 - half)).downtime_limit_s
        if limit_s is not None:
            found.append((at_s, round(limit_s * 1e3)))
    return found


def test_seven_equal_steps_from_150_to_1050_ms_one_every_10_s_from_the_third_iteration_on() -> None:
    policy = KubevirtVep291()
    assert policy(setup()) == Decision(
        downtime_limit_s=0.15, wake_after_s=0.4, because="150 ms, and up to 1050 ms in 7 steps"
    )
    assert ramp(policy, 200) == [
        (85.0, 279),
        (95.0, 407),
        (105.0, 536),
        (115.0, 664),
        (125.0, 793),
        (135.0, 921),
        (145.0, 1050),
    ]


def test_the_proposals_table_has_six_steps() -> None:
    """0 s: 150, ~75 s: 150 (start), ~85 s: 300, ... ~135 s: 1050 ms."""
    assert ramp(KubevirtVep291(steps=6), 200) == [
        (85.0, 300),
        (95.0, 450),
        (105.0, 600),
        (115.0, 750),
        (125.0, 900),
        (135.0, 1050),
    ]


def test_what_was_merged_cuts_steps_to_milliseconds_and_does_not_wait_at_the_third_iteration() -> None:
    assert ramp(KubevirtVep291(as_merged=True), 200) == [
        (75.0, 278),
        (85.0, 406),
        (95.0, 534),
        (105.0, 662),
        (115.0, 790),
        (125.0, 918),
        (135.0, 1046),
        (145.0, 1050),
    ]


def test_and_waits_from_the_start_for_its_first_step() -> None:
    assert ramp(KubevirtVep291(as_merged=True), 20, third_s=2.0)[0] == (10.0, 278)


def test_what_was_merged_rises_by_a_millisecond_at_least() -> None:
    policy = KubevirtVep291(as_merged=True, initial_s=0.1, max_downtime_s=0.102, cooldown_s=1.0, steps=9)
    assert ramp(policy, 10, third_s=0.0) == [(1.0, 101), (2.0, 102)]


def test_a_greatest_downtime_below_the_first_limit_is_held() -> None:
    policy = KubevirtVep291(max_downtime_s=0.1)
    assert policy(setup()).downtime_limit_s == 0.1
    assert ramp(policy, 100, third_s=1.0) == []


def test_beyond_what_is_allowed_it_does_not_rise() -> None:
    """The step that reaches it is bounded by the engine, and is the last."""
    policy = KubevirtVep291(cooldown_s=0.0, steps=6)
    looks = [policy(tick(float(n), iteration=9, objectives=Objectives(downtime_s=0.4))) for n in range(1, 9)]
    assert [each.downtime_limit_s for each in looks if each.because] == pytest.approx([0.3, 0.45])


def test_the_cooldown_is_between_looks_and_not_iterations() -> None:
    policy = KubevirtVep291(cooldown_s=0.0)
    assert policy(boundary(0.1, iteration=9)).downtime_limit_s is None
    assert policy(tick(0.4, iteration=9)).downtime_limit_s == pytest.approx(0.15 + 0.9 / 7)


def test_each_step_says_why() -> None:
    policy = KubevirtVep291(steps=6)
    assert policy(tick(75.0, iteration=3)).because == ""
    assert policy(tick(85.2, iteration=11)).because == "iteration 11, 10.2 s since the last step: 300 ms"


# ---- the timeouts below it


def test_the_legacy_timeouts_hold_as_before() -> None:
    policy = KubevirtVep291(progress_timeout_s=0.0)
    assert policy(tick(450.0, iteration=2, remaining_bytes=5)).abort is False
    assert policy(tick(450.5, iteration=2, remaining_bytes=4)).abort


def test_after_a_pause_nothing_is_tuned() -> None:
    policy = KubevirtVep291(action="pause", completion_timeout_s=10.0, cooldown_s=0.0)
    assert policy(tick(31.0, iteration=9)).pause
    assert policy(tick(32.0, iteration=10)).downtime_limit_s is None


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"initial_s": 0.0}, {"cooldown_s": -1.0}, {"action": "suspend"}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        KubevirtVep291(**wrong)


# ---- its own measurements, scaled down

MEASURED = Setting(
    writers=(Writers(curve=PoissonClasses(((14_500, 20.0),))),),
    total_bytes=1 << 30,
    bandwidth_bytes_per_s=125e6,
    objectives=Objectives(downtime_s=1.05),
    limit_s=60.0,
)
"""A plateau of some 480 ms: too much for 300 ms, and not for 1050."""


def moved(policy: Policy) -> Forecast:
    return forecast(MEASURED, policy)


def test_it_ends_where_300_ms_do_not_and_within_the_greatest_downtime() -> None:
    """The direction of the proposal's figures: sooner, with fewer iterations, at a longer outage than 300 ms."""
    held, tuned = moved(QemuDefault(bandwidth_bytes_per_s=0)), moved(KubevirtVep291(cooldown_s=1.0))
    assert (held.converged, tuned.converged) == (False, True)
    assert tuned.iterations < held.iterations
    assert 0.3 < tuned.downtime_s < 0.7
