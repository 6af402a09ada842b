"""Writers page by page: which pages, in which order, at which draw. Needs numpy.

Each writer draws from its own stream of the seed, so that none disturbs another, and what it writes does not depend
on when it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whimbrel.sim.scenario import GuestPlan, Pattern
from whimbrel.sim.seeds import number

from .laws import Measured
from .plan import Area, first_page, trace_of
from .popularity import groups_of, stride_for

Pages = NDArray[np.int64]
Flags = NDArray[np.bool_]
Clocks = NDArray[np.float64]
_BLOCK = 1 << 16
"""Draws that are made at a time: bounds the memory for a long leap."""
_GUIDES = 1 << 12
"""Entries of the table that finds a rank's group."""
_LOOK_AHEAD = 1 << 13
_FIRST_LOOK = 1 << 6
_FARTHEST = 1 << 20
"""Draws ahead after which a search for a missing page is given up."""


class _Times(Protocol):
    """When the draws are made; the clock is the writer's `Stream` of draws."""

    def by(self, clock: float) -> int:
        """How many have been made by then; never falls."""
        ...

    def at(self, first: int, count: int) -> Clocks:
        """The clock at so many of them, from the one of this number on."""
        ...


class _Even:
    """Evenly spread: ``per`` draws for each unit of the clock, beginning somewhere between two."""

    def __init__(self, offset: float, per: float = 1.0) -> None:
        self._offset = offset
        self._per = per

    def by(self, clock: float) -> int:
        return int(clock * self._per + self._offset)

    def at(self, first: int, count: int) -> Clocks:
        return np.arange(first + 1 - self._offset, first + count + 0.5 - self._offset, dtype=np.float64) / self._per


class _Random:
    """A Poisson process of one draw for each unit of the clock, on average."""

    def __init__(self, dice: np.random.Generator) -> None:
        self._dice = dice
        self._first = 0
        self._ends = np.zeros(0)
        self._last = 0.0

    def _grow(self) -> None:
        more = self._last + np.cumsum(self._dice.standard_exponential(_LOOK_AHEAD))
        self._ends = np.concatenate((self._ends, more))
        self._last = float(more[-1])

    def by(self, clock: float) -> int:
        while self._last <= clock:
            if len(self._ends) > _BLOCK:  # those are all past, and only draws to come are asked for
                self._first += len(self._ends)
                self._ends = self._ends[:0]
            self._grow()
        return self._first + int(np.searchsorted(self._ends, clock, side="right"))

    def at(self, first: int, count: int) -> Clocks:
        while self._first + len(self._ends) < first + count:
            self._grow()
        return self._ends[first - self._first : first - self._first + count]


class _Recorded:
    """At the times of a recording, in a loop; the clock is in seconds."""

    def __init__(self, times: Clocks, seconds: float) -> None:
        self._times = times
        self._seconds = seconds

    def by(self, clock: float) -> int:
        rounds, rest = divmod(clock, self._seconds)
        return int(rounds) * len(self._times) + int(np.searchsorted(self._times, rest, side="right"))

    def at(self, first: int, count: int) -> Clocks:
        numbers = np.arange(first, first + count)
        return numbers // len(self._times) * self._seconds + self._times[numbers % len(self._times)]


class _Choice(Protocol):
    """Which pages the draws hit, one after the other."""

    def next(self, count: int) -> Pages:
        """The pages of the next draws."""
        ...


class _Uniform:
    def __init__(self, dice: np.random.Generator, area: Area) -> None:
        self._dice = dice
        self._area = area

    def next(self, count: int) -> Pages:
        return self._dice.integers(self._area.first, self._area.first + self._area.pages, count)


