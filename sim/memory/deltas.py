"""XBZRLE in expectation: how many of the pages that are sent its cache holds, and how many changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whimbrel.sim.guests.laws import Law
from whimbrel.sim.guests.plan import Area

from .contract import PAGE_BYTES
from .owed import DELTA_HEADER_BYTES, Shares
from .runs import EVER, Run


@dataclass(frozen=True, slots=True)
class DeltaCache:
    """QEMU's cache of pages as they were sent (``page_cache.c``): a table with one page for each slot.

    Attributes:
        pages: its slots.
        rivals: pages of the ranges that are written, for each slot.
    """

    pages: int
    rivals: float

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
        if run.window == EVER:
            hit = law.at(run.seen)
            ever = dirty
        else:
            ever = law.at(run.window + run.seen)
            hit = dirty + law.at(run.seen) - ever
        kept = self._keeps(ever / area.pages)
        held = max(hit, 0.0) / dirty * kept
        unchanged = min(self._unchanged(law, run, draws) / dirty * kept, held)
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

    def _keeps(self, part: float) -> float:
        """The probability that a page which was put into its slot is still there.

        A slot has one of its rivals that were ever sent, and each is as likely as the other: the mean of
        ``1 / (1 + others)`` with a binomial number of others.
        """
        if self.rivals <= 1 or part <= 0:
            return 1.0
        part = min(part, 1.0)
        return (1 - math.pow(1 - part, self.rivals)) / (self.rivals * part)
