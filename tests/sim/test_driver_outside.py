"""A manager's hold on the source's vCPUs."""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver_outside import LAPSED, LEASE_S, RENEWED_EVERY_S, OutsideThrottle
from whimbrel.sim.driver_tasks import Loop


@dataclass
class Host:
    """Where the source is."""

    lease_runs: bool = True
    told: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def slow_source(self, share: float, lease_s: float) -> bool:
        self.told.append((share, lease_s))
        return self.lease_runs


class Bench:
    def __init__(self, *, offered: bool = True) -> None:
        self.clock, self.host = Clock(), Host()
        self.loop = Loop(self.clock)
        self.lost: list[str] = []
        self.hold = OutsideThrottle(self.loop, self.host, self.lost.append)
        self.hold.offered = offered

    def wait(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_ns + round(seconds * SECOND_NS))


def test_it_is_taken_at_once_renewed_and_given_back() -> None:
    bench = Bench()
    bench.hold.take(0.5)
    bench.wait(2.5 * RENEWED_EVERY_S)
    bench.hold.take(0.5)
    assert bench.host.told == [(0.5, LEASE_S)] * 3
    bench.hold.take(0.7)
    bench.hold.give_back()
    bench.wait(10 * LEASE_S)
    assert bench.host.told[3:] == [(0.7, LEASE_S), (0.0, LEASE_S)]
    assert bench.lost == []


def test_where_it_is_not_offered_nothing_is_taken() -> None:
    bench = Bench(offered=False)
    bench.hold.take(0.5)
    bench.hold.give_back()
    bench.hold.end()
    assert bench.host.told == []


def test_a_lease_that_ran_out_is_told_once_and_nothing_is_taken_any_more() -> None:
    bench = Bench()
    bench.hold.take(0.5)
    bench.host.lease_runs = False
    bench.wait(10 * LEASE_S)
    assert bench.lost == [LAPSED]
    assert bench.host.told[-1] == (0.0, LEASE_S)
    assert bench.hold.share == 0
    bench.hold.take(0.3)
    assert bench.host.told[-1] == (0.0, LEASE_S)


def test_a_manager_that_dies_leaves_nothing() -> None:
    bench = Bench()
    bench.hold.take(0.5)
    bench.loop.end()
    bench.hold.end()
    bench.hold.end()
    bench.wait(10 * LEASE_S)
    assert bench.host.told == [(0.5, LEASE_S), (0.0, LEASE_S)]
