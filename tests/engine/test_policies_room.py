"""The limit that leaves room for what QEMU does not count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.asking import ALL_ALLOWED, setup, tick
from whimbrel.engine.pilot import GREATEST_WAKE_S
from whimbrel.engine.policies.room import Room
from whimbrel.engine.policy import Decision, Observation
from whimbrel.engine.statistics import Statistics

MIB = 1 << 20
GOAL = replace(ALL_ALLOWED, downtime_s=0.3)


def look(at_s: float, *, ahead_mib: float = 0.0, by_qemu: bool = False) -> Observation:
    """A link of 100 MiB/s, ahead of which so much was sent; QEMU's clock began a second before the transfer."""
    sent = round((100 * at_s + ahead_mib) * MIB)
    last = Statistics(at_ns=0, qemu_total_s=at_s + 1.0, setup_s=1.0)
    what = {"samples": (last,)} if by_qemu else {}
    elapsed_s = at_s + 7.0 if by_qemu else at_s
    return tick(elapsed_s, transferred_bytes=sent, remaining_bytes=MIB, objectives=GOAL, **what)


@pytest.mark.parametrize("by_qemu", [False, True])
def test_a_pipe_that_is_full_when_the_guest_stops_is_taken_off(by_qemu: bool) -> None:
    """5 MiB ahead of 100 MiB/s, of which 1.3 times are counted, 5 ms that nobody sees, and 25 ms for the switchover."""
    room = Room()
    said = [room.news(look(step / 20, ahead_mib=5.0, by_qemu=by_qemu)) for step in range(1, 16)]
    assert room.link_bytes_per_s == pytest.approx(100 * MIB)
    (news,) = [decision for decision in said if decision != Decision()]
    assert news.downtime_limit_s == pytest.approx(0.3 - 1.3 * 0.05 - 0.005 - 0.025)
    assert news.wake_after_s == GREATEST_WAKE_S
    assert news.because == "205 ms, of 300 ms: the rest is for what QEMU leaves out"


def test_a_fifth_is_left_in_any_case() -> None:
    room = Room()
    for step in range(1, 16):
        room.learn(look(step / 20, ahead_mib=40.0))
    assert room.limit_s(look(1.0)) == pytest.approx(0.06)


def test_the_limit_is_one_that_qemu_can_count() -> None:
    goal = replace(GOAL, downtime_s=0.001)
    assert Room().limit_s(tick(1.0, objectives=goal)) == 0.001


def test_an_iteration_that_was_over_too_soon_leaves_the_fixed_part_only() -> None:
    room = Room()
    assert room.news(setup(objectives=GOAL)) == Decision()
    assert room.news(tick(0.1, iteration=2, objectives=GOAL)).downtime_limit_s == pytest.approx(0.275)
    assert room.news(tick(0.2, iteration=2, objectives=GOAL)) == Decision()
    assert room.link_bytes_per_s is None
