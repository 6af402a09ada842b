"""``hybrid_after``: so many passes of pre-copy, then post-copy.

The fixed hybrid: guestperf, QEMU's own benchmark (tests/migration-stress/guestperf), compares post-copy after 1, 5
and 20 passes, and its sister, a pause after as many; Hines and Gopalan (VEE 2009) begin at 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.pilot import POSTCOPY
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import not_negative
from .permits import passes, stop_now, why_no_postcopy

FIRST_LOOK_S = 0.05
"""With no pass to wait for it looks this soon: QEMU must have begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridAfter:
    """Pre-copy for so many passes, then post-copy.

    Needs: post-copy. Without it the guest is paused at that point, as far as that is allowed.

    Attributes:
        iterations: how many passes, 0 or more.

    Raises:
        BadInput: there is no such number of passes.
    """

    iterations: int = 1

    def __post_init__(self) -> None:
        not_negative(iterations=self.iterations)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the start of each pass."""
        refused = why_no_postcopy(seen)
        if seen.reason is Reason.SETUP:
            return Decision(
                capabilities={} if refused else {POSTCOPY: True},
                wake_after_s=None if self.iterations else FIRST_LOOK_S,
                because=f"post-copy after {passes(self.iterations)}" + (f": {refused}" if refused else ""),
            )
        if seen.reason is Reason.DEADLINE or seen.iteration <= self.iterations:
            return Decision()
        made = f"{passes(seen.iteration - 1)} made"
        if refused:
            return stop_now(seen, f"{made}; {refused}")
        return Decision(start_postcopy=True, because=made)
