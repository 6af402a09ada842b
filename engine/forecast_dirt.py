"""What a sync finds dirty, by expectation, from the curves alone.

QEMU's bitmap is a set, so what counts is not how much was dirtied since the last sync but how much of it was not in
the bitmap already. The sender goes through the addresses in a ring. Where the pages that are written together lie
scattered over the addresses, the bitmap at an address follows from when the pages there were last sent: it holds
those that were written in a known window of time, and that is the curve of this window. A page that was not sent and
is written again counts once, for its window just grows. So the ring is a short list of runs, of which a sync splits one
and looks up the curve for each. That is exact in expectation for all that is stationary; a guest that sweeps through
its addresses in order is the exception, for whether its pages are caught depends on where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .forecast_records import Setting, Writers

EVER = math.inf
"""The window of pages that are in the bitmap whatever was written: those of the first iteration."""
LEAST_BYTES = 1.0
"""A run that is shorter is rounding."""


@dataclass(slots=True)
class Area:
    """A range of addresses and who writes to it."""

    begin: float
    """Its lowest address."""
    range_bytes: float
    writers: Writers | None
    """``None``: nobody."""
    speed: float = 1.0
    """Since the last change."""
    throttled: float = 1.0
    """What a throttle leaves of it."""
    limited: float = 1.0
    """What a limit leaves of it."""
    changed_s: float = 0.0
    """When that was, seconds after the last sync."""
    before_s: float = 0.0
    """Of the writers' own time, from the last sync until then."""

    def mean_speed(self, ran_s: float) -> float:
        """Over the time since the last sync."""
        if not self.changed_s:
            return self.speed
        return (self.before_s + self.speed * (ran_s - self.changed_s)) / ran_s if ran_s > 0 else self.speed

    def set_speed(self, ran_s: float) -> None:
        """From here on it is the lesser of what a throttle and a limit leave."""
        speed = min(self.throttled, self.limited)
        if speed != self.speed:
            self.before_s, self.changed_s, self.speed = self.mean_speed(ran_s) * ran_s, ran_s, speed

    def synced(self) -> None:
        """There was a sync."""
        self.changed_s = self.before_s = 0.0


@dataclass(slots=True)
class Run:
    """Addresses side by side with one history."""

    area: Area
    begin: float
    """Its lowest address; zero pages have none."""
    length_bytes: float
    window_s: float
    """Of the writers' own time, in which the pages in the bitmap were written."""
    density: float
    """The part of it that is in the bitmap."""


@dataclass(slots=True)
class Dirt:
    """The dirty log and the bitmap.

    Attributes:
        pending_bytes: in the bitmap after the last sync, of all that is not zero.
    """

    areas: list[Area]
    runs: list[Run]
    """In order of address, from where the sender stood at the last sync, round to there."""
    pending_bytes: float

    @classmethod
    def of(cls, setting: Setting) -> Dirt:
        """A log that begins now, with everything in the bitmap."""
        areas: list[Area] = []
        left = normal = float(setting.total_bytes - setting.zero_bytes)
        for writers in setting.writers:
            wanted = writers.curve.most_bytes if writers.range_bytes is None else writers.range_bytes
            range_bytes = min(wanted, left)
            if range_bytes >= LEAST_BYTES:
                areas.append(Area(normal - left, range_bytes, writers))
                left -= range_bytes
        if left >= LEAST_BYTES:
            areas.append(Area(normal - left, left, None))
        runs = [Run(area, area.begin, area.range_bytes, EVER, 1.0) for area in areas]
        return cls(areas, runs, normal)

    def slow(self, throttle: float, ran_s: float = 0.0) -> None:
        """From here on the vCPUs have only ``1 - throttle`` of their time.

        Args:
            throttle: 0 to 0.99.
            ran_s: for how long the guest ran since the last sync.
        """
        for area in self.areas:
            if area.writers is not None:
                area.throttled = area.writers.speed(throttle)
                area.set_speed(ran_s)

    def limit(self, vcpu_bytes_per_s: float) -> None:
        """From here on, at a sync, no vCPU dirties more than that per second; devices are not held."""
        for area in self.areas:
            if area.writers is not None:
                area.limited = area.writers.speed_within(vcpu_bytes_per_s)
                area.set_speed(0.0)

    @property
    def speed(self) -> float:
        """What the slowest of the writers have left of their speed."""
        return min((area.speed for area in self.areas), default=1.0)

    def mean_speed(self, ran_s: float) -> float:
        """What they have had of it since the last sync."""
        return min((area.mean_speed(ran_s) for area in self.areas), default=1.0)

    def logged_bytes(self, ran_s: float) -> float:
        """What the log would hold at a sync, in the bitmap already or not; arguments as of `sync`."""
        return sum(
            each.writers.curve.at(each.mean_speed(ran_s) * ran_s) for each in self.areas if each.writers is not None
        )

    def sync(self, ran_s: float, sent_bytes: float, sending_s: float = 0.0) -> float:
        """Merge the log into the bitmap; the log begins anew.

        Args:
            ran_s: for how long the guest ran since the last sync.
            sent_bytes: memory that was taken off the bitmap since then, zero pages not counted.
            sending_s: in how much time they were sent; looked at by `whimbrel.engine.forecast_chunks` only.

        Returns:
            The bytes newly marked.
        """
        left_bytes = max(0.0, self.pending_bytes - sent_bytes)
        sent, unsent = self._part(sent_bytes)
        if not unsent:  # it has looked everywhere, and begins at the lowest address again
            sent.sort(key=begin_of)
        runs: list[Run] = []
        pending = 0.0
        for run in unsent:
            if run.window_s != EVER:
                run.window_s += run.area.mean_speed(ran_s) * ran_s
                pending += self._dirty(run)
            else:
                pending += run.length_bytes * run.density
            runs.append(run)
        for run in sent:
            run.window_s = run.area.mean_speed(ran_s) * ran_s
            if runs and runs[-1].area is run.area and runs[-1].window_s == run.window_s:
                runs[-1].length_bytes += run.length_bytes
                pending += runs[-1].density * run.length_bytes
            else:
                pending += self._dirty(run)
                runs.append(run)
        self.runs, self.pending_bytes = runs, pending
        for area in self.areas:
            area.synced()
        return max(0.0, pending - left_bytes)

    def _part(self, sent_bytes: float) -> tuple[list[Run], list[Run]]:
        """The runs that were sent, the one cut in which the sender stands, and the others; in the ring's order."""
        sent: list[Run] = []
        for i, run in enumerate(self.runs):
            held = run.length_bytes * run.density
            if held > sent_bytes + LEAST_BYTES:
                length = run.length_bytes * sent_bytes / held
                if length >= LEAST_BYTES:
                    sent.append(Run(run.area, run.begin, length, run.window_s, run.density))
                    run.begin += length
                    run.length_bytes -= length
                return sent, self.runs[i:]
            sent_bytes -= held
            sent.append(run)
        return sent, []

    @staticmethod
    def _dirty(run: Run) -> float:
        """Find it dirty as far as it was written in its window.

        Returns:
            Bytes in the bitmap.
        """
        area = run.area
        run.density = area.writers.curve.at(run.window_s) / area.range_bytes if area.writers is not None else 0.0
        if run.density > 1.0:
            run.density = 1.0
        return run.density * run.length_bytes


def begin_of(run: Run) -> float:
    """Its lowest address."""
    return run.begin
