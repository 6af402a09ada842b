"""Reports and findings as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from whimbrel.commands.prediction_text import comparison, percent
from whimbrel.engine.foresight import Basis
from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.engine.timeline import Downtime
from whimbrel.guest.run import GuestSummary
from whimbrel.history import Entry, Standing
from whimbrel.policy_text import KINDS
from whimbrel.qmp_driver.findings import Finding, Severity
from whimbrel.units import format_duration, format_rate, format_size

LAST_ITERATIONS = 12
"""A table of iterations longer than this is shown in its first and last rows."""

OUTCOME_STYLE = {
    "completed": "bold green",
    "cancelled": "bold yellow",
    "failed": "bold red",
    Standing.UNDER_WAY: "bold cyan",
    Standing.LEFT: "bold red",
    Standing.DAMAGED: "bold red",
}

SEVERITY_STYLE = {Severity.REFUSE: "bold red", Severity.WARN: "yellow", Severity.INFO: "dim"}

BAR_CELLS = 28


BACKING_OUT = {"cancelling": "backing out", "resolving": "finding out who has the guest"}
"""Phases that belong to no stage, in words. They say nothing of the cause: a failure backs out, too."""


def stage_label(glance: OngoingReport) -> str:
    """Where a migration stands, in a few words."""
    if glance.stage:
        return f"{glance.stage}/5 {glance.stage_name}"
    return BACKING_OUT.get(glance.phase, glance.phase)


def progress_line(glance: OngoingReport) -> Text:
    """A running migration as one line, for logs."""
    words = [stage_label(glance)]
    if glance.total_bytes:
        words += [f"iteration {glance.iteration}", f"{format_size(glance.remaining_bytes)} left", *_speeds(glance)]
    ahead = outlook_words(glance)
    return Text(", ".join([*words, *([ahead] if ahead else []), f"{glance.elapsed_s:.1f} s"]))


def progress(glance: OngoingReport) -> RenderableType:
    """A running migration on a terminal: four lines at most, each cut to its width."""
    first = Text(f"{stage_label(glance)}  ", style="bold cyan", no_wrap=True, overflow="ellipsis")
    elapsed = Text(f"{glance.elapsed_s:.1f} s", style="dim")
    if not glance.total_bytes:
        return first + elapsed
    first.append(_bar(1 - min(1.0, glance.remaining_bytes / glance.total_bytes)), style="green")
    first.append(f" {format_size(glance.remaining_bytes)} left  ", style="default")
    details = f"  iteration {glance.iteration} · " + " · ".join(_speeds(glance))
    lines = [first + elapsed, Text(details, style="dim", no_wrap=True, overflow="ellipsis")]
    if ahead := outlook_words(glance):
        lines.append(Text(f"  {ahead}", style=_outlook_style(glance), no_wrap=True, overflow="ellipsis"))
    if glance.because:
        lines.append(Text(f"  policy: {glance.because}", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def outlook_words(glance: OngoingReport) -> str:
    """The live forecast in words: "ends in 4s (3s to 6s), 93% likely within 300ms"; empty: there is none."""
    seen = glance.outlook
    if seen is None or not glance.since_migrate_s:
        return ""
    ahead = [
        max(0.0, at_s - glance.since_migrate_s) for at_s in (seen.ends_s.low, seen.ends_s.middle, seen.ends_s.high)
    ]
    low, middle, high = (format_duration(round(each, 1)) if each < math.inf else "never" for each in ahead)
    if seen.basis is Basis.POSTCOPY:
        return f"all of the memory is there in {middle}"
    if seen.basis is Basis.LINK:
        return f"ends in {low} at the earliest" if low != "never" else "no end in sight"
    if middle == "never":
        ends = "no end in sight" if low == "never" else f"ends in {low} at the earliest, more likely never"
    elif high == "never":
        ends = f"ends in {middle} ({low}, or never)"
    else:
        ends = f"ends in {middle}" + (f" ({low} to {high})" if low != high else "")
    goal = format_duration(glance.objectives.downtime_s)
    if glance.objectives.deadline_s is not None:
        goal += f" and {format_duration(glance.objectives.deadline_s)}"
    return f"{ends}, {seen.meets:.0%} likely within {goal}"


def _outlook_style(glance: OngoingReport) -> str:
    """How it looks: a verdict stands out for as long as it stands."""
    return "bold yellow" if glance.outlook is not None and glance.outlook.verdict is not None else "default"


def verdict(news: str) -> Text:
    """What there is to say of a verdict; it is shown once, and stays."""
    return Text(f"! {news}", style="bold yellow")


def _speeds(glance: OngoingReport) -> list[str]:
    words = [f"sent {format_size(glance.transferred_bytes)}"]
    if glance.bandwidth_bytes_per_s:
        words[0] += f" at {format_rate(glance.bandwidth_bytes_per_s)}"
    if glance.dirty_bytes_per_s:  # unknown in the first iteration
        words.append(f"dirtied {format_rate(glance.dirty_bytes_per_s)}")
    if glance.throttle:
        words.append(f"throttle {glance.throttle:.0%}")
    words.append(f"limit {format_duration(glance.knobs.downtime_limit_s)}")
    if glance.knobs.bandwidth_bytes_per_s:
        words[-1] += f" at most {format_rate(glance.knobs.bandwidth_bytes_per_s)}"
    return words


def report(
    finished: CompletedReport, extra: RenderableType | None = None, *, destination_stays: bool = True
) -> RenderableType:
    """A finished migration, whole.

    Args:
        finished: what is told.
        extra: goes between the downtime and the figures.
        destination_stays: the destination is still there for the reader, so its monitor is named.
    """
    parts: list[RenderableType] = [_headline(finished)]
    if finished.stages:
        parts += ["", _stages(finished)]
    if finished.iterations:
        parts += ["", _iterations(finished)]
    if finished.downtime is not None:
        parts += ["", _downtime(finished.downtime)]
    if extra is not None:
        parts += ["", extra]
    compared = comparison(finished)
    if compared is not None:
        parts += ["", compared]
    parts += ["", _figures(finished, destination_stays)]
    if finished.notes:
        parts += ["", Text("Notes", style="bold"), *(Text(f"  {note}") for note in finished.notes)]
    return Group(*parts)


def findings(found: Iterable[Finding]) -> RenderableType:
    """All findings of a preflight, the gravest first."""
    ordered = sorted(found, key=lambda each: list(Severity).index(each.severity))
    if not ordered:
        return Text("nothing speaks against it", style="green")
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in ordered:
        text = Text(each.seen)
        if each.advice:
            text.append(f"\n→ {each.advice}", style="dim")
        table.add_row(Text(each.severity.value, style=SEVERITY_STYLE[each.severity]), Text(each.code), text)
    return table


def guest_view(seen: Mapping[str, Any]) -> RenderableType:
    """What the workload guest itself saw of the move."""
    table = Table(title="Seen by the guest", title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    gap, stalls, largest = seen.get("downtime_guest_s"), seen.get("stalls_s"), seen.get("largest_gap_s")
    if gap is not None:
        table.add_row("outage at the switchover", format_duration(gap), "last heartbeat here to first heartbeat there")
    if stalls is not None:
        table.add_row("stalls over 30 ms", format_duration(stalls), "sum over the whole move")
    if largest is not None:
        table.add_row("largest gap", format_duration(largest), "anywhere in the move")
    verified = seen.get("memory_verified")
    word = {True: Text("verified", "green"), False: Text("DAMAGED", "bold red"), None: Text("not checked", "yellow")}
    table.add_row("memory", word[verified], Text(str(seen.get("memory_detail", ""))))
    return table


def guest_summary(summary: GuestSummary) -> RenderableType:
    """What a run of the workload guest alone came to."""
    table = Table(title="Workload guest", title_justify="left", title_style="bold", box=None)
    for name in ("class", "pages", "writes", "dropped"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for each in summary.classes:
        table.add_row(Text(each.name), str(each.pages), str(each.writes), str(each.dropped))
    timeline = summary.timeline
    lines = (
        f"booted in {format_duration(summary.boot_s)}, ran {format_duration(summary.ran_s)}",
        f"{timeline.beats} heartbeats, largest gap {format_duration(timeline.largest_gap_s)}",
        f"wrote {format_rate(summary.written_bytes_per_s)}, {timeline.work:.1%} of what it wanted to",
    )
    style = "green" if summary.verification.passed else "bold red"
    return Group(table, *(Text(line) for line in lines), Text(str(summary.verification), style=style))


def policies(known: Mapping[str, tuple[str, Mapping[str, str]]]) -> RenderableType:
    """Policies by name: what each does, and its parameters with their defaults; and how they are composed."""
    parts: list[RenderableType] = []
    for name, (about, parameters) in known.items():
        parts += [Text(name, style="bold"), Padding(Text(about), (0, 0, 0, 2), expand=False)]
        if parameters:
            listed = Text("  ").join(Text(f"{key}={value}", no_wrap=True) for key, value in parameters.items())
            listed.stylize("dim")
            parts.append(Padding(listed, (0, 0, 0, 4), expand=False))
    parts += [Text("compositions", style="bold"), *(Text(f"  {written}") for written in KINDS.values())]
    return Group(*parts)


def history(entries: Iterable[Entry]) -> RenderableType:
    """Past migrations, each as a few lines, to be printed without wrapping: paths and commands can be copied."""
    parts: list[RenderableType] = []
    for each in entries:
        parts += [_past(each), *(Text("    ") + line for line in _past_details(each))]
    return Group(*parts) if parts else Text("no migrations yet")


def _past(each: Entry) -> Text:
    word = each.outcome or each.standing.value
    line = Text(time.strftime("%Y-%m-%d %H:%M:%S  ", time.localtime(each.started_wall_s)))
    line.append(word, style=OUTCOME_STYLE.get(word, "bold"))
    if each.phase:
        line.append(f" in {each.phase}")
    if each.owner:
        line.append(f"  owner: {each.owner}" + (f", {each.guest}" if each.guest else ""))
    if each.downtime_s is not None:
        line.append(f"  downtime {format_duration(each.downtime_s)}")
    if each.total_s is not None:
        line.append(f"  total {format_duration(each.total_s)}")
    offs = {"time": each.time_off, "downtime": each.downtime_off}
    if told := [f"{name} {percent(off)}" for name, off in offs.items() if off is not None]:
        line.append(f"  against the prediction: {', '.join(told)}")
    return line


def _past_details(each: Entry) -> list[Text]:
    origin = [f"from {each.source}"] if each.source else []
    origin += [f"by {each.policy}"] if each.policy else []
    lines = [Text(", ".join([*origin, f"log {each.log}"]), style="dim")]
    if each.why and each.outcome != "completed":
        lines.append(Text(each.why))
    if each.advice:
        lines.append(Text(f"→ {each.advice}", style="bold"))
    return lines


def pairs(rows: Mapping[str, str]) -> RenderableType:
    """Names and values."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table


