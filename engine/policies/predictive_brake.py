"""Slowing the guest for ``predictive``: from outside of QEMU where that can be done, else by QEMU's own throttle.

From outside it holds at once. QEMU's own moves at the second sync that counts: the first one counts always here, the
second as soon as the throttle is wanted from it on; it never falls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from whimbrel.engine.policy import Decision, Observation, Reason

from .permits import why_no_outside_throttle, why_no_qemu_throttle

QEMU_SLICE_S = 0.01
"""For so long QEMU's throttle lets a vCPU run at a time (``CPU_THROTTLE_TIMESLICE_NS``, softmmu/cpu-throttle.c)."""
OUTSIDE_SLICE_S = 0.002
"""The same of a quota, as it was seen to be: 1 ms, and what goes by until the kernel looks whether it is used up."""
ASLEEP = 0.01
"""QEMU's least throttle: its own one is as good as off."""
NEVER_COUNTS, ALWAYS_COUNTS = 1.0, 0.01
"""Triggers with which a sync does not count for QEMU's throttle, as long as less is dirtied than sent, and does."""
DEAF_AFTER = 4
"""Passes after which a throttle of QEMU's that does not move is given up: it has none, or they are too short."""


@dataclass(slots=True)
class Brake:
    """Slows the guest, by whatever means there are.

    Attributes:
        allowed: whether it may be slowed at all.
        taken: from outside, as it was asked for last.
    """

    allowed: bool = True
    taken: float = 0.0
    _why_none: str = ""
    """Why QEMU's own throttle can't be had, where there is none from outside."""
    _armed: int = 0
    """Passes since QEMU's own was to move."""
    _lost: bool = False
    """It brought nothing."""

    def setup(self, seen: Observation, decision: Decision) -> tuple[Decision, str]:
        """Have it stand by.

        Returns:
            The decision with what has to be asked for before the start, and how the guest can be slowed, in words.
        """
        greatest = f"a throttle of {seen.objectives.greatest_throttle:.0%} at most"
        if not self.allowed:
            self._why_none = "no throttle, as told"
            return decision, self._why_none
        if self.from_outside(seen):
            return decision, f"{greatest}, from outside"
        self._why_none = why_no_qemu_throttle(seen)
        if self._why_none:
            return decision, f"no throttle, for {self._why_none}"
        standing_by = replace(
            decision,
            capabilities={**decision.capabilities, "auto-converge": True},
            throttle_initial=ASLEEP,
            throttle_increment=ASLEEP,
            throttle_ceiling=ASLEEP,
            throttle_trigger=ALWAYS_COUNTS,
        )
        return standing_by, f"{greatest}, by QEMU's own"

    def from_outside(self, seen: Observation) -> bool:
        """Whether it is taken from outside."""
        return self.allowed and not why_no_outside_throttle(seen)

    def in_force(self, seen: Observation) -> float:
        """What slows the guest now."""
        if not self.from_outside(seen):
            self.taken = 0.0  # also where it can't be held any more
        return max(self.taken, of_qemu(seen))

    def holds(self, seen: Observation) -> float:
        """The same, but for one from outside that has brought nothing: that is to be lifted."""
        return 0.0 if self._lost and self.from_outside(seen) else self.in_force(seen)

    def greatest(self, seen: Observation) -> float:
        """The most that may and can be taken; 0: none."""
        if self._lost:
            return 0.0
        if not self.from_outside(seen):
            deaf = self._armed > DEAF_AFTER and not of_qemu(seen)
            if not self.allowed or self._why_none or deaf:
                return 0.0
        return seen.objectives.greatest_throttle

    def give_up(self) -> None:
        """It has brought nothing: it is not to be had any more."""
        self._lost = True

    def least_waits(self, seen: Observation) -> int:
        """Passes that have to go by before more can be taken."""
        return 0 if self.from_outside(seen) else 1

    def slice_s(self, seen: Observation) -> float:
        """For how long a slowed vCPU runs at a time."""
        return OUTSIDE_SLICE_S if self.from_outside(seen) else QEMU_SLICE_S

    def take(self, seen: Observation, throttle: float, decision: Decision, *, waits: int = 0) -> Decision:
        """Have the guest slowed by so much after so many passes; from outside that is asked for when it is time."""
        if self.from_outside(seen):
            wanted = throttle if not waits else 0.0
            if wanted == self.taken:
                return decision
            self.taken = wanted
            return replace(decision, outside_throttle=wanted)
        if self._why_none or not self.allowed:
            return decision
        in_force = of_qemu(seen)
        if throttle <= in_force or waits > 1:
            return decision if in_force else replace(decision, throttle_trigger=NEVER_COUNTS)
        self._armed += seen.reason is Reason.ITERATION
        return replace(
            decision,
            throttle_initial=throttle,
            throttle_increment=max(ASLEEP, round(throttle - in_force, 2)),
            throttle_ceiling=throttle,
            throttle_trigger=ALWAYS_COUNTS,
        )


def of_qemu(seen: Observation) -> float:
    """QEMU's throttle, where it is awake."""
    return seen.throttle if seen.throttle > ASLEEP else 0.0
