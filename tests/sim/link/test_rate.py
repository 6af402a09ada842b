"""The link's bandwidth in time."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.link.rate import Bandwidth
from whimbrel.sim.scenario import LinkPlan

BASE = 1_000_000.0


def rates(bandwidth: Bandwidth, count: int, every_ns: int) -> list[int]:
    """The rate at the beginning of each stretch."""
    return [bandwidth.at(number * every_ns)[0] for number in range(count)]


def test_a_steady_link_never_changes() -> None:
    bandwidth = Bandwidth(LinkPlan(bandwidth_bytes_per_s=BASE), 1)
    assert bandwidth.at(0) == bandwidth.at(10**15) == (1_000_000, None)


def test_steps_and_outages_are_counted_from_the_beginning() -> None:
    bandwidth = Bandwidth(LinkPlan(bandwidth_bytes_per_s=BASE, steps=((2.0, 500.0),), outages=((1.0, 0.5),)), 1)
    assert bandwidth.at(5 * SECOND_NS) == (1_000_000, None)
    bandwidth.begin(10 * SECOND_NS)
    bandwidth.begin(11 * SECOND_NS)
    assert bandwidth.at(10 * SECOND_NS) == (1_000_000, 11 * SECOND_NS)
    assert bandwidth.at(11 * SECOND_NS) == (0, 11 * SECOND_NS + SECOND_NS // 2)
    assert bandwidth.at(11 * SECOND_NS + SECOND_NS // 2) == (1_000_000, 12 * SECOND_NS)
    assert bandwidth.at(12 * SECOND_NS) == (500, None)


def test_noise_has_the_deviation_and_the_memory_that_were_asked_for() -> None:
    plan = LinkPlan(bandwidth_bytes_per_s=BASE, noise=0.1, noise_every_s=0.1, noise_memory=0.8)
    drawn = rates(Bandwidth(plan, 7), 20_000, SECOND_NS // 10)
    mean, spread = fmean(drawn), pstdev(drawn)
    assert mean == pytest.approx(BASE, rel=0.02)
    assert spread == pytest.approx(0.1 * BASE, rel=0.1)
    pairs = pairwise(drawn)
    assert fmean((a - mean) * (b - mean) for a, b in pairs) / spread**2 == pytest.approx(0.8, abs=0.05)


def test_noise_follows_from_the_seed_alone_in_whatever_order_it_is_asked() -> None:
    plan = LinkPlan(bandwidth_bytes_per_s=BASE, noise=0.3, noise_every_s=0.1)
    forwards = rates(Bandwidth(plan, 7), 50, SECOND_NS // 10)
    other = Bandwidth(plan, 7)
    backwards = [other.at(number * SECOND_NS // 10)[0] for number in reversed(range(50))]
    assert backwards[::-1] == forwards
    assert rates(Bandwidth(plan, 8), 50, SECOND_NS // 10) != forwards
    assert min(forwards) > 0


def test_noise_says_when_it_changes_next() -> None:
    plan = LinkPlan(bandwidth_bytes_per_s=BASE, noise=0.3, noise_every_s=0.1, outages=((0.25, 1.0),))
    bandwidth = Bandwidth(plan, 7)
    bandwidth.begin(0)
    assert bandwidth.at(150_000_000)[1] == 200_000_000
    assert bandwidth.at(210_000_000)[1] == 250_000_000
    assert bandwidth.at(300_000_000) == (0, 1_250_000_000)
