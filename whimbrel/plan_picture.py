"""A plan as a picture: each way with its ranges beside what is wanted, and the dirty curve that they rest on.

matplotlib comes with the extra ``report``.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from whimbrel.engine.bounds import goodput
from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Plan, Predicted
from whimbrel.laboratory.canvas import (
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    VERMILION,
    WIDTH,
    Axes,
    Figure,
    drawing,
    matplotlib,
)
from whimbrel.laboratory.canvas import save as write
from whimbrel.plan_words import share, time
from whimbrel.planning import Planned
from whimbrel.units import format_duration, format_rate, format_size

__all__ = ["draw", "save"]

ROW_INCHES = 0.32
"""A candidate."""
CURVE_INCHES = 2.6
REST_INCHES = 1.5
LINE_CELLS = 112
NAME_CELLS = 30
LEAST_SPAN = 20.0
"""Of an axis of times, from one end to the other: with less it has no two round times."""
FAR = 20.0
"""What is so many times as long as the limit, or as the least of all, goes off the edge: the rest would be dots."""


def save(planned: Planned, path: Path) -> None:
    """Draw a plan into a file; the same plan gives the same file.

    Raises:
        BadInput: it is neither a PNG nor an SVG by its name, can't be written, or matplotlib is missing.
    """
    with drawing():
        write(draw(planned.plan), path, "picture")


def draw(plan: Plan) -> Figure:
    """The picture of a plan; within `whimbrel.laboratory.canvas.drawing`."""
    shown = [each for each in plan.predicted if not each.excluded]
    rows = max(1, len(shown))
    heights = (ROW_INCHES * rows + 0.4, CURVE_INCHES)
    figure: Figure = matplotlib("figure").Figure(figsize=(WIDTH, sum(heights) + REST_INCHES), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    times, outages, chances = upper.subplots(1, 3, sharey=True, width_ratios=(3, 3, 2))
    goal = plan.objectives
    _ranges(times, [each.total_s for each in shown], "time until it runs there", goal.deadline_s)
    _ranges(outages, [each.downtime_s for each in shown], "outage", goal.downtime_s)
    _floor(outages, plan.floors.floor_s)
    _chances(chances, shown)
    _names(times, plan, shown)
    _curve(lower.subplots(), plan)
    title = ("Recommended: " if plan.chosen is not None else "Nothing will do: ") + plan.sentence
    # Where a number and its unit would come apart there is no place to break a line.
    lines = textwrap.wrap(title.replace(" %", "\u00a0%"), LINE_CELLS)
    figure.suptitle("\n".join([*lines, ""]), x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def _names(axes: Axes, plan: Plan, shown: Sequence[Predicted]) -> None:
    """Of the ways, the best on top; the one that is recommended stands out."""
    labels = [f"{each.candidate.strategy}\n{_cut(each.candidate.policy)}" for each in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=6)
    axes.set_ylim(max(1, len(shown)) - 0.5, -0.5)
    for label, each in zip(axes.get_yticklabels(), shown, strict=True):
        if plan.chosen is not None and each.candidate == plan.chosen.candidate:
            label.set_color(GREEN)
            label.set_fontweight("bold")


def _cut(policy: str) -> str:
    return policy if len(policy) <= NAME_CELLS else f"{policy[: NAME_CELLS - 1]}…"


def _ranges(axes: Axes, found: Sequence[Range | None], title: str, limit_s: float | None) -> None:
    """Medians and what they lie between, on a logarithmic axis, and what is wanted."""
    middles = [each.middle for each in found if each is not None and 0 < each.middle < math.inf]
    most_s = FAR * max(limit_s or 0.0, min(middles, default=1.0))
    axes.set_xscale("log")
    for row, each in enumerate(found):
        if each is None:
            axes.text(0.02, row, "never", transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=8)
            continue
        good = limit_s is None or each.middle <= limit_s
        low, middle, high = (min(max(value, 1e-4), most_s) for value in (each.low, each.middle, each.high))
        axes.plot([low, high], [row, row], color=BLUE if good else VERMILION, linewidth=5, alpha=0.35)
        axes.plot([middle], [row], "o", color=BLUE if good else VERMILION, markersize=5)
        axes.annotate(
            time(each.middle), (middle, row), textcoords="offset points", xytext=(0, 5), ha="center", fontsize=7
        )
    if limit_s is not None:
        axes.axvline(limit_s, color=GREEN, linewidth=1.2)
        _above(axes, f"wanted: {format_duration(limit_s)}", limit_s, GREEN, 2)
    axes.set_xlabel(title)
    low, high = axes.get_xlim()
    more = math.sqrt(max(1.0, LEAST_SPAN * low / high))
    axes.set_xlim(low / more, high * more)
    _seconds(axes)


def _seconds(axes: Axes) -> None:
    """Times in people's units at few places."""
    ticks = matplotlib("ticker")
    axes.xaxis.set_major_locator(ticks.LogLocator(base=10, subs=(1, 2, 5), numticks=7))
    axes.xaxis.set_major_formatter(ticks.FuncFormatter(_duration))
    axes.xaxis.set_minor_locator(ticks.NullLocator())
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)


