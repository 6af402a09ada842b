"""XBZRLE in a forecast: how many of the pages that an iteration sends QEMU has in its cache, and what they come to.

From the second iteration on each page that is sent in full is put into the cache, and one that is found there goes as
what has changed in it, or not at all where nothing has. Which are found follows from the curve: the windows of writing
whose pages were sent lie side by side, so of those written in the present window ``f(window) + f(seen) - f(window +
seen)`` were written in earlier ones, too, if one write does not depend on another. Pages share slots by their address
(``page_cache.c``), and whoever is in one stays as long as it is written often: where the addresses that are written
have more pages than there are slots, a page has its slot with ``(1 - exp(-n)) / n`` at n pages for each, scattered
evenly. Pages that were written between a sync and their being sent, and not since, are found unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .bounds import PAGE_HEADER_BYTES
from .curve import PAGE_BYTES
from .forecast_dirt import EVER, Area, Dirt, Run
from .forecast_records import Deltas

DELTA_HEADER_BYTES = PAGE_HEADER_BYTES + 3
"""The header of every page, one byte that says how it is encoded, two with the length."""
LEAST_WIRE = 1e-3
"""So that a page that needs no sending has a size all the same."""
_MOMENTS = (1 / 6, 1 / 2, 5 / 6)
"""When in an iteration a page was sent, for the mean over it."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the pages that are to be sent, those found in the cache.

    Attributes:
        changed: that have changed.
        unchanged: and that have not.
    """

    changed: float
    unchanged: float


@dataclass(slots=True)
class DeltaCache:
    """Keeps in mind for how long the pages of each area have been sent through the cache."""

    deltas: Deltas
    _ran_s: dict[int, float] = field(default_factory=dict[int, float])
    """Of an area's own time, by its place: since the log began, up to the last sync."""
    _window_s: dict[int, float] = field(default_factory=dict[int, float])
    _before_s: dict[int, float] = field(default_factory=dict[int, float])
    """The last iteration, and the one before."""

    def ran(self, dirt: Dirt, ran_s: float) -> None:
        """A sync is about to be made, after the guest ran so long."""
        for place, area in enumerate(dirt.areas):
            own_s = area.mean_speed(ran_s) * ran_s
            self._ran_s[place] = self._ran_s.get(place, 0.0) + own_s
            self._before_s[place] = self._window_s.get(place, 0.0)
            self._window_s[place] = own_s

    def shares(self, dirt: Dirt, cache_bytes: float) -> Shares:
        """What becomes of the pages that the sync has found.

        Args:
            dirt: after it.
            cache_bytes: size of the cache.
        """
        if dirt.pending_bytes <= 0:
            return Shares(0.0, 0.0)
        held = unchanged = 0.0
        slot = self._slot(dirt, cache_bytes)
        places = {id(area): place for place, area in enumerate(dirt.areas)}
        for run in dirt.runs:
            seen, same = self._found(run, places[id(run.area)])
            bytes_ = run.density * run.length_bytes
            held += slot * seen * bytes_
            unchanged += slot * same * bytes_
        return Shares((held - unchanged) / dirt.pending_bytes, unchanged / dirt.pending_bytes)

    def wire_each(self, shares: Shares) -> float:
        """Wire bytes for each byte of memory, headers included."""
        full = 1.0 + PAGE_HEADER_BYTES / PAGE_BYTES
        changed = self.deltas.ratio + DELTA_HEADER_BYTES / PAGE_BYTES if self.deltas.ratio < 1.0 else full
        missed = 1.0 - shares.changed - shares.unchanged
        return max(LEAST_WIRE, missed * full + shares.changed * changed)

    def encoding_s(self, shares: Shares) -> float:
        """Of the sender's time, for each byte of memory, besides reading it."""
        return (shares.changed + shares.unchanged) / self.deltas.encode_bytes_per_s

    def _slot(self, dirt: Dirt, cache_bytes: float) -> float:
        """How likely a page that was put into the cache is still there."""
        written = [(place, area) for place, area in enumerate(dirt.areas) if area.writers is not None]
        if sum(area.range_bytes for _, area in written) <= cache_bytes:
            return 1.0
        each = sum(_at(area, self._ran_s.get(place, 0.0)) for place, area in written) / cache_bytes
        return -math.expm1(-each) / each if each > 0 else 1.0

    def _found(self, run: Run, place: int) -> tuple[float, float]:
        """Of the pages of a run: those that were sent before, and of these the ones that have not changed since."""
        area, window_s = run.area, run.window_s
        if area.writers is None or window_s == EVER:
            return 0.0, 0.0
        at = area.writers.curve.at
        dirty = at(window_s)
        seen_s = self._ran_s.get(place, 0.0) - window_s
        if dirty <= 0 or seen_s <= 0:
            return 0.0, 0.0
        held = min(1.0, max(0.0, dirty + at(seen_s) - at(window_s + seen_s)) / dirty)
        last_s = min(self._before_s.get(place, 0.0), seen_s)
        both = at(last_s + window_s)
        same = sum([at(last_s + part * window_s) + dirty - at(part * window_s) - both for part in _MOMENTS])
        return held, min(held, max(0.0, same / len(_MOMENTS)) / dirty)


def _at(area: Area, window_s: float) -> float:
    return area.writers.curve.at(window_s) if area.writers is not None else 0.0