GUEST_WORDS = {
    "unconfirmed": "whether the guest runs was not seen",
    "held": "the guest stands paused until somebody decides",
    "shut-down": "the guest has shut itself down",
}


def _headline(finished: CompletedReport) -> Text:
    line = Text()
    line.append(finished.outcome.upper(), style=OUTCOME_STYLE.get(finished.outcome, "bold"))
    known = GUEST_WORDS.get(finished.guest, f"the guest is {finished.guest}")
    line.append(f" in {format_duration(finished.total_s)}: {known}, and ")
    if finished.owner == "limbo":
        line.append("whose it is could not be settled", style="bold red")
    else:
        line.append("it belongs to the ").append(finished.owner, style="bold")
    if finished.outcome != "completed":
        line.append(f"\n{finished.why}")
    return line


def _stages(finished: CompletedReport) -> Table:
    table = Table(title="Stages", title_justify="left", title_style="bold", box=None)
    table.add_column("stage")
    table.add_column("time", justify="right")
    for each in finished.stages:
        table.add_row(f"{each.stage} {each.name}", format_duration(each.seconds))
    return table


def _iterations(finished: CompletedReport) -> Table:
    table = Table(title="Iterations", title_justify="left", title_style="bold", box=None)
    for name in ("no", "time", "to send", "sent", "rate", "dirtied", "dirty rate"):
        table.add_column(name, justify="right")
    rows = finished.iterations
    middle = len(rows) - LAST_ITERATIONS
    for index, each in enumerate(rows):
        if middle > 0 and 3 <= index < 3 + middle:
            if index == 3:
                table.add_row("…", *([""] * 6))
            continue
        table.add_row(
            str(each.number),
            format_duration(each.duration_s),
            format_size(each.remaining_at_start_bytes),
            format_size(each.sent_bytes),
            format_rate(each.bandwidth_bytes_per_s),
            format_size(each.dirtied_bytes),
            format_rate(each.dirty_bytes_per_s),
        )
    return table


