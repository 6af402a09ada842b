"""Simulated migrations as pictures: remaining bytes over time, and below it what the link and the throttle did.

matplotlib comes with the extra ``report``; where it is missing that is said in one sentence.
"""

from __future__ import annotations

import importlib
import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.canvas import check_file
from whimbrel.simulation_records import Decided, Row, Run, Simulation
from whimbrel.sketch import LOGARITHMIC_FROM, floor_of, left_at
from whimbrel.units import format_duration, format_size

Axes: TypeAlias = Any
Figure: TypeAlias = Any
"""Of matplotlib, whose own types leave too much open to be checked strictly."""

__all__ = ["check_picture", "draw", "save"]

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
"""Of the palette that the colour-blind can tell apart (Okabe and Ito, 2008)."""
LIGHT_GREY, GREY, DARK_GREY, DARK_ORANGE = "#dddddd", "#888888", "#555555", "#8a5f00"
MOST_DECISIONS = 7
"""Annotated; what is left out is counted."""
BESIDE_RIGHT: Final = {"xytext": (5, 3), "color": VERMILION, "fontsize": 9, "fontweight": "bold"}
BESIDE_LEFT: Final = BESIDE_RIGHT | {"xytext": (-5, -8), "ha": "right"}
"""Where the number of a decision stands; on the left if it would come to lie on the one before."""
LEAST_TICKS = 3
DETAIL_CELLS = 150
MOST_NUMBERS = 28
"""Iterations numbered at most, one beside the other; half as many where numbers have three digits."""
ALIKE = 0.1
"""Thresholds that differ by no more than this part are one level, with one label."""
MOST_LINES = 60
"""With more iterations than this only the numbered ones have a line."""
SAMPLES = 24
"""Of each stretch: what is straight in bytes is none on a logarithmic axis."""
LISTED_INCHES = 0.18
"""A line of the list of decisions."""
POINTS_PER_INCH = 150


def _matplotlib(part: str = "") -> ModuleType:
    """The library, or a part of it; loaded only where a picture is asked for."""
    return importlib.import_module(f"matplotlib.{part}" if part else "matplotlib")


def check_picture(path: Path) -> None:
    """See, before anything is simulated, that a picture of this name can be made.

    Raises:
        BadInput: it is neither a PNG nor an SVG by its name, its folder is not there, or matplotlib is missing.
    """
    check_file(path, "plot")


def save(simulation: Simulation, path: Path) -> None:
    """Draw the first run of a simulation into a file; the same run gives the same file.

    Raises:
        BadInput: see `check_picture`; or it can't be written.
    """
    check_picture(path)
    with _matplotlib().rc_context({"svg.hashsalt": "whimbrel", "svg.fonttype": "none", "font.size": 9}):
        figure = draw(simulation)
        try:
            figure.savefig(path, dpi=POINTS_PER_INCH, metadata=_metadata(path))
        except OSError as error:
            raise BadInput("plot", str(path), f"a file that can be written ({error.strerror})") from None


def _metadata(path: Path) -> dict[str, str | None]:
    return {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}


