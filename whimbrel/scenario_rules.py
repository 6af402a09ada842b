"""What a scenario must keep to. Where it does not, every finding is given, by the keys that a scenario file has."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from whimbrel.sim import scenario_findings
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.qemu import capabilities
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, Scenario, Writer
from whimbrel.toml_places import Path
from whimbrel.units import format_duration

__all__ = ["WAYS", "Problem", "exact_size", "problems", "several_ways", "without_unit"]

WAYS = ("writer", "curve", "trace")
"""To say who writes: by one of these keys of the guest."""

GREATEST_RAM_BYTES = 64 << 40
"""What x86-64 can address with 46 bits; the tables of a model would fit no machine long before."""
GREATEST_RATE = 1e13
GREATEST_TIME_S = 1e6
"""Eleven days. In nanoseconds it is far from where a float loses whole ones."""
GREATEST_VCPUS = 4096
GREATEST_MIGRATIONS = 1000
GREATEST_SKEW = 4.0
GREATEST_THROTTLE = 0.99
ALL_OF_IT = 1 + 1e-9
"""All of a vCPU's time, with room for the sum of floats."""
LEAST_DOWNTIME_S, GREATEST_DOWNTIME_S = 0.001, 2000.0
"""QEMU's own range of ``downtime-limit``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that can't be simulated.

    Attributes:
        path: the key at which it is told.
        allowed: what would do.
        given: what was given, where that is more than the value of the key.
        others: further keys that have to do with it; where one of them could not be read, this is no finding yet.
    """

    path: Path
    allowed: str
    given: str | None = None
    others: tuple[Path, ...] = ()


def problems(scenario: Scenario) -> Iterator[Problem]:
    """All that is wrong with a scenario, in the order of its keys: by our own rules, then what the simulator adds."""
    told = list(_by_our_rules(scenario))
    yield from told
    for found in scenario_findings.problems(scenario):
        path = _keys(found.path)
        if all(each.path[: len(path)] != path and path[: len(each.path)] != each.path for each in told):
            given = ", ".join(scenario.asked_capabilities) if found.path == ("capabilities",) else None
            yield Problem(path=path, allowed=found.allowed, given=given, others=tuple(map(_keys, found.others)))


_OF_FIELDS: dict[Path, Path] = {
    ("capabilities",): ("qemu", "capabilities"),
    ("postcopy_at_s",): ("postcopy",),
    ("qemu", "kvm"): ("qemu", "accelerator"),
    ("objectives", "greatest_throttle"): ("objectives", "throttle"),
}
_OF_PAIRS = {"steps": ("at", "bandwidth"), "outages": ("at", "for")}


def _keys(path: Path) -> Path:
    """The keys of a file for the fields of the records."""
    for fields_, keys in _OF_FIELDS.items():
        if path[: len(fields_)] == fields_:
            return (*keys, *path[len(fields_) :])
    match path:
        case ("link", "steps" | "outages" as name, int() as number, int() as part):
            return ("link", name, number, _OF_PAIRS[name][part])
        case _:
            return tuple(without_unit(each) if isinstance(each, str) else each for each in path)


def _by_our_rules(scenario: Scenario) -> Iterator[Problem]:
    yield from _within(("migrations",), scenario.migrations, 1, GREATEST_MIGRATIONS)
    yield from _time(("limit",), scenario.limit_s, positive=True)
    yield from _guest(scenario.guest)
    for number, writer in enumerate(scenario.guest.writers):
        yield from _writer(("guest", "writer", number), writer, scenario.guest)
    yield from _writers_together(scenario.guest)
    yield from _curve(scenario.guest)
    yield from _link(scenario.link)
    yield from _schedule(scenario.link)
    yield from _capabilities(scenario)
    yield from _costs(scenario.qemu.costs)
    yield from _objectives(scenario)


# ---- ranges


def _check(condition: bool, path: Path, allowed: str, given: str | None = None, *others: Path) -> Iterator[Problem]:
    if not condition:
        yield Problem(path=path, allowed=allowed, given=given, others=others)


def _within(path: Path, value: float, least: float, most: float) -> Iterator[Problem]:
    yield from _check(least <= value <= most, path, f"{least:g} to {most:g}")