DOWNTIME_ITEMS = {
    "stop_s": "stop the source",
    "drain_s": "drain, hooks, our reaction",
    "last_ram_s": "last RAM",
    "device_state_s": "pipe, device state, loading",
    "load_s": "the source's word, our reaction",
    "resume_s": "resume on the destination",
}


ESTIMATED = ("last_ram_s", "device_state_s")
"""Where their boundary was not seen."""


def _downtime(downtime: Downtime) -> Table:
    title = f"Downtime by both QEMUs' events: {format_duration(downtime.total_s)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in downtime.items.items():
        guessed = name in ESTIMATED and not downtime.measured
        table.add_row(DOWNTIME_ITEMS[name] + (" (estimated share)" if guessed else ""), format_duration(value))
    return table


def _figures(finished: CompletedReport, destination_stays: bool) -> Table:
    facts = finished.facts
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    total_bytes = finished.ram_total_bytes
    ratio = f" ({finished.ram_transferred_bytes / total_bytes:.2f} × RAM)" if total_bytes else ""
    table.add_row("sent", format_size(finished.ram_transferred_bytes) + ratio)
    table.add_row("pages", f"{finished.normal_pages} in full, {finished.duplicate_pages} as zero")
    table.add_row("decisions", f"{finished.decisions} by the policy")
    names = {"source": "qemu_source", "destination": "qemu_destination"}
    if destination_stays and finished.owner == "destination":
        names["destination QMP"] = "destination_qmp"
    for name, key in names.items():
        if facts.get(key):
            table.add_row(name, Text(str(facts[key])))
    return table


def _bar(done: float) -> str:
    full = round(done * BAR_CELLS)
    return "█" * full + "░" * (BAR_CELLS - full)
