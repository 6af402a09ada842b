"""``throttle_to_fit``: the throttle that the goal needs, computed from the dirty curve, when it costs least.

QEMU's auto-converge climbs a ladder, 20 %, 30 %, ... a step every other iteration, and for most of that way a guest
with CPU to spare does not even notice. What it needs in the end can be computed after the first iteration. So:

1. **Learn.** Each iteration is a point of the dirty curve f, put there at the guest's own time, and so is what was
   measured before the start, where that was asked for. The first iteration gives the goodput B.
2. **Compute** at each sync what would come of every throttle, now or after some iterations more at full speed
   (`whimbrel.engine.slowing`): when the rest fits into the goal, and how many guest-seconds are lost by then. How
   much a throttle slows follows from the time that the vCPUs use, and is corrected by what it was seen to do.
3. **Go there at once.** The course is taken whose guest-seconds and time, weighed by `worth`, are least, and of those
   that are as good the one with the least throttle. The limit stays low, so that iterations go on to their end, and
   is raised at the moment at which what is left and what is dirty by then fit into the goal: each sync less is time
   won, for a sync waits until every vCPU has woken from the throttle's sleep.

The throttle is taken from outside of QEMU where that can be done: at once. Else it is QEMU's own, which moves at the
second sync that counts: the first one counts always, the second as soon as the throttle is wanted from it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from whimbrel.engine.bounds import goodput, least_throttle
from whimbrel.engine.curve import Slowed
from whimbrel.engine.learnt import LearntCurve, point_of
from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.policy import Decision, Observation, Reason
from whimbrel.engine.slowing import Course, Headroom, Outlook, cheapest, speed_of, used_shares

from .permits import why_no_outside_throttle, why_no_qemu_throttle
from .room import sending_s

HOLD_S = 0.02
"""The limit while waiting: the outage of a guest that dirties next to nothing."""
SWITCHOVER_S = 0.015
"""What a switchover takes besides sending: this much of the goal is not for memory (benchmarks/README.md)."""
LOOK_S = 0.05
"""Cadence."""
LONG_S, CHANGED = 1.0, 1.25
"""An iteration of so long tells of the link; it has changed where that is so many times what it was."""
LIKELY = 1.5
"""Before a short window was seen: guests for whom this policy is there dirty more than the link takes. Half more."""
TELLING = 0.5
"""Dirtied bytes, as a part of those sent, from which on a single iteration is enough to go by: what QEMU itself takes
for a guest that does not converge (``throttle-trigger-threshold``)."""
HASTE = 3.0
"""So many times what is left to be sent must the deadline be away for waiting."""
MARGIN = 1.1
"""The curve is taken for a tenth higher than it was seen."""
AIM = 0.75
"""The switchover is asked for when the rest is thought to come to this part of what the goal leaves. A sync that finds
more is dear: QEMU counts the time for which it stood still as time of sending, takes the link for that much slower, and
by its own test the rest then fits no more."""
SLACK_S = 0.05
"""Guest-seconds that a weaker throttle may cost more."""
WAITS = (0, 1, 2, 3)
"""Iterations at full speed that are thought ahead."""
QEMU_SLICE_S = 0.01
"""For so long QEMU's throttle lets a vCPU run at a time (``CPU_THROTTLE_TIMESLICE_NS``, softmmu/cpu-throttle.c)."""
OUTSIDE_SLICE_S = 0.002
"""The same of a quota, as it was seen to be: 1 ms, and what goes by until the kernel looks whether it is used up."""
PROGRESS, VAIN_AFTER, LOST_AFTER = 0.9, 3, 8
"""A sync under a throttle is to find a tenth less than the ones before. After so many that did not, all of the goal is
given to what is left; after so many it is given up."""
DEAF_AFTER = 4
"""Iterations after which a throttle of QEMU's that does not move is given up: it has none, or they are too short."""
CALM = 1.5
"""Under QEMU's own throttle vCPUs sleep no longer than what the rest may take, over this, unless that will not do."""
EASED = 0.93
"""What is left of a throttle from outside when the guest is to stop: strong, but its sleeps are short."""
ASLEEP = 0.01
"""QEMU's least throttle: its own one is as good as off."""
NEVER_COUNTS, ALWAYS_COUNTS = 1.0, 0.01
"""Triggers with which a sync does not count for QEMU's throttle, as long as less is dirtied than sent, and does."""
LEAST_SPEED = 1e-3


