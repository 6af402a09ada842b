"""Conditions on what is seen: which policy of a composition is in charge (`whimbrel.engine.policies.composition`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from whimbrel.engine.errors import BadInput
from whimbrel.engine.pilot import LEAST_WAKE_S
from whimbrel.engine.policy import Observation

from .permits import left_s

Test = Callable[[Observation], bool]
"""A question about what is seen. A `Condition`, or any function of your own."""

LOOK_S = 0.5
"""How often a condition on what changes between iterations is looked at, seconds."""


def _progress(seen: Observation) -> float | None:
    if not seen.iterations or (last := seen.iterations[-1]).remaining_at_start_bytes <= 0:
        return None
    begun = last.remaining_at_start_bytes
    return (begun - last.remaining_at_end_bytes - last.dirtied_bytes) / begun


QUANTITIES: dict[str, Callable[[Observation], float | None]] = {
    "iteration": lambda seen: seen.iteration,
    "elapsed_s": lambda seen: seen.elapsed_s,
    "remaining_bytes": lambda seen: seen.remaining_bytes if seen.total_bytes else None,
    "transferred_bytes": lambda seen: seen.transferred_bytes,
    "bandwidth_bytes_per_s": lambda seen: seen.bandwidth_bytes_per_s or None,
    "dirty_bytes_per_s": lambda seen: seen.dirty_bytes_per_s if seen.iterations else None,
    "throttle": lambda seen: max(seen.throttle, seen.knobs.outside_throttle),
    "downtime_s": left_s,
    "progress": _progress,
}
"""What a `Condition` may be about, as an observation tells it; ``None``: not known yet. ``downtime_s`` is how long the
rest would take; ``progress`` by what part of itself the rest has fallen, from the start of one iteration to that of the
next."""
AT_ITERATIONS = frozenset({"iteration", "dirty_bytes_per_s", "progress"})
"""These only change where the policy is asked anyway."""
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A quantity compared with a number; false while the quantity is not known.

    Attributes:
        quantity: a key of `QUANTITIES`; its unit is at its end.
        relation: a key of `RELATIONS`.
        value: in that unit.

    Raises:
        BadInput: there is no such quantity or relation.
    """

    quantity: str
    relation: str
    value: float

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise BadInput("condition", self.quantity, f"one of {', '.join(sorted(QUANTITIES))}")
        if self.relation not in RELATIONS:
            raise BadInput("condition", self.relation, f"one of {' '.join(RELATIONS)}")

    def __call__(self, seen: Observation) -> bool:
        """Whether it holds."""
        told = QUANTITIES[self.quantity](seen)
        return told is not None and RELATIONS[self.relation](told, self.value)

    def __str__(self) -> str:
        return f"{self.quantity} {self.relation} {self.value:g}"

    def next_look_s(self, elapsed_s: float) -> float | None:
        """When it may have changed without anybody being asked, elapsed seconds; ``None``: never."""
        if self.quantity in AT_ITERATIONS:
            return None
        if self.quantity == "elapsed_s":
            # These two change a little after it.
            at_s = self.value + (LEAST_WAKE_S if self.relation in (">", "<=") else 0.0)
            return at_s if at_s > elapsed_s else None
        return elapsed_s + LOOK_S


def next_look_s(test: Test, elapsed_s: float) -> float | None:
    """When a test may have changed without anybody being asked, elapsed seconds; ``None``: never."""
    return test.next_look_s(elapsed_s) if isinstance(test, Condition) else elapsed_s + LOOK_S
