"""The scenarios: named once, and together they hold every fault, quirk and act."""

from __future__ import annotations

from dataclasses import fields

from whimbrel.sim.explorer.scenarios import BY_NAME, SCENARIOS, Act, Fault
from whimbrel.sim.explorer.world import Quirks


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    assert all(BY_NAME[scenario.name] is scenario for scenario in SCENARIOS)


def test_every_fault_act_and_quirk_is_explored_somewhere() -> None:
    assert frozenset().union(*(scenario.faults for scenario in SCENARIOS)) == frozenset(Fault)
    assert frozenset().union(*(scenario.may for scenario in SCENARIOS)) == frozenset(Act)
    for quirk in fields(Quirks):
        assert {getattr(scenario.quirks, quirk.name) for scenario in SCENARIOS} == {False, True}
    assert {scenario.paused for scenario in SCENARIOS} == {False, True}
    assert {scenario.postcopy for scenario in SCENARIOS} == {False, True}


def test_who_may_act_has_something_to_do() -> None:
    assert all(bool(scenario.may) == (scenario.acts > 0) for scenario in SCENARIOS)
