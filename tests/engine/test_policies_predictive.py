"""``predictive``: whole migrations in the simulator and on the fast path, and its single decisions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.support.asking import ended
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Forecast, Setting, Writers
from whimbrel.engine.pilot import GREATEST_WAKE_S
from whimbrel.engine.policies import LeastDowntime, Predictive, SdpsLike, ThrottleToFit
from whimbrel.engine.policies.predictive import HOLD_S, LOST_AFTER, VAIN_AFTER
from whimbrel.engine.policy import Abilities, Decision, Measurement, Objectives, Observation, Policy, Reason
from whimbrel.engine.statistics import Statistics
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20
LINK = 114.0 * MIB
ALL = Objectives(downtime_s=0.3, greatest_throttle=0.99, may_postcopy=True, may_pause=True, may_abort=True)
PRECOPY = Objectives(downtime_s=0.3, greatest_throttle=0.99)
GENTLE = Objectives(downtime_s=0.3)
HERE = Abilities(outside_throttle=True, capabilities=frozenset({"postcopy-ram", "postcopy-preempt"}), measuring=True)
FAR = Abilities(capabilities=frozenset({"auto-converge"}))


# ---- whole migrations


def foretold(
    policy: Policy, *, dirty: float, objectives: Objectives = ALL, abilities: Abilities = HERE, **setting: Any
) -> Forecast:
    """A guest of 512 MiB that rewrites half of it at `dirty` times the link."""
    writers = Writers(curve=PoissonClasses(((65536, dirty * LINK / (256 * MIB)),)), cpu_share=0.3)
    given: dict[str, Any] = {
        "total_bytes": 512 * MIB,
        "zero_bytes": 64 * MIB,
        "bandwidth_bytes_per_s": LINK,
        "pipe_bytes": 2_500_000,
    }
    return forecast(
        Setting(writers=(writers,), objectives=objectives, abilities=abilities, limit_s=60.0, **(given | setting)),
        policy,
    )


@dataclass(frozen=True, slots=True)
class Course:
    """How a simulated one went."""

    moved: bool
    total_s: float
    outage_s: float
    lost_s: float
    reasons: list[str]
    throttles: list[float]
    postcopy: bool


def run(
    policy: Policy,
    *,
    dirty: float,
    objectives: Objectives = ALL,
    link: LinkPlan | None = None,
    vcpu: int | None = 0,
    local: bool = True,
    limit_s: float = 40.0,
) -> Course:
    """The same guest with half of its memory, moved in the simulator."""
    writer = Writer(name="set", size_bytes=128 * MIB, rate_bytes_per_s=dirty * LINK, cpu_share=0.3, vcpu=vcpu)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=256 * MIB, zero_bytes=32 * MIB, writers=(writer,)),
        link=link or LinkPlan(bandwidth_bytes_per_s=LINK),
        qemu=QemuPlan(local=local),
        objectives=objectives,
        limit_s=limit_s,
    )
    outcome = simulate(scenario, 1, policy)
    truth, changes = outcome.truth, [each["changes"] for each in outcome.decisions]
    return Course(
        moved=outcome.report is not None and outcome.report.moved,
        total_s=truth.total_s,
        outage_s=float("inf") if truth.outage_s is None else truth.outage_s,
        lost_s=(1 - truth.work) * truth.total_s,
        reasons=[each["because"] for each in outcome.decisions if each["because"]],
        throttles=[each["outside_throttle"] for each in changes if "outside_throttle" in each],
        postcopy=truth.postcopy,
    )


@pytest.mark.parametrize("dirty", [0.0, 0.05])
def test_a_guest_that_needs_nothing_gets_nothing(dirty: float) -> None:
    course = run(Predictive(), dirty=dirty)
    assert course.moved
    assert course.outage_s < 0.3
    assert course.throttles == []
    assert not course.postcopy


@pytest.mark.parametrize("dirty", [0.9, 1.5, 5.0])
def test_what_does_not_fit_soon_goes_over_by_postcopy_where_that_is_cheapest(dirty: float) -> None:
    course = foretold(Predictive(), dirty=dirty)
    throttled = foretold(ThrottleToFit(), dirty=dirty)
    assert course.postcopy_s > 0
    assert course.downtime_s < 0.1
    assert (
        course.total_s + (1 - course.work) * course.total_s
        < throttled.total_s + (1 - throttled.work) * throttled.total_s
    )


@pytest.mark.parametrize("dirty", [0.9, 1.5, 5.0])
def test_without_postcopy_the_guest_is_slowed_at_once_and_as_much_as_it_takes(dirty: float) -> None:
    course = run(Predictive(), dirty=dirty, objectives=PRECOPY)
    stepwise = run(SdpsLike(), dirty=dirty, objectives=PRECOPY)
    assert course.outage_s < 0.3
    assert course.throttles[0] > 0.5
    assert course.total_s + course.lost_s < stepwise.total_s + stepwise.lost_s


def test_with_qemus_own_throttle_it_gets_there_too() -> None:
    course = run(Predictive(), dirty=1.5, objectives=PRECOPY, local=False)
    assert course.outage_s < 0.3
    assert course.throttles == []
    assert any("by QEMU's own" in reason for reason in course.reasons)


def test_where_nothing_is_allowed_it_takes_the_first_moment_that_fits() -> None:
    course = run(Predictive(), dirty=0.9, objectives=GENTLE)
    patient = run(LeastDowntime(), dirty=0.9, objectives=GENTLE)
    assert course.outage_s < 0.3
    assert course.total_s <= patient.total_s


def test_a_deadline_is_kept_by_slowing_the_guest_in_time() -> None:
    course = run(Predictive(), dirty=1.5, objectives=replace(PRECOPY, deadline_s=4.5))
    assert course.total_s < 4.5
    assert course.outage_s < 0.3


def test_a_deep_pipe_is_emptied_before_the_stop_where_it_would_take_most_of_the_downtime() -> None:
    link = LinkPlan(bandwidth_bytes_per_s=23.0 * MIB, pipe_bytes=2 * MIB)
    writer = Writer(name="set", size_bytes=64 * MIB, rate_bytes_per_s=0.05 * 23 * MIB, cpu_share=0.01)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=96 * MIB, writers=(writer,)), link=link, objectives=Objectives(downtime_s=0.09)
    )
    landed = simulate(scenario, 1, Predictive())
    assert landed.truth.outage_s is not None
    assert landed.truth.outage_s < 0.05
    assert any(each["because"].startswith("landing") for each in landed.decisions)


def test_a_throttle_that_brings_nothing_is_lifted_and_the_guest_paused_where_that_is_allowed() -> None:
    """A device writes, which no throttle slows."""
    objectives = replace(PRECOPY, may_pause=True)
    course = run(Predictive(patience=4.0), dirty=1.5, vcpu=None, objectives=objectives)
    assert course.moved
    assert course.outage_s > 0.3
    if course.throttles:
        assert course.throttles[-1] == 0.0


RESERVED: dict[str, Any] = {"throttle": False, "postcopy": False, "pause": False, "reserve": True}
"""Pre-copy and nothing else, and the rest in reserve."""


@pytest.mark.parametrize("dirty", [0.0, 0.05, 0.5])
def test_what_is_held_in_reserve_is_not_used_where_it_need_not_be(dirty: float) -> None:
    course, plain = (run(Predictive(**(RESERVED | {"reserve": kept})), dirty=dirty) for kept in (True, False))
    assert (course.postcopy, course.throttles) == (False, [])
    assert course.total_s == pytest.approx(plain.total_s, rel=0.02)


def test_where_nothing_else_will_do_what_is_held_in_reserve_is_used() -> None:
    course = run(Predictive(**RESERVED), dirty=1.5)
    assert course.moved
    assert course.postcopy
    slowed = run(Predictive(**RESERVED), dirty=1.5, objectives=PRECOPY)
    assert slowed.moved
    assert slowed.outage_s <= 0.3
    assert max(slowed.throttles) > 0.5
    pausing = replace(GENTLE, may_pause=True)
    paused = run(Predictive(**RESERVED, patience=4.0), dirty=1.5, vcpu=None, objectives=pausing)
    assert paused.moved
    assert paused.outage_s > 0.3


def test_what_the_objectives_forbid_can_not_be_held_in_reserve() -> None:
    course = run(Predictive(**RESERVED), dirty=3.0, objectives=GENTLE, limit_s=15.0)
    assert (course.moved, course.postcopy, course.throttles) == (False, False, [])


def test_it_gives_up_where_nothing_will_do_and_that_is_allowed() -> None:
    course = run(Predictive(patience=3.0), dirty=3.0, objectives=replace(GENTLE, may_abort=True))
    assert not course.moved
    assert course.total_s < 15
    told = run(Predictive(patience=3.0, throttle=False, postcopy=False, pause=False), dirty=3.0, objectives=ALL)
    assert not told.moved


def test_late_it_goes_over_by_postcopy_if_it_may() -> None:
    late = foretold(
        Predictive(caution_s=1e6), dirty=3.0, objectives=replace(ALL, greatest_throttle=0.0, deadline_s=1.0)
    )
    assert late.postcopy_s > 0
    assert any("late" in each.because for each in late.decisions)


def test_late_and_without_postcopy_it_pauses_or_gives_all_of_the_downtime() -> None:
    objectives = replace(GENTLE, deadline_s=2.0)
    paused = foretold(Predictive(), dirty=3.0, objectives=replace(objectives, may_pause=True))
    assert paused.converged
    going_on = foretold(Predictive(), dirty=3.0, objectives=objectives)
    assert not going_on.converged
    assert any(each.changes.get("downtime_limit_s") == 0.3 for each in going_on.decisions)


def test_it_pauses_in_time_for_a_deadline_where_nothing_else_will_do() -> None:
    course = foretold(Predictive(), dirty=3.0, objectives=replace(GENTLE, may_pause=True, deadline_s=12.0))
    assert course.converged
    assert course.total_s < 12.0
    assert course.downtime_s > 0.3


def test_what_was_measured_before_the_start_is_used() -> None:
    """With the guest known it need not wait for a first sync to see what will come."""
    course = foretold(Predictive(measure_s=1.0), dirty=1.5, objectives=replace(PRECOPY, deadline_s=5.8))
    assert course.total_s < 5.8
    blind = Predictive(measure_s=1.0)
    asked = Observation(reason=Reason.SETUP, abilities=HERE, objectives=PRECOPY)
    assert blind(asked).measure_s == (1.0,)
    assert blind(asked).measure_s == ()


def test_a_noisy_link_gets_a_margin() -> None:
    noisy = LinkPlan(bandwidth_bytes_per_s=LINK, noise=0.25, noise_memory=0.9)
    assert run(Predictive(), dirty=0.8, objectives=GENTLE, link=noisy).outage_s < 0.3


def test_a_link_that_halves_is_noticed() -> None:
    fading = LinkPlan(bandwidth_bytes_per_s=LINK, steps=((1.2, LINK / 2),))
    assert run(Predictive(), dirty=0.4, objectives=PRECOPY, link=fading).outage_s < 0.3


# ---- cost


def test_a_decision_takes_less_than_five_milliseconds_and_few_are_asked_for() -> None:
    """The best of several, for the machine may be busy."""
    took_s: list[float] = []

    def timed(policy: Policy) -> Iterator[Policy]:
        def asked(seen: Observation) -> Decision:
            began_s = time.process_time()
            decision = policy(seen)
            took_s.append(time.process_time() - began_s)
            return decision

        yield asked

    worst_s: list[float] = []
    for _ in range(3):
        took_s.clear()
        for policy in timed(Predictive()):
            foretold(policy, dirty=0.9, objectives=PRECOPY)
        worst_s.append(max(took_s))
        assert len(took_s) < 40
    assert min(worst_s) < 0.005


def test_where_nothing_changes_it_is_not_decided_anew() -> None:
    """A guest that never fits: one pass is like the other, and the plan stands."""
    asked: list[Reason] = []
    policy = Predictive()

    def watched(seen: Observation) -> Decision:
        decision = policy(seen)
        if decision.because:
            asked.append(seen.reason)
        return decision

    course = foretold(watched, dirty=1.5, objectives=GENTLE)
    assert course.iterations > 30
    assert len(asked) < 20


# ---- single decisions


def look(at_s: float, left: float, **what: Any) -> Statistics:
    """Sizes in MiB."""
    return Statistics(
        at_ns=round(at_s * 1e9), remaining_bytes=round(left * MIB), transferred_bytes=round(at_s * LINK), **what
    )


FIRST = ended(1, 0.0, 4.0, remaining_at_start_bytes=456 * MIB, sent_bytes=456 * MIB, dirtied_bytes=200 * MIB)
SYNC = Observation(
    reason=Reason.ITERATION,
    elapsed_s=4.0,
    iteration=2,
    remaining_bytes=200 * MIB,
    transferred_bytes=456 * MIB,
    total_bytes=512 * MIB,
    objectives=ALL,
    abilities=HERE,
    iterations=(FIRST,),
)


def begun(policy: Predictive, **what: Any) -> Predictive:
    """Asked at the setup, and once in the first pass."""
    given: dict[str, Any] = {"objectives": ALL, "abilities": HERE}
    policy(Observation(reason=Reason.SETUP, **(given | what)))
    first = replace(SYNC, reason=Reason.TICK, elapsed_s=0.1, iteration=1, iterations=(), transferred_bytes=11 * MIB)
    policy(replace(first, **what))
    return policy


def test_setup_asks_for_what_it_may_need_and_says_what_is_at_hand() -> None:
    decision = Predictive()(Observation(reason=Reason.SETUP, objectives=ALL, abilities=HERE))
    assert decision.capabilities == {"postcopy-ram": True, "postcopy-preempt": True}
    assert decision.downtime_limit_s == HOLD_S
    assert decision.because == (
        "learn link and guest first; at hand: a throttle of 99% at most, from outside; post-copy"
    )
    simple = Predictive()(
        Observation(
            reason=Reason.SETUP, objectives=ALL, abilities=replace(FAR, capabilities=frozenset({"postcopy-ram"}))
        )
    )
    assert simple.capabilities == {"postcopy-ram": True}


def test_what_it_is_told_not_to_use_it_does_not_ask_for() -> None:
    asked = Observation(
        reason=Reason.SETUP, objectives=ALL, abilities=replace(HERE, capabilities=HERE.capabilities | {"multifd"})
    )
    plain = Predictive(throttle=False, postcopy=False)(asked)
    assert plain.capabilities == {}
    assert plain.because.endswith("at hand: no throttle, as told; no post-copy: told not to")
    wide = Predictive(multifd=4, xbzrle=True)(asked)
    assert wide.capabilities == {"multifd": True, "xbzrle": True}
    assert wide.multifd_channels == 4
    assert wide.because.endswith("no post-copy: it does not go with multifd")


@pytest.mark.parametrize(
    "wrong", [{"fixed_s": -1.0}, {"worth": 0.0}, {"patience": 0.0}, {"caution_s": -0.1}, {"multifd": -1}]
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Predictive(**wrong)


def test_it_says_the_numbers_that_it_compared() -> None:
    decision = begun(Predictive())(SYNC)
    assert decision.start_postcopy
    kinds = [part.split(":")[0] for part in decision.because.split("; ")]
    assert kinds[0] == "post-copy now"
    assert "waiting" in kinds
    assert any(kind.startswith("throttle") for kind in kinds)
    assert "guest-seconds lost" in decision.because
    assert "outage never below" in decision.because


def test_after_postcopy_began_there_is_nothing_left_to_say() -> None:
    policy = begun(Predictive())
    assert policy(SYNC).start_postcopy
    assert policy(replace(SYNC, reason=Reason.TICK, elapsed_s=4.2)) == Decision()


def test_caution_puts_postcopy_off() -> None:
    decision = begun(Predictive(caution_s=100.0))(SYNC)
    assert not decision.start_postcopy
    assert decision.because.startswith("throttle")


def test_a_rest_that_fits_is_stopped_for_at_once() -> None:
    little = replace(SYNC, remaining_bytes=16 * MIB, iterations=(replace(FIRST, dirtied_bytes=16 * MIB),))
    decision = begun(Predictive())(little)
    assert decision.because.startswith("stop now")
    assert decision.downtime_limit_s is not None
    assert 0.1 < decision.downtime_limit_s < 0.3


def test_a_sync_that_teaches_nothing_decides_nothing() -> None:
    policy = begun(Predictive())
    decision = policy(replace(SYNC, iterations=(replace(FIRST, remaining_at_end_bytes=300 * MIB),)))
    assert decision.because == ""
    assert decision.downtime_limit_s is None


def test_taken_over_it_learns_from_what_comes() -> None:
    """A manager that adopts a migration is not asked before the start."""
    assert Predictive()(SYNC).because


def test_a_throttle_is_eased_for_the_stop() -> None:
    """Under a strong throttle from outside a vCPU sleeps so long that the stop would wait for it."""
    policy = begun(Predictive(), objectives=PRECOPY)
    slowed = policy(replace(SYNC, objectives=PRECOPY))
    assert slowed.outside_throttle is not None
    assert slowed.outside_throttle > 0.93
    near = replace(SYNC, reason=Reason.TICK, objectives=PRECOPY, elapsed_s=5.75, remaining_bytes=MIB // 4)
    decision = policy(near)
    assert decision.downtime_limit_s is not None
    assert decision.downtime_limit_s > 0.1
    assert decision.outside_throttle == 0.93


@pytest.mark.parametrize("left", [45, 60, 80, 200])
def test_a_throttle_under_which_nothing_gets_better_is_given_up(left: int) -> None:
    """Also where what is left misses by so little that it would be worth trying."""
    policy = begun(Predictive(postcopy=False), objectives=PRECOPY)
    ends, iterations = 4.0, [FIRST]
    taken: list[float] = []
    for number in range(2, LOST_AFTER + 6):
        seen = replace(
            SYNC, objectives=PRECOPY, elapsed_s=ends, iteration=number, iterations=tuple(iterations),
            remaining_bytes=left * MIB, transferred_bytes=round(ends * LINK),
        )  # fmt: skip
        decision = policy(seen)
        if decision.outside_throttle is not None:
            taken.append(decision.outside_throttle)
        ends += left * MIB / LINK
        iterations.append(
            ended(number, ends - left * MIB / LINK, ends, remaining_at_start_bytes=left * MIB, sent_bytes=left * MIB,
                  dirtied_bytes=left * MIB)
        )  # fmt: skip
    assert taken[0] > 0.9
    assert taken[-1] == 0.0
    assert VAIN_AFTER < LOST_AFTER


def test_measured_vcpus_say_how_far_a_throttle_goes() -> None:
    """Of a vCPU that hardly runs a throttle has to take nearly everything."""
    idle, busy = (
        begun(
            Predictive(postcopy=False),
            measurements=(Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=110.0 * MIB, vcpu_shares=(share,)),),
        )(SYNC).outside_throttle
        or 0.0
        for share in (0.05, 1.0)
    )
    assert idle > busy > 0.0


def test_until_the_link_is_known_it_looks_often_and_then_a_few_times() -> None:
    policy = Predictive()
    policy(Observation(reason=Reason.SETUP, objectives=ALL, abilities=HERE))
    wakes: list[float] = []
    at_s = 0.0
    while at_s < 3.0:
        at_s += wakes[-1] if wakes else 0.06
        left = 456 - at_s * 114
        samples = tuple(look(max(0.0, at_s - back), left) for back in (0.8, 0.4, 0.0))
        seen = replace(
            SYNC, reason=Reason.TICK, elapsed_s=at_s, iteration=1, iterations=(), samples=samples,
            remaining_bytes=round(left * MIB), transferred_bytes=round(at_s * LINK),
        )  # fmt: skip
        decision = policy(seen)
        assert decision.wake_after_s is not None
        wakes.append(decision.wake_after_s)
    assert wakes[0] == pytest.approx(0.06)
    assert 0.3 <= wakes[-1] < GREATEST_WAKE_S
    assert len(wakes) < 25


def test_after_a_landing_all_of_the_bandwidth_is_asked_for_again() -> None:
    """At the sync that ends the pass the portions are over."""
    policy = Predictive(throttle=False, postcopy=False)
    tight = Objectives(downtime_s=0.09)
    deep: dict[str, Any] = {"objectives": tight, "abilities": HERE, "total_bytes": 200 * MIB, "iteration": 1}
    policy(Observation(reason=Reason.SETUP, objectives=tight, abilities=HERE))
    rate, portions = 20.0 * MIB, list[int]()
    for step in range(1, 1000):
        at_s = step / 100
        sent = 2 * MIB + rate * at_s
        left = round(200 * MIB - sent)
        seen = Observation(
            reason=Reason.TICK, elapsed_s=at_s, remaining_bytes=left, transferred_bytes=round(sent), **deep
        )
        if left > 0 and (bandwidth := policy(seen).bandwidth_bytes_per_s):
            portions.append(bandwidth)
    assert portions
    assert max(portions) < rate
    over = ended(1, 0.0, 10.0, remaining_at_start_bytes=200 * MIB, sent_bytes=200 * MIB, dirtied_bytes=MIB)
    sync = Observation(
        reason=Reason.ITERATION, elapsed_s=10.0, remaining_bytes=MIB, transferred_bytes=200 * MIB,
        **(deep | dict[str, Any](iteration=2, iterations=(over,))),
    )  # fmt: skip
    assert policy(sync).bandwidth_bytes_per_s == 0


def test_what_keeps_to_the_downtime_but_not_to_the_deadline_is_better_than_nothing() -> None:
    """Nothing is in time any more: what is least late is done, if it keeps to the downtime."""
    late = replace(GENTLE, deadline_s=4.2)
    policy = begun(Predictive(), objectives=late)
    seen = replace(
        SYNC,
        objectives=late,
        remaining_bytes=20 * MIB,
        iterations=(replace(FIRST, dirtied_bytes=20 * MIB),),
        elapsed_s=4.1,
    )
    assert policy(seen).because.startswith("stop now")
