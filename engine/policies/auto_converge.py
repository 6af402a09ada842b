"""``auto_converge``: QEMU slows the guest by itself until it dirties less than is sent.

The capability ``auto-converge`` (J. Herne, 2015; ``migration_trigger_throttle`` of ``ram.c``). Looked at at syncs
that come more than a second after the last look: if more was dirtied than half (``throttle-trigger-threshold``, 50 %)
of what was sent, a counter goes up; at two it starts again from 0, and the guest loses 20 % of its time
(``cpu-throttle-initial``), then 10 % more each time (``cpu-throttle-increment``), up to 99 % (``max-cpu-throttle``).
It never loses less again. With ``cpu-throttle-tailslow`` (K. Zhu, 2020) steps become smaller towards the end: no
larger than what would bring the dirtied bytes down to the trigger.

All of it happens within QEMU: the policy sets the knobs and looks on. Where slowing the guest is not allowed, or
can't be had, this is ``fixed``, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import share
from .permits import as_fixed, why_no_qemu_throttle

CAPABILITY = "auto-converge"
INITIAL, INCREMENT, CEILING, TRIGGER = 0.2, 0.1, 0.99, 0.5
"""QEMU's defaults (7.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConverge:
    """Switch QEMU's throttle on, and hold the downtime limit.

    Attributes:
        initial: the first throttle, a share of the vCPUs' time, 0.01 to 0.99.
        increment: what each later step adds, 0.01 to 0.99.
        ceiling: the most, 0.01 to 0.99; the user's `Objectives.greatest_throttle` goes before it.
        trigger: what part of the bytes sent must be dirtied for a sync to count, 0.01 to 1.
        tailslow: whether steps become smaller towards the end.
        downtime_limit_s: the limit given to QEMU, seconds; ``None``: the greatest downtime allowed.

    Raises:
        BadInput: a share that is none.
    """

    initial: float = INITIAL
    increment: float = INCREMENT
    ceiling: float = CEILING
    trigger: float = TRIGGER
    tailslow: bool = False
    downtime_limit_s: float | None = None

    def __post_init__(self) -> None:
        share(initial=self.initial, increment=self.increment, ceiling=self.ceiling, trigger=self.trigger)

    def __call__(self, seen: Observation) -> Decision:
        """Decide once, before the start."""
        if seen.reason is not Reason.SETUP:
            return Decision()
        limit_s = self.downtime_limit_s or seen.objectives.downtime_s
        return begin_ladder(
            seen,
            limit_s,
            because=f"QEMU slows the guest by {self.initial:.0%}, then {self.increment:.0%} more at a time",
            initial=self.initial,
            increment=self.increment,
            ceiling=self.ceiling,
            trigger=self.trigger,
            tailslow=self.tailslow,
        )


def begin_ladder(
    seen: Observation,
    limit_s: float,
    *,
    because: str,
    initial: float,
    increment: float,
    ceiling: float,
    trigger: float,
    tailslow: bool | None = None,
) -> Decision:
    """Switch QEMU's ladder of throttles on, or hold the limit alone where that is not allowed or can't be had.

    Args:
        seen: before the start (`Reason.SETUP`).
        limit_s: the downtime limit, seconds.
        because: the reason given where it is switched on.
        initial: as in `AutoConverge`, and so are the next three.
        increment: a share of the vCPUs' time.
        ceiling: a share of the vCPUs' time.
        trigger: a share of the bytes sent.
        tailslow: as there; ``None``: left as it is.
    """
    if refused := why_no_qemu_throttle(seen):
        return as_fixed(limit_s, refused)
    return Decision(
        downtime_limit_s=limit_s,
        throttle_initial=initial,
        throttle_increment=increment,
        throttle_ceiling=ceiling,
        throttle_trigger=trigger,
        throttle_tailslow=tailslow,
        capabilities={CAPABILITY: True},
        because=because,
    )
