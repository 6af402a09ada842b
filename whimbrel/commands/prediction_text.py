"""Predictions against what came of them, as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from whimbrel.calibration import Calibration, Quality
from whimbrel.engine.belief import Typical
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.prediction import COMPONENTS, PLAN, Compared, Prediction
from whimbrel.engine.report import CompletedReport
from whimbrel.units import format_duration, format_rate, format_size

NAMES = {
    "total": "until it ran there",
    "downtime": "downtime",
    "transferred": "sent",
    "iteration_count": "number of iterations",
    "preparation": "preparation",
    "iterations": "iterations",
    "last_ram": "last RAM",
    "device_state": "pipe, device state, loading",
    "fixed": "stop, resume, our reaction",
}
TOP = ("total", "downtime", "transferred")
"""What the quality of predictions is told of."""


def comparison(finished: CompletedReport) -> RenderableType | None:
    """The prediction against the actual, by component, and what was off; ``None``: there is nothing to tell."""
    made = finished.prediction
    if made is None:
        return Text(finished.off, style="dim") if finished.off else None
    parts: list[RenderableType] = []
    if finished.compared:
        title = f"Predicted {_when(made)}, against actual"
        table = Table(title=title, title_justify="left", title_style="bold", box=None)
        table.add_column()
        for name in ("predicted", "9 times of 10", "actual", "off"):
            table.add_column(name, justify="right", no_wrap=True)
        for each in finished.compared:
            indent = "  " if each.name in COMPONENTS else ""
            table.add_row(
                f"{indent}{NAMES[each.name]}",
                _amount(each, each.predicted.middle),
                f"{_amount(each, each.predicted.low)} to {_amount(each, each.predicted.high)}",
                Text(_amount(each, each.actual), style="" if each.within else "bold yellow"),
                "" if each.off is None else percent(each.off),
            )
        parts.append(table)
    parts.append(Text(finished.off))
    return Group(*parts)


def _when(made: Prediction) -> str:
    if made.basis == PLAN:
        return "by the plan"
    return f"after the {made.basis} ({format_duration(made.made_at_s)})"


def _amount(of: Compared, value: float) -> str:
    if value == math.inf:
        return "never"
    if of.unit == "s":
        return format_duration(value)
    return format_size(value) if of.unit == "bytes" else f"{value:.0f}"


def percent(part: float) -> str:
    """A signed part of a whole."""
    return f"{part:+.1%}" if abs(part) < 0.1 else f"{part:+.0%}"


def calibrations(found: Iterable[Calibration]) -> RenderableType:
    """What each kind of guest between each two hosts taught, and how good the predictions have been."""
    parts: list[RenderableType] = []
    for each in found:
        parts += ["", *_calibration(each)] if parts else _calibration(each)
    return Group(*parts) if parts else Text("no migration that could teach anything yet")


def _calibration(told: Calibration) -> list[RenderableType]:
    hosts, kind = told.hosts, told.kind
    where = f"{hosts.source or 'unknown'} → {hosts.destination or 'unknown'}"
    if hosts.stream:
        where += f" by {hosts.stream}"
    version = ".".join(map(str, kind.version))
    cpus = f"{kind.vcpus} vCPU{'s' if kind.vcpus != 1 else ''}"
    what = f"{kind.machine}, {format_size(kind.ram_bytes)}, {cpus}, {kind.accelerator}, QEMU {version}"
    count = f"{told.migrations} migration{'s' if told.migrations != 1 else ''}"
    lines: list[RenderableType] = [Text(where, style="bold"), Text(f"  {what}: {count}")]
    if costs := _costs(told.typical):
        lines.append(Text(f"  {costs}"))
    quality = [each for each in told.quality if each.figure in TOP]
    lines.append(_qualities(quality) if quality else Text("  no predictions to judge yet", style="dim"))
    return lines


def _costs(typical: Typical) -> str:
    told = [
        ("preparation", typical.preparation_s, format_duration),
        ("fixed cost of a switchover", typical.fixed_s, format_duration),
        ("link", typical.bandwidth_bytes_per_s, format_rate),
        ("pipe", typical.pipe_bytes, format_size),
    ]
    words = [f"{name} {form(given.value)} {_give_or_take(given)}" for name, given, form in told if given is not None]
    return ", ".join(words)


def _give_or_take(given: Estimate) -> str:
    return f"± {given.spread:.0%}"


def _qualities(quality: Iterable[Quality]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 2))
    table.add_column("predicted", no_wrap=True)
    table.add_column("made from", no_wrap=True)
    for name in ("median error", "bias", "range held"):
        table.add_column(name, justify="right")
    for each in quality:
        held = f"{each.held} of {each.count}"
        table.add_row(NAMES[each.figure], each.basis, f"{each.median_error:.1%}", percent(each.bias), held)
    return table
