"""The dirty log of the memory that counts in expectations: what a sync finds for each run of pages."""

from __future__ import annotations

from whimbrel.sim.guests.laws import Law, Sweep
from whimbrel.sim.guests.plan import Area

from .runs import EVER, Run, split


class DirtyLog:
    """What was written since the last sync, told by the draws of each area's writer.

    Attributes:
        synced: draws of each area's writer by the last sync.
        chunk_pages: KVM: the log of so many pages is cleared when the first of them is sent; ``None``: TCG, which
            clears all of it at the sync.
        logged_pages: that the last sync found in it.

    Args:
        areas: all RAM.
        sweeps: where the sweeps among them begin, by index: page of the area.
        chunk_pages: see above.
        draws: by now, when logging begins.
    """

    def __init__(
        self, areas: tuple[Area, ...], sweeps: dict[int, int], chunk_pages: int | None, draws: list[float]
    ) -> None:
        self._areas = areas
        self._sweeps = sweeps
        self.chunk_pages = chunk_pages
        self.synced = draws
        self.logged_pages = 0
        self._cleared: dict[int, list[float]] = {}
        self._values: dict[tuple[int, float], float] = {}

    def chunk_to_clear(self, run: Run) -> int | None:
        """The chunk whose log has to be cleared before a page of this run is sent; ``None``: none."""
        if self.chunk_pages is None:
            return None
        chunk = int(run.begin) // self.chunk_pages
        return None if chunk in self._cleared else chunk

    def clear(self, chunk: int, draws: list[float]) -> None:
        """The first page of a chunk is sent: its log is cleared now."""
        self._cleared[chunk] = draws

    def merge_into(self, runs: list[Run], draws: list[float]) -> list[Run]:
        """A sync: put the log into the bitmap.

        Args:
            runs: the bitmap, in which no run is partly sent; they are changed.
            draws: of each area's writer, by now.

        Returns:
            The bitmap afterwards.
        """
        self._values.clear()
        merged: list[Run] = []
        for run in runs:
            law = self._areas[run.area].law
            if isinstance(law, Sweep):
                merged.extend(self._swept(run, law, draws[run.area]))
                continue
            if law is None:
                run.sent = False
                if self._cleared_at(run) is not None:
                    run.reported = 0.0
            else:
                self._dirtied(run, law, draws[run.area])
            merged.append(run)
        self.logged_pages = self._in_log(draws) if self.chunk_pages is None else self._in_kvms_log(merged)
        self.synced = draws
        self._cleared.clear()
        return merged

    def _in_log(self, draws: list[float]) -> int:
        """Pages written since the last sync."""
        logged = 0.0
        for i, area in enumerate(self._areas):
            if area.law is not None:
                logged += self._at(i, area.law, draws[i] - self.synced[i])
        return int(logged + 0.5)

    def _in_kvms_log(self, runs: list[Run]) -> int:
        """Pages that KVM reports, anew as long as they are not cleared."""
        logged = 0.0
        for run in runs:
            area = self._areas[run.area]
            if run.reported == EVER:
                logged += run.end - run.begin
            elif isinstance(area.law, Sweep):
                logged += run.left if run.reported > 0 else 0.0
            elif area.law is not None:
                logged += self._at(run.area, area.law, run.reported) / area.pages * (run.end - run.begin)
        return int(logged + 0.5)

    def logs_from(self, run: Run) -> float:
        """The draws from which on pages of this run that are sent now are in the log again once they are written."""
        cleared = self._cleared_at(run)
        return self.synced[run.area] if cleared is None else cleared

    def _at(self, area: int, law: Law, draws: float) -> float:
        """The law's value, which is worked out once in a sync: runs ask for the same ones."""
        value = self._values.get((area, draws))
        if value is None:
            value = self._values[area, draws] = law.at(draws)
        return value

    def _cleared_at(self, run: Run) -> float | None:
        """The draws by which the log of a run's chunk was cleared, if that was after the last sync."""
        if self.chunk_pages is None:
            return None
        draws = self._cleared.get(int(run.begin) // self.chunk_pages)
        return None if draws is None else draws[run.area]

    def _dirtied(self, run: Run, law: Law, draws: float) -> None:
        """Merge the log into the bitmap, for a run whose writer's pages lie scattered.

        Args:
            run: which.
            law: of its area.
            draws: of its writer, by now.
        """
        pages = self._areas[run.area].pages
        window = draws - self.synced[run.area]
        logged, reported = self._logged(run, law, draws, window)
        run.reported = reported
        if run.sent:
            run.density, run.window, run.sent = logged / pages, reported, False
        elif run.window != EVER:
            more = self._at(run.area, law, run.window + window) - self._at(run.area, law, run.window)
            run.density = min(run.density + more / pages, 1.0)
            run.window += window

    def _logged(self, run: Run, law: Law, draws: float, window: float) -> tuple[float, float]:
        """What the log holds of a run.

        Returns:
            The pages that it would hold of the whole area, were all of it like this run; and the window of draws that
            comes to as many.
        """
        if self.chunk_pages is None:
            return self._at(run.area, law, window), window
        cleared = self._cleared_at(run)
        if cleared is None:
            # What KVM reported is still in its log; of what was sent without a clearing there was nothing.
            held = window if run.sent else run.reported + window
            return (self._at(run.area, law, held) if held != EVER else float(self._areas[run.area].pages)), held
        # Pages that the last sync found in the log are in it again from the clearing on only, the others all the
        # time. That is |A and C| + |S| - |A and S| of the windows A (before the sync), S (since) and C (since the
        # clearing), which for A and C apart holds exactly where draws are independent.
        since = draws - cleared
        least = self._at(run.area, law, since)
        if run.reported == EVER or since >= window:
            return least, since
        both = self._at(run.area, law, run.reported + window) - self._at(run.area, law, run.reported + since)
        most = self._at(run.area, law, window)
        part = both / (most - least) if most > least else 0.0
        return least + both, since + min(part, 1.0) * (window - since)

    def _swept(self, run: Run, law: Sweep, draws: float) -> list[Run]:
        """Merge the log into the bitmap, for a run of a sweep: which pages were written is known.

        A page of such a run either is in the bitmap or is not.
        """
        area = self._areas[run.area]
        since = self.synced[run.area]
        cleared = self._cleared_at(run)
        if cleared is not None and run.reported > 0:
            since = cleared
        written = int(draws) - int(since)
        if not run.sent and run.density > 0:
            if cleared is not None:
                run.reported = 0.0  # a guess: most of a sweep's pages are not written twice before they are sent
            return [run]  # in the bitmap already, all of it
        first = (self._sweeps[run.area] + int(since)) % law.pages
        inside = [(first, first + written), (first - law.pages, first - law.pages + written)]
        if written >= law.pages:
            inside = [(0, law.pages)]
        pieces = [run]
        for edge in sorted(area.first + edge for pair in inside for edge in pair):
            split(pieces, len(pieces) - 1, float(edge))
        for piece in pieces:
            middle = (piece.begin + piece.end) / 2 - area.first
            piece.sent = False
            piece.density = 1.0 if any(low <= middle < high for low, high in inside) else 0.0
            piece.window = piece.reported = float(written) if piece.density else 0.0
        return pieces
