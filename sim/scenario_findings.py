"""What is impossible about a scenario, all of it at once, by the names of its fields."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

from whimbrel.engine.negotiation import REQUIRED

from .guests.plan import findings as guest_findings
from .qemu import capabilities
from .qemu.contract import Costs, Version
from .qemu.errors import Refusal
from .scenario import LinkPlan, QemuPlan, Scenario

Path = tuple[str | int, ...]
"""Names of fields, and places in tuples."""

GREATEST_BYTES = 64 << 40
"""What x86-64 can address with 46 bits."""
GREATEST_RATE_BYTES_PER_S = 1e13
GREATEST_TIME_S = 1e6
"""Eleven days. In nanoseconds it is far from where a float loses whole ones."""
GREATEST_MIGRATIONS = 1000
GREATEST_THROTTLE = 0.99
LEAST_DOWNTIME_S, GREATEST_DOWNTIME_S = 0.001, 2000.0
"""QEMU's own range of ``downtime-limit``."""
TIME = f"0 to {GREATEST_TIME_S:g} s"
POSITIVE_TIME = f"more than 0, up to {GREATEST_TIME_S:g} s"
POSITIVE_RATE = f"more than 0, up to {GREATEST_RATE_BYTES_PER_S:g} bytes per second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that can't be simulated.

    Attributes:
        path: the field at which it is told.
        given: what is there.
        allowed: what would do.
        others: further fields that have to do with it.
    """

    path: Path
    given: object
    allowed: str
    others: tuple[Path, ...] = ()

    def __str__(self) -> str:
        """As ``link.outages[1]: (5.0, -1.0) is not allowed; allowed: ...``."""
        return f"{place(self.path)}: {self.given!r} is not allowed; allowed: {self.allowed}"


def place(path: Path) -> str:
    """A path for people: ``link.outages[1]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def findings(scenario: Scenario) -> list[str]:
    """Everything that is impossible about a scenario; each begins with its place, as ``link.bandwidth_bytes_per_s: ``.

    Whether its policy is known is not looked at: that is the business of whoever makes one of it.
    """
    return [*guest_findings(scenario.guest), *map(str, problems(scenario))]


def problems(scenario: Scenario) -> Iterator[Problem]:
    """All of it but what is wrong with the guest (`whimbrel.sim.guests.plan.findings`), in the order of the fields."""
    yield from _link(scenario.link)
    yield from _steps(scenario.link)
    yield from _outages(scenario.link)
    versions = list(_versions(scenario.qemu))
    yield from versions
    yield from _costs(scenario.qemu.costs)
    yield from _objectives(scenario)
    yield from _within(("migrations",), scenario.migrations, 1, GREATEST_MIGRATIONS)
    yield from _positive_time(("limit_s",), scenario.limit_s)
    yield from _postcopy(scenario)
    names = list(_names(scenario))
    yield from names
    if not versions and not names:
        yield from _together(scenario)


# ---- ranges


def _check(condition: bool, path: Path, given: object, allowed: str, *others: Path) -> Iterator[Problem]:
    if not condition:
        yield Problem(path=path, given=given, allowed=allowed, others=others)


def _within(path: Path, value: float, least: float, most: float) -> Iterator[Problem]:
    return _check(least <= value <= most, path, value, f"{least:g} to {most:g}")


def _time(path: Path, value_s: float) -> Iterator[Problem]:
    return _check(0 <= value_s <= GREATEST_TIME_S, path, value_s, TIME)


def _positive_time(path: Path, value_s: float) -> Iterator[Problem]:
    return _check(0 < value_s <= GREATEST_TIME_S, path, value_s, POSITIVE_TIME)


def _rate(path: Path, value: float) -> Iterator[Problem]:
    return _check(0 < value <= GREATEST_RATE_BYTES_PER_S, path, value, POSITIVE_RATE)


def _bytes(path: Path, value: float) -> Iterator[Problem]:
    return _check(0 <= value <= GREATEST_BYTES, path, value, f"0 to {GREATEST_BYTES} bytes")


# ---- the link


def _link(link: LinkPlan) -> Iterator[Problem]:
    yield from _rate(("link", "bandwidth_bytes_per_s"), link.bandwidth_bytes_per_s)
    yield from _time(("link", "latency_s"), link.latency_s)
    yield from _bytes(("link", "pipe_bytes"), link.pipe_bytes)
    yield from _check(0 <= link.noise < 1, ("link", "noise"), link.noise, "from 0, below 1")
    yield from _positive_time(("link", "noise_every_s"), link.noise_every_s)
    yield from _check(0 <= link.noise_memory < 1, ("link", "noise_memory"), link.noise_memory, "from 0, below 1")
    yield from _within(("link", "rivals"), link.rivals, 0, GREATEST_MIGRATIONS)


