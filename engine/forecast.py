"""The fast path: one whole migration, steered by a real policy, with QEMU's iterations in closed form.

It goes from sync to sync: how long the bitmap takes to be sent as far as the threshold follows from the link and
QEMU's windows (`forecast_sender`), what the sync then finds follows from the dirty curve (`forecast_dirt`), and the
policy is asked as on a real migration, through the same pilot. Standard library only, and no pages. What a policy wants
to have measured before the start is answered with the curve itself, at once; what it wants to wait for is taken to have
passed.

What it leaves out, so that it may differ from the simulator, which goes step by step: noise, steps and outages of the
link; multifd's packets; what of post-copy hangs on more than how much is left (`forecast_postcopy`); that a page which
is to be written may be zero as yet; phases, which the curves have only as their mean; the time that passes between an
event and a policy's decision; and all spread about the expectation. How near it comes to the simulator is
measured in ``tests/sim/test_forecast_agrees.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .curve import PAGE_BYTES
from .forecast_chunks import ChunkedDirt
from .forecast_deltas import DeltaCache
from .forecast_dirt import Dirt
from .forecast_postcopy import postcopy
from .forecast_records import Decided, Forecast, Outage, Outcome, Row, Setting
from .forecast_sender import LEAST_BYTES, ZERO_PAGE_WIRE_BYTES, Sending, channels_bytes_per_s
from .forecast_throttle import Throttle
from .forecast_vcpus import VcpuTime
from .forecast_view import View
from .pilot import Pilot, Steering
from .policy import Measurement, Policy, Reason
from .statistics import Statistics

__all__ = ["forecast"]

ROUNDING_S = 1e-9
"""Moments that are no further apart are the same."""


def forecast(setting: Setting, policy: Policy) -> Forecast:
    """What would happen if this policy steered this migration.

    Args:
        setting: guest, link, costs, objectives.
        policy: as for a real migration; it is asked at the setup, at each sync, at the cadence that it states and at
            the deadline. One with a memory is used up by it: make a new one for each forecast.
    """
    return _Run(setting, Pilot(policy, setting.objectives, abilities=setting.abilities)).run()


@dataclass(slots=True)
class _Opened:
    """The iteration under way: as it stood at its start."""

    number: int
    at_s: float
    bytes: float
    sent_bytes: float
    throttle: float


class _Run:
    """One forecast."""

    def __init__(self, setting: Setting, pilot: Pilot) -> None:
        costs = setting.costs
        begins_s = 2 * setting.latency_s + costs.setup_s
        """When sending begins: the connection has been made, and the log started."""
        self.setting, self.pilot = setting, pilot
        self.decisions: list[Decided] = []
        self.rows: list[Row] = []
        self.sender = Sending.of(setting, begins_s)
        self.dirt = Dirt.of(setting) if setting.clear_chunk_bytes is None else ChunkedDirt.of(setting)
        self.throttle = Throttle(setting.throttling, setting.throttling.always, begins_s)
        self.view = View(setting.total_bytes, costs.setup_s)
        self.vcpus = VcpuTime.of(self.dirt)
        self.preempt = False
        self.cache: DeltaCache | None = None
        """Of XBZRLE."""
        self.full_wire = self.sender.wire_each
        self.sync_s_per_byte = costs.sync_s_per_dirty_page / PAGE_BYTES
        self.sync_s = costs.sync_s + costs.sync_s_per_page * setting.total_bytes / PAGE_BYTES
        self.logged_s = begins_s + costs.start_stall_s
        """From when on the guest has been dirtying since the last sync."""
        self.zero_before = 0.0
        self.worked_s = begins_s
        self.most_throttle = 0.0
        self.number = 1
        self.forced_s = math.inf
        """When the timer fires that forces a sync."""
        self.forced_number = 1

    def run(self) -> Forecast:
        """From the setup to the end."""
        setup = self._setup()
        if setup.decision.abort:
            self.sender.now_s = self.logged_s = 0.0
            return self._called_off(Outcome.GAVE_UP, setup.decision.because or "the policy gave up")
        has = self.pilot.abilities.capabilities
        on = {name for name, state in setup.decision.capabilities.items() if state and (not has or name in has)}
        self.preempt = "postcopy-preempt" in on
        self.throttle.by_limit = "dirty-limit" in on and "auto-converge" not in on
        self.throttle.active |= "auto-converge" in on or self.throttle.by_limit
        self._encode(on)
        self.worked_s *= self.dirt.speed
        if self.throttle.active and self.setting.throttling.periodic_sync_s is not None:
            self.forced_s = self.sender.now_s + self.setting.throttling.periodic_sync_s
        self.pilot.start(0)
        self._open()
        self.view.add(self._look())
        return self._iterate()

    def _setup(self) -> Steering:
        """Ask the policy before the start, until it lets it begin: the pilot sees to it that it does."""
        waited_s = 0.0
        while True:
            setup = self.pilot.setup(0)
            decision = setup.decision
            if decision.abort or (decision.not_yet_s is None and not decision.measure_s):
                self._carry_out(setup)
                return setup
            for window_s in decision.measure_s if self.pilot.abilities.measuring else ():
                waited_s += window_s
                self.pilot.measurements += (self._measure(waited_s, window_s),)
            waited_s += decision.not_yet_s or 0.0

    def _measure(self, at_s: float, window_s: float) -> Measurement:
        return Measurement(
            at_s=at_s, window_s=window_s, dirtied_bytes=self.dirt.logged_bytes(window_s), vcpu_shares=self._shares
        )

    def _encode(self, on: set[str]) -> None:
        """Several channels, or differences: QEMU has no differences in channels."""
        sender, setting = self.sender, self.setting
        if "multifd" in on:
            if setting.several_channels:
                sender.pack(sender.wire_each, channels_bytes_per_s(setting.costs, self.pilot.knobs.multifd_channels))
        elif "xbzrle" in on and setting.deltas is not None:
            self.cache = DeltaCache(setting.deltas)

    def _pack(self) -> None:
        """What the sync has found comes to this on the wire."""
        cache, sender, costs = self.cache, self.sender, self.setting.costs
        assert cache is not None
        shares = cache.shares(self.dirt, self.pilot.knobs.xbzrle_cache_bytes or cache.deltas.cache_bytes)
        wire_each = cache.wire_each(shares)
        sender.pack(wire_each, wire_each / (self.full_wire / costs.cpu_bytes_per_s + cache.encoding_s(shares)))

    @property
    def _shares(self) -> tuple[float, ...]:
        """How much each vCPU runs, where that can be seen: where the host can also bound it."""
        return self.vcpus.shares if self.pilot.abilities.outside_throttle else ()

    # ---- the loop

    def _iterate(self) -> Forecast:
        sender = self.sender
        until_s = self._until_s()
        while True:
            # A sync takes time, in which a moment may have come and gone.
            if until_s > sender.now_s and sender.advance(until_s):
                pending = sender.normal_bytes + sender.zero_bytes
                if pending > 0 and pending >= sender.threshold_bytes:
                    continue
                ended = self._little_left()
            else:
                ended = self._moment()
            if ended is not None:
                return ended
            until_s = self._until_s()

    def _little_left(self) -> Forecast | None:
        """What is left is below the threshold: sync, and look again."""
        sender, threshold = self.sender, self.sender.threshold_bytes
        if threshold > 0:
            self._sync()
            pending = sender.normal_bytes + sender.zero_bytes
            if pending > 0 and pending >= threshold:
                return self._next()
        else:  # all is sent before the first window is over, and so before there is a threshold: it stops unasked
            self._close(0.0)
        return self._completed()

    def _until_s(self) -> float:
        """When something else happens than sending."""
        pilot = self.pilot
        until_s = min(self.setting.limit_s, self.forced_s)
        if pilot.next_wake_ns is not None:
            until_s = min(until_s, pilot.next_wake_ns / 1e9)
        if pilot.deadline_told or pilot.objectives.deadline_s is None:
            return until_s
        return min(until_s, pilot.objectives.deadline_s)

    def _moment(self) -> Forecast | None:
        """It has come."""
        now_s = self.sender.now_s + ROUNDING_S
        pilot = self.pilot
        if now_s >= self.setting.limit_s:
            return self._called_off(Outcome.TIME_LIMIT, self._why())
        if now_s >= self.forced_s:
            return self._forced()
        deadline_ns = pilot.deadline_ns()
        reason = Reason.DEADLINE if deadline_ns is not None and now_s >= deadline_ns / 1e9 else Reason.TICK
        self.view.add(self._look())
        return self._ask(reason)

    def _forced(self) -> Forecast | None:
        """The timer that syncs where no sync has come since it last fired; the first iteration is spared."""
        every_s = self.setting.throttling.periodic_sync_s
        assert every_s is not None
        self.forced_s += every_s
        due = self.forced_number == self.number > 1
        if due:
            self._sync()
        self.forced_number = self.number
        return self._next() if due else None

    def _sync(self) -> None:
        """Merge the dirty log into the bitmap; the iteration ends."""
        sender, dirt = self.sender, self.dirt
        now_s = sender.now_s
        ran_s = max(0.0, now_s - self.logged_s)
        self.worked_s += dirt.mean_speed(ran_s) * ran_s
        takes_s = self._sync_s(ran_s)
        if self.cache is not None:
            self.cache.ran(dirt, ran_s)
        marked = dirt.sync(ran_s, dirt.pending_bytes - sender.normal_bytes, self._sending_s(ran_s))
        self.logged_s = max(self.logged_s, now_s)
        self._close(marked)
        sender.idle(now_s + takes_s)
        sender.normal_bytes = dirt.pending_bytes if dirt.pending_bytes >= LEAST_BYTES else 0.0
        sender.zero_first = True
        if self.cache is not None:
            self._pack()
        self.throttle.synced(sender.now_s, marked, sender.sent_bytes, self.pilot.knobs, dirt)
        self._slowed()
        self.number += 1

    def _slowed(self) -> None:
        """The guest may run at another speed from here on."""
        self.vcpus.changed(self.sender.now_s, self.dirt, self.throttle.taken)
        self.most_throttle = max(self.most_throttle, self.throttle.taken)

    def _sending_s(self, ran_s: float) -> float:
        """How much of that time went to pages in full: zero pages have no addresses here."""
        sender = self.sender
        zeros = (sender.zero_sent_bytes - self.zero_before) / PAGE_BYTES
        self.zero_before = sender.zero_sent_bytes
        return max(0.0, ran_s - zeros * ZERO_PAGE_WIRE_BYTES / min(sender.zero_cpu, sender.link))

    def _sync_s(self, ran_s: float) -> float:
        """What a sync takes after the guest ran so long."""
        if not self.sync_s_per_byte:
            return self.sync_s
        return self.sync_s + self.sync_s_per_byte * self.dirt.logged_bytes(ran_s)

    def _next(self) -> Forecast | None:
        """It goes on with another iteration."""
        row = self.rows[-1]
        self._open()
        self.sender.begin()
        self.view.add_sync(self._look(), row.left_bytes, row.dirtied_bytes)
        if self.number > self.setting.most_iterations:
            return self._called_off(Outcome.MANY_ITERATIONS, self._why())
        return self._ask(Reason.ITERATION)

    def _open(self) -> None:
        sender, scatter = self.sender, self.setting.scatter
        if scatter:
            sender.off = scatter[(self.number - 1) % len(scatter)]
        self.opened = _Opened(
            self.number,
            sender.now_s,
            sender.normal_bytes + sender.zero_bytes,
            sender.sent_bytes,
            self.throttle.taken,
        )

    def _close(self, marked_bytes: float) -> None:
        sender, opened = self.sender, self.opened
        self.rows.append(
            Row(
                number=opened.number,
                start_s=opened.at_s,
                duration_s=sender.now_s - opened.at_s,
                to_send_bytes=opened.bytes,
                left_bytes=sender.normal_bytes + sender.zero_bytes,
                dirtied_bytes=marked_bytes,
                wire_bytes=sender.sent_bytes - opened.sent_bytes,
                bandwidth_bytes_per_s=sender.bandwidth_bytes_per_s,
                threshold_bytes=sender.threshold_bytes,
                throttle=opened.throttle,
                downtime_limit_s=sender.limit_s,
            )
        )

    # ---- the policy

    def _look(self) -> Statistics:
        now_s = self.sender.now_s
        ran_s = self.vcpus.at(now_s) if self._shares else ()
        return self.view.look(self.sender, self.throttle, self.number, round(now_s * 1e9), ran_s)

    def _ask(self, reason: Reason) -> Forecast | None:
        steering = self.pilot.ask(reason, self.view.ledger, round(self.sender.now_s * 1e9))
        self._carry_out(steering)
        if steering.decision.abort:
            return self._called_off(Outcome.GAVE_UP, steering.decision.because or "the policy gave up")
        return self._postcopy() if steering.decision.start_postcopy else None

    def _carry_out(self, steering: Steering) -> None:
        at_setup, chose = steering.asked is Reason.SETUP, steering.decision.start_postcopy
        if not (steering.changes or steering.clamped or steering.fault or at_setup or chose):
            return
        if steering.knobs.outside_throttle != self.throttle.outside:
            self.throttle.outside = steering.knobs.outside_throttle
            self.dirt.slow(self.throttle.taken, 0.0 if at_setup else max(0.0, self.sender.now_s - self.logged_s))
            self._slowed()
        self.sender.limit_s = steering.knobs.downtime_limit_s
        self.sender.limit_bandwidth(steering.knobs.bandwidth_bytes_per_s)
        self.decisions.append(
            Decided(
                at_s=steering.at_ns / 1e9,
                iteration=self.number,
                asked=steering.asked.value,
                because=steering.decision.because,
                changes=steering.changes,
                clamped=steering.clamped,
            )
        )

    # ---- the end

    def _outage(self) -> Outage:
        """Stop the guest, send the rest, hand over."""
        sender, setting, costs = self.sender, self.setting, self.setting.costs
        stopped_s = sender.now_s + costs.stop_s
        sender.idle(stopped_s)
        ran_s = max(0.0, stopped_s - self.logged_s)
        self.worked_s += self.dirt.mean_speed(ran_s) * ran_s
        sync_s = self._sync_s(ran_s)
        if self.cache is not None:
            self.cache.ran(self.dirt, ran_s)
        self.dirt.sync(ran_s, self.dirt.pending_bytes - sender.normal_bytes, self._sending_s(ran_s))
        if self.cache is not None:
            self._pack()
        normal = self.dirt.pending_bytes
        self.logged_s = stopped_s
        sender.idle(stopped_s + sync_s)
        pipe_s = sender.level_bytes / sender.link
        zero_wire = sender.zero_bytes * ZERO_PAGE_WIRE_BYTES / PAGE_BYTES
        wire = normal * sender.wire_each + zero_wire
        reading_s = normal * sender.wire_each / sender.cpu + zero_wire / sender.zero_cpu
        sender.sent_bytes += wire + costs.device_state_bytes
        return Outage(
            stop_s=sync_s,
            pipe_s=pipe_s,
            last_ram_s=max(wire / sender.link, reading_s - pipe_s),
            device_state_s=costs.device_state_bytes / sender.link + setting.latency_s,
            load_s=costs.load_s + setting.latency_s,
            resume_s=costs.resume_s,
            last_ram_bytes=normal + sender.zero_bytes,
        )

    def _completed(self) -> Forecast:
        outage = self._outage()
        return self._said(Outcome.COMPLETED, self.logged_s + outage.total_s, outage, "")

    def _postcopy(self) -> Forecast:
        """Stop the guest, hand it over as it is, and have the rest follow."""
        sender, setting = self.sender, self.setting
        sent_bytes = sender.sent_bytes
        self._close(0.0)
        whole = self._outage()
        # What lies in the pipe goes before the device state; the pages that are left do not.
        outage = replace(whole, last_ram_s=0.0, last_ram_bytes=0.0)
        follows = postcopy(setting, self.dirt, sender.zero_bytes, preempt=self.preempt)
        sender.sent_bytes = sent_bytes + follows.wire_bytes + setting.costs.device_state_bytes
        self.worked_s += follows.worked_s
        said = self._said(Outcome.COMPLETED, self.logged_s + outage.total_s + follows.span_s, outage, "")
        return replace(said, postcopy_s=follows.span_s)

    def _called_off(self, outcome: Outcome, reason: str) -> Forecast:
        now_s, sent = min(self.sender.now_s, self.setting.limit_s), self.sender.sent_bytes
        said = self._said(outcome, now_s, self._outage(), reason)
        return replace(said, outage=None, transferred_bytes=sent)

    def _said(self, outcome: Outcome, total_s: float, outage: Outage, reason: str) -> Forecast:
        return Forecast(
            outcome=outcome,
            total_s=total_s,
            downtime_s=outage.total_s,
            outage=outage,
            rows=tuple(self.rows),
            transferred_bytes=self.sender.sent_bytes,
            decisions=tuple(self.decisions),
            reason=reason,
            throttle=self.most_throttle,
            work=min(1.0, self.worked_s / total_s) if total_s > 0 else 1.0,
        )

    def _why(self) -> str:
        """Why it did not converge."""
        last, sender = self.rows[-1] if self.rows else None, self.sender
        if last is None:
            left = sender.normal_bytes + sender.zero_bytes
            return f"{left / 1e6:.0f} MB of the first iteration are still to be sent"
        again = last.left_bytes + last.dirtied_bytes
        again_ms, limit_ms = again / last.bandwidth_bytes_per_s * 1e3, sender.limit_s * 1e3
        return (
            f"the last iteration ended with {again / 1e6:.0f} MB dirty, {again_ms:.0f} ms of sending; "
            f"the downtime limit is {limit_ms:.0f} ms"
        )
