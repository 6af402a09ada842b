"""The detector and the ladder, as ``migration_trigger_throttle`` and ``mig_throttle_guest_down`` have them."""

from __future__ import annotations

from typing import Any

import pytest

from whimbrel.engine.curve import ConstantRate
from whimbrel.engine.forecast_dirt import Dirt
from whimbrel.engine.forecast_records import Detector, Setting, Throttling, Writers
from whimbrel.engine.forecast_throttle import Throttle
from whimbrel.engine.policy import Knobs

KNOBS = Knobs()


class Course:
    """A throttle and a guest; syncs two seconds apart, with 100 bytes sent between two."""

    def __init__(self, active: bool = True, **plan: Any) -> None:
        self.throttle = Throttle(Throttling(**plan), active, 0.0)
        curve = ConstantRate(1000.0)
        self.dirt = Dirt.of(Setting(writers=(Writers(curve=curve),), total_bytes=10**6, bandwidth_bytes_per_s=1.0))
        self.now_s = self.sent = 0.0

    def sync(self, *dirtied: float, after_s: float = 2.0, knobs: Knobs = KNOBS) -> list[float]:
        """The throttle after each sync."""
        found: list[float] = []
        for marked in dirtied:
            self.now_s += after_s
            self.sent += 100.0
            self.throttle.synced(self.now_s, marked, self.sent, knobs, self.dirt)
            found.append(round(self.throttle.fraction, 4))
        return found


def test_every_second_sync_with_too_much_is_a_step() -> None:
    assert Course().sync(60, 60, 60, 60, 60, 60) == [0, 0.2, 0.2, 0.3, 0.3, 0.4]


def test_half_of_what_was_sent_is_not_too_much() -> None:
    assert Course().sync(50, 50, 50, 50)[-1] == 0


def test_a_good_period_does_not_reset_the_count() -> None:
    assert Course().sync(60, 10, 10, 60)[-1] == 0.2


def test_periods_are_longer_than_a_second() -> None:
    """Syncs that come sooner add up."""
    course = Course()
    assert course.sync(60, 60, 60, 60, after_s=0.5) == [0, 0, 0, 0]
    assert course.throttle.dirty_bytes_per_s == pytest.approx(180 / 1.5)


def test_the_ladder_ends_at_its_ceiling() -> None:
    assert Course(initial=0.5, increment=0.3, ceiling=0.7).sync(60, 60, 60, 60, 60, 60)[-1] == 0.7


def test_the_guest_is_slowed() -> None:
    course = Course(initial=0.6)
    course.sync(60, 60)
    assert course.dirt.speed == pytest.approx(0.4)


def test_the_policys_knobs_go_before_the_plan() -> None:
    knobs = Knobs(throttle_initial=0.5, throttle_increment=0.2, throttle_ceiling=0.6)
    assert Course().sync(60, 60, 60, 60, knobs=knobs) == [0, 0.5, 0.5, 0.6]


def test_a_throttle_is_within_what_qemu_takes() -> None:
    assert Course(initial=0.001).sync(60, 60)[-1] == 0.01
    assert Course(initial=2.0).sync(60, 60)[-1] == 0.99


def test_tailslow_steps_no_further_than_needed() -> None:
    """At 20 % the guest dirties 60 of the 50 allowed: 80 % of the CPU come to 66.7, so 13.3 % more, not 40."""
    course = Course(increment=0.4, tailslow=True)
    assert course.sync(60, 60, 60, 60)[-1] == pytest.approx(0.2 + 0.8 * (1 - 50 / 60), abs=1e-4)


def test_trigger_and_tailslow_of_the_policy_go_before_the_plan() -> None:
    tail = Knobs(throttle_tailslow=True, throttle_increment=0.4)
    assert Course(increment=0.4).sync(60, 60, 60, 60, knobs=tail)[-1] == pytest.approx(0.2 + 0.8 / 6, abs=1e-4)
    off = Knobs(throttle_tailslow=False)
    assert Course(tailslow=True, increment=0.3).sync(60, 60, 60, 60, knobs=off)[-1] == 0.5
    assert Course().sync(60, 60, knobs=Knobs(throttle_trigger=0.7))[-1] == 0
    assert Course().sync(20, 20, knobs=Knobs(throttle_trigger=0.1))[-1] == 0.2


def test_of_two_throttles_the_larger_is_felt() -> None:
    course = Course()
    course.throttle.outside = 0.5
    course.sync(60, 60)
    assert (course.throttle.fraction, course.throttle.taken) == (0.2, 0.5)
    assert course.dirt.speed == pytest.approx(0.5)


def test_the_policys_limit_goes_before_the_plans_and_qemus_own_comes_last() -> None:
    for plan, knob, limit in ((250.0, 100, 100.0), (250.0, None, 250.0), (None, None, 1 << 20)):
        course = Course(vcpu_limit_bytes_per_s=plan)
        course.throttle.by_limit = True
        course.sync(60, 60, knobs=Knobs(dirty_limit_bytes_per_s=knob))
        assert course.dirt.speed == pytest.approx(min(1.0, limit / 1000))


def test_nothing_is_done_unless_it_is_on() -> None:
    course = Course(active=False)
    assert course.sync(1000, 1000, 1000)[-1] == 0
    assert course.throttle.dirty_bytes_per_s == 500


def test_the_limit_on_each_vcpu_comes_instead_of_the_throttle() -> None:
    course = Course(vcpu_limit_bytes_per_s=250.0)
    assert course.sync(60, 60)[-1] == 0
    assert course.throttle.limiting
    assert course.dirt.speed == pytest.approx(0.25)


def test_the_refined_detector_counts_apart_what_does_not_fall() -> None:
    """90 then 80 of 100: the original counts two, the refined one as well, and that step is the original's."""
    assert Course(detector=Detector.REFINED).sync(90, 80) == [0, 0.2]


def test_the_refined_detector_may_step_where_the_original_has_just_begun_anew() -> None:
    """At a ratio that stays, from the second look on, for the first is only taken down: each is one sync after."""
    dirtied = (70, 70.4, 70, 70, 70)
    assert Course(detector=Detector.REFINED).sync(*dirtied) == [0, 0.2, 0.3, 0.4, 0.5]
    assert Course().sync(*dirtied) == [0, 0.2, 0.2, 0.3, 0.3]
