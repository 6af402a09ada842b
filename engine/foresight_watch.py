"""The one who looks ahead: fed with what the machine sees, it makes an `Outlook` when asked, for any policy.

1. **In the first iteration** only the link is seen. Where a prediction was made before the start it stands, moved by
   how much later or sooner the first pass will be over than it said; else the guest is taken for any guest.
2. **Later** the iterations are points of the guest's curve (`whimbrel.engine.foresight_learnt`), and some dozens of
   courses, each with its own luck, go on from where it stands (`whimbrel.engine.foresight_course`).
3. **The verdict.** The same courses once more, with all of the downtime allowed at once and nothing that slows the
   guest any further: the part of them that never ends, or too late, is how likely no pre-copy of the guest as it is can
   meet the objectives.

Nothing here is random: the same looks give the same outlooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .estimate import HIGH, NORMAL, Range
from .foresight import Basis, Outlook, Verdict
from .foresight_course import WIRE, Ending, Ladder, Standing, courses, likeliest
from .foresight_learnt import Learnt
from .foresight_words import drawn, taken_back
from .pilot import QEMUS_FIRST_THROTTLE
from .policy import Knobs, Measurement, Objectives
from .prediction import Prediction
from .statistics import Ledger, Statistics

DRAWS = 40
"""Courses for each outlook."""
SURE, SURE_FOR, UNSURE = 0.95, 2, 0.8
"""A verdict is drawn at this confidence after so many iterations in a row, and taken back below that. At the first one
alone a third of them were wrong, and most of these for an iteration only (``python -m benchmarks verdict``)."""
JUDGED_AFTER = 2
"""Iterations that must have ended before it is looked for at all: so it is drawn after the third at the earliest."""
FIXED_S, FIXED_SPREAD = 0.014, 0.5
"""What a switchover takes with nothing left to send: 6 to 25 ms on QEMU 7.2 with a small guest."""
MODEL_AHEAD, MODEL_DOWNTIME = 0.15, 0.25
"""By how much the model itself is off: in what lies ahead, time and bytes, and in the outage; relative standard
deviations."""
_ONCE, _TWICE = ((1.711, 0.303), (1.039, 0.633)), (1.0, -1.0)
ERRORS = (
    (0.0, 0.0),
    *((sign * one, sign * other) for one, other in _ONCE for sign in _TWICE),
    *((-sign * other, sign * one) for one, other in _ONCE for sign in _TWICE),
)
"""How far off it is in the one and in the other, in these standard deviations: the middles of nine equal parts of a
normal distribution, stretched to a variance of 1, in pairs that do not correlate."""
LEAST_PART = 0.2
"""Of the downtime, what is left for memory in any case."""
SENDING = ("iterations", "last_ram")
"""The components of a prediction in which the link carries the memory."""
POSTCOPY_PARTS = (1.05, 0.95, 0.6)
"""What of the link's goodput is used in post-copy, at best, likely, and where the destination asks for many pages."""
GREATEST_PERCENT = 99
"""QEMU's own bound for a throttle."""
QEMUS_INCREMENT, QEMUS_CEILING, QEMUS_TRIGGER = 0.1, 0.99, 0.5
"""QEMU's own ``cpu-throttle-increment``, ``max-cpu-throttle`` and ``throttle-trigger-threshold``."""


