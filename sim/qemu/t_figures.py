"""What ``query-migrate`` shows of the migration thread, as stale as QEMU's own figures are."""

from __future__ import annotations

from whimbrel.sim.memory.contract import PAGE_BYTES, Sent

from .contract import QmpMessage, Settings
from .t_counters import Counters, number
from .t_rules import NO_ESTIMATE, Rules
from .t_throttle import Throttle

RING_BYTES = 4096 * PAGE_BYTES
"""What fits in the dirty ring of one vCPU: 4096 entries, the size that KVM's documentation uses."""
_MIB = 1 << 20


class Step:
    """Pages that are on their way into the stream, so that figures grow with them.

    Attributes:
        sent: they.
        bytes: what ``transferred`` grows by with them.
        wire_bytes: what they are in the stream, whether counted or not.
        end_ns: when the last of them is in, as far as can be known.
    """

    __slots__ = ("bytes", "end_ns", "sent", "wire_bytes")

    def __init__(self) -> None:
        """Nothing is on its way."""
        self.sent: Sent | None = None
        self.bytes = self.wire_bytes = self.end_ns = 0

    def begin(self, sent: Sent | None, size_bytes: int, wire_bytes: int, end_ns: int) -> None:
        """Something is put in from now on."""
        self.sent = sent
        self.bytes = size_bytes
        self.wire_bytes = wire_bytes
        self.end_ns = end_ns

    def open_part(self, waiting_bytes: int) -> float:
        """Which part of it is still to be put in, 0 to 1.

        Args:
            waiting_bytes: what the stream says that it has not taken yet. Not a matter of time: in an outage nothing
                goes in, whether its end can be foreseen or not.
        """
        return min(1.0, waiting_bytes / self.wire_bytes) if self.wire_bytes else 0.0


class Figures:
    """They, put together for one question."""

    __slots__ = ("_counters", "_memory_bytes", "_rules", "_settings", "_throttle")

    def __init__(
        self, rules: Rules, settings: Settings, counters: Counters, throttle: Throttle, total_pages: int
    ) -> None:
        """Take what they are made of."""
        self._rules = rules
        self._settings = settings
        self._counters = counters
        self._throttle = throttle
        self._memory_bytes = total_pages * PAGE_BYTES

    def running(
        self, step: Step, waiting_bytes: int, remaining_pages: int, evaluated_bytes: int, postcopy: bool
    ) -> QmpMessage:
        """While it lasts.

        Args:
            step: what is on its way into the stream.
            waiting_bytes: what the stream has not taken of it yet.
            remaining_pages: in the bitmap, when all of that is in.
            evaluated_bytes: what the thread found left at its last turn.
            postcopy: it is beyond its switchover.
        """
        part = step.open_part(waiting_bytes)
        sent = step.sent
        open_pages = int(part * sent.pages) if sent is not None and part else 0
        answer: QmpMessage = {"ram": self._ram(part, step, remaining_pages + open_pages)}
        if not postcopy or self._rules.early_postcopy:
            answer["expected-downtime"] = self._expected_ms()
        if self._rules.shows_remaining:
            answer["remaining"] = evaluated_bytes
        if self._throttle.percentage:
            answer["cpu-throttle-percentage"] = self._throttle.percentage
        if self._throttle.limit_mib_per_s:
            answer.update(self._dirty_limit())
        return self._with_cache(answer)

    def over(self) -> QmpMessage:
        """When it has completed."""
        ram = self._ram(0.0, Step(), 0)
        ram["dirty-pages-rate"] = 0
        return self._with_cache({"ram": ram})

    def _ram(self, part: float, step: Step, remaining_pages: int) -> QmpMessage:
        counters, rules, sent = self._counters, self._rules, step.sent
        open_bytes = int(part * step.bytes)
        normal, zero = counters.normal, counters.zero
        if part and sent is not None:
            normal -= int(part * sent.normal)
            zero -= int(part * sent.zero)
        transferred = counters.bytes - (0 if rules.framing_counted else counters.framing_bytes)
        phases = list(counters.phase_bytes)
        multifd = counters.multifd_bytes
        if open_bytes:
            if multifd:
                multifd -= min(open_bytes, multifd)
            else:
                phases[counters.phase] -= min(open_bytes, phases[counters.phase])
        ram: QmpMessage = {
            "total": self._memory_bytes,
            "postcopy-requests": counters.requests,
            "dirty-sync-count": counters.syncs,
            "multifd-bytes": multifd,
            "pages-per-second": int(counters.pages_per_s),
            "downtime-bytes": phases[1],
            "page-size": PAGE_BYTES,
            "remaining": remaining_pages * PAGE_BYTES,
            "postcopy-bytes": phases[2],
            "mbps": counters.mbps,
            "transferred": transferred - open_bytes,
            "dirty-sync-missed-zero-copy": 0,
            "precopy-bytes": phases[0],
            "duplicate": zero,
            "dirty-pages-rate": counters.dirty_pages_per_s,
            "normal-bytes": normal * PAGE_BYTES,
            "normal": normal,
        }
        if rules.shows_skipped:
            ram["skipped"] = 0
        return ram

    def _expected_ms(self) -> int:
        counters = self._counters
        if not self._rules.estimate_when_asked:
            return counters.expected_ms
        if counters.syncs <= 1:
            return number(self._settings, "downtime-limit", 300)
        bandwidth = counters.expected_bandwidth()
        return int(counters.synced_bytes / bandwidth) if bandwidth else NO_ESTIMATE

    def _with_cache(self, answer: QmpMessage) -> QmpMessage:
        if self._settings.capabilities.get("xbzrle"):
            counters = self._counters
            answer["xbzrle-cache"] = {
                "cache-size": number(self._settings, "xbzrle-cache-size"),
                "bytes": counters.delta_bytes,
                "pages": counters.deltas,
                "cache-miss": counters.misses,
                "cache-miss-rate": counters.miss_rate,
                "encoding-rate": counters.encoding_rate,
                "overflow": counters.overflows,
            }
        return answer

    def _dirty_limit(self) -> QmpMessage:
        """An estimate: how long the last known rate takes to fill a ring, and the sleep that makes it the limit's."""
        rate = self._counters.dirty_pages_per_s * PAGE_BYTES
        full_us = RING_BYTES * 1_000_000 // rate if rate else 0
        wanted_us = RING_BYTES * 1_000_000 // (self._throttle.limit_mib_per_s * _MIB)
        return {
            "dirty-limit-throttle-time-per-round": max(0, wanted_us - full_us) if rate else 0,
            "dirty-limit-ring-full-time": full_us,
        }
