"""What was predicted of a migration, and how that compares with what came of it, component by component."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .belief import Belief
from .estimate import Estimate, Range, range_of
from .foresight import Outlook
from .plan import Predicted

COMPONENTS = ("preparation", "iterations", "last_ram", "device_state", "fixed")
"""Of a migration's whole time, in order; seconds each. ``iterations`` end where the guest is stopped; ``last_ram`` ends
when the last page was handed to the socket; ``device_state`` when the destination has it all and has loaded it, so what
lay in the pipe is in it; ``fixed`` is the rest of the outage: stop, resume, our own reaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was predicted, before the migration or early in it.

    Attributes:
        basis: what it was made from: ``plan`` (before the start), or ``first iteration``.
        made_at_s: when, seconds since ``migrate``; 0: before.
        policy: for which one.
        meets: how likely it was to meet the objectives, 0 to 1.
        total_s, downtime_s, transferred_bytes, iterations: as in `whimbrel.engine.plan.Predicted`; ``inf``: never;
            ``None``: nothing could be said.
        components: by the names of `COMPONENTS`, seconds; those of which nothing could be said are missing.
        model: what the model itself was thought to be off by, which is in the ranges: ``time``, ``bytes``,
            ``downtime``, as `whimbrel.engine.belief.Belief` has them. Whoever learns from the comparison has to know.
    """

    basis: str
    policy: str
    meets: float
    total_s: Range
    downtime_s: Range
    transferred_bytes: Range
    iterations: Range | None = None
    made_at_s: float = 0.0
    components: Mapping[str, Range] = field(default_factory=dict[str, Range])
    model: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])


PLAN = "plan"
FIRST_ITERATION = "first iteration"


def of_predicted(predicted: Predicted, belief: Belief) -> Prediction | None:
    """What a plan says of the candidate that was taken.

    Args:
        predicted: of the candidate.
        belief: what the plan rests on.

    Returns:
        ``None``: nothing was predicted of it, as it can't be taken, or moves the guest in no draw.
    """
    if predicted.total_s is None or predicted.downtime_s is None or predicted.transferred_bytes is None:
        return None
    return Prediction(
        basis=PLAN,
        policy=predicted.candidate.runs or predicted.candidate.policy,
        meets=predicted.meets,
        total_s=predicted.total_s,
        downtime_s=predicted.downtime_s,
        transferred_bytes=predicted.transferred_bytes,
        iterations=predicted.iterations,
        components=dict(predicted.components),
        model={"time": belief.model_time, "bytes": belief.model_bytes, "downtime": belief.model_downtime},
    )


def of_outlook(outlook: Outlook, policy: str) -> Prediction:
    """What is expected when the first iteration has ended, of a migration without a plan.

    Args:
        outlook: the live forecast at that moment.
        policy: which one steers, as it is written on the command line.
    """
    return Prediction(
        basis=FIRST_ITERATION,
        policy=policy,
        meets=outlook.meets,
        total_s=outlook.ends_s,
        downtime_s=outlook.downtime_s,
        transferred_bytes=outlook.transferred_bytes,
        made_at_s=outlook.at_s,
        components={"iterations": _less(outlook.ends_s, outlook.downtime_s.middle)},
    )


def _less(total_s: Range, outage_s: float) -> Range:
    """Up to the guest's stop. (Next to the whole the outage is short: its own range does not matter.)"""
    return Range(*(max(0.0, end - outage_s) if end < math.inf else end for end in _ends(total_s)))


def _ends(whole: Range) -> tuple[float, float, float]:
    return whole.low, whole.middle, whole.high


def prediction_of(told: Mapping[str, Any]) -> Prediction:
    """A prediction as a log's line has it, ``null`` in a range being ``inf``.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    iterations = told.get("iterations")
    return Prediction(
        basis=str(told["basis"]),
        policy=str(told["policy"]),
        meets=float(told["meets"]),
        total_s=range_of(told["total_s"]),
        downtime_s=range_of(told["downtime_s"]),
        transferred_bytes=range_of(told["transferred_bytes"]),
        iterations=None if iterations is None else range_of(iterations),
        made_at_s=float(told["made_at_s"]),
        components={str(name): range_of(each) for name, each in told["components"].items()},
        model={
            str(name): Estimate(float(each["value"]), float(each["spread"]), str(each["source"]))
            for name, each in told["model"].items()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure: predicted and actual.

    Attributes:
        name: ``total``, ``downtime``, ``transferred``, ``iteration_count``, or one of `COMPONENTS`.
        unit: ``s``, ``bytes`` or empty.
        predicted: its range.
        actual: what came of it.
        within: whether the range held.
        off: actual over predicted median, less 1: -0.1 is a tenth less than predicted. ``None`` where the median is 0
            or ``inf``.
    """

    name: str
    unit: str
    predicted: Range
    actual: float
    within: bool
    off: float | None
