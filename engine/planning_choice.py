"""Which ways there are to move a guest, and which one to take: the shortlist, the choice, and its sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .belief import Belief
from .bounds import goodput
from .errors import BadInput
from .pilot import GREATEST_DOWNTIME_LIMIT_S, GREATEST_THROTTLE, LEAST_DOWNTIME_LIMIT_S, LEAST_THROTTLE, POSTCOPY
from .plan import Candidate, Floors, Plan, Predicted, Strategy
from .planning_words import between, percent, rate, seconds, size
from .policy import Abilities, Objectives

SURE = 0.9
"""So likely to meet the objectives is sure enough."""
LIKELY = 0.5
"""Where none is sure, one that is as likely as not is taken, and the sentence says how likely."""
CHANNELS = 4
ALIKE, ALIKE_S = 0.1, 0.05
"""Costs that differ by less than the uncertainty, and by less than this part or so much, are alike."""
PLAINEST_FIRST = (
    Strategy.PLAIN,
    Strategy.MULTIFD,
    Strategy.XBZRLE,
    Strategy.THROTTLED,
    Strategy.PAUSED,
    Strategy.POSTCOPY,
)
"""By what can go wrong: another stream, another encoding, a guest that is slower, that stands, that hangs on a link."""
_SHORTLIST = (
    (Strategy.PLAIN, "throttle=false,postcopy=false,pause=false"),
    (Strategy.THROTTLED, "postcopy=false,pause=false"),
    (Strategy.XBZRLE, "throttle=false,postcopy=false,pause=false,xbzrle=true"),
    (Strategy.MULTIFD, f"throttle=false,postcopy=false,pause=false,multifd={CHANNELS}"),
    (Strategy.POSTCOPY, "throttle=false,pause=false"),
    (Strategy.PAUSED, "throttle=false,postcopy=false"),
)
_CAPABILITIES = {Strategy.XBZRLE: "xbzrle", Strategy.MULTIFD: "multifd", Strategy.POSTCOPY: POSTCOPY}


def check(objectives: Objectives) -> None:
    """See that the objectives do not contradict each other.

    Raises:
        BadInput: they do, or one of them is out of its range; names it.
    """
    least, most = LEAST_DOWNTIME_LIMIT_S, GREATEST_DOWNTIME_LIMIT_S
    if not least <= objectives.downtime_s <= most:
        raise BadInput("downtime", objectives.downtime_s, f"{least:g} to {most:g} s, QEMU's own range")
    if not 0 <= objectives.greatest_throttle <= GREATEST_THROTTLE:
        raise BadInput("throttle", objectives.greatest_throttle, f"0 to {GREATEST_THROTTLE:g}")
    cap = objectives.bandwidth_bytes_per_s
    if cap is not None and cap <= 0:
        raise BadInput("bandwidth", cap, "above 0 bytes per second")
    deadline_s = objectives.deadline_s
    if deadline_s is None:
        return
    if not 0 < deadline_s < math.inf:
        raise BadInput("deadline", deadline_s, "above 0 s")
    if objectives.downtime_s > deadline_s:
        allowed = f"no shorter than the downtime of {objectives.downtime_s:g} s, which is a part of it"
        raise BadInput("deadline", f"{deadline_s:g} s", allowed)


def shortlist(objectives: Objectives, abilities: Abilities) -> tuple[Candidate, ...]:
    """The ways that are always looked at, six at most; those that can't be taken say so when they are assessed.

    Args:
        objectives: what is wanted.
        abilities: what the pair can do.
    """
    del objectives, abilities  # also what is not allowed is shown, with the reason
    return tuple(Candidate(policy=f"predictive:{parameters}", strategy=strategy) for strategy, parameters in _SHORTLIST)


def why_not(strategy: Strategy, belief: Belief, objectives: Objectives, abilities: Abilities) -> str:
    """Why a strategy can't be taken; empty: it can.

    Args:
        strategy: which one.
        belief: what was measured.
        objectives: what is allowed.
        abilities: what the pair can do; no capability at all: that is not known, and none is missed.
    """
    capability = _CAPABILITIES.get(strategy)
    if strategy is Strategy.POSTCOPY and not objectives.may_postcopy:
        return "the objectives do not allow post-copy"
    if strategy is Strategy.PAUSED and not objectives.may_pause:
        return "the objectives do not allow pausing the guest"
    has = abilities.capabilities
    if strategy is Strategy.THROTTLED:
        if objectives.greatest_throttle < LEAST_THROTTLE:
            return "the objectives do not allow slowing the guest"
        if has and "auto-converge" not in has and not abilities.outside_throttle:
            return "these QEMUs have no auto-converge, and the host can't slow the guest"
    if capability is not None and has and capability not in has:
        return f"these QEMUs have no {capability}"
    if strategy is Strategy.XBZRLE and belief.delta_ratio is None:
        return "how much changes within a page was not measured"
    return ""


def choose(belief: Belief, objectives: Objectives, floors: Floors, predicted: Sequence[Predicted]) -> Plan:
    """Which way to take: the cheapest that is sure to meet the objectives, and of those that cost alike the plainest.

    What a way costs is its time and the guest-seconds that it loses, in seconds; with post-copy until the last page
    is there. Where none is sure the most likely one is taken, if it is at least as likely as not.

    Args:
        belief: what it rests on.
        objectives: what is wanted.
        floors: what no pre-copy can beat.
        predicted: every candidate that was assessed, and those that were excluded.
    """
    can = [each for each in predicted if not each.excluded]
    sure = [each for each in can if each.meets >= SURE]
    likely = [each for each in can if each.meets >= LIKELY]
    chosen: Predicted | None = None
    if sure:
        cheapest = min(sure, key=cost_s)
        within = cost_s(cheapest) + _alike_s(cheapest)
        chosen = min((each for each in sure if cost_s(each) <= within), key=lambda each: (_rank(each), cost_s(each)))
    elif likely:
        chosen = min(likely, key=lambda each: (-each.meets, cost_s(each)))
    others = sorted(
        (each for each in predicted if each is not chosen),
        key=lambda each: (
            bool(each.excluded),
            each.meets < SURE,
            -each.meets if each.meets < SURE else 0.0,
            cost_s(each),
        ),
    )
    ranked = (*((chosen,) if chosen is not None else ()), *others)
    if chosen is not None:
        sentence = _recommended(chosen, belief, objectives, floors, can)
    else:
        sentence = _refused(belief, objectives, floors, can)
    return Plan(belief=belief, objectives=objectives, floors=floors, predicted=ranked, chosen=chosen, sentence=sentence)


def cost_s(each: Predicted) -> float:
    """Seconds of time, and of the guest's work; ``inf``: it moves nobody."""
    if each.total_s is None or each.lost_s is None or each.postcopy_s is None:
        return math.inf
    return each.total_s.middle + each.postcopy_s.middle + each.lost_s.middle


