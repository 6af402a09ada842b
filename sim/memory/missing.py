"""Post-copy in expectation: when the guest on the destination next touches a page that is not there.

Pages are missing that were written in a window W of draws before the guest arrived (or all). Once the guest has made
y draws over there, those of them that it has touched have been fetched; missing are still ``at(W + y) - at(y)`` of
them, less what the background push has sent. Reads are taken to go where writes go.
"""

from __future__ import annotations

import math

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import Area

from .runs import EVER, Run
from .sweep_faults import Reached, next_reached

_CLOSE = 0.01
"""Pages by which the moment of the next fault may be off."""
_SOON_S = 1e-6
_ROUNDING_S = 1e-10
_NEVER_S = 3600.0
"""A fault that is farther off than this is none."""

_Key = tuple[int, float]
"""Area and window: the pages of runs that have both alike are touched alike."""


class Missing:
    """The pages that the destination lacks.

    Args:
        areas: all RAM.
        life: the guest.
        runs: the bitmap, as its owner goes on to change it.
        begins: where in its area each sweep began, by index of the area.
        guest_s: the guest's time at its arrival.
    """

    def __init__(
        self, areas: tuple[Area, ...], life: Life, runs: list[Run], begins: dict[int, int], guest_s: float
    ) -> None:
        self._areas = areas
        self._begins = begins
        self._life = life
        self._runs = runs
        self._guest_s = guest_s
        self.arrived = [stream.draws(guest_s) if stream is not None else 0.0 for stream in life.streams]
        """Draws of each area's writer by then."""
        self._touched = dict.fromkeys(range(len(areas)), 0.0)
        # Laws cost what counts here: values that were worked out are kept while the guest's time is the same.
        self._before: dict[_Key, float] = {}
        self._then: dict[_Key, float] = {}
        self._then_s = guest_s
        self._last_wait_s = 0.0
        self.waiting = False
        """Whether the guest stands at a missing page."""
        self.reached: Reached | None = None
        """Which, if it is a sweep that stands there: the bitmap's owner takes it out."""

    def served(self) -> int | None:
        """The page that the guest waits for is on its way.

        Returns:
            The area in which it lies; ``None``: the guest does not wait.
        """
        if not self.waiting:
            return None
        self.waiting = False
        if self.reached is not None:
            area, self.reached = self.reached.area, None
            return area
        area = max(self._touched, key=lambda one: self._touched[one])
        self._touched[area] -= 1.0
        return area

    def next_ns(self) -> int | None:
        """Nanoseconds of running until the guest touches a missing page; 0: it stands there."""
        if self.waiting:
            return 0
        waits_s = [] if (wait_s := self._wait_s()) is None else [wait_s]
        if (reached := self._next_reached()) is not None:
            waits_s.append(reached.at_s - self._guest_s)
        return math.ceil(min(waits_s) * SECOND_NS) if waits_s else None

    def touch(self, now_ns: int) -> list[tuple[Run, float]]:
        """Let the guest, which runs, go on up to now, or to the page that it has to wait for.

        Returns:
            Runs, and how many pages, expected, were touched there: those are not missing any more.
        """
        now_s = until_s = self._life.guest_s(now_ns)
        if now_s <= self._guest_s:
            return []
        reached = self._next_reached()
        if reached is not None and reached.at_s <= now_s + _ROUNDING_S:
            until_s = min(reached.at_s, now_s)
        else:
            reached = None
        masses = self._masses()
        parts = self._parts(masses, until_s - self._guest_s)
        wanted = 1.0 - math.fsum(self._touched.values())
        more = math.fsum(masses[key] * part for key, part in parts.items())
        if more >= wanted - _CLOSE and more > 0:
            # The fault was on the way here: where, a straight line says. Who asks `next_ns` first gets here in time.
            share = min(max(wanted / more, 0.0), 1.0)
            until_s = self._guest_s + (until_s - self._guest_s) * share
            parts = {key: part * share for key, part in parts.items()}
            self.waiting = True
        elif reached is not None:
            self.reached, self.waiting = reached, True
        if self.waiting:
            self._life.halt(now_ns - round((now_s - until_s) * SECOND_NS))
        self._before = self._then if until_s == self._then_s else {}
        self._guest_s = until_s
        return self._take(parts)

    def _next_reached(self) -> Reached | None:
        return next_reached(self._areas, self._life, self._runs, self._begins, self._guest_s) if self._begins else None

    def _take(self, parts: dict[_Key, float]) -> list[tuple[Run, float]]:
        touched: list[tuple[Run, float]] = []
        for run in self._runs:
            part = parts.get((run.area, run.window), 0.0)
            if part > 0.0 and run.density > 0.0:
                pages = run.left * part
                touched.append((run, pages))
                self._touched[run.area] += pages
                run.density *= 1.0 - part
        return touched

    def _masses(self) -> dict[_Key, float]:
        """Missing pages that somebody may touch, except sweeps, of which it is known when they do."""
        masses: dict[_Key, float] = {}
        for run in self._runs:
            if run.density > 0.0 and self._areas[run.area].law is not None and run.area not in self._begins:
                key = (run.area, run.window)
                masses[key] = masses.get(key, 0.0) + run.left
        return masses

    def _parts(self, masses: dict[_Key, float], after_s: float) -> dict[_Key, float]:
        """The part of these missing pages that the guest touches within so much of its time."""
        parts: dict[_Key, float] = {}
        then: dict[_Key, float] = {}
        for key in masses:
            before = self._before.get(key)
            if before is None:
                before = self._before[key] = self._missing(key, self._guest_s)
            then[key] = self._missing(key, self._guest_s + after_s)
            parts[key] = 1.0 - then[key] / before if before > 0.0 else 0.0
        self._then, self._then_s = then, self._guest_s + after_s
        return parts

    def _missing(self, key: _Key, guest_s: float) -> float:
        """Pages of a whole area that were written in a window and have not been touched by a time since."""
        area, stream = self._areas[key[0]], self._life.streams[key[0]]
        if area.law is None or stream is None:
            return 0.0
        made = stream.draws(guest_s) - self.arrived[key[0]]
        if key[1] == EVER:
            return area.pages - area.law.at(made)
        return max(area.law.at(key[1] + made) - area.law.at(made), 0.0)

    def _wait_s(self) -> float | None:
        """Seconds until one more page, all in all, is expected to have been touched since the last was served."""
        wanted = max(1.0 - math.fsum(self._touched.values()), _CLOSE)
        masses = self._masses()
        if math.fsum(masses.values()) < wanted:
            return None

        def short(after_s: float) -> float:
            parts = self._parts(masses, after_s)
            return wanted - math.fsum(masses[key] * part for key, part in parts.items())

        low_s, low = 0.0, wanted
        high_s = self._last_wait_s or self._guess_s(masses, wanted)
        while (high := short(high_s)) > _CLOSE / 2:
            if high_s >= _NEVER_S:
                return None
            # What is touched bends downwards, so the straight line on from here falls short: a little more than that.
            line_s = high_s * min(wanted / max(wanted - high, 1e-9) * 1.02, 1e3)
            low_s, low, high_s = high_s, high, min(max(line_s, high_s * 1.01), _NEVER_S)
        while high < -_CLOSE / 2 and high_s - low_s > 1e-9:
            middle_s = low_s + (high_s - low_s) * min(max(low / (low - high), 0.05), 0.95)
            middle = short(middle_s)
            if middle > 0.0:
                low_s, low = middle_s, middle
            else:
                high_s, high = middle_s, middle
        self._last_wait_s = high_s
        return high_s

    def _guess_s(self, masses: dict[_Key, float], wanted: float) -> float:
        """The same, were the guest to go on touching missing pages as often as it does now."""
        per_s = 0.0
        for (index, window), mass in masses.items():
            area, stream = self._areas[index], self._life.streams[index]
            if area.law is not None and stream is not None:
                made = stream.draws(self._guest_s) - self.arrived[index]
                slope = area.law.slope(made) - (area.law.slope(window + made) if window != EVER else 0.0)
                before = self._missing((index, window), self._guest_s)
                if before > 0.0:
                    per_s += mass * slope / before * stream.per_s * stream.speed
        return min(max(wanted / per_s, _SOON_S), _NEVER_S) if per_s > 0.0 else _SOON_S
