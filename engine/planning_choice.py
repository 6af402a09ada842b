"""Which ways there are to move a guest, and which one to take: the shortlist, what can't be had, and the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .belief import Belief
from .errors import BadInput
from .pilot import GREATEST_DOWNTIME_LIMIT_S, GREATEST_THROTTLE, LEAST_DOWNTIME_LIMIT_S, LEAST_THROTTLE, POSTCOPY
from .plan import Candidate, Floors, Plan, Predicted, Strategy
from .planning_sentences import LIKELY, SURE, cost_s, recommendation, refusal
from .policy import Abilities, Objectives

CHANNELS = 4
"""Of the candidate with several."""
ALIKE, ALIKE_S = 0.1, 0.05
"""Costs that differ by less than the uncertainty are alike, if by less than this part; or else by less than so much."""
PLAINEST_FIRST = (
    Strategy.PLAIN,
    Strategy.MULTIFD,
    Strategy.XBZRLE,
    Strategy.THROTTLED,
    Strategy.PAUSED,
    Strategy.POSTCOPY,
)
"""By what can go wrong: another stream, another encoding, a guest that is slow, that stands, that hangs on a link."""
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


def shortlist(objectives: Objectives, abilities: Abilities, fixed_s: float | None = None) -> tuple[Candidate, ...]:
    """The ways that are always looked at, six of them, each by our own policy with one permission at most.

    Those that can't be taken are among them: assessed they say why not, which is what a user wants to know.

    Args:
        objectives: what is wanted. With post-copy allowed nothing else changes: a way without it is the plainer one.
        abilities: what the pair can do.
        fixed_s: what a switchover takes with nothing left to send, for the policy to reckon with; ``None``: its own
            default.
    """
    possible = sorted(
        _SHORTLIST, key=lambda each: bool(_not_allowed(each[0], objectives) or _lacks(each[0], abilities))
    )
    fixed = "" if fixed_s is None else f",fixed={math.ceil(1e3 * fixed_s)}ms"
    named = [(strategy, f"predictive:{parameters}{fixed}") for strategy, parameters in possible]
    return tuple(Candidate(policy=text, strategy=strategy, runs=f"{text},reserve=true") for strategy, text in named)


def why_not(strategy: Strategy, belief: Belief, objectives: Objectives, abilities: Abilities) -> str:
    """Why a strategy can't be taken; empty: it can.

    Args:
        strategy: which one.
        belief: what was measured.
        objectives: what is allowed.
        abilities: what the pair can do; no capability at all: that is not known, and none is missed.
    """
    if strategy is Strategy.XBZRLE and belief.delta_ratio is None:
        return _lacks(strategy, abilities) or "how much changes within a page was not measured"
    return _not_allowed(strategy, objectives) or _lacks(strategy, abilities)


def _not_allowed(strategy: Strategy, objectives: Objectives) -> str:
    if strategy is Strategy.POSTCOPY and not objectives.may_postcopy:
        return "the objectives do not allow post-copy"
    if strategy is Strategy.PAUSED and not objectives.may_pause:
        return "the objectives do not allow pausing the guest"
    if strategy is Strategy.THROTTLED and objectives.greatest_throttle < LEAST_THROTTLE:
        return "the objectives do not allow slowing the guest"
    return ""


def _lacks(strategy: Strategy, abilities: Abilities) -> str:
    has = abilities.capabilities
    if not has:
        return ""
    if strategy is Strategy.THROTTLED and "auto-converge" not in has and not abilities.outside_throttle:
        return "this QEMU has no auto-converge, and its host can't slow the guest"
    needed = _CAPABILITIES.get(strategy)
    return f"this QEMU has no {needed}" if needed is not None and needed not in has else ""


def choose(
    belief: Belief,
    objectives: Objectives,
    floors: Floors,
    predicted: Sequence[Predicted],
    abilities: Abilities | None = None,
) -> Plan:
    """Which way to take: the cheapest that is sure to meet the objectives, and of those that cost alike the plainest.

    What a way costs is its time and the guest-seconds that it loses, in seconds, as in the league; with post-copy the
    time until the last page is there. Where none is sure the most likely one is taken, if it is at least as likely as
    not.

    Args:
        belief: what it rests on.
        objectives: what is wanted.
        floors: what no pre-copy can beat.
        predicted: every candidate that was assessed, and those that were excluded.
        abilities: what the pair can do, so that nothing else is offered where nothing will do; ``None``: not known.
    """
    can = [each for each in predicted if not each.excluded]
    chosen = _chosen(can)
    others = sorted((each for each in predicted if each is not chosen), key=_place)
    if chosen is not None:
        sentence = recommendation(chosen, belief, objectives, floors, can)
    else:
        sentence = refusal(belief, objectives, floors, can, abilities)
    return Plan(
        belief=belief,
        objectives=objectives,
        floors=floors,
        predicted=(chosen, *others) if chosen is not None else tuple(others),
        chosen=chosen,
        sentence=sentence,
    )


def _chosen(can: Sequence[Predicted]) -> Predicted | None:
    sure = [each for each in can if each.meets >= SURE]
    if sure:
        cheapest = min(sure, key=cost_s)
        within_s = cost_s(cheapest) + _alike_s(cheapest)
        return min(
            (each for each in sure if cost_s(each) <= within_s),
            key=lambda each: (PLAINEST_FIRST.index(each.candidate.strategy), cost_s(each)),
        )
    likely = [each for each in can if each.meets >= LIKELY]
    return min(likely, key=lambda each: (-each.meets, cost_s(each)), default=None)


def _alike_s(each: Predicted) -> float:
    """By how much another one may cost more, for the two to be alike."""
    assert each.total_s is not None
    unsure_s = (each.total_s.high - each.total_s.low) / 2
    return max(ALIKE_S, min(unsure_s, ALIKE * cost_s(each)))


def _place(each: Predicted) -> tuple[bool, float, float]:
    """In the table: the sure ones by cost, then the likelier ones, then those that can't be taken."""
    return bool(each.excluded), -min(each.meets, SURE), cost_s(each)
