"""``predictive``: follows each way that it may take to the end, at each pass anew, and takes the cheapest that will do.

1. **Learn** (`predictive_knowledge`). The first 0.7 s tell the link and its pipe. Each pass is a point of the dirty
   curve, put there at the guest's own time; what was measured before the start is, too. What was foretold of a pass is
   compared with what came of it, and margins grow and shrink with that: for the guest, and for the link.
2. **Follow** (`predictive_ways`). From where the migration stands: stop the guest now, after so many passes more, or as
   soon as the rest fits; sync as often as QEMU does, which sends less twice; slow the guest by so much, now or later;
   go over to post-copy now or later; pause it. Each way has its time, its outage and the guest-seconds that it loses.
3. **Choose.** Of the ways that keep to the downtime and the deadline the one that costs least: its time, weighed by
   `worth`, and the guest-seconds that are lost. Where none does, the one that misses least. A pause comes only where
   nothing else has brought anything, or time runs out; giving up after that.
4. **Hold the moment.** The limit stays so low that QEMU does not stop the guest by itself unless next to nothing is
   dirty, and is raised at the moment at which the rest fits; what of the downtime goes for the pipe and for switching
   over is left out of it. QEMU looks at what is really left, and does not stop the guest if that is more.

It is asked at syncs, and between them only when something is due: that is what makes it quick to forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from whimbrel.engine.pilot import GREATEST_WAKE_S, LEAST_DOWNTIME_LIMIT_S, LEAST_WAKE_S, POSTCOPY
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason
from whimbrel.engine.slowing import SYNC_S

from .checking import above_zero, not_negative
from .landing import LANDING_S, Landing
from .permits import why_no_postcopy
from .predictive_brake import Brake
from .predictive_knowledge import STEADY, Knowledge, own_s
from .predictive_ways import Means, Prospect, Way, compared, page_s, throttles
from .room import FIXED_S, LEAST_PART

PREEMPT = "postcopy-preempt"
HOLD_S = 0.02
"""The limit while waiting: the outage of a guest that dirties next to nothing."""
LEARN_EVERY_S = 0.06
"""How often to look while the link is being learnt: about a dozen times."""
LOOKS, LOOK_EVERY_S = 8, 0.3
"""After that about so many times, and not more often than this, to see whether it is steady."""
AIM = 0.85
"""A rest that is only foretold is to come to no more than this part of what the goal leaves."""
AHEAD_S = 0.06
"""QEMU heeds a new limit at the end of its window of 100 ms: it is raised so much ahead."""
ROUND_TRIP_S = 0.0006
"""What asking for a page takes besides sending it, on a network of one's own."""
CALM = 1.5
"""Under QEMU's own throttle vCPUs sleep no longer than what the rest may take, over this."""
EASED = 0.93
"""What is left of a throttle from outside when the guest is to stop: strong, but its sleeps are short."""
SWINGS = 1.64
"""A link is thought to get slower by so many of the standard deviations by which it swings: 19 times in 20 it does
not."""
CAREFUL_FOR = 3
"""Syncs without progress over which that care is given up."""
DEEP = 0.5
"""A pipe that takes so much of the greatest downtime is emptied before the stop, as far as that can be done."""
LOOK_OUT_S = 0.5
"""So long before its end a pass is watched in which that may be."""
WORTH_TRYING = 2.5
"""A throttle is tried that is thought to miss by no more than this factor: QEMU stops the guest only where it fits."""
PROGRESS = 0.95
"""A sync that finds more than this part of the least that any found before is none."""
VAIN_AFTER, LOST_AFTER = 6, 8
"""Syncs without progress after which the guest may be paused, and after which a throttle is lifted."""
HOPELESS = 2.0
"""An outage that is so many times too long is out of reach."""
RESERVE_AFTER = 2
"""Passes in a row at which nothing else would do, before what is held in reserve is used: one may be chance."""
HASTY_S = 0.5
"""With a deadline a pass is looked at half way, if that is not so soon."""
SAME = 0.1
"""After `VAIN_AFTER` passes those that differ by less than this part need no new decision."""


