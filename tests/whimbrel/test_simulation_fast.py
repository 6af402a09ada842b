"""The model ``fast``: what a scenario is for the forecast, its course, and that nothing is passed over silently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from whimbrel.engine.policy import Objectives
from whimbrel.sim.qemu import capabilities
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer
from whimbrel.simulating import simulate
from whimbrel.simulation_fast import FAST_KNOWS, OF_NO_ACCOUNT, run_fast, setting_of
from whimbrel.stepwise import run_stepwise

MIB = 1 << 20
SMALL = Scenario(
    guest=GuestPlan(
        ram_bytes=256 * MIB,
        zero_bytes=64 * MIB,
        writers=(
            Writer(name="hot", size_bytes=16 * MIB, rate_bytes_per_s=20.0 * MIB, cpu_share=1.0),
            Writer(name="warm", size_bytes=64 * MIB, rate_bytes_per_s=10.0 * MIB, pattern=Pattern.ZIPF),
        ),
    ),
    policy="fixed",
)
ASKS = """
from whimbrel import Decision, Reason

def asks(seen, *, names="xbzrle"):
    if seen.reason is Reason.SETUP:
        wanted = [name for name in names.split("+") if name in seen.abilities.capabilities or name == "nonsense"]
        return Decision(capabilities=dict.fromkeys(wanted, True))
    return Decision()
"""


@pytest.fixture
def asks(tmp_path: Path) -> str:
    """A policy that asks for capabilities, as a user names it."""
    (tmp_path / "p.py").write_text(ASKS)
    return f"{tmp_path / 'p.py'}:asks"


def test_a_forecast_tells_its_whole_course() -> None:
    run = run_fast(SMALL, 1)
    assert run.each_iteration[0].to_send_bytes == 256 * MIB
    assert [row.stopped for row in run.each_iteration] == [False] * (run.iterations - 1) + [True]
    assert sum(run.downtime.values()) == pytest.approx(run.downtime_s)
    assert run.decisions[0].because == "held at 300 ms"
    times = [at_s for at_s, _ in run.remaining]
    assert times == sorted(times)
    assert run.remaining[0][1] == 256 * MIB
    assert run.remaining[-1][1] == 0.0
    assert sum(row.sent_bytes for row in run.each_iteration) == pytest.approx(run.transferred_bytes)


def test_a_setting_has_what_the_scenario_has() -> None:
    guest = replace(SMALL.guest, writers=(*SMALL.guest.writers[:1], replace(SMALL.guest.writers[1], vcpu=None)))
    setting = setting_of(replace(SMALL, guest=guest, link=LinkPlan(bandwidth_bytes_per_s=1e8, pipe_bytes=7)))
    assert (setting.total_bytes, setting.zero_bytes, setting.pipe_bytes) == (256 * MIB, 64 * MIB, 7)
    assert [each.cpu_share for each in setting.writers] == [1.0, None]
    assert [each.curve.at(1e6) for each in setting.writers] == pytest.approx([16 * MIB, 64 * MIB])
    assert setting.costs.load_s == Costs().load_s


def test_pages_that_stay_zero_are_zero_wherever_they_lie() -> None:
    """And those that do not are taken as full, which is noted."""
    empty = Writer(name="empty", size_bytes=32 * MIB, zero=True)
    guest = replace(SMALL.guest, writers=(*SMALL.guest.writers, empty))
    assert setting_of(replace(SMALL, guest=guest)).zero_bytes == 96 * MIB
    fresh = replace(guest, writers=(*SMALL.guest.writers, replace(empty, rate_bytes_per_s=1e6)))
    told = simulate(replace(SMALL, guest=fresh), model="fast")
    assert any("until they are written" in note for note in told.notes)


def test_the_threshold_follows_the_limit() -> None:
    """At each time the bandwidth of the iteration times the limit that stood; it spans all iterations but the last."""
    run = run_fast(replace(SMALL, policy="fixed:downtime_limit=50ms"), 1)
    rows = [row for row in run.each_iteration if not row.stopped]
    assert next(at_s for at_s, _ in run.threshold) == rows[0].start_s
    assert run.threshold[-1][0] == pytest.approx(rows[-1].start_s + rows[-1].duration_s)
    known = dict(run.threshold)
    for row in rows:
        assert known[row.start_s] == pytest.approx(0.05 * (row.bandwidth_bytes_per_s or 0.0))


POSTCOPY = """
from whimbrel import Decision, Reason

