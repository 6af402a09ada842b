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

from dataclasses import dataclass, field, replace

from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.policy import Decision, Observation, Reason

from .landing import LANDING_S, WINDOW_S, Landing
from .room import sending_s

GREATEST_EARLINESS = 0.5
"""An early sync is asked for at half the iteration at most."""
AFTER_SYNC = 1.25 * WINDOW_S
"""The old threshold stays in force for up to so long after a sync: the next iteration must be larger than that."""
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
    _landing: Landing = field(init=False)
    _before: Observation | None = None

    def __post_init__(self) -> None:
        self._landing = Landing(self._link)

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
            self._landing.end()
            return Decision(
                switch_over=True,
                bandwidth_bytes_per_s=self._full(seen),
                because="the deadline needs all of the downtime allowed",
            )
        # A first iteration may be over before the link is known: the next ones go over the same one.
        learning = seen.iteration <= 1 or self._link.goodput_bytes_per_s is None
        if learning and seen.remaining_bytes > 0 and not self._landing.under_way:
            self._link.add(sending_s(seen), seen.transferred_bytes)
        self._landing.watch(seen)
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
        self._landing.end()
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
        if self._landing.under_way:
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
        under_way = self._landing.under_way
        may_begin = not under_way and self._may_land(seen)
        landing = self._landing.decide(seen, self._aim_s(seen), may_begin=may_begin)
        return replace(landing or Decision(), wake_after_s=self._cadence(seen, goodput))

    def _may_land(self, seen: Observation) -> bool:
        if not self.land or self._settled:
            return False
        if seen.iteration <= 1 or not self._syncs:
            return seen.iteration <= 1 and self._landing.gains(seen, None)
        # Only in what is likely to be the last iteration.
        ratio = max(sync.ratio for sync in self._syncs[-2:])
        last = ratio * (self._syncs[-1].left_s + LANDING_S) <= 1.5 * self._aim_s(seen)
        return last and self._landing.gains(seen, ratio)

    @staticmethod
    def _full(seen: Observation) -> int:
        """All that the user allows; 0: no bound."""
        return seen.objectives.bandwidth_bytes_per_s or 0

    # ---- small things

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
        return 0.01 if self._landing.under_way or (ahead_s < 0.1 and self._may_land(seen)) else 0.025
