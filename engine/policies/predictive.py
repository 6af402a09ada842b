"""``predictive``: follows every way that it may take to the end, at each pass anew, and takes the cheapest that will do.

1. **Learn** (`predictive_knowledge`). The first 0.7 s tell the link and its pipe. Each pass is a point of the dirty
   curve, put there at the guest's own time; what was measured before the start is, too. What was foretold of a pass is
   compared with what came of it, and the margin grows and shrinks with that.
2. **Follow** (`predictive_ways`). From where the migration stands: stop the guest now, or after so many passes more, or
   as soon as the rest fits; slow it by so much, now or later; go over to post-copy now or later; pause it. Each way has
   its time, its outage and the guest-seconds that it loses.
3. **Choose.** Of the ways that keep to the downtime and the deadline the one that costs least: its time, and the
   guest-seconds that are lost, weighed by `worth`. Where none keeps to them, the one that misses least, of those that
   the user allows; giving up comes last.
4. **Hold the moment.** The limit stays so low that QEMU does not stop the guest by itself unless next to nothing is
   dirty, and is raised at the moment at which the rest fits; what of the downtime goes for the pipe and for switching
   over is left out of it. QEMU looks at what is really left, and does not stop the guest if that is more.

It is asked at syncs, and between them only when something is due: that is what makes it quick to forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from whimbrel.engine.pilot import GREATEST_WAKE_S, LEAST_WAKE_S, POSTCOPY
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative
from .permits import why_no_postcopy
from .predictive_brake import Brake
from .predictive_knowledge import Knowledge, own_s
from .predictive_ways import Means, Prospect, Way, page_s, throttles
from .room import FIXED_S, LEAST_PART

PREEMPT = "postcopy-preempt"
HOLD_S = 0.02
"""The limit while waiting: the outage of a guest that dirties next to nothing."""
LEARN_EVERY_S = 0.06
"""How often to look while the link is being learnt: about a dozen times."""
AIM = 0.85
"""A rest that is only foretold is to come to no more than this part of what the goal leaves."""
AHEAD_S = 0.06
"""QEMU heeds a new limit at the end of its window: it is raised so much ahead."""
ROUND_TRIP_S = 0.0006
"""What asking for a page takes besides sending it."""
CALM = 1.5
"""Under QEMU's own throttle vCPUs sleep no longer than what the rest may take, over this."""
VAIN_AFTER = 6
"""Syncs without progress after which what costs most to the guest is done: a pause, or giving up."""
PROGRESS = 0.95
"""A sync that finds more than this part of the least that any found before is none."""


