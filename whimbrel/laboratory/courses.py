"""The courses of single migrations: what was left over time under each policy, and what it decided when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from whimbrel.engine.policy import Reason
from whimbrel.policies import resolve
from whimbrel.sim.world import Outcome, simulate

from .canvas import DARK_GREY, GREEN, GREY, LIGHT_GREY, ORANGE, SKY, VERMILION, Axes, Figure, canvas
from .records import Case

__all__ = ["Course", "course", "draw"]

COLUMNS: Final = 3
MOST_POINTS: Final = 400
"""Of a line: a picture has no more columns of dots than that."""
LEAST_BYTES: Final = 64 << 10
"""Less is drawn there: the axis is logarithmic."""
WISHES: Final = {
    "limit": ("downtime_limit_s", VERMILION, "downtime limit"),
    "throttle": ("throttle", ORANGE, "throttle"),
    "bandwidth": ("bandwidth_bytes_per_s", SKY, "bandwidth"),
}
"""What is marked in the picture: the beginning of a knob's name, its colour, and what it is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One migration over time; seconds since ``migrate``.

    Attributes:
        policy: that steered it.
        left: (when, bytes that QEMU says are left).
        decided: (when, of which kind in `WISHES`, the sentence).
        moved_s: when the guest ran at the destination; ``None``: never.
        ended_s: when all was over.
        downtime_s: of the guest; ``None``: it was not moved.
        postcopy_s: when it went over to post-copy; ``None``: never.
    """

    policy: str
    left: tuple[tuple[float, int], ...]
    decided: tuple[tuple[float, str, str], ...]
    moved_s: float | None
    ended_s: float
    downtime_s: float | None
    postcopy_s: float | None = None


def course(case: Case, policy: str, seed: int) -> Course:
    """Simulate one.

    Raises:
        BadInput: the policy can't be had.
    """
    outcome = simulate(replace(case.scenario, policy=policy), seed, resolve(policy))
    truth = outcome.truth
    began_s = (outcome.derived["migrate_ns"] or 0) / 1e9
    left = [(each.at_s, each.remaining_bytes) for each in outcome.samples]
    moved = outcome.report is not None and outcome.report.moved
    switched = [at_ns / 1e9 - began_s for at_ns, each in outcome.log.of_kind("command") if _starts_postcopy(each)]
    return Course(
        policy=policy,
        left=tuple(_thinned(left)),
        decided=tuple(_decided(outcome, began_s)),
        moved_s=truth.moved_s if moved else None,
        ended_s=truth.total_s,
        downtime_s=truth.outage_s if moved else None,
        postcopy_s=switched[0] if switched and truth.postcopy else None,
    )


def _starts_postcopy(line: Mapping[str, Any]) -> bool:
    return bool(line["command"] == "start-postcopy")


def _decided(outcome: Outcome, began_s: float) -> Iterator[tuple[float, str, str]]:
    for at_ns, line in outcome.log.of_kind("decision"):
        if line["asked"] == Reason.SETUP.value:
            continue
        at_s = at_ns / 1e9 - began_s
        for kind, (beginning, _, _) in WISHES.items():
            if any(beginning in name for name in line["changes"]):
                yield at_s, kind, line["because"]


def _thinned(points: Sequence[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    """No more points than can be seen: of each of `MOST_POINTS` columns the first, the least and the greatest."""
    if len(points) <= MOST_POINTS:
        yield from points
        return
    span_s = points[-1][0] - points[0][0]
    columns: dict[int, list[tuple[float, int]]] = {}
    for point in points:
        columns.setdefault(int((point[0] - points[0][0]) / span_s * MOST_POINTS), []).append(point)
    for column in columns.values():
        kept = {column[0], min(column, key=lambda point: point[1]), max(column, key=lambda point: point[1])}
        yield from sorted(kept)


def draw(case: Case, courses: Iterable[Course]) -> Figure:
    """What was left over time, a panel for each policy, on the same axes."""
    told = list(courses)
    columns = min(COLUMNS, len(told))
    lines = math.ceil(len(told) / columns)
    figure, panels = canvas(lines, columns, height=2.0 * lines + 0.7, sharex=True, sharey=True)
    for axes, each in zip(panels, told, strict=False):
        _panel(axes, each)
    for axes in panels[len(told) :]:
        axes.set_axis_off()
    panels[0].set_yscale("log")
    panels[0].set_xlim(0, max(each.ended_s for each in told) * 1.02)
    figure.suptitle(f"{case.name}: {case.about}", x=0.01, ha="left", fontsize=8, color=DARK_GREY, wrap=True)
    figure.supxlabel("time since migrate (s)", fontsize=9)
    figure.supylabel("left to send (MiB)", fontsize=9)
    handles = [
        panels[0].plot([], [], "v", color=colour, markersize=4, label=title)[0] for _, colour, title in WISHES.values()
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _panel(axes: Axes, told: Course) -> None:
    axes.grid(True, color=LIGHT_GREY, linewidth=0.5)
    times = [at_s for at_s, _ in told.left]
    axes.plot(times, [max(LEAST_BYTES, left) / 2**20 for _, left in told.left], color=DARK_GREY, linewidth=1.0)
    for at_s, kind, _ in told.decided:
        _, colour, _ = WISHES[kind]
        axes.plot(
            [at_s], [1.02], "v", color=colour, markersize=3.5, transform=axes.get_xaxis_transform(), clip_on=False
        )
    if told.postcopy_s is not None:
        axes.axvspan(told.postcopy_s, told.ended_s, color=GREEN, alpha=0.15, linewidth=0)
    end = "called off"
    if told.moved_s is not None and told.downtime_s is not None:
        axes.axvspan(told.moved_s - told.downtime_s, told.moved_s, color=VERMILION, alpha=0.6, linewidth=0)
        end = f"moved in {told.ended_s:.1f} s, down {told.downtime_s * 1e3:.0f} ms"
    axes.set_title(told.policy, loc="left", fontsize=8, pad=9, fontweight="bold")
    axes.annotate(
        end, (1.0, 1.0), xycoords="axes fraction", xytext=(0, 9), textcoords="offset points", ha="right", fontsize=7,
        color=GREY if told.moved_s is None else DARK_GREY,
    )  # fmt: skip
