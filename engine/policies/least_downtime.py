"""``least_downtime``: placeholder until the first run."""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Decision, Observation, Reason


@dataclass(slots=True, kw_only=True)
class LeastDowntime:
    """Hold low."""

    def __call__(self, seen: Observation) -> Decision:
        """Decide."""
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=0.03, because="start low")
        return Decision()
