"""A memory that counts in expectations: no page has an identity, but the order of addresses is kept.

All of an area's popularity classes are spread evenly over its addresses, so the state of the bitmap at an address
follows from *when* the pages there were last sent: they are those that were written in a known window of draws. So
the address space is a short list of runs (`whimbrel.sim.memory.runs`), and a sync evaluates the writers' laws a few
times. Pages that were in the bitmap unsent and are written again count once: their window just grows, and what is
new is ``at(window + more) - at(window)``, which is exact for every stationary writer.
"""

from __future__ import annotations

import math

from whimbrel.sim.guests.laws import Law, Sweep
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import Area, areas_of, first_page
from whimbrel.sim.scenario import GuestPlan

from .contract import CHUNK_PAGES, PAGE_BYTES, PAGE_HEADER_BYTES, Sent
from .deltas import DeltaCache
from .dirty_log import DirtyLog
from .missing import Missing
from .owed import FULL, ZERO, Owed, Shares
from .runs import EVER, Run, merge, split
from .sweep_faults import take_out

_NONE_LEFT = 1e-6
"""Expected pages that are taken for rounding noise."""


class ExpectedMemory:
    """The curve level; see `whimbrel.sim.memory.contract.Memory`. Fractions of a page are carried, never lost.

    Args:
        plan: the guest.
        seed: of the world; where sweeps begin follows from it, nothing else does.
        kvm: clear the dirty log by chunks while sending, as with KVM, instead of at the sync, as TCG does.
        chunk_pages: how large these are.

    Raises:
        BadInput: the plan is impossible.
    """

    def __init__(self, plan: GuestPlan, *, seed: int, kvm: bool = False, chunk_pages: int = CHUNK_PAGES) -> None:
        self._areas = areas_of(plan)
        self._life = Life(self._areas, plan.vcpus)
        self._sweeps = {i: first_page(area, seed) for i, area in enumerate(self._areas) if isinstance(area.law, Sweep)}
        self._chunk = chunk_pages if kvm else None
        self._total = plan.ram_bytes // PAGE_BYTES
        self._now_ns = 0
        self._runs: list[Run] = []
        self._index = 0
        self._place = 0.0
        self._left = 0.0
        self._remaining = 0
        self._owed = Owed()
        self._log = DirtyLog(self._areas, self._sweeps, self._chunk, self._draws(0))
        self._cache_bytes: int | None = None
        self._cache: DeltaCache | None = None
        self._wrapped = False
        self._between: tuple[float, float] | None = None
        self._compress = False
        self._missing: Missing | None = None

    # ---- the guest's life

    @property
    def total_pages(self) -> int:
        """See `Memory`."""
        return self._total

    def run(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        if self._missing is None or not self._missing.waiting:
            self._life.run(now_ns)

    def halt(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.halt(now_ns)

    def throttle(self, now_ns: int, fraction: float) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.throttle(now_ns, fraction)

    def throttle_from_outside(self, now_ns: int, fraction: float) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.throttle_from_outside(now_ns, fraction)

    def limit(self, now_ns: int, bytes_per_s: float | None) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._life.limit(now_ns, bytes_per_s)

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
        self._missing = None
        self._runs = [Run(area.first, area.first + area.pages, i) for i, area in enumerate(self._areas)]
        if self._chunk is not None:
            for edge in range(self._chunk, self._total, self._chunk):
                self._cut(float(edge))
        self._index, self._place, self._wrapped = 0, 0.0, False
        self._left, self._owed = float(self._total), Owed()
        self._count()
        self._log = DirtyLog(self._areas, self._sweeps, self._chunk, self._draws(now_ns))

    def end(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        self._runs, self._left, self._owed, self._missing = [], 0.0, Owed(), None
        self._count()

    @property
    def remaining_pages(self) -> int:
        """See `Memory`."""
        return self._remaining

    def sync(self, now_ns: int) -> int:
        """See `Memory`."""
        self._advance(now_ns)
        if not self._runs:
            return 0
        before = self._remaining
        self._split_here()
        self._runs = self._log.merge_into(self._runs, self._draws(now_ns))
        merge(self._runs, self._place, self._log.chunk_pages)
        self._left = math.fsum(run.left for run in self._runs)
        self._index = self._find(self._place)
        self._count()
        return self._remaining - before

    @property
    def logged_pages(self) -> int:
        """See `Memory`."""
        return self._log.logged_pages

    def send(self, now_ns: int, most_bytes: int, most_pages: int | None = None) -> Sent:
        """See `Memory`."""
        self._advance(now_ns)
        remaining = self._remaining
        if not remaining:
            self._start_over()
        if not remaining or most_pages == 0:
            return Sent()
        owed = self._owed
        pages = math.inf if most_pages is None else most_pages - owed.pages
        self._take(now_ns, most_bytes - owed.bytes, pages)
        if owed.pages < 1 and self._left > _NONE_LEFT:
            self._take(now_ns, math.inf, 1 - owed.pages)
        if self._left <= _NONE_LEFT:
            self._left = 0.0
            whole = int(owed.pages + 0.5)
        else:
            whole = int(owed.pages + _NONE_LEFT)
        whole = min(max(whole, 1), remaining, remaining if most_pages is None else most_pages)
        sent = owed.tell(whole, most_bytes)
        self._count()
        if not self._remaining:
            self._start_over()
        return sent

    def cache(self, size_bytes: int | None) -> None:
        """See `Memory`. A new size empties it, a larger one, too: QEMU makes a new cache."""
        if size_bytes == self._cache_bytes:
            return
        self._cache_bytes, self._cache = size_bytes, None
        if size_bytes is not None:
            self._cache = DeltaCache(max(size_bytes // PAGE_BYTES, 1), self._areas)
        for run in self._runs:
            run.seen, run.times = 0.0, 0

    def compress(self, active: bool) -> None:
        """See `Memory`."""
        self._compress = active

    # ---- post-copy

    def arrive(self, now_ns: int) -> None:
        """See `Memory`."""
        self._advance(now_ns)
        if not self._runs:
            return
        self._split_here()
        self._missing = Missing(self._areas, self._life, self._runs, self._sweeps, self._life.guest_s(now_ns))

    def fault(self, now_ns: int) -> int | None:
        """See `Memory`. The time is that at which one more page is expected to have been touched."""
        self._advance(now_ns)
        if self._missing is None or not self._remaining:
            return None
        return self._missing.next_ns()

    def serve(self, now_ns: int) -> Sent:
        """See `Memory`. Nothing, if the guest does not wait, or all has been sent meanwhile.

        The push goes on in the area of this page, as QEMU's goes on behind the page itself.
        """
        self._advance(now_ns)
        area = self._missing.served() if self._missing is not None else None
        if area is None or not self._remaining:
            return Sent()
        if area not in self._sweeps:
            self._go_to(area)
        sent = self._owed.tell(1, math.inf)
        self._count()
        return sent

    # ---- inside

    def _count(self) -> None:
        """Whole pages that remain."""
        self._remaining = max(int(self._left + self._owed.pages + 0.5), 0)

    def _draws(self, now_ns: int) -> list[float]:
        guest_s = self._life.guest_s(now_ns)
        return [stream.draws(guest_s) if stream is not None else 0.0 for stream in self._life.streams]

    def _advance(self, now_ns: int) -> None:
        """Let the guest live up to now; only where its touches matter there is something to do."""
        self._now_ns = now_ns
        if self._missing is None:
            return
        self._split_here()
        if not self._life.running:
            return
        for run, pages in self._missing.touch(now_ns):
            self._left -= pages
            self._owed.take(pages, self._shares(run, now_ns))
        if self._missing.reached is not None:
            self._take_out(self._missing.reached.page, now_ns)
        self._count()

    def _take_out(self, page: int, now_ns: int) -> None:
        """A sweep waits for this page; the push goes on behind it, as QEMU's does (`get_queued_page`, ram.c)."""
        taken = take_out(self._runs, page)
        if taken is not None:
            index, run, pages = taken
            self._left -= pages
            self._owed.take(pages, self._shares(run, now_ns))
            self._index = index if run.begin > page else (index + 1) % len(self._runs)
            self._place = self._runs[self._index].begin

    def _cut(self, at: float) -> None:
        for i, run in enumerate(self._runs):
            if run.begin < at < run.end:
                split(self._runs, i, at)
                return

    def _find(self, place: float) -> int:
        for i, run in enumerate(self._runs):
            if run.begin <= place < run.end:
                return i
        return 0

    def _go_to(self, area: int) -> None:
        """The sender goes on in this area, if anything is left there."""
        if self._runs[self._index].area == area and self._runs[self._index].density > 0:
            return
        self._split_here()
        for i, run in enumerate(self._runs):
            if run.area == area and run.density > 0:
                self._index, self._place = i, run.begin
                return

    def _start_over(self) -> None:
        """The search found nothing: it went round all RAM, and begins at the lowest address next time (ram.c)."""
        if self._runs:
            self._split_here()
            self._index, self._place, self._wrapped = 0, self._runs[0].begin, True

    def _split_here(self) -> None:
        """Cut the run that is being sent where the sender stands: what lies before it has been sent."""
        if self._missing is not None:
            # Nothing will be logged again: what has been sent is of no more interest.
            self._runs[self._index].begin = self._place
        elif self._index < len(self._runs) and split(self._runs, self._index, self._place):
            self._mark_sent(self._runs[self._index])
            self._index += 1

    def _mark_sent(self, run: Run) -> None:
        if run.sent:
            return
        if self._cache is not None and self._wrapped and run.density > 0 and self._areas[run.area].law is not None:
            self._remember(run)
        self._between = None
        run.sent, run.density = True, 0.0

    def _take(self, now_ns: int, most_bytes: float, most_pages: float) -> None:
        """Take pages off the bitmap, in order of address, wrapping."""
        runs, owed, empty = self._runs, self._owed, 0
        while self._left > _NONE_LEFT and most_bytes > 0 and most_pages > 0:
            run = runs[self._index]
            empty += 1
            if run.window == EVER and self._areas[run.area].zero:
                self._part_zeros(run, now_ns)
            available = run.density * (run.end - self._place)
            if available > 0.0:
                empty = 0
                shares = self._shares(run, now_ns)
                cost = shares.cost_bytes
                taken = available
                if cost * taken > most_bytes:
                    taken = most_bytes / cost
                taken = min(taken, most_pages)
                owed.take(taken, shares)
                self._left -= taken
                most_bytes -= taken * cost
                most_pages -= taken
                chunk = self._log.chunk_to_clear(run)
                if chunk is not None:
                    self._log.clear(chunk, self._draws(now_ns))
                if taken < available:
                    self._place += taken / run.density
                    return
            self._leave(run)
            if empty > len(runs):
                self._left = 0.0  # all runs are empty: what was left over is noise of rounding

    def _leave(self, run: Run) -> None:
        """Go on to the next run; this one has been dealt with."""
        self._mark_sent(run)
        self._index += 1
        if self._index == len(self._runs):
            # From here on XBZRLE is at work: QEMU turns it on when its search first wraps (ram.c).
            self._index, self._wrapped = 0, True
        self._place = self._runs[self._index].begin

    def _remember(self, run: Run) -> None:
        """XBZRLE's cache has the pages of this run, as they were when they were sent."""
        if self._between is None:
            return  # it was sent before XBZRLE was at work
        first, last = self._between
        run.seen += run.window if run.window != EVER else 0.0
        run.times += 1
        run.last, run.at = run.window, (first + last) / 2
        run.after = max(run.at - self._log.logs_from(run), 0.0)

    def _shares(self, run: Run, now_ns: int) -> Shares:
        """What becomes of the next page that is sent from where the sender stands."""
        area = self._areas[run.area]
        law = area.law
        if law is None and area.zero:
            return ZERO
        full = FULL
        if self._compress and self._missing is None:
            full = Shares(normal_bytes=PAGE_HEADER_BYTES + PAGE_BYTES * area.writer.compressed_ratio)
        if law is None:
            return full
        if area.zero and run.window == EVER:
            return self._zero_shares(run, area, law, now_ns, full)
        if self._cache is not None and self._wrapped and self._missing is None:
            draws = self._draws(now_ns)[run.area]
            self._between = (self._between[0] if self._between else draws, draws)
            return self._cache.shares(area, law, run, draws, full.normal_bytes)
        return full

    def _zero_shares(self, run: Run, area: Area, law: Law, now_ns: int, full: Shares) -> Shares:
        """Of a run that was never sent, whose pages are zero until they are written."""
        draws = self._draws(now_ns)[run.area]
        if self._missing is not None:
            # What is missing has not been touched since the arrival; never at all is what is zero.
            since = draws - self._missing.arrived[run.area]
            zero = (area.pages - law.at(draws)) / max(area.pages - law.at(since), 1.0)
        elif isinstance(law, Sweep):
            after = (int(self._place) - area.first - self._sweeps[run.area]) % area.pages
            return full if after < int(draws) else ZERO
        else:
            zero = 1 - law.at(draws) / area.pages
        zero = min(max(zero, 0.0), 1.0)
        return Shares(normal=1 - zero, normal_bytes=full.normal_bytes, zero=zero)

    def _part_zeros(self, run: Run, now_ns: int) -> None:
        """Part what a sweep has written from what it has not, ahead of the sender."""
        area, first = self._areas[run.area], self._sweeps.get(run.area)
        if first is not None:
            behind = (first + int(self._draws(now_ns)[run.area])) % area.pages
            for edge in sorted((area.first + first, area.first + behind)):
                if self._place < edge < run.end:
                    split(self._runs, self._index, float(edge))
                    return
