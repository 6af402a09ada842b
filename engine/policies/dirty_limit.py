"""``dirty_limit``: QEMU holds each vCPU to so many dirtied bytes a second; only those that write pay.

The capability ``dirty-limit`` (H. Huang, QEMU 8.1), which takes the place of auto-converge's throttle at the same
detection: more dirtied than half of what was sent, at two syncs. From then on a vCPU that dirties more than
``vcpu-dirty-limit`` (1 MB/s by default, measured over a second) sleeps where its dirty ring is full. It needs KVM
with a dirty ring (``-accel kvm,dirty-ring-size=N``), so TCG never has it, and QEMU 7.2 does not know it.

Where the pair has no such capability, or the objectives bound the throttle (this one has no bound), it is ``fixed``,
and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.pilot import GREATEST_THROTTLE
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero
from .permits import as_fixed

CAPABILITY = "dirty-limit"
DEFAULT_BYTES_PER_S = 1 << 20
"""QEMU's ``vcpu-dirty-limit`` is 1 MB/s if nobody sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirtyLimit:
    """Switch QEMU's dirty limit on, and hold the downtime limit.

    Attributes:
        dirty_limit_bytes_per_s: what each vCPU may dirty; QEMU counts it in whole MiB/s, 1 at least.
        downtime_limit_s: the limit given to QEMU, seconds; ``None``: the greatest downtime allowed.

    Raises:
        BadInput: a dirty limit of 0 or less.
    """

    dirty_limit_bytes_per_s: int = DEFAULT_BYTES_PER_S
    downtime_limit_s: float | None = None

    def __post_init__(self) -> None:
        above_zero(dirty_limit_bytes_per_s=self.dirty_limit_bytes_per_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide once, before the start."""
        if seen.reason is not Reason.SETUP:
            return Decision()
        limit_s = self.downtime_limit_s or seen.objectives.downtime_s
        refused = ""
        if CAPABILITY not in seen.abilities.capabilities:
            refused = f"this pair of QEMUs has no {CAPABILITY}"
        elif seen.objectives.greatest_throttle < GREATEST_THROTTLE:
            refused = "the objectives do not allow slowing the guest without a bound"
        if refused:
            return as_fixed(limit_s, refused)
        return Decision(
            downtime_limit_s=limit_s,
            dirty_limit_bytes_per_s=self.dirty_limit_bytes_per_s,
            capabilities={CAPABILITY: True},
            because=f"QEMU holds each vCPU to {self.dirty_limit_bytes_per_s / (1 << 20):.0f} MiB/s dirtied",
        )
