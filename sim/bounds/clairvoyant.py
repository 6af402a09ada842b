"""The clairvoyant optimum: the best that anybody could do who knows each page write ahead and sends page by page.

A page that is sent counts if nobody writes to it afterwards. Let the guest stop at s, and let r be the time of the
last write to a page until then (0: none since logging began). The page needs a transmission between r and the arrival
of all, A. By Hall's condition a schedule exists exactly if for every t ::

    bytes of the pages with r >= t  <=  what the link carries between t and A

since all these windows end together. So with C(t) for all that the link can have carried by t ::

    C(A) = max over t <= s of  C(t) + bytes of the pages with r >= t

which is the closed form of `whimbrel.engine.bounds.least_left_pages`, for a link that need not be steady. A page counts
from its entry into the link's pipe, and everything in the pipe passes the link after that, so a deep pipe breaks
nothing. Exact for each stop; between the stops that are looked at it is bounded from below (`Clairvoyant.front`).

**A guest that is slowed** has other writes, and so another bound. Two things hold for whatever throttles do, and give
one from this front (`whimbrel.sim.bounds.regret.Bounds.clairvoyant_downtime_s`); L are the guest-seconds they take:

- If all that writes is slowed alike, and is at G of its own time when the guest stops at s, then L = s - G. Each write
  comes no earlier than it would have at full speed, so no window is longer than with a stop at G, and the guest runs
  again no earlier than after that. So its downtime is at least that of the full speed in the same time, less L. (An
  outage is a throttle that takes everything. Where it may take 99 % this is next to exact.)
- Let m writes have been lost, whoever lost them. Add them just before the stop: at most m pages more are owed. At full
  speed each write is made then or earlier, so no more is owed then. So the downtime is at least that of full speed, in
  a time that is longer by what the link needs for m pages, less so much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .switchover import Switchover
from .trace import Seconds, Sizes, Trace, Writes

FIRST_LOOKS = 64
"""Stops that are looked at to begin with, evenly spread."""
PASSES = 60
"""How often the gaps that could hold something better are halved, at most."""
RESOLUTION_S, RESOLUTION = 0.005, 0.1
"""A gap is left alone if it can hold nothing that is better by more than this, plus that part of the downtime."""


@dataclass(frozen=True, slots=True)
class Front:
    """What can be had: no downtime less than ``downtimes_s[i]`` in a time below ``totals_s[i + 1]``.

    Attributes:
        totals_s: from ``migrate`` until the guest runs at the destination, rising.
        downtimes_s: the least in that time, falling.
    """

    totals_s: tuple[float, ...]
    downtimes_s: tuple[float, ...]

    def downtime_s(self, total_s: float) -> float | None:
        """The least downtime in a time; ``None``: it can't be done in it."""
        at = int(np.searchsorted(self.totals_s, total_s, side="right")) - 1
        return self.downtimes_s[at] if at >= 0 else None

    def total_s(self, downtime_s: float) -> float | None:
        """The least time for a downtime; ``None``: none is enough."""
        rising = [-each for each in self.downtimes_s]
        at = int(np.searchsorted(rising, -downtime_s, side="left"))
        return self.totals_s[at] if at < len(self.totals_s) else None


def better(totals_s: Seconds, downtimes_s: Seconds) -> NDArray[np.intp]:
    """Which points make the front: those that are better in something than any other, in order of their times."""
    order = np.lexsort((downtimes_s, totals_s))
    order = order[np.isfinite(totals_s[order])]
    downtimes = downtimes_s[order]
    if len(order):
        first = np.concatenate(([True], downtimes[1:] < np.minimum.accumulate(downtimes)[:-1]))
        order = order[first]
    return order


def front_of(totals_s: Seconds, downtimes_s: Seconds) -> Front:
    """The front of some points."""
    chosen = better(totals_s, downtimes_s)
    return Front(tuple(totals_s[chosen].tolist()), tuple(downtimes_s[chosen].tolist()))


