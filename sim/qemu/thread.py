"""The migration thread: the sender as QEMU 7.2, 10.0 and 11.1 have it, in virtual time.

It is a loop: look at what is pending; if that is little, sync the dirty log and look again; if it is still little,
stop the guest and send the rest; otherwise send for at most `SLICE_MS`, and sleep where ``max-bandwidth`` is used up.
Every 100 ms or so it works out bandwidth and threshold anew. `t_rules` says how the versions differ, and where each
number is from.

Where nothing can come of the look in the middle of a window, two slices are written as one step: that is what makes a
long migration cheap, and what lets ``migrate-start-postcopy`` wait up to 102 ms where QEMU makes it wait up to 51.
QEMU looks at ``max-bandwidth`` before every page: for somebody who asks more often than every `OFTEN_NS`, and so may
mean to change it at the right moment, slices are written in pieces, and a change holds from the next piece on.
"""

from __future__ import annotations

from collections.abc import Callable

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Timer
from whimbrel.sim.link.contract import Stream
from whimbrel.sim.memory.contract import PAGE_BYTES, Memory

from .contract import Costs, QmpMessage, Settings, ThreadListener, Version
from .own_time import Time
from .t_counters import Counters, compresses, number
from .t_faults import Faults
from .t_figures import Figures
from .t_rules import (
    LAST_STEP_NS,
    OFTEN_NS,
    PAUSE_NS,
    PIECE_NS,
    POSTCOPY_STEP_NS,
    PROCEED_NS,
    SETUP_BYTES,
    SLICE_NS,
    WINDOW_MS,
    Phase,
    rules_of,
)
from .t_syncs import Syncs
from .t_throttle import Throttle
from .t_writer import Writer


