"""What a simulation gives, whatever the model: plain records.

Sizes are bytes, times seconds, rates bytes per second.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from whimbrel.sim.scenario import Scenario

__all__ = ["Decided", "Row", "Run", "Simulation", "as_dict", "figures", "summary"]


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
    changes: Mapping[str, float | int] = field(default_factory=dict[str, float | int])
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
    others: tuple[Mapping[str, Any], ...] = ()
    """The figures of the other migrations that went on at the same time."""
    log: bytes = b""
    """As docs/log.md has it; empty: the model writes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """All runs of one scenario."""

    scenario: Scenario
    model: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know: what the model passed over, and what it took for what."""

    @property
    def first(self) -> Run:
        """The run of the first seed."""
        return self.runs[0]


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
    """One object with the same keys for every model; the first run in full, of all of them the figures."""
    first = asdict(simulation.first)
    del first["log"]
    return {
        "model": simulation.model,
        **first,
        "notes": simulation.notes,
        "runs": [figures(run) for run in simulation.runs],
        "summary": summary(simulation.runs),
        "scenario": asdict(simulation.scenario),
    }
