"""``kubevirt_vep248``: when iterations progress no more, wait for a small one and switch over there.

KubeVirt's enhancement proposal 248 of 2026, and the code merged for it (virt-launcher, ``stall-detector.go`` and
``live-migration-source.go``). R is what is left at the start of an iteration, and all times are from the start:

* **Stalled** is a migration once R is no less than 96 % (a margin of 4 %) of the least R of all iterations that began
  40 s ago or earlier. From then on the target is the least R seen so far.
* **Act** at an iteration whose R is at most 4 % above the target. Where none comes for 40 s, the target becomes the
  least R since the stall that was not yet a target, and the patience for that one is half as long; and so on.
* The outage to be expected there is R over the bandwidth, which is smoothed over looks 0.4 s apart (each new one
  counts 40 %). It has to fit what is left of twice the time that the migration may take (150 s per gigabyte).
* Where the workload may be disturbed: post-copy, or a pause. Otherwise, with an expected outage of up to 1.5 times
  the greatest downtime (900 ms), the limit goes to that greatest one, and if QEMU does not switch over within 60 s it
  is called off. With a longer one it is called off at once.
* When the time that it may take has passed without all that, it is post-copy or a pause, if allowed and if it fits;
  else it is called off.

Until then the limit is 300 ms, or the greatest downtime if that is less. The greatest downtime is the user's word
here as there: never more than the objectives allow.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field, replace

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative, one_of, share
from .kubevirt_legacy import QEMUS_LIMIT_S, gigabytes
from .last_resort import ABORT, ACTIONS, capabilities, last_resort
from .polling import Polls


@dataclass(slots=True, kw_only=True)
class KubevirtVep248:
    """Detect a stall at iterations, and switch over at a local minimum of what is left.

    Attributes:
        max_downtime_s: the greatest downtime, seconds; the objectives go before it.
        window_s: a stall is no progress against iterations that began so long ago, seconds (W).
        margin: how little less counts as none, and how little more as a minimum, 0 to 1 (alpha).
        patience_s: how long a minimum is waited for at first, seconds (P).
        patience_decay: what part of the patience is left after each time, 0 to 1.
        smoothing: the weight of each new look at the bandwidth, above 0 and up to 1.
        possible_factor: an outage of up to so many times the greatest downtime is worth trying.
        switchover_timeout_s: how long QEMU has for the switchover then, seconds.
        completion_timeout_s: when it must be over, seconds for each gigabyte; 0: never, and nothing has to fit.
        completion_factor: how many times that it may take in all.
        search_minimum: whether to wait for a minimum at all.
        action: where it stalls: ``abort`` (within the greatest downtime or not at all), ``pause``, ``postcopy``.
        poll_s: how often the bandwidth and the time are looked at, seconds.

    Raises:
        BadInput: a parameter out of its range.
    """

    max_downtime_s: float = 0.9
    window_s: float = 40.0
    margin: float = 0.04
    patience_s: float = 40.0
    patience_decay: float = 0.5
    smoothing: float = 0.4
    possible_factor: float = 1.5
    switchover_timeout_s: float = 60.0
    completion_timeout_s: float = 150.0
    completion_factor: float = 2.0
    search_minimum: bool = True
    action: str = ABORT
    poll_s: float = 0.4
    _polls: Polls = field(init=False)
    _bandwidth: float = 0.0
    """Smoothed, bytes per second; 0: not known yet."""
    _recent: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    """Iterations within the window: when they began, and with how much."""
    _least_before: int | None = None
    """The least of those before the window."""
    _target_bytes: int | None = None
    """What is waited for; ``None``: it has not stalled."""
    _since_stall: list[int] = field(default_factory=list[int])
    """A heap of what iterations began with since the stall, those that were targets left out."""
    _patience_s: float = 0.0
    _relax_s: float = 0.0
    """When the target is given up."""
    _left_bytes: int = 0
    """At the start of this iteration."""
    _until_s: float | None = None
    """By when QEMU must have switched over; ``None``: it was not asked to."""
    _given_up: bool = False

    def __post_init__(self) -> None:
        above_zero(max_downtime_s=self.max_downtime_s, smoothing=self.smoothing, poll_s=self.poll_s)
        not_negative(window_s=self.window_s, patience_s=self.patience_s, possible_factor=self.possible_factor)
        not_negative(
            switchover_timeout_s=self.switchover_timeout_s,
            completion_timeout_s=self.completion_timeout_s,
            completion_factor=self.completion_factor,
        )
        share(margin=self.margin, patience_decay=self.patience_decay, smoothing=self.smoothing)
        one_of("action", self.action, ACTIONS)
        self._polls = Polls(every_s=self.poll_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at iterations; between them look at the bandwidth and the time."""
        if seen.reason is Reason.SETUP:
            limit_s = min(self._greatest_s(seen), QEMUS_LIMIT_S)
            return Decision(
                downtime_limit_s=limit_s,
                capabilities=capabilities(self.action, seen),
                wake_after_s=self.poll_s,
                because=f"{limit_s * 1e3:.0f} ms until it stalls",
            )
        decision: Decision | None = None
        polled = self._polls.due(seen)
        if seen.reason is Reason.ITERATION:
            decision = self._at_boundary(seen)
        elif polled:
            self._smooth(seen)
        if decision is None and (polled or seen.reason is Reason.ITERATION):
            decision = self._in_time(seen)
        return replace(decision or Decision(), wake_after_s=self._polls.wait_s(seen))

    def _greatest_s(self, seen: Observation) -> float:
        return min(self.max_downtime_s, seen.objectives.downtime_s)

    def _smooth(self, seen: Observation) -> None:
        last = seen.samples[-1].bandwidth_bytes_per_s if seen.samples else seen.bandwidth_bytes_per_s
        self._bandwidth = last if not self._bandwidth else self._bandwidth + self.smoothing * (last - self._bandwidth)

    # ---- at an iteration

    def _at_boundary(self, seen: Observation) -> Decision | None:
        self._left_bytes = seen.remaining_bytes
        if not self._bandwidth or self._until_s is not None or self._given_up:
            return None
        self._remember(seen)
        if self._target_bytes is not None:
            self._relax(seen)
        elif not self._stalls(seen):
            return None
        return self._act(seen, self._target_bytes or 0)

    def _remember(self, seen: Observation) -> None:
        while self._recent and seen.elapsed_s - self._recent[0][0] >= self.window_s:
            _, left = self._recent.popleft()
            self._least_before = left if self._least_before is None else min(left, self._least_before)
        self._recent.append((seen.elapsed_s, seen.remaining_bytes))

    def _stalls(self, seen: Observation) -> bool:
        least = self._least_before
        if least is None or seen.remaining_bytes < least * (1 - self.margin):
            return False
        self._target_bytes = min(least, *(left for _, left in self._recent))
        self._patience_s, self._relax_s = self.patience_s, seen.elapsed_s + self.patience_s
        return True

    def _relax(self, seen: Observation) -> None:
        heapq.heappush(self._since_stall, seen.remaining_bytes)
        if seen.elapsed_s >= self._relax_s:
            self._target_bytes = heapq.heappop(self._since_stall)
            self._patience_s *= self.patience_decay
            self._relax_s = seen.elapsed_s + self._patience_s

    def _act(self, seen: Observation, target_bytes: int) -> Decision | None:
        if self.search_minimum and seen.remaining_bytes > target_bytes * (1 + self.margin):
            return None
        if not self._fits(seen):
            return None
        implied_s, greatest_s = self._implied_s(), self._greatest_s(seen)
        because = f"stalled, and {implied_s * 1e3:.0f} ms of link are left"
        if self.action != ABORT:
            return self._force(seen, because)
        if implied_s > self.possible_factor * greatest_s:
            return self._give_up(seen, f"{because}, over {self.possible_factor:g} x {greatest_s * 1e3:.0f} ms")
        self._until_s = seen.elapsed_s + self.switchover_timeout_s
        return Decision(downtime_limit_s=greatest_s, because=f"{because}: up to {greatest_s * 1e3:.0f} ms")

    # ---- at any time

    def _in_time(self, seen: Observation) -> Decision | None:
        """What is done where the time has passed."""
        until_s = self._until_s if self._until_s is not None else self._allowed_s(seen)
        if self._given_up or seen.elapsed_s <= until_s:
            return None
        because = f"not over after {until_s:.0f} s"
        if self._until_s is None and self.action != ABORT and self._bandwidth and self._fits(seen):
            return self._force(seen, because)
        return self._give_up(seen, because)

    def _allowed_s(self, seen: Observation) -> float:
        return self.completion_timeout_s * gigabytes(seen.total_bytes) or math.inf

    def _fits(self, seen: Observation) -> bool:
        return self._implied_s() <= self.completion_factor * self._allowed_s(seen) - seen.elapsed_s

    def _implied_s(self) -> float:
        return self._left_bytes / self._bandwidth

    def _force(self, seen: Observation, because: str) -> Decision:
        """Post-copy, or a pause: where it does not come about in time it is called off, but never after post-copy."""
        decision = last_resort(self.action, seen, because)
        self._until_s = math.inf if decision.start_postcopy else seen.elapsed_s + self.switchover_timeout_s
        return decision

    def _give_up(self, seen: Observation, because: str) -> Decision:
        self._given_up = True
        return last_resort(ABORT, seen, because)
