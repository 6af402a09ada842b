"""What is written of a migration: the log's lines for what the machine takes, orders and decides.

The counterpart of `replay`, which reads them. Numbers, clocks and everything that only a driver knows
(the header, QEMU's own events, processes) are added where the log is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from typing import Any

from .estimate import Range, plain
from .foresight import Outlook
from .machine import (
    Event,
    Happened,
    Inspected,
    Machine,
    Marked,
    Measured,
    Order,
    Probe,
    Sampled,
    Shadowed,
    Taken,
    Tune,
)
from .pilot import Steering
from .policy import Reason
from .prediction import Prediction

Record = tuple[str, dict[str, Any]]
"""The kind of a line, and its fields."""


def of_event(event: Event) -> Record | None:
    """The line of an event; ``None`` for a signal, which is written as taken, with those that the machine raised."""
    match event:
        case Happened():
            return None
        case Sampled(statistics):
            return "sample", asdict(statistics)
        case Marked(mark, wall_s):
            return "mark", {"mark": mark.value, "at_s": wall_s}
        case Inspected(source, destination):
            return "inspected", {"source": source.value, "destination": destination.value}
        case Measured(measurements):
            return "measured", {"measurements": [asdict(each) for each in measurements]}
        case _:  # the type checkers see that only Learnt is left
            can = event.abilities
            return "learnt", {
                "facts": dict(event.facts),
                "note": event.note,
                "paused_before": event.paused_before,
                "abilities": can
                and asdict(can) | {"capabilities": sorted(can.capabilities), "parameters": sorted(can.parameters)},
            }


def of_taken(taken: Taken) -> Iterator[Record]:
    """The lines of a signal that was taken: itself, and where it led if the phase or the owner changed."""
    before, after = taken.before, taken.step.state
    yield "signal", {"signal": taken.signal.value, "phase": before.phase.value, "detail": taken.detail}
    if taken.moved:
        yield (
            "step",
            {
                "phase": after.phase.value,
                "owner": after.owner.value,
                "facts": sorted(fact.name for fact in after.facts),
                "because": taken.step.rule.because,
            },
        )


def of_order(order: Order | Tune | Probe, machine: Machine) -> Iterator[Record]:
    """The lines of what is about to be carried out."""
    if isinstance(order, Order):
        phase, owner = machine.phase.value, machine.owner.value
        yield "command", {"command": order.command.value, "phase": phase, "owner": owner}
    steering = order.setup if isinstance(order, Order) else order.steering
    if steering is not None:
        yield "decision", _decision(steering)
    if isinstance(order, Probe):
        yield "probe", {"windows_s": list(order.windows_s), "wait_s": order.wait_s}


def of_shadow(shadowed: Shadowed) -> Record:
    """The line of what a policy that only watches would have done."""
    steering = shadowed.steering
    decision = steering.decision
    wishes = [name for name in ("switch_over", "pause", "start_postcopy", "abort") if getattr(decision, name)]
    return "shadow", {"policy": shadowed.name, "wishes": wishes, "fault": steering.fault, **_decision(steering)}


def of_outlook(outlook: Outlook) -> Record:
    """The line of a live forecast; times and sizes that are without an end are ``null``."""
    fields: dict[str, Any] = {
        "at_s": round(outlook.at_s, 3),
        "iteration": outlook.iteration,
        "basis": outlook.basis.value,
        "ends_s": _range(outlook.ends_s, 3),
        "downtime_s": _range(outlook.downtime_s, 4),
        "transferred_bytes": _range(outlook.transferred_bytes, 0),
        "meets": round(outlook.meets, 3),
        "hopeless": None if outlook.hopeless is None else round(outlook.hopeless, 3),
    }
    if outlook.news:
        fields |= {"news": outlook.news, "verdict": outlook.verdict and asdict(outlook.verdict)}
    return "outlook", fields


def of_prediction(made: Prediction) -> Record:
    """The line of what was predicted; what is without an end is ``null``."""
    told = asdict(made) | {name: plain(getattr(made, name)) for name in ("total_s", "downtime_s", "transferred_bytes")}
    told["iterations"] = None if made.iterations is None else plain(made.iterations)
    told["components"] = {name: plain(each) for name, each in made.components.items()}
    return "prediction", told


def _range(given: Range, digits: int) -> list[float | None]:
    return [round(each, digits) if isfinite(each) else None for each in (given.low, given.middle, given.high)]


def _decision(steering: Steering) -> dict[str, Any]:
    asked_for = sorted(name for name, state in steering.decision.capabilities.items() if state)
    setup = {"capabilities": asked_for} if steering.asked is Reason.SETUP else {}
    return {
        "asked": steering.asked.value,
        "because": steering.decision.because,
        "changes": steering.changes,
        "clamped": list(steering.clamped),
        **setup,
    }
