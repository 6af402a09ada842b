"""What can be said of a migration: while it runs (`OngoingReport`) and once it has ended (`CompletedReport`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .foresight import Outlook
from .policy import Knobs, Objectives
from .prediction import Compared, Prediction
from .statistics import Iteration
from .timeline import Downtime


@dataclass(frozen=True, slots=True, kw_only=True)
class OngoingReport:
    """A glance at a running migration. Rates are bytes per second, sizes bytes, times seconds."""

    phase: str
    stage: int | None
    """1 to 5; ``None`` while backing out, resolving, or at an end."""
    stage_name: str
    owner: str
    elapsed_s: float
    iteration: int = 0
    remaining_bytes: int = 0
    transferred_bytes: int = 0
    total_bytes: int = 0
    bandwidth_bytes_per_s: float = 0.0
    dirty_bytes_per_s: float = 0.0
    throttle: float = 0.0
    knobs: Knobs = field(default_factory=Knobs)
    because: str = ""
    """The reason of the policy's last decision that changed something."""
    objectives: Objectives = field(default_factory=Objectives)
    since_migrate_s: float = 0.0
    """Seconds since ``migrate`` while memory is sent: the clock of the outlook and of the deadline; else 0."""
    outlook: Outlook | None = None
    """The last live forecast; ``None``: none could be made yet, or it has ended."""
    news: str = ""
    """The last that there was to say of a verdict, as a sentence: that it was drawn, or taken back; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """How long one of the five stages took."""

    stage: int
    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSeen:
    """What a migration showed of the link, as far as it was the link that held it up.

    Attributes:
        bandwidth_bytes_per_s: all that was sent over the time that it took, wire bytes.
        capped: it was held up by a cap, the user's or the policy's: the link may carry more.
    """

    bandwidth_bytes_per_s: float
    capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedReport:
    """A finished migration. Frozen: what it says does not change any more."""

    outcome: str
    """``completed``, ``cancelled`` or ``failed``."""
    owner: str
    """``source``, ``destination``, or ``limbo`` where it could not be settled."""
    guest: str
    """``running``, ``paused``, ``held``, ``lost`` or ``unconfirmed``."""
    why: str
    """One sentence; for a success what was done, else what went wrong first."""
    total_s: float
    stages: tuple[StageTime, ...] = ()
    downtime: Downtime | None = None
    iterations: tuple[Iteration, ...] = ()
    ram_transferred_bytes: int = 0
    ram_total_bytes: int = 0
    normal_pages: int = 0
    duplicate_pages: int = 0
    decisions: int = 0
    """How often the policy changed something."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was learnt on the way: versions, addresses, process ids, qemu's own figures, findings."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides: capabilities dropped, values clamped, late surprises."""
    postcopy: bool = False
    """Whether post-copy began."""
    link: LinkSeen | None = None
    """``None``: it was not moved, or nothing can be said."""
    prediction: Prediction | None = None
    """What was predicted, before the start or after the first iteration; ``None``: it ended before that."""
    compared: tuple[Compared, ...] = ()
    """The prediction against what came of it, figure by figure; only of a guest that was moved."""
    off: str = ""
    """What was off, in a sentence; or why there is nothing to compare."""

    @property
    def moved(self) -> bool:
        """Whether the guest is the destination's now."""
        return self.outcome == "completed"
