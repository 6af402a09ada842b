"""What slowing a guest comes to: how fast it still is, how long its migration goes on, and what it loses by that.

A throttle takes a share of the time of each vCPU. A vCPU that does not use all of its time does not notice until the
throttle eats into what it uses (`Headroom`). From then on the guest's own time runs slower, and what counts for the
dirty curve is the guest's own time.

What is lost is counted in guest-seconds: what the guest would have done in so many seconds, had nobody disturbed it.
Whether it is slowed to a hundredth or stands still is nearly the same: in both cases the rest of the memory goes over
while next to nothing is done. So a throttle is best strong and short. What it costs is about the time that it takes to
send what was dirty when it began, and to wait for a smaller rest first costs nothing but time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .curve import DirtyCurve
from .statistics import Statistics

SYNC_S = 0.01
"""What a sync, and what belongs to it, takes at least."""
MOST_SYNCS = 100
"""Iterations that get smaller so slowly count as if they never ended."""
UNKNOWN_SHARE = 0.5
"""What a vCPU is thought to use where nobody can tell: a throttle that is too weak costs more than one that is too
strong."""
_HALVINGS = 24


@dataclass(frozen=True, slots=True)
class Headroom:
    """How much of their time the vCPUs use, and so what a throttle leaves of the guest's speed.

    Attributes:
        shares: of each vCPU, 0 to 1, unhindered; none: not known, one is taken for all that uses half of its time.
        reach: how much more a vCPU gets than the throttle says, as a factor; 1: by the book. Learnt (`corrected`).
    """

    shares: tuple[float, ...] = ()
    reach: float = 1.0

    def speed(self, throttle: float) -> float:
        """What part of its speed the guest keeps under a throttle of 0 to 0.99."""
        shares = self._used
        left = (1.0 - throttle) * self.reach
        return sum(min(share, left) for share in shares) / sum(shares)

    def corrected(self, throttle: float, speed: float) -> Headroom:
        """After the guest was seen to run at this speed under this throttle.

        Args:
            throttle: above 0.
            speed: above 0; where it is 1, all that is learnt is that the throttle was too weak.
        """
        low, high = 0.02, 50.0
        for _ in range(40):
            middle = (low * high) ** 0.5
            if Headroom(self.shares, middle).speed(throttle) < min(speed, 0.999):
                low = middle
            else:
                high = middle
        return Headroom(self.shares, 1.5 * high if speed >= 0.95 else high)

    @property
    def _used(self) -> Sequence[float]:
        used = [share for share in self.shares if share > 0]
        return used or (UNKNOWN_SHARE,)


def used_shares(before: Statistics, after: Statistics) -> tuple[float, ...]:
    """How much of the time between two looks each vCPU ran, 0 to 1; empty: nobody can tell."""
    span_s = (after.at_ns - before.at_ns) / 1e9
    if span_s <= 0 or not before.vcpu_s or len(before.vcpu_s) != len(after.vcpu_s):
        return ()
    pairs = zip(before.vcpu_s, after.vcpu_s, strict=True)
    return tuple(min(1.0, max(0.0, (late_s - early_s) / span_s)) for early_s, late_s in pairs)


def speed_of(curve: DirtyCurve, span_s: float, dirtied_bytes: float) -> float:
    """At which part of its speed a guest of this curve dirties so much in so long, 0 to 1."""
    if curve.at(span_s) <= dirtied_bytes:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if curve.at(middle * span_s) < dirtied_bytes else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class Course:
    """What comes of a throttle.

    Attributes:
        throttle: 0 to 0.99.
        waits: iterations that go by before it begins.
        total_s: until the guest runs again.
        lost_s: guest-seconds lost by then, the outage among them.
        left_s: of sending, when the throttle begins.
    """

    throttle: float
    waits: int
    total_s: float
    lost_s: float
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A migration as it stands, and the courses that it could take.

    Attributes:
        curve: of the guest.
        bytes_per_s: goodput, in bytes of memory.
        limit_s: how long it may take to send what is left when the guest stops.
        left_bytes: still to be sent in the iteration under way.
        ran_s: what the guest has run in it, seconds of its own time.
        headroom: of its vCPUs.
        slice_s: for how long a throttled vCPU runs at a time. A sync waits until each of them runs again, and a stop
            once more: together about as long as they sleep (seen under TCG, whose syncs have every vCPU look up:
            ``tcg_log_global_after_sync``).
    """

    curve: DirtyCurve
    bytes_per_s: float
    limit_s: float
    left_bytes: float
    ran_s: float = 0.0
    headroom: Headroom = field(default_factory=Headroom)
    slice_s: float = 0.01

    def course(self, throttle: float, waits: int = 0) -> Course | None:
        """What comes of a throttle that begins now, or after some more whole iterations at full speed.

        The switchover is thought to be asked for at the moment at which what is left, and what has been dirtied since
        the last sync, fit into the limit.

        Returns:
            ``None``: the rest does not come below the limit.
        """
        left_s, ran_s, passed_s = self.left_bytes / self.bytes_per_s, self.ran_s, 0.0
        for _ in range(waits):
            passed_s += left_s + SYNC_S
            left_s, ran_s = self._dirty_s(ran_s + left_s), 0.0
        began_s, throttled_s = left_s, 0.0
        speed, sync_s = self.headroom.speed(throttle), SYNC_S + self._turn_s(throttle) * throttle
        for _ in range(MOST_SYNCS):
            at_end_s = self._rest_s(left_s, left_s, ran_s, throttle)
            if at_end_s <= self.limit_s:
                span_s = self._until_fit_s(left_s, ran_s, throttle)
                rest_s = self._rest_s(left_s, span_s, ran_s, throttle)
                throttled_s += span_s + sync_s
                lost_s = (1.0 - speed) * throttled_s + rest_s
                return Course(throttle, waits, passed_s + throttled_s + rest_s, lost_s, began_s)
            if at_end_s >= left_s and not ran_s:
                return None
            throttled_s += left_s + sync_s
            left_s, ran_s = at_end_s, 0.0
        return None

    def rest_s(self, ahead_s: float, throttle: float) -> float:
        """How long it would take to send what a sync finds that is asked for after so many seconds of sending."""
        return self._rest_s(self.left_bytes / self.bytes_per_s, ahead_s, self.ran_s, throttle)

    def _rest_s(self, left_s: float, ahead_s: float, ran_s: float, throttle: float) -> float:
        # While the sync waits for it, each vCPU has its turn once more.
        runs_s = self.headroom.speed(throttle) * (ahead_s + (self._turn_s(throttle) if throttle else 0.0))
        return max(0.0, left_s - ahead_s) + self._dirty_s(ran_s + runs_s)

    def _until_fit_s(self, left_s: float, ran_s: float, throttle: float) -> float:
        """For how long to go on sending until the rest fits, which it does at the end at the latest.

        What is left falls as it is sent, and what is dirty rises the slower the longer it does: so it is too much up to
        one moment, and fits from then on.
        """
        if self._rest_s(left_s, 0.0, ran_s, throttle) <= self.limit_s:
            return 0.0
        low, high = 0.0, left_s
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = self._rest_s(left_s, middle, ran_s, throttle) <= self.limit_s
            low, high = (low, middle) if fits else (middle, high)
        return high

    def _turn_s(self, throttle: float) -> float:
        """From one turn of a throttled vCPU to its next."""
        return self.slice_s / (1.0 - throttle)

    def _dirty_s(self, window_s: float) -> float:
        return self.curve.at(window_s) / self.bytes_per_s

    def courses(self, greatest_throttle: float, waits: Sequence[int]) -> Iterator[Course]:
        """All that come to an end, of throttles from none to the greatest, each after each of these waits."""
        for wait in waits:
            for throttle in _throttles(greatest_throttle):
                course = self.course(throttle, wait)
                if course is not None:
                    yield course

    def least_sleepy(self, longest_s: float) -> float:
        """The greatest throttle, in whole percent, under which no vCPU sleeps for longer than this.

        It had better be less than the limit. Else a sync that finds a little too much may begin a chain without an
        end: QEMU takes the time for which a sync waited for time of sending, and so the link for much slower; by that
        the rest is too much the next time as well (seen on 7.2 at 98 %: 20 syncs in 8 s, with 4 MiB left at each).
        """
        return max(0.0, math.floor(100.0 * (1.0 - self.slice_s / longest_s)) / 100.0)


