"""Looking ahead while a migration runs: when it is likely to end, whether it will do, and a verdict where it can't.

Plain records; `whimbrel.engine.foresight_watch` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .estimate import Range


class Basis(StrEnum):
    """What a live forecast rests on."""

    PLAN = "plan"
    """What was predicted before the start, set right by how the first iteration goes."""
    LINK = "link"
    """The link alone: what the guest dirties is not known before the first iteration ends."""
    MEASURED = "measured"
    """The link, and what the policy had measured before the start."""
    ITERATIONS = "iterations"
    """What the iterations that have ended showed of the guest and the link."""
    POSTCOPY = "post-copy"
    """The guest runs at the destination already: what is left, and the link. Here `Outlook.ends_s` is when all of its
    memory will be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """No pre-copy of the guest as it is can meet the objectives: said as early as the evidence carries it.

    Attributes:
        iteration: after which one it was drawn.
        confidence: how sure, 0 to 1.
        left_bytes: what is left after every pass.
        bandwidth_bytes_per_s: at which it is sent.
        outage_s: what the outage would be by that, the pipe and the fixed cost included.
        least_throttle: which throttle would do, 0 to 0.99; ``None``: none.
        sentence: all of it in words, with what would help.
    """

    iteration: int
    confidence: float
    left_bytes: float
    bandwidth_bytes_per_s: float
    outage_s: float
    least_throttle: float | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A live forecast.

    Attributes:
        at_s: when it was made, seconds since ``migrate``.
        iteration: of the iteration under way.
        ends_s: when the guest is likely to run at the destination, seconds since ``migrate``; ``inf``: never,
            as things go.
        downtime_s: of its outage; of one that never ends, what it would be if the guest were stopped all the same.
        transferred_bytes: on the wire by then.
        meets: how likely it meets the objectives, 0 to 1.
        hopeless: how likely no pre-copy of the guest as it is can meet them, 0 to 1; ``None``: nothing can be said yet.
        basis: what it rests on.
        verdict: where no pre-copy can meet them; ``None``: nothing of the kind can be said yet, or any more.
        news: that a verdict was drawn with this outlook, or taken back, as a sentence; else empty.
    """

    at_s: float
    iteration: int
    ends_s: Range
    downtime_s: Range
    transferred_bytes: Range
    meets: float
    hopeless: float | None = None
    basis: Basis = Basis.ITERATIONS
    verdict: Verdict | None = None
    news: str = ""
