"""A comparison as pictures: downtime against time with the bound's front, survival, regrets, and who fails where.

In all of them a policy has the number of its place in the league.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .canvas import (
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SKY,
    VERMILION,
    Axes,
    Figure,
    canvas,
    matplotlib,
)
from .records import Row
from .statistics import LEVEL, Clusters, Interval
from .summary import Comparison, Figures, Regrets

__all__ = ["Front", "everywhere", "fronts", "kind_of", "regrets", "survivals"]

FRONT_COLUMNS: Final = 3
MOST_PANELS: Final = 9
LEAST_MS: Final = 1.0
"""Downtimes below a millisecond are drawn there: the axis is logarithmic."""
SAME_TIME: Final = 0.05
SAME_DOWNTIME: Final = 0.18
"""Points that are closer, as a part of the axis of time and as a natural logarithm, share a label."""
SURVIVAL_COLUMNS: Final = 5
Floats = NDArray[np.float64]
PARTS: Final[Floats] = np.linspace(0.0, 1.0, 201)
"""Of a case's limit."""
KINDS: Final = {
    "pre-copy": BLUE,
    "throttled": ORANGE,
    "post-copy": GREEN,
    "both": VERMILION,
}
"""What a policy did to have its guest moved, and its colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Bounds of one case and seed: points (total time, downtime), seconds, falling.

    Attributes:
        clairvoyant: no sender of this link can be below it.
        restricted: nor can any use of QEMU's knobs be below this one; empty: not known.
    """

    clairvoyant: tuple[tuple[float, float], ...]
    restricted: tuple[tuple[float, float], ...] = ()


def kind_of(rows: Sequence[Row]) -> str:
    """What was done to the guest in most of the runs that moved it, one of `KINDS`."""
    moved = [row for row in rows if row.converged]
    throttled = sum(row.throttle > 0 for row in moved) * 2 > len(moved)
    postcopy = sum(row.postcopy for row in moved) * 2 > len(moved)
    if throttled and postcopy:
        return "both"
    return "throttled" if throttled else "post-copy" if postcopy else "pre-copy"


# ---- downtime against time


