"""A memory in which every page has an identity. Needs numpy.

Three or four bytes for each page: whether it is in the bitmap, in the log (with KVM: and was when the log was last
read), and whether it is zero; XBZRLE adds one, and its cache.
"""

from __future__ import annotations

import math

import numpy as np

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.guests.realised import Flags, Pages, writers_of
from whimbrel.sim.scenario import GuestPlan

from .batch import Batch, Counts, DeltaCache
from .contract import CHUNK_PAGES, PAGE_BYTES, PAGE_HEADER_BYTES, Sent

_WIDEST = 1 << 16
_NARROWEST = 1 << 12
"""Pages of the bitmap that are looked at in one go."""
_FULL_BYTES = PAGE_HEADER_BYTES + PAGE_BYTES


class PagedMemory:
    """The page level; see `whimbrel.sim.memory.contract.Memory`.

    Args:
        plan: the guest.
        seed: of the world; the guest's writes follow from it.
        kvm: clear the dirty log by chunks while sending, as with KVM, instead of at the sync, as TCG does.
        chunk_pages: how large these are.

    Raises:
        BadInput: the plan is impossible.
    """

    def __init__(self, plan: GuestPlan, *, seed: int, kvm: bool = False, chunk_pages: int = CHUNK_PAGES) -> None:
        self._areas = areas_of(plan)
        self._life = Life(self._areas, plan.vcpus)
        self._writers = [writers_of(plan, area, seed) if area.law is not None else () for area in self._areas]
        self._total = plan.ram_bytes // PAGE_BYTES
        self._now_ns = 0
        self._bitmap: Flags = np.zeros(self._total, dtype=np.bool_)
        self._log: Flags = np.zeros(self._total, dtype=np.bool_)
        self._reported: Flags | None = np.zeros(self._total, dtype=np.bool_) if kvm else None
        self._chunk = chunk_pages
        self._cleared: set[int] = set()
        self._zero: Flags = np.zeros(self._total, dtype=np.bool_)
        for area in self._areas:
            self._zero[area.first : area.first + area.pages] = area.zero
        self._written = [
            (area, stream, writers)
            for area, stream, writers in zip(self._areas, self._life.streams, self._writers, strict=True)
            if stream is not None
        ]
        self._edges = np.array([area.first for area in self._areas[1:]], dtype=np.int64)
        self._full_bytes = np.full(len(self._areas), _FULL_BYTES)
        self._compresses = False
        self._delta_bytes: Counts = np.array([area.writer.delta_bytes for area in self._areas])
        self._active = False
        self._remaining = self._logged_pages = 0
        self._place = 0
        self._cache_bytes: int | None = None
        self._cache: DeltaCache | None = None
        self._wrapped = False
        self._arrived = False
        self._touch: tuple[int, int] | None = None
        self._waits_for: int | None = None

    # ---- the guest's life

    @property
    def total_pages(self) -> int:
        """See `Memory`."""
        return self._total

    def run(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        if self._waits_for is None:
            self._life.run(now_ns)

    def halt(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.halt(now_ns)

    def throttle(self, now_ns: int, fraction: float) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.throttle(now_ns, fraction)
        self._touch = None

    def throttle_from_outside(self, now_ns: int, fraction: float) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.throttle_from_outside(now_ns, fraction)
        self._touch = None

    def limit(self, now_ns: int, bytes_per_s: float | None) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.limit(now_ns, bytes_per_s)
        self._touch = None

    def vcpu_s(self, now_ns: int) -> tuple[float, ...]:
        """See `Memory`."""
        return self._life.vcpu_s(now_ns)

    def count_work(self, now_ns: int) -> None:
        """See `Memory`."""
        self._life.count_work(now_ns)

    def done_work(self, now_ns: int) -> float:
        """See `Memory`."""
        self._advance(now_ns)
        return self._life.done_work(now_ns)

    @property
    def most_slowed(self) -> float:
        """See `Memory`."""
        return self._life.most_slowed

    def expected_bytes(self, now_ns: int, window_s: float) -> float:
        """Distinct bytes that the guest is expected to dirty in a window from then on: what a measurement will find."""
        return self._life.expected_bytes(now_ns, window_s)

    # ---- the migration

    def begin(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._write()
        self._bitmap[:] = True
        # KVM's log begins with every page in it (KVM_DIRTY_LOG_INITIALLY_SET), TCG's with none.
        self._log[:] = self._reported is not None
        if self._reported is not None:
            self._reported[:] = True
        self._cleared.clear()
        self._active, self._arrived, self._wrapped = True, False, False
        self._touch = self._waits_for = None
        self._remaining, self._place = self._total, 0
        if self._cache is not None:
            self._cache = DeltaCache(self._cache.slots, self._total)

    def end(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._write()
        self._active = self._arrived = False
        self._remaining, self._waits_for, self._touch = 0, None, None

    @property
    def remaining_pages(self) -> int:
        """See `Memory`."""
        return self._remaining

    def sync(self, now_ns: int) -> int:
        """See `Memory`."""
        self._advance(now_ns)
        if not self._active:
            return 0
        self._write()
        self._logged_pages = int(np.count_nonzero(self._log))
        fresh = int(np.count_nonzero(self._log > self._bitmap))
        self._bitmap |= self._log
        if self._reported is None:
            self._log[:] = False
        else:
            self._reported[:] = self._log
            self._cleared.clear()
        self._remaining += fresh
        if self._cache is not None:
            self._cache.syncs += 1
        return fresh

    @property
    def logged_pages(self) -> int:
        """See `Memory`."""
        return self._logged_pages

    def send(self, now_ns: int, most_bytes: int, most_pages: int | None = None) -> Sent:
        """See `Memory`."""
        self._advance(now_ns)
        self._write(everything=False)
        batch = Batch(most_bytes, self._remaining if most_pages is None else min(most_pages, self._remaining))
        width = min(max(most_bytes // PAGE_BYTES * 2, _NARROWEST), _WIDEST)
        behind = self._place
        while batch.most_pages > 0 and self._remaining > 0:
            end = self._window_end(width)
            found = self._bitmap[self._place : end].nonzero()[0] + self._place
            taken = self._offer(found[: batch.most_pages], batch) if len(found) else 0
            if taken:
                behind = int(found[taken - 1]) + 1
            if taken < len(found):
                break
            self._place = end
            if end == self._total:
                # From here on XBZRLE is at work: QEMU turns it on when its search first wraps (ram.c).
                self._place, self._wrapped = 0, True
        # The search goes on behind the last page sent, not where it ended: a sync may put pages in between (ram.c).
        self._place = behind % self._total
        if self._active and not self._remaining:
            # The search went round all RAM in vain, and begins at the lowest address next time (ram.c).
            self._place, self._wrapped = 0, True
        return batch.sent()

    def cache(self, size_bytes: int | None) -> None:
        """See `Memory`. A new size empties it, a larger one, too: QEMU makes a new cache."""
        if size_bytes != self._cache_bytes:
            self._write()
            self._cache_bytes = size_bytes
            slots = max(size_bytes // PAGE_BYTES, 1) if size_bytes is not None else 0
            self._cache = DeltaCache(slots, self._total) if slots else None

    def compress(self, active: bool) -> None:
        """See `Memory`."""
        self._compresses = active
        ratios = [area.writer.compressed_ratio if active else 1.0 for area in self._areas]
        self._full_bytes = np.array([PAGE_HEADER_BYTES + round(PAGE_BYTES * ratio) for ratio in ratios])

    # ---- post-copy

    def arrive(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._write()
        self._arrived = True

    def fault(self, now_ns: int) -> int | None:
        """See `Memory`. A touch that is more than millions of draws away counts as none."""
        self._advance(now_ns)
        if not self._arrived or not self._remaining:
            return None
        if self._waits_for is not None:
            return 0
        self._look_ahead()
        if self._touch is None:
            return None
        return max(self._touch[0] - self._life.guest_ns(now_ns), 0)

    def serve(self, now_ns: int) -> Sent:
        """See `Memory`. Nothing, if the guest does not wait, or its page has been sent meanwhile.

        The search goes on from behind this page, as QEMU's does: neighbours are likely to be wanted next.
        """
        self._advance(now_ns)
        page, self._waits_for = self._waits_for, None
        batch = Batch(0, 1)
        if page is not None and self._bitmap[page]:
            self._offer(np.array([page]), batch)
            self._zero[page] = False  # the guest is about to write to it
            self._place = (page + 1) % self._total
        return batch.sent()

    # ---- inside

    def _advance(self, now_ns: int) -> None:
        """Let the guest live up to now.

        What it writes is only made out where it matters: at once in post-copy, where it may have to wait for a page.
        """
        self._now_ns = now_ns
        if self._arrived and self._life.running:
            self._wait_where_missing(now_ns)
            self._write()

    def _write(self, *, everything: bool = True) -> None:
        """Make out what the guest has written by now.

        Args:
            everything: all of it; else only what bears on how a page is sent: whether it is zero still, and whether
                it has changed since it was last sent (XBZRLE). The log does not matter before it is looked at.
        """
        logs = self._active and not self._arrived
        cache = self._cache if logs else None
        guest_s = self._life.guest_s(self._now_ns)
        for area, stream, writers in self._written:
            if not everything and not area.zero and cache is None:
                continue
            draws = stream.draws(guest_s)
            for writer in writers:
                for pages in writer.until(draws):
                    if logs:
                        self._log[pages] = True
                    if area.zero:
                        self._zero[pages] &= self._bitmap[pages] & self._arrived
                    if cache is not None:
                        cache.changed[pages] = True

    def _look_ahead(self) -> None:
        """Find the guest's next touch of a missing page, unless the one that is known still holds."""
        if self._touch is not None and self._bitmap[self._touch[1]]:
            return
        touches: list[tuple[int, int]] = []
        for area, stream, writers in zip(self._areas, self._life.streams, self._writers, strict=True):
            if stream is None or not self._bitmap[area.first : area.first + area.pages].any():
                continue
            for writer in writers:
                touch = writer.next_touch(self._bitmap)
                if touch is not None and (guest_s := stream.when(touch[0])) < math.inf:
                    touches.append((math.ceil(guest_s * SECOND_NS), touch[1]))
        self._touch = min(touches, default=None)

    def _wait_where_missing(self, now_ns: int) -> None:
        """The guest stands still from its first touch of a missing page on."""
        if not self._remaining:
            return
        self._look_ahead()
        if self._touch is None:
            return
        over_ns = self._life.guest_ns(now_ns) - self._touch[0]
        if over_ns >= 0:
            self._life.halt(now_ns - over_ns)
            self._waits_for, self._touch = self._touch[1], None

    def _window_end(self, width: int) -> int:
        """How far the bitmap is looked at: one chunk of KVM's at most, and no slot of XBZRLE's cache twice."""
        if self._cache is not None:
            width = min(width, self._cache.slots)
        end = min(self._place + width, self._total)
        if self._reported is not None:
            end = min(end, (self._place // self._chunk + 1) * self._chunk)
        return end

    def _offer(self, found: Pages, batch: Batch) -> int:
        """Send as many of these pages as fit; says how many."""
        zero = self._zero[found]
        deltas = self._cache is not None and self._wrapped and not self._arrived
        full_bytes: Counts | int = _FULL_BYTES
        if deltas or (self._compresses and not self._arrived):
            area = np.searchsorted(self._edges, found, side="right")
            if self._compresses:
                full_bytes = self._full_bytes[area]
            if deltas and self._cache is not None:
                taken = batch.take_deltas(self._cache, found, zero, full_bytes, self._delta_bytes[area])
            else:
                taken = batch.take(zero, full_bytes)
        else:
            taken = batch.take(zero, full_bytes)
        if taken:
            self._clear(int(found[0]) // self._chunk)
            self._bitmap[found[:taken]] = False
            self._remaining -= taken
            if self._cache is not None:
                self._cache.changed[found[:taken]] = False
        return taken

    def _clear(self, chunk: int) -> None:
        """The first page of a chunk is about to be sent: KVM's log forgets what it has reported of it."""
        if self._reported is not None and chunk not in self._cleared:
            self._write()
            self._cleared.add(chunk)
            part = slice(chunk * self._chunk, (chunk + 1) * self._chunk)
            self._log[part] &= ~self._reported[part]
