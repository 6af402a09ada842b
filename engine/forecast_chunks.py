"""The dirty log as KVM keeps it: cleared by chunks of the address space, each when its first page is sent.

So what was written between a sync and the clearing, to a page that is then sent, is not sent again. With A the pages
that were in the bitmap (dirtied before the sync), S those written since the sync and C those since the clearing, the
next sync finds ``|A and C| + |S| - |A and S|``: those of A from the clearing on, the others all the time. By
inclusion and exclusion that is ``f(c) + f(w' + w) - f(w' + c)`` of the windows, where A and C lie apart in time, so
that it is exact only for writes that do not depend on each other, and after the first iteration to some 3 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .forecast_dirt import EVER, LEAST_BYTES, Dirt, Run, begin_of
from .forecast_records import Setting

ALIKE = 0.02
"""Pieces whose bitmaps differ by less than this part are joined: else each sync would leave one more."""


@dataclass(slots=True)
class ChunkedDirt(Dirt):
    """The dirty log and the bitmap, with a log that is cleared by chunks.

    Attributes:
        chunk_bytes: how large these are.
    """

    chunk_bytes: float = 0.0

    @classmethod
    def of(cls, setting: Setting) -> ChunkedDirt:
        """A log that begins now, with everything in the bitmap."""
        assert setting.clear_chunk_bytes is not None
        plain = Dirt.of(setting)
        return cls(plain.areas, plain.runs, plain.pending_bytes, float(setting.clear_chunk_bytes))

    def sync(self, ran_s: float, sent_bytes: float, sending_s: float = 0.0) -> float:
        """See `Dirt.sync`; within `sending_s` the pages are taken to have been sent evenly."""
        left_bytes = max(0.0, self.pending_bytes - sent_bytes)
        sent, unsent = self._part(sent_bytes)
        pieces = [piece for run in sent for piece in self._cut(run)]
        cleared_s = self._cleared_s(pieces, sending_s)
        for run in unsent:
            self._grow(run, ran_s)
        for piece in pieces:
            self._log(piece, ran_s, cleared_s.get(int(piece.begin / self.chunk_bytes)))
        if not unsent:  # it has looked everywhere, and begins at the lowest address again
            pieces.sort(key=begin_of)
        self.runs = [*unsent, *self._joined(pieces)]
        self.pending_bytes = sum([run.density * run.length_bytes for run in self.runs])
        for area in self.areas:
            area.synced()
        return max(0.0, self.pending_bytes - left_bytes)

    def _cut(self, run: Run) -> Iterator[Run]:
        """A run in pieces that lie within a chunk each."""
        begin, end = run.begin, run.begin + run.length_bytes
        while begin < end:
            edge = min(end, (int(begin / self.chunk_bytes) + 1) * self.chunk_bytes)
            yield Run(run.area, begin, edge - begin, run.window_s, run.density)
            begin = edge

    def _joined(self, pieces: list[Run]) -> list[Run]:
        """Neighbours of one chunk that are alike become one again, as dense as both."""
        kept: list[Run] = []
        for piece in pieces:
            last = kept[-1] if kept else None
            if last is None or not self._alike(last, piece):
                kept.append(piece)
                continue
            length = last.length_bytes + piece.length_bytes
            share = piece.length_bytes / length
            last.density += share * (piece.density - last.density)
            last.window_s += share * (piece.window_s - last.window_s)
            last.length_bytes = length
        return kept

    def _alike(self, run: Run, after: Run) -> bool:
        return (
            run.area is after.area
            and abs(run.density - after.density) <= ALIKE * run.density
            and abs(run.begin + run.length_bytes - after.begin) < LEAST_BYTES
            and bool(after.begin % self.chunk_bytes)
        )

    def _cleared_s(self, pieces: list[Run], sending_s: float) -> dict[int, float]:
        """When the log of each chunk was cleared of which pages were sent: seconds after the last sync, in order."""
        held = sum([piece.density * piece.length_bytes for piece in pieces])
        cleared: dict[int, float] = {}
        gone = 0.0
        for piece in pieces:
            here = piece.density * piece.length_bytes
            if here > 0:
                cleared.setdefault(int(piece.begin / self.chunk_bytes), sending_s * gone / held)
            gone += here
        return cleared

    @staticmethod
    def _grow(run: Run, ran_s: float) -> None:
        """Pages that were not sent: what is written besides comes to them."""
        if run.window_s == EVER:
            return
        more_s = run.area.mean_speed(ran_s) * ran_s
        if run.area.writers is not None:
            at = run.area.writers.curve.at
            fresh = (at(run.window_s + more_s) - at(run.window_s)) / run.area.range_bytes
            run.density = min(1.0, run.density + fresh)
        run.window_s += more_s

    @staticmethod
    def _log(piece: Run, ran_s: float, cleared_s: float | None) -> None:
        """Pages that were sent: find them dirty as far as the log has them."""
        area, before_s, speed = piece.area, piece.window_s, piece.area.mean_speed(ran_s)
        window_s = speed * ran_s
        piece.window_s = window_s
        if area.writers is None:
            piece.density = 0.0
            return
        at = area.writers.curve.at
        logged = at(window_s)
        if cleared_s is not None:
            since_s = speed * max(0.0, ran_s - cleared_s)
            least, most = at(since_s), logged
            logged = least if before_s == EVER else least + at(before_s + window_s) - at(before_s + since_s)
            # They are as many as would be written in a window in between: that is what they are taken for from here on.
            part = (logged - least) / (most - least) if most > least else 1.0
            piece.window_s = since_s + part * (window_s - since_s)
        piece.density = min(1.0, logged / area.range_bytes)
