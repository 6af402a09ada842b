"""The sending side of a forecast: QEMU's windows, slices and rate limit over a pipe, without a step for each page.

The thread sends in slices of 51 ms at most and compares what is left with the threshold only between two of them
(``ram_save_iterate`` and ``migration_iteration_run``, QEMU 7.2). After 100 ms or more a window ends: its bandwidth
makes the threshold, and its allowance is given anew. With a bandwidth limit the thread sends its allowance at once and
sleeps until the window ends. All that it puts in goes into a pipe first, as fast as memory is read, and from then on
as fast as the link drains it.

Where one window is like the one before, all those to come until the threshold (or until somebody else's moment) are
taken in one step: that is what makes a forecast quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .bounds import PAGE_HEADER_BYTES
from .costs import Costs
from .curve import PAGE_BYTES
from .forecast_records import Setting

WINDOW_S = 0.1
"""``BUFFER_DELAY`` of ``migration.c``."""
SLICE_S = 0.051
"""``MAX_WAIT`` of ``ram.c`` is 50 ms, looked at in whole milliseconds and exceeded."""
SLICE_PAGES = 64
"""The clock is read once in so many pages."""
ZERO_PAGE_WIRE_BYTES = PAGE_HEADER_BYTES + 1
LEAST_LOOK_S = 1e-12
"""So that a zero page that costs nothing has a speed all the same."""
LEAST_BYTES = 1.0
"""Less than a byte is nothing: what rounding leaves."""
ALIKE = 1e-9
"""Two windows that differ by no more than this part are alike."""


CHANNELS = 2
"""QEMU's own ``multifd-channels``."""
MAIN_THREAD = 0.32
"""Of what a look at a page costs, what stays with the main thread whose pages go over channels: fitted to the published
rows of the series that moved the looks there (9629 ms without, 4143 ms with four channels, 100 GB)."""


def channels_bytes_per_s(costs: Costs, channels: int | None) -> float:
    """How fast several channels send where no link holds them: as many times one, until the main thread is the limit.

    Args:
        costs: of one thread.
        channels: how many; ``None``: as many as QEMU opens by itself.
    """
    main = PAGE_BYTES / max(MAIN_THREAD * costs.zero_page_s, LEAST_LOOK_S)
    return max(costs.cpu_bytes_per_s, min((channels or CHANNELS) * costs.cpu_bytes_per_s, main))