@dataclass(slots=True, kw_only=True)
class Predictive:
    """Foresee what each permitted action comes to, and take the cheapest that meets the objectives.

    Attributes:
        throttle: whether the guest may be slowed; besides the objectives' permission, as with the next two.
        postcopy: whether it may go over to post-copy.
        pause: whether the guest may be paused.
        xbzrle: whether to ask for XBZRLE.
        multifd: channels of multifd to ask for, 0: none. Post-copy can't be had then.
        fixed_s: what a switchover takes with nothing left to send and an empty pipe, seconds.
        worth: guest-seconds that one second of migration less may cost.
        measure_s: a window in which the guest is measured before the start, seconds; 0: none.

    Raises:
        BadInput: a parameter makes no sense.
    """

    throttle: bool = True
    postcopy: bool = True
    pause: bool = True
    xbzrle: bool = False
    multifd: int = 0
    fixed_s: float = FIXED_S
    worth: float = 1.0
    measure_s: float = 0.0
    _known: Knowledge = field(default_factory=Knowledge, init=False)
    _brake: Brake = field(init=False)
    _why_no_postcopy: str = field(default="", init=False)
    _begun: Observation | None = field(default=None, init=False)
    """As the pass under way began."""
    _slowed_by: float = field(default=0.0, init=False)
    """The most that slowed the guest in it."""
    _measured: bool = field(default=False, init=False)
    _over: bool = field(default=False, init=False)
    """There is nothing left to decide."""
    _least_bytes: int = field(default=0, init=False)
    """The least that any sync has found."""
    _vain: int = field(default=0, init=False)
    """Syncs since then."""

    def __post_init__(self) -> None:
        not_negative(fixed_s=self.fixed_s, measure_s=self.measure_s, multifd=self.multifd)
        above_zero(worth=self.worth)
        self._brake = Brake(allowed=self.throttle)

    def __call__(self, seen: Observation) -> Decision:
        """Decide; see the module's text."""
        if seen.reason is Reason.SETUP:
            return self._setup(seen)
        if self._over:
            return Decision()
        if self._begun is None:
            self._begun = seen
        self._known.look(seen)
        if seen.reason is Reason.DEADLINE:
            return self._late(seen)
        in_force = self._brake.in_force(seen)
        if seen.reason is Reason.ITERATION:
            self._known.sync(self._begun, seen, max(self._slowed_by, in_force))
            self._begun, self._slowed_by = seen, 0.0
            self._keep_count(seen)
        self._slowed_by = max(self._slowed_by, in_force)
        if not self._known.guest_known or not seen.remaining_bytes:
            return Decision(wake_after_s=GREATEST_WAKE_S if self._known.link_known else LEARN_EVERY_S)
        return self._decide(seen)

    def _setup(self, seen: Observation) -> Decision:
        if self.measure_s > 0 and seen.abilities.measuring and not self._measured:
            self._measured = True
            return Decision(measure_s=(self.measure_s,), because=f"measure what is dirtied in {self.measure_s:g} s")
        self._known.measured(seen)
        wanted: dict[str, bool] = {}
        self._why_no_postcopy = why_no_postcopy(seen) if self.postcopy else "told not to"
        if self.multifd:
            wanted["multifd"] = True
            self._why_no_postcopy = self._why_no_postcopy or "it does not go with multifd"
        if self.xbzrle:
            wanted["xbzrle"] = True
        if not self._why_no_postcopy:
            wanted[POSTCOPY] = True
            if PREEMPT in seen.abilities.capabilities:
                wanted[PREEMPT] = True
        decision = Decision(
            downtime_limit_s=min(HOLD_S, seen.objectives.downtime_s),
            bandwidth_bytes_per_s=seen.objectives.bandwidth_bytes_per_s or 0,
            multifd_channels=self.multifd or None,
            capabilities=wanted,
            wake_after_s=LEARN_EVERY_S,
        )
        decision, slowing = self._brake.setup(seen, decision)
        after = f"no post-copy: {self._why_no_postcopy}" if self._why_no_postcopy else "post-copy"
        return replace(decision, because=f"learn link and guest first; means: {slowing}; {after}")

    def _keep_count(self, seen: Observation) -> None:
        if not self._least_bytes or seen.remaining_bytes < PROGRESS * self._least_bytes:
            self._least_bytes, self._vain = seen.remaining_bytes, 0
        else:
            self._vain += 1

    # ---- what there is to choose from

    def _after_s(self) -> float:
        return self._known.pipe_s + self.fixed_s

    def _room_s(self, seen: Observation) -> float:
        """What the greatest downtime leaves for the rest."""
        goal_s = seen.objectives.downtime_s
        return max(LEAST_PART * goal_s, goal_s - self._after_s())

    def _prospect(self, seen: Observation) -> Prospect:
        assert self._begun is not None
        known = self._known
        curve, rate = known.curve(seen), known.bytes_per_s(seen)
        at, high = curve.at, 1.0 + known.doubt
        one_s = page_s(rate)
        preempts = PREEMPT in seen.abilities.capabilities
        return Prospect(
            dirty_s=lambda own_s: high * at(own_s) / rate,
            most_s=at(1e6) / rate,
            left_s=seen.remaining_bytes / rate,
            ran_s=own_s(known, self._begun, seen, self._slowed_by),
            limit_s=self._room_s(seen),
            room_s=AIM * self._room_s(seen),
            after_s=self._after_s(),
            fault_s=one_s + ROUND_TRIP_S + (0.0 if preempts else known.pipe_s),
            page_s=one_s,
            headroom=known.headroom,
            slice_s=self._brake.slice_s(seen),
        )

    def _ways(self, seen: Observation, prospect: Prospect) -> Iterator[Way]:
        """All that may be taken."""
        in_force = self._brake.in_force(seen)
        if not in_force:
            yield from prospect.plain()
            if (often := prospect.eager()) is not None:
                yield often
        least = 0 if in_force else self._brake.least_waits(seen)
        for waits in (0,) if in_force else (least, least + 1):
            for throttle in throttles(self._greatest(seen, prospect)):
                if throttle > in_force and (way := prospect.slowed(throttle, waits)) is not None:
                    yield way
        if in_force and (way := prospect.slowed(in_force, 0)) is not None:
            yield way
        if not self._why_no_postcopy:
            yield prospect.postcopy(0)
            yield prospect.postcopy(1)

    def _greatest(self, seen: Observation, prospect: Prospect) -> float:
        """The most to take: QEMU's own can't be eased for the stop, and each sync waits until every vCPU has woken."""
        greatest = self._brake.greatest(seen)
        if self._brake.from_outside(seen):
            return greatest
        return min(greatest, max(0.0, 1.0 - CALM * prospect.slice_s / prospect.room_s))

    # ---- what is chosen

    def _miss(self, seen: Observation, way: Way) -> float:
        """The greater of outage over the greatest downtime, and time over the deadline; up to 1 it will do."""
        goal = seen.objectives
        late = 0.0 if goal.deadline_s is None else (seen.elapsed_s + way.total_s) / goal.deadline_s
        return max(way.outage_s / goal.downtime_s, late)

    def _choose(self, seen: Observation, ways: Sequence[Way]) -> Way | None:
        """The way to take; ``None``: there is none that is allowed."""
        good = [way for way in ways if self._miss(seen, way) <= 1.0]
        if good:
            return min(good, key=lambda way: self.worth * way.total_s + way.lost_s)
        goal = seen.objectives
        may_pause = self.pause and goal.may_pause and (self._vain >= VAIN_AFTER or goal.deadline_s is not None)
        allowed = [way for way in ways if way.outage_s <= goal.downtime_s or way.means is not Means.STOP or may_pause]
        return min(allowed, key=lambda way: self._miss(seen, way), default=None)

    def _decide(self, seen: Observation) -> Decision:
        prospect = self._prospect(seen)
        ways = tuple(self._ways(seen, prospect))
        best = self._choose(seen, ways)
        because = self._compared(seen, best, ways)
        if best is None:
            return self._hope(seen, because)
        if best.means is Means.POSTCOPY and not best.waits:
            self._over = True
            return self._brake.take(seen, 0.0, Decision(start_postcopy=True, because=because))
        if best.means is Means.EAGER:
            return Decision(downtime_limit_s=self._room_s(seen), wake_after_s=GREATEST_WAKE_S, because=because)
        if best.means is Means.STOP and not best.waits and best.stops_s <= AHEAD_S:
            return self._stop(seen, best, because)
        throttle = best.throttle if best.means is Means.THROTTLE else 0.0
        due_s = best.stops_s - AHEAD_S if not best.waits else GREATEST_WAKE_S
        if best.means is Means.THROTTLE and not best.waits and best.stops_s <= AHEAD_S:
            limit_s = self._room_s(seen)
        else:
            limit_s = min(HOLD_S, seen.objectives.downtime_s)
        decision = Decision(downtime_limit_s=limit_s, wake_after_s=self._wake_s(seen, prospect, due_s), because=because)
        return self._brake.take(seen, throttle, decision, waits=best.waits)

    def _wake_s(self, seen: Observation, prospect: Prospect, due_s: float) -> float:
        if seen.objectives.deadline_s is not None:
            due_s = min(due_s, prospect.left_s / 2 + 0.05)
        return min(GREATEST_WAKE_S, max(LEAST_WAKE_S, due_s))

    def _stop(self, seen: Observation, best: Way, because: str) -> Decision:
        if best.outage_s > seen.objectives.downtime_s:
            self._over = True
            return self._brake.take(seen, 0.0, Decision(pause=True, because=because))
        return Decision(downtime_limit_s=self._room_s(seen), wake_after_s=GREATEST_WAKE_S, because=because)

    def _hope(self, seen: Observation, because: str) -> Decision:
        """Nothing that is allowed will do: the first quiet moment in which the rest fits is taken."""
        if seen.objectives.may_abort and self._vain >= 10 * VAIN_AFTER:
            self._over = True
            return Decision(abort=True, because=because)
        return Decision(downtime_limit_s=self._room_s(seen), wake_after_s=GREATEST_WAKE_S, because=because)

    def _late(self, seen: Observation) -> Decision:
        """The deadline has passed: whatever ends it soonest."""
        self._over = True
        if not self._why_no_postcopy and seen.iteration >= 1:
            return self._brake.take(seen, 0.0, Decision(start_postcopy=True, because="late: post-copy ends it soonest"))
        pause = self.pause and seen.objectives.may_pause
        decision = Decision(switch_over=True, pause=pause, because="late: all of the downtime allowed")
        return self._brake.take(seen, self._brake.greatest(seen), decision)

    # ---- what is said

    def _compared(self, seen: Observation, best: Way | None, ways: Sequence[Way]) -> str:
        parts = [_said(best)] if best is not None else ["nothing that is allowed meets the objectives"]
        for means in Means:
            others = [way for way in ways if way.means is means]
            if others and (best is None or means is not best.means):
                met = [way for way in others if self._miss(seen, way) <= 1.0]
                if met:
                    parts.append(_said(min(met, key=lambda way: self.worth * way.total_s + way.lost_s)))
                else:
                    least = min(way.outage_s for way in others)
                    parts.append(f"{'waiting' if means is Means.STOP else means.value}: outage never below {least:.2f} s")
        return "; ".join(parts)


def _said(way: Way) -> str:
    what = f"throttle {way.throttle:.0%}" if way.means is Means.THROTTLE else way.means.value
    when = "now" if not way.waits else f"after {way.waits} more pass{'es' if way.waits > 1 else ''}"
    return f"{what} {when}: {way.total_s:.2f} s, outage {way.outage_s:.2f} s, {way.lost_s:.2f} guest-seconds lost"
