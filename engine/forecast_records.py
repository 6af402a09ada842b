"""What a forecast is made from, and what it says: plain records.

Sizes are bytes, times seconds, rates bytes per second. "Wire" bytes have headers and are what a link carries; all
others are bytes of memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from .costs import Costs as Costs
from .curve import Curve, DirtyCurve
from .errors import BadInput
from .policy import Abilities, Objectives

_HALVINGS = 40
"""Down to a trillionth of full speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers:
    """Those who write to a part of the memory that nobody else writes to.

    Attributes:
        curve: what they dirty, by a window of their own time, that is of time at full speed.
        cpu_share: how much of their vCPU they need at full speed, 0 to 1: under a throttle they get
            ``min(1, (1 - throttle) / cpu_share)`` of it. 1: slowed at once; 0: never, but for a throttle of 1.
            ``None``: a device, by DMA, which no throttle slows.
        vcpus: over how many vCPUs they are spread, for a limit on each one.
        range_bytes: the addresses that their pages are scattered over; ``None``: no more than they ever dirty. The
            ranges lie one behind the other from the lowest address up.
        vcpu: the first of those vCPUs.
        duty: the part of all time in which they write; in the rest they need no CPU.
    """

    curve: DirtyCurve
    cpu_share: float | None = 1.0
    vcpus: int = 1
    range_bytes: float | None = None
    vcpu: int = 0
    duty: float = 1.0

    def speed(self, throttle: float) -> float:
        """What they keep of their speed under a throttle of 0 to 0.99."""
        if not self.cpu_share:
            return 1.0
        return min(1.0, (1.0 - throttle) / self.cpu_share)

    def speed_within(self, vcpu_bytes_per_s: float) -> float:
        """What they keep of it if no vCPU may dirty more than that in a second, the period of ``vcpu-dirty-limit``."""
        at, bound = self.curve.at, vcpu_bytes_per_s * self.vcpus
        if self.cpu_share is None or at(1.0) <= bound:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if at(middle) > bound else (middle, high)
        return low


