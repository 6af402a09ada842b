"""The clock of controllers that look at a migration every so many seconds, and at nothing that happens between."""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Observation, Reason

ROUNDING_S = 0.001
"""A look that comes so little early counts."""
LEAST_WAIT_S = 0.01
"""Nobody is asked more often than that."""


@dataclass(slots=True, kw_only=True)
class Polls:
    """When the next look is due.

    A policy is also asked at iterations, each of which puts its next tick off; so what is left until the next look has
    to be stated anew in every decision.

    Attributes:
        every_s: seconds from one look to the next; it may be changed on the way.
        last_s: when the last one was, seconds since ``migrate``.
    """

    every_s: float
    last_s: float = 0.0

    def due(self, seen: Observation) -> bool:
        """Whether it is time to look; if so, the next one counts from now."""
        if seen.reason is Reason.SETUP or seen.elapsed_s < self.last_s + self.every_s - ROUNDING_S:
            return False
        self.last_s = seen.elapsed_s
        return True

    def wait_s(self, seen: Observation) -> float:
        """Seconds from now to the next look, for `Decision.wake_after_s`."""
        if seen.reason is Reason.SETUP:
            return self.every_s
        return max(LEAST_WAIT_S, self.every_s - (seen.elapsed_s - self.last_s))