@dataclass(slots=True)
class Sending:
    """Where the migration thread stands. Times are seconds since ``migrate``.

    Attributes:
        now_s: the time.
        normal_bytes: pages in the bitmap that go in full; memory bytes.
        zero_bytes: and as zero pages.
        zero_first: which of the two comes first.
        threshold_bytes: in force.
        bandwidth_bytes_per_s: of the last whole window, wire bytes.
        sent_bytes: on the wire since the start.
        normal_sent_bytes: of memory, in full.
        zero_sent_bytes: of memory, as zero pages.
        level_bytes: in the pipe.
        limit_s: the downtime limit; read when a window ends.
        off: by which factor the bandwidth that makes the threshold is off.
    """

    now_s: float
    normal_bytes: float
    zero_bytes: float
    link: float
    pipe_bytes: float
    cpu: float
    """Wire bytes of pages in full that the thread could put in, per second."""
    zero_cpu: float
    """And of zero pages."""
    wire_each: float
    """Wire bytes for each byte of a page."""
    limit_s: float
    allowed: float = math.inf
    """Wire bytes for each window."""
    zero_first: bool = False
    threshold_bytes: float = 0.0
    bandwidth_bytes_per_s: float = 0.0
    sent_bytes: float = 0.0
    normal_sent_bytes: float = 0.0
    zero_sent_bytes: float = 0.0
    level_bytes: float = 0.0
    off: float = 1.0
    _slice_s: float = SLICE_S
    _slice_ends_s: float = 0.0
    _window_s: float = 0.0
    """When the window began."""
    _window_bytes: float = 0.0
    """What had been sent then."""
    _left: float = math.inf
    """Of the window's allowance."""
    _before: tuple[float, float, float] = (-1.0, -1.0, -1.0)
    """Wire bytes and length of the window before, and the pipe's level at its end."""
    _unit: tuple[float, float] = (0.0, 0.0)
    """Wire bytes and length of what is to come: of a slice, or of a whole window."""
    _alike: bool = False
    """All to come is like that, and nothing has happened since."""

    @classmethod
    def of(cls, setting: Setting, now_s: float) -> Sending:
        """One that is about to send all RAM."""
        costs = setting.costs
        wire_each = setting.wire_ratio + PAGE_HEADER_BYTES / PAGE_BYTES
        sender = cls(
            now_s=now_s,
            normal_bytes=float(setting.total_bytes - setting.zero_bytes),
            zero_bytes=float(setting.zero_bytes),
            link=setting.bandwidth_bytes_per_s,
            pipe_bytes=float(setting.pipe_bytes),
            cpu=costs.cpu_bytes_per_s,
            zero_cpu=ZERO_PAGE_WIRE_BYTES / max(costs.zero_page_s, LEAST_LOOK_S),
            wire_each=wire_each,
            limit_s=setting.objectives.downtime_s,
            _window_s=now_s,
        )
        sender.pack(sender.wire_each, sender.cpu)
        sender.begin()
        return sender

    @property
    def pending_bytes(self) -> float:
        """What QEMU believes to be left: bytes of memory in the bitmap."""
        return self.normal_bytes + self.zero_bytes

    def pack(self, wire_each: float, cpu: float) -> None:
        """Pages in full come to so many wire bytes for each of their own from here on, made at such a rate."""
        self.wire_each, self.cpu, self._alike = wire_each, cpu, False
        looks_s = SLICE_PAGES * PAGE_BYTES * wire_each / min(self.link, cpu)
        self._slice_s = math.ceil(SLICE_S / looks_s - ALIKE) * looks_s

    def limit_bandwidth(self, bytes_per_s: float) -> None:
        """``max-bandwidth``: heeded at once; 0: none."""
        allowed = bytes_per_s * WINDOW_S if bytes_per_s else math.inf
        if allowed != self.allowed:
            used = self.sent_bytes - self._window_bytes
            self.allowed, self._left, self._alike = allowed, allowed - used, False

    def begin(self) -> None:
        """Look away from the threshold and send the next slice."""
        self._slice_ends_s = self.now_s + self._slice_s

    def idle(self, until_s: float) -> None:
        """Nothing is put in; the pipe drains."""
        self.level_bytes = max(0.0, self.level_bytes - self.link * (until_s - self.now_s))
        self.now_s = until_s
        self._alike = False

    def advance(self, until_s: float) -> bool:
        """Send on.

        Returns:
            Whether the thread is about to compare what is left with the threshold; else it is `until_s`.
        """
        if self._alike and self._leap(until_s):
            return True
        if self._left > 0:
            end_s = self._slice_ends_s
            whole = end_s <= until_s
            self._send(end_s if whole else until_s)
            if not whole and self._left > 0 and self.normal_bytes + self.zero_bytes > 0:
                return False
        ready_s = self._window_s + WINDOW_S
        if self.now_s < ready_s:
            if self._left > 0:
                self.begin()
                return True
            if until_s < ready_s:
                self._drain(until_s)
                return False
            self._drain(ready_s)
        self._end_window()
        self.begin()
        return True

    # ---- inside

    def _drain(self, until_s: float) -> None:
        self.level_bytes = max(0.0, self.level_bytes - self.link * (until_s - self.now_s))
        self.now_s = until_s

    def _send(self, until_s: float) -> None:
        """Put in what goes in until then, no more than the allowance and no more than there is."""
        link, room = self.link, self.pipe_bytes
        while True:
            normal, there, each, cpu = self._stretch()
            most = min(there * each, self._left)
            span_s, level = until_s - self.now_s, self.level_bytes
            if cpu > link:
                fill_s = (room - level) / (cpu - link)
                wire = cpu * span_s if span_s <= fill_s else cpu * fill_s + link * (span_s - fill_s)
                if wire > most:
                    wire = most
                    at_speed = cpu * fill_s
                    span_s = wire / cpu if wire <= at_speed else fill_s + (wire - at_speed) / link
                level += (cpu - link) * span_s
                self.level_bytes = level if level < room else room
            else:
                wire = cpu * span_s
                if wire > most:
                    wire, span_s = most, most / cpu
                level -= (link - cpu) * span_s
                self.level_bytes = level if level > 0 else 0.0
            self.now_s += span_s
            self.sent_bytes += wire
            self._left -= wire
            if self._left < LEAST_BYTES:
                self._left = 0.0
            pages = wire / each
            there -= pages
            if there < LEAST_BYTES:
                there = 0.0
            if normal:
                self.normal_sent_bytes += pages
                self.normal_bytes = there
            else:
                self.zero_sent_bytes += pages
                self.zero_bytes = there
            if self._left <= 0 or there > 0 or self.normal_bytes + self.zero_bytes <= 0:
                return

    def _stretch(self) -> tuple[bool, float, float, float]:
        """The pages that come next: whether in full, memory bytes, wire bytes for each, and per second of CPU."""
        if self.zero_bytes > 0 and (self.zero_first or self.normal_bytes <= 0):
            return False, self.zero_bytes, ZERO_PAGE_WIRE_BYTES / PAGE_BYTES, self.zero_cpu
        return True, self.normal_bytes, self.wire_each, self.cpu

    def _end_window(self) -> None:
        took_s, wire = self.now_s - self._window_s, self.sent_bytes - self._window_bytes
        bandwidth = self.bandwidth_bytes_per_s = wire / took_s
        self.threshold_bytes = bandwidth * self.off * self.limit_s
        self._window_s, self._window_bytes, self._left = self.now_s, self.sent_bytes, self.allowed
        _, _, _, cpu = self._stretch()
        rate, level = (cpu, 0.0) if cpu <= self.link else (self.link, self.pipe_bytes)
        slices_s = math.ceil(WINDOW_S / self._slice_s) * self._slice_s
        if rate * slices_s <= self.allowed:
            # Nothing but the link (or the CPU) holds it: the windows to come are known as soon as the pipe is full.
            self._unit = (rate * self._slice_s, self._slice_s)
            self._alike = abs(bandwidth - rate) <= ALIKE * rate and abs(self.level_bytes - level) <= LEAST_BYTES
            return
        before_wire, before_s, before_level = self._before
        self._unit = (wire, took_s)
        self._before = (wire, took_s, self.level_bytes)
        self._alike = (
            abs(wire - before_wire) <= ALIKE * wire
            and abs(took_s - before_s) <= ALIKE * took_s
            and abs(self.level_bytes - before_level) <= LEAST_BYTES
        )

    def _leap(self, until_s: float) -> bool:
        """Take all slices, or windows, in one step that are like the last one.

        Returns:
            Whether what is left has come below the threshold.
        """
        self._alike = False
        wire, unit_s = self._unit
        normal, there, each, _ = self._stretch()
        pages = wire / each
        slices = unit_s == self._slice_s
        enough = math.floor((self.normal_bytes + self.zero_bytes - self.threshold_bytes) / pages) + 1
        most = math.floor(min(there / pages, (until_s - self.now_s) / unit_s))
        # Within a window that is limited the thread looks more than once, so the last one is not leapt over.
        count = min(enough, most) if slices else min(enough, most) - 1
        if count < 1:
            return False
        self.now_s += count * unit_s
        self.sent_bytes += count * wire
        if normal:
            self.normal_bytes -= count * pages
            self.normal_sent_bytes += count * pages
        else:
            self.zero_bytes -= count * pages
            self.zero_sent_bytes += count * pages
        within = count % math.ceil(WINDOW_S / unit_s) if slices else 0
        self._window_s, self._window_bytes = self.now_s - within * unit_s, self.sent_bytes - within * wire
        self._left = self.allowed - within * wire
        self.begin()
        return slices and count == enough