class _Ranked:
    """By popularity: a group of ranks by its share, then any rank of the group; ranks are scattered."""

    def __init__(self, dice: np.random.Generator, area: Area) -> None:
        self._dice = dice
        self._area = area
        self._stride = stride_for(area.pages)
        groups = groups_of(area.writer, area.pages)
        self._sizes: Pages = np.array([pages for pages, _ in groups], dtype=np.int64)
        self._firsts: Pages = np.cumsum(self._sizes) - self._sizes
        self._shares: Clocks = np.array([pages * p for pages, p in groups], dtype=np.float64)
        self._ends: Clocks = np.cumsum(self._shares)
        self._begins = self._ends - self._shares
        # Which group a draw falls into is looked up by its first bits; only where a group ends within those is it
        # searched for. (Products of floats keep their order, and a power of two divides exactly.)
        points: Clocks = np.linspace(0.0, 1.0, _GUIDES + 1) * float(self._ends[-1])
        borders: Pages = np.searchsorted(self._ends, points, side="right")
        self._guide: Pages = np.where(borders[:-1] == borders[1:], borders[:-1], -1)

    def next(self, count: int) -> Pages:
        dice: Clocks = self._dice.random(count)
        drawn: Clocks = dice * self._ends[-1]
        above: Pages = self._guide[(dice * _GUIDES).astype(np.int64)]
        searched = np.flatnonzero(above < 0)
        above[searched] = np.searchsorted(self._ends, drawn[searched], side="right")
        group: Pages = np.minimum(above, len(self._sizes) - 1)
        part: Clocks = (drawn - self._begins[group]) / self._shares[group]
        within: Pages = (part * self._sizes[group]).astype(np.int64)
        rank: Pages = self._firsts[group] + np.minimum(within, self._sizes[group] - 1)
        pages: Pages = self._area.first + rank * self._stride % self._area.pages
        return pages


class _Round:
    """The pages of a list, in its order, round and round."""

    def __init__(self, pages: NDArray[np.int32] | Pages, first: int = 0) -> None:
        self._pages = pages
        self._next = first

    def next(self, count: int) -> Pages:
        picked = self._pages[(self._next + np.arange(count)) % len(self._pages)]
        self._next = (self._next + count) % len(self._pages)
        return picked.astype(np.int64)


class _Straight:
    """The pages of an area in order of address, round and round."""

    def __init__(self, area: Area, first: int) -> None:
        self._area = area
        self._next = first

    def next(self, count: int) -> Pages:
        picked = self._area.first + (self._next + np.arange(count)) % self._area.pages
        self._next = (self._next + count) % self._area.pages
        return picked


class PageWriter:
    """One writer's page writes.

    Args:
        times: when.
        choice: where.
        most: draws that are more than this at once need not all be made: the pages come round. ``None``: all count.
    """

    def __init__(self, times: _Times, choice: _Choice, most: int | None = None) -> None:
        self._times = times
        self._choice = choice
        self._most = most
        self._done = 0
        self._ahead = np.zeros(0, dtype=np.int64)
        self._ahead_times = np.zeros(0)
        self._scanned = 0
        self._touch: tuple[float, int] | None = None
        self._farthest = _FARTHEST if most is None else min(most, _FARTHEST)
        """Where nothing was hit in a whole round, nothing ever will be."""

    def until(self, clock: float) -> Iterator[Pages]:
        """The pages of the draws made up to now that were not told yet, in pieces; some more than once."""
        made = self._times.by(clock)
        due = made - self._done
        if due <= 0:
            return
        self._done = made
        known = min(due, len(self._ahead))
        if known:
            yield self._ahead[:known]
            self._ahead, self._ahead_times = self._ahead[known:], self._ahead_times[known:]
            if known > self._scanned:
                self._touch = None
            self._scanned = max(self._scanned - known, 0)
        due -= known
        if self._most is not None and due > self._most:
            skipped = due - self._most
            due = self._most
            self._choice.next(skipped % self._most)  # whole rounds lead back to the same page
        while due > 0:
            count = min(due, _BLOCK)
            due -= count
            yield self._choice.next(count)

    def timed(self, clock: float) -> Iterator[tuple[Clocks, Pages]]:
        """As `until`, with the clock at each draw, and none left out; not after `next_touch`."""
        count = _LOOK_AHEAD
        while count == _LOOK_AHEAD:
            clocks = self._times.at(self._done, _LOOK_AHEAD)
            count = int(np.searchsorted(clocks, clock, side="right"))
            if count:
                self._times.by(float(clocks[count - 1]))  # those are past, and need not be kept
                self._done += count
                yield clocks[:count], self._choice.next(count)

    def next_touch(self, missing: Flags) -> tuple[float, int] | None:
        """The clock at the next draw that hits a missing page, and the page; ``None``: it is far off.

        Pages may cease to be missing from call to call, none may become so.
        """
        if self._touch is not None and missing[self._touch[1]]:
            return self._touch
        while True:
            if self._scan(missing):
                self._touch = float(self._ahead_times[self._scanned]), int(self._ahead[self._scanned])
                return self._touch
            if self._scanned >= self._farthest:
                self._touch = None
                return None
            first, count = self._done + self._scanned, max(_LOOK_AHEAD, self._scanned)
            self._ahead = np.concatenate((self._ahead, self._choice.next(count)))
            self._ahead_times = np.concatenate((self._ahead_times, self._times.at(first, count)))

    def _scan(self, missing: Flags) -> bool:
        """Look at the draws ahead, a few at first, then more, for the first that hits; whether there is one."""
        width = _FIRST_LOOK
        while self._scanned < len(self._ahead):
            hits = missing[self._ahead[self._scanned : self._scanned + width]].nonzero()[0]
            if len(hits):
                self._scanned += int(hits[0])
                return True
            self._scanned = min(self._scanned + width, len(self._ahead))
            width *= 4
        return False


