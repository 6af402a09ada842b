"""``fixed``: a downtime limit and a bandwidth, held to the end; what a bare script does."""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Decision, Observation, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Hold the downtime limit and the bandwidth.

    Attributes:
        downtime_limit_s: the limit given to QEMU, seconds; ``None``: the greatest downtime allowed.
        bandwidth_bytes_per_s: what is sent at most; ``None``: what the objectives allow.
    """

    downtime_limit_s: float | None = None
    bandwidth_bytes_per_s: int | None = None

    def __call__(self, seen: Observation) -> Decision:
        """Decide once, before the start."""
        if seen.reason is not Reason.SETUP:
            return Decision()
        limit_s = self.downtime_limit_s if self.downtime_limit_s is not None else seen.objectives.downtime_s
        return Decision(
            downtime_limit_s=limit_s,
            bandwidth_bytes_per_s=self.bandwidth_bytes_per_s,
            because=f"held at {limit_s * 1e3:.0f} ms",
        )
