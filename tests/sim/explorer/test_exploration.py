"""The whole of the bounded space, the mutants, and the explorer's own judgement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.explorer.mutants import MUTANTS, Mutant
from whimbrel.engine.rules import Rule, ignored
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Guest, Owner, Phase
from whimbrel.engine.tables import TABLE
from whimbrel.sim.explorer.exploration import Exploration, Found, explore
from whimbrel.sim.explorer.explore import by_fault
from whimbrel.sim.explorer.protocol import Protocol
from whimbrel.sim.explorer.scenarios import BY_NAME, SCENARIOS, Scenario
from whimbrel.sim.explorer.world import Breach

P, S = Phase, Signal


def told(found: Found) -> str:
    """Every counterexample, for the one who reads a failed test."""
    return "\n".join("\n    ".join((f"{c.breach.name}: {c.why}", *c.trace)) for c in found.broken)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_a_fault_it_is_moved_or_called_off(scenario: Scenario) -> None:
    """No fault: the guest is moved, or the source keeps it; nothing is ever held, lost or unknown."""
    found = explore(replace(scenario, wishes=1), faults=0)
    assert not found.broken, told(found)
    assert found.whole
    good = {("completed", "destination"), ("cancelled", "source"), ("failed", "source")}
    assert {(end.phase, end.owner) for end in found.ends} <= good
    # Called off before the source was even looked at: nobody has asked how it stands.
    assert {end.guest for end in found.ends} <= {"running", "paused", "shut-down", "unconfirmed"}


@pytest.mark.parametrize("name", ["plain", "lock", "postcopy"])
def test_every_single_fault(name: str) -> None:
    """One fault anywhere: every invariant holds in every world."""
    found = explore(BY_NAME[name], faults=1)
    assert not found.broken, told(found)
    assert found.whole
    assert found.transitions > 20_000


MAY_END_OPEN = {"block-source", "block-destination"}
"""Single faults after which nobody can know all, or do what is needed: a monitor lost for good."""
MAY_LOSE_IT = {"kill-source", "kill-destination"}


@pytest.mark.parametrize("name", ["plain", "paused", "disks"])
def test_what_a_single_fault_may_lead_to(name: str) -> None:
    """A guest is lost only with the process that held it, and left open only if a monitor is lost for good.

    Unconfirmed besides: the migration ended before the source was even looked at, so nothing was done to it.
    """
    for fault, found in by_fault(BY_NAME[name]).items():
        assert not found.broken, told(found)
        guests = {end.guest for end in found.ends}
        assert ("lost" in guests) == (fault.value in MAY_LOSE_IT), fault
        assert ("held" in guests) == (fault.value in MAY_END_OPEN), fault


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_a_mistake_is_caught_by_the_invariant_that_is_there_for_it(mutant: Mutant) -> None:
    """The real protocol passes in that space, and the broken one breaks that invariant, and no other than it says."""
    whole = explore(mutant.space(), faults=mutant.bound)
    assert not whole.broken, told(whole)
    found = explore(mutant.space(), mutant.protocol(), faults=mutant.bound, most=10)
    assert {wrong.breach for wrong in found.broken} == {mutant.caught_by} | mutant.also, told(found)


def test_a_counterexample_is_the_shortest_way() -> None:
    """Breadth first: nobody has to read more steps than there must be."""
    rule = Rule(P.COMPLETED, owner=Owner.DESTINATION, guest=Guest.RUNNING, because="far too early")
    found = explore(BY_NAME["plain"], Protocol(TABLE | {(P.PREFLIGHT, S.INSPECT_DONE): (rule,)}), faults=1)
    (wrong,) = found.broken
    assert (wrong.breach, wrong.why) == (Breach.WRONG_END, "it runs at the side that is not the owner")
    assert [line.split("  ")[0] for line in wrong.trace] == ["carried out: inspect"]
    assert wrong.trace[0].endswith("completed/destination the guest: running")


def test_going_round_in_a_circle_is_found() -> None:
    """A deadline that only asks again, for ever."""
    table = TABLE | {(P.HANDOVER, S.DEADLINE): (Rule(rest=False, to=P.SWITCHOVER),)}
    table |= {(P.SWITCHOVER, S.DEADLINE): (Rule(to=P.HANDOVER),), (P.SWITCHOVER, S.QUIESCE_DONE): ignored("no")}
    found = explore(replace(BY_NAME["plain"], wishes=0), Protocol(table), faults=0)
    assert [(wrong.breach, wrong.why) for wrong in found.broken] == [(Breach.NO_END, "it goes round in a circle")]


def test_time_that_is_up_is_said() -> None:
    """A space that was not seen whole is not called whole."""
    seen: list[int] = []
    found = explore(BY_NAME["plain"], faults=2, seconds=0.2, progress=lambda so_far: seen.append(so_far.states))
    assert not found.whole
    assert found.states > 0
    assert seen == sorted(seen)


def test_the_way_to_an_end_can_be_told() -> None:
    """For each kind of end, its shortest trace."""
    exploration = Exploration(replace(BY_NAME["plain"], wishes=0), Protocol(), 0)
    found = exploration.run()
    (end,) = found.ends
    assert "completed/destination" in exploration.trace_to(end)[-1]
