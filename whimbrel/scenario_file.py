"""A scenario as a small TOML file, with people's units: read; `whimbrel.scenario_writing` writes one.

What is wrong with a file is told all at once, each finding with its line and its key.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, cast

from whimbrel.curve_file import measured_guest, read_curve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.policies import resolve
from whimbrel.scenario_keys import (
    COSTS,
    CURVE,
    GUEST,
    LINK,
    OBJECTIVES,
    OUTAGE,
    QEMU,
    STEP,
    TOP,
    WRITER,
    Key,
)
from whimbrel.scenario_rules import WAYS, Problem, exact_size, problems, several_ways
from whimbrel.scenario_writing import Plan
from whimbrel.sim.guests.trace import read_trace
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.qemu.contract import Costs
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.toml_places import Path, Places, places, written

__all__ = ["BadScenario", "Finding", "check", "loads", "read"]

GREATEST_FILE_BYTES = 1 << 20
"""A scenario is some lines; whoever gives a device or a log is told so, and does not wait."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and its place.

    Attributes:
        place: ``FILE:LINE``, or the name of what was read.
        key: the path of the key, elements counted from 1; empty: the whole file.
        text: the rest of the sentence: what was given and what is allowed.
    """

    place: str
    key: str
    text: str

    def __str__(self) -> str:
        """One sentence."""
        return ": ".join(part for part in (self.place, self.key, self.text) if part)


class BadScenario(BadInput):
    """A scenario that can't be simulated.

    Attributes:
        findings: everything that is wrong with it, in the order of the file.
    """

    def __init__(self, name: str, findings: Iterable[Finding]) -> None:
        """All that is wrong with what has this name."""
        self.findings = tuple(findings)
        super().__init__("scenario", name, "; ".join(map(str, self.findings)))

    def __str__(self) -> str:
        """The only finding in one line, or several, a line each."""
        if len(self.findings) == 1:
            return str(self.findings[0])
        return "\n  ".join([f"{self.given}: {len(self.findings)} findings", *map(str, self.findings)])


def read(path: FilePath) -> Plan:
    """Read a scenario file; what it names besides (a curve, a trace) is looked for beside it.

    Raises:
        BadScenario: everything that is wrong with it.
        BadInput: there is no such file, or it is none that could be a scenario.
    """
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise BadInput("scenario", str(path), "a file that can be read")
    if os.path.getsize(path) > GREATEST_FILE_BYTES:
        raise BadInput("scenario", str(path), f"a file of at most {GREATEST_FILE_BYTES} bytes")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BadInput("scenario", str(path), f"text in UTF-8 ({error.reason} at byte {error.start})") from None
    return loads(text, name=str(path), folder=path.parent)


def loads(text: str, *, name: str = "scenario", folder: FilePath = FilePath()) -> Plan:
    """Read a scenario from text.

    Args:
        text: TOML.
        name: of the file, for the findings.
        folder: where files that it names are looked for.

    Raises:
        BadScenario: everything that is wrong with it.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadScenario(name, [_syntax(name, str(error))]) from None
    except RecursionError:
        raise BadScenario(name, [Finding(name, "", "it is nested too deeply to be read")]) from None
    reader = _Reader(name, folder, table, places(text))
    plan = reader.plan()
    if reader.findings:
        raise BadScenario(name, reader.in_order())
    return plan


def check(scenario: Scenario, name: str = "options") -> None:
    """See that a scenario that was made in another way can be simulated.

    Raises:
        BadScenario: everything that is wrong with it.
    """
    found = [Finding(name, written(each.path), _sentence(each, each.given)) for each in problems(scenario)]
    if found:
        raise BadScenario(name, found)


def _syntax(name: str, message: str) -> Finding:
    """The reader's own words, with the place where a place belongs."""
    words, _, where = message.removesuffix(")").rpartition(" (at ")
    digits = "".join(letter for letter in where.partition(",")[0] if letter.isdigit())
    return Finding(f"{name}:{digits}" if digits else name, "", f"this is no TOML: {words or message}")


def _sentence(problem: Problem, given: str | None) -> str:
    return f"{given} is not allowed; allowed: {problem.allowed}" if given else f"allowed: {problem.allowed}"


