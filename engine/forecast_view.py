"""What a policy is shown during a forecast: the ledger that a driver would have kept, without its polling."""

from __future__ import annotations

from dataclasses import dataclass, field

from .curve import PAGE_BYTES
from .forecast_sender import Sending
from .forecast_throttle import Throttle
from .statistics import WINDOW_NS, Iteration, Ledger, Statistics


@dataclass(slots=True)
class View:
    """Keeps the ledger."""

    total_bytes: int
    setup_s: float
    ledger: Ledger = field(default_factory=Ledger)

    def look(
        self, sender: Sending, throttle: Throttle, number: int, now_ns: int, vcpu_s: tuple[float, ...] = ()
    ) -> Statistics:
        """``query-migrate`` at this moment, as fresh or stale as QEMU's is, and how long each vCPU has run."""
        bandwidth = sender.bandwidth_bytes_per_s
        return Statistics(
            at_ns=now_ns,
            status="active",
            iteration=number,
            remaining_bytes=int(sender.normal_bytes + sender.zero_bytes),
            transferred_bytes=int(sender.sent_bytes),
            total_bytes=self.total_bytes,
            normal_pages=int(sender.normal_sent_bytes / PAGE_BYTES),
            duplicate_pages=int(sender.zero_sent_bytes / PAGE_BYTES),
            dirty_bytes_per_s=throttle.dirty_bytes_per_s,
            bandwidth_bytes_per_s=bandwidth,
            throttle=throttle.fraction,
            qemu_total_s=sender.now_s,
            setup_s=self.setup_s,
            vcpu_s=vcpu_s,
        )

    def add(self, now: Statistics) -> None:
        """One look between two syncs."""
        self.ledger = self.ledger.add(now)

    def add_sync(self, now: Statistics, left_bytes: float, marked_bytes: float) -> None:
        """The first look after a sync: an iteration has ended.

        Its figures are exact, as a driver that polls often would come to have them.
        """
        before = self.ledger
        opened = before.opened
        assert opened is not None
        ended = Iteration(
            number=opened.iteration,
            started_ns=opened.at_ns,
            ended_ns=now.at_ns,
            remaining_at_start_bytes=opened.remaining_bytes,
            remaining_at_end_bytes=int(left_bytes),
            sent_bytes=now.transferred_bytes - opened.transferred_bytes,
            dirtied_bytes=int(marked_bytes),
        )
        since_ns = now.at_ns - WINDOW_NS
        window = before.window
        if window[0].at_ns < since_ns:
            window = tuple([each for each in window if each.at_ns >= since_ns])
        if not window:
            window = (self._a_second_ago(opened, now, since_ns),)
        self.ledger = Ledger(
            first=before.first,
            last=now,
            opened=now,
            iterations=before.iterations.add(ended),
            window=(*window, now),
            moved_ns=now.at_ns,
        )

    @staticmethod
    def _a_second_ago(opened: Statistics, now: Statistics, at_ns: int) -> Statistics:
        """What a look a second before a sync would have shown, had there been one: on the line between the two."""
        part = (at_ns - opened.at_ns) / (now.at_ns - opened.at_ns)
        sent = now.transferred_bytes - opened.transferred_bytes
        pages = now.normal_pages - opened.normal_pages
        zeros = now.duplicate_pages - opened.duplicate_pages
        handled = (pages + zeros) * PAGE_BYTES
        return Statistics(
            at_ns=at_ns,
            status="active",
            iteration=opened.iteration,
            remaining_bytes=max(0, opened.remaining_bytes - int(part * handled)),
            transferred_bytes=opened.transferred_bytes + int(part * sent),
            total_bytes=now.total_bytes,
            normal_pages=opened.normal_pages + int(part * pages),
            duplicate_pages=opened.duplicate_pages + int(part * zeros),
            dirty_bytes_per_s=opened.dirty_bytes_per_s,
            bandwidth_bytes_per_s=now.bandwidth_bytes_per_s,
            throttle=opened.throttle,
            vcpu_s=tuple([a + part * (b - a) for a, b in zip(opened.vcpu_s, now.vcpu_s, strict=True)]),
        )
