"""What is learnt from looks at a migration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.looks import MIB, SECOND, Looks
from whimbrel.engine.bounds import goodput
from whimbrel.engine.foresight_learnt import NOISE, Learnt
from whimbrel.engine.policy import Knobs, Measurement, Objectives
from whimbrel.engine.slowing import Headroom
from whimbrel.engine.statistics import Ledger, Statistics

PLAIN = Knobs()


def fed(ledgers: Iterable[Ledger], knobs: Knobs = PLAIN) -> tuple[Learnt, Ledger]:
    """One that has seen all of these."""
    learnt, last = Learnt(), Ledger()
    for last in ledgers:
        learnt.see(last, knobs)
    return learnt, last


def steady(window_s: float) -> float:
    """30 MiB a second, 200 MiB at most."""
    return min(30.0 * MIB * window_s, 200.0 * MIB)


def test_nothing_is_known_of_what_was_not_seen() -> None:
    learnt = Learnt()
    assert not learnt.see(Ledger(), PLAIN)
    assert learnt.bytes_per_s(Ledger(), PLAIN) is None
    assert learnt.curve(MIB) is None
    assert learnt.spreads()[1] == NOISE
    assert not learnt.capped(Objectives(bandwidth_bytes_per_s=MIB))


def test_a_look_that_was_seen_already_changes_nothing() -> None:
    looks = Looks(steady)
    ledger = looks.look()
    learnt = Learnt()
    learnt.see(ledger, PLAIN)
    before = replace(learnt)
    assert not learnt.see(ledger, PLAIN)
    assert learnt == before


def test_the_link_is_known_from_the_first_iteration_on() -> None:
    learnt, ledger = fed(Looks(steady, rate=80.0 * MIB).run(1))
    assert learnt.bytes_per_s(ledger, PLAIN) == pytest.approx(goodput(80.0 * MIB), rel=0.03)


def test_a_link_that_changes_is_noticed() -> None:
    looks = Looks(steady)
    learnt, ledger = fed(looks.run(1))
    looks.rate = 50.0 * MIB
    for ledger in looks.run(2):
        learnt.see(ledger, PLAIN)
    assert learnt.bytes_per_s(ledger, PLAIN) == pytest.approx(goodput(50.0 * MIB), rel=0.1)


def test_a_first_iteration_too_short_for_the_link_leaves_the_fastest_one() -> None:
    learnt, ledger = fed(Looks(steady, total_bytes=20 * MIB, limit_s=0.05).run(1))
    assert learnt.link.goodput_bytes_per_s is None
    assert learnt.bytes_per_s(ledger, PLAIN) == pytest.approx(goodput(100.0 * MIB), rel=0.2)


def test_a_cap_bounds_what_is_counted_on_unless_it_is_next_to_nothing() -> None:
    learnt, ledger = fed(Looks(steady).run(1))
    full = learnt.bytes_per_s(ledger, PLAIN)
    assert full is not None
    assert learnt.bytes_per_s(ledger, Knobs(bandwidth_bytes_per_s=40 * MIB)) == pytest.approx(goodput(40 * MIB))
    assert learnt.bytes_per_s(ledger, Knobs(bandwidth_bytes_per_s=MIB)) == full
    assert learnt.capped(Objectives(bandwidth_bytes_per_s=105 * MIB))
    assert not learnt.capped(Objectives(bandwidth_bytes_per_s=200 * MIB))
    assert not learnt.capped(Objectives())


def test_every_iteration_is_a_point_of_the_curve() -> None:
    learnt, _ = fed(Looks(steady).run(4))
    curve = learnt.curve(500 * MIB)
    assert curve is not None
    assert [point.number for point in learnt.points] == [1, 2, 3, 4]
    for window_s in (0.5, 1.0, 2.0, 4.0):
        assert curve.at(window_s, 0.0) == pytest.approx(steady(window_s), rel=0.1)


def test_what_was_measured_before_is_a_point_too() -> None:
    learnt = Learnt(measurements=(Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=30.0 * MIB),))
    curve = learnt.curve(500 * MIB)
    assert curve is not None
    assert curve.points == [(1.0, 30.0 * MIB)]


def test_windows_that_are_alike_are_one_point_in_which_the_latest_counts_most() -> None:
    def quieter(window_s: float) -> float:
        return 60.0 * MIB if looks.iteration < 6 else 66.0 * MIB

    looks = Looks(quieter)
    learnt, _ = fed(looks.run(8))
    curve = learnt.curve(500 * MIB)
    assert curve is not None
    assert len(curve.points) < len(learnt.points)
    assert 60.0 * MIB < curve.points[0][1] < 66.5 * MIB


def test_points_of_a_guest_that_has_calmed_down_are_dropped() -> None:
    """Over a slower link it dirties less in a longer time than it used to in a shorter one: it is not the same."""
    looks = Looks(lambda _: 80.0 * MIB)
    learnt, _ = fed(looks.run(4))
    assert [point.number for point in learnt.points] == [1, 2, 3, 4]
    looks.rate, looks.dirtied = 50.0 * MIB, lambda _: 20.0 * MIB
    for ledger in looks.run(1):
        learnt.see(ledger, PLAIN)
    assert [point.number for point in learnt.points] == [1, 5]


def test_noise_is_learnt_from_windows_that_are_alike() -> None:
    def jumpy(window_s: float) -> float:
        return 60.0 * MIB * (1.3 if looks.iteration % 2 else 0.75)

    looks = Looks(jumpy)
    learnt, _ = fed(looks.run(14))
    assert learnt.spreads()[1] > 1.5 * NOISE
    calm, _ = fed(Looks(lambda _: 60.0 * MIB).run(14))
    level, noise = calm.spreads()
    assert noise < NOISE
    assert level < noise + 0.04


def test_a_throttle_seen_by_what_vcpus_use_puts_points_at_the_guests_own_time() -> None:
    """A vCPU that used all of its time and uses a quarter of it now: its second is a quarter."""
    looks = Looks(steady, vcpu_share=1.0)
    learnt, ledger = fed(looks.run(1))
    assert learnt.headroom.shares == pytest.approx((1.0,))
    looks.throttle = 0.75
    learnt.see(looks.look(), PLAIN)
    used_s = looks.now_s
    for ledger in slowed(looks, used_s, 0.25):
        learnt.see(ledger, PLAIN)
    last = ledger.iterations[-1]
    assert learnt.points[-1].window_s == pytest.approx(0.25 * last.duration_s, rel=0.1)
    assert learnt.throttle == 0.75


def slowed(looks: Looks, used_s: float, part: float) -> Iterable[Ledger]:
    """One iteration in which the vCPU gets a part of its time."""
    began_s = looks.now_s
    while looks.now_s < began_s + 1.0:
        looks.send(0.1)
        statistics = looks.look().last
        assert statistics is not None
        looks.ledger = replace(
            looks.ledger, last=replace(statistics, vcpu_s=(used_s + part * (looks.now_s - began_s),))
        )
        yield looks.ledger
    looks.left += steady(part * 1.0)
    looks.iteration += 1
    looks.now_s += 0.001
    before = looks.ledger.last
    assert before is not None
    now = Statistics(
        at_ns=round(looks.now_s * SECOND), iteration=looks.iteration, remaining_bytes=round(looks.left),
        transferred_bytes=round(looks.sent), total_bytes=looks.total_bytes, throttle=looks.throttle,
        normal_pages=round(looks.sent) // 4096, vcpu_s=before.vcpu_s,
    )  # fmt: skip
    looks.ledger = looks.ledger.add(now)
    yield looks.ledger


def test_a_throttle_whose_effect_cannot_be_seen_is_judged_by_what_is_dirtied() -> None:
    looks = Looks(lambda window_s: 60.0 * MIB * window_s)
    learnt, _ = fed(looks.run(3))
    points = len(learnt.points)
    looks.throttle, looks.dirtied = 0.8, lambda window_s: 12.0 * MIB * window_s
    for ledger in looks.run(2):
        learnt.see(ledger, PLAIN)
    assert learnt.headroom.speed(0.8) == pytest.approx(0.2, abs=0.1)
    assert len(learnt.points) > points
    assert learnt.points[-1].window_s < 0.5 * looks.ledger.iterations[-1].duration_s


def test_a_throttle_before_anything_else_was_seen_is_taken_by_the_book() -> None:
    looks = Looks(steady, throttle=0.6)
    learnt, ledger = fed(looks.run(1), Knobs(outside_throttle=0.8))
    assert learnt.throttle == 0.8
    speed = Headroom().speed(0.8)
    assert learnt.points[-1].window_s == pytest.approx(speed * ledger.iterations[-1].duration_s, rel=0.1)


def test_a_throttle_that_is_not_felt_tells_nothing() -> None:
    looks = Looks(steady, vcpu_share=0.1)
    learnt, _ = fed(looks.run(1))
    looks.throttle = 0.5
    for ledger in looks.run(1):
        learnt.see(ledger, PLAIN)
    assert learnt.headroom.reach == 1.0


def test_a_throttle_of_next_to_nothing_is_none() -> None:
    learnt, _ = fed(Looks(steady, throttle=0.01).run(1))
    assert learnt.throttle == 0.0


def test_limits_are_remembered() -> None:
    looks = Looks(steady)
    learnt = Learnt()
    for limit_s, lowers in ((0.02, False), (0.3, False), (0.1, True), (0.3, True)):
        looks.send(0.1)
        learnt.see(looks.look(), Knobs(downtime_limit_s=limit_s))
        assert (learnt.least_limit_s, learnt.lowers) == (0.02, lowers)


def test_iterations_without_any_time_are_no_points() -> None:
    learnt = Learnt()
    ledger = Ledger()
    for number, at_ns in enumerate((0, 10, 10, 10, 20), 1):
        ledger = ledger.add(
            Statistics(at_ns=at_ns, iteration=number, remaining_bytes=MIB, total_bytes=2 * MIB, throttle=0.9)
        )
        learnt.see(ledger, PLAIN)
    assert learnt.points == []


COUNT = st.integers(0, 1 << 45)


@given(
    st.lists(
        st.builds(
            Statistics,
            at_ns=st.integers(0, 10**12),
            iteration=st.integers(0, 6),
            remaining_bytes=COUNT,
            transferred_bytes=COUNT,
            total_bytes=COUNT,
            normal_pages=COUNT,
            duplicate_pages=COUNT,
            throttle=st.floats(0, 0.99),
            qemu_total_s=st.none() | st.floats(0, 1e4),
            setup_s=st.none() | st.floats(0, 1e3),
            vcpu_s=st.sampled_from([(), (1.0,), (2.0,), (1.0, 3.0)]),
        ),
        max_size=12,
    )
)
def test_whatever_qemu_says_what_is_learnt_makes_sense(told: list[Statistics]) -> None:
    learnt, ledger = Learnt(), Ledger()
    for each in told:
        ledger = ledger.add(each)
        learnt.see(ledger, PLAIN)
    rate = learnt.bytes_per_s(ledger, PLAIN)
    assert rate is None or 1.0 <= rate < math.inf
    assert all(point.window_s > 0 and point.dirtied_bytes >= 1 for point in learnt.points)
    assert all(0 < spread < math.inf for spread in learnt.spreads())
    curve = learnt.curve(1e15)
    assert curve is None or curve.at(1.0, 0.0) >= 0
