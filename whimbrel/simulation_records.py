"""What a simulation gives, whatever the model: plain records.

Sizes are bytes, times seconds, rates bytes per second.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from whimbrel.sim.scenario import Scenario

__all__ = ["FIGURES", "Decided", "Row", "Run", "Simulation", "as_dict", "figures", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One iteration, as far as the model tells; ``None``: it does not."""

    number: int
    start_s: float
    """Seconds after ``migrate``."""
    duration_s: float
    to_send_bytes: float
    sent_bytes: float
    """On the wire."""
    left_bytes: float = 0.0
    """What was not sent when the next sync came."""
    dirtied_bytes: float | None = None
    """What that sync added."""
    bandwidth_bytes_per_s: float | None = None
    throttle: float | None = None
    downtime_limit_s: float | None = None
    stopped: bool = False
    """The guest stood still meanwhile: the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision of the policy."""

    at_s: float
    iteration: int
    asked: str
    because: str
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Knobs by name, with their new values; and ``capabilities``, the names of those that were switched on."""
    clamped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One simulated migration. Sizes are bytes, times seconds, rates bytes per second."""

    seed: int
    converged: bool
    """Whether the guest moved."""
    outcome: str
    """How it ended, in the model's word."""
    reason: str = ""
    """Why it did not converge."""
    total_s: float
    """From ``migrate`` until the guest runs at the destination; else until it was called off."""
    downtime_s: float | None
    """``None``: the model says nothing of it, or the guest was not stopped."""
    iterations: int
    """With the last one, in which the guest stands still."""
    transferred_bytes: float
    """On the wire."""
    throttle: float = 0.0
    """The most that the guest was slowed by."""
    downtime: Mapping[str, float] = field(default_factory=dict[str, float])
    """Itemised, in the order in which the items follow each other."""
    each_iteration: tuple[Row, ...] = ()
    decisions: tuple[Decided, ...] = ()
    remaining: tuple[tuple[float, float], ...] = ()
    """Remaining bytes over time, (seconds, bytes); straight between the points."""
    sending: tuple[tuple[float, float], ...] = ()
    """Bytes per second put on the wire, (from when, rate); the last entry says until when."""
    threshold: tuple[tuple[float, float], ...] = ()
    """What QEMU would send with the guest stopped, (from when, bytes); the last entry says until when."""
    drawn: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was drawn from the seed before it began, and faults where there are some."""
    others: tuple[Mapping[str, Any], ...] = ()
    """The figures of the other migrations that went on at the same time, each with its number, from 2 up."""
    notes: tuple[str, ...] = ()
    """What was dropped, passed over, or came late in this run."""
    log: bytes = b""
    """As docs/log.md has it; empty: the model writes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """All runs of one scenario."""

    scenario: Scenario
    model: str
    runs: tuple[Run, ...]
    """The first one with its course, all others without."""
    notes: tuple[str, ...] = ()
    """What a reader should know whatever the seed: what the model passed over, and what it took for what."""

    @property
    def first(self) -> Run:
        """The run of the first seed."""
        return self.runs[0]


MOST_POINTS = 200
"""Of a course in an object; a picture has them all."""
FIGURES = ("seed", "converged", "outcome", "total_s", "downtime_s", "iterations", "transferred_bytes", "throttle")
"""Of a run, where many are told side by side."""


def figures(run: Run) -> dict[str, Any]:
    """A run without its course."""
    return {name: getattr(run, name) for name in FIGURES}


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """What many runs come to: how many moved the guest, and of those the least, the middle and the greatest figures."""
    moved = [run for run in runs if run.converged]
    told: dict[str, Any] = {"runs": len(runs), "converged": len(moved)}
    for name in ("total_s", "downtime_s", "iterations", "transferred_bytes"):
        values = sorted(value for run in moved if (value := getattr(run, name)) is not None)
        told[name] = {"least": values[0], "median": statistics.median(values), "most": values[-1]} if values else None
    return told


def as_dict(simulation: Simulation) -> dict[str, Any]:
    """One object with the same keys for every model: what was asked comes first, then the first run, then all figures.

    Bytes and rates are whole, `remaining`, `sending` and `threshold` are thinned; the log is a file of its own.
    """
    first = _whole(asdict(replace(simulation.first, log=b"", remaining=(), sending=(), threshold=())))
    del first["log"]
    asked = {"model": simulation.model, "seed": first["seed"], "scenario": asdict(simulation.scenario)}
    return {
        **asked,
        "drawn": first["drawn"],
        **first,
        "remaining": _thinned(simulation.first.remaining),
        "sending": _thinned(simulation.first.sending),
        "threshold": _thinned(simulation.first.threshold),
        "notes": [*simulation.notes, *simulation.first.notes],
        "runs": [_whole(figures(run)) for run in simulation.runs],
        "summary": _whole(summary(simulation.runs)),
    }


def _whole(value: Any, name: str = "") -> Any:
    """The same, with whole numbers wherever a name speaks of bytes."""
    if isinstance(value, dict):
        fields_ = cast("dict[str, Any]", value)
        return {key: _whole(each, key if "bytes" in key else name) for key, each in fields_.items()}
    if isinstance(value, list | tuple):
        return [_whole(each, name) for each in cast("Sequence[Any]", value)]
    return round(value) if "bytes" in name and isinstance(value, float) and math.isfinite(value) else value


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, int]]:
    """As many points as a picture can show: of each span of time the most that was there."""
    if not points:
        return []
    span_s = max(points[-1][0], 0.0) / MOST_POINTS
    kept: list[tuple[float, int]] = []
    number = -1
    for at_s, value in points:
        point, span = (round(at_s, 3), round(value)), int(at_s / span_s) if span_s else 0
        if span != number:
            kept.append(point)
            number = span
        elif point[1] > kept[-1][1]:
            kept[-1] = point
    last = (round(points[-1][0], 3), round(points[-1][1]))
    return kept if kept[-1] == last else [*kept, last]