@dataclass(slots=True, kw_only=True)
class Foresight:
    """Looks ahead for one migration.

    Attributes:
        objectives: what is wanted.
        prediction: what was predicted before the start, if anything was.
        draws: courses for each outlook.
    """

    objectives: Objectives
    prediction: Prediction | None = None
    draws: int = DRAWS
    verdict: Verdict | None = None
    """The one that stands."""
    _learnt: Learnt = field(default_factory=Learnt)
    _judged: int = -1
    """After how many iterations a verdict was last looked for."""
    _hopeless: float | None = None
    _sure: int = 0
    """After so many iterations in a row it was as good as certain."""

    def measured(self, measurements: Sequence[Measurement]) -> None:
        """The guest was measured before the start."""
        self._learnt.measurements = tuple(measurements)

    def see(self, ledger: Ledger, knobs: Knobs) -> bool:
        """Take a look: cheap, at every answer of QEMU's.

        Args:
            ledger: with the newest statistics.
            knobs: as they stand.

        Returns:
            Whether an iteration has ended with it.
        """
        return self._learnt.see(ledger, knobs)

    def outlook(
        self,
        ledger: Ledger,
        knobs: Knobs,
        at_s: float,
        *,
        asked_for: frozenset[str] = frozenset(),
        moved_s: float | None = None,
    ) -> Outlook | None:
        """Look ahead: a millisecond or two.

        Args:
            ledger: as it was given to `see` last.
            knobs: as they stand.
            at_s: now, seconds since ``migrate``.
            asked_for: the capabilities that the policy asked for at the start.
            moved_s: when the guest began to run at the destination, pages still following; ``None``: it does not yet.

        Returns:
            ``None``: nothing has been sent yet, or not for long enough to know the link.
        """
        last = ledger.last
        rate = self._learnt.bytes_per_s(ledger, knobs)
        if last is None or rate is None or not last.total_bytes:
            return None
        standing = self._standing(ledger, last, knobs, at_s, rate, asked_for)
        if moved_s is not None:
            in_time = moved_s <= _deadline_s(self.objectives)
            return _after_the_move(standing, last, self.objectives.downtime_s if in_time else 0.0)
        news = self._judge(standing, last, ledger, asked_for)
        made = self._of(courses(standing, self.draws), standing, last)
        if not ledger.iterations:
            made = replace(made, basis=Basis.LINK if standing.curve is None else Basis.MEASURED)
            if self.prediction is not None:
                made = _as_planned(made, self.prediction, rate, _deadline_s(self.objectives))
        return replace(made, hopeless=self._hopeless, verdict=self.verdict, news=news)

    # ---- inside

    def _standing(
        self, ledger: Ledger, last: Statistics, knobs: Knobs, at_s: float, rate: float, asked_for: frozenset[str]
    ) -> Standing:
        learnt, goal = self._learnt, self.objectives
        ended = ledger.iterations
        curve_spread, noise = learnt.spreads()
        opened = ledger.opened or last
        shrank = None if len(ended) < 2 else opened.remaining_bytes < ended[-1].remaining_at_start_bytes
        sure = bool(ended)
        return Standing(
            at_s=at_s,
            sent_bytes=last.transferred_bytes,
            left_bytes=last.remaining_bytes,
            zero_bytes=0.0 if sure else last.remaining_bytes,
            iteration_bytes=opened.remaining_bytes,
            ran_s=learnt.ran_s,
            shrank=shrank,
            curve=learnt.curve(last.total_bytes),
            curve_spread=curve_spread,
            noise=noise,
            total_bytes=last.total_bytes,
            bytes_per_s=rate,
            bandwidth_spread=0.05 if sure else 0.08,
            pipe_s=learnt.link.pipe_s,
            fixed_s=FIXED_S,
            fixed_spread=FIXED_SPREAD,
            limit_s=knobs.downtime_limit_s,
            least_limit_s=min(knobs.downtime_limit_s, learnt.least_limit_s),
            lowers=learnt.lowers,
            capped=learnt.capped(goal),
            goal_limit_s=max(goal.downtime_s, knobs.downtime_limit_s),
            deadline_s=goal.deadline_s,
            throttle=learnt.throttle,
            headroom=learnt.headroom,
            ladder=_ladder(knobs) if "auto-converge" in asked_for else None,
            postcopy=goal.may_postcopy and "postcopy-ram" in asked_for,
        )

    def _of(self, endings: list[Ending], standing: Standing, last: Statistics) -> Outlook:
        """Ranges, and how likely the objectives are met, with the same errors of the model: where a range reaches over
        what is allowed it is not as good as certain that it is met.

        A course that misses by itself counts as one that misses: where QEMU's limit is all of the downtime, pipe and
        fixed cost come on top, and an error of the model that makes up for them was said more often than it was seen
        (``python -m benchmarks verdict``).
        """
        found = corrected(endings, standing)
        met = sum(self._meets(each) and self._meets(may) for each, may in found)
        return Outlook(
            at_s=standing.at_s,
            iteration=last.iteration,
            ends_s=_range((each.ends_s, may.ends_s) for each, may in found),
            downtime_s=_range((each.downtime_s, may.downtime_s) for each, may in found),
            transferred_bytes=_range((each.sent_bytes, may.sent_bytes) for each, may in found),
            meets=_part(met / len(ERRORS), len(endings)),
        )

    def _meets(self, ending: Ending) -> bool:
        goal = self.objectives
        in_time = ending.ends_s <= _deadline_s(goal)
        return in_time and ending.ends_s < math.inf and ending.downtime_s <= goal.downtime_s

    # ---- the verdict

    def _judge(self, standing: Standing, last: Statistics, ledger: Ledger, asked_for: frozenset[str]) -> str:
        """Look for a verdict, once after each iteration; what is new of it, as a sentence.

        By how much the model is off in the outage is left out here: a policy can make up for it with a lower limit.
        """
        ended = len(ledger.iterations)
        if ended < JUDGED_AFTER or ended == self._judged or standing.curve is None:
            return ""
        self._judged = ended
        best = self._best(standing)
        endings = courses(best, self.draws)
        hopeless = sum(not self._meets(each) for each in endings)
        self._hopeless = confidence = _part(hopeless, len(endings))
        self._sure = self._sure + 1 if confidence >= SURE else 0
        if self.verdict is None and self._sure >= SURE_FOR:
            self.verdict = self._draw(best, endings, ended, confidence, asked_for)
            return self.verdict.sentence
        if self.verdict is not None and confidence < UNSURE:
            before, self.verdict = self.verdict, None
            return taken_back(before, after=ended, left_bytes=last.remaining_bytes, confidence=confidence)
        return ""

    def _best(self, standing: Standing) -> Standing:
        """All of the downtime allowed that is left for memory, at once, and nothing besides.

        Whether iterations shrink is seen as it is, over whatever link that was: so its bandwidth is hardly in doubt.
        """
        goal_s = self.objectives.downtime_s
        room_s = max(LEAST_PART * goal_s, goal_s - standing.pipe_s / 2 - standing.fixed_s)
        return replace(
            standing,
            bandwidth_spread=0.02,
            limit_s=room_s,
            least_limit_s=room_s,
            goal_limit_s=room_s,
            ladder=None,
            postcopy=False,
        )

    def _draw(
        self, best: Standing, endings: list[Ending], ended: int, confidence: float, asked_for: frozenset[str]
    ) -> Verdict:
        lefts = sorted(each.left_bytes for each in endings)
        left = lefts[len(lefts) // 2]
        outage_s = left / best.bytes_per_s + best.pipe_s + best.fixed_s
        verdict = Verdict(
            iteration=ended,
            confidence=confidence,
            left_bytes=left,
            bandwidth_bytes_per_s=best.bytes_per_s * WIRE,
            outage_s=outage_s,
            least_throttle=self._least_throttle(best),
            sentence="",
        )
        sentence = drawn(verdict, self.objectives, throttle=best.throttle, asked_for=asked_for)
        return replace(verdict, sentence=sentence)

    def _least_throttle(self, best: Standing) -> float | None:
        """In whole percent, by what is most likely; ``None``: not even the greatest would do."""

        def enough(percent: int) -> bool:
            return self._meets(likeliest(replace(best, throttle=percent / 100)))

        low, high = round(100 * best.throttle), GREATEST_PERCENT
        if not enough(high):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        return high / 100


def corrected(endings: Sequence[Ending], standing: Standing) -> list[tuple[Ending, Ending]]:
    """What may really come of courses, the model itself being off by more or less, all as likely.

    Args:
        endings: of some courses.
        standing: from which they went on: what is over is certain.

    Returns:
        Each course as it ends and as it may really end, `ERRORS` times over.
    """
    factors = [(math.exp(MODEL_AHEAD * one), math.exp(MODEL_DOWNTIME * other)) for one, other in ERRORS]
    now_s, sent = standing.at_s, standing.sent_bytes
    return [
        (
            each,
            Ending(
                now_s + off * (each.ends_s - now_s),
                off_outage * each.downtime_s,
                sent + off * (each.sent_bytes - sent),
                each.left_bytes,
            ),
        )
        for each in endings
        for off, off_outage in factors
    ]


def _range(found: Iterable[tuple[float, float]]) -> Range:
    """Of figures as the model has them and as they may be: the errors of the model move the ends, not the middle."""
    said, may = zip(*found, strict=True)
    middle, ends = Range.of(said).middle, Range.of(may)
    return Range(min(ends.low, middle), middle, max(middle, ends.high))


def _deadline_s(goal: Objectives) -> float:
    return math.inf if goal.deadline_s is None else goal.deadline_s


def _after_the_move(standing: Standing, last: Statistics, downtime_s: float) -> Outlook:
    """Post-copy: what is left follows, and the outage is over, though nobody has told yet how long it was.

    Args:
        standing, last: where it stands.
        downtime_s: allowed; 0: it came too late anyhow.
    """
    late_s = [standing.at_s + standing.left_bytes / (part * standing.bytes_per_s) for part in POSTCOPY_PARTS]
    outage_s = standing.pipe_s + standing.fixed_s
    downtime = Range(standing.fixed_s / 2, outage_s, 2 * outage_s)
    sent = last.transferred_bytes + standing.left_bytes * WIRE
    return Outlook(
        at_s=standing.at_s,
        iteration=last.iteration,
        ends_s=Range(late_s[0], late_s[1], late_s[2]),
        downtime_s=downtime,
        transferred_bytes=Range(sent, sent, sent),
        meets=_within(downtime, downtime_s),
        basis=Basis.POSTCOPY,
    )


def _as_planned(made: Outlook, planned: Prediction, bytes_per_s: float, deadline_s: float) -> Outlook:
    """In the first iteration: what was planned, moved by how fast the link really is; no sooner than it can be."""
    parts = planned.components
    sending_s = sum(parts[name].middle for name in SENDING if name in parts) or planned.total_s.middle
    thought = planned.transferred_bytes.middle / sending_s if sending_s > 0 else math.inf
    if not 0 < thought < math.inf:
        return made
    slower, soonest_s = max(1.0, thought / (bytes_per_s * WIRE)), made.ends_s.low
    total = planned.total_s
    ends_s = Range(*(max(soonest_s, slower * each) for each in (total.low, total.middle, total.high)))
    return replace(
        made,
        basis=Basis.PLAN,
        ends_s=ends_s,
        downtime_s=planned.downtime_s,
        transferred_bytes=planned.transferred_bytes,
        meets=_still_meets(planned, ends_s, deadline_s),
    )


def _still_meets(planned: Prediction, ends_s: Range, deadline_s: float) -> float:
    """How likely what was planned meets the objectives now that it ends then."""
    before, now = _within(planned.total_s, deadline_s), _within(ends_s, deadline_s)
    return planned.meets * now / before if now < before else planned.meets


def _within(told: Range, limit: float) -> float:
    """How likely it is no more than that, each half of the range taken for one of a normal distribution of the
    logarithm."""
    middle = told.middle
    if not 0 < limit < math.inf or not 0 < middle < math.inf:
        return float(middle <= limit)
    end = told.high if limit >= middle else told.low
    if end == math.inf or end <= 0:
        return 0.5
    reach, needed = abs(math.log(end / middle)), math.log(limit / middle)
    return NORMAL.cdf(needed / reach * NORMAL.inv_cdf(HIGH)) if reach else float(needed >= 0)


def _ladder(knobs: Knobs) -> Ladder:
    """As the knobs have it, or as QEMU has it by itself."""
    return Ladder(
        initial=QEMUS_FIRST_THROTTLE if knobs.throttle_initial is None else knobs.throttle_initial,
        increment=QEMUS_INCREMENT if knobs.throttle_increment is None else knobs.throttle_increment,
        ceiling=QEMUS_CEILING if knobs.throttle_ceiling is None else knobs.throttle_ceiling,
        trigger=QEMUS_TRIGGER if knobs.throttle_trigger is None else knobs.throttle_trigger,
    )


def _part(count: float, of: int) -> float:
    """How likely, after so many of so many: never quite sure (Laplace's rule with half a case each way)."""
    return (count + 0.5) / (of + 1.0)
