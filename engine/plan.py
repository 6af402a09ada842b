"""A plan: what each way to move a guest is likely to come to, and which one to take. Plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .belief import Belief
from .estimate import Range
from .policy import Objectives


class Strategy(StrEnum):
    """By what means a candidate moves the guest."""

    PLAIN = "plain"
    """Pre-copy and nothing else."""
    THROTTLED = "throttled"
    """Pre-copy of a guest that is slowed."""
    XBZRLE = "xbzrle"
    """Pre-copy that sends what changed in a page."""
    MULTIFD = "multifd"
    """Pre-copy over several channels."""
    POSTCOPY = "post-copy"
    """Pre-copy first, then post-copy."""
    PAUSED = "paused"
    """Pre-copy first, then the guest stands still for as long as the rest takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to move the guest.

    Attributes:
        policy: as it is written on the command line; what is forecast.
        strategy: by what means.
        runs: what is run instead, if anything: the same with what the objectives allow besides held in reserve, for a
            guest or a link that turns out otherwise.
    """

    policy: str
    strategy: Strategy
    runs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a candidate is likely to come to; ranges hold in nine of ten cases.

    Attributes:
        candidate: which one.
        moves: how likely it moves the guest at all, 0 to 1: by a quarter more than the deadline, or within some twenty
            times what all RAM takes to be sent once.
        meets: how likely it meets the objectives, 0 to 1.
        meets_low, meets_high: the same as a range: what `draws` can tell of it (Wilson's interval).
        misses: how likely each objective is missed, by name: ``downtime``, ``deadline``, ``never`` (no end at all).
        total_s: from QMP ``migrate`` until the guest runs at the destination, of those draws that move it. What the
            deadline is held against.
        downtime_s: the guest's outage.
        transferred_bytes: on the wire.
        iterations: dirty-bitmap syncs to the end.
        lost_s: guest-seconds: what the guest would have done in so many seconds, had nobody disturbed it.
        throttle: the most that the guest is slowed by, 0 to 0.99.
        postcopy_s: for so long pages still come after the guest has moved; 0 without post-copy.
        components: each with its range in seconds: ``preparation``, which comes before `total_s`, and what this is made
            of, as `whimbrel.engine.prediction.COMPONENTS` has it: ``iterations``, ``last_ram``, ``device_state`` (what
            lay in the pipe among it), ``fixed``.
        draws: of how many forecasts all this is made.
        excluded: why it can't be taken, where it can't ("the destination has no post-copy"); then all else is empty.
    """

    candidate: Candidate
    moves: float = 0.0
    meets: float = 0.0
    meets_low: float = 0.0
    meets_high: float = 1.0
    misses: Mapping[str, float] = field(default_factory=dict[str, float])
    total_s: Range | None = None
    downtime_s: Range | None = None
    transferred_bytes: Range | None = None
    iterations: Range | None = None
    lost_s: Range | None = None
    throttle: Range | None = None
    postcopy_s: Range | None = None
    components: Mapping[str, Range] = field(default_factory=dict[str, Range])
    draws: int = 0
    excluded: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """What no pre-copy can beat, whatever its policy (`whimbrel.engine.bounds`), for the guest as it was measured.

    Attributes:
        first_pass_s: sending all RAM once.
        floor_s: the least outage that any pre-copy can reach at this bandwidth, the guest unhindered, the fixed cost of
            a switchover included.
        plateau_s: what QEMU's iterations come to if nobody interferes, as an outage, what lies in the pipe and the
            fixed cost included; ``inf``: they grow.
        least_bandwidth_bytes_per_s: with how much, on the wire, QEMU's iterations come down to the downtime, pipe and
            fixed cost included, without a throttle; ``None``: with none.
        least_throttle: with which share of the vCPUs' time taken they come down to it at this bandwidth, 0 to 0.99;
            ``None``: with none.
    """

    first_pass_s: float
    floor_s: Range
    plateau_s: Range
    least_bandwidth_bytes_per_s: Range | None
    least_throttle: Range | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, and why.

    Attributes:
        belief: what it rests on.
        objectives: what is wanted.
        floors: what no policy can beat.
        predicted: every candidate, the best first, those that can't be taken last.
        chosen: the first of them, if it is likely enough to meet the objectives; ``None``: none is.
        sentence: the recommendation with its reason, or why there is none, in one sentence.
    """

    belief: Belief
    objectives: Objectives
    floors: Floors
    predicted: tuple[Predicted, ...]
    chosen: Predicted | None
    sentence: str
