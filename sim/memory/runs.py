"""The address space as runs of pages that are alike, for the memory that counts in expectations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

EVER = math.inf
"""The window of pages that are in the bitmap whatever was written: those of the first iteration."""
_ALIKE = 0.02
"""Histories for XBZRLE that differ by less than this part are merged: the number of runs stays bounded."""
_MOST_RUNS = 400


@dataclass(slots=True)
class Run:
    """Pages of one area, side by side, with one history.

    Attributes:
        begin: its first page (not whole where a send ended within a page's worth of expectation).
        end: behind its last.
        area: index of its area.
        density: expected pages in the bitmap for each of its pages, 0 to 1.
        window: draws of the area's writer during which those pages were written; `EVER`: all are in the bitmap.
        reported: draws of the window of which the last sync found the pages in KVM's log; `EVER`: all were in it.
        sent: dealt with since the last sync; the density is 0 then, and `window` that of what was sent.
        seen: draws whose pages were sent under XBZRLE, so are in its cache, up to the present window.
        times: so many windows that were.
        last: window of what was last sent under XBZRLE.
        after: draws from the sync to that sending.
        at: draws of the writer at that sending.
    """

    begin: float
    end: float
    area: int
    density: float = 1.0
    window: float = EVER
    reported: float = EVER
    sent: bool = False
    seen: float = 0.0
    times: int = 0
    last: float = 0.0
    after: float = 0.0
    at: float = 0.0

    @property
    def left(self) -> float:
        """Expected pages in the bitmap."""
        return self.density * (self.end - self.begin)


def split(runs: list[Run], index: int, at: float) -> bool:
    """Cut a run in two, if the place lies within it; says whether it did."""
    run = runs[index]
    if not run.begin < at < run.end:
        return False
    runs.insert(index + 1, replace(run, begin=at))
    run.end = at
    return True


def merge(runs: list[Run], barrier: float, chunk: int | None) -> None:
    """Join neighbours that are alike.

    Args:
        runs: in order of address; changed in place.
        barrier: an address across which nothing is joined: where the sender stands.
        chunk: pages of a chunk of the clear bitmap, across whose edges nothing is joined either; ``None``: none.
    """
    crowded = len(runs) > _MOST_RUNS
    kept: list[Run] = []
    for run in runs:
        before = kept[-1] if kept else None
        if (
            before is not None
            and before.area == run.area
            and before.density == run.density
            and before.window == run.window
            and before.reported == run.reported
            and run.begin != barrier
            and (chunk is None or run.begin % chunk)
            and (crowded or _alike(before, run))
        ):
            before.end = run.end
        else:
            kept.append(run)
    runs[:] = kept


def _alike(a: Run, b: Run) -> bool:
    """Whether XBZRLE makes no difference between them."""
    if a.seen == b.seen and a.at == b.at:
        return True
    return abs(a.times - b.times) <= 1 and all(
        abs(x - y) <= _ALIKE * max(abs(x), abs(y)) for x, y in ((a.seen, b.seen), (a.last, b.last), (a.after, b.after))
    )
