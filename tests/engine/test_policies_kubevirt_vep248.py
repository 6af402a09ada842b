"""``kubevirt_vep248``: the stall detector of proposal 248, step by step, and what it does then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Outcome, Setting, Writers
from whimbrel.engine.policies.kubevirt_vep248 import KubevirtVep248
from whimbrel.engine.policy import Abilities, Decision, Objectives
from whimbrel.engine.statistics import Statistics

MB = 10**6
SPEED = 100 * MB
"""Bytes per second of the link: 10 ms for each MB that is left."""


def detector(**parameters: Any) -> KubevirtVep248:
    """One that has seen the link's speed."""
    policy = KubevirtVep248(**parameters)
    policy(tick(0.4, bandwidth_bytes_per_s=SPEED))
    return policy


def course(policy: KubevirtVep248, left_mb: Mapping[float, float], **what: Any) -> dict[float, Decision]:
    """Iterations that begin at these times with so much left: what is decided at those where anything is."""
    decided = {
        at_s: policy(boundary(at_s, remaining_bytes=round(mb * MB), bandwidth_bytes_per_s=SPEED, **what))
        for at_s, mb in left_mb.items()
    }
    return {at_s: each for at_s, each in decided.items() if each.because}


# ---- the start


def test_until_it_stalls_the_limit_is_qemus_300_ms() -> None:
    assert KubevirtVep248()(setup()) == Decision(
        downtime_limit_s=0.3, wake_after_s=0.4, because="300 ms until it stalls"
    )


def test_or_the_greatest_downtime_if_that_is_less() -> None:
    assert KubevirtVep248(max_downtime_s=0.2)(setup()).downtime_limit_s == 0.2
    assert KubevirtVep248()(setup(objectives=Objectives(downtime_s=0.1))).downtime_limit_s == 0.1


def test_post_copy_is_asked_for_at_the_start_where_it_may_come() -> None:
    assert KubevirtVep248(action="postcopy")(setup()).capabilities == {"postcopy-ram": True}
    assert KubevirtVep248()(setup()).capabilities == {}


# ---- the bandwidth


def implied_ms(policy: KubevirtVep248) -> float:
    """What the policy takes 2800 bytes for, read out of what it says at a stall."""
    policy.window_s = 0.0
    policy(boundary(50.0, remaining_bytes=2800))
    because = policy(boundary(51.0, remaining_bytes=2800)).because
    return float(because.split(" and ")[1].split(" ms")[0])


@pytest.mark.parametrize(
    ("speeds", "smoothed"), [([1000], 1000), ([1000, 2000], 1400), ([1000, 2000, 500], 1040), ([0, 700], 700)]
)
def test_the_bandwidth_is_smoothed_over_looks(speeds: list[int], smoothed: int) -> None:
    """The proposal's 0.4 new, 0.6 old, seeded with the first."""
    policy = KubevirtVep248()
    for n, speed in enumerate(speeds, start=1):
        policy(tick(n * 0.4, bandwidth_bytes_per_s=float(speed)))
    assert implied_ms(policy) == round(2800 / smoothed * 1e3)


def test_the_weight_is_a_parameter() -> None:
    policy = KubevirtVep248(smoothing=0.2)
    policy(tick(0.4, bandwidth_bytes_per_s=1000.0))
    policy(tick(0.8, bandwidth_bytes_per_s=2000.0))
    assert implied_ms(policy) == round(2800 / 1200 * 1e3)


def test_qemus_own_figure_goes_before_ours() -> None:
    policy = KubevirtVep248()
    policy(tick(0.4, bandwidth_bytes_per_s=5.0, samples=(Statistics(at_ns=0, bandwidth_bytes_per_s=1400.0),)))
    assert implied_ms(policy) == 2000


def test_between_looks_nothing_is_learnt() -> None:
    policy = detector()
    decision = policy(tick(0.5, bandwidth_bytes_per_s=1.0))
    assert decision.because == ""
    assert decision.wake_after_s == pytest.approx(0.3)
    assert course(policy, {41.0: 10, 82.0: 10})[82.0].because.startswith("stalled, and 100 ms of link")


def test_without_a_bandwidth_nothing_is_detected() -> None:
    assert course(KubevirtVep248(), {1.0: 10, 50.0: 10, 99.0: 10}) == {}


# ---- the stall


def test_no_stall_while_iterations_shrink_from_one_window_to_the_next() -> None:
    """It may rise between: what counts is the least of 40 s ago and before."""
    left_mb = {0.5: 1000, 10.5: 500, 20.5: 700, 30.5: 450, 41.0: 600, 51.0: 400, 61.0: 390, 71.0: 380}
    assert course(detector(), dict(left_mb)) == {}


@pytest.mark.parametrize(("left_mb", "stalled"), [(90, False), (95.9, False), (96, True), (97, True), (300, True)])
def test_a_margin_of_4_percent_is_no_progress(left_mb: float, stalled: bool) -> None:
    policy = detector(search_minimum=False, max_downtime_s=5.0)
    assert bool(course(policy, {1.0: 100, 41.0: left_mb})) == stalled