def _alike_s(each: Predicted) -> float:
    """By how much another one may cost more, for the two to be alike."""
    assert each.total_s is not None
    unsure_s = (each.total_s.high - each.total_s.low) / 2
    return max(ALIKE_S, min(unsure_s, ALIKE * cost_s(each)))


def _rank(each: Predicted) -> int:
    return PLAINEST_FIRST.index(each.candidate.strategy)


# ---- the sentence


def _recommended(
    chosen: Predicted, belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]
) -> str:
    assert chosen.total_s is not None
    assert chosen.downtime_s is not None
    sentence = f"{_named(chosen)}: {between(chosen.total_s)}"
    if objectives.deadline_s is not None:
        sentence += f" of {seconds(objectives.deadline_s)} allowed"
    sentence += f", outage {seconds(chosen.downtime_s.middle)} of {seconds(objectives.downtime_s)} allowed"
    sentence += f", {percent(chosen.meets)} sure"
    return f"{sentence}; {_reason(chosen, belief, objectives, floors, can)}"


def _named(chosen: Predicted) -> str:
    """The policy without its parameters, and the strategy in words."""
    name = chosen.candidate.policy.partition(":")[0]
    match chosen.candidate.strategy:
        case Strategy.PLAIN:
            return f"{name}, plain pre-copy"
        case Strategy.THROTTLED if chosen.throttle is not None and chosen.throttle.middle > 0:
            return f"{name}, throttled to {percent(chosen.throttle.middle)}"
        case Strategy.THROTTLED:
            return f"{name}, with a throttle in reserve"
        case Strategy.XBZRLE:
            return f"{name} with XBZRLE"
        case Strategy.MULTIFD:
            return f"{name} over several channels"
        case Strategy.POSTCOPY:
            return f"{name} with post-copy"
        case Strategy.PAUSED:
            return f"{name}, pausing the guest"


