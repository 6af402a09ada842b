"""``sdps_like``: slow the guest just so far that it dirties less than is sent; what VMware's vMotion does.

Slow Down (earlier Stun) During Page Send, from vSphere 5 on, as VMware and others describe it: vMotion compares the
rate at which pages are dirtied with its rate of transmission. Only where the first is greater, the vCPUs are put to
sleep, often and for a few milliseconds at most, as much as it takes for the first to be below the second; a guest
that is moved anyway is not touched. Its constants are not published; those here are ours.

Here the sleeps are the throttle from outside of QEMU, a share of the vCPUs' time that is set at once. From one
iteration to the next the share left to the guest is multiplied by ``target * sent / dirtied``, as though the guest
dirtied in proportion to its CPU time; where it does not, the next iteration shows it and the rule is applied again. A
vCPU that ran less than was left to it is not slowed by that: the share that it ran is what counts then.

The target is half, as QEMU's own trigger is: a guest that rewrites its whole working set in every iteration dirties
about as much as is sent, however fast or slow it is, and would be slowed by a tenth only from one to the next with
0.9.

Where that throttle can't be had, QEMU's auto-converge stands in: triggered above the same target, in steps of 5 %
from 5 % on, with smaller ones towards the end. It moves at every second such sync only, and never falls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from whimbrel.engine.pilot import LEAST_THROTTLE
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, share
from .permits import why_no_outside_throttle, why_no_qemu_throttle
from .room import LEARN_EVERY_S, Room


@dataclass(slots=True, kw_only=True)
class SdpsLike:
    """VMware SDPS: slow the vCPUs just until less is dirtied than sent, and not at all otherwise.

    Needs: slowing the guest; from outside of QEMU where that can be done, else by QEMU's auto-converge.

    Attributes:
        target: what is to be dirtied in an iteration, as a part of what is sent, below 1.
        ease: where it is below this part of the target the guest is let go faster again.
        step: by how much QEMU's throttle rises, where that has to do.

    Raises:
        BadInput: a share makes no sense.
    """

    target: float = 0.5
    ease: float = 0.5
    step: float = 0.05
    _room: Room = field(default_factory=Room, init=False)
    _taken: float = field(default=0.0, init=False)
    """The share of the vCPUs' time that is taken from them."""

    def __post_init__(self) -> None:
        above_zero(target=self.target, step=self.step)
        share(target=self.target, ease=self.ease, step=self.step)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the start of each iteration; on the limit, once the link is known."""
        refused = why_no_outside_throttle(seen)
        if seen.reason is Reason.SETUP:
            return replace(self._setup(seen, refused), wake_after_s=LEARN_EVERY_S)
        limit = self._room.news(seen)
        if seen.reason is not Reason.ITERATION or refused or not seen.iterations:
            return limit
        slowing = self._slowing(seen)
        if limit == Decision():
            return slowing
        because = "; ".join(each.because for each in (slowing, limit) if each.because)
        return replace(limit, outside_throttle=slowing.outside_throttle, because=because)

    def _slowing(self, seen: Observation) -> Decision:
        last = seen.iterations[-1]
        if last.sent_bytes <= 0:
            return Decision()
        ratio = last.dirtied_bytes / last.sent_bytes
        if self.ease * self.target <= ratio <= self.target:
            return Decision()
        ran = min(1 - self._taken, max(seen.vcpu_shares, default=1.0))
        left = min(1.0, ran * self.target / ratio) if ratio > 0 else 1.0
        taken = min(1 - left, seen.objectives.greatest_throttle)
        taken = 0.0 if taken < LEAST_THROTTLE else taken
        # Never let it go because a vCPU idled, nor slow it because of that: only as the rates say.
        if taken == self._taken or (taken < self._taken) != (ratio < self.target):
            return Decision()
        self._taken = taken
        return Decision(
            outside_throttle=taken,
            because=f"{ratio:.2f} dirtied per byte sent: {taken:.0%} of the vCPUs' time is taken",
        )

    def _setup(self, seen: Observation, refused: str) -> Decision:
        limit_s = seen.objectives.downtime_s
        if not refused:
            return Decision(downtime_limit_s=limit_s, because="slowed from outside once more is dirtied than sent")
        if none := why_no_qemu_throttle(seen):
            return Decision(downtime_limit_s=limit_s, because=f"{none}: plain pre-copy")
        return Decision(
            downtime_limit_s=limit_s,
            capabilities={"auto-converge": True},
            throttle_trigger=self.target,
            throttle_initial=self.step,
            throttle_increment=self.step,
            throttle_ceiling=seen.objectives.greatest_throttle,
            throttle_tailslow=True,
            because=f"{refused}: QEMU's throttle in steps of {self.step:.0%}",
        )
