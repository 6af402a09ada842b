"""A plan's recommendation, or why there is none, in one sentence with the numbers that decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .belief import Belief, outage_error
from .estimate import HIGH, NORMAL, Range
from .pilot import GREATEST_THROTTLE, POSTCOPY
from .plan import Floors, Predicted, Strategy
from .policy import Abilities, Objectives

SURE = 0.9
"""So likely to meet the objectives is sure enough."""
LIKELY = 0.5
"""Where none is sure, one that is as likely as not is taken, and the sentence says how likely it is."""
_CAREFUL = NORMAL.inv_cdf(HIGH)
"""The end of a range that what is offered has to be enough for."""
_EXACT = 1e-9
"""What rounding up takes for the figure itself, and not for a little more."""
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


def refusal(
    belief: Belief,
    objectives: Objectives,
    floors: Floors,
    can: Sequence[Predicted],
    abilities: Abilities | None = None,
) -> str:
    """Why nothing will do, and what would help.

    Args:
        belief, objectives, floors, can: as of `recommendation`.
        abilities: what the pair can do: nothing else is offered. ``None``, or without any capability: that is not
            known, and it is said so.
    """
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
    helps = _helps(belief, objectives, floors, can, abilities or Abilities())
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


def _helps(
    belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted], abilities: Abilities
) -> list[str]:
    """What the user could allow or provide, each by itself; what is only known to be needed is told as the least."""
    short = [each for each in can if _short_enough(each)]
    longer_s = min((each.total_s.high for each in short if each.total_s is not None), default=math.inf)
    helps = _faster(belief, objectives, floors, abilities, longer_s)
    how = _shorter(belief, objectives, floors, can, abilities)
    deadline_s = math.inf if objectives.deadline_s is None else objectives.deadline_s
    late = floors.first_pass_s > deadline_s
    if not late:
        helps += how
    if deadline_s < longer_s < math.inf:
        helps.append(f"a deadline of {seconds(_up(longer_s))}")
    elif late and floors.floor_s.middle <= objectives.downtime_s:
        helps.append(f"a deadline of more than {seconds(_up(floors.first_pass_s))}")
    elif late and how:
        helps.append(f"a deadline of more than {seconds(_up(floors.first_pass_s))} with {' or '.join(how)}")
    return helps


def _faster(belief: Belief, objectives: Objectives, floors: Floors, abilities: Abilities, longer_s: float) -> list[str]:
    """Which bandwidth would help, where one thread can send so fast or several may.

    Args:
        belief, objectives, floors, abilities: of the plan.
        longer_s: for how long the quickest candidate with an outage that is short enough takes, at the most; ``inf``:
            there is none. With more bandwidth it takes less in proportion, but for what is fixed.
    """
    least = floors.least_bandwidth_bytes_per_s
    now, deadline_s = bandwidth_bytes_per_s(belief, objectives), objectives.deadline_s
    fixed_s = belief.fixed_s.drawn(_CAREFUL)
    words = "a bandwidth of {} or more"
    wanted = least.high if least is not None else math.inf
    if longer_s < math.inf:
        room_s = math.inf if deadline_s is None else deadline_s - fixed_s
        wanted = now * (longer_s - fixed_s) / room_s if room_s > 0 else math.inf
    elif deadline_s is not None:
        # All RAM has to fit; what the guest dirties meanwhile comes on top.
        words = "a bandwidth of at least {}"
        wanted = max(wanted, now * floors.first_pass_s / deadline_s)
    if not now < wanted < math.inf:
        return []
    if wanted > belief.cpu_bytes_per_s.value:
        if _had("multifd", abilities) is None:
            return []
        words += " over several channels"
    return [words.format(rate(_rate_up(wanted)))]


def _shorter(
    belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted], abilities: Abilities
) -> list[str]:
    """What would make the outage short enough, of what is not allowed already and can be had."""
    how: list[str] = []
    deadline_s, throttle = objectives.deadline_s, floors.least_throttle
    slowing = "" if abilities.outside_throttle else _had("auto-converge", abilities)
    if throttle is not None and slowing is not None:
        needed = math.ceil(100 * throttle.high - _EXACT) / 100 if throttle.high < math.inf else math.inf
        if objectives.greatest_throttle < needed <= GREATEST_THROTTLE:
            # Whether the iterations that it takes are over by the deadline is not known.
            how.append(f"a throttle of {'' if deadline_s is None else 'at least '}{percent(needed)}{slowing}")
    postcopy, outage_s = _had(POSTCOPY, abilities), _postcopy_s(belief, objectives)
    in_time = deadline_s is None or not floors.first_pass_s <= deadline_s < floors.first_pass_s + outage_s
    if not objectives.may_postcopy and postcopy is not None and in_time and outage_s <= objectives.downtime_s:
        how.append(f"post-copy{postcopy}")
    longer_s = _longer_s(objectives, floors, can)
    if objectives.downtime_s < longer_s < math.inf:
        how.append(f"a downtime of {seconds(_up(longer_s))}")
    return how


def _longer_s(objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> float:
    """Which outage would have to be allowed; ``inf``: with none it is known to be in time.

    Where not even the first pass fits into the deadline, that has to be longer anyhow.
    """
    deadline_s = objectives.deadline_s
    any_time = deadline_s is None or floors.first_pass_s > deadline_s
    moved = [each for each in can if each.moves >= SURE]
    in_time = [each for each in moved if any_time or each.misses.get("deadline", 0.0) <= 1 - SURE]
    outages = [each.downtime_s.high for each in in_time if each.downtime_s is not None]
    # Nobody having been seen to get there, what QEMU's own iterations come to is what is left: in their own time.
    return min(outages, default=max(floors.floor_s.high, floors.plateau_s.high) if any_time else math.inf)


def _postcopy_s(belief: Belief, objectives: Objectives) -> float:
    """The outage of going over to post-copy, at the most: what is fixed, and what lies in the pipe."""
    pipe_s = belief.pipe_bytes.drawn(_CAREFUL) / bandwidth_bytes_per_s(belief, objectives)
    told_s = belief.model_downtime.value * (belief.fixed_s.drawn(_CAREFUL) + pipe_s)
    return told_s * math.exp(_CAREFUL * belief.model_downtime.spread * outage_error(told_s))


def _had(capability: str, abilities: Abilities) -> str | None:
    """Whether it can be had, as what is to be said of it: nothing, or that it is not known; ``None``: it can't be."""
    if not abilities.capabilities:
        return " if this QEMU has it"
    return "" if capability in abilities.capabilities else None


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


def _up(value: float) -> float:
    """Seconds, rounded up to what is shown of them: what is offered is never less than what is needed."""
    if value >= 600:
        return 60.0 * math.ceil(value / 60 - _EXACT)
    return _rounded_up(value, 3 if value >= 10 else 2)


def _rate_up(value: float) -> float:
    """The same of a rate above 0."""
    unit = next((unit for unit, _ in _UNITS if value >= unit), 1)
    return _rounded_up(value / unit, 3) * unit


def _rounded_up(value: float, digits: int) -> float:
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return math.ceil(value / step - _EXACT) * step
