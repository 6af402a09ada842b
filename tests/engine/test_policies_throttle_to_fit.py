"""``throttle_to_fit`` in the simulator and on the fast path, and its single decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Setting, Writers
from whimbrel.engine.policies import AutoConverge, ThrottleToFit
from whimbrel.engine.policies.throttle_to_fit import HOLD_S
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Objectives, Observation, Policy, Reason
from whimbrel.engine.statistics import Iteration, Statistics
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20
LINK = 114.0 * MIB
GOAL = Objectives(downtime_s=0.3, greatest_throttle=0.99)
OUTSIDE = Abilities(outside_throttle=True)
QEMU = Abilities(capabilities=frozenset({"auto-converge"}))
MEASURING = replace(QEMU, measuring=True)


# ---- whole migrations


@dataclass(frozen=True, slots=True)
class Course:
    """How one went."""

    total_s: float
    lost_s: float
    outage_s: float
    reasons: list[str]
    throttles: list[float]
    """From outside, as they were set one after the other."""


def run(
    policy: Policy,
    *,
    dirty: float = 1.5,
    cpu_share: float = 0.25,
    vcpu: int | None = 0,
    set_mib: int = 256,
    objectives: Objectives = GOAL,
    seed: int = 1,
    link: LinkPlan | None = None,
) -> Course:
    """A guest of 512 MiB that rewrites `set_mib` of it at `dirty` times the link, moved in the simulator."""
    writer = Writer(name="set", size_bytes=set_mib * MIB, rate_bytes_per_s=dirty * LINK, cpu_share=cpu_share, vcpu=vcpu)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=512 * MIB, zero_bytes=64 * MIB, writers=(writer,)),
        link=link or LinkPlan(bandwidth_bytes_per_s=LINK),
        objectives=objectives,
        limit_s=60.0,
    )
    outcome = simulate(scenario, seed, policy)
    truth = outcome.truth
    assert truth.outage_s is not None
    return Course(
        total_s=truth.total_s,
        lost_s=(1 - truth.work) * truth.total_s,
        outage_s=truth.outage_s,
        reasons=[each["because"] for each in outcome.decisions if each["because"]],
        throttles=[
            each["changes"]["outside_throttle"] for each in outcome.decisions if "outside_throttle" in each["changes"]
        ],
    )


@pytest.mark.parametrize("cpu_share", [0.1, 0.25, 0.36])
def test_it_is_several_times_as_quick_as_the_ladder_and_meets_the_goal(cpu_share: float) -> None:
    ladder, ours = run(AutoConverge(), cpu_share=cpu_share), run(ThrottleToFit(), cpu_share=cpu_share)
    assert ladder.total_s > 3.5 * ours.total_s
    assert ours.outage_s < GOAL.downtime_s


def test_patience_costs_time_and_saves_the_guests_work() -> None:
    ladder, patient, hasty = (run(policy) for policy in (AutoConverge(), ThrottleToFit(worth=0.1), ThrottleToFit()))
    assert hasty.total_s < 0.85 * patient.total_s
    assert patient.lost_s < 0.85 * hasty.lost_s
    assert ladder.total_s > 3.5 * patient.total_s
    assert patient.lost_s < 1.2 * ladder.lost_s


@pytest.mark.parametrize("cpu_share", [0.25, 0.36, 1.0])
def test_qemus_own_throttle_does_it_too_from_the_second_sync_on(cpu_share: float) -> None:
    ladder, ours = run(AutoConverge(), cpu_share=cpu_share), run(ThrottleToFit(outside=False), cpu_share=cpu_share)
    assert ours.total_s < 10
    assert ours.lost_s < 1.5 * ladder.lost_s
    assert ours.outage_s < GOAL.downtime_s
    assert not ours.throttles


@pytest.mark.parametrize("cpu_share", [0.1, 0.3, 1.0])
def test_on_the_fast_path_where_nobody_tells_what_the_vcpus_use(cpu_share: float) -> None:
    """It learns from each sync how much a throttle does."""
    writers = Writers(curve=PoissonClasses(((65536, 1.5 * LINK / (256 * MIB)),)), cpu_share=cpu_share)
    setting = Setting(
        writers=(writers,),
        total_bytes=512 * MIB,
        zero_bytes=64 * MIB,
        bandwidth_bytes_per_s=LINK,
        pipe_bytes=2_500_000,
        objectives=GOAL,
        abilities=QEMU,
        limit_s=60.0,
    )
    ladder, ours = forecast(setting, AutoConverge()), forecast(setting, ThrottleToFit())
    assert ladder.converged
    assert ours.converged
    assert ours.downtime_s < 0.3
    assert ours.total_s < min(0.66 * ladder.total_s, 14)


def test_it_says_what_it_computed() -> None:
    course = run(ThrottleToFit())
    throttled = next(reason for reason in course.reasons if reason.startswith("throttle"))
    for fact in ("ms to send at", "MiB/s", "f(0.2", "of a core", "of the speed stays", "guest-seconds", "over in"):
        assert fact in throttled


@pytest.mark.parametrize("dirty", [0.0, 0.05, 0.5])
def test_a_guest_that_needs_no_throttle_gets_none(dirty: float) -> None:
    course = run(ThrottleToFit(), dirty=dirty)
    assert course.throttles == []
    assert course.lost_s < 0.4
    assert course.outage_s < GOAL.downtime_s


def test_without_a_throttle_allowed_it_goes_as_far_as_the_guest_lets_it() -> None:
    course = run(ThrottleToFit(), dirty=0.8, objectives=replace(GOAL, greatest_throttle=0.0))
    assert course.reasons[0].startswith("the objectives do not allow slowing the guest")
    assert course.outage_s < GOAL.downtime_s
    assert course.throttles == []


def test_what_is_not_enough_is_not_taken_at_all() -> None:
    """A tenth would only cost the guest: the goal stays out of reach, which the deadline ends."""
    objectives = Objectives(downtime_s=0.3, greatest_throttle=0.1, deadline_s=10.0, may_pause=True)
    course = run(ThrottleToFit(), cpu_share=0.25, objectives=objectives)
    assert any(reason.startswith("not even a throttle of 10%") for reason in course.reasons)
    assert course.throttles == [0.1]  # at the deadline
    assert 10.0 < course.total_s < 13.0


def test_a_throttle_that_brings_nothing_is_lifted() -> None:
    """A device writes, by DMA: it is slowed by none."""
    objectives = replace(GOAL, deadline_s=40.0, may_pause=True)
    course = run(ThrottleToFit(), vcpu=None, objectives=objectives)
    assert course.throttles[0] > 0.9
    assert course.throttles[-2:] == [0.0, 0.99]  # and at the deadline all is done that can be done
    assert course.lost_s < 0.7 * course.total_s


def test_a_deadline_has_it_begin_earlier() -> None:
    """Worth nothing, it waits long; told when to be over, no longer than that allows."""
    lazy = run(ThrottleToFit(worth=0.01))
    hurried = run(ThrottleToFit(worth=0.01), objectives=replace(GOAL, deadline_s=8.5))
    assert lazy.total_s > 9
    assert hurried.total_s < 8.5


def test_a_link_that_gets_slower_is_noticed() -> None:
    slower = LinkPlan(bandwidth_bytes_per_s=LINK, steps=((3.9, LINK / 3),))
    assert run(ThrottleToFit(), link=slower).outage_s < 1.1 * GOAL.downtime_s


# ---- single decisions


def statistics(at_s: float, *, vcpu_s: float | None = None, total_s: float | None = None) -> tuple[Statistics, ...]:
    vcpus = () if vcpu_s is None else (vcpu_s,)
    return (Statistics(at_ns=round(at_s * 1e9), vcpu_s=vcpus, qemu_total_s=total_s, setup_s=0.1),)


def ended(
    number: int, begin_s: float, end_s: float, start: float, dirtied: float, *, left: float = 0.0, sent: float = 0.0
) -> Iteration:
    """Sizes in MiB."""
    return Iteration(
        number=number,
        started_ns=round(begin_s * 1e9),
        ended_ns=round(end_s * 1e9),
        remaining_at_start_bytes=round(start * MIB),
        remaining_at_end_bytes=round(left * MIB),
        sent_bytes=round((sent or start) * MIB),
        dirtied_bytes=round(dirtied * MIB),
    )


FIRST = ended(1, 0.0, 4.0, 456, 240)
SYNC = Observation(
    reason=Reason.ITERATION,
    elapsed_s=4.0,
    iteration=2,
    remaining_bytes=240 * MIB,
    total_bytes=512 * MIB,
    objectives=GOAL,
    abilities=OUTSIDE,
    iterations=(FIRST,),
)


def after_setup(policy: ThrottleToFit, abilities: Abilities = OUTSIDE, objectives: Objectives = GOAL) -> ThrottleToFit:
    """Asked at the setup, and once in the first iteration."""
    seen = Observation(reason=Reason.SETUP, abilities=abilities, objectives=objectives)
    policy(seen)
    policy(replace(SYNC, reason=Reason.TICK, elapsed_s=0.0, iteration=1, iterations=(), abilities=abilities))
    return policy


def test_setup_holds_the_limit_low_and_leaves_qemus_throttle_alone() -> None:
    decision = ThrottleToFit()(Observation(reason=Reason.SETUP, abilities=OUTSIDE, objectives=GOAL))
    assert decision.downtime_limit_s == HOLD_S
    assert not decision.capabilities
    assert "from outside" in decision.because


def test_where_nobody_can_slow_it_from_outside_qemus_throttle_is_made_ready_and_sleeps() -> None:
    decision = ThrottleToFit()(Observation(reason=Reason.SETUP, abilities=QEMU, objectives=GOAL))
    assert decision.capabilities == {"auto-converge": True}
    assert decision.throttle_initial == decision.throttle_increment == decision.throttle_ceiling == 0.01
    assert decision.throttle_trigger == 0.01


def test_where_there_is_no_throttle_at_all_it_says_so() -> None:
    policy = ThrottleToFit()
    decision = policy(Observation(reason=Reason.SETUP, objectives=GOAL))
    assert decision.because.startswith("this pair of QEMUs has no auto-converge")
    assert not decision.capabilities
    at_sync = policy(replace(SYNC, abilities=Abilities(), iterations=(replace(FIRST, started_ns=-1),)))
    assert at_sync.throttle_trigger is None


def test_what_is_measured_before_the_start_is_asked_for_once() -> None:
    policy = ThrottleToFit(measure_s=1.0)
    asked = Observation(reason=Reason.SETUP, abilities=MEASURING, objectives=GOAL)
    assert policy(asked).measure_s == (1.0,)
    assert policy(asked).measure_s == ()  # it failed: off we go
    assert ThrottleToFit()(asked).measure_s == ()
    assert ThrottleToFit(measure_s=1.0)(replace(asked, abilities=OUTSIDE)).measure_s == ()


def test_with_a_measurement_a_throttle_may_begin_in_the_first_iteration() -> None:
    """Under a deadline that leaves no time for a second one."""
    policy = ThrottleToFit(measure_s=1.0)
    goal = replace(GOAL, deadline_s=5.5)
    measured = Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=125 * MIB, vcpu_shares=(0.25,))
    policy(Observation(reason=Reason.SETUP, abilities=OUTSIDE, objectives=goal, measurements=(measured,)))
    asked: list[Decision] = []
    for step in range(40):
        at_s = step / 10
        sent = round(at_s * LINK)
        seen = replace(
            SYNC,
            reason=Reason.TICK,
            elapsed_s=at_s,
            iteration=1,
            iterations=(),
            transferred_bytes=sent,
            remaining_bytes=456 * MIB - sent,
            objectives=goal,
        )
        asked.append(policy(seen))
    begun = [step / 10 for step, decision in enumerate(asked) if decision.outside_throttle]
    assert len(begun) == 1
    assert 0.5 < begun[0] < 4.0


def test_a_sync_that_teaches_nothing_decides_nothing() -> None:
    """The whole bitmap was left: nobody knows what was dirtied among it."""
    policy = after_setup(ThrottleToFit())
    assert policy(replace(SYNC, iterations=(replace(FIRST, remaining_at_end_bytes=300 * MIB),))) == Decision()


def test_syncs_that_were_missed_are_no_point_of_the_curve() -> None:
    policy = after_setup(ThrottleToFit())
    assert policy(replace(SYNC, iteration=5)) == Decision()


def test_an_iteration_that_others_throttled_tells_nothing_where_the_vcpus_are_out_of_sight() -> None:
    policy = ThrottleToFit()
    policy(replace(SYNC, reason=Reason.TICK, elapsed_s=0.0, iteration=1, iterations=(), throttle=0.5))
    assert policy(SYNC) == Decision()


def test_asked_at_a_sync_first_it_learns_from_the_next() -> None:
    policy = ThrottleToFit()
    assert policy(replace(SYNC, iterations=(replace(FIRST, ended_ns=0),))) == Decision()


def test_what_the_vcpus_used_says_how_much_the_guest_has_run() -> None:
    """Under a throttle it did a tenth of its work: the point belongs to a tenth of the time."""
    policy = ThrottleToFit()
    policy(Observation(reason=Reason.SETUP, abilities=OUTSIDE, objectives=GOAL))
    tick = replace(SYNC, reason=Reason.TICK, elapsed_s=0.0, iteration=1, iterations=())
    policy(replace(tick, samples=statistics(0.0, vcpu_s=0.0)))
    first = policy(replace(SYNC, samples=statistics(4.0, vcpu_s=1.0, total_s=4.1)))
    assert first.outside_throttle
    assert first.outside_throttle > 0.9
    assert "vCPUs use 0.25 of a core" in first.because
    # In 2 s of them they used 0.05 s, which is 0.2 s of the guest's own time.
    second = replace(
        SYNC,
        elapsed_s=6.0,
        iteration=3,
        remaining_bytes=80 * MIB,
        samples=statistics(6.0, vcpu_s=1.05),
        iterations=(FIRST, ended(2, 4.0, 6.0, 240, 80, sent=228)),
        knobs=Knobs(outside_throttle=first.outside_throttle),
    )
    decision = policy(second)
    assert decision.outside_throttle is not None
    assert decision.outside_throttle >= first.outside_throttle
    assert "f(0.70 s) = 1" in decision.because  # more than 100 MiB: a short window holds a lot


def test_what_was_dirtied_says_how_much_it_did_where_the_vcpus_are_out_of_sight() -> None:
    policy = after_setup(ThrottleToFit())
    first = policy(SYNC)
    assert first.outside_throttle
    assert "vCPU use unknown" in first.because
    unslowed = replace(
        SYNC,
        elapsed_s=6.1,
        iteration=3,
        remaining_bytes=200 * MIB,
        iterations=(FIRST, ended(2, 4.0, 6.1, 240, 240)),
    )
    decision = policy(unslowed)
    assert decision.outside_throttle == 0.99


def test_a_throttle_from_outside_that_is_lost_is_not_counted_on() -> None:
    policy = after_setup(ThrottleToFit())
    assert policy(SYNC).outside_throttle
    lost = replace(
        SYNC,
        elapsed_s=6.1,
        iteration=3,
        abilities=Abilities(),
        iterations=(FIRST, ended(2, 4.0, 6.1, 240, 200)),
        remaining_bytes=200 * MIB,
    )
    assert policy(lost).outside_throttle is None


def ladder(policy: ThrottleToFit, number: int, *, throttle: float = 0.0, left: float = 150.0) -> Decision:
    """The sync after iteration `number` on a plateau, with QEMU's own throttle."""
    plateau = ended(number, 2.0 + number, 3.3 + number, 150, left)
    return policy(
        replace(
            SYNC,
            elapsed_s=3.3 + number,
            iteration=number + 1,
            remaining_bytes=round(left * MIB),
            abilities=QEMU,
            throttle=throttle,
            iterations=(FIRST, *([plateau] if number > 1 else [])),
        )
    )


