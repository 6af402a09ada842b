"""What was predicted of a migration, and how that compares with what came of it, component by component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .estimate import Range

COMPONENTS = ("preparation", "iterations", "last_ram", "device_state", "fixed")
"""Of a migration's whole time, in order; seconds each. ``last_ram`` has what lay in the pipe, ``fixed`` is the rest of
the outage: stop, load, resume, our own reaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was predicted, before the migration or early in it.

    Attributes:
        basis: what it was made from: ``plan`` (before the start), or ``first iteration``.
        made_at_s: when, seconds since ``migrate``; 0: before.
        policy: for which one.
        meets: how likely it was to meet the objectives, 0 to 1.
        total_s, downtime_s, transferred_bytes, iterations: as in `whimbrel.engine.plan.Predicted`.
        components: by the names of `COMPONENTS`, seconds; those of which nothing could be said are missing.
    """

    basis: str
    policy: str
    meets: float
    total_s: Range
    downtime_s: Range
    transferred_bytes: Range
    iterations: Range
    made_at_s: float = 0.0
    components: Mapping[str, Range] = field(default_factory=dict[str, Range])


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure: predicted and actual.

    Attributes:
        name: ``total``, ``downtime``, ``transferred``, ``iterations``, or one of `COMPONENTS`.
        unit: ``s``, ``bytes`` or empty.
        predicted: its range.
        actual: what came of it.
        within: whether the range held.
        off: actual over predicted median, less 1: -0.1 is a tenth less than predicted. ``None`` where the median is 0.
    """

    name: str
    unit: str
    predicted: Range
    actual: float
    within: bool
    off: float | None
