"""The records of a scenario."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from whimbrel.sim.scenario import GuestPlan, Pattern, Scenario, Writer


def test_scenarios_are_values() -> None:
    """Equal ones are equal, can be told from others, kept in a set, and are never changed in place."""
    one = Scenario(guest=GuestPlan(ram_bytes=1 << 28, writers=(Writer(name="a", size_bytes=4096),)))
    same = Scenario(guest=GuestPlan(ram_bytes=1 << 28, writers=(Writer(name="a", size_bytes=4096),)))
    assert one == same
    assert len({one, same, replace(one, migrations=2)}) == 2
    with pytest.raises(FrozenInstanceError):
        one.migrations = 3  # type: ignore[misc]


def test_patterns_are_called_as_the_workload_guest_calls_them() -> None:
    assert [str(pattern) for pattern in Pattern] == ["uniform", "sweep", "zipf", "hotspot", "poisson"]