def _above(axes: Axes, text: str, at_s: float, color: str, up_points: float) -> None:
    """A label above an axis, for which no room is made: it may reach over to the next one."""
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "xytext": (0, up_points)}
    axes.annotate(text, (at_s, 1.0), color=color, fontsize=7, ha="center", **place).set_in_layout(False)


def _duration(value_s: float, place: int) -> str:
    """The label of a tick."""
    return format_duration(value_s)


def _size(value_bytes: float, place: int) -> str:
    """The label of a tick."""
    return format_size(value_bytes)


def _floor(axes: Axes, floor_s: Range) -> None:
    """What no pre-copy can beat."""
    if 0 < floor_s.middle < math.inf:
        axes.axvline(floor_s.middle, color=DARK_GREY, linewidth=1, linestyle=(0, (4, 2)))
        place = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "xytext": (0, 11),
            "ha": "center",
        }
        text = f"no pre-copy beats {format_duration(floor_s.middle)}"
        axes.annotate(text, (floor_s.middle, 1.0), color=DARK_GREY, fontsize=7, **place).set_in_layout(False)


def _chances(axes: Axes, shown: Sequence[Predicted]) -> None:
    """How likely each meets what is wanted."""
    for row, each in enumerate(shown):
        axes.barh(row, each.meets, height=0.55, color=GREEN, alpha=0.5)
        axes.plot([each.meets_low, each.meets_high], [row, row], color=DARK_GREY, linewidth=1)
        axes.annotate(share(each.meets), (1.0, row), textcoords="offset points", xytext=(4, -3), fontsize=7)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.set_xlabel("likely to meet what is wanted")


def _curve(axes: Axes, plan: Plan) -> None:
    """The dirty curve as it was measured, against what the link carries in the same time."""
    belief, ticks = plan.belief, matplotlib("ticker")
    windows = [each.window_s for each in belief.points]
    dirtied = [max(each.dirtied_bytes, 1.0) for each in belief.points]
    errors = [min(1.645 * each.error_bytes, 0.99 * dirty) for each, dirty in zip(belief.points, dirtied, strict=True)]
    cap = plan.objectives.bandwidth_bytes_per_s
    rate = min(belief.bandwidth_bytes_per_s.value, math.inf if cap is None else cap)
    ends = [min(windows[0], plan.objectives.downtime_s) / 2, 2 * max(windows[-1], plan.objectives.downtime_s)]
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.errorbar(
        windows, dirtied, errors, fmt="o-", color=BLUE, markersize=3, linewidth=1.2, label="dirtied by the guest"
    )
    sent = f"sent by the link at {format_rate(rate)}"
    axes.plot(ends, [goodput(rate) * each for each in ends], color=ORANGE, linewidth=1.4, label=sent)
    axes.axvline(plan.objectives.downtime_s, color=GREEN, linewidth=1.2, label="the outage that is wanted")
    axes.yaxis.set_major_formatter(ticks.FuncFormatter(_size))
    axes.set_ylabel("distinct bytes")
    axes.set_xlabel("in a window of")
    _seconds(axes)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
