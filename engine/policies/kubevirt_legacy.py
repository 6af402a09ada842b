"""``kubevirt_legacy``: time and nothing else; what KubeVirt does unless its stall detector is switched on.

KubeVirt's virt-launcher (pkg/virt-launcher/virtwrap/live-migration-source.go, ``handleLegacyConvergence``) leaves
QEMU's 300 ms as they are and looks every 0.4 s, at these things in this order:

1. More than 150 s have passed for each GiB (``completionTimeoutPerGiB``; 800 s in earlier releases), and disturbing
   the workload is allowed (``allowWorkloadDisruption``): post-copy if that is allowed too, otherwise a pause, and the
   time doubles.
2. What is left has been no less than at the look before for 150 s (``progressTimeout``): it is called off. Within an
   iteration it falls at every look, so only a link that stands still, or iterations shorter than a look, get there.
3. The time has passed: it is called off. After a pause that is twice the time.

Per GiB it says, but it counts gigabytes, 10⁹ bytes, rounded up. Bandwidth has no limit by default; its
documentation's example is 64 MiB/s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative, one_of
from .last_resort import ABORT, ACTIONS, capabilities, last_resort
from .polling import Polls

QEMUS_LIMIT_S = 0.3
"""What QEMU has if nobody sets it."""


def gigabytes(total_bytes: int) -> int:
    """A guest's size as KubeVirt counts it: 10⁹ bytes each, rounded up."""
    return math.ceil(total_bytes / 1e9)


@dataclass(slots=True, kw_only=True)
class KubevirtLegacy:
    """Hold the limit until the time is over, then give up, pause, or go over to post-copy.

    Attributes:
        completion_timeout_s: when it must be over, seconds for each gigabyte; 0: never.
        action: what then: ``abort``, ``pause``, or ``postcopy`` (a pause where that can't be had).
        progress_timeout_s: it is called off after so long without anything less being left, seconds; 0: never.
        downtime_limit_s: the limit given to QEMU, seconds.
        bandwidth_bytes_per_s: what is sent at most; 0: unlimited; ``None``: what the objectives allow.
        poll_s: how often it looks, seconds.

    Raises:
        BadInput: a parameter out of its range.
    """

    completion_timeout_s: float = 150.0
    action: str = ABORT
    progress_timeout_s: float = 150.0
    downtime_limit_s: float = QEMUS_LIMIT_S
    bandwidth_bytes_per_s: int | None = None
    poll_s: float = 0.4
    _polls: Polls = field(init=False)
    _left_bytes: int | None = None
    """At the last look."""
    _progressed_s: float = 0.0
    """When less was left than at the look before."""
    forced: bool = field(default=False, init=False)
    """The workload was disturbed: post-copy or a pause has been asked for."""
    _given_up: bool = False

    def __post_init__(self) -> None:
        above_zero(downtime_limit_s=self.downtime_limit_s, poll_s=self.poll_s)
        not_negative(
            completion_timeout_s=self.completion_timeout_s,
            progress_timeout_s=self.progress_timeout_s,
            bandwidth_bytes_per_s=self.bandwidth_bytes_per_s or 0,
        )
        one_of("action", self.action, ACTIONS)
        self._polls = Polls(every_s=self.poll_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at each look."""
        if seen.reason is Reason.SETUP:
            return Decision(
                downtime_limit_s=self.downtime_limit_s,
                bandwidth_bytes_per_s=self.bandwidth_bytes_per_s,
                capabilities=capabilities(self.action, seen),
                wake_after_s=self.poll_s,
                because=f"{self.downtime_limit_s * 1e3:.0f} ms, for {self.completion_timeout_s:g} s per gigabyte",
            )
        decision = self.look(seen) if self._polls.due(seen) else Decision()
        return replace(decision, wake_after_s=self._polls.wait_s(seen))

    def look(self, seen: Observation) -> Decision:
        """One look at the migration, whenever it comes."""
        if not self._left_bytes or seen.remaining_bytes < self._left_bytes:
            self._progressed_s = seen.elapsed_s
        self._left_bytes = seen.remaining_bytes
        allowed_s = self.completion_timeout_s * gigabytes(seen.total_bytes) * (2 if self.forced else 1)
        overdue = 0 < allowed_s < seen.elapsed_s
        late = f"not over after {allowed_s:g} s"
        if overdue and not self.forced and self.action != ABORT:
            self.forced = True
            return last_resort(self.action, seen, late)
        stuck_s = seen.elapsed_s - self._progressed_s
        stuck = 0 < self.progress_timeout_s < stuck_s
        if self._given_up or not (stuck or overdue):
            return Decision()
        self._given_up = True
        return last_resort(ABORT, seen, f"nothing less to send for {stuck_s:.0f} s" if stuck else late)