def writers_of(plan: GuestPlan, area: Area, seed: int) -> tuple[PageWriter, ...]:
    """Who writes to an area, page by page; their clock is the area's stream of draws.

    A measured curve is realised by sweeps side by side over pages that lie scattered: exactly the least concave curve
    above it, see `whimbrel.sim.guests.laws.Measured.sweeps`.

    Args:
        plan: the guest.
        area: one of its areas.
        seed: of the world.
    """
    dice = _dice(area, seed)
    if plan.trace is not None:
        return (_replay(plan),)
    if isinstance(area.law, Measured):
        return tuple(_sweeps(area, area.law, dice))
    match area.writer.pattern:
        case Pattern.SWEEP:
            return (PageWriter(_Even(0.0), _Straight(area, first_page(area, seed)), area.pages),)
        case Pattern.POISSON:
            # Times are drawn ahead in blocks: with dice in common, pages would depend on when it is asked.
            return (PageWriter(_Random(dice), _Uniform(_dice(area, seed, "/pages"), area)),)
        case Pattern.UNIFORM:
            return (PageWriter(_Even(dice.random()), _Uniform(dice, area)),)
        case Pattern.ZIPF | Pattern.HOTSPOT:
            return (PageWriter(_Even(dice.random()), _Ranked(dice, area)),)


def _dice(area: Area, seed: int, use: str = "") -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(number(seed, f"guest/{area.writer.name}{use}")))


def _replay(plan: GuestPlan) -> PageWriter:
    trace = trace_of(plan)
    times: list[float] = []
    pages: list[Pages] = []
    for at_s, ranges in trace.writes:
        for first, count in ranges:
            times.extend([at_s] * count)
            pages.append(np.arange(first, first + count))
    return PageWriter(_Recorded(np.array(times), trace.seconds), _Round(np.concatenate(pages)), len(times))


def _sweeps(area: Area, law: Measured, dice: np.random.Generator) -> Iterator[PageWriter]:
    scattered = dice.permutation(np.arange(area.first, area.first + area.pages, dtype=np.int32))
    begin, exact = 0, 0.0
    for pages, period_s in law.sweeps():
        exact += pages
        end = min(math.floor(exact + 0.5), area.pages)
        if end > begin:
            count = end - begin
            yield PageWriter(
                _Even(dice.random(), count / period_s), _Round(scattered[begin:end], int(dice.integers(count))), count
            )
        begin = end
