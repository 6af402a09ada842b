"""``hybrid_progress``: post-copy when a pass leaves hardly less than the one before.

The adaptive hybrid. OpenStack Nova switched by itself when the remaining memory fell by less than 10 % from one pass
to the next (nova/virt/libvirt/migration.py of 2016 to 2017, removed with its progress timeout); a ratio of successive
dirty sets as the criterion is also that of the adaptive hybrid of the Journal of Cloud Computing, 2023. The first
pass only gives the first of the values that are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.pilot import POSTCOPY
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, share
from .permits import stop_now, why_no_postcopy


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridProgress:
    """Pre-copy while passes make progress, then post-copy.

    Needs: post-copy. Without it the guest is paused at that point, as far as that is allowed.

    Attributes:
        least_progress: by what part of itself the rest must fall from one pass to the next, 0 to 1.
        passes: so many are made in any case, 1 or more.

    Raises:
        BadInput: a parameter makes no sense.
    """

    least_progress: float = 0.1
    passes: int = 1

    def __post_init__(self) -> None:
        share(least_progress=self.least_progress)
        above_zero(passes=self.passes)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the start of each pass."""
        refused = why_no_postcopy(seen)
        if seen.reason is Reason.SETUP:
            return Decision(
                capabilities={} if refused else {POSTCOPY: True},
                because=f"post-copy when a pass brings less than {self.least_progress:.0%}"
                + (f": {refused}" if refused else ""),
            )
        if seen.reason is not Reason.ITERATION or len(seen.iterations) < self.passes:
            return Decision()
        before = seen.iterations[-1].remaining_at_start_bytes
        progress = (before - seen.remaining_bytes) / before if before > 0 else 1.0
        if progress >= self.least_progress:
            return Decision()
        told = f"the last pass brought {progress:.0%}, less than {self.least_progress:.0%}"
        if refused:
            return stop_now(seen, f"{told}; {refused}")
        return Decision(start_postcopy=True, because=told)
