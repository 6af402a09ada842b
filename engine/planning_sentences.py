"""A plan's recommendation, or why there is none, in one sentence with the numbers that decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .belief import Belief
from .estimate import Range
from .plan import Floors, Predicted, Strategy
from .policy import Objectives

SURE = 0.9
"""So likely to meet the objectives is sure enough."""
LIKELY = 0.5
"""Where none is sure, one that is as likely as not is taken, and the sentence says how likely it is."""
_MEANS = {
    Strategy.PLAIN: ", plain pre-copy",
    Strategy.THROTTLED: ", a throttle in reserve",
    Strategy.XBZRLE: " with XBZRLE",
    Strategy.MULTIFD: " over several channels",
    Strategy.POSTCOPY: " with post-copy",
    Strategy.PAUSED: ", pausing the guest",
}
_WITHOUT = {
    Strategy.THROTTLED: "without a throttle ",
    Strategy.XBZRLE: "without XBZRLE ",
    Strategy.MULTIFD: "over one channel ",
}


def cost_s(each: Predicted) -> float:
    """Seconds of time, and of the guest's work; ``inf``: it moves nobody."""
    if each.total_s is None or each.lost_s is None or each.postcopy_s is None:
        return math.inf
    return each.total_s.middle + each.postcopy_s.middle + each.lost_s.middle


def recommendation(
    chosen: Predicted, belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]
) -> str:
    """What to take, what it comes to, and why this one.

    Args:
        chosen: it.
        belief, objectives, floors: of the plan.
        can: all that could be taken.
    """
    assert chosen.total_s is not None
    assert chosen.downtime_s is not None
    sentence = f"{named(chosen)}: {between(chosen.total_s)}"
    if objectives.deadline_s is not None:
        sentence += f" of {seconds(objectives.deadline_s)} allowed"
    sentence += f", outage {seconds(chosen.downtime_s.middle)} of {seconds(objectives.downtime_s)} allowed"
    sentence += f", {percent(chosen.meets)} sure"
    return f"{sentence}; {_reason(chosen, belief, objectives, floors, can)}"


