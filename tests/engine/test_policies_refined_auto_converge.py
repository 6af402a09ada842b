"""``refined_auto_converge``: both criteria, as a ladder of our own and on top of QEMU's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.support.asking import boundary, ended, setup
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Detector, Setting, Throttling, Writers
from whimbrel.engine.policies.auto_converge import AutoConverge
from whimbrel.engine.policies.refined_auto_converge import Detection, RefinedAutoConverge
from whimbrel.engine.policy import Abilities, Decision, Objectives
from whimbrel.engine.statistics import Iteration, Iterations

OUTSIDE = Abilities(capabilities=frozenset({"auto-converge"}), outside_throttle=True)
NO, OLD, NEW, BOTH = (False, False), (True, False), (False, True), (True, True)


def iterations(percents: Sequence[int], each_s: float = 2.0) -> list[Iteration]:
    """Iterations that dirty so many percent of what they send."""
    return [
        ended(n, n * each_s, (n + 1) * each_s, sent_bytes=1000, dirtied_bytes=10 * percent)
        for n, percent in enumerate(percents)
    ]


def detected(percents: Sequence[int], each_s: float = 2.0) -> list[tuple[bool, bool]]:
    """What each criterion wants after each of them."""
    detection = Detection(0.5)
    return [detection.add(each) for each in iterations(percents, each_s)]


# ---- the criteria


def test_a_ratio_that_never_falls_wants_a_step_at_each_look_from_the_second_on() -> None:
    """The old one at every second look; the new one, which has nothing to compare the first with, between these."""
    assert detected([100, 100, 100, 100, 100, 100]) == [NO, OLD, NEW, OLD, NEW, OLD]


def test_a_ratio_that_falls_is_the_old_criterions_alone() -> None:
    assert detected([150, 140, 130, 120, 110, 100]) == [NO, OLD, NO, OLD, NO, OLD]


def test_below_the_trigger_there_is_none() -> None:
    assert detected([50, 50, 50, 50]) == [NO] * 4
    assert detected([10, 20, 30, 40, 50, 60, 70]) == [NO] * 5 + [NO, BOTH]


def test_a_count_is_not_taken_back_by_a_good_look_between() -> None:
    assert detected([100, 10, 100]) == [NO, NO, OLD]
    assert detected([10, 60, 10, 60]) == [NO, NO, NO, BOTH]


def test_ratios_are_compared_in_whole_percent() -> None:
    detection = Detection(0.5)
    looks = [
        detection.add(ended(n, n * 2.0, n * 2.0 + 2.0, sent_bytes=100_000, dirtied_bytes=dirtied))
        for n, dirtied in enumerate([80_900, 80_500, 80_100])
    ]
    assert looks == [NO, OLD, NEW]


def test_looks_are_more_than_a_second_apart() -> None:
    """Shorter iterations are added up: five of 0.25 s make a look."""
    assert detected([100] * 15, each_s=0.25) == [NO] * 9 + [OLD] + [NO] * 4 + [NEW]


def test_a_look_at_which_nothing_was_sent_compares_nothing() -> None:
    detection = Detection(0.5)
    assert detection.add(ended(1, 0.0, 2.0)) == NO
    assert detection.add(ended(2, 2.0, 4.0, dirtied_bytes=5)) == NO
    assert detection.add(ended(3, 4.0, 6.0, dirtied_bytes=5)) == OLD


# ---- a ladder of our own


def ladder(policy: RefinedAutoConverge, percents: Sequence[int], **what: Any) -> list[float | None]:
    """The throttle from outside that is set after each iteration."""
    given = {"abilities": OUTSIDE} | what
    assert policy(setup(**given)).capabilities == {}
    so_far = Iterations()
    found: list[float | None] = []
    for each in iterations(percents):
        so_far = so_far.add(each)
        found.append(policy(boundary(each.ended_ns / 1e9, iterations=so_far, **given)).outside_throttle)
    return found


def test_from_outside_each_step_comes_with_its_look() -> None:
    assert ladder(RefinedAutoConverge(), [100] * 6) == pytest.approx([None, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_while_it_falls_the_ladder_is_auto_converges() -> None:
    assert ladder(RefinedAutoConverge(), [150, 140, 130, 120, 110, 100]) == pytest.approx(
        [None, 0.2, None, 0.3, None, 0.4]
    )


def test_the_rungs_are_parameters() -> None:
    policy = RefinedAutoConverge(initial=0.5, increment=0.2, ceiling=0.8)
    assert ladder(policy, [100] * 6) == pytest.approx([None, 0.5, 0.7, 0.8, None, None])


def test_the_users_bound_goes_before_the_ceiling() -> None:
    goal = Objectives(greatest_throttle=0.25)
    assert ladder(RefinedAutoConverge(), [100] * 5, objectives=goal) == pytest.approx([None, 0.2, 0.25, None, None])


def test_each_step_says_which_criterion_wanted_it() -> None:
    policy = RefinedAutoConverge(downtime_limit_s=0.1)
    decision = policy(setup(abilities=OUTSIDE))
    assert (decision.downtime_limit_s, decision.capabilities) == (0.1, {})
    assert decision.because == "both criteria, and a throttle from outside of QEMU"
    all_of_them = iterations([100] * 3)
    assert policy(boundary(4.0, iterations=all_of_them[:2], abilities=OUTSIDE)).because == (
        "too much dirtied, twice: 20%"
    )
    assert policy(boundary(6.0, iterations=all_of_them, abilities=OUTSIDE)).because == (
        "dirtied for each byte sent: no less than before, twice: 30%"
    )


def test_iterations_that_ended_between_two_questions_are_all_seen() -> None:
    policy = RefinedAutoConverge()
    policy(setup(abilities=OUTSIDE))
    assert policy(boundary(4.0, iterations=iterations([100, 100]), abilities=OUTSIDE)).outside_throttle == 0.2


# ---- on top of QEMU's


def within(policy: RefinedAutoConverge, percents: Sequence[int], throttles: Sequence[float]) -> list[Decision]:
    """What is decided while QEMU's own throttle stands so after each iteration."""
    policy(setup())
    all_of_them = iterations(percents)
    return [
        policy(boundary(2.0 * n + 2.0, iterations=all_of_them[: n + 1], throttle=throttle))
        for n, throttle in enumerate(throttles)
    ]


