"""The world of two modelled QEMUs, told as every model's run is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from whimbrel.engine.policy import Objectives
from whimbrel.logbook import report_of
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate
from whimbrel.stepwise import drawn_by, run_stepwise

MIB = 1 << 20
SCENARIO = Scenario(
    guest=GuestPlan(
        ram_bytes=128 * MIB, writers=(Writer(name="hot", size_bytes=16 * MIB, rate_bytes_per_s=40.0 * MIB),)
    )
)


def test_a_run_tells_what_the_world_says() -> None:
    """The outage and the time are the truth, the iterations and decisions those of the manager's log."""
    outcome = simulate(SCENARIO, 3)
    run = run_stepwise(SCENARIO, 3)
    assert outcome.report is not None
    assert run.converged
    assert (run.seed, run.outcome, run.reason) == (3, "completed", "")
    assert (run.total_s, run.downtime_s) == (outcome.truth.moved_s, outcome.truth.outage_s)
    assert run.transferred_bytes == outcome.truth.transferred_bytes
    assert run.iterations == len(run.each_iteration) == len(outcome.report.iterations)
    assert [each.because for each in run.decisions] == [each["because"] for each in outcome.decisions]
    assert outcome.report.downtime is not None
    assert (
        sum(run.downtime.values()) == outcome.report.downtime.total_s
        or abs(sum(run.downtime.values()) - outcome.report.downtime.total_s) < 1e-6
    )


def test_the_course_is_in_order_and_ends_with_nothing_left() -> None:
    run = run_stepwise(SCENARIO, 3)
    times = [at_s for at_s, _ in run.remaining]
    assert times == sorted(times)
    assert times[0] >= 0
    assert run.remaining[0][1] == pytest.approx(128 * MIB, rel=0.01)
    assert run.remaining[-1][1] == 0.0
    assert [row.stopped for row in run.each_iteration] == [False] * (run.iterations - 1) + [True]
    assert run.each_iteration[0].downtime_limit_s == 0.02
    starts = [at_s for at_s, _ in run.sending]
    assert starts == sorted(starts)
    assert max(rate for _, rate in run.sending) < 2 * SCENARIO.link.bandwidth_bytes_per_s


def test_the_log_is_one_that_can_be_reported_again(tmp_path: Path) -> None:
    """And the same seed gives it byte for byte."""
    run = run_stepwise(SCENARIO, 3)
    log = tmp_path / "log"
    log.write_bytes(run.log)
    assert report_of(log).outcome == "completed"
    assert json.loads(run.log.splitlines()[0])["kind"] == "header"
    assert run_stepwise(SCENARIO, 3).log == run.log
    assert run_stepwise(SCENARIO, 4).log != run.log


def test_one_that_is_called_off_says_why() -> None:
    """Its iteration that was under way is seen in its course."""
    slow = replace(SCENARIO, link=LinkPlan(bandwidth_bytes_per_s=4e6), limit_s=5.0)
    run = run_stepwise(slow, 1)
    assert (run.converged, run.outcome, run.downtime_s) == (False, "cancelled", None)
    assert "too long" in run.reason
    assert run.total_s == pytest.approx(5.0, abs=0.2)
    assert run.remaining[-1][1] > 0


def test_several_over_one_link_are_told_beside_the_first() -> None:
    alone, shared = run_stepwise(SCENARIO, 1), run_stepwise(replace(SCENARIO, migrations=3), 1)
    assert alone.others == ()
    assert len(shared.others) == 2
    assert shared.total_s > 1.5 * alone.total_s
    assert all(each["converged"] for each in shared.others)
    assert [each["migration"] for each in shared.others] == [2, 3]
    assert "seed" not in shared.others[0]


def test_faults_are_drawn_from_the_seed_and_told() -> None:
    """Some runs end badly, each says so, and the same seed ends in the same way."""
    runs = [run_stepwise(replace(SCENARIO, faults=True), seed) for seed in range(1, 13)]
    assert any(run.drawn["faults"] for run in runs)
    assert {run.converged for run in runs} == {True, False}
    assert all(run.reason for run in runs if not run.converged)
    assert run_stepwise(replace(SCENARIO, faults=True), 3) == runs[2]
    assert "faults" not in run_stepwise(SCENARIO, 3).drawn


def test_what_a_seed_draws_is_known_before() -> None:
    chancy = replace(SCENARIO, faults=True, migrations=2)
    assert drawn_by(chancy, 3) == run_stepwise(chancy, 3).drawn


