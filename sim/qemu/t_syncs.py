"""When the dirty log is merged into the migration's bitmap, what that takes, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Timer
from whimbrel.sim.memory.contract import Memory

from .contract import Costs, ThreadListener
from .own_time import Time
from .t_counters import Counters
from .t_rules import FORCED_SYNC_S, Rules
from .t_throttle import Throttle

LOCK_TOLD_NS = 2 * MILLISECOND_NS
"""A sync holds QEMU's big lock; shorter ones are not worth telling of."""


class Syncs:
    """The syncs of one migration: the thread's own, and those that auto-converge's timer forces."""

    __slots__ = (
        "_clock",
        "_counters",
        "_forced_timer",
        "_listener",
        "_lock",
        "_memory",
        "_page_ns",
        "_rules",
        "_seen",
        "_sync_ns",
        "_throttle",
        "_timer",
        "_waits",
    )

    def __init__(
        self,
        clock: Time,
        memory: Memory,
        counters: Counters,
        throttle: Throttle,
        rules: Rules,
        costs: Costs,
        listener: ThreadListener,
        lock: Callable[[bool], None],
        waits: bool = True,
    ) -> None:
        """None yet.

        Args:
            clock: the process's time.
            memory: has log and bitmap.
            counters: what was found goes there.
            throttle: judges the periods that a sync ends.
            rules: of the version.
            costs: of the machine.
            listener: told of ``MIGRATION_PASS``.
            lock: takes QEMU's big lock, or lets it go.
            waits: a sync waits until every vCPU has seen it (``tcg_log_global_after_sync``), and so until none
                sleeps by the throttle. KVM's does not.
        """
        self._clock = clock
        self._memory = memory
        self._counters = counters
        self._throttle = throttle
        self._waits = waits
        self._rules = rules
        self._listener = listener
        self._lock = lock
        self._sync_ns = int((costs.sync_s + costs.sync_s_per_page * memory.total_pages) * SECOND_NS)
        self._page_ns = costs.sync_s_per_dirty_page * SECOND_NS
        self._timer: Timer | None = None
        self._forced_timer: Timer | None = None
        self._seen = 0

    def first(self) -> None:
        """The one of the setup, which is part of what setup takes."""
        self._done(self._merge(counted=True), counted=True)

    def next(self, then: Callable[[], None]) -> None:
        """Sync, which takes its time while the guest writes on, and go on."""
        asleep_ns = self._throttle.asleep_for_ns(self._clock.now_ns) if self._waits else 0
        if asleep_ns:
            self._timer = self._clock.after(asleep_ns, lambda: self._begin(True, False, then))
        else:
            self._begin(True, False, then)

    def last(self, then: Callable[[], None]) -> None:
        """Sync once more with the guest stopped; QEMU's big lock is held anyway, and stays so."""
        self._begin(self._rules.counts_every_sync, True, then)

    def force(self) -> None:
        """From now on a timer syncs where no sync came for `FORCED_SYNC_S`."""
        self._forced_timer = self._clock.after(FORCED_SYNC_S * SECOND_NS, self._on_timer)

    def stop_forcing(self) -> None:
        """The guest stops: so does its clock, by which that timer goes."""
        if self._forced_timer is not None:
            self._forced_timer.cancel()
            self._forced_timer = None

    def cancel(self) -> None:
        """Let go of what is to come."""
        self.stop_forcing()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, counted: bool, locked: bool, then: Callable[[], None]) -> None:
        found = self._merge(counted=counted)
        delay_ns = self._sync_ns + int(self._memory.logged_pages * self._page_ns)
        told = not locked and delay_ns >= LOCK_TOLD_NS
        if told:
            self._lock(True)

        def done() -> None:
            self._timer = None
            self._done(found, counted)
            if told:
                self._lock(False)
            then()

        self._timer = self._clock.after(delay_ns, done)

    def _merge(self, *, counted: bool) -> int:
        """Count the sync, then do it: in this order, so that a look never sees what it found without it."""
        if counted:
            self._counters.syncs += 1
        return self._memory.sync(self._clock.now_ns)

    def _done(self, found: int, counted: bool) -> None:
        now_ns = self._clock.now_ns
        counters = self._counters
        verdict = counters.synced(now_ns // MILLISECOND_NS, found, self._memory.remaining_pages)
        if verdict is not None:
            self._throttle.judge(now_ns, *verdict)
        if counted and (counters.syncs > 1 or self._rules.counts_every_sync):
            self._listener.passed(counters.syncs)

    def _on_timer(self) -> None:
        # The first pass copies everything anyway: QEMU spares the guest the sync.
        if self._counters.syncs > 1 and self._counters.syncs == self._seen:
            counted = self._rules.counts_every_sync
            self._done(self._merge(counted=counted), counted)
        self._seen = self._counters.syncs
        self.force()
