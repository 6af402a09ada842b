"""``least_downtime``, the default: as little outage as a few percent of time can buy.

QEMU takes the downtime limit for a permission: it stops the guest as soon as the rest *fits*, and uses all of it. And
what it calls the rest leaves out what was sent and has not arrived (`whimbrel.engine.link`). So, in this order:

1. **Aim low.** The limit starts at `outage_s` of link time, not at the greatest downtime.
2. **Sync early while there is far to go.** QEMU looks at what the guest dirtied only when the rest is below the
   limit; pages dirtied *before* they are sent in an iteration need not go twice. So where the next iteration is
   certain to be larger than the greatest limit used here, the limit is raised to bring the sync forward.
3. **Stop when iterations stop shrinking**: when a second more would buy less than `worth` seconds of outage, the limit
   goes to what is left, if the user's greatest downtime allows it.
4. **Land.** Where the pipe is deep, the last iteration is sent in ever smaller portions, slower than the link, so
   that the pipe has run empty when the guest stops. QEMU sends in windows of 100 ms, each portion as one burst at the
   window's start: a bandwidth of ``q / 100 ms`` is a portion of q bytes. While the pipe drains the link is busy, so
   that costs next to nothing.
5. When the deadline passes, or the next iteration would end after it, all of the downtime allowed is given.

The constants were found on QEMU 7.2 at 200 Mbit/s and 1 Gbit/s (benchmarks/README.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.policy import Decision, Observation, Reason

WINDOW_S = 0.1
"""QEMU's window (BUFFER_DELAY, migration/migration.c): bandwidth is measured, and portions are sent, once in each."""
ROOM = 0.95
"""A portion leaves 5 % of a window free: for headers, and an estimate that is a little high."""
LEAST_THRESHOLD_BYTES = 128 << 10
"""Below a few pages QEMU would sync in a tight loop (81 times in 0.1 s were seen)."""
GREATEST_EARLINESS = 0.5
"""An early sync is asked for at half the iteration at most."""
DEEP_FIRST_S, DEEP_LATER_S = 0.04, 0.01
"""A pipe of so many seconds is worth a landing: in the first iteration, and in later ones."""
LANDING_COST_S, GREATEST_COST = 0.15, 0.03
"""A landing takes about 0.15 s; it may be 3 % of the time that has gone by."""
EMPTY_S = 0.006
"""A pipe of so many seconds counts as empty."""
TRICKLE_BYTES = 8 << 10
"""A portion that holds the sender for one window."""


@dataclass(slots=True)
class _Sync:
    """What the beginning of an iteration showed."""

    at_s: float
    left_s: float
    """What was to be sent, as time on the link."""
    sent_bytes: int


@dataclass(slots=True)
class _Landing:
    """A landing in the first iteration."""

    rest_bytes: float
    """What is to be left when the pipe is empty."""
    portion_bytes: float
    pipe_bytes: float
    window_began_s: float
    bandwidth_bytes_per_s: float
    """QEMU's measured figure: when it changes, a window has begun."""
    at_s: float
    sent_bytes: int
    landed: bool = False