def test_qemus_throttle_is_set_for_the_next_sync() -> None:
    policy = after_setup(ThrottleToFit(outside=False), QEMU)
    decision = ladder(policy, 1, left=240)
    assert decision.throttle_initial
    assert 0.85 < decision.throttle_initial < 0.95
    assert decision.throttle_ceiling == decision.throttle_initial
    assert decision.throttle_trigger == 0.01
    assert decision.downtime_limit_s == HOLD_S


def test_while_it_is_to_wait_no_sync_counts() -> None:
    policy = after_setup(ThrottleToFit(outside=False, worth=0.0), QEMU)
    decision = ladder(policy, 1, left=240)
    assert decision.throttle_trigger == 1.0
    assert decision.throttle_initial is None


def test_a_throttle_of_qemus_that_is_too_weak_is_raised_by_what_it_lacks() -> None:
    policy = after_setup(ThrottleToFit(outside=False), QEMU)
    ladder(policy, 1, left=240)
    ladder(policy, 2, throttle=0.8, left=145)
    decision = ladder(policy, 3, throttle=0.8, left=145)  # 80 % has had no effect
    assert decision.throttle_ceiling
    assert decision.throttle_ceiling > 0.9
    assert decision.throttle_increment == pytest.approx(decision.throttle_ceiling - 0.8)


