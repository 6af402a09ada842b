"""How QEMU decides, at a sync, that a guest must be slowed: ``migration_trigger_throttle`` of ``ram.c`` (7.2).

Looked at once in a period of more than a second: what was newly marked in it against what was sent. A counter goes up
when that is too much, is not reset when it is not, and at two the guest is slowed by one step more.
"""

from __future__ import annotations

from dataclasses import dataclass

from .forecast_dirt import Dirt
from .forecast_records import Detector, Throttling
from .pilot import LEAST_DIRTY_LIMIT
from .policy import Knobs

LEAST_PERIOD_S = 1.0
HIGH_COUNT = 2
LEAST_THROTTLE, GREATEST_THROTTLE = 0.01, 0.99
"""``cpu_throttle_set`` goes no further."""


@dataclass(slots=True)
class Throttle:
    """The detector and the ladder.

    Attributes:
        plan: how it is done.
        active: whether anything is done at all (``auto-converge``, ``dirty-limit``).
        by_limit: that is a limit on what each vCPU dirties, not the throttle.
        outside: of the vCPUs' time that is taken from outside of QEMU, now.
        fraction: of the vCPUs' time that QEMU takes, now.
        dirty_bytes_per_s: what ``query-migrate`` shows as dirty rate; it moves once in a period, too.
        period_began_s: when.
    """

    plan: Throttling
    active: bool
    period_began_s: float
    by_limit: bool = False
    outside: float = 0.0
    fraction: float = 0.0
    dirty_bytes_per_s: float = 0.0
    limiting: bool = False
    """The limit on each vCPU is in force."""
    _high: int = 0
    _dirtied: float = 0.0
    _sent_before: float = 0.0
    _percent_before: int = 0
    _not_falling: int = 0

    @property
    def taken(self) -> float:
        """Of the vCPUs' time, by whatever means: a quota from outside and QEMU's sleeps overlap."""
        return max(self.fraction, self.outside)

    def synced(self, now_s: float, marked_bytes: float, sent_bytes: float, knobs: Knobs, dirt: Dirt) -> None:
        """A sync was made.

        Args:
            now_s: when it ended.
            marked_bytes: what it newly marked.
            sent_bytes: all that was sent so far, wire bytes.
            knobs: as they stand.
            dirt: who is slowed.
        """
        self._dirtied += marked_bytes
        span_s = now_s - self.period_began_s
        if span_s <= LEAST_PERIOD_S:
            return
        sent = sent_bytes - self._sent_before
        trigger = self.plan.trigger if knobs.throttle_trigger is None else knobs.throttle_trigger
        if self.active and self._detects(self._dirtied, sent, trigger):
            self._slow(self._dirtied, sent, knobs, dirt)
        self.dirty_bytes_per_s = self._dirtied / span_s
        self.period_began_s, self._dirtied, self._sent_before = now_s, 0.0, sent_bytes

    def _detects(self, dirtied: float, sent: float, trigger: float) -> bool:
        """Whether the guest is to be slowed by one step more."""
        high = dirtied > trigger * sent
        detected = False
        if high:
            self._high += 1
            detected = self._high >= HIGH_COUNT
            self._high %= HIGH_COUNT
        if self.plan.detector is Detector.REFINED:
            # The patch compares whole percents, and only takes the first one down.
            percent = int(100 * dirtied / max(sent, 1.0))
            if high and 0 < self._percent_before <= percent:
                self._not_falling += 1
                detected = detected or self._not_falling >= HIGH_COUNT
                self._not_falling %= HIGH_COUNT
            self._percent_before = percent
        return detected

    def _slow(self, dirtied: float, sent: float, knobs: Knobs, dirt: Dirt) -> None:
        plan = self.plan
        if self.by_limit or plan.vcpu_limit_bytes_per_s is not None:
            self.limiting = True
            limit = knobs.dirty_limit_bytes_per_s or plan.vcpu_limit_bytes_per_s or LEAST_DIRTY_LIMIT
            dirt.limit(limit)
            return
        if not self.fraction:
            wanted = plan.initial if knobs.throttle_initial is None else knobs.throttle_initial
        else:
            step = plan.increment if knobs.throttle_increment is None else knobs.throttle_increment
            if plan.tailslow if knobs.throttle_tailslow is None else knobs.throttle_tailslow:
                running = 1.0 - self.fraction
                trigger = plan.trigger if knobs.throttle_trigger is None else knobs.throttle_trigger
                step = min(running - running * trigger * sent / dirtied, step)
            ceiling = plan.ceiling if knobs.throttle_ceiling is None else knobs.throttle_ceiling
            wanted = min(self.fraction + step, ceiling)
        self.fraction = min(max(wanted, LEAST_THROTTLE), GREATEST_THROTTLE)
        dirt.slow(self.taken)
