"""Simulated migrations as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from whimbrel.render import DOWNTIME_ITEMS
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.simulating import MODELS
from whimbrel.simulation_records import Decided, Row, Run, Simulation, summary
from whimbrel.sketch import sketch
from whimbrel.units import format_duration, format_rate, format_size

FIRST_ROWS, LAST_ROWS = 6, 10
"""Of a long table these are shown."""
LEAST_WIDTH, MOST_WIDTH = 40, 100
"""Of the picture, in columns."""

FORECAST_ITEMS = {
    "stop_s": "the last sync",
    "pipe_s": "the pipe runs empty",
    "last_ram_s": "last RAM",
    "device_state_s": "device state on the wire",
    "load_s": "load and answer",
    "resume_s": "resume on the destination",
}
"""What the fast model tells apart; the stepwise one has the items of a real report."""


def simulation_head(plan: Plan, model: str, drawn: Mapping[str, Any]) -> RenderableType:
    """The seed and all that was derived, as a scenario file has it: with it the run can be had again.

    Args:
        plan: what is to be simulated.
        model: the model's name.
        drawn: what the first seed draws.
    """
    first = f"seed {plan.seed}, model {model}: {MODELS[model].about}"
    lines = [line for line in dumps(plan).splitlines() if line and not line.startswith("seed")]
    shown = [Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in lines]
    return Group(Text(first, style="bold"), *shown, *(Text(f"  drawn: {each}", style="dim") for each in _drawn(drawn)))


def _drawn(drawn: Mapping[str, Any]) -> Iterable[str]:
    """One thing a line."""
    for name, value in drawn.items():
        if isinstance(value, float):
            yield f"{name.removesuffix('_s').replace('_', ' ')} {format_duration(value)}"
        elif isinstance(value, list):
            yield from map(str, cast("list[object]", value))
        else:
            yield f"{name} {value}"


def simulation_text(simulation: Simulation, width: int) -> RenderableType:
    """What comes after the head: how it went, and what it comes to over all seeds."""
    run = simulation.first
    parts: list[RenderableType] = ["", _verdict(run)]
    picture = sketch(run, min(max(width, LEAST_WIDTH), MOST_WIDTH))
    if picture:
        parts += ["", Text("Remaining bytes over time", style="bold"), *(_line(each) for each in picture)]
    if run.each_iteration:
        parts += ["", _iterations(run.each_iteration)]
    if run.decisions:
        parts += ["", _decisions(run.decisions)]
    if run.downtime:
        parts += ["", _downtime(run)]
    if len(simulation.runs) > 1:
        parts += ["", _summary(simulation.runs)]
    if notes := [*simulation.notes, *run.notes]:
        parts += ["", Text("Notes", style="bold"), *(Text(f"  {note}") for note in notes)]
    return Group(*parts)


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="crop")


def _verdict(run: Run) -> Text:
    text = Text()
    if not run.converged:
        text.append(run.outcome.upper(), style="bold red")
        text.append(f" after {format_duration(run.total_s)}" if math.isfinite(run.total_s) else "")
        return text.append(f"\n{run.reason}") if run.reason else text
    text.append("COMPLETED", style="bold green")
    text.append(
        f" in {format_duration(run.total_s)}, {run.iterations} iterations, {format_size(run.transferred_bytes)} sent"
    )
    if run.downtime_s is not None:
        text.append(", downtime ").append(format_duration(run.downtime_s), style="bold")
    if run.throttle:
        text.append(f", throttled by up to {run.throttle:.0%}")
    return text


def _iterations(rows: Sequence[Row]) -> Table:
    table = Table(title="Iterations", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("no", "time", "to send", "sent", "dirtied", "bandwidth", "throttle", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        if len(rows) > FIRST_ROWS + LAST_ROWS and FIRST_ROWS <= number < len(rows) - LAST_ROWS:
            if number == FIRST_ROWS:
                table.add_row("…", *([""] * 7))
            continue
        table.add_row(
            str(row.number),
            format_duration(row.duration_s),
            format_size(row.to_send_bytes),
            format_size(row.sent_bytes),
            "" if row.dirtied_bytes is None else format_size(row.dirtied_bytes),
            "" if row.bandwidth_bytes_per_s is None else format_rate(row.bandwidth_bytes_per_s),
            f"{row.throttle:.0%}" if row.throttle else "",
            _limit(row),
        )
    return table


def _limit(row: Row) -> str:
    if row.stopped:
        return "stopped"
    return "" if row.downtime_limit_s is None else format_duration(row.downtime_limit_s)


def _decisions(decisions: Sequence[Decided]) -> RenderableType:
    """What the policy decided and why; those in the middle of many are counted."""
    lines: list[Text] = [Text("Decisions", style="bold")]
    told = [each for each in decisions if each.because or each.changes or each.clamped]
    left_out = len(told) - FIRST_ROWS - LAST_ROWS
    for number, each in enumerate(told):
        if left_out > 0 and FIRST_ROWS <= number < len(told) - LAST_ROWS:
            if number == FIRST_ROWS:
                lines.append(Text(f"  … {left_out} more", style="dim"))
            continue
        line = Text(f"  {each.at_s:9.3f} s  ")
        line.append(each.because or each.asked)
        if each.changes:
            line.append(f"  → {changes_text(each.changes)}", style="dim")
        lines += [line, *(Text(f"               not allowed: {clamped}", style="yellow") for clamped in each.clamped)]
    return Group(*lines)


def changes_text(changes: Mapping[str, Any]) -> str:
    """What a decision changed, with people's units."""
    words: list[str] = []
    for name, value in changes.items():
        if name.endswith("_bytes_per_s"):
            words.append(f"{name.removesuffix('_bytes_per_s')} {format_rate(value) if value else 'unlimited'}")
        elif name.endswith("_s"):
            words.append(f"{name.removesuffix('_s')} {format_duration(value)}")
        elif name == "capabilities":
            words.append(" and ".join(value))
        else:
            words.append(f"{name} {value:g}")
    return ", ".join(words).replace("_", " ")


def _downtime(run: Run) -> Table:
    total = f"Downtime: {format_duration(run.downtime_s)}" if run.downtime_s is not None else "Downtime"
    table = Table(title=total, title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    items = FORECAST_ITEMS if "pipe_s" in run.downtime else DOWNTIME_ITEMS
    for name, value in run.downtime.items():
        table.add_row(items[name], format_duration(value))
    return table


def _summary(runs: Iterable[Run]) -> Table:
    told = summary(tuple(runs))
    title = f"{told['converged']} of {told['runs']} runs moved the guest"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("", "least", "median", "most"):
        table.add_column(name, justify="left" if not name else "right")
    formats = {
        "total_s": ("total", format_duration),
        "downtime_s": ("downtime", format_duration),
        "iterations": ("iterations", "{:g}".format),
        "transferred_bytes": ("sent", format_size),
    }
    for name, (shown, write) in formats.items():
        if told[name] is not None:
            table.add_row(shown, *(write(told[name][each]) for each in ("least", "median", "most")))
    return table