def fronts(comparison: Comparison, bounds: Mapping[str, Front], cases: Sequence[str] = ()) -> Figure:
    """Downtime against total time: medians of all policies, and the bound's front.

    Args:
        comparison: of which.
        bounds: of the first seed of a case, by its name; those that are missing are not drawn.
        cases: which are drawn, a panel each; empty: the first `MOST_PANELS` of the comparison.
    """
    names = list(cases or [case.name for case in comparison.matrix.cases])[:MOST_PANELS]
    columns = min(FRONT_COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    figure, panels = canvas(lines, columns, height=3.1 * lines + 0.4 + 0.16 * len(comparison.matrix.policies) / 3)
    numbers = _numbers(comparison)
    for axes, name in zip(panels, names, strict=False):
        _front_panel(axes, comparison, name, bounds.get(name), numbers)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("total time (s)")
    for axes in panels[::columns]:
        axes.set_ylabel("downtime (ms)")
    _legend(figure, numbers, bool(bounds), any(front.restricted for front in bounds.values()))
    return figure


def _numbers(comparison: Comparison) -> dict[str, int]:
    return {standing.policy: place for place, standing in enumerate(comparison.league.standings, 1)}


def _front_panel(
    axes: Axes, comparison: Comparison, name: str, front: Front | None, numbers: Mapping[str, int]
) -> None:
    figures = comparison.of_case(name)
    limit_s = figures[0].limit_s
    rows = [row for row in comparison.rows if row.case == name]
    axes.set_title(name, loc="left", fontweight="bold")
    axes.set_yscale("log")
    axes.grid(True, color=LIGHT_GREY, linewidth=0.5)
    if front is not None:
        _stairs(axes, front.clairvoyant, limit_s, color="black", linewidth=1.2)
        if front.restricted:
            _stairs(axes, front.restricted, limit_s, color="black", linewidth=1.2, linestyle=(0, (3, 2)))
    axes.axhline(rows[0].goal_downtime_s * 1e3, color=GREY, linewidth=0.8, linestyle=":")
    stayed: list[int] = []
    marks: list[_Mark] = []
    for each in sorted(figures, key=lambda figure: numbers[figure.policy]):
        number = numbers[each.policy]
        if not each.moved or not math.isfinite(each.total_s.value):
            stayed.append(number)
            continue
        colour = KINDS[kind_of([row for row in rows if row.policy == each.policy])]
        marks.append(_mark(axes, each, number, colour))
    right_s = _right(figures, limit_s)
    _label(axes, marks, right_s)
    if stayed:
        text = "half or more called off: " + " ".join(map(str, stayed))
        axes.annotate(
            _folded(text, 44), (1.0, 0.995), xycoords="axes fraction", ha="right", va="top", fontsize=7, color=DARK_GREY
        )
    axes.set_xlim(0, right_s)
    low, high = axes.get_ylim()
    axes.set_ylim(max(LEAST_MS, low / 1.3), high * (3.0 if stayed else 1.5))


def _right(figures: Sequence[Figures], limit_s: float) -> float:
    """Where the axis of time ends: a little behind the last that moved its guest."""
    ends = [each.total_s.value for each in figures if each.moved and math.isfinite(each.total_s.value)]
    return min(limit_s, max(ends)) * 1.08 if ends else limit_s


class _Mark(NamedTuple):
    """A point and what it is called."""

    time_s: float
    down_ms: float
    number: int
    colour: str


def _mark(axes: Axes, figure: Figures, number: int, colour: str) -> _Mark:
    """Draw a point with its intervals."""
    time_s, down_ms = figure.total_s.value, max(LEAST_MS, figure.downtime_s.value * 1e3)
    low_ms, high_ms = (max(LEAST_MS, end * 1e3) for end in (figure.downtime_s.low, figure.downtime_s.high))
    axes.plot([time_s, time_s], [low_ms, high_ms], color=colour, linewidth=0.8, alpha=0.6)
    if math.isfinite(figure.total_s.high):
        axes.plot([figure.total_s.low, figure.total_s.high], [down_ms] * 2, color=colour, linewidth=0.8, alpha=0.6)
    axes.plot([time_s], [down_ms], "o", color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.5)
    return _Mark(time_s, down_ms, number, colour)


def _label(axes: Axes, marks: Sequence[_Mark], right_s: float) -> None:
    """Numbers beside the points; points that lie on each other share a label."""
    heaps: list[list[_Mark]] = []
    for mark in sorted(marks, key=lambda each: (each.time_s, each.down_ms)):
        heap = next((heap for heap in heaps if _together(heap[0], mark, right_s)), None)
        if heap is None:
            heaps.append([mark])
        else:
            heap.append(mark)
    for heap in heaps:
        colours = {mark.colour for mark in heap}
        text = _folded(" ".join(str(mark.number) for mark in sorted(heap, key=lambda each: each.number)), 12)
        on_left = heap[0].time_s > (0.75 if len(heap) < 4 else 0.35) * right_s
        axes.annotate(
            text,
            (heap[0].time_s, heap[0].down_ms),
            xytext=(-5 if on_left else 5, 0),
            textcoords="offset points",
            ha="right" if on_left else "left",
            va="center",
            fontsize=7,
            linespacing=0.95,
            color=colours.pop() if len(colours) == 1 else DARK_GREY,
        )


def _together(one: _Mark, other: _Mark, right_s: float) -> bool:
    """Whether their numbers would lie on each other."""
    apart_s, ratio = abs(one.time_s - other.time_s), abs(math.log(one.down_ms / other.down_ms))
    return apart_s < SAME_TIME * right_s and ratio < SAME_DOWNTIME


def _stairs(axes: Axes, points: Sequence[tuple[float, float]], limit_s: float, **how: Any) -> None:
    times = [time_s for time_s, _ in points]
    downs = [max(LEAST_MS, down_s * 1e3) for _, down_s in points]
    if times:
        axes.step([*times, max(limit_s, times[-1])], [*downs, downs[-1]], where="post", **how)


def _folded(text: str, cells: int) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > cells:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _legend(figure: Figure, numbers: Mapping[str, int], bounded: bool, restricted: bool) -> None:
    line = matplotlib("lines").Line2D
    told = [line([], [], color=colour, marker="o", linestyle="", label=kind) for kind, colour in KINDS.items()]
    if bounded:
        told.append(line([], [], color="black", label="clairvoyant bound"))
    if restricted:
        told.append(line([], [], color="black", linestyle=(0, (3, 2)), label="best use of the knobs, guest not slowed"))
    told.append(line([], [], color=GREY, linestyle=":", label="goal"))
    names = [line([], [], linestyle="", label=f"{number} {name}") for name, number in numbers.items()]
    figure.legend(handles=told, loc="outside upper left", ncols=len(told), fontsize=8, frameon=False)
    figure.legend(
        handles=names, loc="outside lower left", ncols=6, fontsize=7, frameon=False, handlelength=0, columnspacing=1.5
    )


# ---- survival


def survivals(comparison: Comparison) -> Figure:
    """Which part of the runs has not moved its guest yet, over time as a part of each case's limit.

    No run is censored before its limit, so this is what Kaplan and Meier would say; the band comes of other cases and
    seeds such as these, for runs of one case are alike.
    """
    standings = comparison.league.standings
    columns = min(SURVIVAL_COLUMNS, len(standings))
    lines = math.ceil(len(standings) / columns)
    figure, panels = canvas(lines, columns, height=1.45 * lines + 0.6, sharex=True, sharey=True)
    curves = {standing.policy: _left(_of(comparison, standing.policy)) for standing in standings}
    for place, (axes, standing) in enumerate(zip(panels, standings, strict=False), 1):
        for left, _, _ in curves.values():
            axes.step(PARTS, left, where="post", color=LIGHT_GREY, linewidth=0.6)
        left, low, high = curves[standing.policy]
        colour = KINDS[kind_of(_of(comparison, standing.policy))]
        axes.fill_between(PARTS, low, high, step="post", color=colour, alpha=0.25, linewidth=0)
        axes.step(PARTS, left, where="post", color=colour, linewidth=1.6)
        axes.set_title(f"{place} {standing.policy}", loc="left", fontsize=8)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
    for axes in panels[len(standings) :]:
        axes.set_axis_off()
    figure.supxlabel("time, as a part of the case's limit", fontsize=9)
    figure.supylabel("not moved yet", fontsize=9)
    return figure


def _of(comparison: Comparison, policy: str) -> list[Row]:
    return [row for row in comparison.rows if row.policy == policy]


def _left(rows: Sequence[Row]) -> tuple[Floats, Floats, Floats]:
    """The part of runs that is left at each of `PARTS`, and its interval."""
    ends = np.array([row.total_s / row.limit_s if row.converged else math.inf for row in rows])
    left = (ends[:, None] > PARTS).astype(np.float64)
    clusters = Clusters([row.case for row in rows])
    low, high = np.quantile(clusters.weights @ left, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return clusters.plain @ left, low, high


# ---- regrets

MECHANISM: Final = "mechanism: best use of the knobs above clairvoyant (median)"
POLICY: Final = "policy: this run above the best use of the knobs (median, 95 %)"
PAIRS: Final[tuple[tuple[str, str, str, float], ...]] = (
    ("time_s", "total time", "s", 1.0),
    ("downtime_s", "downtime", "ms", 1e3),
    ("bytes", "sent", "MiB", 1 / 2**20),
    ("lost_guest_s", "work lost", "s", 1.0),
)
"""What is regretted: the end of the columns' names, what it is called, the unit, and how many of them make one."""


def regrets(comparison: Comparison) -> Figure:
    """How far each policy is from the best, over the runs that moved the guest.

    Both parts of a bar are medians, each for itself; the line is the interval of the policy's own.
    """
    told = comparison.regrets
    figure, panels = canvas(1, len(PAIRS), height=0.24 * len(told) + 1.1, sharey=True)
    places = np.arange(len(told))
    for axes, (end, title, unit, per) in zip(panels, PAIRS, strict=True):
        mechanism = [_value(each, f"mechanism_{end}", per) for each in told]
        policy = [_interval(each, f"policy_{end}", per) for each in told]
        heights = [each.value for each in policy]
        if any(math.isfinite(value) for value in mechanism):
            axes.barh(places, mechanism, color=LIGHT_GREY, label=MECHANISM)
            left = [value if math.isfinite(value) else 0.0 for value in mechanism]
        else:
            left = [0.0] * len(told)
        axes.barh(places, heights, left=left, color=SKY, label=POLICY)
        for place, begin, each in zip(places, left, policy, strict=True):
            if math.isfinite(each.low) and math.isfinite(each.high):
                axes.plot([begin + each.low, begin + each.high], [place, place], color=BLUE, linewidth=1.0)
        axes.set_title(f"{title} ({unit})", loc="left")
        axes.grid(True, axis="x", color=LIGHT_GREY, linewidth=0.5)
        _bounded(axes, [begin + each.value for begin, each in zip(left, policy, strict=True)])
    panels[0].set_yticks(places, [f"{place} {each.policy}" for place, each in enumerate(told, 1)], fontsize=8)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=8, frameon=False)
    return figure


def _bounded(axes: Axes, ends: Sequence[float]) -> None:
    """Let no single bar push all the others against the axis: what is cut off is written there."""
    known = sorted(end for end in ends if math.isfinite(end))
    if not known:
        return
    typical = known[int(0.8 * (len(known) - 1))]
    right = min(known[-1], max(2.5 * typical, 1e-9)) * 1.05 or 1.0
    low = min(0.0, known[0] * 1.05)
    axes.set_xlim(low, right)
    for place, end in enumerate(ends):
        if math.isfinite(end) and end > right:
            axes.annotate(f"{end:.3g} →", (right, place), ha="right", va="center", fontsize=7, color=DARK_GREY)


def _value(told: Regrets, name: str, per: float) -> float:
    return told.medians[name].value * per if name in told.medians else math.nan


def _interval(told: Regrets, name: str, per: float) -> Interval:
    found = told.medians.get(name, Interval(math.nan, math.nan, math.nan))
    return Interval(found.value * per, found.low * per, found.high * per)


# ---- who fails where


def everywhere(comparison: Comparison) -> Figure:
    """Policies × cases: how many runs met the goal, and how long the median run took against the quickest policy."""
    cases = [case.name for case in comparison.matrix.cases]
    names = [standing.policy for standing in comparison.league.standings]
    met = np.full((len(names), len(cases)), np.nan)
    figure, (axes,) = canvas(1, 1, height=0.2 * len(names) + 1.9)
    for column, case in enumerate(cases):
        figures = {each.policy: each for each in comparison.of_case(case)}
        best_s = min((each.total_s.value for each in figures.values() if each.goal_met), default=math.nan)
        for line, name in enumerate(names):
            each = figures[name]
            met[line, column] = each.goal_met / each.runs
            axes.text(column, line, _against(each, best_s), ha="center", va="center", fontsize=5)
    shades = matplotlib("colors").LinearSegmentedColormap.from_list("met", ["#f4d6c6", "#ffffff", "#bfe3d5"])
    axes.imshow(met, aspect="auto", cmap=shades, vmin=0, vmax=1)
    axes.set_xticks(range(len(cases)), cases, rotation=60, ha="right", rotation_mode="anchor", fontsize=6)
    axes.set_yticks(range(len(names)), [f"{place} {name}" for place, name in enumerate(names, 1)], fontsize=7)
    axes.set_title(
        "median time against the quickest policy that met the goal (x);  – : half or more called off;  "
        "green: the goal was met, red: it was not",
        loc="left",
        fontsize=8,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _against(each: Figures, best_s: float) -> str:
    if not each.moved or not math.isfinite(each.total_s.value):
        return "–"
    return f"{each.total_s.value / best_s:.1f}" if math.isfinite(best_s) else "·"


ALL: Final[Mapping[str, Callable[[Comparison], Figure]]] = {
    "survival": survivals,
    "regrets": regrets,
    "cases": everywhere,
}
"""Pictures that need nothing but a comparison, by the names of their files."""
