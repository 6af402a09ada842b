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
class Measurement:
    """What the guest did in a window of time before the migration began, as measured on its QEMU.

    Attributes:
        at_s: when the window ended, seconds since the first of them; a guest's phases show in several.
        window_s: how long it was.
        dirtied_bytes: distinct bytes dirtied in it (``calc-dirty-rate``: a point of the curve f).
        vcpu_shares: how much of the window each vCPU ran, 0 to 1; empty where the host can't be asked.
    """

    at_s: float
    window_s: float
    dirtied_bytes: float
    vcpu_shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What the user wants, not knobs."""

    downtime_s: float = 0.3
    """The greatest downtime allowed, 0.001 to 2000 s (QEMU's own range)."""
    deadline_s: float | None = None
    """When the migration should be over, seconds from its start, with post-copy until its last page is there; ``None``:
    no hurry."""
    bandwidth_bytes_per_s: int | None = None
    """The most that may be sent, bytes per second; ``None``: all that the link takes."""
    greatest_throttle: float = 0.0
    """The most of the guest's CPU time that may be taken to slow it, 0 to 0.99."""
    may_abort: bool = False
    """Whether the policy may give up when the objectives can't be met."""
    may_pause: bool = False
    """Whether the policy may let the guest stand still for as long as the rest takes, whatever `downtime_s` says."""
    may_postcopy: bool = False
    """Whether the policy may go over to post-copy: from then on a lost link stops the guest until it is mended."""
    abort_on_fault: bool = False
    """Whether a policy that raises, talks nonsense or never answers ends the migration; otherwise it goes on under the
    last good settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What can be set while a migration runs, as it stands."""

    downtime_limit_s: float = 0.3
    bandwidth_bytes_per_s: int = 0
    """0: unlimited."""
    throttle_initial: float | None = None
    throttle_increment: float | None = None
    throttle_ceiling: float | None = None
    throttle_trigger: float | None = None
    throttle_tailslow: bool | None = None
    outside_throttle: float = 0.0
    dirty_limit_bytes_per_s: int | None = None
    xbzrle_cache_bytes: int | None = None
    multifd_channels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this pair of QEMUs can do: capabilities and parameters that both ends have."""

    capabilities: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    outside_throttle: bool = False
    """Whether the source's vCPU threads can be slowed from outside of QEMU: they run on this host, and it lets us."""
    measuring: bool = False
    """Whether the guest can be measured before the start (`Decision.measure_s`)."""


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
    measurements: tuple[Measurement, ...] = ()
    """What was measured before the start, oldest first (see `Decision.measure_s`)."""
    vcpu_shares: tuple[float, ...] = ()
    """How much of the last second or so each vCPU ran, 0 to 1; empty where the host can't be asked. A throttle that
    leaves a vCPU more than that does not slow it."""
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
    throttle_trigger: float | None = None
    """What part of the bytes sent must be dirtied, 0.01 to 1, for a sync to count for QEMU's throttle."""
    throttle_tailslow: bool | None = None
    """Whether QEMU's throttle rises in smaller steps towards its end."""
    outside_throttle: float | None = None
    """Share of their time, 0 to 0.99, that is taken from the source's vCPUs from outside of QEMU, at once and absolute;
    0 lifts it. Only where `Abilities.outside_throttle`."""
    dirty_limit_bytes_per_s: int | None = None
    """The most that each vCPU may dirty (``vcpu-dirty-limit``); needs the capability ``dirty-limit``."""
    xbzrle_cache_bytes: int | None = None
    """Size of the cache of the capability ``xbzrle``; rounded down to a power of two, as QEMU wants it."""
    multifd_channels: int | None = None
    """How many channels the capability ``multifd`` opens, 1 to 255; only at `Reason.SETUP`."""
    switch_over: bool = False
    """Ask for the switchover now: the limit goes to the greatest downtime allowed. A request only: QEMU
    syncs again and may go on."""
    pause: bool = False
    """Let the guest stand still until the rest has gone over, however long that takes; only heeded where the
    objectives allow it."""
    start_postcopy: bool = False
    """Go over to post-copy now; only heeded where the objectives allow it and the capability ``postcopy-ram`` was asked
    for at `Reason.SETUP`."""
    abort: bool = False
    """Give up; only heeded where the objectives allow it."""
    not_yet_s: float | None = None
    """Only at `Reason.SETUP`: do not start, ask again in so many seconds, 0.01 or more. A start can be put off 1000
    times, and by an hour in all, measuring included; after that it goes ahead."""
    measure_s: tuple[float, ...] = ()
    """Only at `Reason.SETUP`: do not start, measure what the guest dirties in windows of these lengths, one after the
    other, and ask again. QEMU 7.2 rounds each up to whole seconds. Heeded where `Abilities.measuring`; otherwise, and
    where a measurement fails, it is asked again without."""
    capabilities: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Only at `Reason.SETUP`: QEMU capabilities that the policy wants."""
    wake_after_s: float | None = None
    """Ask again (`Reason.TICK`) after this many seconds, 0.01 or more; holds until stated anew."""
    because: str = ""
    """A sentence for the log."""


Policy = Callable[[Observation], Decision]
"""Any callable of this form is a policy."""
