"""``nova_steps``: Nova's documented staircase, its timeouts, and its old switch to post-copy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import ALL_ALLOWED, GIB, boundary, ended, setup, tick
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Outcome, Setting, Writers
from whimbrel.engine.policies.nova_steps import NovaSteps
from whimbrel.engine.policy import Abilities, Decision, Objectives

DOCUMENTED_MS = [40, 76, 112, 148, 184, 220, 256, 292, 328, 364, 400]
"""Nova's own example: 400 ms, 10 steps, 30 s, 3 GiB; one every 90 s."""


def nova(**parameters: Any) -> NovaSteps:
    """With a look whenever it is asked."""
    given: dict[str, Any] = {"poll_s": 0.01} | parameters
    return NovaSteps(**given)


def documented() -> NovaSteps:
    return nova(downtime_s=0.4, steps=10, delay_s=30.0)


def test_the_documented_staircase() -> None:
    policy = documented()
    limits = [policy(setup()).downtime_limit_s]
    limits += [policy(tick(90.0 * step + 0.5, total_bytes=3 * GIB)).downtime_limit_s for step in range(1, 11)]
    assert limits == [ms / 1e3 for ms in DOCUMENTED_MS]


def test_a_step_comes_after_its_moment_and_not_with_it() -> None:
    policy = documented()
    assert policy(tick(90.0, total_bytes=3 * GIB)).downtime_limit_s is None
    assert policy(tick(90.5, total_bytes=3 * GIB)).downtime_limit_s == 0.076
    assert policy(tick(91.0, total_bytes=3 * GIB)).downtime_limit_s is None


def test_a_late_look_finds_the_step_of_its_time() -> None:
    policy = documented()
    assert policy(tick(300.0, total_bytes=3 * GIB)).downtime_limit_s == 0.148
    assert policy(tick(5000.0, total_bytes=3 * GIB)).abort


def test_the_top_of_the_staircase_is_held() -> None:
    policy = nova(completion_timeout_s=0.0)
    assert policy(tick(1e6)).downtime_limit_s == 0.5
    assert policy(tick(2e6)).downtime_limit_s is None


def test_by_default_it_is_50_to_500_ms_every_75_s_for_each_gib() -> None:
    policy = NovaSteps()
    assert [policy.limit_s(step) for step in range(11)] == [ms / 1e3 for ms in range(50, 501, 45)]
    decision = policy(setup())
    assert (decision.downtime_limit_s, decision.wake_after_s) == (0.05, 0.5)
    assert decision.because == "50 ms, and up to 500 ms in 10 steps"
    assert policy(tick(4 * 75.0 + 0.5, total_bytes=4 * GIB)) == Decision(
        downtime_limit_s=0.095, wake_after_s=0.5, because="step 1 of 10: 95 ms, one every 300 s"
    )


def test_beyond_what_is_allowed_it_does_not_climb() -> None:
    """The step that reaches it is bounded by the engine, and is the last."""
    policy = nova(completion_timeout_s=0.0)
    limits = [policy(tick(150.0 * n + 0.5, objectives=Objectives(downtime_s=0.1))).downtime_limit_s for n in range(11)]
    assert [limit for limit in limits if limit] == [0.095, 0.14]