def test_the_margin_is_a_parameter() -> None:
    assert course(detector(margin=0.1, search_minimum=False), {1.0: 100, 41.0: 95.5})
    assert not course(detector(margin=0.04, search_minimum=False), {1.0: 100, 41.0: 95.5})


def test_what_began_less_than_a_window_ago_does_not_count() -> None:
    assert not course(detector(), {1.0: 100, 40.9: 100})
    assert course(detector(), {1.0: 100, 41.0: 100})
    assert course(detector(window_s=25.0), {1.0: 100, 26.0: 100})


def test_the_least_outside_the_window_is_what_counts() -> None:
    """500, 400, 300 at 0, 5, 10 s; with a window of 25 s those outside are 400 at 30 s."""
    left_mb = {0.5: 500, 5.5: 400, 10.5: 300}
    assert not course(detector(window_s=25.0, search_minimum=False), left_mb | {30.5: 383})
    assert course(detector(window_s=25.0, search_minimum=False), left_mb | {30.5: 384})


# ---- the local minimum


def test_it_switches_over_at_once_where_the_stall_is_seen_at_a_minimum() -> None:
    decided = course(detector(), {1.0: 50, 41.0: 50})
    assert list(decided) == [41.0]
    assert decided[41.0].downtime_limit_s == 0.9
    assert decided[41.0].because == "stalled, and 500 ms of link are left: up to 900 ms"


def test_otherwise_it_waits_for_one_within_4_percent_of_the_least() -> None:
    """The least lies within the window: 40 MB at 20 s."""
    left_mb = {1.0: 50, 20.0: 40, 41.0: 60, 45.0: 55, 50.0: 41.7, 55.0: 41.6}
    assert list(course(detector(), left_mb)) == [55.0]


def test_the_switchover_is_asked_for_once() -> None:
    assert list(course(detector(), {1.0: 50, 41.0: 50, 42.0: 50, 43.0: 10})) == [41.0]


def test_patience_halves_each_time_that_the_target_is_not_met() -> None:
    """40 s for the first target, then 20, 10, 5, 2.5: at each of them the next lowest since the stall."""
    policy = detector()
    seen_mb = {1.0: 10.0, 41.0: 100.0}  # the stall: 10 MB is the target, until 81 s
    seen_mb |= {42.0: 30, 43.0: 50, 44.0: 20, 45.0: 60}
    seen_mb |= {80.9: 99}  # not yet
    seen_mb |= {81.0: 99}  # 20 MB, until 101 s
    seen_mb |= {100.9: 25}
    seen_mb |= {101.0: 99}  # 25 MB, until 111 s
    seen_mb |= {110.9: 31}  # 30 was seen, but 25 is the target
    seen_mb |= {111.0: 99}  # 30 MB
    seen_mb |= {112.0: 31.3}
    assert list(course(policy, seen_mb)) == []
    assert list(course(policy, {113.0: 31.2})) == [113.0]


def test_after_a_while_it_takes_what_is_usual_now() -> None:
    """It jumped up and never comes back: at the end of the patience the target is a minimum of the new level."""
    left_mb = {1.0: 10.0} | {40.0 + n: 20.0 + n % 3 for n in range(1, 100)}
    at_s, decision = next(iter(course(detector(), left_mb).items()))
    assert 81.0 <= at_s <= 83.0
    assert decision.downtime_limit_s == 0.9


def test_a_slow_drift_upwards_is_never_taken() -> None:
    """The targets are the lowest first, and those are the oldest: what is left runs away from them."""
    left_mb = {1.0: 10.0} | {40.0 + n: 12.0 + 0.2 * n for n in range(1, 200)}
    assert course(detector(), left_mb) == {}


def test_without_a_window_patience_is_at_its_end_at_once() -> None:
    policy = detector(window_s=0.0, patience_s=0.0)
    assert list(course(policy, {1.0: 10, 2.0: 80, 3.0: 70})) == [3.0]


def test_the_search_can_be_left_out() -> None:
    left_mb = {1.0: 50, 20.0: 40, 41.0: 60}
    assert list(course(detector(search_minimum=False), left_mb)) == [41.0]


# ---- what is done there


@pytest.mark.parametrize(
    ("left_mb", "limit_s", "gives_up"),
    [(90, 0.9, False), (91, 0.9, False), (135, 0.9, False), (136, None, True)],
)
def test_up_to_one_and_a_half_times_the_greatest_downtime_is_worth_a_try(
    left_mb: float, limit_s: float | None, gives_up: bool
) -> None:
    decision = course(detector(), {1.0: left_mb, 41.0: left_mb})[41.0]
    assert (decision.downtime_limit_s, decision.abort) == (limit_s, gives_up)


