"""``ovirt_schedule``: the engine's lists, followed as VDSM follows them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies.ovirt_schedule import SCHEDULES, OvirtSchedule, Schedule, Step
from whimbrel.engine.policy import Abilities, Decision, Objectives


def looks(policy: OvirtSchedule, iterations: list[int], **what: Any) -> list[Decision]:
    """A look every 10 s that finds QEMU in these iterations."""
    return [policy(tick(10.0 * (n + 1), iteration=iteration, **what)) for n, iteration in enumerate(iterations)]


def done(decision: Decision) -> float | str | None:
    """What was decided, in short."""
    if decision.abort:
        return "abort"
    if decision.start_postcopy:
        return "postcopy"
    return decision.downtime_limit_s


@pytest.mark.parametrize(
    ("schedule", "first_s", "then"),
    [
        ("minimal_downtime", 0.1, [None, None, 0.15, 0.2, 0.3, 0.4, None, 0.5, "abort", None]),
        ("suspend_workload", 0.1, [None, None, 0.15, 0.2, 0.3, 0.4, None, 0.5, 5.0, "abort", None]),
        ("postcopy", 0.1, [None, None, 0.15, 0.2, "postcopy", "abort", None]),
        ("very_large", 0.3, [None, None, 0.4, 0.5, 0.7, 1.0, None, 1.5, 5.0, "abort", None]),
    ],
)
def test_the_engines_lists_with_an_iteration_between_looks(
    schedule: str, first_s: float, then: list[float | str | None]
) -> None:
    policy = OvirtSchedule(schedule=schedule)
    assert policy(setup()).downtime_limit_s == first_s
    assert [done(each) for each in looks(policy, list(range(1, len(then) + 1)))] == then


def test_vdsms_own_rises_exponentially_to_500_ms_and_gives_up_after_42_more() -> None:
    policy = OvirtSchedule(schedule="legacy")
    assert policy(setup()).downtime_limit_s == 0.101
    then = [done(each) for each in looks(policy, list(range(1, 47)))]
    assert then[:6] == [None, None, 0.104, 0.12, 0.189, 0.5]
    assert then[6:43] == [None] * 37
    assert then[43:] == [0.5, "abort", None]
    assert [0.1 + 0.4 ** (power / 4) * 1e-3 ** (1 - power / 4) for power in range(5)] == pytest.approx(
        [0.101, 0.104, 0.120, 0.189, 0.5], abs=0.0007
    )


def test_one_entry_at_a_look_however_many_iterations_there_were() -> None:
    assert [done(each) for each in looks(OvirtSchedule(), [1, 40, 80])] == [None, 0.15, 0.2]


def test_iterations_before_the_first_look_do_not_count() -> None:
    assert [done(each) for each in looks(OvirtSchedule(), [30, 31, 32])] == [None, None, 0.15]


def test_a_look_that_finds_the_same_iteration_does_nothing() -> None:
    assert [done(each) for each in looks(OvirtSchedule(), [1, 3, 3, 3])] == [None, 0.15, None, None]


def test_between_its_looks_it_decides_nothing() -> None:
    assert OvirtSchedule()(boundary(4.0, iteration=9)) == Decision(wake_after_s=6.0)


def test_each_says_why() -> None:
    decisions = looks(OvirtSchedule(schedule="postcopy"), [1, 3, 4, 5, 6])
    assert [each.because for each in decisions] == [
        "",
        "2 iterations since the first look: 150 ms",
        "3 iterations since the first look: 200 ms",
        "4 iterations since the first look: post-copy",
        "5 iterations since the first look: give up",
    ]


def test_post_copy_that_cannot_be_had_is_passed_over() -> None:
    policy = OvirtSchedule(schedule="postcopy")
    assert "postcopy-ram" not in policy(setup(abilities=Abilities())).capabilities
    decisions = looks(policy, [1, 3, 4, 5, 6], abilities=Abilities())
    assert [done(each) for each in decisions] == [None, 0.15, 0.2, None, "abort"]
    assert decisions[3].because.endswith("but this pair of QEMUs has no postcopy-ram: passed over")


@pytest.mark.parametrize(
    ("schedule", "capabilities"),
    [
        ("minimal_downtime", {"auto-converge"}),
        ("suspend_workload", {"auto-converge", "xbzrle"}),
        ("postcopy", {"auto-converge", "postcopy-ram"}),
        ("legacy", set[str]()),
    ],
)
def test_what_is_asked_for_at_the_start(schedule: str, capabilities: set[str]) -> None:
    decision = OvirtSchedule(schedule=schedule)(setup())
    assert decision.capabilities == dict.fromkeys(capabilities, True)
    assert decision.wake_after_s == 10.0


def test_a_schedule_of_ones_own() -> None:
    own = Schedule(0.05, (Step(0, 0.06), Step(-1, "pause")), auto_converge=False)
    policy = OvirtSchedule(schedule=own, poll_s=1.0)
    assert policy(setup()).because == "50 ms, then by the count of iterations"
    assert not policy(tick(1.0)).pause
    assert policy(tick(2.0, iteration=2)).downtime_limit_s == 0.06
    assert policy(tick(3.0, iteration=3)).pause


def test_what_is_not_allowed_is_asked_for_and_left_to_the_engine() -> None:
    policy = OvirtSchedule(schedule=Schedule(0.05, (Step(-1, "abort"),)), poll_s=1.0)
    looked = [policy(tick(float(n), iteration=n, objectives=Objectives())) for n in (1, 2, 3)]
    assert [each.abort for each in looked] == [False, True, False]


def test_an_unknown_schedule_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(BadInput, match=", ".join(SCHEDULES)):
        OvirtSchedule(schedule="maximal_downtime")


def test_no_time_between_looks_is_refused() -> None:
    with pytest.raises(BadInput, match="poll_s"):
        OvirtSchedule(poll_s=0.0)
