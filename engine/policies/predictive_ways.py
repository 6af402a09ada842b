"""The ways that a migration could go from here, each followed to its end: what ``predictive`` compares.

All of them are made of the same few things: what is left, as time on the link; the dirty curve, which says what a sync
finds; how far a throttle slows the guest; and what an outage takes besides the rest. A way ends when the guest runs at
the destination and all of its memory is there. What is lost is counted in guest-seconds: what the guest would have done
in so many seconds, had nobody disturbed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.slowing import SYNC_S, Headroom

MOST_PASSES = 12
"""Passes that are thought ahead: what has not come down by then is taken not to."""
SHRINKS = 0.97
"""A pass that leaves more than this part of what the one before left does not count as progress."""
OFTEN_S = 0.075
"""QEMU compares what is left with the limit every 51 ms, and once in its window of 100 ms besides."""
MOST_SYNCS = 80
"""And so many syncs are thought ahead, where they come often."""
HALVINGS = 10
"""A moment is found to a thousandth of the pass that it is in."""
STEPS = 12
"""Parts in which post-copy is followed."""
SLOPE_S = 2e-3
"""Over so much of the guest's own time it is looked at how often it touches new pages."""


class Means(StrEnum):
    """What a way does."""

    STOP = "stop"
    """The guest is stopped when the rest fits, or, where it does not, is paused."""
    EAGER = "sync often"
    """The same, with a sync as often as QEMU makes one: pages that are dirtied before they are sent go only once."""
    THROTTLE = "throttle"
    POSTCOPY = "post-copy"


@dataclass(frozen=True, slots=True)
class Way:
    """A way, and what comes of it; all times are seconds from now.

    Attributes:
        means: what it does.
        throttle: how far the guest is slowed, 0 to 0.99.
        waits: whole passes that go by before it begins; 0: in the one under way.
        begins_s: when that is.
        stops_s: when the guest is to be stopped: the sync for that comes then.
        total_s: when all of it is at the destination.
        lost_s: guest-seconds lost by then.
        outage_s: for how long it stands.
    """

    means: Means
    throttle: float
    waits: int
    begins_s: float
    stops_s: float
    total_s: float
    lost_s: float
    outage_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """A migration as it stands.

    Attributes:
        dirty_s: what the guest dirties in a window of its own time, as seconds of link.
        most_s: all that it can ever dirty, the same way.
        left_s: still to be sent in the pass under way, the same way.
        ran_s: what the guest has run in it, seconds of its own time.
        limit_s: how long what is left may take when the guest stops.
        room_s: the same for what is only foretold.
        after_s: what an outage takes besides: the pipe, and the fixed cost of a switchover.
        fault_s: how long the guest waits for a page in post-copy.
        page_s: what the link needs for a page.
        headroom: of its vCPUs.
        slice_s: for how long a throttled vCPU runs at a time (`whimbrel.engine.slowing.Outlook`).
    """

    dirty_s: Callable[[float], float]
    most_s: float
    left_s: float
    ran_s: float
    limit_s: float
    room_s: float
    after_s: float
    fault_s: float
    page_s: float
    headroom: Headroom
    slice_s: float

    def plain(self) -> Iterator[Way]:
        """Stop now, or after so many passes more, or in one of them as soon as the rest fits."""
        left_s, ran_s, passed_s = self.left_s, self.ran_s, 0.0
        for waits in range(MOST_PASSES):
            now_s = left_s + self.dirty_s(ran_s)
            yield self._stop(waits, passed_s, passed_s, now_s)
            at_end_s = self.dirty_s(ran_s + left_s)
            if at_end_s <= self.room_s < now_s:
                fits_s = self._fits_after_s(left_s, ran_s, 1.0, 0.0)
                rest_s = left_s - fits_s + self.dirty_s(ran_s + fits_s)
                yield self._stop(waits, passed_s, passed_s + fits_s, rest_s)
            if at_end_s >= SHRINKS * left_s and not ran_s:
                return
            passed_s += left_s + SYNC_S
            left_s, ran_s = at_end_s, 0.0

    def eager(self) -> Way | None:
        """Stop as soon as a sync finds what fits, with one as often as QEMU makes them below the limit.

        Of what is dirtied between two of them only that part is new that is not to be sent anyway; which is taken to be
        the same as of all that the guest ever dirties.

        Returns:
            ``None``: it does not come to fit.
        """
        left_s, ran_s, passed_s = self.left_s, self.ran_s, 0.0
        often_s = self.dirty_s(OFTEN_S)
        for _ in range(MOST_SYNCS):
            span_s = left_s - self.limit_s
            if span_s > OFTEN_S or ran_s:
                span_s = max(span_s, OFTEN_S)
                dirty_s = self.dirty_s(ran_s + span_s)
            else:
                span_s, dirty_s = OFTEN_S, often_s
            unsent_s = max(0.0, left_s - span_s)
            found_s = unsent_s + dirty_s * (1.0 - min(1.0, unsent_s / self.most_s))
            passed_s += span_s + SYNC_S
            if found_s <= self.limit_s:
                outage_s = found_s + self.after_s
                total_s = passed_s + outage_s
                return Way(Means.EAGER, 0.0, 0, 0.0, passed_s, total_s, outage_s, outage_s)
            if found_s >= left_s and not ran_s:
                return None
            left_s, ran_s = found_s, 0.0
        return None

    def _stop(self, waits: int, begins_s: float, stops_s: float, rest_s: float) -> Way:
        outage_s = rest_s + self.after_s
        return Way(Means.STOP, 0.0, waits, begins_s, stops_s, stops_s + outage_s, outage_s, outage_s)

    def slowed(self, throttle: float, waits: int) -> Way:
        """Slow the guest after so many passes, and stop it as soon as the rest fits; or where it shrinks no more."""
        left_s, ran_s, begins_s = self._after(waits)
        speed, turn_s = self.headroom.speed(throttle), self.slice_s / (1.0 - throttle)
        # A sync comes, on average, half way between two turns of a vCPU, which has one more before it.
        sync_s, turn_s = SYNC_S + turn_s * throttle, turn_s / 2
        slowed_s = rest_s = 0.0
        for _ in range(MOST_PASSES):
            span_s, rest_s = left_s, self.dirty_s(ran_s + speed * (left_s + turn_s))
            fits = rest_s <= self.room_s
            if fits:
                span_s = self._fits_after_s(left_s, ran_s, speed, turn_s)
                rest_s = left_s - span_s + self.dirty_s(ran_s + speed * (span_s + turn_s))
            slowed_s += span_s + sync_s
            if fits or (rest_s >= SHRINKS * left_s and not ran_s):
                break
            left_s, ran_s = rest_s, 0.0
        outage_s = rest_s + self.after_s
        ends_s, lost_s = begins_s + slowed_s, (1.0 - speed) * slowed_s + outage_s
        return Way(Means.THROTTLE, throttle, waits, begins_s, ends_s - sync_s, ends_s + outage_s, lost_s, outage_s)

    def _fits_after_s(self, left_s: float, ran_s: float, speed: float, turn_s: float) -> float:
        """For how long to send on until the rest fits, which it does at the end of the pass at the latest."""
        low_s, high_s = 0.0, left_s
        for _ in range(HALVINGS):
            middle_s = (low_s + high_s) / 2
            fits = left_s - middle_s + self.dirty_s(ran_s + speed * (middle_s + turn_s)) <= self.room_s
            low_s, high_s = (low_s, middle_s) if fits else (middle_s, high_s)
        return high_s

    def postcopy(self, waits: int) -> Way:
        """Go over to post-copy after so many passes."""
        left_s, ran_s, begins_s = self._after(waits)
        missing_s = left_s + self.dirty_s(ran_s)
        lost_s = self.after_s + self.waited_s(missing_s)
        total_s = begins_s + self.after_s + missing_s
        return Way(Means.POSTCOPY, 0.0, waits, begins_s, begins_s, total_s, lost_s, self.after_s)

    def waited_s(self, missing_s: float) -> float:
        """What the guest loses while its last pages follow it, seconds.

        Each page that it touches for the first time at the destination is missing if it was to be sent and has not come
        yet; what is to be sent is taken to lie evenly among all that it ever dirties.
        """
        if missing_s <= 0.0:
            return 0.0
        step_s, own_s = missing_s / STEPS, 0.0
        part = min(1.0, missing_s / max(self.most_s, missing_s)) / (self.page_s * SLOPE_S)
        before_s = self.dirty_s(0.0)
        for step in range(STEPS):
            after_s = self.dirty_s(own_s + SLOPE_S)
            faults_per_s = (after_s - before_s) * part * (1.0 - (step + 0.5) / STEPS)
            own_s += step_s / (1.0 + faults_per_s * self.fault_s)
            before_s = self.dirty_s(own_s)
        return missing_s - own_s

    def _after(self, waits: int) -> tuple[float, float, float]:
        """What is left after so many passes, what the guest has run since, and how long they take."""
        left_s, ran_s, passed_s = self.left_s, self.ran_s, 0.0
        for _ in range(waits):
            passed_s += left_s + SYNC_S
            left_s, ran_s = self.dirty_s(ran_s + left_s), 0.0
        return left_s, ran_s, passed_s


