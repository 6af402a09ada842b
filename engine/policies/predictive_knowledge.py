"""What ``predictive`` learns of guest and link while a migration runs, and how wrong it has been about them so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from whimbrel.engine.bounds import goodput
from whimbrel.engine.learnt import LearntCurve, point_of
from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.policy import Observation, Reason
from whimbrel.engine.slowing import Headroom, speed_of, used_shares
from whimbrel.engine.statistics import Iteration, Statistics

from .room import sending_s

LIKELY = 1.5
"""Before a short window was seen: a guest that gives trouble dirties more than the link takes. Half more."""
KEPT = 8
"""Points of the curve that are kept: a guest that changes is not what it was."""
LONG_S = 0.3
"""A pass of so long tells what the link carries."""
PASS_COUNTS, LOOK_COUNTS = 0.6, 0.4
"""The weight of the last pass, and of the last look within the first one, in what the link is taken to carry."""
LEARNT_BY_S = 0.75
"""So long the link and its pipe are learnt."""
DOUBT, DOUBT_COUNTS = 0.1, 2.0
"""Before any prediction was checked it is thought to be off by a tenth, which counts as much as two that were."""
LOOKS_KEPT, LEAST_RATIO = 16, 0.1
"""So many looks at the link are kept, and one that stood still counts as a tenth of it."""
FEW_ZEROS = 0.1
"""Among more pages that are zero, which go in no time, it is not the link that limits the sender."""
STEADY = 0.02
"""The same of the link, by a fiftieth."""
LEAST_SPEED = 1e-3


@dataclass(slots=True)
class Knowledge:
    """Learns from each look and each sync."""

    headroom: Headroom = field(default_factory=Headroom)
    link: LinkEstimate = field(default_factory=LinkEstimate)
    _points: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    _rate: float | None = None
    """What later looks and passes say that it carries, bytes of memory per second."""
    _errors: list[float] = field(default_factory=list[float])
    """Of what was predicted of passes, as logarithms: what was dirtied over what was to be."""
    _swings: list[float] = field(default_factory=list[float])
    """Of what the link carried, from one look to the next, as logarithms, for each of the two."""
    _rate_before: float | None = None
    """What it carried at the last of them, bytes per second."""
    _curve: LearntCurve | None = None

    # ---- looks

    def look(self, seen: Observation) -> None:
        """Take a look between two syncs: in the first pass nothing but the link limits the sender."""
        if seen.iteration <= 1 and seen.remaining_bytes > 0:
            if sending_s(seen) <= LEARNT_BY_S or not self.link_known:
                # Later on a link that has changed would look like a pipe that has grown.
                self.link.add(sending_s(seen), seen.transferred_bytes)
            self._gauge(seen)

    def measured(self, seen: Observation) -> None:
        """Take what was measured before the start."""
        for each in seen.measurements:
            self._add((each.window_s, each.dirtied_bytes))
            self.headroom = Headroom(each.vcpu_shares)

    @property
    def link_known(self) -> bool:
        """Whether the link has been learnt."""
        return self.link.goodput_bytes_per_s is not None

    @property
    def guest_known(self) -> bool:
        """Whether there is a point of the curve."""
        return bool(self._points)

    def _gauge(self, seen: Observation) -> None:
        """What the link carried in the last third of a second, against what it is taken to carry."""
        known, last = self.link.goodput_bytes_per_s, seen.samples[-1] if seen.samples else None
        if known is None or last is None or sending_s(seen) < LEARNT_BY_S + LONG_S:
            return
        since_ns = last.at_ns - round(LONG_S * 1e9)
        before = next((each for each in reversed(seen.samples) if each.at_ns <= since_ns), None)
        if before is None or _zeros(before, last) > FEW_ZEROS:
            return
        sent = last.transferred_bytes - before.transferred_bytes
        self._take(goodput(max(LEAST_RATIO * known, sent / (last.at_ns - before.at_ns) * 1e9)), LOOK_COUNTS)

    def _take(self, rate: float, weight: float) -> None:
        """Take a rate, bytes of memory per second; the link is known."""
        self._swing(rate)
        before = self.known_bytes_per_s
        assert before is not None
        self._rate = before ** (1 - weight) * rate**weight

    def _swing(self, rate: float) -> None:
        """One rate after the other: a link that is slower from some moment on has changed once, and is steady."""
        before, self._rate_before = self._rate_before, rate
        if before is not None:
            self._swings.append(math.log(rate / before) / math.sqrt(2.0))
            del self._swings[:-LOOKS_KEPT]

    # ---- syncs

    def sync(self, begun: Observation, seen: Observation, throttle: float) -> None:
        """Take the pass that has ended, as a point of the curve or as a lesson on the throttle.

        Args:
            begun: as it began, or was first seen.
            seen: now.
            throttle: the most that slowed the guest in it.
        """
        ended = seen.iterations
        zeros = _zeros(begun.samples[-1], seen.samples[-1]) if begun.samples and seen.samples else 0.0
        if ended[-1].number > 1 or zeros <= FEW_ZEROS:
            self._pass_rate(ended[-1])
        point = point_of(ended)
        if seen.iteration > ended[-1].number + 1 or point is None:
            return
        span_s, dirtied = point
        used = used_between(begun, seen)
        if not throttle:
            if used:
                self.headroom = replace(self.headroom, shares=used)
            self._check(seen, span_s, dirtied)
            self._add(point)
            return
        if used and sum(self.headroom.shares) > 0:
            speed = min(1.0, max(LEAST_SPEED, sum(used) / sum(self.headroom.shares)))
            self._add((speed * span_s, dirtied))
        elif self._points:
            speed = max(LEAST_SPEED, speed_of(self.curve(seen), span_s, dirtied))
        else:
            return
        self.headroom = self.headroom.corrected(throttle, speed)

    def _pass_rate(self, ended: Iteration) -> None:
        """How fast what was left shrank in a pass that was long enough to tell.

        In the first one it is the link that tells: pages that are zero go in no time.
        """
        if ended.number <= 1:
            # What the pipe took at the beginning has not been carried yet.
            shrunk = goodput(ended.sent_bytes - self.link.pipe_bytes)
        else:
            shrunk = float(ended.remaining_at_start_bytes - ended.remaining_at_end_bytes)
        if ended.duration_s <= 0 or shrunk <= 0:
            return
        rate = shrunk / ended.duration_s
        if self.known_bytes_per_s is None:
            self._rate = rate
        elif ended.duration_s >= LONG_S and not (ended.number <= 1 and self._swings):
            self._take(rate, PASS_COUNTS)

    def _check(self, seen: Observation, span_s: float, dirtied: float) -> None:
        """What was expected of a pass against what came of it."""
        if self._points and dirtied > 0:
            self._errors.append(math.log(dirtied / max(1.0, self.curve(seen).at(span_s))))
            del self._errors[:-KEPT]

    def _add(self, point: tuple[float, float]) -> None:
        self._points.append(point)
        del self._points[:-KEPT]
        self._curve = None

    # ---- what is known

    @property
    def doubt(self) -> float:
        """How far predictions of passes have been off: a relative standard deviation."""
        squares = DOUBT**2 * DOUBT_COUNTS + sum(error * error for error in self._errors)
        return math.sqrt(squares / (DOUBT_COUNTS + len(self._errors)))

    @property
    def swing(self) -> float:
        """How far the link has been off what it was taken to carry: a relative standard deviation."""
        squares = STEADY**2 * DOUBT_COUNTS + sum(swing * swing for swing in self._swings)
        return math.sqrt(squares / (DOUBT_COUNTS + len(self._swings)))

    def bytes_per_s(self, seen: Observation) -> float:
        """Goodput in bytes of memory; at least 1."""
        return self.known_bytes_per_s or goodput(max(seen.bandwidth_bytes_per_s, 1.0))

    @property
    def known_bytes_per_s(self) -> float | None:
        """The same, where it has been learnt."""
        learnt = self.link.goodput_bytes_per_s
        return self._rate if self._rate is not None or learnt is None else goodput(learnt)

    @property
    def pipe_s(self) -> float:
        """How deep the pipe is, seconds of link."""
        return self.link.pipe_s

    def curve(self, seen: Observation) -> LearntCurve:
        """Through all points that there are by now; there must be one."""
        if self._curve is None:
            self._curve = LearntCurve(tuple(self._points), seen.total_bytes, LIKELY * self.bytes_per_s(seen))
        return self._curve


def _zeros(before: Statistics, after: Statistics) -> float:
    """What part of the pages that were handled between two looks was zero."""
    pages = after.pages - before.pages
    return (after.duplicate_pages - before.duplicate_pages) / pages if pages > 0 else 0.0


def used_between(begun: Observation, seen: Observation) -> tuple[float, ...]:
    """How much of the time between two looks each vCPU ran; empty: it is not known."""
    return used_shares(begun.samples[-1], seen.samples[-1]) if begun.samples and seen.samples else ()


def own_s(known: Knowledge, begun: Observation, seen: Observation, throttle: float) -> float:
    """How long the guest has run between two looks, seconds of its own time."""
    if seen.reason is Reason.ITERATION:
        return 0.0
    used, unhindered = used_between(begun, seen), sum(known.headroom.shares)
    if throttle and used and unhindered:
        return min(1.0, sum(used) / unhindered) * (seen.elapsed_s - begun.elapsed_s)
    return known.headroom.speed(throttle) * (seen.elapsed_s - begun.elapsed_s)
