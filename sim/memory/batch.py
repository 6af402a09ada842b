"""Pages that are sent together, and XBZRLE's cache, page by page. Needs numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whimbrel.sim.guests.realised import Flags, Pages

from .contract import PAGE_BYTES, ZERO_PAGE_BYTES, Sent
from .owed import DELTA_HEADER_BYTES

_PROTECTED_SYNCS = 2
"""A page that was put into the cache, or found in it, is not driven out before so many syncs (``page_cache.c``)."""
_NO_PAGE = -1

Counts = NDArray[np.int64]


class DeltaCache:
    """XBZRLE's cache: a table of one page for each slot, chosen by the page's number.

    Attributes:
        slots: how many.
        syncs: dirty-bitmap syncs so far: its measure of age.
        changed: which pages were written since they were last sent.
    """

    def __init__(self, slots: int, total_pages: int) -> None:
        self.slots = slots
        self.syncs = 0
        self.changed: Flags = np.ones(total_pages, dtype=np.bool_)
        held = min(slots, total_pages)  # a larger table has slots that no page falls into
        self._pages = np.full(held, _NO_PAGE, dtype=np.int64)
        self._ages = np.zeros(held, dtype=np.int32)

    def hits(self, pages: Pages) -> Flags:
        """Which of them it holds."""
        hits: Flags = self._pages[pages % self.slots] == pages
        return hits

    def put(self, pages: Pages) -> None:
        """They are sent: it holds them from now on, except where a fresher page has the slot. No slot twice."""
        slots = pages % self.slots
        held = self._pages[slots]
        free = (held == pages) | (held == _NO_PAGE) | (self._ages[slots] + _PROTECTED_SYNCS <= self.syncs)
        self._pages[slots[free]] = pages[free]
        self._ages[slots[free]] = self.syncs


class Batch:
    """What one call sends.

    Attributes:
        most_pages: so many more may be sent.

    Args:
        most_bytes: on the wire; the first page is sent even if it is more.
        most_pages: all in all.
    """

    __slots__ = ("_any", "_bytes", "_counts", "_delta_bytes", "_most_bytes", "_normal", "_zero", "most_pages")

    def __init__(self, most_bytes: int, most_pages: int) -> None:
        self._most_bytes = most_bytes
        self.most_pages = most_pages
        self._any = False
        self._normal = self._zero = 0
        self._counts: dict[str, int] | None = None
        """Of further kinds, with XBZRLE."""
        self._delta_bytes = 0
        self._bytes = 0

    def take(self, zero: Flags, full_bytes: Counts | int) -> int:
        """Send as many as fit of some pages, in their order; says how many."""
        if isinstance(full_bytes, int) and not zero.any():
            return self._take_alike(len(zero), full_bytes)
        costs = np.where(zero, ZERO_PAGE_BYTES, full_bytes)
        taken = self._fitting(costs)
        zeros = int(np.count_nonzero(zero[:taken]))
        self._count(taken, int(costs[:taken].sum()), taken - zeros, zeros)
        return taken

    def _take_alike(self, count: int, each_bytes: int) -> int:
        """The same where all of them go in full, at the same cost."""
        taken = min(count, max(0, self._most_bytes - self._bytes) // each_bytes)
        if not taken and not self._any:
            taken = 1
        self._count(taken, taken * each_bytes, taken, 0)
        return taken

    def take_deltas(
        self, cache: DeltaCache, pages: Pages, zero: Flags, full_bytes: Counts | int, delta_bytes: Counts
    ) -> int:
        """The same with XBZRLE; the pages fall into different slots of its cache."""
        hit = cache.hits(pages) & ~zero
        unchanged = hit & ~cache.changed[pages]
        overflow = hit & ~unchanged & (delta_bytes >= PAGE_BYTES)
        delta = hit & ~unchanged & ~overflow
        miss = ~hit & ~zero
        wire = delta_bytes + DELTA_HEADER_BYTES
        costs = np.select([zero, unchanged, delta], [ZERO_PAGE_BYTES, 0, wire], full_bytes)
        taken = self._fitting(costs)
        kinds = {"delta": delta, "unchanged": unchanged, "misses": miss, "overflows": overflow}
        normal, zeros = (int(np.count_nonzero(which[:taken])) for which in (miss | overflow, zero))
        self._count(taken, int(costs[:taken].sum()), normal, zeros)
        before = self._counts or dict.fromkeys(kinds, 0)
        self._counts = {name: before[name] + int(np.count_nonzero(which[:taken])) for name, which in kinds.items()}
        self._delta_bytes += int(wire[:taken][delta[:taken]].sum())
        cache.put(pages[:taken])
        return taken

    def sent(self) -> Sent:
        """All of it."""
        if self._counts is None:
            return Sent(self._normal, self._zero, bytes=self._bytes)
        return Sent(self._normal, self._zero, **self._counts, delta_bytes=self._delta_bytes, bytes=self._bytes)

    def _fitting(self, costs: Counts) -> int:
        fitting = int(np.searchsorted(np.cumsum(costs), self._most_bytes - self._bytes, side="right"))
        if not fitting and not self._any:
            return 1
        return fitting

    def _count(self, taken: int, size_bytes: int, normal: int, zero: int) -> None:
        self._any |= taken > 0
        self._bytes += size_bytes
        self.most_pages -= taken
        self._normal += normal
        self._zero += zero