def _reason(chosen: Predicted, belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> str:
    """Why this one, with the numbers that speak for it."""
    if chosen.meets < SURE:
        return "nothing is surer"
    plain = next((each for each in can if each.candidate.strategy is Strategy.PLAIN), None)
    if chosen.candidate.strategy is Strategy.PLAIN:
        return "nothing that does more is worth what it costs"
    if plain is None or plain.meets >= SURE:
        others = [cost_s(each) for each in can if each is not chosen and each.meets >= SURE]
        return (
            f"the next best costs {seconds(min(others))}, this {seconds(cost_s(chosen))}" if others else "only it does"
        )
    if floors.floor_s.low > objectives.downtime_s:
        at = rate(_bandwidth(belief, objectives))
        return f"without it no pre-copy can beat {seconds(floors.floor_s.middle)} of outage at {at}"
    return f"without it the objectives are met with {percent(plain.meets)} only"


def _refused(belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> str:
    """Why nothing will do, and what would."""
    bandwidth = _bandwidth(belief, objectives)
    normal = belief.total_bytes - belief.zero_bytes.value
    deadline_s = objectives.deadline_s
    why: list[str] = []
    if deadline_s is not None and floors.first_pass_s > deadline_s:
        at = rate(bandwidth)
        why.append(
            f"sending the {size(normal)} that are not zero takes {seconds(floors.first_pass_s)} at {at}, "
            f"and {seconds(deadline_s)} are allowed"
        )
    if floors.floor_s.middle > objectives.downtime_s:
        why.append(
            f"no pre-copy can beat {seconds(floors.floor_s.middle)} of outage at {rate(bandwidth)}, "
            f"and {seconds(objectives.downtime_s)} are allowed"
        )
    best = max(can, key=lambda each: each.meets, default=None)
    if not why and best is not None:
        why.append(f"the likeliest, {_named(best)}, meets them with {percent(best.meets)}{_missed(best)}")
    if not why:
        why.append("no way is left to move the guest")
    helps = _helps(belief, objectives, floors, can)
    return f"nothing is likely to meet the objectives: {', and '.join(why)}" + (
        f"; what would help: {', or '.join(helps)}" if helps else ""
    )


def _missed(best: Predicted) -> str:
    """Which of them it misses most, and by what it comes to."""
    if best.misses.get("never", 0.0) >= LIKELY:
        return ": it comes to no end"
    if best.downtime_s is not None and best.misses.get("downtime", 0.0) >= best.misses.get("deadline", 0.0):
        return f": its outage is {between(best.downtime_s)}"
    return f": it takes {between(best.total_s)}" if best.total_s is not None else ""


def _helps(belief: Belief, objectives: Objectives, floors: Floors, can: Sequence[Predicted]) -> list[str]:
    """What the user could allow or provide."""
    helps: list[str] = []
    bandwidth = _bandwidth(belief, objectives)
    least = floors.least_bandwidth_bytes_per_s
    wanted = least.middle if least is not None else 0.0
    deadline_s = objectives.deadline_s
    if deadline_s is not None:
        # Twice the first pass is about what iterations that shrink come to.
        normal = belief.total_bytes - belief.zero_bytes.value
        wanted = max(wanted, normal / goodput(1.0) / deadline_s)
        if floors.first_pass_s > deadline_s:
            helps.append(f"a deadline of more than {seconds(floors.first_pass_s)}")
    if bandwidth < wanted < math.inf:
        helps.append(f"a bandwidth of {rate(wanted)} or more")
    throttle = floors.least_throttle
    if throttle is not None and objectives.greatest_throttle < throttle.middle < math.inf:
        helps.append(f"a throttle of {percent(throttle.middle)}")
    in_time = deadline_s is None or floors.first_pass_s <= deadline_s
    if not objectives.may_postcopy and in_time:
        helps.append("post-copy")
    moving = [each.downtime_s.high for each in can if each.downtime_s is not None and each.moves >= SURE]
    if in_time and moving and objectives.downtime_s < min(moving) < math.inf:
        helps.append(f"a downtime of {seconds(min(moving))}")
    late = [
        each.total_s.high for each in can if each.total_s is not None and each.misses.get("downtime", 0.0) <= 1 - SURE
    ]
    if in_time and deadline_s is not None and late and min(late) > deadline_s:
        helps.append(f"a deadline of {seconds(min(late))}")
    return helps


def _bandwidth(belief: Belief, objectives: Objectives) -> float:
    """Wire bytes per second that there are."""
    cap = objectives.bandwidth_bytes_per_s or math.inf
    return min(belief.bandwidth_bytes_per_s.value, belief.cpu_bytes_per_s.value, cap)