@dataclass(slots=True, kw_only=True)
class Predictive:
    """Foresee what each permitted action comes to, and take the cheapest that meets the objectives.

    Attributes:
        throttle: whether the guest may be slowed; besides the objectives' permission, as with the next two.
        postcopy: whether it may go over to post-copy.
        pause: whether the guest may be paused.
        reserve: whether what these three forbid is held in reserve instead, for where nothing else will do, as far as
            the objectives allow it.
        xbzrle: whether to ask for XBZRLE.
        multifd: channels of multifd to ask for, up to 255; 0: none. Post-copy can't be had then.
        fixed_s: what a switchover takes with nothing left to send and an empty pipe, seconds.
        worth: guest-seconds that a second of migration less may cost.
        caution_s: what post-copy must spare, seconds: from then on a lost link stops the guest until it is mended.
        patience: for how long it waits, where nothing that is allowed will do, before it pauses the guest or gives up
            as far as that is allowed: times what all RAM takes once. A quarter of that before a pause where the outage
            is out of all reach.
        measure_s: a window in which the guest is measured before the start, seconds, which delays it by at least so
            long; 0: none.

    Raises:
        BadInput: a parameter makes no sense.
    """

    throttle: bool = True
    postcopy: bool = True
    pause: bool = True
    reserve: bool = False
    xbzrle: bool = False
    multifd: int = 0
    fixed_s: float = FIXED_S
    worth: float = 1.0
    caution_s: float = 0.2
    patience: float = 20.0
    measure_s: float = 0.0
    _known: Knowledge = field(default_factory=Knowledge, init=False)
    _brake: Brake = field(init=False)
    _landing: Landing = field(init=False)
    _why_no_postcopy: str = field(default="", init=False)
    _preempts: bool = field(default=False, init=False)
    """Pages that the guest waits for in post-copy have a connection of their own."""
    _begun: Observation | None = field(default=None, init=False)
    """As the pass under way began."""
    _slowed_by: float = field(default=0.0, init=False)
    """The most that slowed the guest in it."""
    _first_pass_s: float = field(default=0.0, init=False)
    _decided_on: int = field(default=0, init=False)
    """What was left when it was last decided at a sync, bytes."""
    _least_bytes: int = field(default=0, init=False)
    """The least that any sync has found."""
    _vain: int = field(default=0, init=False)
    """Syncs since then."""
    _vainly_slowed: int = field(default=0, init=False)
    """And those of them under a throttle."""
    _short: int = field(default=0, init=False)
    """Passes in a row at which nothing would do but what is held in reserve."""
    _measured: bool = field(default=False, init=False)
    _over: bool = field(default=False, init=False)
    """There is nothing left to decide."""

    def __post_init__(self) -> None:
        not_negative(fixed_s=self.fixed_s, caution_s=self.caution_s, measure_s=self.measure_s, multifd=self.multifd)
        above_zero(worth=self.worth, patience=self.patience)
        self._brake = Brake(allowed=self.throttle or self.reserve)
        self._landing = Landing(self._known.link)

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
        self._slowed_by = max(self._slowed_by, self._brake.in_force(seen))
        if self._lands(seen):
            return self._land(seen)
        if seen.reason is Reason.ITERATION:
            self._known.sync(self._begun, seen, self._slowed_by)
            self._keep_count(seen)
            self._begun, self._slowed_by = seen, self._brake.in_force(seen)
            landed = self._landing.under_way
            self._landing.end()
            if landed:  # in portions no longer
                return replace(self._decide_if_known(seen), bandwidth_bytes_per_s=_full(seen))
            if self._may_land(seen):
                next_s = self._watched_s(seen, seen.remaining_bytes / self._known.bytes_per_s(seen), LEARN_EVERY_S)
                because = f"the pipe holds {self._known.pipe_s * 1e3:.0f} ms: it is to be empty when the guest stops"
                return Decision(downtime_limit_s=LEAST_DOWNTIME_LIMIT_S, wake_after_s=next_s, because=because)
            if self._as_before(seen):
                return Decision()
        return self._decide_if_known(seen)

    def _decide_if_known(self, seen: Observation) -> Decision:
        learning = seen.iteration <= 1 and not self._known.link_known
        if learning or not self._known.guest_known or not seen.remaining_bytes:
            return Decision(wake_after_s=self._look_again_s(seen))
        return self._decide(seen)

    def _look_again_s(self, seen: Observation) -> float:
        """How soon to look at the link once more: a few times in the first pass, to see whether it is steady."""
        if not self._known.link_known or seen.iteration > 1:
            return LEARN_EVERY_S
        return self._watched_s(seen, seen.remaining_bytes / self._known.bytes_per_s(seen), GREATEST_WAKE_S)

    def _watched_s(self, seen: Observation, left_s: float, next_s: float) -> float:
        """The same, for one who would look in so many seconds, with what may have to end with an empty pipe watched."""
        if seen.iteration <= 1:
            next_s = min(next_s, max(LOOK_EVERY_S, (seen.elapsed_s + left_s) / LOOKS))
        if not self._may_land(seen):
            return next_s
        return min(next_s, max(LEARN_EVERY_S / 2, left_s - LOOK_OUT_S))

    def _setup(self, seen: Observation) -> Decision:
        if self.measure_s > 0 and seen.abilities.measuring and not self._measured:
            self._measured = True
            return Decision(measure_s=(self.measure_s,), because=f"measure what is dirtied in {self.measure_s:g} s")
        self._known.measured(seen)
        wanted: dict[str, bool] = {}
        self._why_no_postcopy = why_no_postcopy(seen) if self.postcopy or self.reserve else "told not to"
        if self.multifd:
            wanted["multifd"] = True
            self._why_no_postcopy = self._why_no_postcopy or "it does not go with multifd"
        if self.xbzrle:
            wanted["xbzrle"] = True
        if not self._why_no_postcopy:
            wanted[POSTCOPY] = True
            # Its connection costs the passed one, and with it a little of each outage: not for what may never be used.
            self._preempts = self.postcopy and PREEMPT in seen.abilities.capabilities
            if self._preempts:
                wanted[PREEMPT] = True
        decision = Decision(
            downtime_limit_s=min(HOLD_S, seen.objectives.downtime_s),
            bandwidth_bytes_per_s=_full(seen),
            multifd_channels=self.multifd or None,
            capabilities=wanted,
            wake_after_s=LEARN_EVERY_S,
        )
        decision, slowing = self._brake.setup(seen, decision)
        after = f"no post-copy: {self._why_no_postcopy}" if self._why_no_postcopy else "post-copy"
        return replace(decision, because=f"learn link and guest first; at hand: {slowing}; {after}")

    def _keep_count(self, seen: Observation) -> None:
        """Of the syncs that found no less than others before."""
        if not self._first_pass_s:
            self._first_pass_s = seen.elapsed_s
        if not self._least_bytes or seen.remaining_bytes < PROGRESS * self._least_bytes:
            self._least_bytes, self._vain = seen.remaining_bytes, 0
        else:
            self._vain += 1
        self._vainly_slowed = self._vainly_slowed + 1 if self._vain and self._slowed_by else 0
        if self._vainly_slowed >= LOST_AFTER:
            self._brake.give_up()

    def _as_before(self, seen: Observation) -> bool:
        """Whether this pass is as good as the one that was last decided on, and it would be decided again so."""
        goal = seen.objectives
        late = goal.deadline_s is not None and seen.elapsed_s > goal.deadline_s
        may_end = goal.may_abort or self._may_pause(goal)
        patient = not may_end or seen.elapsed_s < self.patience / 4 * self._first_pass_s
        patient &= late or not self._in_haste(seen, self._first_pass_s)
        settled = self._vain > VAIN_AFTER and patient and not self._slowed_by
        if settled and abs(seen.remaining_bytes - self._decided_on) <= SAME * self._decided_on:
            return True
        self._decided_on = seen.remaining_bytes
        return False

    # ---- a pipe that is too deep

    def _deep(self, seen: Observation) -> bool:
        """Whether the pipe takes too much of the greatest downtime."""
        return self._known.link_known and self._after_s() >= DEEP * seen.objectives.downtime_s

    def _may_land(self, seen: Observation) -> bool:
        """Whether it is worth ending this pass with an empty pipe, and would do then.

        By what the last pass dirtied for each byte that it sent: of short windows the curve may know nothing yet. In
        the first pass nobody knows.
        """
        if not self._deep(seen) or self._slowed_by or self._vain >= VAIN_AFTER:
            return False
        if not seen.iterations:
            return self._landing.gains(seen, None)
        ended = seen.iterations[-1]
        ratio = ended.dirtied_bytes / max(1, ended.sent_bytes)
        again_s = ratio * (seen.remaining_bytes / self._known.bytes_per_s(seen) + LANDING_S)
        return again_s + self.fixed_s <= seen.objectives.downtime_s and self._landing.gains(seen, ratio)

    def _lands(self, seen: Observation) -> bool:
        """Whether that is under way, or due."""
        self._landing.watch(seen)
        if seen.reason is not Reason.TICK or self._slowed_by:
            return False
        near = seen.remaining_bytes <= LOOK_OUT_S * self._known.bytes_per_s(seen)
        return self._landing.under_way or (near and self._may_land(seen))

    def _land(self, seen: Observation) -> Decision:
        """In ever smaller portions; until they are out QEMU is not to stop the guest."""
        aim_s = max(LEAST_DOWNTIME_LIMIT_S, min(HOLD_S, seen.objectives.downtime_s - self.fixed_s))
        decision = self._landing.decide(seen, aim_s, may_begin=True)
        return replace(decision or Decision(), wake_after_s=LEAST_WAKE_S)

    # ---- what there is to choose from

    def _after_s(self) -> float:
        """What an outage takes besides the rest."""
        return self._known.pipe_s + self.fixed_s

    def _limit_s(self, seen: Observation) -> float:
        """What the greatest downtime leaves for the rest, also where the link gets slower.

        That care is given up where it was in vain and post-copy can't be had.
        """
        goal_s = seen.objectives.downtime_s
        sure = self.postcopy and not self._why_no_postcopy
        careful = 1.0 if sure else max(0.0, 1.0 - self._vain / CAREFUL_FOR)
        slower = 1.0 + SWINGS * careful * max(0.0, self._known.swing - STEADY)
        return max(LEAST_PART * goal_s, (goal_s - self._after_s()) / slower)

    def _prospect(self, seen: Observation) -> Prospect:
        assert self._begun is not None
        known, limit_s = self._known, self._limit_s(seen)
        rate, at = known.bytes_per_s(seen), known.curve(seen).at
        per_byte_s, one_s = (1.0 + known.doubt) / rate, page_s(rate)
        return Prospect(
            dirty_s=lambda window_s: per_byte_s * at(window_s),
            most_s=per_byte_s * at(1e6),
            left_s=seen.remaining_bytes / rate,
            ran_s=own_s(known, self._begun, seen, self._slowed_by),
            limit_s=limit_s,
            room_s=AIM * limit_s,
            after_s=self._after_s(),
            fault_s=one_s + ROUND_TRIP_S + (0.0 if self._preempts else known.pipe_s),
            page_s=one_s,
            headroom=known.headroom,
            slice_s=self._brake.slice_s(seen),
        )

    def _ways(self, seen: Observation, prospect: Prospect) -> Iterator[Way]:
        """All that may be taken; what slows the guest already is not eased, for then it is nearly over."""
        in_force = self._brake.holds(seen)
        if not in_force:
            yield from prospect.plain()
            if (often := prospect.eager()) is not None:
                yield often
        yield from self._slowed(seen, prospect, in_force)
        if not self._why_no_postcopy:
            yield prospect.postcopy(0)
            yield prospect.postcopy(1)

    def _slowed(self, seen: Observation, prospect: Prospect, in_force: float) -> Iterator[Way]:
        """By every throttle that can be had.

        QEMU's own can't be eased for the stop, and each sync waits until every vCPU has woken: one under which they
        sleep for long is taken only where no other will do.
        """
        least, enough = self._brake.least_waits(seen), False
        calm = 1.0 if self._brake.from_outside(seen) else 1.0 - CALM * prospect.slice_s / prospect.room_s
        if in_force:
            yield prospect.slowed(in_force, 0)
        for throttle in throttles(self._brake.greatest(seen)):
            if throttle <= in_force or (enough and throttle > calm):
                continue
            for waits in (0,) if in_force else (least, least + 1):
                way = prospect.slowed(throttle, waits)
                enough |= self._miss(seen, way) <= 1.0
                yield way

    # ---- what is chosen

    def _miss(self, seen: Observation, way: Way) -> float:
        """The greater of outage over the greatest downtime, and time over the deadline; up to 1 it will do."""
        goal = seen.objectives
        late = 0.0 if goal.deadline_s is None else (seen.elapsed_s + way.total_s) / max(goal.deadline_s, SYNC_S)
        return max(way.outage_s / goal.downtime_s, late)

    def _cost_s(self, way: Way) -> float:
        caution_s = self.caution_s if way.means is Means.POSTCOPY else 0.0
        return self.worth * way.total_s + way.lost_s + caution_s

    def _in_haste(self, seen: Observation, needed_s: float) -> bool:
        """Whether the deadline does not leave time for twice this."""
        deadline_s = seen.objectives.deadline_s
        return deadline_s is not None and seen.elapsed_s + 2 * needed_s >= deadline_s

    def _choose(self, seen: Observation, ways: Sequence[Way]) -> Way | None:
        """The way to take; ``None``: there is none that is allowed."""
        good = [way for way in ways if self._miss(seen, way) <= 1.0]
        first = [way for way in good if not self._reserved(way)]
        self._short = 0 if first else self._short + (seen.reason is Reason.ITERATION)
        if not first and not self._reserve_due(seen):
            ways, good = [way for way in ways if not self._reserved(way)], []
        if first or good:
            return min(first or good, key=self._cost_s)
        allowed = [way for way in ways if self._may(seen, way)]
        return min(allowed, key=lambda way: self._miss(seen, way), default=None)

    def _reserved(self, way: Way) -> bool:
        """Whether a way is held in reserve."""
        if way.means is Means.POSTCOPY:
            return not self.postcopy
        return way.means is Means.THROTTLE and not self.throttle

    def _reserve_due(self, seen: Observation) -> bool:
        """Whether it is time for that: for good, or in haste; what has begun goes on."""
        due = self._short >= RESERVE_AFTER or self._brake.holds(seen) > 0.0
        return due or self._in_haste(seen, self._first_pass_s)

    def _may_pause(self, goal: Objectives) -> bool:
        return (self.pause or self.reserve) and goal.may_pause

    def _may(self, seen: Observation, way: Way) -> bool:
        """Whether a way may be taken that misses an objective."""
        if way.means is Means.THROTTLE:
            return self._miss(seen, way) <= WORTH_TRYING
        if way.means is Means.POSTCOPY or way.outage_s <= seen.objectives.downtime_s:
            return True
        if not self._may_pause(seen.objectives):
            return False
        hopeless = self._miss(seen, way) > HOPELESS
        waited = self._waited(seen, self.patience / 4 if hopeless else self.patience)
        return waited or self._in_haste(seen, way.total_s)

    def _waited(self, seen: Observation, passes: float) -> bool:
        """Whether nothing has got better, and so many passes over all RAM would have gone by."""
        return self._vain >= VAIN_AFTER and seen.elapsed_s >= passes * self._first_pass_s

    def _decide(self, seen: Observation) -> Decision:
        prospect = self._prospect(seen)
        ways = tuple(self._ways(seen, prospect))
        best = self._choose(seen, ways)
        because = compared(best, ways, lambda way: self._miss(seen, way), self._cost_s, seen.objectives.downtime_s)
        if best is None:
            return self._hope(seen, because)
        if best.means is Means.POSTCOPY and not best.waits:
            self._over = True
            return self._brake.take(seen, 0.0, Decision(start_postcopy=True, because=because))
        if best.means is Means.STOP and best.stops_s <= AHEAD_S and best.outage_s > seen.objectives.downtime_s:
            self._over = True
            return self._brake.take(seen, 0.0, Decision(pause=True, because=because))
        return self._go_on(seen, prospect, best, because)

    def _go_on(self, seen: Observation, prospect: Prospect, best: Way, because: str) -> Decision:
        """Hold the limit, or raise it where its moment has come."""
        due = best.means is Means.EAGER or (not best.waits and best.stops_s <= AHEAD_S)
        throttle = 0.0
        if best.means is Means.THROTTLE:
            throttle = best.throttle
            # Of QEMU's own each sync is dear, and one that is only tried must be looked at by QEMU.
            outside = self._brake.from_outside(seen)
            due |= self._miss(seen, best) > 1.0 or (not best.waits and not outside)
            if best.stops_s <= AHEAD_S and outside and throttle > EASED:
                throttle = self._eased(prospect, throttle)
        limit_s = prospect.limit_s if due else min(HOLD_S, seen.objectives.downtime_s)
        next_s = GREATEST_WAKE_S if due or best.waits else best.stops_s - AHEAD_S
        if seen.objectives.deadline_s is not None and prospect.left_s > 2 * HASTY_S:
            next_s = min(next_s, prospect.left_s / 2)
        next_s = self._watched_s(seen, prospect.left_s, max(LEAST_WAKE_S, next_s))
        decision = Decision(downtime_limit_s=limit_s, wake_after_s=next_s, because=because)
        return self._brake.take(seen, throttle, decision, waits=best.waits)

    @staticmethod
    def _eased(prospect: Prospect, throttle: float) -> float:
        """What is left of a throttle when the guest is to stop: the sync and the stop wait for each vCPU to wake."""
        return EASED if prospect.slowed(EASED, 0).stops_s <= AHEAD_S else throttle

    def _hope(self, seen: Observation, because: str) -> Decision:
        """Nothing that is allowed will do: the first quiet moment in which the rest fits is taken."""
        if seen.objectives.may_abort and self._waited(seen, self.patience):
            self._over = True
            return Decision(abort=True, because=because)
        next_s = self._watched_s(seen, seen.remaining_bytes / self._known.bytes_per_s(seen), GREATEST_WAKE_S)
        hoping = Decision(downtime_limit_s=self._limit_s(seen), wake_after_s=next_s, because=because)
        return self._brake.take(seen, self._brake.in_force(seen) if self._brake.greatest(seen) else 0.0, hoping)

    def _late(self, seen: Observation) -> Decision:
        """The deadline has passed: whatever ends it soonest."""
        if not self._why_no_postcopy:
            self._over = True
            return self._brake.take(seen, 0.0, Decision(start_postcopy=True, because="late: post-copy ends it soonest"))
        self._over = pause = self._may_pause(seen.objectives)
        decision = Decision(switch_over=True, pause=pause, because="late: all of the downtime allowed")
        return self._brake.take(seen, self._brake.greatest(seen), decision)


def _full(seen: Observation) -> int:
    """All that the user allows; 0: no bound."""
    return seen.objectives.bandwidth_bytes_per_s or 0
