"""What a convergence policy sees, and what it may decide.

A policy is a callable from an `Observation` to a `Decision`: a plain function or a small class. It sees no
driver, no clock and no QEMU, so the same file runs in simulation and on a real migration. Nothing decided
means nothing changed.

A policy in six lines::

    def patient(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=0.05, because="start low")
        if seen.elapsed_s > 60:
            return Decision(downtime_limit_s=0.3, because="a minute is enough")
        return Decision()
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .statistics import Iteration, Statistics


class Reason(enum.Enum):
    """Why a policy is asked."""

    SETUP = "setup"
    """Before ``migrate``: what is decided now also sets capabilities, which cannot change later."""
    ITERATION = "iteration"
    """A dirty-bitmap sync has begun a new iteration."""
    TICK = "tick"
    """The time that the policy asked for has passed."""
    DEADLINE = "deadline"
    """The user's deadline has passed; asked once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What the user wants, not knobs."""

    downtime_s: float = 0.3
    """The greatest downtime allowed, 0.001 to 2000 s (QEMU's own range)."""
    deadline_s: float | None = None
    """When the migration should be over, seconds from its start; ``None``: no hurry."""
    bandwidth_bytes_per_s: int | None = None
    """The most that may be sent, bytes per second; ``None``: all that the link takes."""
    greatest_throttle: float = 0.0
    """The most of the guest's CPU time that may be taken to slow it, 0 to 0.99."""
    may_abort: bool = False
    """Whether the policy may give up when the objectives can't be met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What can be set while a migration runs, as it stands."""

    downtime_limit_s: float = 0.3
    bandwidth_bytes_per_s: int = 0
    """0: unlimited."""
    throttle_initial: float | None = None
    throttle_increment: float | None = None
    throttle_ceiling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this pair of QEMUs can do: capabilities and parameters that both ends have."""

    capabilities: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that a policy gets to see."""

    reason: Reason
    elapsed_s: float = 0.0
    """Seconds since ``migrate`` was sent."""
    iteration: int = 0
    remaining_bytes: int = 0
    transferred_bytes: int = 0
    total_bytes: int = 0
    bandwidth_bytes_per_s: float = 0.0
    """Bytes sent per second over the last second or so; runs ahead of the link while buffers fill."""
    dirty_bytes_per_s: float = 0.0
    """Distinct bytes dirtied per second during the last whole iteration."""
    throttle: float = 0.0
    knobs: Knobs = field(default_factory=Knobs)
    objectives: Objectives = field(default_factory=Objectives)
    abilities: Abilities = field(default_factory=Abilities)
    iterations: Sequence[Iteration] = ()
    """Every iteration that has ended, oldest first. It may be kept: what ends later is not in it."""
    samples: tuple[Statistics, ...] = ()
    """The statistics of the last second or so, oldest first."""
    disk_remaining_bytes: int = 0
    disk_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to change. ``None`` leaves a thing as it is."""

    downtime_limit_s: float | None = None
    bandwidth_bytes_per_s: int | None = None
    """0: unlimited."""
    throttle_initial: float | None = None
    throttle_increment: float | None = None
    throttle_ceiling: float | None = None
    switch_over: bool = False
    """Ask for the switchover now: the limit goes to the greatest downtime allowed. A request only: QEMU
    syncs again and may go on."""
    abort: bool = False
    """Give up; only heeded where the objectives allow it."""
    capabilities: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Only at `Reason.SETUP`: QEMU capabilities that the policy wants."""
    wake_after_s: float | None = None
    """Ask again (`Reason.TICK`) after this many seconds, 0.01 or more; holds until stated anew."""
    because: str = ""
    """A sentence for the log."""


Policy = Callable[[Observation], Decision]
"""Any callable of this form is a policy."""
