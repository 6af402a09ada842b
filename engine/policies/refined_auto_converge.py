"""``refined_auto_converge``: auto-converge with a second detection of a guest that dirties too fast, made from outside.

H. Huang's series for QEMU of 2024 ("auto-converge refinements for huge VM") had two parts. Syncs within long
iterations, every 5 s while the throttle is on, were merged into 9.2; there QEMU does them by itself, and before that
nobody can order one from outside (a larger downtime limit only brings a sync forward by what that limit lets go, at
the end of an iteration). The second, the *responsive throttle*, was not merged; reviewers doubted that two criteria
of which either suffices can be predicted. It is this. QEMU looks at syncs that come more than a second after the last
look, at the bytes dirtied since then for each byte sent, in whole percent:

* the old criterion: the ratio is above the trigger (50 %), twice (`whimbrel.engine.policies.auto_converge`);
* the new one: it is above the trigger and no less than at the look before, twice, counted on its own.

Either of them slows the guest by one step more. His figures (guestperf, 16 vCPUs, 100 GB, 5000 MB stressed): 592 s
with neither part, 275 s with the syncs, 243 s with both (means of 3).

What QEMU's source can do a policy has to do with its knobs, in one of two ways:

1. Where the source's vCPUs can be slowed **from outside** of QEMU, the policy does all of it: both criteria, on the
   iterations as it saw them, and the same ladder as an outside throttle. QEMU's own is not asked for. A step comes as
   soon as the sync was seen, some 10 ms later than in the patch.
2. Otherwise QEMU's auto-converge is on, with the old criterion, and what the new one wants on top is **owed**: the
   next step that QEMU takes is made larger by it. So a step of the new criterion comes with the next one of the old,
   up to two looks later than in the patch; the height of the ladder is the same from there on.

The fast path models the patch itself, within QEMU, as `whimbrel.engine.forecast_records.Detector.REFINED`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.engine.policy import Decision, Observation, Reason
from whimbrel.engine.statistics import Iteration

from .auto_converge import CEILING, INCREMENT, INITIAL, TRIGGER, begin_ladder
from .checking import share
from .permits import why_no_outside_throttle

LEAST_PERIOD_S = 1.0
"""Looks are further apart than this."""
HIGH_COUNT = 2
"""So often a criterion must hold."""


@dataclass(slots=True)
class Detection:
    """Both criteria, fed with the iterations that have ended.

    Attributes:
        trigger: the share of the bytes sent above which dirtied bytes are too many.
    """

    trigger: float
    _began_ns: int | None = None
    _dirtied_bytes: int = 0
    _sent_bytes: int = 0
    _ratio_percent: int = 0
    """At the look before; 0: there was none."""
    _high: int = 0
    _not_falling: int = 0

    def add(self, ended: Iteration) -> tuple[bool, bool]:
        """Take one iteration: whether the old criterion wants a step now, and whether the new one does."""
        if self._began_ns is None:
            self._began_ns = ended.started_ns
        self._dirtied_bytes += ended.dirtied_bytes
        self._sent_bytes += ended.sent_bytes
        if ended.ended_ns - self._began_ns <= LEAST_PERIOD_S * 1e9:
            return False, False
        dirtied, sent = self._dirtied_bytes, self._sent_bytes
        self._began_ns, self._dirtied_bytes, self._sent_bytes = ended.ended_ns, 0, 0
        refined = sent > 0 and self._refined(100 * dirtied // sent)
        if dirtied <= self.trigger * sent:
            return False, False
        self._high += 1
        original = self._high >= HIGH_COUNT
        if original:
            self._high = 0
        return original, refined

    def _refined(self, percent: int) -> bool:
        before, self._ratio_percent = self._ratio_percent, percent
        if before and percent >= before and percent > 100 * self.trigger:
            self._not_falling += 1
        if self._not_falling < HIGH_COUNT:
            return False
        self._not_falling = 0
        return True

    def stepped(self) -> None:
        """QEMU has taken a step: its own count is 0 now, whatever was seen of it."""
        self._high = 0


@dataclass(slots=True, kw_only=True)
class RefinedAutoConverge:
    """Throttle as auto-converge does, but also where the dirtied share does not fall from one look to the next.

    Attributes:
        initial: the first throttle, a share of the vCPUs' time, 0.01 to 0.99.
        increment: what each later step adds, 0.01 to 0.99.
        ceiling: the most, 0.01 to 0.99; the user's `Objectives.greatest_throttle` goes before it.
        trigger: what part of the bytes sent must be dirtied for a look to count, 0.01 to 1.
        outside: whether to throttle from outside of QEMU where that can be done.
        downtime_limit_s: the limit given to QEMU, seconds; ``None``: the greatest downtime allowed.

    Raises:
        BadInput: a share that is none.
    """

    initial: float = INITIAL
    increment: float = INCREMENT
    ceiling: float = CEILING
    trigger: float = TRIGGER
    outside: bool = True
    downtime_limit_s: float | None = None
    _detection: Detection = field(init=False)
    _from_outside: bool = False
    _known: int = 0
    """So many iterations have been taken into account."""
    _throttle: float = 0.0
    """Ours, or what QEMU's was seen to be."""
    _owed: int = 0
    """Steps that the new criterion wanted and QEMU has not taken."""

    def __post_init__(self) -> None:
        share(initial=self.initial, increment=self.increment, ceiling=self.ceiling, trigger=self.trigger)
        self._detection = Detection(self.trigger)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at iterations."""
        if seen.reason is Reason.SETUP:
            return self._begin(seen)
        original = refined = False
        for ended in seen.iterations[self._known :]:
            first, second = self._detection.add(ended)
            original, refined = original or first, refined or second
        self._known = len(seen.iterations)
        return self._slow(seen, original, refined) if self._from_outside else self._owe(seen, original, refined)

    def _begin(self, seen: Observation) -> Decision:
        limit_s = self.downtime_limit_s or seen.objectives.downtime_s
        refused = why_no_outside_throttle(seen) if self.outside else "so wished"
        self._from_outside = not refused
        if self._from_outside:
            return Decision(downtime_limit_s=limit_s, because="both criteria, and a throttle from outside of QEMU")
        return begin_ladder(
            seen,
            limit_s,
            because=f"QEMU's throttle, whose steps grow by the second criterion (none from outside: {refused})",
            initial=self.initial,
            increment=self.increment,
            ceiling=self.ceiling,
            trigger=self.trigger,
        )

    def _most(self, seen: Observation) -> float:
        return min(self.ceiling, seen.objectives.greatest_throttle)

    def _slow(self, seen: Observation, original: bool, refined: bool) -> Decision:
        """One step of our own ladder."""
        throttle = min(self._throttle + self.increment if self._throttle else self.initial, self._most(seen))
        if not (original or refined) or throttle <= self._throttle:
            return Decision()
        self._throttle = throttle
        why = "too much dirtied, twice" if original else "dirtied for each byte sent: no less than before, twice"
        return Decision(outside_throttle=throttle, because=f"{why}: {throttle:.0%}")

    def _owe(self, seen: Observation, original: bool, refined: bool) -> Decision:
        """Make the next step of QEMU's ladder larger, or as it was once it has been taken."""
        owed = self._owed
        if seen.throttle > self._throttle:
            self._throttle, self._owed = seen.throttle, 0
            self._detection.stepped()
        elif refined and not original:
            self._owed += 1
        if self._owed == owed:
            return Decision()
        more = self._owed * self.increment
        return Decision(
            throttle_initial=None if self._throttle else min(self.initial + more, self._most(seen)),
            throttle_increment=min(self.increment + more, self._most(seen)),
            because=f"{self._owed} steps owed by the second criterion" if self._owed else "QEMU took the steps owed",
        )
