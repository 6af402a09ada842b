"""What a throttle comes to: speed, time and guest-seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.engine.curve import ConstantRate, PoissonClasses
from whimbrel.engine.slowing import SYNC_S, UNKNOWN_SHARE, Course, Headroom, Outlook, cheapest, speed_of, used_shares
from whimbrel.engine.statistics import Statistics

MIB = 1 << 20
LINK = 114.0 * MIB
CURVE = PoissonClasses(((65536, 1.5 * LINK / (256 * MIB)),))
"""Rewrites 256 MiB at 1.5 times the link."""
AFTER_FIRST = Outlook(
    curve=CURVE,
    bytes_per_s=LINK,
    limit_s=0.28,
    left_bytes=CURVE.at(3.93),
    headroom=Headroom((0.25,)),
    slice_s=0.0,
)


# ---- headroom


@pytest.mark.parametrize(("throttle", "speed"), [(0.0, 1.0), (0.5, 1.0), (0.75, 1.0), (0.9, 0.4), (0.99, 0.04)])
def test_a_guest_with_cpu_to_spare_slows_when_the_throttle_eats_into_what_it_uses(
    throttle: float, speed: float
) -> None:
    assert Headroom((0.25,)).speed(throttle) == pytest.approx(speed)


def test_vcpus_count_by_what_they_use() -> None:
    """At 50 % the busy one loses half, the other one nothing: 0.5 + 0.25 of 1.25. An idle one does not count."""
    assert Headroom((1.0, 0.25, 0.0)).speed(0.5) == pytest.approx(0.6)


@pytest.mark.parametrize("shares", [(), (0.0,)])
def test_who_is_not_known_to_use_any_is_taken_for_half_busy(shares: tuple[float, ...]) -> None:
    assert Headroom(shares).speed(0.9) == pytest.approx(0.1 / UNKNOWN_SHARE)


@pytest.mark.parametrize("speed", [0.05, 0.2, 0.9])
def test_it_is_corrected_by_what_a_throttle_was_seen_to_do(speed: float) -> None:
    assert Headroom((0.25,)).corrected(0.9, speed).speed(0.9) == pytest.approx(speed, rel=1e-3)


def test_a_throttle_without_an_effect_tells_that_there_is_more_to_spare() -> None:
    corrected = Headroom().corrected(0.8, 1.0)
    assert corrected.speed(0.8) == 1.0
    assert corrected.speed(0.86) == pytest.approx(1.0, abs=0.05)
    assert corrected.speed(0.95) < 0.5


def test_how_much_each_vcpu_ran_between_two_looks() -> None:
    before = Statistics(at_ns=0, vcpu_s=(1.0, 5.0))
    assert used_shares(before, Statistics(at_ns=2_000_000_000, vcpu_s=(1.5, 9.0))) == (0.25, 1.0)
    assert used_shares(before, before) == ()
    assert used_shares(before, Statistics(at_ns=1)) == ()
    assert used_shares(Statistics(at_ns=0), Statistics(at_ns=1)) == ()


def test_what_was_dirtied_tells_the_speed() -> None:
    assert speed_of(CURVE, 2.0, CURVE.at(0.5)) == pytest.approx(0.25, abs=1e-6)
    assert speed_of(CURVE, 2.0, CURVE.at(3.0)) == 1.0


# ---- courses


def test_without_a_throttle_a_plateau_above_the_limit_is_no_course() -> None:
    assert AFTER_FIRST.course(0.0) is None


def test_a_strong_throttle_costs_what_there_is_to_send() -> None:
    """Next to nothing is done while it goes over, and then the guest stands still: so all of it is lost, once."""
    course = AFTER_FIRST.course(0.99)
    assert course is not None
    assert course.left_s == pytest.approx(CURVE.at(3.93) / LINK)
    assert course.total_s == pytest.approx(course.left_s, rel=0.1)
    assert course.lost_s == pytest.approx(course.left_s, rel=0.1)


def test_to_wait_costs_time_and_saves_work() -> None:
    """Each iteration at full speed leaves less to be sent under the throttle: 2.1 s, 1.7 s, 1.5 s ..."""
    courses = [AFTER_FIRST.course(0.99, waits) for waits in range(4)]
    assert all(course is not None for course in courses)
    lost_s = [course.lost_s for course in courses if course is not None]
    total_s = [course.total_s for course in courses if course is not None]
    assert lost_s == sorted(lost_s, reverse=True)
    assert total_s == sorted(total_s)


def test_a_throttle_that_is_hardly_enough_takes_longer() -> None:
    strong, weak = AFTER_FIRST.course(0.99), AFTER_FIRST.course(0.85)
    assert strong is not None
    assert weak is not None
    assert weak.total_s > 1.5 * strong.total_s


def test_a_sync_waits_until_the_vcpus_have_woken() -> None:
    sleepy = replace(AFTER_FIRST, slice_s=0.01)
    awake, asleep = AFTER_FIRST.course(0.99), sleepy.course(0.99)
    assert awake is not None
    assert asleep is not None
    assert asleep.total_s - awake.total_s > 0.9


def test_what_fits_at_once_ends_at_once() -> None:
    course = replace(AFTER_FIRST, left_bytes=0.1 * LINK).course(0.0)
    assert course is not None
    assert course.total_s < 0.15
    assert course.lost_s == pytest.approx(0.1)


def test_what_the_guest_has_done_in_this_iteration_already_counts() -> None:
    begun = replace(AFTER_FIRST, ran_s=3.0)
    course, fresh = begun.course(0.99), AFTER_FIRST.course(0.99)
    assert course is not None
    assert fresh is not None
    assert course.total_s > 1.5 * fresh.total_s


def test_each_iteration_that_is_waited_for_takes_its_sync_too() -> None:
    left_s = AFTER_FIRST.left_bytes / LINK
    waited = AFTER_FIRST.course(0.99, 1)
    later = replace(AFTER_FIRST, left_bytes=CURVE.at(left_s)).course(0.99)
    assert waited is not None
    assert later is not None
    assert waited.total_s == pytest.approx(left_s + SYNC_S + later.total_s)
    assert waited.lost_s == pytest.approx(later.lost_s)


def test_an_iteration_that_had_run_for_long_may_find_more_than_it_sends() -> None:
    """What was dirtied before the throttle began counts once: it is no sign that it does not help."""
    late = replace(AFTER_FIRST, left_bytes=0.3 * LINK, ran_s=3.6)
    assert late.rest_s(0.3, 0.99) > 0.3
    course = late.course(0.99)
    assert course is not None
    assert course.total_s < 5.0


def test_iterations_that_shrink_without_end_are_no_course() -> None:
    """A constant rate just below the link: each is a little smaller than the one before."""
    barely = Outlook(
        curve=ConstantRate(0.9999 * LINK), bytes_per_s=LINK, limit_s=0.01, left_bytes=10 * LINK, slice_s=0.0
    )
    assert barely.course(0.0) is None


def test_the_rest_that_a_sync_would_find() -> None:
    left_s = AFTER_FIRST.left_bytes / LINK
    assert AFTER_FIRST.rest_s(0.0, 0.5) == pytest.approx(left_s)
    assert AFTER_FIRST.rest_s(1.0, 0.9) == pytest.approx(left_s - 1.0 + CURVE.at(0.4) / LINK)
    assert AFTER_FIRST.rest_s(9.0, 0.0) == pytest.approx(CURVE.at(9.0) / LINK)


def test_while_a_sync_waits_each_vcpu_has_its_turn() -> None:
    """10 ms of CPU, at a quarter of which it runs unhindered: 40 ms of its own time more."""
    sleepy = replace(AFTER_FIRST, slice_s=0.01)
    more = sleepy.rest_s(1.0, 0.99) - AFTER_FIRST.rest_s(1.0, 0.99)
    assert more == pytest.approx((CURVE.at(0.04 + 0.04) - CURVE.at(0.04)) / LINK)


def test_the_throttle_under_which_no_vcpu_sleeps_for_long() -> None:
    """At 96 % one of 10 ms turns sleeps 240 ms, at 97 % 323 ms; where a turn is longer than that, none will do."""
    sleepy = replace(AFTER_FIRST, slice_s=0.01)
    assert sleepy.least_sleepy(0.28) == 0.96
    assert sleepy.least_sleepy(0.005) == 0.0


# ---- which one


def test_throttles_go_from_none_to_the_greatest_that_is_allowed() -> None:
    small = replace(AFTER_FIRST, left_bytes=0.1 * LINK)
    throttles = [course.throttle for course in small.courses(0.9, (0,))]
    assert throttles[0] == 0.0
    assert throttles[-1] == 0.9
    assert throttles == sorted(set(throttles))
    assert [course.throttle for course in small.courses(0.0, (0,))] == [0.0]


def test_time_and_work_are_weighed() -> None:
    patient = cheapest(AFTER_FIRST.courses(0.99, range(4)), worth=0.05, slack_s=0.0)
    hasty = cheapest(AFTER_FIRST.courses(0.99, range(4)), worth=0.5, slack_s=0.0)
    assert patient is not None
    assert hasty is not None
    assert (patient.waits, hasty.waits) == (3, 0)


def test_of_those_that_are_as_good_the_least_throttle_is_taken() -> None:
    exact = cheapest(AFTER_FIRST.courses(0.99, (0,)), worth=0.3, slack_s=0.0)
    least = cheapest(AFTER_FIRST.courses(0.99, (0,)), worth=0.3, slack_s=0.1)
    assert exact is not None
    assert least is not None
    assert least.throttle < exact.throttle


def test_a_weaker_throttle_that_comes_later_is_another_matter() -> None:
    """It would be chosen for being weak, though what it saves is the waiting's."""
    now = Course(throttle=0.9, waits=0, total_s=2.0, lost_s=1.0, left_s=1.0)
    later = Course(throttle=0.5, waits=3, total_s=2.0, lost_s=1.05, left_s=1.0)
    assert cheapest(iter([now, later]), worth=0.1, slack_s=0.1) is now


def test_a_deadline_goes_before_the_cost() -> None:
    slow = Course(throttle=0.5, waits=0, total_s=10.0, lost_s=0.1, left_s=1.0)
    quick = Course(throttle=0.9, waits=0, total_s=2.0, lost_s=3.0, left_s=1.0)

    def chosen(within_s: float | None) -> Course | None:
        return cheapest(iter([slow, quick]), worth=0.1, slack_s=0.0, within_s=within_s)

    assert chosen(None) is slow
    assert chosen(20.0) is slow
    assert chosen(5.0) is quick
    assert chosen(1.0) is quick  # nothing is in time: the quickest


def test_where_there_is_no_course_none_is_taken() -> None:
    assert cheapest(iter(()), worth=1.0, slack_s=0.0) is None
