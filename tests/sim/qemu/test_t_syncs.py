"""Tests of whimbrel.sim.qemu.t_syncs."""

from __future__ import annotations

import pytest

from tests.sim.qemu.thread_fakes import Bench, FakeMemory
from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS
from whimbrel.sim.qemu.contract import Costs, Settings, Version
from whimbrel.sim.qemu.t_counters import Counters
from whimbrel.sim.qemu.t_rules import rules_of
from whimbrel.sim.qemu.t_syncs import Syncs
from whimbrel.sim.qemu.t_throttle import Throttle


def syncs(bench: Bench, version: Version, costs: Costs) -> tuple[Syncs, Counters]:
    """Syncs over a bench's memory and listener."""
    rules = rules_of(version)
    settings = Settings(capabilities={"auto-converge": True})
    counters = Counters(rules, settings, 0)
    throttle = Throttle(bench.memory, settings, rules)
    made = Syncs(bench.clock, bench.memory, counters, throttle, rules, costs, bench, bench.holds_lock)
    bench.memory.begin(0)
    return made, counters


def test_a_sync_takes_what_ram_and_the_log_cost() -> None:
    """Fixed, per page of RAM, per page in the log, in the bitmap already or not; a long one tells of the lock."""
    bench = Bench(FakeMemory(1000, 99_000))
    costs = Costs(sync_s=0.001, sync_s_per_page=10e-9, sync_s_per_dirty_page=3e-6)
    made, counters = syncs(bench, Version.V10_0, costs)
    made.first()
    bench.memory.send(0, 1 << 40, 500)
    bench.run(1.0)
    done: list[int] = []
    made.next(lambda: done.append(bench.clock.now_ns))
    bench.run(0.1)
    assert done == [SECOND_NS + 5 * MILLISECOND_NS]
    assert bench.said == [(0.0, "pass 1"), (1000.0, "lock"), (1005.0, "pass 2"), (1005.0, "unlock")]
    assert counters.synced_bytes == 100_000 * 4096


def test_whoever_looks_during_a_sync_never_sees_what_it_found_without_the_sync() -> None:
    """QEMU counts it first: otherwise an iteration would end with nothing dirtied, and the next begin with more."""
    bench = Bench(FakeMemory(1000, 99_000))
    made, counters = syncs(bench, Version.V7_2, Costs(sync_s=0.01))
    made.first()
    bench.memory.send(0, 1 << 40, 50_000)
    looks: list[tuple[int, int]] = []
    for at_ms in range(1000, 1020):
        bench.clock.at(at_ms * MILLISECOND_NS, lambda: looks.append((counters.syncs, bench.memory.remaining_pages)))
    bench.clock.at(SECOND_NS + 500_000, lambda: made.next(lambda: None))
    bench.run(2.0)
    assert looks[0] == (1, 50_000)
    assert set(looks[1:]) == {(2, 51_000)}


def test_a_short_sync_is_not_told_as_a_lock() -> None:
    """Under 2 ms."""
    bench = Bench(FakeMemory(10))
    made, _ = syncs(bench, Version.V10_0, Costs())
    made.next(lambda: None)
    bench.run(1)
    assert bench.words == ["pass 1"]
    assert len(bench.said) == 1


def test_passes_are_told_as_the_version_counts() -> None:
    """7.2 and 10.0 tell each sync, the first and the last too; 11.1 tells iterations, from 2 on."""
    for version, told in (
        (Version.V7_2, ["pass 1", "pass 2", "pass 3"]),
        (Version.V10_0, ["pass 1", "pass 2", "pass 3"]),
        (Version.V11_1, ["pass 2"]),
    ):
        bench = Bench(FakeMemory(10))
        made, _ = syncs(bench, version, Costs())
        made.first()
        made.next(lambda: None)
        bench.run(1)
        made.last(lambda: None)
        bench.run(1)
        assert bench.words == told


def test_the_timer_syncs_where_nobody_did() -> None:
    """Every 5 s, not during the first pass; 11.1 does not tell of it."""
    for version, told in ((Version.V10_0, ["pass 1", "pass 2", "pass 3"]), (Version.V11_1, ["pass 2"])):
        bench = Bench(FakeMemory(10))
        made, counters = syncs(bench, version, Costs())
        made.first()
        made.force()
        bench.run(11)
        assert counters.syncs == 1
        made.next(lambda: None)
        bench.run(6)
        assert counters.syncs == 2, "a sync came since it last looked"
        bench.run(5)
        assert bench.words == told
        made.stop_forcing()
        assert bench.clock.next_ns() is None


def test_cancel_lets_nothing_come() -> None:
    """Neither the sync under way nor the timer."""
    bench = Bench(FakeMemory(10))
    made, _ = syncs(bench, Version.V10_0, Costs())
    made.force()
    made.next(lambda: bench.reached("never"))
    made.cancel()
    bench.run(20)
    assert bench.said == []


@pytest.mark.parametrize(("waits", "after_ms"), [(True, 90), (False, 0)], ids=["TCG", "KVM"])
def test_under_tcg_a_sync_waits_until_the_vcpus_have_slept_the_throttle_off(waits: bool, after_ms: int) -> None:
    """At 90 % they sleep 90 ms at a time, and what they wrote until then is found."""
    bench = Bench(FakeMemory(1000, 99_000))
    rules = rules_of(Version.V7_2)
    settings = Settings(capabilities={"auto-converge": True}, parameters={"cpu-throttle-initial": 90})
    throttle = Throttle(bench.memory, settings, rules)
    counters, free = Counters(rules, settings, 0), Costs(sync_s=0.0, sync_s_per_page=0.0)
    made = Syncs(bench.clock, bench.memory, counters, throttle, rules, free, bench, bench.holds_lock, waits)
    bench.memory.begin(0)
    made.first()
    bench.run(1.0)
    for _ in range(2):
        throttle.judge(bench.clock.now_ns, 2, 1)
    done: list[int] = []
    made.next(lambda: done.append(bench.clock.now_ns))
    bench.run(0.2)
    assert [round((each - SECOND_NS) / MILLISECOND_NS) for each in done] == [after_ms]
    cancelled: list[int] = []
    made.next(lambda: cancelled.append(1))
    made.cancel()
    bench.run(0.5)
    assert cancelled == []
