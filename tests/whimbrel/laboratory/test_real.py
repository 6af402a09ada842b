"""Cells of the matrix on real QEMUs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.guest.spec import PageClass, WorkloadSpec
from whimbrel.guest.timeline import Continuity, Timeline
from whimbrel.guest_plan import guest_plan
from whimbrel.laboratory.catalogue import machine_ram_bytes
from whimbrel.laboratory.catalogue_basic import EXTRA_BYTES
from whimbrel.laboratory.real import RealBench, lost_guest_s, run_real
from whimbrel.laboratory.records import Backend, Case, Cell, Row
from whimbrel.laboratory.stage import Guest
from whimbrel.sim.scenario import LinkPlan, Scenario

MIB = 1 << 20
LINK_BYTES_PER_S = 32.0 * MIB
RAM_BYTES = 32 * MIB + (64 << 10)
BUSY = PageClass(name="busy", size_bytes=8 * MIB, rate_bytes_per_s=8.0 * MIB)


@pytest.fixture
def bench() -> Generator[RealBench, None, None]:
    with RealBench(relayed=True) as standing:
        yield standing


def case(*classes: PageClass, limit_s: float = 10.0, goal: Objectives | None = None) -> Case:
    spec = WorkloadSpec(classes=(PageClass(name="cold", size_bytes=8 * MIB), *classes))
    scenario = Scenario(
        guest=guest_plan(spec, RAM_BYTES + EXTRA_BYTES),
        link=LinkPlan(bandwidth_bytes_per_s=LINK_BYTES_PER_S),
        objectives=goal or Objectives(),
        limit_s=limit_s,
    )
    return Case(name="tiny@relay", family="real", workload="tiny", link="relay", scenario=scenario, real=True)


def run(of: Case, policy: str, bench: RealBench) -> Row:
    return run_real(Cell(case=of, policy=policy, seed=3, backend=Backend.REAL), bench)


def test_a_cell_becomes_a_row(bench: RealBench) -> None:
    row = run(case(BUSY), "fixed:downtime_limit=100ms", bench)
    assert (row.backend, row.case, row.policy, row.seed) == ("real", "tiny@relay", "fixed:downtime_limit=100ms", 3)
    assert (row.outcome, row.converged, row.postcopy, row.faults) == ("completed", True, False, 0)
    assert row.downtime_s is not None
    assert 0.0 < row.downtime_s < 0.5
    assert row.total_s == pytest.approx(16 * MIB / LINK_BYTES_PER_S, rel=1.0)
    assert row.transferred_bytes > 16 * MIB
    assert row.iterations >= 2
    assert 0.0 <= row.lost_guest_s <= row.total_s
    assert row.work == pytest.approx(1 - row.lost_guest_s / row.total_s)
    assert row.qemu.startswith("7.2") or row.qemu
    assert "tiny" not in row.scenario
    assert "busy" in row.scenario


def test_what_takes_longer_than_the_case_allows_is_censored(bench: RealBench) -> None:
    hurried = replace(BUSY, rate_bytes_per_s=80.0 * MIB)
    row = run(case(hurried, limit_s=1.0, goal=Objectives(downtime_s=0.002)), "fixed", bench)
    assert (row.outcome, row.converged, row.why, row.downtime_s) == ("cancelled", False, "it took too long", None)
    assert row.total_s == pytest.approx(1.0, abs=0.3)
    assert not row.goal_met


def test_a_policy_that_can_not_be_had_is_named(bench: RealBench) -> None:
    with pytest.raises(BadInput, match="nobody"):
        run(case(), "nobody", bench)


def test_a_guest_that_the_workload_guest_can_not_be_is_refused(bench: RealBench) -> None:
    plain = case(BUSY)
    wide = replace(plain, scenario=replace(plain.scenario, guest=replace(plain.scenario.guest, vcpus=2)))
    with pytest.raises(BadInput, match="one vCPU"):
        run(wide, "fixed", bench)


def timeline(writes: int, dropped: int, gap_s: float | None) -> Timeline:
    return Timeline(
        beats=9, switchover_gap_s=gap_s, largest_gap_s=0.1, stalls_s=0.1, continuity=Continuity(0, 0),
        writes=writes, dropped=dropped, bad=0,
    )  # fmt: skip


def test_what_a_guest_has_lost() -> None:
    """Writes given up by the rate at which they were wanted; the outage, where none were."""
    writes = Guest("writes", WorkloadSpec(classes=(replace(BUSY, rate_bytes_per_s=4096000.0),)), 1)
    assert lost_guest_s(timeline(900, 500, 0.3), writes, moved=True) == 0.5
    idle = Guest("idle", WorkloadSpec(classes=(PageClass(name="cold", size_bytes=MIB),)), 1)
    assert lost_guest_s(timeline(0, 0, 0.3), idle, moved=True) == 0.3
    assert lost_guest_s(timeline(0, 0, 0.3), idle, moved=False) == 0.0


def test_the_ram_is_never_what_loses_writes_under_tcg() -> None:
    assert machine_ram_bytes(case()) % (256 << 10) != 0
