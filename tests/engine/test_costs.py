"""What QEMU's steps cost."""

from __future__ import annotations

from dataclasses import asdict

from whimbrel.engine.costs import Costs
from whimbrel.engine.forecast_records import Setting
from whimbrel.sim.scenario import QemuPlan


def test_the_defaults_are_costs() -> None:
    """Times, sizes and rates: none below zero, and a sender that sends."""
    assert all(cost >= 0 for cost in asdict(Costs()).values())
    assert Costs().cpu_bytes_per_s > 0


def test_the_fast_path_and_the_simulator_speak_of_the_same_costs() -> None:
    """So that what was measured once goes into either as it is."""
    assert QemuPlan().costs == Costs()
    assert Setting.__dataclass_fields__["costs"].default_factory is Costs or (
        Setting.__dataclass_fields__["costs"].default == Costs()
    )
