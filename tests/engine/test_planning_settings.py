"""From a belief to settings: each draw another way that it may be, all of them possible."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.beliefs import ABLE, MIB, belief, points
from whimbrel.engine import planning_settings
from whimbrel.engine.belief import CurvePoint
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.forecast_records import Setting
from whimbrel.engine.planning_settings import drawn
from whimbrel.engine.policy import Objectives

GOAL = Objectives(downtime_s=0.3)


def settings_of(goal: Objectives = GOAL, draws: int = 50, **change: Any) -> list[Setting]:
    return list(planning_settings.settings(belief(**change), goal, ABLE, draws))


def test_as_many_as_are_asked_for_and_the_same_every_time() -> None:
    first = settings_of(draws=30)
    assert len(first) == 30
    assert first == settings_of(draws=30)
    assert len({setting.bandwidth_bytes_per_s for setting in first}) == 30


def test_the_first_draws_of_many_are_spread_as_evenly_as_all() -> None:
    link = [setting.bandwidth_bytes_per_s for setting in settings_of(draws=200)]
    assert statistics.median(link[:40]) == pytest.approx(statistics.median(link), rel=0.01)
    assert statistics.stdev(link[:40]) == pytest.approx(statistics.stdev(link), rel=0.2)


def test_what_is_sure_is_alike_in_all() -> None:
    sure = settings_of(
        zero_bytes=Estimate(200 * MIB),
        bandwidth_bytes_per_s=Estimate(1e8),
        pipe_bytes=Estimate(1e6),
        fixed_s=Estimate(0.02),
        preparation_s=Estimate(0.3),
        cpu_bytes_per_s=Estimate(1e9),
    )
    for setting in sure:
        assert setting.zero_bytes == 200 * MIB
        assert setting.bandwidth_bytes_per_s == 1e8
        assert setting.pipe_bytes == 1_000_000
        assert setting.costs == sure[0].costs


@pytest.mark.parametrize("fixed_s", [0.001, 0.02, 0.5])
def test_the_parts_of_the_fixed_cost_add_up_to_it(fixed_s: float) -> None:
    (setting,) = settings_of(draws=1, fixed_s=Estimate(fixed_s), device_state_part=0.7)
    costs = setting.costs
    state_s = costs.device_state_bytes / setting.bandwidth_bytes_per_s + costs.load_s
    assert state_s == pytest.approx(0.7 * fixed_s, rel=1e-4)
    assert state_s + costs.resume_s == pytest.approx(fixed_s, rel=1e-4)


def test_zero_pages_leave_room_for_what_was_seen_to_be_written() -> None:
    for setting in settings_of(zero_bytes=Estimate(500 * MIB, 0.5), points=points(working_set=200 * MIB)):
        assert setting.total_bytes - setting.zero_bytes >= 195 * MIB


def test_accelerators_differ_in_their_logs() -> None:
    kvm, tcg, unknown = (settings_of(draws=1, accelerator=each)[0] for each in ("kvm", "tcg", ""))
    assert kvm.clear_chunk_bytes == 1 << 30
    assert tcg.clear_chunk_bytes is None
    assert unknown.clear_chunk_bytes is None
    assert tcg.costs.sync_s_per_dirty_page > kvm.costs.sync_s_per_dirty_page == 0.0
    assert tcg.costs.setup_s == pytest.approx(kvm.costs.setup_s + 0.9e-6 * 512 * 256)


def test_with_a_deadline_it_is_followed_a_little_beyond() -> None:
    for setting in settings_of(Objectives(deadline_s=40.0), draws=3):
        assert setting.limit_s == 52.0


def test_without_one_for_as_long_as_anybody_would_wait() -> None:
    (quick,) = settings_of(draws=1, bandwidth_bytes_per_s=Estimate(1e9))
    assert quick.limit_s == 60.0
    (capped,) = settings_of(Objectives(bandwidth_bytes_per_s=10 * MIB), draws=1, zero_bytes=Estimate(212 * MIB))
    assert capped.limit_s == 20 * 30.0


def test_differences_are_known_where_they_were_measured() -> None:
    assert settings_of(draws=1)[0].deltas is None
    for setting in settings_of(delta_ratio=Estimate(0.8, 0.5)):
        assert setting.deltas is not None
        assert 0 < setting.deltas.ratio <= 1.0


# ---- who writes


def test_a_vcpu_that_nobody_could_look_at_uses_half_of_its_time() -> None:
    (writers,) = settings_of(draws=1, vcpu_shares=())[0].writers
    assert writers.cpu_share == 0.5


def test_vcpus_that_run_alike_are_one_group() -> None:
    (writers,) = settings_of(draws=1, vcpu_shares=(0.9, 0.01, 0.85))[0].writers
    assert writers.cpu_share == pytest.approx(0.875)
    assert writers.vcpus == 2


def test_an_idle_guest_is_slowed_by_nothing_that_leaves_it_what_it_uses() -> None:
    (writers,) = settings_of(draws=1, vcpu_shares=(0.01, 0.0))[0].writers
    assert writers.cpu_share == 0.01
    assert writers.speed(0.98) == 1.0


def test_others_have_their_part_of_the_curve_and_all_of_it_together() -> None:
    setting = settings_of(draws=1, vcpu_shares=(0.9, 0.3))[0]
    busy, calm = setting.writers
    assert (busy.cpu_share, calm.cpu_share) == (0.9, 0.3)
    assert (busy.vcpu, calm.vcpu) == (0, 1)
    whole = drawn(belief(vcpu_shares=(0.9, 0.3)), 1)[0].curve
    assert busy.curve.at(1.0) == pytest.approx(0.75 * whole.at(1.0))
    assert busy.curve.at(1.0) + calm.curve.at(1.0) == pytest.approx(whole.at(1.0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 511 * MIB), st.floats(0, 1))
def test_settings_can_be_made_of_any_shares_and_sizes(shares: list[float], zero_bytes: int, spread: float) -> None:
    change: dict[str, Any] = {"vcpu_shares": tuple(shares), "zero_bytes": Estimate(zero_bytes, spread)}
    for setting in settings_of(draws=5, points=(CurvePoint(1.0, 1.0 * MIB, 1e5),), **change):
        assert 1 <= len(setting.writers) <= 3


# ---- the model's own error


def test_what_qemu_measures_scatters_about_what_there_is() -> None:
    factors = [factor for setting in settings_of() for factor in setting.scatter]
    assert statistics.fmean(factors) == pytest.approx(1.0, abs=0.005)
    assert statistics.stdev(factors) == pytest.approx(0.05, rel=0.1)
    first, second = settings_of(draws=2)
    assert first.scatter != second.scatter


def test_a_long_outage_is_off_by_no_more_seconds_than_a_short_one() -> None:
    ways = drawn(belief(model_downtime=Estimate(1.1, 0.2)), 200)
    small = statistics.stdev(one.outage_factor(0.05) * 0.05 for one in ways)
    middling = statistics.stdev(one.outage_factor(0.1) * 0.1 for one in ways)
    long = statistics.stdev(one.outage_factor(3.0) * 3.0 for one in ways)
    assert small == pytest.approx(0.2 * 1.1 * 0.05, rel=0.1)
    assert middling == pytest.approx(long, rel=0.15)
    assert statistics.median(one.outage_factor(0.05) for one in ways) == pytest.approx(1.1, rel=0.01)
    late_s = statistics.median(one.outage_factor(3.0) * 3.0 - 3.0 for one in ways)
    assert late_s == pytest.approx(0.1 * math.log(1.1), rel=0.1)