@dataclass(slots=True, kw_only=True)
class LeastDowntime:
    """Hold the limit low, raise it only where that is what it takes, empty the pipe before the stop.

    Attributes:
        outage_s: the outage aimed at, seconds of link time; the fixed cost of a switchover comes on top.
        worth: seconds of outage that one second more of migration must save, for going on.
        land: whether the pipe is emptied before the stop.
    """

    outage_s: float = 0.02
    worth: float = 0.05
    land: bool = True
    _link: LinkEstimate = field(default_factory=LinkEstimate)
    _syncs: list[_Sync] = field(default_factory=list[_Sync])
    _ratio: float | None = None
    """What the last iteration found newly dirty, per byte that it sent."""
    _settled: bool = False
    """The limit has been raised to what is left."""
    _landing: _Landing | None = None
    _slowed: bool = False
    _before: Observation | None = None

    def __call__(self, seen: Observation) -> Decision:
        """Decide; see the module's text."""
        if seen.reason is Reason.SETUP:
            return Decision(
                downtime_limit_s=min(self.outage_s, seen.objectives.downtime_s),
                bandwidth_bytes_per_s=self._full(seen),
                wake_after_s=0.02,
                because=f"aim at {self.outage_s * 1e3:.0f} ms, of {seen.objectives.downtime_s * 1e3:.0f} ms allowed",
            )
        if seen.reason is Reason.DEADLINE or self._late(seen):
            self._settled = True
            self._landing = None
            return Decision(
                switch_over=True,
                bandwidth_bytes_per_s=self._full(seen),
                because="the deadline needs all of the downtime allowed",
            )
        if seen.iteration <= 1 and seen.remaining_bytes > 0 and not self._slowed:
            self._link.add(_sending_s(seen), seen.transferred_bytes)
        goodput = self._link.goodput_bytes_per_s
        if goodput is None:
            decision = Decision(wake_after_s=0.02)
        elif seen.reason is Reason.ITERATION:
            decision = self._at_sync(seen, goodput)
        else:
            decision = self._between(seen, goodput)
        self._before = seen
        return decision

    # ---- at a sync

    def _at_sync(self, seen: Observation, goodput: float) -> Decision:
        left_s = seen.remaining_bytes / goodput
        sent_before = self._syncs[-1].sent_bytes if self._syncs else 0
        sent = max(1, seen.transferred_bytes - sent_before)
        self._ratio = max(0.0, seen.remaining_bytes - self._unsent(seen, goodput)) / sent
        self._syncs.append(_Sync(_sending_s(seen), left_s, seen.transferred_bytes))
        self._landing, self._slowed = None, False
        allowed = seen.objectives.downtime_s
        self._settled = self._shrinks_no_more(left_s, allowed)
        if self._settled:
            limit_s = min(allowed, 1.15 * left_s)
            because = f"iterations stop shrinking: {self._syncs[-3].left_s * 1e3:.0f} → {left_s * 1e3:.0f} ms of link"
        else:
            early = (self._ratio - 0.75 * WINDOW_S / max(left_s, 1e-6)) / (self._ratio + 0.1)
            early = min(max(early, 0.0), GREATEST_EARLINESS)
            limit_s = max(self.outage_s, min(allowed, early * left_s))
            because = f"{left_s * 1e3:.0f} ms of link to send, {self._ratio:.2f} dirtied per byte sent"
            if early * left_s > self.outage_s:
                because += ": sync early"
        return Decision(
            downtime_limit_s=min(limit_s, allowed),
            bandwidth_bytes_per_s=self._full(seen),
            wake_after_s=self._cadence(seen, goodput),
            because=because,
        )

    def _unsent(self, seen: Observation, goodput: float) -> float:
        """What the iteration before left unsent: it was in the rest already and is not newly dirty."""
        if self._landing is not None:
            return 0.0
        before = self._before or seen
        passed_s = _sending_s(seen) - _sending_s(before)
        expected = max(0.0, before.remaining_bytes - goodput * passed_s)
        return min(expected, seen.knobs.downtime_limit_s * goodput)

    def _shrinks_no_more(self, left_s: float, allowed_s: float) -> bool:
        if len(self._syncs) < 3 or not self.outage_s < left_s <= allowed_s:
            return False
        first, last = self._syncs[-3], self._syncs[-1]
        return first.left_s - last.left_s < self.worth * (last.at_s - first.at_s)

    # ---- between syncs

    def _between(self, seen: Observation, goodput: float) -> Decision:
        decision = Decision()
        if self._landing is not None:
            decision = self._continue_landing(seen, goodput, self._landing)
        elif self._may_land(seen, goodput):
            begin = self._begin_first if seen.iteration <= 1 else self._begin_later
            decision = begin(seen, goodput) or decision
        return Decision(
            downtime_limit_s=decision.downtime_limit_s,
            bandwidth_bytes_per_s=decision.bandwidth_bytes_per_s,
            wake_after_s=self._cadence(seen, goodput),
            because=decision.because,
        )

    def _may_land(self, seen: Observation, goodput: float) -> bool:
        if not self.land or self._settled or self._slowed:
            return False
        allowed = seen.objectives.bandwidth_bytes_per_s
        if allowed and goodput > ROOM * allowed:
            return False  # the user's bound is what slows it, not the link: the pipe does not fill
        pipe_s = self._link.pipe_s
        if seen.iteration <= 1:
            return pipe_s >= DEEP_FIRST_S
        # Later only where the next iteration is likely to be the last: what is dirtied during a landing must be little.
        return pipe_s >= DEEP_LATER_S and self._ratio is not None and self._ratio <= 0.8 * pipe_s / (pipe_s + WINDOW_S)

    def _begin_first(self, seen: Observation, goodput: float) -> Decision | None:
        """The end of the first iteration: a stream whose portions were not ours, so the pipe has to be followed."""
        if GREATEST_COST * _sending_s(seen) + 0.01 < LANDING_COST_S:
            return None
        rest, room, pipe = 1.3 * self.outage_s * goodput, ROOM * WINDOW_S * goodput, self._link.pipe_bytes
        portions = max(1, math.ceil(pipe / room))
        # Where in its window the sender is is not known: half a portion is the best guess.
        begin_at = (portions + 0.5) * room - pipe + rest
        if not rest <= seen.remaining_bytes <= begin_at:
            return None
        portion = min(room, seen.remaining_bytes - rest)
        self._slowed = True
        self._landing = _Landing(
            rest_bytes=rest,
            portion_bytes=portion,
            pipe_bytes=pipe,
            window_began_s=_sending_s(seen),
            bandwidth_bytes_per_s=_measured(seen),
            at_s=_sending_s(seen),
            sent_bytes=seen.transferred_bytes,
        )
        return self._portion(seen, portion, f"landing: {self._link.pipe_s * 1e3:.0f} ms are in the pipe")

    def _begin_later(self, seen: Observation, goodput: float) -> Decision | None:
        """The end of a short iteration: two or more equal portions let the pipe run empty."""
        room, pipe = ROOM * WINDOW_S * goodput, self._link.pipe_bytes
        portions = 2 if pipe < 1.5 * room else int(pipe / room) + 2
        if not 0.3 * room < seen.remaining_bytes <= portions * room - pipe:
            return None
        last = max(64 << 10, 0.002 * goodput)
        portions = max(1, math.ceil((pipe + seen.remaining_bytes - last) / room))
        portion = (seen.remaining_bytes - last) / portions
        self._slowed = True
        # The threshold is measured with the portion, which is less than the link takes in a window.
        stretch = min(goodput * WINDOW_S / portion, 1.5)
        return Decision(
            downtime_limit_s=min(seen.objectives.downtime_s, 1.5 * self.outage_s * stretch),
            bandwidth_bytes_per_s=self._rate(seen, portion),
            because=f"landing: {portions} portions, {self._link.pipe_s * 1e3:.0f} ms are in the pipe",
        )

    def _continue_landing(self, seen: Observation, goodput: float, landing: _Landing) -> Decision:
        at_s = _sending_s(seen)
        drained = goodput * (at_s - landing.at_s)
        landing.pipe_bytes = max(0.0, landing.pipe_bytes - drained + seen.transferred_bytes - landing.sent_bytes)
        landing.at_s, landing.sent_bytes = at_s, seen.transferred_bytes
        if _measured(seen) != landing.bandwidth_bytes_per_s:
            landing.bandwidth_bytes_per_s, landing.window_began_s = _measured(seen), at_s
        if landing.landed:
            return Decision()
        to_window_s = max(0.0, landing.window_began_s + WINDOW_S - at_s)
        in_the_way = landing.pipe_bytes - goodput * to_window_s
        rest, left, portion = landing.rest_bytes, seen.remaining_bytes, landing.portion_bytes
        if left > 1.6 * rest:
            wanted = min(portion, left - rest)
        elif in_the_way > EMPTY_S * goodput:
            wanted = min(portion, TRICKLE_BYTES)
        elif left > 0.75 * rest:
            wanted = left / 2
        else:
            landing.landed = True
            limit_s = 1.5 * self.outage_s * goodput * WINDOW_S / portion
            return Decision(
                downtime_limit_s=min(seen.objectives.downtime_s, limit_s), because="landed: the pipe is empty"
            )
        # Raised again only well after this window's burst, so that it counts for the next window.
        held = portion <= TRICKLE_BYTES < wanted and at_s - landing.window_began_s > 0.3 * WINDOW_S
        if wanted < 0.9 * portion or held:
            landing.portion_bytes = wanted
            return self._portion(seen, wanted, f"landing: {left >> 10} KiB left, next portion {wanted / 1024:.0f} KiB")
        return Decision()

    # ---- small things

    def _portion(self, seen: Observation, portion_bytes: float, because: str) -> Decision:
        """A portion for the windows to come, with a limit at which QEMU does not switch over yet."""
        limit_s = LEAST_THRESHOLD_BYTES * WINDOW_S / portion_bytes
        return Decision(
            downtime_limit_s=min(seen.objectives.downtime_s, limit_s),
            bandwidth_bytes_per_s=self._rate(seen, portion_bytes),
            because=because,
        )

    def _rate(self, seen: Observation, portion_bytes: float) -> int:
        rate = max(1, round(portion_bytes / WINDOW_S))
        allowed = self._full(seen)
        return min(rate, allowed) if allowed else rate

    @staticmethod
    def _full(seen: Observation) -> int:
        """All that the user allows; 0: no bound."""
        return seen.objectives.bandwidth_bytes_per_s or 0

    def _late(self, seen: Observation) -> bool:
        deadline_s, goodput = seen.objectives.deadline_s, self._link.goodput_bytes_per_s
        if deadline_s is None or goodput is None or seen.reason is not Reason.ITERATION:
            return False
        return seen.elapsed_s + seen.remaining_bytes / goodput > deadline_s

    def _cadence(self, seen: Observation, goodput: float) -> float:
        """How soon to look again: seldom while there is far to go, every 10 ms in a landing."""
        ahead_s = seen.remaining_bytes / goodput - seen.objectives.downtime_s
        if ahead_s > 0.5:
            return 0.1
        return 0.01 if self._landing is not None or (ahead_s < 0.1 and self._may_land(seen, goodput)) else 0.025


def _sending_s(seen: Observation) -> float:
    """Seconds since the transfer began, by QEMU's own clock where it tells."""
    last = seen.samples[-1] if seen.samples else None
    if last is None or last.qemu_total_s is None:
        return seen.elapsed_s
    return last.qemu_total_s - (last.setup_s or 0.0)


def _measured(seen: Observation) -> float:
    return seen.samples[-1].bandwidth_bytes_per_s if seen.samples else 0.0
