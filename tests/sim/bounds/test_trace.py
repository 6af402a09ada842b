"""The trace is what policies meet: the very writes and the very link of a simulated migration."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest

from tests.sim.bounds.worlds import MIB, scenario, steady, writer
from tests.sim.bounds.worlds import trace as trace_with
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Policy
from whimbrel.sim.bounds.trace import PEAK_S, start_of, trace_of
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.memory.contract import Memory
from whimbrel.sim.scenario import GuestPlan, Pattern, Scenario
from whimbrel.sim.world import World


class Recorded:
    """A memory that remembers what its syncs found: all that was written since the one before."""

    def __init__(self, inner: Memory) -> None:
        self.inner = inner
        self.found: list[tuple[int, int]] = []
        self.halted_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        self.inner.begin(now_ns)
        self.found.append((now_ns, 0))

    def halt(self, now_ns: int) -> None:
        self.halted_ns = now_ns
        self.inner.halt(now_ns)

    def sync(self, now_ns: int) -> int:
        fresh = self.inner.sync(now_ns)
        # TCG's log holds each page that was written since the last sync, once.
        self.found.append((min(now_ns, self.halted_ns or now_ns), self.inner.logged_pages))
        return fresh

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def syncs_of(plan: Scenario, seed: int, policy: Policy) -> list[tuple[int, int]]:
    """When QEMU synced while the guest ran, and how many pages it found written since the last time."""
    world = World(plan, seed, policy)
    recorded = Recorded(world.pairs[0].memory)
    world.pairs[0].source_qemu.memory = cast("Memory", recorded)
    world.run()
    return recorded.found


GUESTS = {
    "uniform": GuestPlan(ram_bytes=16 * MIB, writers=(writer(),), pages=True),
    "poisson and a device": GuestPlan(
        ram_bytes=16 * MIB,
        writers=(writer(pattern=Pattern.POISSON), writer("dma", vcpu=None, pattern=Pattern.SWEEP)),
        pages=True,
    ),
    "phases": GuestPlan(
        ram_bytes=16 * MIB,
        writers=(writer(pattern=Pattern.ZIPF, period_s=0.7, duty=0.3, shift_s=0.2), writer("b", cpu_share=0.4)),
        pages=True,
    ),
    "measured curve": GuestPlan(
        ram_bytes=16 * MIB, curve=((0.1, 1.0 * MIB), (1.0, 4.0 * MIB), (3.0, 6.0 * MIB)), pages=True
    ),
}


@pytest.mark.parametrize("guest", GUESTS.values(), ids=GUESTS)
@pytest.mark.parametrize("policy", [Fixed(downtime_limit_s=0.05), LeastDowntime()], ids=["fixed", "least_downtime"])
def test_between_two_syncs_of_a_simulated_migration_as_many_pages_are_written_as_in_the_trace(
    guest: GuestPlan, policy: Policy
) -> None:
    plan = replace(scenario(limit_s=5.0), guest=guest)
    found = syncs_of(plan, 3, policy)
    trace, began_ns = trace_of(plan, 3), found[0][0]
    assert len(found) > 3
    assert found[0][0] == pytest.approx(start_of(plan, 3).logging_ns, abs=1_000_000)
    # A policy that sets other parameters begins some tenths of a millisecond off.
    off_s = (began_ns - start_of(plan, 3).logging_ns) / SECOND_NS
    for (before_ns, _), (now_ns, logged) in pairwise(found[1:]):
        from_s, to_s = ((at_ns - began_ns) / SECOND_NS + off_s for at_ns in (before_ns, now_ns))
        assert len(trace.dirtied(from_s, to_s)) == pytest.approx(logged, abs=1)


def test_each_write_knows_the_one_before_and_the_one_after_it_to_the_same_page() -> None:
    writes = trace_of(scenario(writer(pattern=Pattern.ZIPF), writer("b", cpu_share=0.5)), 1).writes
    assert (np.diff(writes.at_s) >= 0).all()
    later = np.flatnonzero(writes.before >= 0)
    assert (writes.pages[later] == writes.pages[writes.before[later]]).all()
    assert (writes.after[writes.before[later]] == later).all()
    assert np.count_nonzero(writes.before < 0) == len(np.unique(writes.pages))
    assert np.count_nonzero(writes.after == len(writes)) == len(np.unique(writes.pages))


def test_writers_that_a_throttle_slows_alike_are_one_group() -> None:
    trace = trace_of(scenario(writer(), writer("b"), writer("dma", vcpu=None, size_mib=2)), 1)
    assert sorted(group.cpu_share for group in trace.groups) == [0.0, 1.0]
    assert sum(len(group.writes) for group in trace.groups) == len(trace.writes)
    by_share = {group.cpu_share: group.speed(0.75) for group in trace.groups}
    assert by_share == {0.0: 1.0, 1.0: 0.25}


def test_zero_pages_take_next_to_nothing_until_somebody_writes_to_them() -> None:
    trace = trace_of(scenario(writer(zero=True, rate_mb_per_s=2.0)), 1)
    assert set(trace.fresh_bytes.tolist()) == {9, 4104}
    assert trace.written_bytes[0] == 4104
    # Some were written before logging began.
    assert (trace.fresh_bytes[: 6 * MIB // 4096] == 4104).any()
    assert (trace.fresh_bytes[-1:] == 9).all()


@pytest.mark.parametrize(
    "more", [{}, {"noise": 0.4}, {"steps": ((1.0, 2e6), (3.0, 20e6))}, {"outages": ((0.5, 1.0),)}, {"rivals": 3}]
)
def test_a_link_carries_what_its_rates_come_to(more: dict[str, Any]) -> None:
    capacity = trace_of(scenario(**more), 1).capacity
    times_s = np.linspace(0.0, 10.0, 200)
    carried = capacity.carried(times_s)
    assert (np.diff(carried) >= 0).all()
    moving = (np.diff(carried, append=np.inf) > 0) & (np.diff(carried, prepend=-np.inf) > 0)
    assert capacity.when(carried[moving]) == pytest.approx(times_s[moving], abs=1e-6)
    if not more:
        assert carried[-1] == pytest.approx(1e8)
    if "outages" in more:
        assert carried[-1] == pytest.approx(0.9e8, rel=1e-3)
    if "rivals" in more:
        assert carried[-1] == pytest.approx(0.25e8)
    if "steps" in more:
        assert carried[-1] == pytest.approx(10e6 + 4e6 + 140e6, rel=1e-2)


def test_the_most_writes_are_those_of_a_phase() -> None:
    trace = trace_of(scenario(writer(rate_mb_per_s=4.096, period_s=1.0, duty=0.25)), 1)
    assert trace.most_writes_per_s() == pytest.approx(1000, rel=0.1)
    assert trace_of(scenario(writer(rate_mb_per_s=0.0)), 1).most_writes_per_s() == 0.0


def test_no_phase_however_short_has_more_writes_than_the_most() -> None:
    """Of so many writes only every third is looked at: what lies between two looks is counted in."""
    burst_s = [29_999.0 + number * 1e-3 for number in range(1, 6)]
    at_s = sorted([*map(float, range(50_000)), *burst_s])
    writes = [(each_s, 0) for each_s in at_s]
    assert trace_with(writes, 1, steady(1.0)).most_writes_per_s() >= 6 / PEAK_S


def test_a_trace_ends_where_it_would_be_too_long() -> None:
    endless = trace_of(scenario(writer(rate_mb_per_s=80.0), limit_s=100.0), 1, most_writes=20_000)
    assert endless.horizon_s == pytest.approx(1.024)
    assert len(endless.writes) == pytest.approx(20_000, rel=0.01)


def test_the_difference_is_what_a_written_page_takes_with_xbzrle() -> None:
    plan = replace(scenario(writer(delta_bytes=500)), capabilities=("xbzrle",))
    trace = trace_of(plan, 1)
    assert set(trace.written_bytes.tolist()) == {511, 4104}
    squeezed = trace_of(replace(scenario(writer(compressed_ratio=0.5)), capabilities=("compress",)), 1)
    assert squeezed.written_bytes[0] == 8 + 2048


def test_without_pages_there_is_no_trace() -> None:
    plan = scenario()
    with pytest.raises(BadInput, match=r"guest\.pages"):
        trace_of(replace(plan, guest=replace(plan.guest, pages=False)), 1)


def test_a_trace_follows_from_scenario_and_seed() -> None:
    first, again, other = (trace_of(scenario(), seed) for seed in (1, 1, 2))
    assert pickle.dumps(first) == pickle.dumps(again)
    assert pickle.dumps(first) != pickle.dumps(other)