def test_without_an_outside_throttle_qemus_is_asked_for() -> None:
    decision = RefinedAutoConverge()(setup())
    assert decision.capabilities == {"auto-converge": True}
    assert (decision.throttle_initial, decision.throttle_increment) == (0.2, 0.1)
    assert (decision.throttle_ceiling, decision.throttle_trigger) == (0.99, 0.5)
    assert decision.because.endswith("(none from outside: this host can't slow the source's vCPUs)")


def test_where_neither_can_be_had_it_is_fixed_and_says_so() -> None:
    policy = RefinedAutoConverge()
    decision = policy(setup(objectives=Objectives(downtime_s=0.25)))
    assert decision == Decision(
        downtime_limit_s=0.25,
        because="the objectives do not allow slowing the guest: held at 250 ms, as fixed does",
    )


def test_or_where_the_user_wants_it_so() -> None:
    decision = RefinedAutoConverge(outside=False)(setup(abilities=OUTSIDE))
    assert decision.capabilities == {"auto-converge": True}
    assert "so wished" in decision.because


def test_a_step_of_the_new_criterion_makes_qemus_next_one_larger() -> None:
    """QEMU steps at the second look and at the fourth; the new criterion wanted one at the third."""
    decided = within(RefinedAutoConverge(), [100] * 5, [0.0, 0.2, 0.2, 0.4, 0.4])
    assert [each.throttle_increment for each in decided] == [None, None, 0.2, pytest.approx(0.1), 0.2]
    assert all(each.throttle_initial is None for each in decided)
    assert [each.because for each in decided[2:4]] == [
        "1 steps owed by the second criterion",
        "QEMU took the steps owed",
    ]


def test_before_qemus_first_step_it_is_that_one() -> None:
    """QEMU's count is one behind what was seen here: its first look fell into a period of its own."""
    decided = within(RefinedAutoConverge(), [100] * 4, [0.0, 0.0, 0.0, 0.3])
    assert [each.throttle_initial for each in decided] == [None, None, pytest.approx(0.3), None]
    assert decided[3].throttle_increment == pytest.approx(0.1)


def test_what_is_owed_adds_up_to_the_users_bound() -> None:
    policy = RefinedAutoConverge(initial=0.9, increment=0.5)
    decided = within(policy, [100] * 7, [0.0] * 7)
    assert [each.throttle_increment for each in decided if each.throttle_increment] == [0.99, 0.99, 0.99]
    assert [each.throttle_initial for each in decided if each.throttle_initial] == [0.99, 0.99, 0.99]


def test_a_step_that_both_want_is_one() -> None:
    decided = within(RefinedAutoConverge(), [10, 60, 70], [0.0, 0.0, 0.2])
    assert [each.because for each in decided] == ["", "", ""]


# ---- in the fast path

SCENE = Setting(
    writers=(Writers(curve=PoissonClasses(((65536, 1.0),)), cpu_share=0.25),),
    total_bytes=1 << 30,
    bandwidth_bytes_per_s=125e6,
    objectives=Objectives(downtime_s=0.3, greatest_throttle=0.99),
    abilities=Abilities(capabilities=frozenset({"auto-converge"})),
    limit_s=120.0,
)
"""A guest that dirties 256 MiB at more than the link's 1 Gbit/s, and has CPU to spare: for a while no step helps."""


def test_it_is_sooner_than_auto_converge_and_as_soon_as_the_patch_would_be() -> None:
    """In either way: what is owed comes a look or two later, and at the same height."""
    plain, refined = forecast(SCENE, AutoConverge()), forecast(SCENE, RefinedAutoConverge())
    from_outside = forecast(replace(SCENE, abilities=OUTSIDE), RefinedAutoConverge())
    patched = forecast(replace(SCENE, throttling=Throttling(detector=Detector.REFINED)), AutoConverge())
    assert all(each.converged for each in (plain, refined, from_outside, patched))
    assert patched.total_s < 0.9 * plain.total_s
    assert refined.total_s == pytest.approx(patched.total_s, rel=0.05)
    assert from_outside.total_s == pytest.approx(patched.total_s, rel=0.05)


def test_where_each_step_helps_it_is_auto_converge() -> None:
    """The reviewers' doubt: dirtied bytes for each byte sent fall at each step, so that the new criterion is silent."""
    busy = replace(SCENE, writers=(Writers(curve=PoissonClasses(((65536, 1.0),))),))
    assert forecast(busy, RefinedAutoConverge()).total_s == forecast(busy, AutoConverge()).total_s


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="trigger"):
        RefinedAutoConverge(trigger=50)
