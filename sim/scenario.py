"""What is simulated: plain records, checked as a whole. How they are read from a file is `whimbrel`'s business."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from whimbrel.engine.policy import Objectives

from .qemu.contract import Costs, Version


class Pattern(StrEnum):
    """Which page of its range a write goes to."""

    UNIFORM = "uniform"
    """Any, independently."""
    SWEEP = "sweep"
    """The next one in address order, round and round."""
    ZIPF = "zipf"
    """The page of rank r with probability in proportion to ``r ** -skew``; ranks are scattered over the addresses."""
    HOTSPOT = "hotspot"
    """``share`` of the writes go to ``part`` of the pages, uniformly within each; the hot pages are scattered."""
    POISSON = "poisson"
    """As uniform, but the writes come at random times, not evenly spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A range of pages and who writes to it; one to one a page class of the workload guest, where that has the key."""

    name: str
    size_bytes: int
    rate_bytes_per_s: float = 0.0
    """4096 times the page writes per second while it is on."""
    pattern: Pattern = Pattern.UNIFORM
    skew: float = 0.99
    share: float = 0.95
    part: float = 0.2
    period_s: float = 0.0
    duty: float = 1.0
    shift_s: float = 0.0
    zero: bool = False
    """Its pages are all zero until they are written for the first time."""
    delta_bytes: int = 4096
    """What the difference between two versions of a page comes to for XBZRLE; 4096: more than the page."""
    compressed_ratio: float = 1.0
    """Size after compression, as a part of the page."""
    vcpu: int | None = 0
    """Which vCPU does it; ``None``: a device, by DMA, which no throttle slows."""
    cpu_share: float = 0.0
    """How much of its vCPU it needs at its full rate, 0 to 1; 0: next to nothing, so that a throttle of less than
    1 does not slow it; 1: it is slowed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """The guest."""

    ram_bytes: int
    """All RAM blocks, video memory and ROMs too: the ``total`` of ``query-migrate``."""
    zero_bytes: int = 0
    """Pages at the upper end that are zero and never written."""
    writers: tuple[Writer, ...] = ()
    """Their ranges lie one behind the other from the lowest address up; what is over is never written."""
    curve: tuple[tuple[float, float], ...] = ()
    """Instead of writers: measured points (window in s, distinct bytes dirtied in it); see `whimbrel.engine.curve`."""
    trace: str | None = None
    """Instead of either: a file of recorded writes."""
    vcpus: int = 1
    pages: bool = False
    """Page by page (needs numpy) instead of by expectation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """The link."""

    bandwidth_bytes_per_s: float = 125_000_000.0
    """Goodput: what a migration gets of it."""
    latency_s: float = 0.0001
    """One way."""
    pipe_bytes: int = 2_500_000
    """Socket buffers and queue, that a sender fills ahead of the link."""
    noise: float = 0.0
    """Standard deviation of the bandwidth, as a part of it; 0: steady."""
    noise_every_s: float = 0.1
    noise_memory: float = 0.0
    """Correlation of one step of the noise with the next (AR(1)), 0 up to 1."""
    steps: tuple[tuple[float, float], ...] = ()
    """(from when, seconds after ``migrate``; bytes per second): it changes to that."""
    outages: tuple[tuple[float, float], ...] = ()
    """(from when; how long, seconds): nothing moves, nobody is told."""
    rivals: int = 0
    """Other migrations that share it all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuPlan:
    """Both QEMUs."""

    source: Version = Version.V7_2
    destination: Version = Version.V7_2
    kvm: bool = False
    """KVM: the dirty log is cleared by chunk while sending, and there is a dirty ring, so that ``dirty-limit`` is
    accepted; otherwise TCG: it is cleared at the sync."""
    local: bool = True
    """The source is on the manager's host: what its vCPUs run can be seen, and bounded from outside of QEMU."""
    costs: Costs = field(default_factory=Costs)


POSTCOPY = "postcopy-ram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One migration that is to be simulated."""

    guest: GuestPlan
    link: LinkPlan = field(default_factory=LinkPlan)
    qemu: QemuPlan = field(default_factory=QemuPlan)
    objectives: Objectives = field(default_factory=Objectives)
    policy: str = "least_downtime"
    """As on the command line: ``NAME`` or ``NAME:key=value,...`` or ``FILE.py:NAME``."""
    migrations: int = 1
    """So many at the same time over the one link, alike but for their seeds."""
    limit_s: float = 3600.0
    """It is called off after so long."""
    faults: bool = False
    """Whether faults are drawn from the seed."""
    capabilities: tuple[str, ...] = ()
    """Of QEMU, by its names, that are asked for besides what the policy asks; one that either end lacks is dropped."""
    postcopy_at_s: float | None = None
    """Post-copy is chosen so long after ``migrate``, if in pre-copy still; ``postcopy-ram`` is asked for by itself."""

    @property
    def asked_capabilities(self) -> tuple[str, ...]:
        """All that it asks for besides what the policy asks, each once."""
        postcopy = () if self.postcopy_at_s is None else (POSTCOPY,)
        return tuple(dict.fromkeys((*self.capabilities, *postcopy)))