def test_a_hopeless_one_is_given_up_at_once_and_says_why() -> None:
    policy = detector()
    decisions = course(policy, {1.0: 500, 41.0: 500, 42.0: 500, 900.0: 500})
    assert [each.because for each in decisions.values()] == [
        "stalled, and 5000 ms of link are left, over 1.5 x 900 ms: give up"
    ]


def test_the_users_word_bounds_the_greatest_downtime() -> None:
    decision = course(detector(), {1.0: 30, 41.0: 30}, objectives=Objectives(downtime_s=0.25))[41.0]
    assert decision.downtime_limit_s == 0.25
    assert course(detector(), {1.0: 40, 41.0: 40}, objectives=Objectives(downtime_s=0.25))[41.0].abort


def test_where_the_workload_may_be_disturbed_it_is_post_copy_or_a_pause_however_long() -> None:
    assert course(detector(action="pause"), {1.0: 500, 41.0: 500})[41.0].pause
    assert course(detector(action="postcopy"), {1.0: 500, 41.0: 500})[41.0].start_postcopy
    assert course(detector(action="postcopy"), {1.0: 500, 41.0: 500}, abilities=Abilities())[41.0].pause


def test_what_does_not_fit_what_is_left_of_the_time_waits() -> None:
    """2 x 450 s for these 3 GB: at 440 s an outage of 500 s has no room any more, in a drop of the network, say."""
    assert list(course(detector(action="pause"), {360.0: 50_000, 400.0: 50_000})) == [400.0]
    assert list(course(detector(action="pause"), {400.0: 50_000, 440.0: 50_000})) == []


def test_with_no_bound_to_the_time_everything_fits() -> None:
    policy = detector(action="pause", completion_timeout_s=0.0)
    assert list(course(policy, {1e6: 9000, 2e6: 9000})) == [2e6]


# ---- the timeouts


def test_a_switchover_that_does_not_come_within_60_s_is_given_up() -> None:
    policy = detector()
    course(policy, {1.0: 50, 41.0: 50})
    assert policy(tick(101.0)).because == ""
    decision = policy(tick(101.4))
    assert decision.abort
    assert decision.because == "not over after 101 s: give up"
    assert not policy(tick(102.0)).abort


def test_after_post_copy_nothing_is_given_up() -> None:
    policy = detector(action="postcopy")
    assert course(policy, {1.0: 50, 41.0: 50})[41.0].start_postcopy
    assert not policy(tick(1e6)).abort


def shrinking(policy: KubevirtVep248, at_s: float, **what: Any) -> Decision:
    """A look at a guest of 1 GB, whose migration may take 150 s and never stalls."""
    policy(boundary(1.0, remaining_bytes=10 * MB))
    return policy(tick(at_s, total_bytes=10**9, bandwidth_bytes_per_s=SPEED, **what))


def test_the_time_over_without_a_stall_it_is_given_up() -> None:
    assert shrinking(detector(), 150.0).because == ""
    decision = shrinking(detector(), 150.4)
    assert decision.abort
    assert decision.because == "not over after 150 s: give up"


def test_or_forced_where_the_workload_may_be_disturbed() -> None:
    paused = detector(action="pause")
    assert shrinking(paused, 150.4).pause
    assert paused(tick(210.4, total_bytes=10**9)).because == ""
    assert paused(tick(211.0, total_bytes=10**9)).abort
    assert shrinking(detector(action="postcopy"), 150.4).start_postcopy


def test_but_not_where_that_would_not_fit_the_time_either() -> None:
    assert shrinking(detector(action="pause", completion_factor=1.0), 150.4).abort


def test_and_not_where_the_bandwidth_is_not_known() -> None:
    policy = KubevirtVep248(action="pause")
    assert policy(boundary(150.4, total_bytes=10**9, remaining_bytes=1)).abort


# ---- parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_downtime_s": 0.0},
        {"smoothing": 0.0},
        {"smoothing": 1.1},
        {"margin": 4.0},
        {"window_s": -1.0},
        {"completion_factor": -1.0},
        {"action": "soft"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        KubevirtVep248(**wrong)


# ---- in the fast path, scaled down


@pytest.mark.parametrize(
    ("hot_pages", "outcome"), [(20_000, Outcome.COMPLETED), (60_000, Outcome.GAVE_UP)], ids=["660 ms", "2 s"]
)
def test_a_plateau_is_taken_within_the_greatest_downtime_and_given_up_beyond(hot_pages: int, outcome: Outcome) -> None:
    """Neither waits for the timeout of 300 s."""
    setting = Setting(
        writers=(Writers(curve=PoissonClasses(((hot_pages, 20.0),))),),
        total_bytes=2 << 30,
        bandwidth_bytes_per_s=125e6,
        objectives=Objectives(downtime_s=0.9, may_abort=True),
        limit_s=100.0,
    )
    moved = forecast(setting, KubevirtVep248(window_s=2.0, patience_s=2.0))
    assert moved.outcome is outcome
    assert moved.total_s < 35.0
