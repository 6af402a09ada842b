"""``nova_steps``: the downtime limit climbs a staircase in time, and a timeout ends it; what OpenStack Nova does.

Nova (nova/virt/libvirt/migration.py, ``downtime_steps``; driver.py, ``_live_migration_monitor``) looks every 0.5 s.
With D the greatest downtime (``live_migration_downtime``, 500 ms), n steps (``live_migration_downtime_steps``, 10)
and a delay of d seconds for each GiB of RAM (``live_migration_downtime_delay``, 75 s; less than 2 GiB count as 2),
the limit is ``D/n + k (D - D/n)/n``, in whole milliseconds, once more than ``k d GiB`` seconds have passed, for k = 0
to n. Nova's own example: 400 ms, 10 steps, 30 s and 3 GiB give 40, 76, 112, ... 400 ms, one every 90 s.

After 800 s per GiB (``live_migration_completion_timeout``) it is called off, or (``live_migration_timeout_action`` is
``force_complete``) goes over to post-copy where that is permitted, and otherwise is paused. The releases Newton to
Rocky also went over to post-copy by themselves, where less than 10 % of the remaining data had gone since the last
look, from the second pass on. It was meant per iteration, and is so here by default; but it was compared every 0.5 s,
in which a large guest never gets 10 % further, and was taken out (2018).

Its throttle and its limit of bandwidth are off if nobody sets them, so neither is touched. Disks are not counted
here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative, one_of, share
from .last_resort import ABORT, START_POSTCOPY, capabilities, last_resort
from .permits import why_no_postcopy
from .polling import Polls

GIB = 1 << 30
FORCE_COMPLETE = "force_complete"


@dataclass(slots=True, kw_only=True)
class NovaSteps:
    """Raise the downtime limit step by step, by the guest's size; at the timeout give up, or force it.

    Attributes:
        downtime_s: the limit at the top of the staircase, seconds.
        steps: how many steps lead there, 1 or more (Nova: 3 or more).
        delay_s: from one step to the next, seconds for each GiB.
        completion_timeout_s: when it must be over, seconds for each GiB; 0: never.
        action: what then: ``abort``, or ``force_complete``.
        least_progress: post-copy where a pass leaves more than all but this share of what the one before left, 0 to 1;
            0: never, as since then. It needs post-copy to be allowed and possible.
        progress_per_poll: compare with what was left at the last look, as Newton did, and not with the last pass.
        least_gib: what a smaller guest counts as, GiB.
        poll_s: how often it looks, seconds.

    Raises:
        BadInput: a parameter out of its range.
    """

    downtime_s: float = 0.5
    steps: int = 10
    delay_s: float = 75.0
    completion_timeout_s: float = 800.0
    action: str = ABORT
    least_progress: float = 0.1
    progress_per_poll: bool = False
    least_gib: float = 2.0
    poll_s: float = 0.5
    _polls: Polls = field(init=False)
    _step: int = 0
    _left_bytes: int = 0
    """At the last look."""
    _asked: bool = False
    """The timeout has been acted upon."""
    _over: bool = False
    """There is nothing left to decide."""

    def __post_init__(self) -> None:
        above_zero(downtime_s=self.downtime_s, steps=self.steps, delay_s=self.delay_s)
        above_zero(least_gib=self.least_gib, poll_s=self.poll_s)
        not_negative(completion_timeout_s=self.completion_timeout_s)
        one_of("action", self.action, (ABORT, FORCE_COMPLETE))
        share(least_progress=self.least_progress)
        self._polls = Polls(every_s=self.poll_s)

    def limit_s(self, step: int) -> float:
        """The downtime limit of a step, 0 to `steps`: seconds, in whole milliseconds."""
        greatest_ms = self.downtime_s * 1e3
        base = greatest_ms / self.steps
        return int(base + (greatest_ms - base) / self.steps * step) / 1e3

    def __call__(self, seen: Observation) -> Decision:
        """Decide at each look, and of post-copy at iterations."""
        if seen.reason is Reason.SETUP:
            limits_ms = f"{self.limit_s(0) * 1e3:.0f} ms, and up to {self.downtime_s * 1e3:.0f} ms"
            return Decision(
                downtime_limit_s=self.limit_s(0),
                capabilities=capabilities(START_POSTCOPY, seen),
                wake_after_s=self.poll_s,
                because=f"{limits_ms} in {self.steps} steps",
            )
        decision = self._decide(seen, self._polls.due(seen))
        return replace(decision, wake_after_s=self._polls.wait_s(seen))

    def _decide(self, seen: Observation, polled: bool) -> Decision:
        if self._over:
            return Decision()
        if self._hardly_progresses(seen, polled):
            self._over = True
            return last_resort(START_POSTCOPY, seen, f"less than {self.least_progress:.0%} of progress")
        if not polled:
            return Decision()
        size_gib = max(self.least_gib, seen.total_bytes / GIB)
        timeout_s = self.completion_timeout_s * size_gib
        if not self._asked and 0 < timeout_s < seen.elapsed_s:
            self._asked = True
            forced = self.action == FORCE_COMPLETE
            self._over = forced or seen.objectives.may_abort
            return last_resort(START_POSTCOPY if forced else ABORT, seen, f"not over after {timeout_s:.0f} s")
        return self._climb(seen, self.delay_s * size_gib)

    def _climb(self, seen: Observation, delay_s: float) -> Decision:
        """To the step whose time is over, which it is not at the very moment; once, beyond what is allowed."""
        step = min(self.steps, math.ceil(seen.elapsed_s / delay_s) - 1)
        if step <= self._step or self.limit_s(self._step) >= seen.objectives.downtime_s:
            return Decision()
        self._step = step
        return Decision(
            downtime_limit_s=self.limit_s(step),
            because=f"step {step} of {self.steps}: {self.limit_s(step) * 1e3:.0f} ms, one every {delay_s:g} s",
        )

    def _hardly_progresses(self, seen: Observation, polled: bool) -> bool:
        before = 0
        if self.progress_per_poll:
            if polled:
                before, self._left_bytes = self._left_bytes, seen.remaining_bytes
        elif seen.reason is Reason.ITERATION and seen.iterations:
            before = seen.iterations[-1].remaining_at_start_bytes
        if not before or not self.least_progress or seen.iteration <= 1 or why_no_postcopy(seen):
            return False
        return before - seen.remaining_bytes < self.least_progress * before
