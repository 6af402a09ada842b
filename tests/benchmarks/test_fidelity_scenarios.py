"""From what was known before a migration to a scenario."""

from __future__ import annotations

import pytest

from benchmarks.fidelity import scenarios
from benchmarks.fidelity.records import Run, load_calibration, load_runs
from whimbrel.engine.policy import Objectives
from whimbrel.guest.spec import PAGE_BYTES
from whimbrel.sim.guests.plan import expected_curve, findings

RUNS = load_runs()
CALIBRATION = load_calibration()


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.known.case)
def test_all_memory_is_accounted_for_page_by_page(run: Run) -> None:
    plan = scenarios.guest_plan(run.known, CALIBRATION, pages=True)
    assert findings(plan) == []
    written = sum(writer.size_bytes for writer in plan.writers)
    assert written + plan.zero_bytes == plan.ram_bytes == run.known.ram_bytes + CALIBRATION.extra_bytes
    # What QEMU sent as zero pages in the first pass, it sent never again but for a page or two.
    assert plan.zero_bytes / PAGE_BYTES == pytest.approx(run.outcome.duplicate_pages, abs=8)


@pytest.mark.parametrize("window_s", [0.05, 0.5, 5.0])
def test_the_curve_is_the_guests_own(window_s: float) -> None:
    for run in RUNS:
        plan = scenarios.guest_plan(run.known, CALIBRATION, pages=False)
        simulated = expected_curve(plan).dirty_bytes(window_s)
        assert simulated == pytest.approx(scenarios.spec_of(run.known).dirtied_bytes(window_s), rel=2e-3)


def test_link_limits_and_policy_are_those_on_record() -> None:
    known = RUNS[0].known
    scenario = scenarios.scenario_of(known, CALIBRATION, pages=False)
    assert scenario.link.bandwidth_bytes_per_s == known.goodput_bytes_per_s
    assert scenario.link.pipe_bytes == known.pipe_bytes
    assert scenario.objectives == Objectives(downtime_s=known.limit_s)
    assert (scenario.policy, scenario.limit_s) == (known.policy, known.cut_off_s)


def test_the_first_sync_is_part_of_the_setup() -> None:
    costs = scenarios.costs_of(RUNS[0].known, CALIBRATION)
    alone_s = CALIBRATION.constants["setup_sync_s_per_page"] * RUNS[0].known.ram_bytes / PAGE_BYTES
    assert costs.setup_s == pytest.approx(CALIBRATION.constants["setup_s"] + alone_s)
    assert costs.start_stall_s == 0.0
    assert costs.sync_s_per_dirty_page == CALIBRATION.constants["sync_s_per_dirty_page"]
