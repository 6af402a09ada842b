"""``deadline``: Pacer's arithmetic, and that it ends when it was to end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.asking import ABLE, ALL_ALLOWED, asked, boundary, ended, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import Deadline
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Objectives, Reason
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20
HERE = Abilities(outside_throttle=True)
HURRY = replace(ALL_ALLOWED, downtime_s=0.3, deadline_s=100.0)


def learnt(policy: Deadline, **what: Any) -> Decision:
    """The decision at which it has learnt that the link carries 100 MiB/s, of which 3900 MiB are to go; at 1 s."""
    seen = look(**what)
    for step in range(1, 12):
        at_s = step / 20
        said = policy(tick(at_s, **seen, transferred_bytes=round(100 * MIB * at_s), remaining_bytes=3900 * MIB))
        assert said == Decision()
    return policy(tick(1.0, **seen, transferred_bytes=100 * MIB, remaining_bytes=3900 * MIB))


def started(**parameters: Any) -> Deadline:
    """With a link of 100 MiB/s, and 100 s."""
    policy = Deadline(**parameters)
    policy(setup(objectives=HURRY))
    learnt(policy)
    return policy


def look(**what: Any) -> dict[str, Any]:
    return {"bandwidth_bytes_per_s": 100.0 * MIB, "objectives": HURRY, "total_bytes": 4000 * MIB} | what


def test_it_learns_the_link_at_full_speed_first() -> None:
    decision = Deadline()(setup(objectives=HURRY))
    assert (decision.bandwidth_bytes_per_s, decision.downtime_limit_s, decision.wake_after_s) == (0, 0.001, 0.05)
    assert decision.because == "at full speed until the link is known"


def test_the_first_pass_is_paced_so_that_a_fifth_of_the_time_is_left() -> None:
    """4000 MiB less what went already, over 99 s less 20: 49.4 MiB/s."""
    policy = Deadline()
    policy(setup(objectives=HURRY))
    decision = learnt(policy)
    assert decision.bandwidth_bytes_per_s == round(3900 * MIB / 79)
    assert decision.wake_after_s == 5.0
    assert decision.because == "3900 MiB left, 99.0 s: 49.4 MiB/s"


def test_a_first_pass_that_is_over_too_soon_is_all_there_is_to_go_by() -> None:
    policy = Deadline()
    policy(setup(objectives=HURRY))
    assert policy(boundary(0.1, **look(), iteration=2, iterations=(ended(1, 0.0, 0.0),))) == Decision()
    last = ended(1, 0.0, 0.1, sent_bytes=100 * MIB)
    decision = policy(boundary(0.1, **look(), iteration=2, iterations=(last,), remaining_bytes=999 * MIB))
    assert decision.bandwidth_bytes_per_s == round(999 * MIB / 99.9)


def test_without_a_deadline_it_takes_three_times_what_the_ram_takes() -> None:
    """40 s once, 120 s in all, of which a fifth is kept."""
    policy = Deadline()
    policy(setup(objectives=ALL_ALLOWED))
    decision = learnt(policy, objectives=ALL_ALLOWED)
    assert decision.bandwidth_bytes_per_s == pytest.approx(3900 * MIB / (119 - 24), rel=1e-3)


def test_where_the_guest_was_measured_that_says_how_long_later_passes_take() -> None:
    """10 MiB/s dirtied in a first pass of 40 s are 400 MiB, which take 400 / 90 s."""
    policy = Deadline()
    able = Abilities(measuring=True, capabilities=ABLE.capabilities)
    assert policy(setup(objectives=HURRY, abilities=able)).measure_s == (1.0,)
    measured = (Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=10 * MIB),)
    assert policy(setup(objectives=HURRY, abilities=able, measurements=measured)).measure_s == ()
    assert learnt(policy).bandwidth_bytes_per_s == round(3900 * MIB / (99 - 400 / 90))


def test_a_later_pass_is_sent_at_what_is_left_over_the_time_left_and_the_dirty_rate() -> None:
    policy = started()
    last = ended(1, 0.0, 80.0, dirtied_bytes=1600 * MIB, sent_bytes=4000 * MIB)
    decision = policy(boundary(80.0, **look(), iteration=2, iterations=(last,), remaining_bytes=1000 * MIB))
    assert decision.bandwidth_bytes_per_s == 70 * MIB
    assert decision.downtime_limit_s == 0.001


def test_estimates_keep_four_fifths_of_the_old_value() -> None:
    policy = started()
    first = ended(1, 0.0, 80.0, dirtied_bytes=1600 * MIB)
    policy(boundary(80.0, **look(), iteration=2, iterations=(first,), remaining_bytes=1000 * MIB))
    second = ended(2, 80.0, 85.0, dirtied_bytes=50 * MIB)
    decision = policy(boundary(85.0, **look(), iteration=3, iterations=(first, second), remaining_bytes=150 * MIB))
    # 0.8 of 20 MiB/s and 0.2 of 10 MiB/s; 150 MiB in 15 s.
    assert decision.bandwidth_bytes_per_s == pytest.approx(28 * MIB)


def test_a_rate_that_was_set_and_not_had_lowers_what_the_link_is_held_to_give() -> None:
    """100 MiB/s becomes 82 MiB/s, at which 3000 MiB do not go in what is left."""
    policy = started()
    slow = look(bandwidth_bytes_per_s=10.0 * MIB, knobs=Knobs(bandwidth_bytes_per_s=50 * MIB))
    decision = policy(tick(40.0, **slow, remaining_bytes=3340 * MIB))
    assert decision.bandwidth_bytes_per_s == 0
    assert decision.because.endswith("full speed")


def test_no_rate_is_below_pacers_least_nor_above_what_is_allowed() -> None:
    idle = started()(tick(2.0, **look(), remaining_bytes=10 * MIB))
    assert idle.bandwidth_bytes_per_s == MIB
    tight = replace(HURRY, bandwidth_bytes_per_s=30 * MIB)
    decision = started()(tick(2.0, **look(objectives=tight), remaining_bytes=3900 * MIB))
    assert decision.bandwidth_bytes_per_s == 30 * MIB


def late(policy: Deadline, **what: Any) -> Decision:
    """What it decides with 1 s left for 2000 MiB."""
    last = ended(1, 0.0, 99.0, dirtied_bytes=9900 * MIB)
    return policy(boundary(99.0, **look(**what), iteration=2, iterations=(last,), remaining_bytes=2000 * MIB))


def test_late_it_goes_on_at_full_speed_and_the_guest_is_slowed_to_a_fifth() -> None:
    decision = late(started(), abilities=HERE)
    assert decision.outside_throttle == 0.8
    assert decision.bandwidth_bytes_per_s == 0
    assert decision.downtime_limit_s == pytest.approx(0.27)
    assert decision.because == "inf s needed, 1.0 s left: full speed, late: 80% of its time taken"


def test_qemus_throttle_stands_by_where_nothing_else_can_slow_the_guest() -> None:
    policy = Deadline()
    start = policy(setup(objectives=HURRY))
    assert start.capabilities == {"auto-converge": True}
    assert (start.throttle_initial, start.throttle_increment, start.throttle_ceiling) == (0.01, 0.01, 0.01)
    learnt(policy)
    decision = late(policy)
    assert (decision.throttle_increment, decision.throttle_ceiling) == (0.8, 0.8)
    assert "QEMU's throttle up to 80%" in decision.because


def test_where_nothing_may_slow_it_that_is_said() -> None:
    strict = replace(HURRY, greatest_throttle=0.0)
    policy = Deadline()
    assert policy(setup(objectives=strict)).capabilities == {}
    learnt(policy, objectives=strict)
    assert late(policy, objectives=strict).because.endswith("late; the objectives do not allow slowing the guest")


def test_where_a_fifth_is_too_much_it_is_halved_at_every_further_look() -> None:
    policy = started()
    late(policy, abilities=HERE)
    what = {"iteration": 2, "remaining_bytes": 1000 * MIB} | look(abilities=HERE)
    assert policy(tick(101.0, **what)).outside_throttle is None
    assert policy(tick(104.0, **what)).outside_throttle == pytest.approx(0.9)
    assert policy(tick(109.0, **what)).outside_throttle == pytest.approx(0.95)


def test_no_more_is_taken_than_is_allowed() -> None:
    policy = started()
    allowed = replace(HURRY, greatest_throttle=0.5)
    assert late(policy, abilities=HERE, objectives=allowed).outside_throttle == 0.5
    what = {"iteration": 2, "remaining_bytes": 1000 * MIB} | look(abilities=HERE, objectives=allowed)
    assert policy(tick(105.0, **what)).outside_throttle is None


def test_a_first_pass_that_comes_late_is_no_reason_to_slow_the_guest() -> None:
    decision = started()(tick(90.0, **look(abilities=HERE), remaining_bytes=3900 * MIB))
    assert decision.outside_throttle is None
    assert decision.downtime_limit_s == 0.001


def test_a_measured_guest_that_dirties_more_than_the_link_takes_has_no_time_to_lose() -> None:
    policy = Deadline()
    measured = (Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=200 * MIB),)
    policy(setup(objectives=HURRY, measurements=measured))
    assert "full speed" in learnt(policy).because


def test_the_users_own_deadline_stops_the_guest() -> None:
    assert Deadline()(asked(Reason.DEADLINE, 100.0)).pause


@pytest.mark.parametrize("finish_s", [6.0, 12.0])
def test_it_ends_within_a_few_percent_of_the_time(finish_s: float) -> None:
    """A guest that could be moved in 3 s."""
    writer = Writer(name="w", size_bytes=96 * MIB, rate_bytes_per_s=20 * MIB)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=128 * MIB, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=64 * MIB),
        objectives=Objectives(),
        limit_s=60.0,
    )
    truth = simulate(scenario, 1, Deadline(finish_s=finish_s)).truth
    assert truth.outage_s is not None
    assert truth.total_s == pytest.approx(finish_s, rel=0.1)


@pytest.mark.parametrize(
    "wrong", [{"finish_s": 0.0}, {"every_s": 0.0}, {"spare": 0.0}, {"memory": 1.5}, {"slowed": -0.1}]
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Deadline(**wrong)
