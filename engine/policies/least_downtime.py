"""``least_downtime``, the default: as little outage as a few percent of time can buy.

QEMU takes the downtime limit for a permission: it stops the guest as soon as the rest *fits*, and uses all of it. And
what it calls the rest leaves out what was sent and has not arrived (`whimbrel.engine.link`). So, in this order:

1. **Aim low.** The limit starts at 20 ms of link time, not at the greatest downtime. Where the pipe is shallow it may
   be up to 40 ms: there more cannot be won, and time can.
2. **Sync early while there is far to go.** QEMU looks at what the guest dirtied only when the rest is below the
   limit; pages dirtied *before* they are sent in an iteration need not go twice. So where the next iteration is
   certain to be larger than the greatest limit used here, the limit is raised to bring the sync forward.
3. **Stop when iterations stop shrinking**: when a second more would buy less than `worth` seconds of outage, the limit
   goes to what is left, or to the greatest downtime that the user allows: syncs that come earlier find less.
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

from .room import sending_s

WINDOW_S = 0.1
"""QEMU's window (BUFFER_DELAY, migration/migration.c): bandwidth is measured, and portions are sent, once in each."""
ROOM = 0.95
"""A portion leaves 5 % of a window free: for headers, and an estimate that is a little high."""
SURE = 0.97
"""So much of the goodput is counted on when a landing is planned."""
LEAST_THRESHOLD_BYTES = 64 << 10
"""Below the few pages that any guest dirties at once QEMU would sync in a tight loop (81 times in 0.1 s were seen)."""
GREATEST_EARLINESS = 0.5
"""An early sync is asked for at half the iteration at most."""
AFTER_SYNC = 1.25 * WINDOW_S
"""The old threshold stays in force for up to so long after a sync: the next iteration must be larger than that."""
DEEP_FIRST_S, DEEP_LATER_S = 0.04, 0.01
"""A pipe of so many seconds is worth a landing: in the first iteration, and in later ones."""
LANDING_S, GREATEST_COST = 0.15, 0.03
"""A landing takes about 0.15 s; in the first iteration it may be 3 % of the time that has gone by."""
EMPTY_S = 0.006
"""A pipe of so many seconds counts as empty."""
TRICKLE_BYTES = 8 << 10
"""A portion that holds the sender for one window."""
MORE = 1.5
"""A limit at which iterations that stopped shrinking should have ended, and did not, is raised so much at a time."""
LEAST_OUTAGE_S, SHALLOW_OUTAGE_S = 0.02, 0.04
"""The outage aimed at, of link time: with a deep pipe, and at most with a shallow one."""


@dataclass(slots=True)
class _Sync:
    """What the beginning of an iteration showed."""

    at_s: float
    left_s: float
    """What was to be sent, as time on the link."""
    sent_bytes: int
    ratio: float
    """What the iteration before it found newly dirty, per byte that it sent."""


@dataclass(slots=True)
class _Landing:
    """The end of an iteration, sent in portions so that the pipe is empty when the guest stops."""

    first: bool
    """In the first iteration, where the windows were not ours."""
    rest_bytes: float
    """What is to be left when the pipe is empty."""
    portion_bytes: float
    pipe_bytes: float
    at_s: float
    sent_bytes: int


