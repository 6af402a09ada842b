"""What the options of ``whimbrel simulate`` mean: a plan, out of a scenario file or out of nothing but them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from whimbrel.curve_file import measured_guest, read_curve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.given import NOTHING_MORE, Allowed
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.guest_plan import guest_plan
from whimbrel.policies import resolve
from whimbrel.scenario_file import BadScenario, Finding, check, read
from whimbrel.scenario_writing import Plan
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario
from whimbrel.units import parse_duration, parse_rate, parse_size

__all__ = ["FROM_FILE", "FROM_OPTIONS", "Given", "plan_of"]

From = TypeVar("From")
To = TypeVar("To")

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
    allowed: Allowed = NOTHING_MORE
    policy: str | None = None
    seed: int | None = None


def plan_of(given: Given) -> Plan:
    """What is to be simulated; options go before the file.

    Raises:
        BadScenario: everything that is wrong with the file, or with what the options came to.
        BadInput: no scenario, curve or classes, or more than one of them; an option that can't be read.
    """
    reader = _Reader(given)
    plan = reader.plan()
    reader.refuse()
    check(plan.scenario)
    return plan


class _Reader:
    """Reads options; one that can't be read is noted, and the others are read all the same."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.wrong: list[BadInput] = []

    def refuse(self) -> None:
        """Raise what was found: a single finding as it is, several as one."""
        if len(self.wrong) == 1:
            raise self.wrong[0]
        if self.wrong:
            each_of = (each.findings if isinstance(each, BadScenario) else (_finding(each),) for each in self.wrong)
            raise BadScenario("options", itertools.chain.from_iterable(each_of))

    def plan(self) -> Plan:
        """All of it; to be trusted only if nothing is wrong."""
        given = self.given
        sources = {"SCENARIO": given.scenario, "curve": given.curve, "class": given.classes}
        named = [name for name, value in sources.items() if value]
        if len(named) != 1:
            raise BadInput("SCENARIO", ", ".join(named), "one of: a scenario file, --curve FILE, --class CLASS")
        if given.ram is not None and not given.classes:
            self.note(BadInput("ram", given.ram, f"nothing together with {named[0]}, which says it"))
        rate = self.bandwidth()
        plan = None if given.scenario is None else self.read(read, given.scenario)
        if plan is None:
            link = LinkPlan() if rate is None else LinkPlan(bandwidth_bytes_per_s=rate)
            plan = Plan(scenario=Scenario(guest=self.guest(), link=link))
            rate = None  # the link has it
        scenario = replace(plan.scenario, objectives=self.objectives(plan.scenario.objectives, rate))
        if given.policy is not None:
            self.read(resolve, given.policy)
            scenario = replace(scenario, policy=given.policy)
        return Plan(scenario=scenario, seed=plan.seed if given.seed is None else given.seed)

    def guest(self) -> GuestPlan:
        """A measured one, or the workload guest; an empty one where neither can be had."""
        given = self.given
        nothing = GuestPlan(ram_bytes=0)
        if given.curve is not None:
            return self.read(lambda file: measured_guest(read_curve(file)), given.curve) or nothing
        if not given.classes:
            return nothing
        spec = self.read(WorkloadSpec.parse, given.classes)
        ram_bytes = self.read(partial(parse_size, field="ram"), given.ram or DEFAULT_RAM)
        if spec is None or ram_bytes is None:
            return nothing
        return self.read(lambda of: guest_plan(of, ram_bytes), spec) or nothing

    def bandwidth(self) -> float | None:
        """Bytes per second; ``None``: not given, or not to be read."""
        if self.given.bandwidth is not None:
            return self.read(partial(parse_rate, field="bandwidth"), self.given.bandwidth)
        if self.given.scenario is None:
            allowed = "a rate such as 1Gbit/s: without a scenario file nothing else says it"
            self.note(BadInput("bandwidth", "", allowed))
        return None

    def objectives(self, goal: Objectives, rate: float | None) -> Objectives:
        """With a file the bandwidth is the most that may be sent; without, it was taken for the link's."""
        given = self.given
        if given.downtime is not None:
            downtime_s = self.read(partial(parse_duration, field="downtime"), given.downtime)
            goal = replace(goal, downtime_s=downtime_s or 0.0)
        if given.deadline is not None:
            goal = replace(goal, deadline_s=self.read(partial(parse_duration, field="deadline"), given.deadline))
        if rate is not None:
            goal = replace(goal, bandwidth_bytes_per_s=round(rate))
        return self.read(given.allowed.of, goal) or goal

    def read(self, how: Callable[[From], To], value: From) -> To | None:
        """What is read, or nothing and one finding more."""
        try:
            return how(value)
        except BadInput as error:
            self.note(error)
            return None

    def note(self, error: BadInput) -> None:
        """Something is wrong."""
        self.wrong.append(error)


def _finding(error: BadInput) -> Finding:
    return Finding("options", error.field, f"{error.given!r} is not allowed; allowed: {error.allowed}")