class _Reader:
    """Reads one file; what can't be read is noted, left at its default, and not judged any further."""

    def __init__(self, name: str, folder: FilePath, table: Mapping[str, Any], lines: Places) -> None:
        """For a file that has been parsed."""
        self.name, self.folder, self.table, self.lines = name, folder, table, lines
        self.findings: list[tuple[int, int, Finding]] = []
        self.bad: set[Path] = set()

    def plan(self) -> Plan:
        """All of it; to be trusted only if there are no findings."""
        top = self.record(TOP, self.table, (), {"guest", "link", "qemu", "objectives"})
        seed = top.pop("seed", 1)
        if "policy" in top:
            top["policy"] = self.policy(top["policy"])
        qemu, asked = self.qemu()
        scenario = Scenario(
            guest=self.guest(),
            link=self.link(),
            qemu=qemu,
            capabilities=asked,
            objectives=Objectives(**self.record(OBJECTIVES, self.sub(("objectives",)), ("objectives",))),
            **top,
        )
        self.ways()
        unread = frozenset(self.bad)
        for problem in problems(scenario):
            if not any(_touches(path, unread) for path in (problem.path, *problem.others)):
                given = problem.given or self.shown(problem.path)
                self.note(problem.path, _sentence(problem, given))
        return Plan(scenario=scenario, seed=seed)

    def in_order(self) -> list[Finding]:
        """The findings by line."""
        return [finding for _, _, finding in sorted(self.findings, key=lambda each: each[:2])]

    # ---- sections

    def guest(self) -> GuestPlan:
        at: Path = ("guest",)
        table = self.sub(at)
        known = self.record(GUEST, table, at, {"writer", "curve"})
        writers: list[Writer] = []
        for number, each in enumerate(self.tables((*at, "writer"), "[[guest.writer]]")):
            writers.append(self.writer(each, (*at, "writer", number)))
        if "curve" in table:
            measured = self.curve((*at, "curve"))
            known["curve"] = measured.curve
            if measured.ram_bytes:  # it comes from a file of its own
                known.setdefault("ram_bytes", measured.ram_bytes)
                known.setdefault("zero_bytes", measured.zero_bytes)
        if "ram_bytes" not in known:
            if "ram" not in table:
                self.missing(at, "ram")
            known["ram_bytes"] = 0
        if known.get("trace"):
            known["trace"] = str(self.folder / known["trace"])
        plan = GuestPlan(writers=tuple(writers), **known)
        if plan.trace is not None:
            self.trace((*at, "trace"), FilePath(plan.trace), plan.ram_bytes - plan.zero_bytes)
        return plan

    def writer(self, table: Mapping[str, Any], at: Path) -> Writer:
        known = self.record(WRITER, table, at)
        if "rate" in table and "writes" in table:
            self.note((*at, "writes"), "rate is given, too; allowed: one of rate and writes")
        if known.pop("dma", False):
            if "vcpu" in table:
                self.note((*at, "vcpu"), "dma = true is given, too; allowed: one of vcpu and dma, for one writer")
            known["vcpu"] = None
        if "writes" in known:
            known["rate_bytes_per_s"] = known.pop("writes")
        known.setdefault("name", "")
        known.setdefault("size_bytes", 0)
        return Writer(**known)

    def curve(self, at: Path) -> GuestPlan:
        """The measured curve; with RAM and zero pages where they come with it."""
        table = self.sub(at)
        known = self.record(CURVE, table, at)
        if "file" in table:
            for key in ("windows", "dirty"):
                if key in table:
                    self.note((*at, key), "file is given, too; allowed: a file, or windows and dirty")
            return self.curve_of((*at, "file"), known.get("file"))
        if not table:
            self.note(at, "nothing is given; allowed: windows and dirty, or file")
        for key, other in (("windows", "dirty"), ("dirty", "windows")):
            if key not in table and other in table:
                self.missing(at, key)
        windows, dirty = known.get("windows", ()), known.get("dirty", ())
        if len(windows) != len(dirty) or not windows:
            if windows and dirty:
                sizes = "1 size is" if len(dirty) == 1 else f"{len(dirty)} sizes are"
                self.note((*at, "dirty"), f"{sizes} not allowed; allowed: {len(windows)}, one for each window")
            self.bad |= {(*at, "windows"), (*at, "dirty")}
        return GuestPlan(ram_bytes=0, curve=tuple(zip(windows, dirty, strict=False)))

    def curve_of(self, path: Path, file: str | None) -> GuestPlan:
        """The curve in a file of its own."""
        if file is None:
            return GuestPlan(ram_bytes=0)
        try:
            return measured_guest(read_curve(self.folder / file))
        except BadInput as error:
            words = error.allowed if error.field == "curve" else f"a curve that is right ({error})"
            self.note(path, f"{file!r} is not allowed; allowed: {words}")
            return GuestPlan(ram_bytes=0)

    def link(self) -> LinkPlan:
        at: Path = ("link",)
        known = self.record(LINK, self.sub(at), at, {"steps", "outages"})
        for name, keys in (("steps", STEP), ("outages", OUTAGE)):
            pairs: list[tuple[float, float]] = []
            for number, each in enumerate(self.tables((*at, name), f"{name} = [{{ at = ... }}, ...]")):
                first, second = self.record(keys, each, (*at, name, number)), [key.field for key in keys.values()]
                pairs.append((first.get(second[0], 0.0), first.get(second[1], 0.0)))
            known[name] = tuple(pairs)
        return LinkPlan(**known)

    def qemu(self) -> tuple[QemuPlan, tuple[str, ...]]:
        """Both QEMUs, and the capabilities that are asked for."""
        at: Path = ("qemu",)
        known = self.record(QEMU, self.sub(at), at, {"costs"})
        asked: tuple[str, ...] = known.pop("capabilities", ())
        costs = Costs(**self.record(COSTS, self.sub((*at, "costs")), (*at, "costs")))
        return QemuPlan(costs=costs, **known), asked

    def policy(self, text: str) -> str:
        """As it is found from here: a policy's file is looked for beside the scenario, too."""
        if text.partition(":")[0].endswith(".py"):
            text = str(self.folder / text)
        try:
            resolve(text)
        except BadInput as error:
            self.refuse(("policy",), error)
        return text

    def ways(self) -> None:
        """Of the ways to say who writes there is one, also where none of them could be read."""
        table = self.sub(("guest",))
        for problem in several_ways([key for key in WAYS if key in table]):
            bad = set(self.bad)
            self.note(problem.path, _sentence(problem, problem.given))
            self.bad = bad  # what else is wrong with it is told as well

    # ---- values

    def record(
        self,
        keys: Mapping[str, Key],
        table: Mapping[str, Any],
        at: Path,
        tables: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The values of a table by field; what is unknown, missing or unreadable is noted."""
        known = {*keys, *tables}
        found: dict[str, Any] = {}
        for name, value in table.items():
            path = (*at, name)
            if name not in known:
                self.unknown(path, known)
            elif name in keys:
                try:
                    found[keys[name].field] = keys[name].kind.read(value)
                except BadInput as error:
                    self.refuse(path, error)
        for name, key in keys.items():
            if key.needed and name not in table:
                self.missing(at, name)
        return found

    def value(self, path: Path) -> Any:
        """What the file has there; ``None``: nothing."""
        found: Any = self.table
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def sub(self, path: Path) -> Mapping[str, Any]:
        """A table; an empty one where there is none."""
        found = self.value(path)
        if found is None:
            return {}
        if isinstance(found, dict):
            return cast("dict[str, Any]", found)
        if path not in self.bad:
            self.note(path, f"{_shown(found)} is not allowed; allowed: a table, [{written(path)}]")
        return {}

    def tables(self, path: Path, allowed: str) -> Sequence[Mapping[str, Any]]:
        """An array of tables; elements that are none are noted, and are empty."""
        found = self.value(path)
        if found is None:
            return []
        if not isinstance(found, list):
            self.note(path, f"one {_kind(found)} is not allowed; allowed: {allowed}")
            return []
        elements = cast("list[object]", found)
        return [self.sub((*path, number)) for number in range(len(elements))]

    def shown(self, path: Path) -> str | None:
        """A value as the user wrote it."""
        found = self.value(path)
        return None if found is None or isinstance(found, dict | list) else _shown(found)

    # ---- findings

    def note(self, path: Path, text: str) -> None:
        """Something is wrong here."""
        line = self.lines.line(path)
        self.bad.add(path)
        finding = Finding(f"{self.name}:{line}", written(path), text)
        if all(each != finding for _, _, each in self.findings):
            self.findings.append((line, len(self.findings), finding))

    def refuse(self, path: Path, error: BadInput) -> None:
        """A value can't be read."""
        given = self.shown(path) or _shown(error.given)
        self.note(path, f"{given} is not allowed; allowed: {error.allowed}")

    def missing(self, at: Path, key: str) -> None:
        """A key is needed that is not there."""
        if at in self.bad:
            return  # it is no table at all, which was told
        self.note((*at, key), "is missing; it has no default")

    def unknown(self, path: Path, known: Iterable[str]) -> None:
        """A key that nobody reads."""
        name, listed = str(path[-1]), sorted(known)
        near = difflib.get_close_matches(name, listed, n=1, cutoff=0.6)
        guess = f"; did you mean {near[0]}?" if near else ";"
        self.note(path, f"there is no such key{guess} allowed: {', '.join(listed)}")

    def trace(self, path: Path, file: FilePath, most_bytes: int) -> None:
        """A recording has to be there, to be whole, and to fit."""
        if not os.path.isfile(file):
            self.note(path, f"{self.shown(path)} is not allowed; allowed: a file that exists")
            return
        try:
            pages = read_trace(file).total_pages
        except BadInput as error:
            self.note(path, f"{self.shown(path)} is not allowed; allowed: a recording that is whole ({error})")
            return
        if pages * PAGE_BYTES > most_bytes and not _touches(("guest", "ram"), self.bad):
            given = f"a recording of {exact_size(pages * PAGE_BYTES)}"
            self.note(path, f"{given} is not allowed; allowed: at most {exact_size(most_bytes)}, RAM that is not zero")


def _touches(path: Path, others: Iterable[Path]) -> bool:
    """Whether this is one of the others, or stands in one, or has one in it."""
    return any(each[: len(path)] == path or path[: len(each)] == each for each in others)


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)


def _kind(value: object) -> str:
    return "table" if isinstance(value, dict) else "value"