class Clairvoyant:
    """The optimum of one trace.

    Args:
        trace: of guest and link.
        switchover: what it costs besides.
    """

    def __init__(self, trace: Trace, switchover: Switchover) -> None:
        self._trace = trace
        self._switchover = switchover
        self._all = _Owed(trace, trace.writes)
        self._looked: dict[float, float] = {}

    def due_bytes(self, stop_s: float) -> float:
        """What the link can have carried, from the beginning on, when the last page is through: C(A).

        Args:
            stop_s: when the guest stops, seconds since logging began, 0 up to the trace's horizon.
        """
        return self._all.due_bytes(stop_s)

    def left_bytes(self, stop_s: float) -> float:
        """The fewest bytes of pages that are left to send when the guest stops."""
        return self.due_bytes(stop_s) - self._trace.capacity.carried_by(stop_s)

    def once_bytes(self, stop_s: float) -> int:
        """All of RAM, each page once, as it is at the stop: the fewest bytes of any migration."""
        return self._all.once_bytes(stop_s)

    def front(self) -> Front:
        """The least downtime in each time.

        Between two stops a and b, ``A(s)`` is at least ``A(a)``, and so the downtime at least ``A(a) - b``: the front
        takes that, so that it is never above what could be had. Where that could matter the gap is halved.
        """
        stops_s = np.linspace(0.0, self._trace.horizon_s, FIRST_LOOKS)
        for _ in range(PASSES):
            wide = self._worth_halving(stops_s)
            if not len(wide):
                break
            middles = (stops_s[wide] + stops_s[wide + 1]) / 2
            stops_s = np.sort(np.concatenate((stops_s, middles)))
        totals_s, downtimes_s = self._points(stops_s)
        return front_of(totals_s + self._trace.lag_s, downtimes_s)

    def _points(self, stops_s: Seconds) -> tuple[Seconds, Seconds]:
        """For each gap between stops: when the guest runs again at the earliest, and the least outage in it."""
        totals_s = self._totals_s(stops_s)[:-1]
        return totals_s, np.maximum(totals_s - stops_s[1:], self._switchover.least_s)

    def _totals_s(self, stops_s: Seconds) -> Seconds:
        looked = self._looked
        for stop_s in stops_s.tolist():
            if stop_s not in looked:
                looked[stop_s] = self._all.due_bytes(stop_s)
        due = np.array([looked[stop_s] for stop_s in stops_s.tolist()])
        return self._switchover.arrivals_s(stops_s, due, self._trace.capacity)

    def _worth_halving(self, stops_s: Seconds) -> NDArray[np.intp]:
        """Which gaps could hold a point of the front that is better than any that was seen."""
        totals_s, downtimes_s = self._points(stops_s)
        had = front_of(totals_s, totals_s - stops_s[:-1])
        if not had.totals_s:
            return np.zeros(0, dtype=np.intp)
        seen = np.array(had.downtimes_s)[np.searchsorted(had.totals_s, totals_s, side="right") - 1]
        # All of them at once: a wide gap that is left alone hides that those behind it are as wide.
        return np.flatnonzero(np.isfinite(totals_s) & (downtimes_s < seen - RESOLUTION_S - RESOLUTION * seen))


class _Owed:
    """Which pages need a transmission after which moment."""

    def __init__(self, trace: Trace, writes: Writes) -> None:
        self._writes = writes
        self._capacity = trace.capacity
        self._sizes = trace.written_bytes
        self._even = trace.even_bytes
        self._fresh = int(trace.fresh_bytes.sum())
        first = np.flatnonzero(writes.before < 0)
        self._first_s = writes.at_s[first]
        pages = writes.pages[first]
        self._written = np.concatenate(([0], np.cumsum(trace.written_bytes[pages])))
        self._grown = np.concatenate(([0], np.cumsum(trace.written_bytes[pages] - trace.fresh_bytes[pages])))

    def once_bytes(self, stop_s: float) -> int:
        return self._fresh + int(self._grown[np.searchsorted(self._first_s, stop_s, side="right")])

    def due_bytes(self, stop_s: float) -> float:
        once = self.once_bytes(stop_s)
        writes, capacity = self._writes, self._capacity
        carried = capacity.carried_by(stop_s)
        most = max(carried, float(once))
        # Before that the link carries all that was ever written until the stop: no window from there on is too short.
        enough = carried - float(self._written[np.searchsorted(self._first_s, stop_s, side="right")])
        since_s = capacity.reached_at(enough) if enough > 0 else 0.0
        last = writes.last(writes.by(since_s), writes.by(stop_s))
        if not len(last):
            return most
        if self._even:
            owed: Sizes | Seconds = np.arange(len(last), 0, -1, dtype=np.float64) * self._even
        else:
            owed = np.cumsum(self._sizes[writes.pages[last]][::-1])[::-1]
        return max(most, float((capacity.carried(writes.at_s[last]) + owed).max()))