def draw(simulation: Simulation) -> Figure:
    """The picture of the first run."""
    run = simulation.first
    shown = _worth_showing(run.decisions)
    listed = _listed(run, shown)
    slowed = any(row.throttle for row in run.each_iteration)
    heights = (3.6, 1, 0.8) if slowed else (3.6, 1)
    inches = 5.8 + slowed + LISTED_INCHES * len(listed)
    figure: Figure = _matplotlib("figure").Figure(figsize=(9, inches), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    _remaining(panels[0], run)
    _iterations(panels, run.each_iteration)
    _decisions(panels[0], run, shown)
    _sent(panels[1], run)
    if slowed:
        _throttle(panels[2], run.each_iteration)
    panels[-1].set_xlabel("time since migrate (s)")
    figure.suptitle(_title(simulation), x=0.01, ha="left", fontsize=11, fontweight="bold")
    if listed:
        figure.supxlabel("\n".join(listed), x=0.01, ha="left", fontsize=8, color=VERMILION)
    return figure


def _title(simulation: Simulation) -> str:
    run = simulation.first
    words = [f"{simulation.scenario.policy}, {simulation.model}, seed {run.seed}: "]
    if not run.converged:
        after = f" after {format_duration(run.total_s)}" if math.isfinite(run.total_s) else ""
        return f"{words[0]}{run.outcome}{after}"
    words.append(f"completed in {format_duration(run.total_s)}, {run.iterations} iterations")
    words.append(f", downtime {format_duration(run.downtime_s)}" if run.downtime_s is not None else "")
    return "".join(words)


# ---- the panels


def _remaining(axes: Axes, run: Run) -> None:
    ticks = _matplotlib("ticker")
    most, floor = max((left for _, left in run.remaining), default=1.0), floor_of(run)
    logarithmic = most > LOGARITHMIC_FROM * floor > 0
    times, values = _line(run.remaining, floor if logarithmic else 0.0)
    axes.plot(times, values, color=BLUE, linewidth=1.4)
    if logarithmic:
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_locator(ticks.FixedLocator(_powers(floor, most)))
        axes.yaxis.set_minor_locator(ticks.NullLocator())
        axes.set_ylim(0.8 * floor, 2.2 * most)
    else:
        axes.yaxis.set_major_locator(ticks.MaxNLocator(5, steps=[1, 2, 4, 8]))
        axes.set_ylim(0, 1.15 * most)
    axes.yaxis.set_major_formatter(ticks.FuncFormatter(_size))
    axes.set_ylabel("remaining (log scale)" if logarithmic else "remaining")
    _threshold(axes, run.threshold)
    if run.converged and run.downtime_s:
        axes.axvspan(run.total_s - run.downtime_s, run.total_s, color=ORANGE, alpha=0.45, linewidth=0)
        place = {"xycoords": ("data", "axes fraction"), "xytext": (-4, 0), "ha": "right", "va": "top"}
        text = f"downtime\n{format_duration(run.downtime_s)}"
        _say(axes, text, (run.total_s, 0.97), color=DARK_ORANGE, fontsize=9, **place)


def _powers(low: float, high: float) -> list[float]:
    """Powers of 8 between two values, or of 4 or 2 where these are few: round in people's units."""
    ticks: list[float] = []
    for base in (8, 4, 2):
        first, last = math.ceil(math.log(low, base)), math.floor(math.log(high, base))
        ticks = [float(base) ** power for power in range(first, last + 1)]
        if len(ticks) >= LEAST_TICKS:
            break
    return ticks


def _size(value_bytes: float, number: int) -> str:
    """The label of a tick."""
    return format_size(value_bytes)


def _say(axes: Axes, text: str, at: tuple[float, float], **how: Any) -> None:
    """A label beside what it speaks of, small and grey unless it is said otherwise."""
    axes.annotate(text, at, **{"textcoords": "offset points", "color": DARK_GREY, "fontsize": 8} | how)


def _line(points: Sequence[tuple[float, float]], floor: float) -> tuple[list[float], list[float]]:
    """The curve; with a floor, in pieces that are short on a logarithmic axis, and never below it."""
    if not floor:
        return [at_s for at_s, _ in points], [left for _, left in points]
    times: list[float] = []
    values: list[float] = []
    for (from_s, from_bytes), (to_s, to_bytes) in itertools.pairwise(points):
        high, low = max(from_bytes, floor), max(to_bytes, floor)
        for step in range(SAMPLES + 1):
            value = high * (low / high) ** (step / SAMPLES)
            part = (from_bytes - value) / (from_bytes - to_bytes) if from_bytes != to_bytes else step / SAMPLES
            times.append(from_s + min(max(part, 0.0), 1.0) * (to_s - from_s))
            values.append(value)
    return times, values


def _threshold(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """What QEMU lets go over with the guest stopped, as it stood at each time."""
    if points:
        times, values = [at_s for at_s, _ in points], [value for _, value in points]
        axes.step(times, values, where="post", color=GREY, linewidth=1, linestyle=(0, (4, 2)))
        _say(axes, "switchover below this", _longest_level(points), xytext=(4, 3))


def _longest_level(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where the longest stretch begins on which a value hardly changes: there is room for a label."""
    levels: list[tuple[float, float, float]] = []
    for (from_s, value), (to_s, _) in itertools.pairwise(points):
        if levels and abs(value - levels[-1][2]) <= ALIKE * value:
            length_s, start_s, level = levels[-1]
            levels[-1] = (length_s + to_s - from_s, start_s, level)
        else:
            levels.append((to_s - from_s, from_s, value))
    _, start_s, level = max(levels, default=(0.0, *points[0]))
    return start_s, level


def _iterations(panels: Sequence[Axes], rows: Sequence[Row]) -> None:
    """Thin lines where iterations begin; numbers on top, as many as there is room for."""
    span_s = rows[-1].start_s + rows[-1].duration_s if rows else 0.0
    top, last_s = panels[0], -math.inf
    gap_s = span_s / (MOST_NUMBERS if len(rows) < MOST_LINES else MOST_NUMBERS / 2)
    for row in rows:
        numbered = row.start_s - last_s >= gap_s
        if numbered:
            place = {"xycoords": ("data", "axes fraction"), "xytext": (0, 2), "ha": "center"}
            _say(top, str(row.number), (row.start_s, 1.0), **place)
            last_s = row.start_s
        if numbered or len(rows) <= MOST_LINES:
            for axes in panels:
                axes.axvline(row.start_s, color=LIGHT_GREY, linewidth=0.7, zorder=0)
    if rows:
        _say(top, "iteration", (0, 1.0), xycoords="axes fraction", xytext=(-6, 2), ha="right")


def _decisions(axes: Axes, run: Run, shown: Sequence[Decided]) -> None:
    low, high = axes.get_ylim()
    near_s = run.remaining[-1][0] / MOST_NUMBERS if run.remaining else 0.0
    before_s, left = -math.inf, False
    for number, each in enumerate(shown, 1):
        left = not left and each.at_s - before_s < near_s
        before_s = each.at_s
        height = min(max(left_at(run.remaining, each.at_s), low), high)
        axes.plot([each.at_s], [height], "o", color=VERMILION, markersize=4, clip_on=False, zorder=3)
        _say(axes, str(number), (each.at_s, height), **(BESIDE_LEFT if left else BESIDE_RIGHT))


def _sent(axes: Axes, run: Run) -> None:
    times, rates = [at_s for at_s, _ in run.sending], [rate / 2**20 for _, rate in run.sending]
    axes.set_ylabel("sent (MiB/s)")
    axes.set_ylim(0, 1.25 * max(rates, default=0.0) or 1.0)
    axes.step(times, rates, where="post", color=GREEN, linewidth=1.4)


def _throttle(axes: Axes, rows: Iterable[Row]) -> None:
    axes.set_ylabel("throttle (%)")
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    _steps(axes, [(row, 100 * (row.throttle or 0.0)) for row in rows], color=VERMILION, linewidth=1.4)


def _steps(axes: Axes, values: Sequence[tuple[Row, float]], **how: Any) -> None:
    """A value for each iteration."""
    if values:
        last = values[-1][0]
        times = [row.start_s for row, _ in values] + [last.start_s + last.duration_s]
        axes.step(times, [value for _, value in values] + [values[-1][1]], where="post", **how)


# ---- decisions


def _worth_showing(decisions: Sequence[Decided]) -> list[Decided]:
    """Those that changed something; where they are too many: the first, the last, and evenly spread in between."""
    changing = [each for each in decisions if each.changes or each.clamped]
    if len(changing) <= MOST_DECISIONS:
        return changing
    step = (len(changing) - 1) / (MOST_DECISIONS - 1)
    return [changing[round(number * step)] for number in range(MOST_DECISIONS)]


def _listed(run: Run, shown: Sequence[Decided]) -> list[str]:
    lines = [
        textwrap.shorten(f"{number} · {each.at_s:.3g} s · {each.because or _changes(each)}", DETAIL_CELLS)
        for number, each in enumerate(shown, 1)
    ]
    more = sum(1 for each in run.decisions if each.changes or each.clamped) - len(shown)
    return [*lines, f"and {more} more decision{'s' if more > 1 else ''} between them"] if more else lines


def _changes(decided: Decided) -> str:
    words = [
        " and ".join(value)
        if name == "capabilities"
        else f"{name.removesuffix('_bytes_per_s').removesuffix('_s')} {value:g}"
        for name, value in decided.changes.items()
    ]
    return ", ".join(words)
