"""``cycle_aware``: cycles are found where there are some, and the low phase is where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.asking import asked, boundary, ended, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import CycleAware, Fixed
from whimbrel.engine.policies.composition import decides
from whimbrel.engine.policies.cycle_aware import Cycle, dirtied, find_cycle
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Observation, Reason
from whimbrel.engine.statistics import Iteration
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20
ABLE = Abilities(measuring=True)


def windows(rates: Sequence[float], step_s: float = 1.0) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(at_s=1.0 + index * step_s, window_s=1.0, dirtied_bytes=rate) for index, rate in enumerate(rates)
    )


def square(count: int, *, period: int, low: int, shift: int = 0) -> list[float]:
    """High, and for the last so many steps of each period low."""
    return [10.0 if (step + shift) % period < period - low else 1.0 for step in range(count)]


@pytest.mark.parametrize("period", [4, 5, 7, 10])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_the_period_and_the_low_phase_of_a_square_wave_are_found(period: int, shift: int) -> None:
    low = period // 2
    cycle = find_cycle(square(4 * period, period=period, low=low, shift=shift))
    assert cycle == Cycle(period, (period - low - shift) % period, low)


def test_a_sine_is_low_for_half_of_its_period() -> None:
    cycle = find_cycle([5 + 4 * math.sin(2 * math.pi * step / 8) for step in range(32)])
    assert cycle is not None
    assert cycle.period == 8
    assert cycle.low_start in (4, 5)  # the middle itself is either
    assert cycle.low_length in (4, 5)


def test_noise_upon_it_does_not_hide_it() -> None:
    noise = [0.0, 1.3, -0.7, 0.4, -1.1, 0.9, 0.2, -0.5, 1.0, -1.2, 0.6]
    series = [value + 2 + noise[index % 11] for index, value in enumerate(square(24, period=6, low=3))]
    cycle = find_cycle(series)
    assert cycle is not None
    assert cycle.period == 6


@pytest.mark.parametrize(
    "series",
    [
        [],
        [1.0, 2.0, 1.0],
        [5.0] * 20,
        [float(step) for step in range(20)],
        [0.0] * 19 + [9.0],
        [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4],
    ],
    ids=["none", "too few", "steady", "rising", "one burst", "anything"],
)
def test_what_has_no_cycle_has_none(series: list[float]) -> None:
    assert find_cycle(series) is None


@given(st.lists(st.floats(0, 1e12), max_size=40))
def test_whatever_is_measured_has_a_possible_cycle_or_none(series: list[float]) -> None:
    cycle = find_cycle(series)
    if cycle is not None:
        assert 2 <= cycle.period <= len(series) // 2
        assert 0 <= cycle.low_start < cycle.period
        assert 1 <= cycle.low_length <= cycle.period
        assert all(0 <= cycle.wait(now) < cycle.period for now in range(cycle.period))


@pytest.mark.parametrize(("now", "wait"), [(0, 6), (5, 1), (6, 0), (7, 0), (8, 8), (9, 7), (17, 0), (18, 8)])
def test_it_is_good_to_start_with_three_quarters_of_the_low_phase_to_go(now: int, wait: int) -> None:
    """Low from 6 to 10 of 10."""
    assert Cycle(10, 6, 4).wait(now) == wait


def test_windows_that_are_missing_keep_the_steps_equal() -> None:
    seen = windows([4, 5, 6, 7, 8])
    assert dirtied(seen) == [4, 5, 6, 7, 8]
    assert dirtied(seen[:2] + seen[3:]) == [4, 5, 5, 7, 8]
    assert dirtied(seen[:1]) == [4]
    assert dirtied(()) == []


# ---- before the start


def test_it_measures_a_batch_at_a_time_until_it_has_seen_two_cycles() -> None:
    policy = CycleAware()
    seen = setup(abilities=ABLE)
    assert policy(seen) == Decision(measure_s=(1.0,) * 8, because="looking for a cycle")
    first = square(8, period=5, low=2)
    assert policy(replace(seen, measurements=windows(first))).measure_s == (1.0,) * 8
    decision = policy(replace(seen, measurements=windows(square(16, period=5, low=2))))
    assert decision == Decision(not_yet_s=2.0, because="a cycle of 5 s, its low phase begins in 2 s")
    starts = policy(replace(seen, measurements=windows(square(16, period=5, low=2))))
    assert starts == Decision(wake_after_s=0.05, because="the low phase begins")


def test_in_the_low_phase_it_starts_at_once() -> None:
    seen = setup(abilities=ABLE, measurements=windows(square(16, period=4, low=2, shift=2)))
    assert CycleAware()(seen).because == "a cycle of 4 s, in its low phase now"


def test_a_low_phase_that_is_too_far_away_is_not_waited_for() -> None:
    seen = setup(abilities=ABLE, measurements=windows(square(16, period=8, low=3)))
    decision = CycleAware(delay_s=4.0)(seen)
    assert decision.not_yet_s is None
    assert decision.because == "a cycle of 8 s; its low phase is 5 s away, more than 4 s"


def test_steps_are_as_long_as_measuring_takes() -> None:
    seen = setup(abilities=ABLE, measurements=windows(square(16, period=5, low=2), step_s=1.5))
    assert CycleAware()(seen).not_yet_s == pytest.approx(3.0)


def test_after_so_much_measuring_it_starts_without_a_cycle() -> None:
    policy = CycleAware(observe_s=12.0)
    steady = setup(abilities=ABLE)
    said: list[Decision] = []
    for _ in range(3):
        said.append(policy(steady))
        steady = replace(steady, measurements=windows([5.0] * sum(len(each.measure_s) for each in said)))
    assert [len(each.measure_s) for each in said] == [8, 4, 0]
    assert said[-1].because == "no cycle in 12 windows of 1 s"


def test_windows_that_could_not_be_measured_are_not_asked_for_again() -> None:
    policy = CycleAware()
    policy(setup(abilities=ABLE))
    assert policy(setup(abilities=ABLE)).because == "no cycle in 0 windows of 1 s"


def test_once_started_it_leaves_the_word_to_others() -> None:
    policy = CycleAware()
    policy(setup(abilities=ABLE, measurements=windows(square(16, period=4, low=2, shift=2))))
    another = Knobs(downtime_limit_s=0.05)
    assert decides(policy(boundary(3.0, iteration=2, iterations=rates(10, 1, 10), knobs=another))) is False


def test_alone_it_leaves_room_for_what_qemu_does_not_count() -> None:
    decision = CycleAware()(boundary(3.0, iteration=2, iterations=rates(10), knobs=Knobs(downtime_limit_s=10.0)))
    assert decision.downtime_limit_s == pytest.approx(9.975)


# ---- while it runs


def rates(*mib_per_s: float, seconds: float = 1.0) -> tuple[Iteration, ...]:
    """Iterations of a second each."""
    return tuple(
        ended(number, number * seconds, (number + 1) * seconds, dirtied_bytes=round(rate * seconds * MIB))
        for number, rate in enumerate(mib_per_s, start=1)
    )


def steered(*mib_per_s: float, seconds: float = 1.0, limit_s: float = 5.0, **parameters: Any) -> Decision:
    """After these iterations, with a limit that somebody set."""
    policy = CycleAware(**parameters)
    policy(setup())
    policy(tick(0.5, iteration=2, knobs=Knobs(downtime_limit_s=5.0)))
    knobs = Knobs(downtime_limit_s=limit_s)
    return policy(boundary(9.0, iteration=9, iterations=rates(*mib_per_s, seconds=seconds), knobs=knobs))


def test_where_the_guest_cannot_be_measured_that_is_said() -> None:
    assert CycleAware()(setup()).because == "the guest can't be measured: its iterations have to tell"


def test_in_a_high_phase_qemu_is_held_off_and_in_a_low_one_it_is_not() -> None:
    assert steered(10, 90) == Decision(downtime_limit_s=0.001, because="90.0 MiB/s dirtied, low is 30.0")
    assert steered(90, 30, 10) == Decision(downtime_limit_s=5.0, because="10.0 MiB/s dirtied: a low phase")
    assert steered(90, 10, 29).downtime_limit_s == 5.0
    assert steered(90, 10, 31).downtime_limit_s == 0.001


def test_after_holding_qemu_off_the_limit_is_what_it_was() -> None:
    assert steered(90, 10, limit_s=0.001).downtime_limit_s == 5.0


def test_rates_that_hardly_differ_have_no_phases() -> None:
    assert steered(10) == steered(10, 14, 12) == Decision(downtime_limit_s=5.0, because="no phases to be seen")


def test_iterations_too_short_to_tell_are_passed_over() -> None:
    assert steered(10, 90, seconds=0.01).because == "no phases to be seen"


def test_a_low_phase_is_not_waited_for_for_ever() -> None:
    assert steered(10, 90, 90, 90, hold_s=3.0).downtime_limit_s == 0.001
    assert steered(10, 90, 90, 90, hold_s=2.0) == Decision(downtime_limit_s=5.0, because="waited 3 s for a low phase")


def test_the_deadline_ends_the_waiting() -> None:
    decision = CycleAware()(asked(Reason.DEADLINE, 60.0))
    assert decision == Decision(downtime_limit_s=10.0, because="no more waiting for a low phase")


def test_between_iterations_it_decides_on_the_limit_only_and_once() -> None:
    policy = CycleAware()
    assert policy(tick(1.0)) == policy(boundary(1.0)) == Decision()
    assert policy(tick(1.5, iteration=2, knobs=Knobs(downtime_limit_s=10.0))).downtime_limit_s is not None
    assert policy(tick(1.6, iteration=2, knobs=Knobs(downtime_limit_s=10.0))) == Decision()


# ---- in the simulator


def cycling(period_s: float, duty: float, rate_mib: int) -> Scenario:
    """A guest of 128 MiB that writes for a part of each period, on a link of 64 MiB/s."""
    writer = Writer(name="w", size_bytes=96 * MIB, rate_bytes_per_s=rate_mib * MIB, period_s=period_s, duty=duty)
    return Scenario(
        guest=GuestPlan(ram_bytes=128 * MIB, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=64 * MIB),
        limit_s=60.0,
    )


def test_a_start_in_the_low_phase_saves_time_and_bytes() -> None:
    """It lasts 4 s of 12, in which the whole guest can be moved; in the high one it can't be."""
    scenario = cycling(12.0, 2 / 3, 200)
    ours, bare = simulate(scenario, 1, CycleAware()).truth, simulate(scenario, 1, Fixed()).truth
    assert ours.outage_s is not None
    assert ours.total_s < 0.5 * bare.total_s
    assert ours.transferred_bytes < 0.5 * bare.transferred_bytes


def test_a_switchover_in_the_low_phase_saves_outage() -> None:
    """Nearly for nothing: it comes a second later at most."""
    scenario = cycling(2.0, 0.5, 60)
    policy = CycleAware()

    def unmeasured(seen: Observation) -> Decision:
        return policy(replace(seen, abilities=Abilities()))

    ours, bare = simulate(scenario, 1, unmeasured).truth, simulate(scenario, 1, Fixed()).truth
    assert ours.outage_s is not None
    assert bare.outage_s is not None
    assert ours.outage_s < 0.3 * bare.outage_s
    assert ours.total_s < bare.total_s + 1.0


@pytest.mark.parametrize("wrong", [{"window_s": 0.0}, {"delay_s": -1.0}, {"observe_s": -1.0}, {"hold_s": -1.0}])
def test_times_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        CycleAware(**wrong)
