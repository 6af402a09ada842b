"""Looking ahead while a migration runs: when it is likely to end, whether it will do, and a verdict where it can't."""

from __future__ import annotations

from dataclasses import dataclass

from .estimate import Range


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
        downtime_s: of its outage.
        transferred_bytes: on the wire by then.
        meets: how likely it meets the objectives, 0 to 1.
        verdict: where no pre-copy can meet them; ``None``: nothing of the kind can be said yet.
    """

    at_s: float
    iteration: int
    ends_s: Range
    downtime_s: Range
    transferred_bytes: Range
    meets: float
    verdict: Verdict | None = None
