"""What the options of ``whimbrel simulate`` mean: a plan, out of a scenario file or out of nothing but them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from whimbrel.curve_file import measured_guest, read_curve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.guest_plan import guest_plan
from whimbrel.policies import resolve
from whimbrel.scenario_file import check, read
from whimbrel.scenario_writing import Plan
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario
from whimbrel.units import parse_duration, parse_rate, parse_size

__all__ = ["FROM_FILE", "FROM_OPTIONS", "Given", "plan_of"]

FROM_FILE, FROM_OPTIONS = "stepwise", "fast"
"""The models by default."""
DEFAULT_RAM = "524224KiB"
"""As that of the demonstration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Options as they were typed; ``None``: not given."""

    scenario: Path | None = None
    curve: Path | None = None
    classes: tuple[str, ...] = ()
    ram: str | None = None
    bandwidth: str | None = None
    downtime: str | None = None
    deadline: str | None = None
    policy: str | None = None
    seed: int | None = None


def plan_of(given: Given) -> Plan:
    """What is to be simulated; options go before the file.

    Raises:
        BadScenario: everything that is wrong with the file, or with what the options came to.
        BadInput: no scenario, curve or classes, or more than one of them; an option that can't be read.
    """
    plan = _begun(given)
    scenario = replace(plan.scenario, objectives=_objectives(given, plan.scenario.objectives))
    if given.policy is not None:
        resolve(given.policy)
        scenario = replace(scenario, policy=given.policy)
    check(scenario)
    return Plan(scenario=scenario, seed=plan.seed if given.seed is None else given.seed)


def _begun(given: Given) -> Plan:
    """Guest and link."""
    sources = {"SCENARIO": given.scenario, "curve": given.curve, "class": given.classes}
    named = [name for name, value in sources.items() if value]
    if len(named) != 1:
        raise BadInput("SCENARIO", ", ".join(named), "one of: a scenario file, --curve FILE, --class CLASS")
    if given.ram is not None and not given.classes:
        raise BadInput("ram", given.ram, f"nothing together with {named[0]}, which says it")
    if given.scenario is not None:
        return read(given.scenario)
    if given.bandwidth is None:
        raise BadInput("bandwidth", "", "a rate such as 1Gbit/s: without a scenario file nothing else says it")
    link = LinkPlan(bandwidth_bytes_per_s=parse_rate(given.bandwidth, field="bandwidth"))
    return Plan(scenario=Scenario(guest=_guest(given), link=link))


def _guest(given: Given) -> GuestPlan:
    if given.curve is not None:
        return measured_guest(read_curve(given.curve))
    return guest_plan(WorkloadSpec.parse(given.classes), parse_size(given.ram or DEFAULT_RAM, field="ram"))


def _objectives(given: Given, goal: Objectives) -> Objectives:
    """With a file `bandwidth` is the most that may be sent; without, it was taken for the link's."""
    if given.downtime is not None:
        goal = replace(goal, downtime_s=parse_duration(given.downtime, field="downtime"))
    if given.deadline is not None:
        goal = replace(goal, deadline_s=parse_duration(given.deadline, field="deadline"))
    if given.bandwidth is not None and given.scenario is not None:
        goal = replace(goal, bandwidth_bytes_per_s=round(parse_rate(given.bandwidth, field="bandwidth")))
    return goal