class Detector(StrEnum):
    """What counts as a sync that shows no convergence; at the second one the guest is slowed."""

    ORIGINAL = "original"
    """More was dirtied than `Throttling.trigger` of what was sent (``migration_trigger_throttle`` of ``ram.c``)."""
    REFINED = "refined"
    """That, or it was so and dirtied against sent did not fall, counted on its own (H. Huang's series of 2024, which
    was not merged; it comes with syncs within an iteration, see `Throttling.periodic_sync_s`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """How QEMU slows a guest that dirties too fast.

    Attributes:
        always: on, whatever the policy says; else it is on if the policy asked for ``auto-converge`` at the start.
        trigger: dirtied bytes above this part of the sent ones, over a period of more than a second, count.
        initial: first throttle, 0.01 to 0.99; the policy's knob goes before it, as with the next two.
        increment: what is added at each later step.
        ceiling: the most.
        tailslow: steps get smaller towards the end (``cpu-throttle-tailslow``).
        detector: see there.
        periodic_sync_s: a sync comes at least so often after the first iteration (5 s from QEMU 9.2 on);
            ``None``: as up to 9.1.
        vcpu_limit_bytes_per_s: instead of the throttle each vCPU may dirty so much per second (``vcpu-dirty-limit``
            from 8.1 on); only those that write pay. ``None``: the throttle.
    """

    always: bool = False
    trigger: float = 0.5
    initial: float = 0.2
    increment: float = 0.1
    ceiling: float = 0.99
    tailslow: bool = False
    detector: Detector = Detector.ORIGINAL
    periodic_sync_s: float | None = None
    vcpu_limit_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deltas:
    """What XBZRLE makes of a page that has changed.

    Attributes:
        ratio: its difference, encoded, as a part of the page; 1 or more: it goes in full, as QEMU has it.
        encode_bytes_per_s: how fast pages are compared with the cache, memory bytes, above 0 (1.5 to 2.2 GB/s:
            P. Svärd et al., VEE 2011).
        cache_bytes: unless the policy says how large the cache is; QEMU's own default.
    """

    ratio: float
    encode_bytes_per_s: float = 1.5e9
    cache_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One migration that is to be forecast.

    Attributes:
        writers: those who dirty memory; none: an idle guest.
        total_bytes: all RAM blocks.
        zero_bytes: of it, pages that are all zero; they lie at the upper end and come last in the first iteration.
        wire_ratio: what a page comes to on the wire by compression, as a part of itself, its header not counted.
        bandwidth_bytes_per_s: what the link carries, wire bytes.
        pipe_bytes: socket buffers and queue, which a sender fills ahead of the link.
        latency_s: of the link, one way.
        objectives: what the user wants.
        abilities: what the policy is told that the pair can do.
        costs: of everything else.
        throttling: how the guest is slowed.
        clear_chunk_bytes: the dirty log is cleared by chunks of this size, each when its first page is sent, as with
            KVM (``x-clear-bitmap-shift``, 1 GiB by default); ``None``: at the sync, as with TCG.
        deltas: what XBZRLE does where the policy asks for it; ``None``: nothing, as if it were off.
        several_channels: whether ``multifd``, where the policy asks for it, makes the sender faster.
        scatter: by which factors the bandwidth that QEMU measures, and its threshold with it, is off when an iteration
            ends, one for each in turn, and from the first again; empty: it measures what there is.
        limit_s: the migration is called off after so long.
        most_iterations: and after so many iterations.

    Raises:
        BadInput: naming every field that is out of its range.
    """

    writers: tuple[Writers, ...]
    total_bytes: int
    zero_bytes: int = 0
    wire_ratio: float = 1.0
    bandwidth_bytes_per_s: float
    pipe_bytes: int = 0
    latency_s: float = 0.0
    objectives: Objectives = field(default_factory=Objectives)
    abilities: Abilities = field(default_factory=Abilities)
    costs: Costs = field(default_factory=Costs)
    throttling: Throttling = field(default_factory=Throttling)
    clear_chunk_bytes: int | None = None
    deltas: Deltas | None = None
    several_channels: bool = False
    scatter: tuple[float, ...] = ()
    limit_s: float = 3600.0
    most_iterations: int = 20_000

    def __post_init__(self) -> None:
        above = ("total_bytes", "wire_ratio", "bandwidth_bytes_per_s", "limit_s", "most_iterations")
        wrong = [(name, "above 0, and finite") for name in above if not 0 < getattr(self, name) < math.inf]
        least = ("pipe_bytes", "latency_s")
        wrong += [(name, "0 or more, and finite") for name in least if not 0 <= getattr(self, name) < math.inf]
        if self.clear_chunk_bytes is not None and self.clear_chunk_bytes < 1 << 20:
            wrong.append(("clear_chunk_bytes", "1 MiB or more"))
        if not 0 <= self.zero_bytes <= self.total_bytes:
            wrong.append(("zero_bytes", "from 0 to total_bytes"))
        normal = max(0, self.total_bytes - self.zero_bytes)
        if sum(each.range_bytes or 0.0 for each in self.writers) > normal:
            wrong.append(("writers", f"ranges of no more than {normal} bytes in all, for the rest is zero"))
        if len(wrong) == 1:
            name, allowed = wrong[0]
            raise BadInput(name, getattr(self, name), allowed)
        if wrong:
            given = [getattr(self, name) for name, _ in wrong]
            allowed = "; ".join(f"{name} {allowed}" for name, allowed in wrong)
            raise BadInput(", ".join(name for name, _ in wrong), given, allowed)

    @classmethod
    def of_curve(
        cls,
        curve: Curve,
        *,
        bandwidth_bytes_per_s: float,
        objectives: Objectives | None = None,
        pipe_bytes: int = 0,
        costs: Costs | None = None,
    ) -> Setting:
        """A guest of which nothing but its measured curve is known: writers that need all of their vCPU."""
        return cls(
            writers=(Writers(curve=curve, range_bytes=curve.total_bytes - curve.zero_bytes),),
            total_bytes=round(curve.total_bytes),
            zero_bytes=round(curve.zero_bytes),
            bandwidth_bytes_per_s=bandwidth_bytes_per_s,
            pipe_bytes=pipe_bytes,
            objectives=objectives if objectives is not None else Objectives(),
            costs=costs if costs is not None else Costs(),
        )