@dataclass(slots=True, kw_only=True)
class LeastDowntime:
    """Hold the limit low, raise it only where that is what it takes, empty the pipe before the stop.

    Attributes:
        outage_s: the outage aimed at, seconds of link time, the fixed cost of a switchover not counted;
            0: 20 to 40 ms, by the depth of the pipe and the downtime allowed.
        worth: seconds of outage that one second more of migration must save, for going on.
        land: whether the pipe is emptied before the stop.
    """

    outage_s: float = 0.0
    worth: float = 0.1
    land: bool = True
    _link: LinkEstimate = field(default_factory=LinkEstimate)
    _syncs: list[_Sync] = field(default_factory=list[_Sync])
    _settled: bool = False
    """The limit has been raised to what is left."""
    _hovering: bool = False
    """Iterations have stopped shrinking once with more left than the downtime allowed."""
    _landing: _Landing | None = None
    _window: tuple[float, float] = (0.0, 0.0)
    """When the present window was seen to begin, and QEMU's measured bandwidth by which that was seen."""
    _before: Observation | None = None

    def __call__(self, seen: Observation) -> Decision:
        """Decide; see the module's text."""
        if seen.reason is Reason.SETUP:
            aim_s = self._aim_s(seen)
            return Decision(
                downtime_limit_s=aim_s,
                bandwidth_bytes_per_s=self._full(seen),
                wake_after_s=0.02,
                because=f"aim at {aim_s * 1e3:.0f} ms, of {seen.objectives.downtime_s * 1e3:.0f} ms allowed",
            )
        if seen.reason is Reason.DEADLINE or self._late(seen):
            self._settled = True
            self._landing = None
            return Decision(
                switch_over=True,
                bandwidth_bytes_per_s=self._full(seen),
                because="the deadline needs all of the downtime allowed",
            )
        # A first iteration may be over before the link is known: the next ones go over the same one.
        learning = seen.iteration <= 1 or self._link.goodput_bytes_per_s is None
        if learning and seen.remaining_bytes > 0 and self._landing is None:
            self._link.add(sending_s(seen), seen.transferred_bytes)
        if _measured(seen) != self._window[1]:
            self._window = (sending_s(seen), _measured(seen))
        goodput = self._link.goodput_bytes_per_s
        if goodput is None:
            decision = Decision(wake_after_s=0.02)
        elif seen.reason is Reason.ITERATION:
            decision = self._at_sync(seen, goodput)
        else:
            decision = self._between(seen, goodput)
        self._before = seen
        return decision

    def _aim_s(self, seen: Observation) -> float:
        """The outage to aim at, seconds of link time."""
        allowed_s = seen.objectives.downtime_s
        if self.outage_s:
            return min(self.outage_s, allowed_s)
        if self._link.goodput_bytes_per_s is None:
            return min(LEAST_OUTAGE_S, allowed_s)
        # A sixth of what is allowed, less the pipe and 10 ms for what a switchover costs in any case.
        wanted_s = allowed_s / 6 - self._link.pipe_s - 0.01
        return min(allowed_s, max(LEAST_OUTAGE_S, min(SHALLOW_OUTAGE_S, wanted_s)))

    # ---- at a sync

    def _at_sync(self, seen: Observation, goodput: float) -> Decision:
        left_s = seen.remaining_bytes / goodput
        sent_before = self._syncs[-1].sent_bytes if self._syncs else 0
        sent = max(1, seen.transferred_bytes - sent_before)
        ratio = max(0.0, seen.remaining_bytes - self._unsent(seen, goodput)) / sent
        self._syncs.append(_Sync(sending_s(seen), left_s, seen.transferred_bytes, ratio))
        self._landing = None
        allowed, aim_s = seen.objectives.downtime_s, self._aim_s(seen)
        settled_before, self._settled = self._settled, self._shrinks_no_more(left_s, aim_s)
        if self._settled:
            # Where that was not enough at the sync before, the link is slower than it was learnt to be: give more.
            least_s = MORE * seen.knobs.downtime_limit_s if settled_before else 0.0
            limit_s = min(allowed, max(1.15 * left_s, least_s))
            self._hovering |= left_s > allowed
            because = f"iterations stop shrinking: {self._syncs[-3].left_s * 1e3:.0f} → {left_s * 1e3:.0f} ms of link"
        else:
            early = (ratio - AFTER_SYNC / max(left_s, 1e-6)) / (ratio + 0.1)
            early = min(max(early, 0.0), GREATEST_EARLINESS)
            limit_s = max(aim_s, min(allowed, early * left_s))
            because = f"{left_s * 1e3:.0f} ms of link to send, {ratio:.2f} dirtied per byte sent"
            if early * left_s > aim_s:
                because += ": sync early"
            if self._hovering:  # by itself it gets no better: the first quiet moment in which the rest fits is taken
                limit_s = allowed
        return Decision(
            downtime_limit_s=limit_s,
            bandwidth_bytes_per_s=self._full(seen),
            wake_after_s=self._cadence(seen, goodput),
            because=because,
        )

    def _unsent(self, seen: Observation, goodput: float) -> float:
        """What the iteration before left unsent: it was in the rest already and is not newly dirty."""
        if self._landing is not None:
            return 0.0
        before = self._before or seen
        passed_s = sending_s(seen) - sending_s(before)
        expected = max(0.0, before.remaining_bytes - goodput * passed_s)
        return min(expected, seen.knobs.downtime_limit_s * goodput)

    def _shrinks_no_more(self, left_s: float, aim_s: float) -> bool:
        if len(self._syncs) < 3 or left_s <= aim_s:
            return False
        first, last = self._syncs[-3], self._syncs[-1]
        return first.left_s - last.left_s < self.worth * (last.at_s - first.at_s)

    # ---- between syncs

    def _between(self, seen: Observation, goodput: float) -> Decision:
        portion: float | None = None
        if self._landing is not None:
            portion = self._next_portion(seen, goodput, self._landing)
        elif self._may_land(seen, goodput):
            begin = self._begin_first if seen.iteration <= 1 else self._begin_later
            portion = begin(seen, goodput)
        cadence_s = self._cadence(seen, goodput)
        if portion is None:
            return Decision(wake_after_s=cadence_s)
        # A limit at which QEMU does not switch over before the portions are out.
        limit_s = LEAST_THRESHOLD_BYTES * WINDOW_S / max(portion, 0.3 * self._aim_s(seen) * goodput)
        left, pipe_ms = seen.remaining_bytes >> 10, self._link.pipe_s * 1e3
        return Decision(
            downtime_limit_s=min(seen.objectives.downtime_s, limit_s),
            bandwidth_bytes_per_s=self._rate(seen, portion),
            wake_after_s=cadence_s,
            because=f"landing: {left} KiB left, the pipe holds {pipe_ms:.0f} ms, next portion {portion / 1024:.0f} KiB",
        )

    def _may_land(self, seen: Observation, goodput: float) -> bool:
        if not self.land or self._settled:
            return False
        allowed = seen.objectives.bandwidth_bytes_per_s
        if allowed and goodput > ROOM * allowed:
            return False  # the user's bound is what slows it, not the link: the pipe does not fill
        pipe_s = self._link.pipe_s
        if seen.iteration <= 1 or not self._syncs:
            return seen.iteration <= 1 and pipe_s >= DEEP_FIRST_S
        # Only in what is likely to be the last iteration, and where draining costs less than it gains.
        ratio = max(sync.ratio for sync in self._syncs[-2:])
        last = ratio * (self._syncs[-1].left_s + LANDING_S) <= 1.5 * self._aim_s(seen)
        return last and pipe_s >= DEEP_LATER_S and ratio <= 0.8 * pipe_s / (pipe_s + WINDOW_S)

    def _begin_first(self, seen: Observation, goodput: float) -> float | None:
        """The end of the first iteration: a stream whose portions were not ours, so the pipe has to be followed."""
        if GREATEST_COST * sending_s(seen) + 0.01 < LANDING_S:
            return None
        rest, room, pipe = 1.3 * self._aim_s(seen) * goodput, ROOM * WINDOW_S * goodput, self._link.pipe_bytes
        portions = max(1, math.ceil(pipe / room))
        # Where in its window the sender is is not known: half a portion is the best guess.
        begin_at = (portions + 0.5) * room - pipe + rest
        if not rest <= seen.remaining_bytes <= begin_at:
            return None
        return self._begin(seen, first=True, rest=rest, portion=min(room, seen.remaining_bytes - rest))

    def _begin_later(self, seen: Observation, goodput: float) -> float | None:
        """The end of a short iteration: portions of this window and the next, so that the last finds the pipe empty."""
        room, pipe = ROOM * WINDOW_S * goodput, self._link.pipe_bytes
        rest = max(64 << 10, 0.002 * goodput)
        to_send = seen.remaining_bytes - rest
        if seen.remaining_bytes < 0.3 * room:
            return None
        phase_s = min(WINDOW_S, max(0.0, sending_s(seen) - self._window[0]))
        used = goodput * phase_s
        for windows in range(1, 3 if self._link.pipe_s < WINDOW_S else 4):
            portion = (to_send + used) / (windows + 1)
            if portion < used:
                portion = to_send / windows
            carried = SURE * goodput * (WINDOW_S - phase_s + windows * WINDOW_S)
            if portion <= room and pipe + to_send <= carried:
                return self._begin(seen, first=False, rest=rest, portion=portion)
        return None

    def _begin(self, seen: Observation, *, first: bool, rest: float, portion: float) -> float:
        self._landing = _Landing(
            first=first,
            rest_bytes=rest,
            portion_bytes=portion,
            pipe_bytes=self._link.pipe_bytes,
            at_s=sending_s(seen),
            sent_bytes=seen.transferred_bytes,
        )
        return portion

    def _next_portion(self, seen: Observation, goodput: float, landing: _Landing) -> float | None:
        """The portion for the windows to come, where it is to be another one than now."""
        at_s = sending_s(seen)
        sent = seen.transferred_bytes - landing.sent_bytes
        landing.pipe_bytes = max(0.0, landing.pipe_bytes - goodput * (at_s - landing.at_s) + sent)
        landing.at_s, landing.sent_bytes = at_s, seen.transferred_bytes
        into_s = at_s - self._window[0]
        # What the next window's burst will find in the pipe.
        in_the_way = max(0.0, landing.pipe_bytes - goodput * max(0.0, WINDOW_S - into_s))
        choose = self._portion_first if landing.first else self._portion_later
        wanted = choose(seen.remaining_bytes, goodput, landing, in_the_way, into_s, sent)
        if wanted is not None:
            landing.portion_bytes = wanted
        return wanted

    def _portion_first(
        self, left: int, goodput: float, landing: _Landing, in_the_way: float, into_s: float, sent: int
    ) -> float | None:
        rest, portion = landing.rest_bytes, landing.portion_bytes
        if left > 1.6 * rest:
            wanted = min(portion, left - rest)
        elif in_the_way > EMPTY_S * goodput:
            wanted = min(portion, TRICKLE_BYTES)
        elif left > 0.75 * rest or portion < left / 2:
            wanted = left / 2
        else:
            return None
        # Raised again only well after this window's burst, so that it counts for the next window.
        held = portion <= TRICKLE_BYTES < wanted and into_s > 0.3 * WINDOW_S
        return wanted if wanted < 0.9 * portion or held else None

    def _portion_later(
        self, left: int, goodput: float, landing: _Landing, in_the_way: float, into_s: float, sent: int
    ) -> float | None:
        """Planned anew while QEMU sleeps, its portion sent."""
        if sent or left < 2.5 * landing.rest_bytes or into_s < 0.1 * WINDOW_S:
            return None
        to_send, room = left - landing.rest_bytes, ROOM * WINDOW_S * goodput
        by_room, by_pipe = to_send / room, (in_the_way + to_send) / (SURE * goodput * WINDOW_S)
        wanted = to_send / max(1, math.ceil(max(by_room, by_pipe)))
        return wanted if abs(wanted - landing.portion_bytes) >= 0.05 * landing.portion_bytes else None

    # ---- small things

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


def _measured(seen: Observation) -> float:
    return seen.samples[-1].bandwidth_bytes_per_s if seen.samples else 0.0