def _steps(link: LinkPlan) -> Iterator[Problem]:
    at: Path = ("link", "steps")
    for number, (at_s, rate) in enumerate(link.steps):
        yield from _time((*at, number, 0), at_s)
        yield from _rate((*at, number, 1), rate)
    for number, ((before_s, _), (at_s, _)) in enumerate(itertools.pairwise(link.steps), 1):
        allowed = f"later than the step before, at {before_s:g} s"
        yield from _check(at_s > before_s, (*at, number, 0), at_s, allowed, (*at, number - 1, 0))


def _outages(link: LinkPlan) -> Iterator[Problem]:
    at: Path = ("link", "outages")
    for number, (at_s, span_s) in enumerate(link.outages):
        yield from _time((*at, number, 0), at_s)
        yield from _positive_time((*at, number, 1), span_s)
    for number, ((before_s, span_s), (at_s, _)) in enumerate(itertools.pairwise(link.outages), 1):
        allowed = f"after the outage before, which ends at {before_s + span_s:g} s"
        others = ((*at, number - 1, 0), (*at, number - 1, 1))
        yield from _check(at_s > before_s + span_s, (*at, number, 0), at_s, allowed, *others)


# ---- QEMU and the objectives


def _versions(plan: QemuPlan) -> Iterator[Problem]:
    yield from _version(("qemu", "source"), plan.source)
    yield from _version(("qemu", "destination"), plan.destination)


def _version(path: Path, given: object) -> Iterator[Problem]:
    # The text "7.2" would compare equal to a version, and yet be taken for none of them.
    return _check(isinstance(given, Version), path, given, " or ".join(f"Version.{each.name}" for each in Version))


def _costs(costs: Costs) -> Iterator[Problem]:
    for each in fields(Costs):
        path, value = ("qemu", "costs", each.name), getattr(costs, each.name)
        if each.name.endswith("_bytes_per_s"):
            yield from _rate(path, value)
        elif each.name.endswith("_bytes"):
            yield from _bytes(path, value)
        else:
            yield from _time(path, value)


def _objectives(scenario: Scenario) -> Iterator[Problem]:
    goal, at = scenario.objectives, "objectives"
    fits = LEAST_DOWNTIME_S <= goal.downtime_s <= GREATEST_DOWNTIME_S
    allowed = f"{LEAST_DOWNTIME_S:g} to {GREATEST_DOWNTIME_S:g} s, QEMU's own range"
    yield from _check(fits, (at, "downtime_s"), goal.downtime_s, allowed)
    if goal.deadline_s is not None:
        yield from _positive_time((at, "deadline_s"), goal.deadline_s)
    if goal.bandwidth_bytes_per_s is not None:
        yield from _rate((at, "bandwidth_bytes_per_s"), goal.bandwidth_bytes_per_s)
    yield from _within((at, "greatest_throttle"), goal.greatest_throttle, 0, GREATEST_THROTTLE)


# ---- what is asked for besides


def _postcopy(scenario: Scenario) -> Iterator[Problem]:
    at_s, path = scenario.postcopy_at_s, ("postcopy_at_s",)
    if at_s is None:
        return
    yield from _time(path, at_s)
    called_off = 0 < scenario.limit_s <= at_s
    allowed = f"before it is called off, after {scenario.limit_s:g} s"
    yield from _check(not called_off, path, at_s, allowed, ("limit_s",))


def _names(scenario: Scenario) -> Iterator[Problem]:
    given: object = scenario.capabilities
    one_text = isinstance(given, str)
    yield from _check(not one_text, ("capabilities",), given, "a tuple of names; one alone is (name,)")
    if not one_text:
        for number, name in enumerate(scenario.capabilities):
            yield from _check(bool(name), ("capabilities", number), name, "a name")


def _together(scenario: Scenario) -> Iterator[Problem]:
    """What QEMU refuses as a whole, whatever the policy asks; what an end lacks is dropped before it is asked."""
    plan, asked = scenario.qemu, scenario.asked_capabilities
    both = set(capabilities.names(plan.source)) & set(capabilities.names(plan.destination))
    wanted = dict.fromkeys((*REQUIRED, *(name for name in asked if name in both)), True)
    others: tuple[Path, ...] = (("qemu", "kvm"), ("qemu", "source"), ("qemu", "destination"), ("postcopy_at_s",))
    for side, version in (("destination", plan.destination), ("source", plan.source)):
        around = capabilities.Surroundings(version=version, kvm_dirty_ring=plan.kvm, incoming=side == "destination")
        try:
            capabilities.combine({}, wanted, around)
        except Refusal as refusal:
            allowed = f"what the {side}, QEMU {version}, accepts: {refusal}"
            yield Problem(path=("capabilities",), given=asked, allowed=allowed, others=others)
