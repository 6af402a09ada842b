"""What a live forecast knows of guest and link: learnt from every look, whatever policy steers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .bounds import goodput
from .foresight_course import SeenCurve, Straight
from .learnt import point_of
from .link import LinkEstimate
from .policy import Knobs, Measurement, Objectives
from .slowing import Headroom, speed_of, used_shares
from .statistics import Iteration, Ledger, Statistics

TELLS_S, OVER_S, CHANGED = 0.2, 1.0, 1.1
"""Iterations of so long tell of the link; the last ones of them that come to this together count, and it has changed
where they say so many times more, or less, than the first iteration did."""
CAPPED = 0.9
"""Goodput of at least this part of the cap is that of the cap: the link may carry more."""
MOST_LATE = 20
"""No more iterations than that are looked at."""
ALIKE = 0.15
"""Windows that differ by less are one point of the curve."""
FORGETS = 0.75
"""What each iteration counts for, of what the one after it does: guests change."""
CONTRADICTS = 1.15
"""A shorter window in which so many times more was dirtied than in a longer one, later, is of another guest."""
NOISE, NOISE_WORTH = 0.06, 2.0
"""How far syncs that should be alike differ, as a part, before any was seen; and how many that counts for."""
MOST_WRONG = 1.0
"""A point that is off by more than a factor of e is of another guest: no more is learnt from how much."""
LEVEL = 0.04
"""By how much the curve as a whole may be off even with many points: a guest is never quite the same twice."""
LEAST_POINT_S = 0.002
"""A shorter window says nothing."""
ASLEEP = 0.01
"""QEMU's least throttle counts as none: policies keep it armed with that."""
FELT = 0.95
"""A guest that keeps more of its speed has not felt a throttle."""
LEAST_SPEED = 1e-3


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the curve, from an iteration or from a measurement before the start (number 0)."""

    number: int
    window_s: float
    dirtied_bytes: float


@dataclass(slots=True)
class Learnt:
    """Fed with every look; asked at any time.

    Attributes:
        measurements: of the guest before the start; each is a point of its curve.
    """

    measurements: Sequence[Measurement] = ()
    link: LinkEstimate = field(default_factory=LinkEstimate)
    headroom: Headroom = field(default_factory=Headroom)
    points: list[Point] = field(default_factory=list[Point])
    throttle: float = 0.0
    """What slows the guest now, by whatever means."""
    ran_s: float = 0.0
    """What the guest has run since the last sync, seconds of its own time."""
    _hindered: bool = False
    """It was slowed for some of that."""
    _sync: Statistics | None = None
    """As the iteration under way began."""
    _unhindered: tuple[float, ...] = ()
    """What its vCPUs use while nobody slows them."""
    _last: Statistics | None = None
    _seen: int = 0
    """Iterations that have been taken."""
    least_limit_s: float = math.inf
    """The least downtime limit that the policy has set so far."""
    lowers: bool = False
    """Whether it has been seen to lower it."""
    _limit_s: float = 0.0
    _wrong: float = 0.0
    """Squares of how far the curve was off as each new point came, as logarithms."""
    _judged: float = 0.0
    """How many points that is, the older ones counting for less."""

    def see(self, ledger: Ledger, knobs: Knobs) -> bool:
        """Take a look; whether an iteration has ended with it."""
        now = ledger.last
        if now is None or now is self._last:
            return False
        before, self._last = self._last, now
        if before is not None:
            passed_s = (now.at_ns - before.at_ns) / 1e9
            self.ran_s += passed_s * (self.headroom.speed(self.throttle) if self.throttle else 1.0)
        self._hindered |= self.throttle > 0
        if now.iteration <= 1 and now.remaining_bytes > 0:
            self.link.add(_sending_s(now, ledger), now.transferred_bytes)
        ended = len(ledger.iterations) > self._seen
        if ended:
            self._seen = len(ledger.iterations)
            self._take(ledger.iterations, now)
        elif self._sync is None:
            self._sync = now
        self.lowers |= knobs.downtime_limit_s < self._limit_s
        self._limit_s = knobs.downtime_limit_s
        self.least_limit_s = min(self.least_limit_s, self._limit_s)
        of_qemu = now.throttle if now.throttle > ASLEEP else 0.0
        self.throttle = max(of_qemu, knobs.outside_throttle)
        return ended

    def _take(self, iterations: Sequence[Iteration], now: Statistics) -> None:
        """The iteration that has ended."""
        point, last = point_of(iterations), iterations[-1]
        ran_s = self._ran_s(last, point, now)
        if point is not None and ran_s >= LEAST_POINT_S:
            self._put(Point(last.number, ran_s, max(1.0, point[1])))
        self.ran_s, self._hindered, self._sync = 0.0, False, now

    def _ran_s(self, last: Iteration, point: tuple[float, float] | None, now: Statistics) -> float:
        """For how long the guest ran in it, seconds of its own time; and what that tells of the throttle.

        Where what its vCPUs used can't be seen, the speed is taken by which it would have dirtied what it did.
        """
        used, unhindered = used_shares(self._sync, now) if self._sync is not None else (), sum(self.headroom.shares)
        if not self._hindered:
            if used:
                self.headroom = Headroom(used, self.headroom.reach)
            return last.duration_s
        if last.duration_s <= 0:
            return 0.0
        if used and unhindered > 0:
            speed = min(1.0, max(LEAST_SPEED, sum(used) / unhindered))
        elif point is not None and self.points:
            speed = self._speed_of(last.duration_s, point[1])
        else:
            return self.ran_s
        # A throttle that was not felt tells nothing, unless by the book it should have been.
        if self.throttle and (speed < FELT or self.headroom.speed(self.throttle) < 1.0):
            self.headroom = self.headroom.corrected(self.throttle, speed)
        return speed * last.duration_s

    def _speed_of(self, span_s: float, dirtied_bytes: float) -> float:
        curve = self.curve(math.inf)
        assert curve is not None
        return max(LEAST_SPEED, speed_of(Straight(curve), span_s, dirtied_bytes))

    def _put(self, new: Point) -> None:
        """Add a point.

        By how much the curve was wrong about it is noise, if it lies where the curve was seen. Older ones that
        contradict it are of a guest that has changed, and dropped.
        """
        curve = self.curve(math.inf)
        if curve is not None and new.window_s * (1 + ALIKE) >= curve.points[0][0]:
            wrong = math.log(new.dirtied_bytes / max(1.0, curve.at(new.window_s, 0.0)))
            self._wrong = FORGETS * self._wrong + min(wrong**2, MOST_WRONG)
            self._judged = FORGETS * self._judged + 1.0
        self.points = [
            old
            for old in self.points
            if not (old.window_s < new.window_s and old.dirtied_bytes > CONTRADICTS * new.dirtied_bytes)
        ]
        self.points.append(new)

    # ---- what is known

    def bytes_per_s(self, ledger: Ledger, knobs: Knobs) -> float | None:
        """Goodput in bytes of memory; ``None``: not known yet."""
        known, late = self.link.goodput_bytes_per_s, _late_bytes_per_s(ledger.iterations)
        if known is None:
            known = max((each.bandwidth_bytes_per_s for each in ledger.iterations), default=0.0) or None
        elif late is not None and not known / CHANGED < late < known * CHANGED:
            known = late
        if not known:
            return None
        cap = knobs.bandwidth_bytes_per_s
        # A cap of next to nothing is no rate, but a way to hold the sender for a moment (`least_downtime` lands by it).
        return max(1.0, goodput(min(known, cap) if cap > 0.1 * known else known))

    def capped(self, goal: Objectives) -> bool:
        """Whether it is the user's cap that holds the sender: QEMU lifts it for the last of the RAM."""
        cap, known = goal.bandwidth_bytes_per_s, self.link.goodput_bytes_per_s
        return bool(cap and known and known >= CAPPED * cap)

    def curve(self, total_bytes: float) -> SeenCurve | None:
        """Through all points; ``None``: there are none."""
        points = [*(Point(0, each.window_s, max(1.0, each.dirtied_bytes)) for each in self.measurements), *self.points]
        if not points:
            return None
        known: list[tuple[float, float]] = []
        for group in self._groups(points):
            newest = max(each.number for each in group)
            weights = [FORGETS ** (newest - each.number) for each in group]
            window_s = sum(w * p.window_s for w, p in zip(weights, group, strict=True)) / sum(weights)
            dirtied = sum(w * p.dirtied_bytes for w, p in zip(weights, group, strict=True)) / sum(weights)
            known.append((window_s, max(dirtied, known[-1][1] if known else 1.0)))
        return SeenCurve(known, total_bytes)

    @staticmethod
    def _groups(points: list[Point]) -> list[list[Point]]:
        """Windows that are alike, rising."""
        groups: list[list[Point]] = []
        for point in sorted(points, key=lambda each: each.window_s):
            if groups and point.window_s <= (1 + ALIKE) * groups[-1][0].window_s:
                groups[-1].append(point)
            else:
                groups.append([point])
        return groups

    def spreads(self) -> tuple[float, float]:
        """Relative standard deviations: of the curve as a whole, and of one sync from the next."""
        noise = math.sqrt((NOISE_WORTH * NOISE**2 + self._wrong) / (NOISE_WORTH + self._judged))
        return math.hypot(LEVEL, noise / math.sqrt(1.0 + self._judged)), noise


def _late_bytes_per_s(ended: Sequence[Iteration]) -> float | None:
    """What the last iterations after the first one were sent with, wire bytes; ``None``: they were too short."""
    sent, span_s = 0, 0.0
    for each in reversed(ended[-MOST_LATE:]):
        if each.number > 1 and each.duration_s >= TELLS_S:
            sent, span_s = sent + each.sent_bytes, span_s + each.duration_s
            if span_s >= OVER_S:
                return sent / span_s
    return None


def _sending_s(now: Statistics, ledger: Ledger) -> float:
    """Seconds since the transfer began, by QEMU's own clock where it tells."""
    if now.qemu_total_s is not None:
        return now.qemu_total_s - (now.setup_s or 0.0)
    assert ledger.first is not None
    return (now.at_ns - ledger.first.at_ns) / 1e9