def test_the_threshold_is_that_of_each_look() -> None:
    """The downtime limit of the time, not of the iteration's end: lowered for the landing only at the end of it."""
    run = run_stepwise(SCENARIO, 3)
    times = [at_s for at_s, _ in run.threshold]
    assert times == sorted(times)
    assert times[0] > 0.1
    early = [value for at_s, value in run.threshold if at_s < 0.5]
    assert early == pytest.approx([0.02 * SCENARIO.link.bandwidth_bytes_per_s] * len(early), rel=0.2)


def test_just_before_each_sync_there_is_a_point() -> None:
    """As much as was left then; the sync's addition comes at the same time."""
    run = run_stepwise(SCENARIO, 3)
    for row in run.each_iteration[:-1]:
        assert (row.start_s + row.duration_s, row.left_bytes) in run.remaining


def test_capabilities_are_shown_with_the_decision_that_asked_for_them() -> None:
    """And what the report notes of them is noted."""
    asked = replace(SCENARIO, capabilities=("xbzrle", "nonsense"))
    run = run_stepwise(asked, 3)
    assert run.decisions[0].changes["capabilities"] == ["xbzrle"]
    assert any(note.startswith("nonsense dropped") for note in run.notes)
    assert "capabilities" not in run_stepwise(SCENARIO, 3).decisions[0].changes
    assert run_stepwise(SCENARIO, 3).notes == ()


def test_a_throttle_from_outside_is_shown_as_one_of_qemus(tmp_path: Path) -> None:
    """For every iteration in which it was in force, though ``query-migrate`` knows nothing of it."""
    (tmp_path / "p.py").write_text(
        "from whimbrel import Decision, Reason\n"
        "def brake(seen):\n"
        "    if seen.reason is Reason.SETUP:\n"
        "        return Decision(wake_after_s=2.5)\n"
        "    return Decision(outside_throttle=0.6 if 2.5 <= seen.elapsed_s < 5 else 0.0)\n"
    )
    heavy = replace(SCENARIO.guest.writers[0], size_bytes=64 * MIB, rate_bytes_per_s=300.0 * MIB)
    scenario = replace(
        SCENARIO,
        guest=replace(SCENARIO.guest, writers=(heavy,)),
        policy=f"{tmp_path / 'p.py'}:brake",
        objectives=replace(SCENARIO.objectives, greatest_throttle=0.9),
        limit_s=9.0,
    )
    run = run_stepwise(scenario, 3)
    assert run.throttle == 0.6
    slowed = [row.throttle for row in run.each_iteration]
    assert slowed[0] == slowed[-1] == 0.0
    assert 0.6 in slowed


def test_post_copy_is_told_to_its_end() -> None:
    """The guest moves soon after it is chosen, no iteration is one of standing still, and pages come on after it."""
    heavy = replace(SCENARIO.guest.writers[0], size_bytes=64 * MIB, rate_bytes_per_s=300.0 * MIB)
    scenario = replace(SCENARIO, guest=replace(SCENARIO.guest, writers=(heavy,)), postcopy_at_s=2.0)
    run = run_stepwise(scenario, 3)
    assert run.converged
    assert 2.0 < run.total_s < 2.2
    assert run.decisions[0].changes["capabilities"] == ["postcopy-ram"]
    assert not any(row.stopped for row in run.each_iteration)
    assert run.remaining[-1][0] > run.total_s + 0.2
    assert run.remaining[-1][1] == 0.0
    assert run.threshold[-1][0] < 2.2
    assert any(note.startswith("post-copy from 2") for note in run.notes)


def test_a_policy_is_found_by_what_the_user_wrote() -> None:
    """With parameters, and one for each run: what it remembers of one is not taken into the next."""
    scenario = replace(SCENARIO, policy="fixed:downtime_limit=50ms", objectives=Objectives(downtime_s=0.5))
    assert run_stepwise(scenario, 1).decisions[0].changes == {"downtime_limit_s": 0.05}


def test_without_numpy_only_pages_one_by_one_are_refused() -> None:
    """In an interpreter that has none."""
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from dataclasses import replace\n"
        "from whimbrel.engine.errors import BadInput\n"
        "from whimbrel.sim.scenario import GuestPlan, Scenario\n"
        "from whimbrel.simulating import simulate\n"
        "plain = Scenario(guest=GuestPlan(ram_bytes=1 << 24))\n"
        "print(simulate(plain, model='stepwise').first.converged)\n"
        "try:\n"
        "    simulate(replace(plain, guest=replace(plain.guest, pages=True)), model='stepwise')\n"
        "except BadInput as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    first, second = ran.stdout.splitlines()
    assert first == "True"
    assert "pip install 'whimbrel[sim]'" in second