def goes(seen):
    if seen.reason is Reason.SETUP:
        return Decision(capabilities={"postcopy-ram": True}, wake_after_s=1.0)
    return Decision(start_postcopy=True)
"""


def test_post_copy_is_told_to_its_end(tmp_path: Path) -> None:
    """As by the other model: when the guest moves, no iteration of standing still, and pages that come on after it."""
    (tmp_path / "p.py").write_text(POSTCOPY)
    one = replace(
        SMALL,
        link=LinkPlan(bandwidth_bytes_per_s=50e6, pipe_bytes=100_000),
        policy=f"{tmp_path / 'p.py'}:goes",
        objectives=Objectives(may_postcopy=True),
    )
    fast, stepwise = run_fast(one, 1), run_stepwise(one, 1)
    for run in (fast, stepwise):
        assert run.converged
        assert 1.0 < run.total_s < 1.3
        assert not any(row.stopped for row in run.each_iteration)
        assert run.remaining[-1][0] > run.total_s + 1.0
        assert run.remaining[-1][1] == 0.0
        assert any(note.startswith("post-copy from 1") for note in run.notes)
    assert fast.remaining[-1][0] == pytest.approx(stepwise.remaining[-1][0], rel=0.05)


def test_what_only_kvm_has_is_not_offered_under_tcg() -> None:
    newer = QemuPlan(source=Version.V10_0, destination=Version.V10_0)
    assert "dirty-limit" not in setting_of(replace(SMALL, qemu=newer)).abilities.capabilities
    assert "dirty-limit" in setting_of(replace(SMALL, qemu=replace(newer, kvm=True))).abilities.capabilities
    far = setting_of(replace(SMALL, qemu=replace(newer, local=False))).abilities
    assert (far.outside_throttle, far.measuring) == (False, True)


# ---- what it does not know


def test_capabilities_that_a_policy_asks_for_are_not_passed_over_in_silence(asks: str) -> None:
    """Those that would change the figures, and those that there are not; the harmless ones are no news."""
    names = "xbzrle+multifd+postcopy-ram+nonsense"
    told = run_fast(replace(SMALL, policy=f"{asks}:names={names}"), 1)
    dropped, passed_over = told.notes
    assert dropped.startswith("nonsense dropped")
    assert passed_over.startswith("multifd, xbzrle asked for and passed over")
    assert run_fast(replace(SMALL, policy=f"{asks}:names=postcopy-ram+return-path"), 1).notes == ()


def test_a_capability_that_it_knows_is_heeded(asks: str) -> None:
    """Within the objectives, as it is by the other model: told among the changes, or as not allowed."""
    slow = replace(SMALL, link=LinkPlan(bandwidth_bytes_per_s=12e6), policy=f"{asks}:names=auto-converge", limit_s=60.0)
    allowed = replace(slow, objectives=Objectives(greatest_throttle=0.9))
    for run in (run_fast(allowed, 1), run_stepwise(allowed, 1)):
        assert run.decisions[0].changes["capabilities"] == ["auto-converge"]
        assert run.throttle > 0.15
        assert run.notes == ()
    for run in (run_fast(slow, 1), run_stepwise(slow, 1)):
        assert "capabilities" not in run.decisions[0].changes
        assert run.decisions[0].clamped
        assert run.throttle == 0.0


def test_the_scenarios_own_capabilities_are_asked_for_as_well() -> None:
    """Those of the scenario and of its policy."""
    slow = replace(SMALL, link=LinkPlan(bandwidth_bytes_per_s=12e6), limit_s=60.0, capabilities=("auto-converge",))
    assert run_fast(replace(slow, objectives=Objectives(greatest_throttle=0.9)), 1).throttle > 0.15
    assert simulate(replace(SMALL, capabilities=("return-path",)), model="fast").first.converged


def test_every_capability_was_thought_of() -> None:
    """A policy is told of those that both QEMUs have; each is known, or of no account, or noted."""
    mixed = setting_of(replace(SMALL, qemu=QemuPlan(source=Version.V11_1))).abilities
    assert "xbzrle" in mixed.capabilities
    assert "zero-blocks" not in mixed.capabilities
    assert "downtime-limit" in mixed.parameters
    every = {name for version in Version for name in capabilities.names(version)}
    assert every >= OF_NO_ACCOUNT | FAST_KNOWS
    assert not OF_NO_ACCOUNT & FAST_KNOWS