@dataclass(slots=True, kw_only=True)
class ThrottleToFit:
    """Compute the least throttle that meets the goal from the dirty curve, and go straight there.

    Attributes:
        worth: guest-seconds that one second of migration less may cost.
        measure_s: a window in which the guest is measured before the start, seconds, which delays it by at least so
            long; 0: none. Without it no throttle begins in the first iteration.
        outside: whether the throttle may be taken from outside of QEMU, where that can be done.
    """

    worth: float = 0.3
    measure_s: float = 0.0
    outside: bool = True
    _link: LinkEstimate = field(default_factory=LinkEstimate)
    _points: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    _known: LearntCurve | None = None
    _headroom: Headroom = field(default_factory=Headroom)
    _begun: Observation | None = None
    """As the iteration under way began."""
    _throttle: float = 0.0
    """From outside, as it was asked for last."""
    _no_throttle: str = ""
    """Why QEMU's own throttle can't be had, where there is none from outside."""
    _stopping: bool = False
    """The switchover is due as soon as the rest fits."""
    _eased_from: float = 0.0
    """The throttle that was eased for the stop, in the iteration under way; 0: none."""
    _least_bytes: int = 0
    """The least that was left at a sync since the throttle began."""
    _vain: int = 0
    """Syncs since then that did not find less."""
    _lost: bool = False
    """The throttle brought nothing, and is not tried again."""
    _measured: bool = False
    _late: bool = False
    """The deadline has passed: all that can be done has been."""
    _armed: int = 0
    """Iterations since QEMU's throttle was to move."""

    def __call__(self, seen: Observation) -> Decision:
        """Decide; see the module's text."""
        if seen.reason is Reason.SETUP:
            return self._setup(seen)
        if self._late:
            return Decision()
        if self._begun is None:
            self._begun = seen
        if not self._from_outside(seen):
            self._throttle = 0.0  # also where it can't be held any more
        learning = seen.iteration <= 1 or self._link.goodput_bytes_per_s is None
        if learning and seen.remaining_bytes > 0:
            self._link.add(sending_s(seen), seen.transferred_bytes)
        if seen.reason is Reason.DEADLINE:
            return self._end(seen)
        if seen.reason is Reason.ITERATION:
            self._learn(seen)
            self._keep_count(seen)
            return self._decide(seen)
        if self._awoken(seen) or self._hurried(seen):
            return self._decide(seen)
        if self._stopping and not self._eased_from and self._fits(seen):
            return self._stop(seen)
        return Decision()

    def _setup(self, seen: Observation) -> Decision:
        goal = seen.objectives
        if self.measure_s > 0 and seen.abilities.measuring and not self._measured:
            self._measured = True
            return Decision(measure_s=(self.measure_s,), because=f"measure what is dirtied in {self.measure_s:g} s")
        for each in seen.measurements:
            self._points.append((each.window_s, each.dirtied_bytes))
            self._headroom = Headroom(each.vcpu_shares)
        decision = Decision(
            downtime_limit_s=min(HOLD_S, goal.downtime_s),
            bandwidth_bytes_per_s=goal.bandwidth_bytes_per_s or 0,
            wake_after_s=LOOK_S,
        )
        greatest = f"{goal.greatest_throttle:.0%} of throttle at most"
        if self._from_outside(seen):
            return replace(decision, because=f"learn the curve first; {greatest}, from outside")
        self._no_throttle = why_no_qemu_throttle(seen)
        if self._no_throttle:
            return replace(decision, because=f"{self._no_throttle}: the goal is met if the guest lets it be met")
        return replace(
            decision,
            capabilities={"auto-converge": True},
            throttle_initial=ASLEEP,
            throttle_increment=ASLEEP,
            throttle_ceiling=ASLEEP,
            throttle_trigger=ALWAYS_COUNTS,
            because=f"learn the curve first; {greatest}, by QEMU's own, which sleeps until then",
        )

    def _from_outside(self, seen: Observation) -> bool:
        return self.outside and not why_no_outside_throttle(seen)

    # ---- what is learnt

    def _learn(self, seen: Observation) -> None:
        """Take the iteration that has ended, as a point of the curve or as a lesson on the throttle."""
        begun, self._begun = self._begun, seen
        eased_from, self._eased_from = self._eased_from, 0.0
        point = point_of(seen.iterations)
        if begun is None or seen.iteration > seen.iterations[-1].number + 1 or point is None:
            return
        span_s, dirtied = point
        throttle, used = max(self._throttle, eased_from, _of_qemu(begun)), _used(begun, seen)
        if not throttle:
            if used:
                self._headroom = replace(self._headroom, shares=used)
            self._points.append(point)
            return
        if used and sum(self._headroom.shares) > 0:
            speed = min(1.0, max(LEAST_SPEED, sum(used) / sum(self._headroom.shares)))
            self._points.append((speed * span_s, dirtied))
        elif self._points:
            speed = max(LEAST_SPEED, speed_of(self._curve(seen), span_s, MARGIN * dirtied))
        else:
            return
        self._headroom = self._headroom.corrected(throttle, speed)

    def _curve(self, seen: Observation) -> LearntCurve:
        """Through all points that there are by now."""
        known = self._known
        if known is None or len(known.points) != len(self._points):
            points = [(span_s, MARGIN * dirtied) for span_s, dirtied in self._points]
            self._known = known = LearntCurve(points, seen.total_bytes, LIKELY * self._bytes_per_s(seen))
        return known

    def _bytes_per_s(self, seen: Observation) -> float:
        """Goodput in bytes of memory; at least 1."""
        known = self._link.goodput_bytes_per_s
        if known is None:  # an iteration that was over before the link could be learnt
            known = max((each.bandwidth_bytes_per_s for each in seen.iterations), default=0.0)
        elif len(seen.iterations) > 1 and seen.iterations[-1].duration_s >= LONG_S:
            last = seen.iterations[-1].bandwidth_bytes_per_s
            if not known / CHANGED < last < known * CHANGED:
                known = last
        return goodput(max(known, 1.0))

    # ---- what is decided

    def _outlook(self, seen: Observation) -> Outlook:
        assert self._begun is not None
        ran_s = 0.0 if seen.reason is Reason.ITERATION else self._ran_s(self._begun, seen)
        return Outlook(
            curve=self._curve(seen),
            bytes_per_s=self._bytes_per_s(seen),
            limit_s=AIM * self._limit_s(seen),
            left_bytes=seen.remaining_bytes,
            ran_s=ran_s,
            headroom=self._headroom,
            slice_s=OUTSIDE_SLICE_S if self._from_outside(seen) else QEMU_SLICE_S,
        )

    def _ran_s(self, begun: Observation, seen: Observation) -> float:
        """How long the guest has run between two looks, seconds of its own time."""
        used, unhindered = _used(begun, seen), sum(self._headroom.shares)
        throttle = self._in_force(seen)
        speed = min(1.0, sum(used) / unhindered) if throttle and used and unhindered else self._headroom.speed(throttle)
        return speed * (seen.elapsed_s - begun.elapsed_s)

    def _limit_s(self, seen: Observation) -> float:
        """What the goal leaves for memory that is left."""
        goal_s = seen.objectives.downtime_s
        if self._vain >= VAIN_AFTER:
            return goal_s
        return max(goal_s - self._link.pipe_s - SWITCHOVER_S, goal_s * 2 / 3)

    def _fits(self, seen: Observation) -> bool:
        """Whether what is left, and what is dirty by now, can be sent within the goal."""
        outlook = self._outlook(seen)
        left_s = seen.remaining_bytes / outlook.bytes_per_s
        # By the next look it is too late for what fits half way to it; what is not, when all is sent, never will be.
        rest_s = outlook.rest_s(min(left_s, LOOK_S / 2), self._in_force(seen))
        return rest_s <= (self._limit_s(seen) if left_s <= LOOK_S else outlook.limit_s)

    def _best(self, seen: Observation, outlook: Outlook, within_s: float | None) -> Course | None:
        """The course to take."""
        courses = self._courses(seen, outlook, self._calm(seen, outlook))
        return cheapest(courses, worth=self.worth, slack_s=SLACK_S, within_s=within_s)

    def _calm(self, seen: Observation, outlook: Outlook) -> float:
        """The most to take at first: QEMU's own can't be eased for the stop, and syncs wait until vCPUs wake."""
        greatest = self._greatest(seen)
        calm = min(greatest, outlook.least_sleepy(outlook.limit_s / CALM))
        return greatest if self._from_outside(seen) or self._in_force(seen) >= calm else calm

    def _courses(self, seen: Observation, outlook: Outlook, greatest: float) -> Iterator[Course]:
        """What can be done: from outside, a throttle that begins now; with QEMU's own, one that begins at a sync."""
        in_force = self._in_force(seen)
        if in_force:  # what has begun is not eased: it is nearly over
            return (each for each in outlook.courses(max(greatest, in_force), (0,)) if each.throttle >= in_force)
        if self._from_outside(seen) or not greatest:
            return outlook.courses(greatest, WAITS)
        unhindered = outlook.course(0.0)
        return chain([unhindered] if unhindered else [], outlook.courses(greatest, WAITS[1:]))

    def _greatest(self, seen: Observation) -> float:
        """The most that may and can be taken."""
        if self._lost:
            return 0.0
        if self._from_outside(seen):
            return seen.objectives.greatest_throttle
        deaf = self._armed > DEAF_AFTER and not _of_qemu(seen)
        return 0.0 if deaf or self._no_throttle else seen.objectives.greatest_throttle

    def _in_force(self, seen: Observation) -> float:
        """What slows the guest now."""
        return max(self._throttle, _of_qemu(seen))

    def _awoken(self, seen: Observation) -> bool:
        """Whether QEMU's throttle has moved since the iteration began: its figure may come later than the sync's."""
        begun = self._begun
        if begun is None or _of_qemu(seen) <= _of_qemu(begun):
            return False
        self._begun = replace(begun, throttle=seen.throttle)
        return True

    def _unsure(self, seen: Observation) -> bool:
        """Whether the curve hangs on one iteration, by which the guest may well get there unslowed."""
        ended = seen.iterations[-1] if seen.iterations else None
        if self._in_force(seen) or len(self._points) != 1 or ended is None:
            return False
        return ended.dirtied_bytes < TELLING * ended.sent_bytes

    def _hurried(self, seen: Observation) -> bool:
        """Whether the deadline can't be met any more by a throttle that begins at the next sync."""
        goal = seen.objectives
        if goal.deadline_s is None or not self._points or self._throttle or not self._from_outside(seen):
            return False
        outlook, within_s = self._outlook(seen), goal.deadline_s - seen.elapsed_s
        if within_s > HASTE * outlook.left_bytes / outlook.bytes_per_s:
            return False
        courses = outlook.courses(self._greatest(seen), (0, 1))
        best = cheapest(courses, worth=self.worth, slack_s=SLACK_S, within_s=within_s)
        return best is not None and best.waits == 0 and best.throttle > 0

    def _decide(self, seen: Observation) -> Decision:
        goal = seen.objectives
        if not self._points:
            return Decision()
        outlook = self._outlook(seen)
        within_s = None if goal.deadline_s is None else max(0.0, goal.deadline_s - seen.elapsed_s)
        if self._unsure(seen) and (within_s is None or within_s > HASTE * outlook.left_bytes / outlook.bytes_per_s):
            because = "one iteration that dirtied less than half of what it sent: the next one will tell more"
            return self._slow(seen, 0.0, Decision(because=because), now=False)
        self._lost |= self._vain >= LOST_AFTER
        best = None if self._lost else self._best(seen, outlook, within_s)
        self._stopping = best is None or not best.waits
        if best is None:
            # QEMU's own is tried nevertheless: what the vCPUs use tells too little of what its sleeps do.
            tried = self._in_force(seen) or not self._from_outside(seen)
            greatest = self._calm(seen, outlook) if tried else 0.0
            decision = Decision(downtime_limit_s=self._limit_s(seen), because=self._why_not(seen, outlook))
            return self._slow(seen, greatest, decision)
        decision = Decision(downtime_limit_s=min(HOLD_S, outlook.limit_s), because=self._why(seen, outlook, best))
        if best.waits:
            return self._slow(seen, best.throttle if best.waits == 1 else 0.0, decision, now=False)
        decision = self._slow(seen, best.throttle, decision)
        # Below the limit at a sync already: another one now finds it hardly dirtied.
        limit_s = self._limit_s(seen)
        fits = outlook.left_bytes <= limit_s * outlook.bytes_per_s or self._fits(seen)
        return replace(decision, downtime_limit_s=limit_s) if fits else decision

    def _keep_count(self, seen: Observation) -> None:
        """Of the iterations under a throttle that brought nothing."""
        if not self._in_force(seen) or seen.remaining_bytes < PROGRESS * self._least_bytes:
            self._least_bytes, self._vain = seen.remaining_bytes, 0
        else:
            self._vain += 1

    def _stop(self, seen: Observation) -> Decision:
        """Have the guest stopped at the next sync, which is at once.

        A throttle from outside is eased for it: the sync, and then the stop, wait for each vCPU to wake.
        """
        outlook, limit_s = self._outlook(seen), self._limit_s(seen)
        decision = Decision(downtime_limit_s=limit_s, because=f"the rest fits into {limit_s * 1e3:.0f} ms now")
        ahead_s = min(seen.remaining_bytes / outlook.bytes_per_s, LOOK_S)
        if self._throttle <= EASED or outlook.rest_s(ahead_s, EASED) > limit_s:
            return decision
        self._throttle, self._eased_from = EASED, self._throttle
        return replace(decision, outside_throttle=EASED)

    def _slow(self, seen: Observation, throttle: float, decision: Decision, *, now: bool = True) -> Decision:
        """Have the guest slowed, now or from the next sync on.

        From outside what is wanted from the next sync on is asked for then.
        """
        if self._from_outside(seen):
            self._throttle = throttle if now else 0.0
            return replace(decision, outside_throttle=self._throttle)
        if self._no_throttle:
            return decision
        in_force = _of_qemu(seen)
        if throttle <= in_force:
            return decision if in_force else replace(decision, throttle_trigger=NEVER_COUNTS)
        self._armed += seen.reason is Reason.ITERATION
        return replace(
            decision,
            throttle_initial=throttle,
            throttle_increment=max(ASLEEP, round(throttle - in_force, 2)),
            throttle_ceiling=throttle,
            throttle_trigger=ALWAYS_COUNTS,
        )

    def _end(self, seen: Observation) -> Decision:
        """The deadline has passed."""
        self._late = True
        decision = Decision(
            switch_over=True,
            pause=seen.objectives.may_pause,
            because="the deadline has passed: all of the downtime allowed, all of the throttle",
        )
        return self._slow(seen, seen.objectives.greatest_throttle, decision)

    # ---- what is said

    def _why(self, seen: Observation, outlook: Outlook, best: Course) -> str:
        limit_s, rate = self._limit_s(seen), outlook.bytes_per_s
        now_s = outlook.left_bytes / rate
        facts = (
            f"{now_s * 1e3:.0f} ms to send at {_mib(rate)}/s, f({now_s:.2f} s) = {_mib(outlook.curve.at(now_s))}, "
            f"f({limit_s:.2f} s) = {_mib(outlook.curve.at(limit_s))}"
        )
        if not best.throttle:
            what = "fits without a throttle" if not best.waits else "the next iterations get small enough by themselves"
            return f"{what}: {facts}"
        speed = self._headroom.speed(best.throttle)
        used = f"vCPUs use {sum(self._headroom.shares):.2f} of a core" if self._headroom.shares else "vCPU use unknown"
        found = least_throttle(
            outlook.curve, rate, limit_s, throttled=lambda taken: Slowed(outlook.curve, self._headroom.speed(taken))
        )
        least = f", {found:.0%} is the least for ever" if found is not None else ""
        when = "now" if not best.waits else f"after {best.waits} more iterations"
        return (
            f"throttle {best.throttle:.0%} {when}: {facts}; {used}, so {speed:.0%} of the speed stays; "
            f"costs {best.lost_s:.2f} guest-seconds, over in {best.total_s:.2f} s{least}"
        )

    def _why_not(self, seen: Observation, outlook: Outlook) -> str:
        if self._lost:
            return "the throttle has brought nothing, and is lifted"
        greatest, now_s = self._calm(seen, outlook), outlook.left_bytes / outlook.bytes_per_s
        return (
            f"not even a throttle of {greatest:.0%}, which leaves {self._headroom.speed(greatest):.0%} of the speed, "
            f"would bring {now_s * 1e3:.0f} ms down to {self._limit_s(seen) * 1e3:.0f} ms"
        )


def _mib(size: float) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _of_qemu(seen: Observation) -> float:
    """QEMU's throttle, where it is awake."""
    return seen.throttle if seen.throttle > ASLEEP else 0.0


def _used(begun: Observation, seen: Observation) -> tuple[float, ...]:
    """How much of the time between two looks each vCPU ran; empty: it is not known."""
    return used_shares(begun.samples[-1], seen.samples[-1]) if begun.samples and seen.samples else ()