def _time(path: Path, value_s: float, *, positive: bool = False) -> Iterator[Problem]:
    fits = 0 <= value_s <= GREATEST_TIME_S and (value_s > 0 or not positive)
    least = "more than 0" if positive else "0"
    yield from _check(fits, path, f"{least} up to {GREATEST_TIME_S:g} s")


def _rate(path: Path, value: float, *, positive: bool = False) -> Iterator[Problem]:
    fits = 0 <= value <= GREATEST_RATE and (value > 0 or not positive)
    yield from _check(fits, path, f"{'more than 0' if positive else '0'} up to 10TB/s")


def _pages(path: Path, value_bytes: int, *, least: int) -> Iterator[Problem]:
    fits = least <= value_bytes <= GREATEST_RAM_BYTES and value_bytes % PAGE_BYTES == 0
    yield from _check(fits, path, f"whole pages, multiples of {PAGE_BYTES} bytes, from {least} up to 64TiB")


def _part(path: Path, value: float, *, open_below: bool = False, open_above: bool = False) -> Iterator[Problem]:
    fits = (value > 0 if open_below else value >= 0) and (value < 1 if open_above else value <= 1)
    words = f"{'above' if open_below else 'from'} 0%, {'below' if open_above else 'at most'} 100%"
    yield from _check(fits, path, words)


# ---- the guest


def _guest(guest: GuestPlan) -> Iterator[Problem]:
    at = ("guest",)
    yield from _pages((*at, "ram"), guest.ram_bytes, least=PAGE_BYTES)
    yield from _pages((*at, "zero"), guest.zero_bytes, least=0)
    yield from _within((*at, "vcpus"), guest.vcpus, 1, GREATEST_VCPUS)
    used = (bool(guest.writers), bool(guest.curve), guest.trace is not None)
    yield from several_ways(list(itertools.compress(WAYS, used)))
    yield from _check(
        guest.zero_bytes < guest.ram_bytes or not (guest.curve or guest.trace),
        (*at, "zero"),
        "less than all RAM, where something is written",
        None,
        (*at, "ram"),
    )


def several_ways(named: Sequence[str]) -> Iterator[Problem]:
    """The finding, if these of `WAYS` are more than one."""
    if len(named) > 1:
        given = f"{' and '.join(named)} together"
        yield Problem(path=("guest", named[-1]), allowed="one of writer, curve and trace", given=given)


def _writer(at: Path, writer: Writer, guest: GuestPlan) -> Iterator[Problem]:
    yield from _check(bool(writer.name), (*at, "name"), "a name")
    yield from _pages((*at, "size"), writer.size_bytes, least=PAGE_BYTES)
    yield from _rate((*at, "rate"), writer.rate_bytes_per_s)
    yield from _within((*at, "skew"), writer.skew, 0, GREATEST_SKEW)
    yield from _part((*at, "share"), writer.share, open_below=True, open_above=True)
    yield from _part((*at, "part"), writer.part, open_below=True, open_above=True)
    yield from _time((*at, "period"), writer.period_s)
    yield from _part((*at, "duty"), writer.duty, open_below=True)
    yield from _time((*at, "shift"), writer.shift_s)
    yield from _within((*at, "delta"), writer.delta_bytes, 1, PAGE_BYTES)
    yield from _part((*at, "ratio"), writer.compressed_ratio, open_below=True)
    yield from _part((*at, "cpu_share"), writer.cpu_share)
    yield from _relevance(at, writer)
    if writer.vcpu is not None and guest.vcpus >= 1:
        last = guest.vcpus - 1
        allowed = f"0 to {last}: the guest has {guest.vcpus} vCPU{'s' if last else ''}"
        yield from _check(0 <= writer.vcpu <= last, (*at, "vcpu"), allowed, None, ("guest", "vcpus"))


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(Writer)}