# ---- what it says


class Outcome(StrEnum):
    """How a forecast ends."""

    COMPLETED = "completed"
    TIME_LIMIT = "time-limit"
    """Called off after `Setting.limit_s`."""
    MANY_ITERATIONS = "many-iterations"
    """Called off after `Setting.most_iterations`."""
    GAVE_UP = "gave-up"
    """The policy gave up."""


class Row(NamedTuple):
    """One iteration: a dirty-bitmap sync to the next. (A tuple, for forecasts make thousands of them.)"""

    number: int
    start_s: float
    """Seconds since ``migrate``."""
    duration_s: float
    to_send_bytes: float
    """In the bitmap at its start."""
    left_bytes: float
    """Of that, not yet sent when the next sync came."""
    dirtied_bytes: float
    """What that sync newly marked."""
    wire_bytes: float
    bandwidth_bytes_per_s: float
    """As QEMU measured it over its last whole window, wire bytes."""
    threshold_bytes: float
    """In force when the sync came."""
    throttle: float
    downtime_limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """From the guest's stop at the source to its resumption, seconds, itemised."""

    stop_s: float
    """The last sync, with the guest stopped."""
    pipe_s: float
    """What lay in the pipe goes over."""
    last_ram_s: float
    """The last dirty pages go over."""
    device_state_s: float
    """The device state goes over, and the latency of the link."""
    load_s: float
    """The destination loads it and answers."""
    resume_s: float
    """It resumes the guest."""
    last_ram_bytes: float
    """How much the last dirty pages were."""

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.stop_s + self.pipe_s + self.last_ram_s + self.device_state_s + self.load_s + self.resume_s


class Decided(NamedTuple):
    """A decision of the policy that changed something, or that was not allowed as it stood."""

    at_s: float
    iteration: int
    asked: str
    because: str
    changes: Mapping[str, float | int]
    clamped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What would happen.

    Attributes:
        outcome: how it ends.
        total_s: from ``migrate`` until the guest runs at the destination, with post-copy until all of it is there, or
            until it is called off.
        downtime_s: of the outage; where it does not converge: what it would be, were the guest stopped there and then.
        outage: itemised; ``None`` where it does not converge.
        rows: the iterations.
        transferred_bytes: on the wire.
        decisions: of the policy, as clamped to the objectives.
        reason: why it does not converge; empty where it does.
        throttle: the most that the guest was slowed by.
        work: what the guest did of what it would have done unhindered while the migration went on, 0 to 1; the
            outage counts as nothing done.
        postcopy_s: for so long, the end of `total_s`, pages still come after the guest has moved.
    """

    outcome: Outcome
    total_s: float
    downtime_s: float
    outage: Outage | None
    rows: tuple[Row, ...]
    transferred_bytes: float
    decisions: tuple[Decided, ...]
    reason: str = ""
    throttle: float = 0.0
    work: float = 1.0
    postcopy_s: float = 0.0

    @property
    def moved_s(self) -> float:
        """From ``migrate`` until the guest runs at the destination, or until it is called off."""
        return self.total_s - self.postcopy_s

    @property
    def converged(self) -> bool:
        """Whether the guest moves."""
        return self.outcome is Outcome.COMPLETED

    @property
    def iterations(self) -> int:
        """How many there are."""
        return len(self.rows)