def refusal(belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> str:
    """Why nothing will do, and what would help; arguments as of `recommendation`."""
    at = rate(bandwidth_bytes_per_s(belief, objectives))
    deadline_s, downtime_s = objectives.deadline_s, objectives.downtime_s
    why: list[str] = []
    if deadline_s is not None and floors.first_pass_s > deadline_s:
        normal = size(belief.total_bytes - belief.zero_bytes.value)
        why.append(
            f"sending the {normal} that are not zero takes {seconds(floors.first_pass_s)} at {at}, "
            f"{seconds(deadline_s)} are allowed"
        )
    if floors.floor_s.middle > downtime_s:
        beaten = seconds(floors.floor_s.middle)
        why.append(f"no pre-copy can beat {beaten} of outage at {at}, {seconds(downtime_s)} are allowed")
    best = max(can, key=lambda each: each.meets, default=None)
    if not why and best is not None:
        why.append(f"the likeliest, {named(best)}, meets them with {percent(best.meets)}{_missed(best)}")
    helps = _helps(belief, objectives, floors, can)
    reasons = "; ".join(why) or "there is no way left to move the guest"
    return f"nothing is likely to meet the objectives: {reasons}" + (
        f"; what would help: {', or '.join(helps)}" if helps else ""
    )


def named(each: Predicted) -> str:
    """The policy without its parameters, and the strategy in words."""
    name, strategy = each.candidate.policy.partition(":")[0], each.candidate.strategy
    if strategy is Strategy.THROTTLED and each.throttle is not None and each.throttle.middle > 0:
        return f"{name}, throttled to {percent(each.throttle.middle)}"
    return f"{name}{_MEANS[strategy]}"


def _reason(chosen: Predicted, belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> str:
    """Why this one, with the numbers that speak for it."""
    if chosen.meets < SURE:
        return "nothing is surer"
    others = [each for each in can if each is not chosen and each.meets >= SURE]
    plain = next((each for each in can if each.candidate.strategy is Strategy.PLAIN), None)
    if plain is not None and plain.meets < SURE:
        without = _WITHOUT.get(chosen.candidate.strategy, "")
        if floors.floor_s.middle > objectives.downtime_s:
            at = rate(bandwidth_bytes_per_s(belief, objectives))
            return f"{without}no pre-copy can beat {seconds(floors.floor_s.middle)} at {at}"
        return f"{without}plain pre-copy meets them with {percent(plain.meets)} only"
    if not others:
        return "it is the only way that does"
    next_s, costs = min(cost_s(each) for each in others), "with the guest's lost time it costs"
    if next_s < cost_s(chosen):
        return (
            f"{costs} {seconds(cost_s(chosen))}, and {seconds(next_s)} is the least: too little for more than it takes"
        )
    return f"{costs} {seconds(cost_s(chosen))}, the next one {seconds(next_s)}"


def _missed(best: Predicted) -> str:
    """Which of them it misses most, and what it comes to."""
    if best.total_s is None or best.downtime_s is None or best.misses.get("never", 0.0) >= LIKELY:
        return ": it comes to no end"
    if best.misses.get("downtime", 0.0) >= best.misses.get("deadline", 0.0):
        return f": its outage is {between(best.downtime_s)}"
    return f": it takes {between(best.total_s)}"


def _helps(belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> list[str]:
    """What the user could allow or provide, one of which would do."""
    deadline_s = objectives.deadline_s
    helps: list[str] = []
    least = floors.least_bandwidth_bytes_per_s
    bandwidth = bandwidth_bytes_per_s(belief, objectives)
    wanted = least.middle if least is not None else math.inf
    late = deadline_s is not None and floors.first_pass_s > deadline_s
    if deadline_s is not None:
        wanted = max(wanted, bandwidth * floors.first_pass_s / deadline_s)
    if bandwidth < wanted < math.inf:
        helps.append(f"a bandwidth of {rate(wanted)} or more")
    how = _shorter(belief, objectives, floors, can)
    if not late:
        in_time = [each.total_s.high for each in can if each.total_s is not None and _short_enough(each)]
        if deadline_s is not None and in_time and deadline_s < min(in_time) < math.inf:
            how.append(f"a deadline of {seconds(min(in_time))}")
        return helps + how
    longer = f"a deadline of more than {seconds(floors.first_pass_s)}"
    if floors.floor_s.middle > objectives.downtime_s:
        return [*helps, f"{longer} with {' or '.join(how)}"] if how else helps
    return [*helps, longer]


def _shorter(belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> list[str]:
    """What would make the outage short enough."""
    how: list[str] = []
    throttle = floors.least_throttle
    if throttle is not None and objectives.greatest_throttle < throttle.middle < math.inf:
        how.append(f"a throttle of {percent(throttle.middle)}")
    if not objectives.may_postcopy and belief.fixed_s.value < objectives.downtime_s:
        how.append("post-copy")
    outages = [each.downtime_s.high for each in can if each.downtime_s is not None and each.moves >= SURE]
    longer_s = max(floors.floor_s.middle, min(outages, default=floors.plateau_s.middle))
    if objectives.downtime_s < longer_s < math.inf:
        how.append(f"a downtime of {seconds(longer_s)}")
    return how


def _short_enough(each: Predicted) -> bool:
    return each.moves >= SURE and each.misses.get("downtime", 0.0) <= 1 - SURE


def bandwidth_bytes_per_s(belief: Belief, objectives: Objectives) -> float:
    """What there is to send with, wire bytes: the least of what link, thread and user let through."""
    cap = objectives.bandwidth_bytes_per_s or math.inf
    return min(belief.bandwidth_bytes_per_s.value, belief.cpu_bytes_per_s.value, cap)


# ---- figures in people's units

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))


def seconds(value: float) -> str:
    """``0.24 s``, ``7.1 s``, ``12 min``."""
    if value == math.inf:
        return "no end"
    return f"{value / 60:.0f} min" if value >= 600 else f"{_short(value)} s"


def between(told: Range) -> str:
    """``7.1 s (6.5 to 8.0)``."""
    return f"{seconds(told.middle)} ({_short(told.low)} to {_short(told.high)})"


def size(value: float) -> str:
    """``149 MiB``."""
    unit, name = next((each for each in _UNITS if value >= each[0]), _UNITS[-1])
    return f"{value / unit:.3g} {name}" if value < 999.5 * unit else f"{value / unit:.0f} {name}"


def rate(value: float) -> str:
    """``114 MiB/s``."""
    return f"{size(value)}/s"


def percent(part: float) -> str:
    """``97 %``; only what is all is said to be 100 %."""
    return "100 %" if part >= 1.0 else f"{min(99, round(100 * part))} %"


def _short(value: float) -> str:
    """Two digits below 10, three from there on."""
    if value >= 10:
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