def cheapest(
    courses: Iterator[Course], *, worth: float, slack_s: float, within_s: float | None = None
) -> Course | None:
    """The course to take.

    Args:
        courses: from which to choose.
        worth: guest-seconds that a second of migration may cost.
        slack_s: guest-seconds that a weaker throttle may cost more than a stronger one.
        within_s: when it must be over; where none is, the quickest is taken.

    Returns:
        ``None``: there are none.
    """
    found = list(courses)
    if not found:
        return None
    if within_s is not None:
        in_time = [course for course in found if course.total_s <= within_s]
        if not in_time:
            return min(found, key=lambda course: course.total_s)
        found = in_time

    def cost_s(course: Course) -> float:
        return course.lost_s + worth * course.total_s

    best = min(found, key=cost_s)
    as_good = [each for each in found if each.waits == best.waits and cost_s(each) <= cost_s(best) + slack_s]
    return min(as_good, key=lambda course: course.throttle)


def _throttles(greatest: float) -> Iterator[float]:
    """None, and then such that each leaves a fifth less time than the one before, up to the greatest."""
    yield 0.0
    awake = 0.9
    while 1.0 - awake < greatest - 0.003:
        yield round(1.0 - awake, 2)
        awake *= 0.85
    if greatest >= 0.01:
        yield greatest
