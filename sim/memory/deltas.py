"""XBZRLE in expectation: how many of the pages that are sent its cache holds, and how many changed."""

from __future__ import annotations

from whimbrel.sim.guests.laws import Law
from whimbrel.sim.guests.plan import Area

from .contract import PAGE_BYTES
from .owed import DELTA_HEADER_BYTES, Shares
from .runs import EVER, Run
from .slots import Slots


class DeltaCache:
    """QEMU's cache of pages as they were sent (``page_cache.c``): a table with one page for each slot.

    Args:
        slots: how many.
        areas: all RAM.
    """

    def __init__(self, slots: int, areas: tuple[Area, ...]) -> None:
        self._slots = Slots(slots, areas)

    def shares(self, area: Area, law: Law, run: Run, draws: float, normal_bytes: float) -> Shares:
        """What becomes of the next page of a run.

        The windows of writing whose pages were sent lie side by side, so by the law of a stationary process the
        pages of this window that earlier ones had, too, are ``at(window) + at(seen) - at(window + seen)``.

        Args:
            area: the run's.
            law: the area's.
            run: from which a page is sent.
            draws: of the area's writer, by now.
            normal_bytes: what a page in full is on the wire.
        """
        dirty = law.at(run.window) if run.window != EVER else float(area.pages)
        if not run.seen or not dirty:
            return Shares(normal_bytes=normal_bytes, miss=1.0)
        hit = law.at(run.seen)
        if run.window != EVER:
            hit += dirty - law.at(run.window + run.seen)
        held = max(hit, 0.0) / dirty
        unchanged = self._unchanged(law, run, draws) / dirty
        if run.window != EVER and held > 0 and not self._slots.enough:
            found = self._slots.found(run.area, run.window / area.per_s, run.seen / area.per_s, run.times)
            held, unchanged = found, unchanged * found / held
        unchanged = min(unchanged, held)
        changed = held - unchanged
        if area.writer.delta_bytes >= PAGE_BYTES:
            return Shares(
                normal=1 - unchanged,
                normal_bytes=normal_bytes,
                unchanged=unchanged,
                miss=1 - held,
                overflow=changed,
            )
        return Shares(
            normal=1 - held,
            normal_bytes=normal_bytes,
            delta=changed,
            delta_bytes=DELTA_HEADER_BYTES + area.writer.delta_bytes,
            unchanged=unchanged,
            miss=1 - held,
        )

    def _unchanged(self, law: Law, run: Run, draws: float) -> float:
        """Pages that were written in the last iteration before they were sent in it, and not since.

        They are those in the window that was sent then (``last``), in the part of that iteration before they were
        sent (``after``), and not in the draws since: three windows side by side, by inclusion and exclusion.
        """
        since = draws - run.at
        last, after = run.last, run.after
        if last == EVER:
            return law.at(after + since) - law.at(since)
        pages = law.at(last + since) + law.at(after + since) - law.at(since) - law.at(last + after + since)
        return max(pages, 0.0)