def test_its_figure_may_come_later_than_the_sync() -> None:
    """The throttle has moved, but the first look after the sync did not show it: the next one does."""
    policy = after_setup(ThrottleToFit(outside=False), QEMU)
    ladder(policy, 1, left=240)
    ladder(policy, 2, left=190)
    tick = Observation(
        reason=Reason.TICK,
        elapsed_s=5.4,
        iteration=3,
        remaining_bytes=180 * MIB,
        total_bytes=512 * MIB,
        objectives=GOAL,
        abilities=QEMU,
        throttle=0.95,
        iterations=(FIRST, ended(2, 4.0, 5.3, 150, 190)),
    )
    assert "% now: " in policy(tick).because
    assert policy(replace(tick, elapsed_s=5.45)) == Decision()


def test_a_throttle_of_qemus_that_never_moves_is_given_up() -> None:
    """It may have none, or its syncs may come too often to count: what is left fits or it does not."""
    policy = after_setup(ThrottleToFit(outside=False), QEMU)
    decisions = [ladder(policy, number) for number in range(1, 9)]
    assert decisions[0].throttle_initial
    assert decisions[-1].throttle_initial is None
    assert decisions[-1].because.startswith("not even")
    assert decisions[-1].downtime_limit_s == pytest.approx(0.285)


def test_before_the_link_is_known_the_iterations_tell() -> None:
    policy = after_setup(ThrottleToFit())
    assert "at 114 MiB/s" in policy(SYNC).because


def test_after_the_deadline_nothing_more_is_decided() -> None:
    policy = after_setup(ThrottleToFit())
    end = policy(replace(SYNC, reason=Reason.DEADLINE))
    assert end.switch_over
    assert not end.pause
    assert end.outside_throttle == 0.99
    assert policy(SYNC) == Decision()


def test_a_deadline_before_the_first_look_may_pause_where_that_is_allowed() -> None:
    objectives = Objectives(downtime_s=0.3, may_pause=True)
    decision = ThrottleToFit()(Observation(reason=Reason.DEADLINE, objectives=objectives))
    assert decision.pause
    assert decision.outside_throttle is None