def _relevance(at: Path, writer: Writer) -> Iterator[Problem]:
    """What would have no effect is refused: silence would let a user believe that it had one."""
    of_pattern = {"skew": Pattern.ZIPF, "share": Pattern.HOTSPOT, "part": Pattern.HOTSPOT}
    for key, pattern in of_pattern.items():
        fits = writer.pattern is pattern or getattr(writer, key) == _DEFAULTS[key]
        yield from _check(fits, (*at, key), f'only with pattern = "{pattern}"', None, (*at, "pattern"))
    for key, name in (("duty", "duty"), ("shift", "shift_s")):
        fits = writer.period_s > 0 or getattr(writer, name) == _DEFAULTS[name]
        yield from _check(fits, (*at, key), "only with a period", None, (*at, "period"))
    yield from _check(
        writer.vcpu is not None or writer.cpu_share == 0, (*at, "cpu_share"), "nothing where dma = true: no vCPU writes"
    )


def _writers_together(guest: GuestPlan) -> Iterator[Problem]:
    at = ("guest", "writer")
    names = Counter(writer.name for writer in guest.writers)
    seen: set[str] = set()
    for number, writer in enumerate(guest.writers):
        if writer.name in seen and names[writer.name] > 1:
            yield Problem(path=(*at, number, "name"), allowed="a different name for each writer")
        seen.add(writer.name)
    sizes = [writer.size_bytes for writer in guest.writers]
    sum_bytes = sum(sizes) + guest.zero_bytes  # what could not be read is 0: it is the least that it takes
    if guest.writers or guest.zero_bytes:
        yield from _check(
            sum_bytes <= guest.ram_bytes,
            ("guest", "ram"),
            f"at least {exact_size(sum_bytes)}: all writers and zero pages together",
            f"{exact_size(guest.ram_bytes)} of RAM",
        )
    yield from _processor_time(guest.writers)


def _processor_time(writers: Iterable[Writer]) -> Iterator[Problem]:
    """No vCPU has more than all of its time to give."""
    needed: dict[int, float] = {}
    parts: dict[int, list[Path]] = {}
    for number, writer in enumerate(writers):
        if writer.vcpu is None or not writer.cpu_share:
            continue
        path, others = ("guest", "writer", number, "cpu_share"), parts.setdefault(writer.vcpu, [])
        before = needed.get(writer.vcpu, 0.0)
        after = needed[writer.vcpu] = before + writer.cpu_share
        if before <= ALL_OF_IT < after and others:
            given = f"{after:.0%} of vCPU {writer.vcpu} with this one"
            yield Problem(path=path, allowed="100% in all for one vCPU", given=given, others=tuple(others))
        others.append(path)


def _curve(guest: GuestPlan) -> Iterator[Problem]:
    at = ("guest", "curve")
    if not guest.curve:
        return
    yield from _check(len(guest.curve) >= 2, (*at, "windows"), "two windows or more", f"{len(guest.curve)} window")
    before_s = before_bytes = 0.0
    for number, (window_s, dirty_bytes) in enumerate(guest.curve):
        path = (*at, "windows", number)
        longer = f"longer than the window before, of {format_duration(before_s)}"
        yield from _time(path, window_s, positive=True)
        yield from _check(window_s > before_s or window_s <= 0, path, longer)
        before_s = window_s
        fewer = f"no fewer than in the shorter window before, {before_bytes:.0f}B"
        yield from _check(dirty_bytes >= before_bytes, (*at, "dirty", number), fewer)
        before_bytes = dirty_bytes
        most = guest.ram_bytes - guest.zero_bytes
        yield from _check(
            0 <= dirty_bytes <= most,
            (*at, "dirty", number),
            f"0 to {exact_size(max(most, 0))}, the RAM that is not zero",
            None,
            ("guest", "ram"),
            ("guest", "zero"),
        )


# ---- the link


def _link(link: LinkPlan) -> Iterator[Problem]:
    at = ("link",)
    yield from _rate((*at, "bandwidth"), link.bandwidth_bytes_per_s, positive=True)
    yield from _time((*at, "latency"), link.latency_s)
    yield from _check(0 <= link.pipe_bytes <= GREATEST_RAM_BYTES, (*at, "pipe"), "0 up to 64TiB")
    yield from _part((*at, "noise"), link.noise, open_above=True)
    yield from _time((*at, "noise_every"), link.noise_every_s, positive=True)
    yield from _part((*at, "noise_memory"), link.noise_memory, open_above=True)
    yield from _within((*at, "rivals"), link.rivals, 0, GREATEST_MIGRATIONS)
    plain = LinkPlan()
    for key, same in (
        ("noise_every", link.noise_every_s == plain.noise_every_s),
        ("noise_memory", link.noise_memory == plain.noise_memory),
    ):
        yield from _check(link.noise > 0 or same, (*at, key), "only with noise", None, (*at, "noise"))