def test_a_small_guest_counts_as_2_gib() -> None:
    assert nova()(tick(149.0, total_bytes=GIB // 4)).downtime_limit_s is None
    assert nova()(tick(151.0, total_bytes=GIB // 4)).downtime_limit_s == 0.095
    assert nova(least_gib=0.25)(tick(19.0, total_bytes=GIB // 4)).downtime_limit_s == 0.095


def test_between_its_looks_it_decides_nothing() -> None:
    policy = NovaSteps(delay_s=0.1)
    assert policy(boundary(0.25)) == Decision(wake_after_s=0.25)
    assert policy(tick(0.5)).downtime_limit_s == 0.14


# ---- the timeout


def test_it_gives_up_after_800_s_for_each_gib() -> None:
    policy = nova()
    assert not policy(tick(1600.0)).abort
    decision = policy(tick(1600.5))
    assert decision.abort
    assert decision.because == "not over after 1600 s: give up"
    assert policy(tick(1601.0)).downtime_limit_s is None


def test_where_giving_up_is_not_allowed_it_is_asked_for_once_and_the_staircase_goes_on() -> None:
    policy = nova(completion_timeout_s=10.0)
    forbidden = Objectives()
    assert policy(tick(21.0, objectives=forbidden)).abort
    assert policy(tick(151.0, objectives=forbidden)).downtime_limit_s == 0.095


def test_force_complete_is_post_copy_where_that_is_permitted() -> None:
    policy = nova(action="force_complete")
    assert policy(setup()).capabilities == {"postcopy-ram": True}
    assert policy(tick(1601.0)).start_postcopy
    assert policy(tick(1602.0)).downtime_limit_s is None


def test_and_a_pause_where_it_is_not() -> None:
    no_postcopy = Objectives(may_pause=True)
    policy = nova(action="force_complete")
    assert policy(setup(objectives=no_postcopy)).capabilities == {}
    decision = policy(tick(1601.0, objectives=no_postcopy))
    assert (decision.pause, decision.start_postcopy, decision.abort) == (True, False, False)


def test_without_a_timeout_it_never_ends() -> None:
    assert not nova(completion_timeout_s=0.0)(tick(1e7)).abort


# ---- post-copy for want of progress

HUNDRED = ended(2, 0.0, 1.0, remaining_at_start_bytes=100)


@pytest.mark.parametrize(("left", "switches"), [(89, False), (90, False), (91, True), (100, True), (150, True)])
def test_less_than_a_tenth_of_progress_in_a_pass_is_post_copy(left: int, switches: bool) -> None:
    decision = nova()(boundary(1.0, iteration=3, remaining_bytes=left, iterations=(HUNDRED,)))
    assert decision.start_postcopy == switches
    assert decision.because == ("less than 10% of progress: post-copy" if switches else "")


def test_afterwards_there_is_nothing_left_to_decide() -> None:
    policy = nova()
    assert policy(boundary(1.0, iteration=3, remaining_bytes=100, iterations=(HUNDRED,))).start_postcopy
    assert policy(tick(1e6)).downtime_limit_s is None


@pytest.mark.parametrize(
    "what",
    [
        {"iterations": (), "iteration": 2},
        {"iteration": 1},
        {"objectives": Objectives()},
        {"abilities": Abilities()},
        {"iterations": (ended(2, 0.0, 1.0, remaining_at_start_bytes=0),)},
    ],
    ids=["nothing before", "first pass", "not permitted", "not possible", "nothing was left"],
)
def test_no_post_copy_without_a_pass_to_compare_or_the_permission(what: dict[str, Any]) -> None:
    seen = {"iteration": 3, "remaining_bytes": 100, "iterations": (HUNDRED,)} | what
    assert not nova()(boundary(1.0, **seen)).start_postcopy


def test_since_2018_there_is_no_such_switch() -> None:
    growing = boundary(1.0, iteration=3, remaining_bytes=150, iterations=(HUNDRED,))
    assert not nova(least_progress=0.0)(growing).start_postcopy


def test_compared_at_every_look_a_large_guest_has_no_chance() -> None:
    """What was wrong with it: 2 % less after half a second is no progress, while the pass is going well."""
    policy = NovaSteps(progress_per_poll=True)
    seen: dict[str, Any] = {"iteration": 2, "objectives": ALL_ALLOWED}
    assert not policy(tick(0.5, remaining_bytes=1000, **seen)).start_postcopy
    assert not policy(boundary(0.7, remaining_bytes=1000, **seen)).start_postcopy
    assert policy(tick(1.0, remaining_bytes=980, **seen)).start_postcopy


# ---- in the fast path, scaled down


def test_scaled_down_it_climbs_until_the_guest_fits() -> None:
    """A plateau of some 165 ms (21 MB that are always dirty): it moves once the staircase is above."""
    setting = Setting(
        writers=(Writers(curve=PoissonClasses(((5000, 50.0),))),),
        total_bytes=GIB // 4,
        bandwidth_bytes_per_s=125e6,
        objectives=Objectives(downtime_s=0.5),
    )
    course = forecast(setting, NovaSteps(delay_s=2.0))
    assert course.outcome is Outcome.COMPLETED
    limits = [decided.changes["downtime_limit_s"] for decided in course.decisions]
    assert limits == [0.05, 0.095, 0.14, 0.185]
    assert 12.0 < course.total_s < 13.5


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"delay_s": 0.0}, {"completion_timeout_s": -1.0}, {"action": "explode"}, {"least_progress": 10.0}],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        NovaSteps(**wrong)
