"""How a migration is likely to go on from where it stands: some dozens of courses, each with its own luck.

A course goes from sync to sync as QEMU does: send until what is left fits into the limit, sync, look how much the guest
dirtied meanwhile, and stop it where that fits, too. What the guest dirties follows from the curve f that the iterations
so far have shown; how much the curve bends in windows shorter than any that was seen is not known, and each course
takes another bend.

Nobody knows what the policy will do. It is taken to do what nearly all do: to leave the knobs as they stand while
iterations shrink, to allow all of the downtime once they do not, or once the deadline has passed, and then to go over
to post-copy if it has asked for that at the start.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from .bounds import PAGE_HEADER_BYTES
from .curve import PAGE_BYTES
from .estimate import NORMAL, normal_draws
from .slowing import Headroom

SYNC_S = 0.004
"""What a sync, and what belongs to it, takes."""
MOST_SYNCS = 40
"""Iterations that are looked ahead; one that has not ended by then counts as one that never does."""
SHRINKING = 0.95
"""A sync that finds more than this part of what the one before found has not shrunk."""
STILL, STILL_FOR, LUCKIEST = 0.98, 4, 3.5
"""After so many syncs in a row that found no less than this part of what the one before found, a rest that would not
fit even if one of them found so many standard deviations less never will."""
STUCK_AFTER = 2
"""After so many of those in a row a policy allows all that it may."""
ANY_BEND = (0.02, 20.0)
"""A curve of which a single window is known may hardly bend within it, or have been flat since its first hundredth: any
order of magnitude between is as likely."""
LEAST_SLOPE = 0.15
"""How it goes on beyond a single window."""
MOST_UNCAPPED = 10.0
"""So many times faster than under its cap a link may be thought to be."""
MAY_BEND = 0.75
"""Below the shortest window the slope is at least this part of the last one that was seen, in logarithms: a guest of
several working sets may bend more there. Of 0.25, 0.5 and 0.75 the forecasts of ``python -m benchmarks verdict`` were
nearest with this."""
STRAIGHT = 1e-6
SLICE_S = 0.05
"""After a sync QEMU sends for so long before it looks whether what is left fits."""
WIRE = 1.0 + PAGE_HEADER_BYTES / PAGE_BYTES
"""Wire bytes for each byte of a page."""
LADDER_S, LADDER_COUNTS = 1.0, 2
"""QEMU judges convergence over more than a second, and acts on the second time that there was none."""
UNSEEN_DIRT = (-1.0, 1.5)
"""Of a guest of which nothing is known yet: mean and standard deviation of the logarithm of what it dirties in the
first iteration, as a part of what is sent in it. From next to nothing to several times as much."""
_NOISES = 61
"""A prime, so that the steps below go through all of them."""


class Luck(NamedTuple):
    """What is not known, as one course has it: normal, mean 0, variance 1, unless it says otherwise."""

    level: float
    """Of the curve."""
    bend: float
    """Of the curve below the shortest window that was seen, 0 to 1: as much as the last part of it that was, to not at
    all."""
    bandwidth: float
    pipe: float
    """How much of the pipe is full when the guest stops, 0 to 1."""
    fixed: float
    limit: float
    """How far between the least limit seen and the one that stands, 0 to 1."""
    last: float
    """How fast the last of the RAM goes where a cap is lifted for it, 0 to 1."""
    unseen: float
    """Of what was never measured: zero pages in the first iteration, what it dirties; 0 to 1."""
    place: int
    """Where in the table of noises it begins."""


MIDDLING = Luck(0.0, 0.5, 0.0, 0.5, 0.0, 0.5, 0.5, 0.5, 0)
"""Neither good nor bad."""


@lru_cache(maxsize=8)
def lucks(count: int) -> tuple[Luck, ...]:
    """So many that fill the space evenly."""
    part = NORMAL.cdf
    return tuple(
        Luck(level, part(bend), bandwidth, part(pipe), fixed, part(limit), part(last), part(unseen), 7 * place)
        for place, (level, bend, bandwidth, pipe, fixed, limit, last, unseen) in enumerate(normal_draws(count, 8))
    )


@lru_cache(maxsize=1)
def noises() -> tuple[float, ...]:
    """A table of normal deviates, in an order without a pattern."""
    return tuple(NORMAL.inv_cdf((37 * place % _NOISES + 0.5) / _NOISES) for place in range(_NOISES))


@lru_cache(maxsize=256)
def _bend_of_percent(percent: int) -> float:
    low, high = 0.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if middle / math.expm1(max(middle, STRAIGHT)) > percent / 100 else (low, middle)
    return low


def bend_of_slope(slope: float) -> float:
    """x of ``1 - exp(-x)`` where its slope in logarithms, ``x / (exp(x) - 1)``, is this; to a percent of that."""
    return _bend_of_percent(min(100, max(1, round(100 * slope))))


@dataclass(frozen=True, slots=True)
class SeenCurve:
    """A dirty curve as straight lines between measured points, in logarithms of both.

    Attributes:
        points: (window in seconds of the guest's own time, distinct bytes dirtied in it), both above 0, windows
            rising, bytes not falling; one at least.
        most_bytes: all that can ever be dirty.
    """

    points: Sequence[tuple[float, float]]
    most_bytes: float
    windows: list[float] = field(init=False, repr=False)
    sizes: list[float] = field(init=False, repr=False)
    slopes: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        windows = [math.log(window_s) for window_s, _ in self.points]
        sizes = [math.log(max(dirtied, 1.0)) for _, dirtied in self.points]
        slopes = [
            min(1.0, max(0.0, (after - before) / (late - early)))
            for (early, late), (before, after) in zip(pairwise(windows), pairwise(sizes), strict=True)
        ]
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "slopes", slopes)

    @property
    def greatest_bytes(self) -> float:
        """The most that was dirtied in any window that was seen."""
        return math.exp(self.sizes[-1])

    def bent(self, bend: float) -> float:
        """How much it bends below the shortest window, for a course's luck of 0 to 1.

        Returns:
            The shortest window as a multiple of T, where it is ``W (1 - exp(-tau / T))`` below; 0: a straight line.
        """
        if not self.slopes:
            least, most = ANY_BEND
            return float(least * (most / least) ** (1.0 - bend))
        least = MAY_BEND * self.slopes[0]
        return bend_of_slope(least + (1.0 - least) * bend)

    def at(self, window_s: float, bent: float) -> float:
        """Expected distinct bytes dirtied in a window of the guest's own time, 0 or more seconds."""
        if window_s <= 0:
            return 0.0
        window, windows = math.log(window_s), self.windows
        if window <= windows[0]:
            part = window_s / self.points[0][0]
            if bent > STRAIGHT:
                part = math.expm1(-bent * part) / math.expm1(-bent)
            return min(self.most_bytes, math.exp(self.sizes[0]) * part)
        place = bisect_right(windows, window) - 1
        slope = self.slopes[place] if place < len(self.slopes) else (self.slopes[-1] if self.slopes else LEAST_SLOPE)
        return min(self.most_bytes, math.exp(self.sizes[place] + slope * (window - windows[place])))


@dataclass(frozen=True, slots=True)
class Straight:
    """The same, as a `whimbrel.engine.curve.DirtyCurve` that does not bend below the shortest window."""

    seen: SeenCurve

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        return self.seen.at(window_s, 0.0)

    @property
    def most_bytes(self) -> float:
        """The most that can be dirty."""
        return self.seen.most_bytes

    @property
    def knots_s(self) -> tuple[float, ...]:
        """Where its lines meet: between them it is not concave for certain."""
        return tuple(window_s for window_s, _ in self.seen.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """QEMU's own throttle, which rises at every second sync that shows no convergence (``migration_trigger_throttle``).

    Attributes:
        initial, increment, ceiling, trigger: 0 to 1, as the knobs have them.
    """

    initial: float
    increment: float
    ceiling: float
    trigger: float

    def above(self, throttle: float) -> float:
        """Its next rung."""
        return min(self.ceiling, throttle + self.increment if throttle else self.initial)


@dataclass(slots=True)
class _Climb:
    """How far up the ladder a course is."""

    ladder: Ladder
    throttle: float
    counts: int = 0
    dirtied_bytes: float = 0.0
    period_s: float = 0.0

    @property
    def at_the_top(self) -> bool:
        """It rises no more."""
        return self.throttle >= self.ladder.ceiling

    def sync(self, dirtied_bytes: float, bytes_per_s: float, span_s: float) -> bool:
        """A sync after so long that found so much; whether the throttle has moved."""
        self.dirtied_bytes += dirtied_bytes
        self.period_s += span_s
        if self.period_s < LADDER_S:
            return False
        self.counts += self.dirtied_bytes > self.ladder.trigger * bytes_per_s * self.period_s
        self.period_s = self.dirtied_bytes = 0.0
        if self.counts < LADDER_COUNTS:
            return False
        self.counts, self.throttle = 0, self.ladder.above(self.throttle)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A migration as it stands, and what is known of guest and link. Memory bytes, but for `sent_bytes`.

    Attributes:
        at_s: now, seconds since ``migrate``.
        sent_bytes: on the wire so far.
        left_bytes: still to be sent in the iteration under way.
        zero_bytes: of that, at most, pages that are zero and cost next to nothing (in the first iteration).
        iteration_bytes: what it had to send when it began.
        ran_s: what the guest has run in it, seconds of its own time.
        shrank: whether the last sync found less than the one before; ``None``: there is nothing to compare.
        curve: of the guest; ``None``: nothing was seen of it.
        curve_spread, noise: relative standard deviations: of the curve as a whole, and of one sync from the next.
        total_bytes: all RAM.
        bytes_per_s: goodput.
        bandwidth_spread: relative standard deviation.
        pipe_s: what the pipe holds, as time on the link.
        fixed_s, fixed_spread: what a switchover takes besides.
        limit_s: the downtime limit as it stands.
        least_limit_s: the least that the policy has set so far.
        lowers: the policy has been seen to lower it.
        goal_limit_s: and as far as it may be raised.
        capped: a cap holds the sender, which QEMU lifts for the last of the RAM.
        deadline_s: seconds since ``migrate``.
        throttle: as it stands, 0 to 0.99.
        headroom: what it leaves of the guest's speed.
        ladder: of QEMU's throttle, if it is on.
        postcopy: the policy can go over to post-copy.
    """

    at_s: float
    sent_bytes: float
    left_bytes: float
    zero_bytes: float = 0.0
    iteration_bytes: float
    ran_s: float = 0.0
    shrank: bool | None = None
    curve: SeenCurve | None
    curve_spread: float = 0.05
    noise: float = 0.05
    total_bytes: float
    bytes_per_s: float
    bandwidth_spread: float = 0.02
    pipe_s: float = 0.0
    fixed_s: float = 0.025
    fixed_spread: float = 0.3
    limit_s: float
    least_limit_s: float
    lowers: bool = False
    goal_limit_s: float
    capped: bool = False
    deadline_s: float | None = None
    throttle: float = 0.0
    headroom: Headroom = field(default_factory=Headroom)
    ladder: Ladder | None = None
    postcopy: bool = False

    def limit_within(self, part: float) -> float:
        """A limit between the least and the one that stands; one that was only ever raised stands in every other."""
        if not self.lowers:
            part = min(1.0, 2.0 * part)
        if self.least_limit_s <= 0:
            return self.limit_s
        return float(self.least_limit_s * (self.limit_s / self.least_limit_s) ** part)


class Ending(NamedTuple):
    """How a course ends.

    Attributes:
        ends_s: when the guest runs at the destination, seconds since ``migrate``; ``inf``: never.
        downtime_s: of its outage; where it never ends, if it were stopped all the same.
        sent_bytes: on the wire by then; ``inf``: it never ends.
        left_bytes: what the last sync found.
    """

    ends_s: float
    downtime_s: float
    sent_bytes: float
    left_bytes: float


class _Course:
    """One course."""

    __slots__ = (
        "bent",
        "bytes_per_s",
        "curve",
        "fixed_s",
        "last_bytes_per_s",
        "level",
        "luck",
        "luckiest",
        "most_bytes",
        "noises",
        "pipe_s",
        "standing",
    )

    def __init__(self, standing: Standing, luck: Luck) -> None:
        exp = math.exp
        self.standing, self.luck = standing, luck
        self.bytes_per_s = standing.bytes_per_s * exp(standing.bandwidth_spread * luck.bandwidth)
        self.fixed_s = standing.fixed_s * exp(standing.fixed_spread * luck.fixed)
        self.pipe_s = standing.pipe_s * luck.pipe
        self.last_bytes_per_s = self.bytes_per_s * (MOST_UNCAPPED**luck.last if standing.capped else 1.0)
        curve = standing.curve
        if curve is None:
            mean, spread = UNSEEN_DIRT
            window_s = standing.total_bytes / self.bytes_per_s
            part = exp(mean + spread * luck.level)
            curve = SeenCurve(((window_s, min(1.0, part) * standing.total_bytes),), standing.total_bytes)
            self.level = 1.0
        else:
            self.level = exp(standing.curve_spread * luck.level)
        self.curve = curve
        self.bent = curve.bent(luck.bend)
        self.noises = noises()
        self.luckiest = exp(-LUCKIEST * standing.noise)
        self.most_bytes = max(curve.greatest_bytes * self.level, 1.0)

    def run(self) -> Ending:
        """To its end."""
        here, rate, place = self.standing, self.bytes_per_s, self.luck.place
        limit_s, deadline_s = here.limit_within(self.luck.limit), here.deadline_s or math.inf
        climb = _Climb(here.ladder, here.throttle) if here.ladder is not None else None
        speed = here.headroom.speed(here.throttle) if here.throttle else 1.0
        now_s, ran_s, sent, began = here.at_s, here.ran_s, here.sent_bytes, here.iteration_bytes
        left = max(0.0, here.left_bytes - self.luck.unseen * here.zero_bytes)
        stuck, still = int(here.shrank is False), 0
        for sync in range(MOST_SYNCS):
            if stuck >= STUCK_AFTER or deadline_s < now_s:
                limit_s = max(limit_s, here.goal_limit_s)
            span_s = max(left / rate - limit_s, min(left / rate, SLICE_S))
            unsent = max(0.0, left - span_s * rate)
            sent += (left - unsent) * WIRE
            now_s += span_s + SYNC_S
            found = unsent + self._dirtied(ran_s + speed * (span_s + SYNC_S), unsent, place + 11 * sync)
            if found <= limit_s * rate:
                return self._ended(now_s, found, found / self.last_bytes_per_s, sent)
            stuck = stuck + 1 if found > SHRINKING * began else 0
            if here.postcopy and stuck >= STUCK_AFTER and limit_s >= here.goal_limit_s:
                return self._ended(now_s, found, 0.0, sent)
            if climb is None or climb.at_the_top:
                still = still + 1 if found > STILL * began else 0
                if still >= STILL_FOR and found * self.luckiest > limit_s * rate / STILL:
                    return self._endless(found)
            elif climb.sync(found - unsent, rate, span_s + SYNC_S):
                speed = here.headroom.speed(climb.throttle)
            left = began = found
            ran_s = 0.0
        return self._endless(left)

    def _dirtied(self, ran_s: float, unsent: float, place: int) -> float:
        """What a sync newly finds after the guest ran so long: what was dirtied of the unsent is in the bitmap already.

        These are taken to have been dirtied as all others that are ever dirtied.
        """
        lucky = math.exp(self.standing.noise * self.noises[place % _NOISES])
        fresh = min(self.level * lucky * self.curve.at(ran_s, self.bent), self.standing.total_bytes)
        ever = max(self.most_bytes, unsent, fresh)
        return fresh * (1.0 - unsent / ever)

    def _endless(self, left: float) -> Ending:
        return Ending(math.inf, left / self.bytes_per_s + self.pipe_s + self.fixed_s, math.inf, left)

    def _ended(self, now_s: float, found: float, last_ram_s: float, sent: float) -> Ending:
        outage_s = last_ram_s + self.pipe_s + self.fixed_s
        return Ending(now_s + outage_s, outage_s, sent + found * WIRE, found)


def courses(standing: Standing, count: int) -> list[Ending]:
    """So many, all as likely."""
    return [_Course(standing, luck).run() for luck in lucks(count)]


def likeliest(standing: Standing) -> Ending:
    """The one in the middle of them all, without noise."""
    return _Course(replace(standing, noise=0.0), MIDDLING).run()
