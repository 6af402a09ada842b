"""``smart_stop``: wait for a low point once passes bring nothing more (CloudNet, VEE 2011).

*CloudNet: Dynamic Pooling of Cloud Resources by Live WAN Migration of Virtual Machines* (Wood et al.): pre-copying goes
on until a pass dirties at least as much as it sends, since more passes then only cost bandwidth. From there on the
remaining bytes at each pass are kept in a short sliding window, and the guest is stopped at the first pass that begins
with no more than the least of them. The paper gives no length; three passes here.

Mind that the low point is one of bytes left: QEMU syncs once more before it stops the guest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero
from .permits import HOLD_S, stop_now

LEVEL = 0.01
"""Within this part of what was sent, what was dirtied is as much; ours, for guests so steady that it never is more."""


@dataclass(slots=True, kw_only=True)
class SmartStop:
    """CloudNet: once a pass dirties what it sends, stop at the first low point of what is left.

    Needs: pausing, since it takes no heed of the downtime. Without it the stop is made if the rest fits what is
        allowed.

    Attributes:
        window: with so many passes before it a low point is compared, 1 or more.

    Raises:
        BadInput: there is no such window.
    """

    window: int = 3
    _past: deque[int] | None = field(default=None, init=False)
    """What was left at the passes since there was no more progress; ``None``: there is still some."""

    def __post_init__(self) -> None:
        above_zero(window=self.window)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the start of each pass."""
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=HOLD_S, because="until a pass dirties as much as it sends")
        if seen.reason is not Reason.ITERATION or not seen.iterations:
            return Decision()
        last, left = seen.iterations[-1], seen.remaining_bytes
        if self._past is None:
            if left < (1 - LEVEL) * last.remaining_at_start_bytes:
                return Decision()
            self._past = deque([left], maxlen=self.window)
            return Decision(because=f"{last.remaining_at_start_bytes >> 20} MiB sent, {left >> 20} MiB dirtied")
        least = min(self._past)
        full = len(self._past) == self._past.maxlen
        self._past.append(left)
        if full and left <= least:
            return stop_now(seen, f"{left >> 20} MiB left, the least of the last {self._past.maxlen} was {least >> 20}")
        return Decision(because=f"{left >> 20} MiB left, waiting for {least >> 20} or less")
