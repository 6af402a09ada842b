"""What the migration thread counts, and what it works out of it at the end of a window and at a sync."""

from __future__ import annotations

from whimbrel.sim.memory.contract import PAGE_BYTES, Sent

from .contract import Settings
from .t_rules import SYNC_PERIOD_MS, WINDOW_MS, Rules

WORTH_BYTES = 10_000
"""A window in which less was sent does not move ``expected-downtime`` (migration.c)."""
_PRECOPY, _DOWNTIME, _POSTCOPY = range(3)


def number(settings: Settings, name: str, default: int = 0) -> int:
    """A parameter that is a number."""
    value = settings.parameters.get(name, default)
    return value if isinstance(value, int) else default


def compresses(settings: Settings) -> bool:
    """Whether pages in full are compressed."""
    if settings.capabilities.get("multifd"):
        return settings.parameters.get("multifd-compression", "none") != "none"
    return bool(settings.capabilities.get("compress"))


class Counters:
    """QEMU's counters; times are its whole milliseconds.

    Attributes:
        bytes: written into the stream.
        framing_bytes: of them, what is not pages.
        pages: that were dealt with.
        normal: in full.
        zero: zero.
        phase_bytes: sent while the guest ran, while it stood, and in post-copy.
        multifd_bytes: that went over multifd's channels.
        requests: pages that post-copy asked for.
        syncs: ``dirty-sync-count``.
        window_ms: when the window began.
        window_bytes: `bytes` then.
        threshold_bytes: below this it switches over; 0 until the first window has ended.
        bandwidth: bytes per millisecond in the last window.
        mbps: 10^6 bits per second in it.
        pages_per_s: in it.
        expected_ms: ``expected-downtime`` as it was last worked out.
        synced_bytes: what was in the bitmap right after the last sync.
        dirty_pages_per_s: found by the syncs of the last period.
        misses, deltas, delta_bytes, overflows: XBZRLE's.
        miss_rate, encoding_rate: XBZRLE's, of the last period.
    """

    __slots__ = (
        "_period_bytes",
        "_period_deltas",
        "_period_dirty",
        "_period_encoded",
        "_period_misses",
        "_period_ms",
        "_period_pages",
        "_rules",
        "_settings",
        "_window_pages",
        "bandwidth",
        "bytes",
        "delta_bytes",
        "deltas",
        "dirty_pages_per_s",
        "encoding_rate",
        "expected_ms",
        "framing_bytes",
        "mbps",
        "miss_rate",
        "misses",
        "multifd_bytes",
        "normal",
        "overflows",
        "pages",
        "pages_per_s",
        "phase",
        "phase_bytes",
        "requests",
        "synced_bytes",
        "syncs",
        "threshold_bytes",
        "window_bytes",
        "window_ms",
        "zero",
    )

    def __init__(self, rules: Rules, settings: Settings, now_ms: int) -> None:
        """All at 0; the first window begins."""
        self._rules = rules
        self._settings = settings
        self.bytes = self.framing_bytes = self.pages = self.normal = self.zero = 0
        self.phase = _PRECOPY
        self.phase_bytes = [0, 0, 0]
        self.multifd_bytes = self.requests = self.syncs = 0
        self.window_ms = now_ms
        self.window_bytes = self._window_pages = 0
        self.threshold_bytes = 0
        self.bandwidth = self.mbps = self.pages_per_s = 0.0
        self.expected_ms = number(settings, "downtime-limit", 300)
        self.synced_bytes = self.dirty_pages_per_s = 0
        self.misses = self.deltas = self.delta_bytes = self.overflows = 0
        self.miss_rate = self.encoding_rate = 0.0
        self._period_ms: int | None = None
        self._period_dirty = self._period_bytes = self._period_pages = 0
        self._period_misses = self._period_deltas = self._period_encoded = 0

    # ---- what is sent

    def stopped(self) -> None:
        """The guest stands still: what is sent from here on is downtime, where the version says so."""
        if self._rules.downtime_bytes:
            self.phase = _DOWNTIME

    def in_postcopy(self) -> None:
        """What is sent from here on is post-copy's."""
        self.phase = _POSTCOPY

    def add(self, sent: Sent, framing_bytes: int, counted_framing_bytes: int, multifd: bool) -> None:
        """Pages were put into the stream.

        Args:
            sent: they.
            framing_bytes: what went with them.
            counted_framing_bytes: of that, what counts as RAM.
            multifd: those in full went over multifd's channels.
        """
        zero, normal, sent_bytes = sent.zero, sent.normal, sent.bytes
        self.zero += zero
        self.normal += normal
        self.pages += zero + normal
        self.bytes += sent_bytes + framing_bytes
        self.framing_bytes += framing_bytes - counted_framing_bytes
        if sent.delta or sent.unchanged or sent.misses:
            self._add_deltas(sent)
        if multifd:
            in_channels = sent_bytes if self._rules.zero_in_channels else normal * sent_bytes // max(1, normal + zero)
            self.multifd_bytes += in_channels
            sent_bytes -= in_channels
        self.phase_bytes[self.phase] += sent_bytes + counted_framing_bytes

    def add_bytes(self, size_bytes: int) -> None:
        """Something else was put into the stream."""
        self.bytes += size_bytes
        self.framing_bytes += size_bytes

    def add_again(self, size_bytes: int) -> None:
        """Pages that were lost on their way were put in once more."""
        self.bytes += size_bytes
        self.phase_bytes[self.phase] += size_bytes

    def _add_deltas(self, sent: Sent) -> None:
        # As ram.c counts: every page found in the cache is encoded, an overflow as a page in full, headers left out.
        self.pages += sent.delta + sent.unchanged
        self.misses += sent.misses
        self.overflows += sent.overflows
        self.deltas += sent.delta + sent.unchanged + sent.overflows
        self.delta_bytes += sent.delta_bytes - 8 * sent.delta + PAGE_BYTES * sent.overflows

    # ---- windows

    def open_window(self, now_ms: int) -> None:
        """A window begins."""
        self.window_ms = now_ms
        self.window_bytes = self.bytes
        self._window_pages = self.pages

    def close_window(self, now_ms: int) -> None:
        """End the window if it is due (`WINDOW_MS`), and begin the next."""
        spent_ms = now_ms - self.window_ms
        if spent_ms < WINDOW_MS:
            return
        sent_bytes = self.bytes - self.window_bytes
        self.bandwidth = sent_bytes / spent_ms
        expected = self.expected_bandwidth()
        self.threshold_bytes = int(expected * number(self._settings, "downtime-limit", 300))
        self.mbps = sent_bytes * 8.0 / (spent_ms / 1000.0) / 1000.0 / 1000.0
        self.pages_per_s = (self.pages - self._window_pages) / (spent_ms / 1000.0)
        if self.dirty_pages_per_s and sent_bytes > WORTH_BYTES:
            self.expected_ms = int(self.synced_bytes / expected)
        self.open_window(now_ms)

    def expected_bandwidth(self) -> float:
        """What the switchover is thought to have, bytes per millisecond: told by the user, or measured."""
        if self._rules.switchover_bandwidth and (told := number(self._settings, "avail-switchover-bandwidth")):
            return float(max(1, told // 1000))
        return self.bandwidth

    # ---- syncs

    def synced(self, now_ms: int, found: int, remaining_pages: int) -> tuple[int, int] | None:
        """The log was merged into the bitmap.

        Args:
            now_ms: when that was done.
            found: pages that are newly in it.
            remaining_pages: in it now.

        Returns:
            Bytes dirtied and bytes sent in the period that this sync ends; ``None``: it ends none.
        """
        self.synced_bytes = remaining_pages * PAGE_BYTES
        self._period_dirty += found
        if self._period_ms is None:
            self._period_ms = now_ms
        spent_ms = now_ms - self._period_ms
        if spent_ms <= SYNC_PERIOD_MS:
            return None
        verdict = (self._period_dirty * PAGE_BYTES, self.bytes - self._period_bytes)
        self._end_period(spent_ms)
        self._period_ms = now_ms
        self._period_dirty = 0
        self._period_bytes = self.bytes
        return verdict

    def _end_period(self, spent_ms: int) -> None:
        self.dirty_pages_per_s = self._period_dirty * 1000 // spent_ms
        pages = self.pages - self._period_pages
        self._period_pages = self.pages
        if not pages:
            return
        self.miss_rate = (self.misses - self._period_misses) / pages
        plain_bytes = (self.deltas - self._period_deltas) * PAGE_BYTES
        encoded_bytes = self.delta_bytes - self._period_encoded
        self.encoding_rate = plain_bytes / encoded_bytes if encoded_bytes else 0.0
        self._period_misses, self._period_deltas, self._period_encoded = self.misses, self.deltas, self.delta_bytes

    # ---- the end

    def average(self, spent_ms: int) -> None:
        """It is over: ``mbps`` is that of the whole run from here on."""
        if spent_ms:
            self.mbps = self.bytes * 8.0 / spent_ms / 1000.0
