"""The guest's time and what hinders it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.guests.life import Life, throttled
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer

MIB = 1 << 20
BUSY = Writer(name="busy", size_bytes=16 * MIB, rate_bytes_per_s=8.0 * MIB, cpu_share=1.0)
EASY = replace(BUSY, name="easy", cpu_share=0.0)
DEVICE = replace(BUSY, name="device", vcpu=None)
OTHER = replace(BUSY, name="other", vcpu=1, rate_bytes_per_s=1.0 * MIB, cpu_share=0.4)
PER_S = 2048.0


def life_of(*writers: Writer) -> Life:
    return Life(areas_of(GuestPlan(ram_bytes=128 * MIB, writers=writers, vcpus=2)), 2)


def draws(life: Life, now_s: float) -> list[float]:
    guest_s = life.guest_s(round(now_s * SECOND_NS))
    return [stream.draws(guest_s) for stream in life.streams if stream is not None]


def test_a_guest_begins_halted_and_its_time_stands_still_while_it_is() -> None:
    life = life_of(BUSY)
    assert draws(life, 5) == [0]
    life.run(5 * SECOND_NS)
    assert draws(life, 6) == [pytest.approx(PER_S)]
    life.halt(6 * SECOND_NS)
    assert draws(life, 60) == [pytest.approx(PER_S)]
    life.run(60 * SECOND_NS)
    assert draws(life, 60.5) == [pytest.approx(1.5 * PER_S)]


@pytest.mark.parametrize(
    ("fraction", "share", "speed"),
    [(0, 1, 1), (0.2, 1, 0.8), (0.2, 0.5, 1), (0.75, 0.5, 0.5), (0.99, 0, 1), (1, 0, 0), (1, 1, 0)],
)
def test_a_throttle_slows_who_needs_more_of_the_vcpu_than_it_leaves(
    fraction: float, share: float, speed: float
) -> None:
    assert throttled(fraction, share) == pytest.approx(speed)


def test_a_throttle_slows_vcpus_by_what_they_need_and_no_device() -> None:
    life = life_of(BUSY, EASY, DEVICE, OTHER)
    life.run(0)
    life.throttle(SECOND_NS, 0.8)
    busy, easy, device, other = (b - a for a, b in zip(draws(life, 1), draws(life, 2), strict=True))
    assert (busy, easy, device) == pytest.approx((0.2 * PER_S, PER_S, PER_S))
    assert other == pytest.approx(256 * 0.5)
    life.throttle(2 * SECOND_NS, 0)
    assert draws(life, 3)[0] - draws(life, 2)[0] == pytest.approx(PER_S)


@pytest.mark.parametrize("pattern", [Pattern.UNIFORM, Pattern.ZIPF, Pattern.SWEEP, Pattern.POISSON])
def test_a_dirty_limit_leaves_each_vcpu_so_many_distinct_bytes_in_a_second(pattern: Pattern) -> None:
    writers = tuple(replace(writer, pattern=pattern) for writer in (BUSY, EASY, DEVICE, OTHER))
    life = life_of(*writers)
    life.run(0)
    life.limit(0, 2.0 * MIB)
    areas = areas_of(GuestPlan(ram_bytes=128 * MIB, writers=writers, vcpus=2))
    pages = [area.law.at(made) for area, made in zip(areas, draws(life, 1), strict=False) if area.law]
    assert pages[0] + pages[1] == pytest.approx(512, rel=1e-6)
    assert pages[0] == pytest.approx(pages[1])
    assert draws(life, 1)[2:] == pytest.approx([PER_S, 256])
    life.limit(SECOND_NS, None)
    assert draws(life, 2)[0] - draws(life, 1)[0] == pytest.approx(PER_S)


def test_a_dirty_limit_of_nothing_stops_the_writers_of_vcpus() -> None:
    life = life_of(BUSY, DEVICE)
    life.run(0)
    life.limit(0, 0.0)
    assert draws(life, 1) == pytest.approx([0, PER_S], abs=1e-6)


def test_throttle_and_limit_together_leave_the_less() -> None:
    life = life_of(BUSY)
    life.run(0)
    life.throttle(0, 0.9)
    life.limit(0, 4.0 * MIB)
    assert draws(life, 1) == pytest.approx([0.1 * PER_S])


def test_work_done_is_what_was_not_lost_to_throttle_and_halts() -> None:
    life = life_of(BUSY)
    assert life.done_work(3 * SECOND_NS) == 1
    life.run(4 * SECOND_NS)
    assert life.done_work(6 * SECOND_NS) == pytest.approx(1)
    life.throttle(6 * SECOND_NS, 0.5)
    assert life.done_work(8 * SECOND_NS) == pytest.approx(3 / 4)
    life.halt(8 * SECOND_NS)
    assert life.done_work(12 * SECOND_NS) == pytest.approx(3 / 8)


def test_a_guest_in_its_low_phase_loses_what_it_stood_still_and_nothing_to_a_throttle() -> None:
    bursts = replace(BUSY, period_s=10.0, duty=0.2)
    life = life_of(bursts)
    life.run(0)
    life.count_work(4 * SECOND_NS)
    life.throttle(5 * SECOND_NS, 0.9)
    life.throttle(6 * SECOND_NS, 0.0)
    life.halt(7 * SECOND_NS)
    life.run(7 * SECOND_NS + SECOND_NS // 2)
    assert life.done_work(8 * SECOND_NS) == pytest.approx(1 - 0.5 / 4)
    life.throttle(10 * SECOND_NS + SECOND_NS // 2, 0.9)  # its next high phase, half a second late
    assert life.done_work(12 * SECOND_NS) == pytest.approx(1 - (0.5 + 0.9 * 1.5) / 8)


def test_work_is_counted_from_when_it_is_asked_for() -> None:
    life = life_of(BUSY)
    life.run(0)
    life.throttle(0, 0.5)
    life.count_work(2 * SECOND_NS)
    assert life.done_work(2 * SECOND_NS) == 1
    life.throttle(3 * SECOND_NS, 0.0)
    assert life.done_work(6 * SECOND_NS) == pytest.approx(7 / 8)


def test_throttles_from_within_and_from_outside_overlap() -> None:
    life = life_of(BUSY)
    life.run(0)
    life.throttle_from_outside(0, 0.75)
    life.throttle(0, 0.5)
    assert draws(life, 1) == pytest.approx([0.25 * PER_S])
    life.throttle_from_outside(SECOND_NS, 0.0)
    assert draws(life, 2)[0] - draws(life, 1)[0] == pytest.approx(0.5 * PER_S)
    assert life.most_slowed == 0.75


def test_vcpus_run_as_long_as_those_who_write_on_them_need_and_no_longer_than_they_may() -> None:
    life = life_of(replace(BUSY, cpu_share=0.6), replace(BUSY, name="second", cpu_share=0.7), EASY, DEVICE, OTHER)
    assert life.vcpu_s(0) == (0, 0)
    life.run(0)
    assert life.vcpu_s(2 * SECOND_NS) == pytest.approx((2.0, 0.8))
    life.throttle(2 * SECOND_NS, 0.8)
    assert life.vcpu_s(3 * SECOND_NS) == pytest.approx((2.2, 1.0))
    life.halt(3 * SECOND_NS)
    assert life.vcpu_s(9 * SECOND_NS) == pytest.approx((2.2, 1.0))
    life.throttle(9 * SECOND_NS, 0.0)
    life.run(9 * SECOND_NS)
    assert life.vcpu_s(10 * SECOND_NS) == pytest.approx((3.2, 1.4))


def test_a_vcpu_whose_writer_is_off_does_not_run() -> None:
    life = life_of(replace(BUSY, period_s=4.0, duty=0.25))
    life.run(0)
    assert life.vcpu_s(3 * SECOND_NS) == pytest.approx((1.0, 0.0))
    assert life.vcpu_s(5 * SECOND_NS) == pytest.approx((2.0, 0.0))


def test_a_dirty_limit_counts_as_the_speed_that_it_takes() -> None:
    life = life_of(replace(BUSY, pattern=Pattern.SWEEP))
    life.run(0)
    life.limit(0, 2.0 * MIB)
    assert life.most_slowed == pytest.approx(0.75)


def test_a_guest_that_writes_nothing_loses_no_work() -> None:
    life = life_of(replace(BUSY, rate_bytes_per_s=0.0))
    life.run(0)
    life.halt(SECOND_NS)
    assert life.done_work(9 * SECOND_NS) == 1


def test_expected_bytes_are_those_of_the_present_speed() -> None:
    life = life_of(replace(BUSY, pattern=Pattern.SWEEP), EASY)
    life.run(0)
    life.throttle(0, 0.5)
    easy = areas_of(GuestPlan(ram_bytes=16 * MIB, writers=(EASY,)))[0].dirtied_pages(1.0) * 4096
    assert life.expected_bytes(SECOND_NS, 1.0) == pytest.approx(4 * MIB + easy)