class Thread:
    """The sender (`contract.MigrationThread`). Made for one migration."""

    def __init__(
        self,
        clock: Time,
        version: Version,
        memory: Memory,
        stream: Stream,
        settings: Settings,
        costs: Costs,
        listener: ThreadListener,
        kvm: bool = False,
        *,
        urgent: Stream | None = None,
        back: Stream | None = None,
        running: Callable[[], bool] | None = None,
    ) -> None:
        """Make it; `start` starts it.

        Args:
            clock: the process's own time.
            version: whose ways it has.
            memory: the guest's.
            stream: the way out.
            settings: read anew at every use; capabilities once.
            costs: what things take on this machine.
            listener: the process around it.
            kvm: the guest does not stall where logging begins (`Costs.start_stall_s` is TCG's).
            urgent: pages that the guest waits for go over this (``postcopy-preempt``); ``None``: over ``stream``.
            back: requests for them come over this; ``None``: at once.
            running: whether the guest's vCPUs run here; ``None``: until it is stopped for the switchover.
        """
        self._clock = clock
        self._memory = memory
        self._settings = settings
        self._costs = costs
        self._listener = listener
        self._rules = rules = rules_of(version)
        self._behind = urgent is None
        self._served_apart = urgent is not None and rules.urgent_thread
        capabilities = settings.capabilities
        self._pauses = bool(capabilities.get("pause-before-switchover"))
        self._can_postcopy = bool(capabilities.get("postcopy-ram"))
        self._acknowledged = not capabilities.get("switchover-ack")
        self._cached = bool(capabilities.get("xbzrle")) and not capabilities.get("multifd")
        self._cache_bytes = 0
        self._stall_ns = 0 if kvm else int(costs.start_stall_s * SECOND_NS)
        self._phase = Phase.NEW
        self._postcopy = self._postcopy_asked = self._stopped = self._locked = False
        self._into_postcopy = False
        self._running = running if running is not None else lambda: not self._stopped
        self._evaluated_bytes = memory.total_pages * PAGE_BYTES
        self._boundary_ns = 0
        self._rest: int | None = None
        self._asked_ns = -OFTEN_NS
        self._asked_often = self._in_pieces = False
        self._active_ms = 0
        self._pipe_bytes = 0
        self._timer: Timer | None = None
        self._counters = counters = Counters(rules, settings, clock.now_ns // MILLISECOND_NS)
        self._throttle = throttle = Throttle(memory, settings, rules)
        self._syncs = Syncs(clock, memory, counters, throttle, rules, costs, listener, self._lock, not kvm)
        self._writer = Writer(clock, memory, stream, counters, rules, costs, settings, self._notice)
        way = urgent if urgent is not None else stream
        self._faults = Faults(clock, memory, counters, way, back, self._asleep_until_ns)
        self._figures = Figures(rules, settings, counters, throttle, memory.total_pages)

    # ---- contract.MigrationThread

    def start(self) -> None:
        """See `contract.MigrationThread`."""
        self._phase = Phase.LOOP
        self._counters.open_window(self._clock.now_ns // MILLISECOND_NS)
        if self._rules.forced_sync and self._settings.capabilities.get("auto-converge"):
            self._syncs.force()
        setup_ns = int(self._costs.setup_s * SECOND_NS)
        if self._stall_ns:
            self._clock.after(max(0, setup_ns - self._stall_ns), self._stall)
        self._wait(setup_ns, self._set_up)

    def figures(self) -> QmpMessage:
        """See `contract.MigrationThread`."""
        if self._phase is Phase.OVER:
            return self._figures.over()
        now_ns = self._clock.now_ns
        self._asked_often = now_ns - self._asked_ns < OFTEN_NS
        self._asked_ns = now_ns
        writer, left = self._writer, self._memory.remaining_pages
        waiting_bytes = writer.stream.waiting_bytes(now_ns)
        return self._figures.running(writer.step, waiting_bytes, left, self._evaluated_bytes, self._postcopy)

    def proceed(self) -> None:
        """See `contract.MigrationThread`; nothing happens unless it waits for it."""
        if self._phase is Phase.HELD:
            self._phase = Phase.STOPPING
            self._lock(True)
            self._wait(PROCEED_NS, self._after_pause)

    def start_postcopy(self) -> None:
        """See `contract.MigrationThread`."""
        self._postcopy_asked = True

    def guest_runs(self) -> None:
        """Post-copy: the guest's vCPUs run at the destination, from now on or again."""
        if self._phase is not Phase.OVER:
            self._faults.guest_runs()

    def guest_halts(self) -> None:
        """Post-copy: they were stopped there."""
        self._faults.guest_halts()

    def acknowledge(self) -> None:
        """The destination is ready for the switchover (``switchover-ack``)."""
        self._acknowledged = True

    def broken(self, reason: str = "") -> None:
        """The stream was reset. The next write finds out: ``failed``, or ``postcopy-paused``, is reached then.

        Args:
            reason: the kernel's words. Whoever gives them keeps them.
        """
        self._writer.broken = True
        if self._writer.in_flight:
            self._cancel()
            self._wait(0, self._notice)

    def pause_postcopy(self) -> None:
        """See `contract.MigrationThread`. It stops at once, and says nothing."""
        if self._phase in (Phase.OVER, Phase.PAUSED):
            return
        self._phase = Phase.PAUSED
        self._cancel()
        self._lock(False)
        self._faults.pause()

    def resume_postcopy(
        self, stream: Stream | None = None, urgent: Stream | None = None, back: Stream | None = None
    ) -> None:
        """See `contract.MigrationThread`; what lay in the old pipe is sent once more.

        Args:
            stream: the new way out; ``None``: as before.
            urgent: the new one for pages that the guest waits for.
            back: the new way back.
        """
        if self._phase is not Phase.PAUSED or not self._postcopy:
            return
        self._phase = Phase.LOOP
        self._counters.open_window(self._clock.now_ns // MILLISECOND_NS)
        if stream is not None:
            self._writer.connect(stream)
        self._writer.broken = False
        self._listener.reached("postcopy-active")
        self._counters.add_again(self._pipe_bytes)
        self._writer.write_bytes(self._pipe_bytes, self._after)
        self._faults.resume(urgent if urgent is not None else self._writer.stream, back)

    def end(self) -> None:
        """See `contract.MigrationThread`; from here on figures are those of a migration that has completed."""
        if self._phase is Phase.OVER:
            return
        now_ns = self._clock.now_ns
        self._phase = Phase.OVER
        self._cancel()
        self._writer.close()
        self._lock(False)
        self._faults.end()
        self._throttle.off(now_ns)
        self._memory.end(now_ns)
        self._counters.average(now_ns // MILLISECOND_NS - self._active_ms)

    def settings_changed(self) -> None:
        """See `contract.MigrationThread`."""
        if self._phase in (Phase.LOOP, Phase.PAUSED):
            self._set_limit()
            self._set_cache()

    # ---- setup

    def _set_up(self) -> None:
        now_ns = self._clock.now_ns
        self._memory.compress(compresses(self._settings))
        self._memory.begin(now_ns)
        self._set_limit()
        self._set_cache()
        self._syncs.first()
        self._active_ms = now_ns // MILLISECOND_NS
        self._listener.reached("active")
        if self._phase is Phase.LOOP:
            self._counters.add_bytes(SETUP_BYTES)
            self._writer.write_bytes(SETUP_BYTES, self._turn)

    def _stall(self) -> None:
        """Under TCG the guest stands while logging begins."""
        if self._running():
            self._memory.halt(self._clock.now_ns)
            self._clock.after(self._stall_ns, self._end_stall)

    def _end_stall(self) -> None:
        if self._running():
            self._memory.run(self._clock.now_ns)

    # ---- the loop

    def _turn(self) -> None:
        """Look at what is pending, and decide."""
        remaining_bytes = self._memory.remaining_pages * PAGE_BYTES
        self._evaluated_bytes = remaining_bytes
        if self._postcopy:
            if self._little(remaining_bytes):
                self._lock(True)
                self._send_last()
            else:
                self._slice()
            return
        rules = self._rules
        pending = remaining_bytes if rules.postcopy_part_counts or not self._can_postcopy else 0
        threshold = self._counters.threshold_bytes
        if pending < threshold or (pending == threshold and rules.at_threshold):
            self._syncs.next(self._decide)
        else:
            self._decide()

    def _decide(self) -> None:
        """What is pending is known as well as it will be."""
        remaining_bytes = self._memory.remaining_pages * PAGE_BYTES
        self._evaluated_bytes = remaining_bytes
        able = self._acknowledged or not self._running()
        if able and self._little(remaining_bytes):
            self._stop()
        elif able and self._postcopy_asked:
            self._into_postcopy = True
            if self._rules.early_postcopy and not self._pauses:
                self._listener.reached("postcopy-active")
            self._stop()
        else:
            self._slice()

    def _little(self, remaining_bytes: int) -> bool:
        threshold = self._counters.threshold_bytes
        return not remaining_bytes or remaining_bytes < threshold + self._rules.at_threshold

    def _slice(self) -> None:
        """Send for a while; two slices at once where the look between them would change nothing."""
        now_ns = self._clock.now_ns
        until_ns = now_ns + SLICE_NS
        slices = 1
        guard: int | None = None
        self._boundary_ns = 0
        self._in_pieces = not self._postcopy and self._asked_often and now_ns - self._asked_ns < OFTEN_NS
        if self._in_pieces:
            self._boundary_ns = until_ns
            self._piece(go_on=False)
            return
        if self._postcopy:
            self._pipe_bytes = self._writer.stream.level_bytes(now_ns)
            if self._behind:
                until_ns = now_ns + POSTCOPY_STEP_NS
                slices = 0
        elif not self._postcopy_asked and until_ns < (self._counters.window_ms + WINDOW_MS) * MILLISECOND_NS:
            spare = self._memory.remaining_pages - self._counters.threshold_bytes // PAGE_BYTES - 1
            if spare > 0 and (self._rules.postcopy_part_counts or not self._can_postcopy):
                guard = spare
                until_ns += SLICE_NS
                slices = 2
        writer = self._writer
        taken = writer.write(until_ns, slices, guard, self._after)
        guarded = guard is not None and taken >= guard
        if guarded or writer.cut:
            self._boundary_ns = until_ns if writer.step.end_ns > now_ns + SLICE_NS else now_ns + SLICE_NS
            self._rest = writer.slice_pages - taken % writer.slice_pages if guarded else None

    def _piece(self, *, go_on: bool) -> None:
        """A part of a slice; the last one ends where QEMU looks at the clock."""
        now_ns, until_ns = self._clock.now_ns, self._boundary_ns
        is_last = until_ns - now_ns < 2 * PIECE_NS
        if is_last:
            self._boundary_ns = 0
        else:
            until_ns = now_ns + PIECE_NS
        self._writer.write(until_ns, int(is_last), None, self._after, go_on)

    def _after(self) -> None:
        """A slice is in the stream, or the sleep behind it is over."""
        now_ns = self._clock.now_ns
        writer = self._writer
        if now_ns < self._boundary_ns and not writer.slept and not writer.exhausted and self._memory.remaining_pages:
            if self._in_pieces:
                self._piece(go_on=True)
                return
            # It stopped only to be seen, short of the threshold or where zero pages begin: its slice goes on.
            until_ns, self._boundary_ns = self._boundary_ns, 0
            if self._rest is not None:
                until_ns += SLICE_NS
            writer.write(until_ns, 0, self._rest, self._after, go_on=True)
            return
        if writer.broken:
            self._notice()
            return
        self._counters.close_window(now_ns // MILLISECOND_NS)
        if writer.exhausted:
            writer.sleep(self._after)
        else:
            self._turn()

    def _set_limit(self) -> None:
        name = "max-postcopy-bandwidth" if self._postcopy else "max-bandwidth"
        self._writer.set_limit(number(self._settings, name))

    def _set_cache(self) -> None:
        if self._cached and not self._postcopy:
            size_bytes = number(self._settings, "xbzrle-cache-size", 64 << 20)
            if size_bytes != self._cache_bytes:
                self._cache_bytes = size_bytes
                self._memory.cache(size_bytes)

    # ---- the switchover

    def _stop(self) -> None:
        self._phase = Phase.STOPPING
        self._lock(True)
        self._wait(int(self._costs.stop_s * SECOND_NS), self._guest_stops)

    def _guest_stops(self) -> None:
        self._stopped = True
        self._syncs.stop_forcing()
        self._counters.stopped()
        self._listener.stops_guest()
        if self._phase is Phase.OVER:
            return
        if self._pauses:
            self._wait(PAUSE_NS, self._hold)
        else:
            if self._rules.says_device:
                self._listener.reached("device")
            self._hand_over()

    def _hold(self) -> None:
        self._phase = Phase.HELD
        self._listener.reached("pre-switchover")
        self._lock(False)

    def _after_pause(self) -> None:
        early = self._rules.early_postcopy and self._into_postcopy
        self._listener.reached("postcopy-active" if early else "device")
        self._hand_over()

    def _hand_over(self) -> None:
        if self._phase is not Phase.OVER:
            self._phase = Phase.LAST
            self._syncs.last(self._begin_postcopy if self._into_postcopy else self._send_last)

    def _send_last(self) -> None:
        """What is left goes out as fast as it can, and the device state behind it."""
        self._phase = Phase.LAST
        self._writer.set_limit(0)
        writer = self._writer
        if self._memory.remaining_pages:
            span_ns = POSTCOPY_STEP_NS if self._postcopy and self._behind else LAST_STEP_NS
            writer.write(self._clock.now_ns + span_ns, 0, None, self._send_last)
        elif writer.broken:
            self._notice()
        elif self._postcopy:
            self._finish()
        else:
            self._send_state("precopy", self._finish)

    def _send_state(self, kind: str, then: Callable[[], None]) -> None:
        size_bytes = self._costs.device_state_bytes
        self._listener.sends_state(size_bytes, kind)
        self._counters.add_bytes(size_bytes)
        self._writer.write_bytes(0, then)

    def _finish(self) -> None:
        self._phase = Phase.SENT
        self._lock(False)
        self._listener.all_sent()

    # ---- post-copy

    def _begin_postcopy(self) -> None:
        self._memory.arrive(self._clock.now_ns)
        if self._cached:
            self._memory.cache(None)
        self._postcopy = True
        self._counters.in_postcopy()
        self._phase = Phase.LOOP
        self._set_limit()
        if self._rules.says_postcopy_device:
            self._listener.reached("postcopy-device")
        elif not self._rules.early_postcopy:
            self._listener.reached("postcopy-active")
        self._lock(False)
        # Recorded with a low max-postcopy-bandwidth: the guest resumes a window later, for loading takes pages, too.
        if self._writer.is_held_back and not self._served_apart:
            self._writer.sleep(self._send_package)
        else:
            self._send_package()

    def _send_package(self) -> None:
        if self._writer.broken:
            self._notice()
        else:
            self._send_state("postcopy", self._after)

    def _asleep_until_ns(self) -> int:
        return 0 if self._served_apart else self._writer.asleep_until_ns

    # ---- inside

    def _notice(self) -> None:
        """A write has found the stream broken."""
        if self._phase in (Phase.OVER, Phase.PAUSED, Phase.SENT):
            return
        self._phase = Phase.PAUSED
        self._cancel()
        self._lock(False)
        if self._postcopy:
            self._faults.pause()
        self._listener.reached("postcopy-paused" if self._postcopy else "failed")

    def _lock(self, held: bool) -> None:
        if held is not self._locked:
            self._locked = held
            self._listener.holds_lock(held)

    def _wait(self, delay_ns: int, then: Callable[[], None]) -> None:
        if self._phase not in (Phase.OVER, Phase.PAUSED) or then == self._notice:
            self._timer = self._clock.after(delay_ns, then)

    def _cancel(self) -> None:
        self._writer.cancel()
        self._syncs.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