def page_s(bytes_per_s: float) -> float:
    """What a link of this goodput needs for a page, seconds."""
    return PAGE_BYTES / bytes_per_s


def throttles(greatest: float) -> Iterator[float]:
    """Such that each leaves a quarter less time than the one before, up to the greatest; none if that is too little."""
    awake = 0.85
    while 1.0 - awake < greatest - 0.005:
        yield round(1.0 - awake, 2)
        awake *= 0.75
    if greatest >= 0.01:
        yield math.floor(100.0 * greatest + 1e-9) / 100.0


def said(way: Way) -> str:
    """A way in words, with its numbers."""
    what = f"throttle {way.throttle:.0%}" if way.means is Means.THROTTLE else way.means.value
    when = "now" if not way.waits else f"after {way.waits} more pass{'es' if way.waits > 1 else ''}"
    return f"{what} {when}: {way.total_s:.2f} s, outage {way.outage_s:.2f} s, {way.lost_s:.2f} guest-seconds lost"


def compared(
    best: Way | None,
    ways: Sequence[Way],
    miss: Callable[[Way], float],
    cost_s: Callable[[Way], float],
    longest_s: float,
) -> str:
    """The numbers that were compared: of what is taken, and of the best of every other kind.

    Args:
        best: what is taken; ``None``: there is nothing.
        ways: all that there were.
        miss: by how much a way misses the objectives; up to 1 it meets them.
        cost_s: what it costs.
        longest_s: the greatest downtime allowed.
    """
    parts = [said(best)] if best is not None else ["nothing that is allowed will do"]
    for means in Means:
        others = [way for way in ways if way.means is means]
        if not others or (best is not None and means is best.means):
            continue
        met = [way for way in others if miss(way) <= 1.0]
        if met:
            parts.append(said(min(met, key=cost_s)))
            continue
        least = min(others, key=miss)
        what = "waiting" if means is Means.STOP else said(least).partition(":")[0]
        late = "" if least.outage_s > longest_s else f", {least.total_s:.2f} s"
        parts.append(f"{what}: outage never below {min(way.outage_s for way in others):.2f} s{late}")
    return "; ".join(parts)