def _schedule(link: LinkPlan) -> Iterator[Problem]:
    for number, (at_s, rate) in enumerate(link.steps):
        path: Path = ("link", "steps", number)
        yield from _time((*path, "at"), at_s)
        yield from _rate((*path, "bandwidth"), rate, positive=True)
    for number, (one, other) in enumerate(itertools.pairwise(link.steps), 1):
        path = ("link", "steps", number, "at")
        allowed = f"later than the step before, at {format_duration(one[0])}"
        yield from _check(other[0] > one[0], path, allowed, None, ("link", "steps", number - 1, "at"))
    for number, (at_s, for_s) in enumerate(link.outages):
        path = ("link", "outages", number)
        yield from _time((*path, "at"), at_s)
        yield from _time((*path, "for"), for_s, positive=True)
    for number, (one, other) in enumerate(itertools.pairwise(link.outages), 1):
        path, before = ("link", "outages", number, "at"), ("link", "outages", number - 1)
        allowed = f"after the outage before, which ends at {format_duration(one[0] + one[1])}"
        fits = other[0] > one[0] + one[1]
        yield from _check(fits, path, allowed, None, (*before, "at"), (*before, "for"))


# ---- QEMU and the objectives


def _capabilities(scenario: Scenario) -> Iterator[Problem]:
    """QEMU would drop what one end lacks: it would have no effect."""
    ends = (scenario.qemu.source, scenario.qemu.destination)
    both = [name for name in capabilities.names(ends[0]) if name in capabilities.names(ends[1])]
    for number, name in enumerate(scenario.capabilities):
        path, ends_ = ("qemu", "capabilities", number), (("qemu", "source"), ("qemu", "destination"))
        known = any(name in capabilities.names(version) for version in Version)
        near = [] if known else difflib.get_close_matches(name, both, n=1, cutoff=0.6)
        guess = f"; did you mean {near[0]}?" if near else ""
        yield from _check(name in both, path, f"what both QEMUs have: {', '.join(both)}{guess}", repr(name), *ends_)


def _costs(costs: Costs) -> Iterator[Problem]:
    at = ("qemu", "costs")
    for each in fields(Costs):
        path, value = (*at, without_unit(each.name)), getattr(costs, each.name)
        if each.name.endswith("_bytes_per_s"):
            yield from _rate(path, value, positive=True)
        elif each.name.endswith("_bytes"):
            yield from _check(0 <= value <= GREATEST_RAM_BYTES, path, "0 up to 64TiB")
        else:
            yield from _time(path, value)


def _objectives(scenario: Scenario) -> Iterator[Problem]:
    at, goal = ("objectives",), scenario.objectives
    fits = LEAST_DOWNTIME_S <= goal.downtime_s <= GREATEST_DOWNTIME_S
    yield from _check(fits, (*at, "downtime"), "1ms to 2000s, QEMU's own range")
    if goal.deadline_s is not None:
        yield from _time((*at, "deadline"), goal.deadline_s, positive=True)
    if goal.bandwidth_bytes_per_s is not None:
        yield from _rate((*at, "bandwidth"), goal.bandwidth_bytes_per_s, positive=True)
    fits = 0 <= goal.greatest_throttle <= GREATEST_THROTTLE
    yield from _check(fits, (*at, "throttle"), f"from 0%, at most {GREATEST_THROTTLE:.0%}")


def without_unit(name: str) -> str:
    """The key of a field: ``sync_s_per_page`` is ``sync_per_page``, and ``cpu_bytes_per_s`` is ``cpu``."""
    return re.sub(r"_s(?=_per_)|_bytes_per_s$|_bytes$|_s$", "", name)


def exact_size(size_bytes: int) -> str:
    """A size that nobody takes for another one: in the largest unit of which it is a whole number."""
    binary = ((f"{prefix}iB", 1 << power) for prefix, power in (("T", 40), ("G", 30), ("M", 20), ("K", 10)))
    for unit, factor in (*binary, ("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return f"{size_bytes}B"
