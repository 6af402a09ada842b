"""A plan before the start: what each way to move the guest comes to, how surely, and which one to take.

What is known of guest and link is known roughly (`whimbrel.engine.belief`). So each candidate is forecast many times,
each time for one of the ways that it may really be (`settings`), steered by its own policy, and by how far forecasts
were off so far; what comes of them are ranges, and how many of them meet the objectives. All candidates see the same
draws, so that what differs between two of them is not chance; and the draws are no dice: the same question always has
the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .belief import Belief
from .errors import BadInput
from .estimate import HIGH, NORMAL, Range
from .forecast import forecast
from .forecast_records import Forecast
from .plan import Candidate, Predicted
from .planning_choice import check, choose, shortlist, why_not
from .planning_floors import floors
from .planning_settings import Drawn, drawn, setting_of, settings
from .policy import Abilities, Objectives, Policy

__all__ = ["LEAST_DRAWS", "assess", "check", "choose", "floors", "settings", "shortlist", "why_not"]

LEAST_DRAWS = 40
"""However slow a candidate is: with fewer the ends of a range are single draws."""
HOPELESS_DRAWS = 12
"""But if none of so many meets the objectives, more of them would change nothing: it is 18 % likely at most."""
MOST_DRAWS = 10_000


def assess(
    belief: Belief,
    objectives: Objectives,
    abilities: Abilities,
    candidate: Candidate,
    make_policy: Callable[[], Policy],
    draws: int = 200,
    *,
    clock: Callable[[], float] | None = None,
    budget_s: float | None = None,
) -> Predicted:
    """What a candidate comes to.

    Args:
        belief: what is known before the start.
        objectives: what is wanted.
        abilities: what the pair can do, as the policy will be told.
        candidate: which one.
        make_policy: makes its policy anew: one with a memory is used up by a forecast.
        draws: how many ways that it may be are forecast, 1 to `MOST_DRAWS`.
        clock: seconds; the engine has none of its own. Only with `budget_s`.
        budget_s: after so long it makes do with what it has, `LEAST_DRAWS` at least, or `HOPELESS_DRAWS` of which none
            meets the objectives; `Predicted.draws` says with how many. ``None``: all of them, however long that takes.

    Raises:
        BadInput: there is no such number of draws.
    """
    if not 1 <= draws <= MOST_DRAWS:
        raise BadInput("draws", draws, f"1 to {MOST_DRAWS}")
    if excluded := why_not(candidate.strategy, belief, objectives, abilities):
        return Predicted(candidate=candidate, excluded=excluded)
    until_s = clock() + budget_s if clock is not None and budget_s is not None else math.inf
    seen: list[_Seen] = []
    for one in drawn(belief, draws):
        if clock is not None and clock() >= until_s and _enough(seen):
            break
        told = forecast(setting_of(one, belief, objectives, abilities), make_policy())
        seen.append(_seen(one, told, objectives))
    return _predicted(candidate, seen)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One forecast, corrected by the model's own error."""

    moved: bool
    late: bool
    """The deadline has passed."""
    long: bool
    """The outage is longer than allowed."""
    total_s: float
    downtime_s: float
    bytes: float
    iterations: int
    lost_s: float
    throttle: float
    postcopy_s: float
    components: dict[str, float]

    @property
    def good(self) -> bool:
        """The objectives are met."""
        return self.moved and not self.late and not self.long


def _seen(one: Drawn, told: Forecast, objectives: Objectives) -> _Seen:
    outage = told.outage
    deadline_s = objectives.deadline_s
    if outage is None:
        late = deadline_s is not None and one.time * told.total_s >= deadline_s
        return _Seen(False, late, False, 0.0, 0.0, 0.0, 0, 0.0, 0.0, 0.0, {})
    off = one.outage_factor(outage.total_s)
    total_s, downtime_s = one.time * told.moved_s, off * outage.total_s
    fixed_s = off * (outage.stop_s + outage.resume_s)
    state_s = off * (outage.pipe_s + outage.device_state_s + outage.load_s)
    return _Seen(
        moved=True,
        # Over it is when the last page is there.
        late=deadline_s is not None and one.time * told.total_s > deadline_s,
        long=downtime_s > objectives.downtime_s,
        total_s=total_s,
        downtime_s=downtime_s,
        bytes=one.bytes * told.transferred_bytes,
        iterations=told.iterations,
        lost_s=one.time * (1.0 - told.work) * told.total_s,
        throttle=told.throttle,
        postcopy_s=one.time * told.postcopy_s,
        components={
            "preparation": one.preparation_s,
            "iterations": max(0.0, total_s - downtime_s),
            "last_ram": downtime_s - state_s - fixed_s,
            "device_state": state_s,
            "fixed": fixed_s,
        },
    )


def _enough(seen: Sequence[_Seen]) -> bool:
    """Whether they tell what is to be known, if no more can be had."""
    return len(seen) >= LEAST_DRAWS or (len(seen) >= HOPELESS_DRAWS and not any(each.good for each in seen))


def _predicted(candidate: Candidate, seen: Sequence[_Seen]) -> Predicted:
    count = len(seen)
    moved = [each for each in seen if each.moved]
    good = sum(1 for each in moved if each.good)
    low, high = wilson(good, count)
    misses = {
        "downtime": sum(1 for each in moved if each.long) / count,
        "deadline": sum(1 for each in seen if each.late) / count,
        "never": (count - len(moved)) / count,
    }

    def over(value: Callable[[_Seen], float]) -> Range | None:
        return Range.of([value(each) for each in moved]) if moved else None

    names = moved[0].components if moved else ()
    return Predicted(
        candidate=candidate,
        moves=len(moved) / count,
        meets=good / count,
        meets_low=low,
        meets_high=high,
        misses=misses,
        total_s=over(lambda each: each.total_s),
        downtime_s=over(lambda each: each.downtime_s),
        transferred_bytes=over(lambda each: each.bytes),
        iterations=over(lambda each: each.iterations),
        lost_s=over(lambda each: each.lost_s),
        throttle=over(lambda each: each.throttle),
        postcopy_s=over(lambda each: each.postcopy_s),
        components={name: Range.of([each.components[name] for each in moved]) for name in names},
        draws=count,
    )


def wilson(good: int, count: int) -> tuple[float, float]:
    """Between what the probability lies, in nine of ten cases, of which so many of so many tries came out well.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        good: 0 to `count`.
        count: 1 or more.
    """
    z = NORMAL.inv_cdf(HIGH)
    part, more = good / count, z * z / count
    middle = (part + more / 2) / (1 + more)
    reach = math.sqrt(part * (1 - part) * more + more * more / 4) / (1 + more)
    return max(0.0, min(part, middle - reach)), min(1.0, max(part, middle + reach))
