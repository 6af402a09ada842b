"""What can be had, what contradicts itself, and which way is taken."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.beliefs import ABLE, about, belief, excluded, floors, predicted
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.plan import Predicted, Strategy
from whimbrel.engine.planning_choice import check, choose, shortlist, why_not
from whimbrel.engine.planning_sentences import cost_s
from whimbrel.engine.policy import Abilities, Objectives

GOAL = Objectives(downtime_s=0.3)
ALL = Objectives(downtime_s=0.3, greatest_throttle=0.9, may_postcopy=True, may_pause=True)


# ---- objectives


@pytest.mark.parametrize(
    ("field", "goal"),
    [
        ("deadline", Objectives(downtime_s=3.0, deadline_s=2.0)),
        ("deadline", Objectives(deadline_s=0.0)),
        ("deadline", Objectives(deadline_s=math.inf)),
        ("downtime", Objectives(downtime_s=0.0)),
        ("downtime", Objectives(downtime_s=math.nan)),
        ("throttle", Objectives(greatest_throttle=1.0)),
        ("bandwidth", Objectives(bandwidth_bytes_per_s=0)),
    ],
)
def test_objectives_that_contradict_each_other_or_make_no_sense_are_named(field: str, goal: Objectives) -> None:
    with pytest.raises(BadInput, match=field) as refused:
        check(goal)
    assert refused.value.field == field


@pytest.mark.parametrize("goal", [GOAL, ALL, Objectives(downtime_s=2.0, deadline_s=2.0, bandwidth_bytes_per_s=1)])
def test_those_that_are_merely_hard_are_not(goal: Objectives) -> None:
    check(goal)


# ---- the shortlist


def test_six_ways_at_most_those_that_can_be_taken_first() -> None:
    named = [each.strategy for each in shortlist(GOAL, ABLE)]
    assert named[:3] == [Strategy.PLAIN, Strategy.XBZRLE, Strategy.MULTIFD]
    assert sorted(named) == sorted(Strategy)
    assert len(shortlist(ALL, Abilities())) == 6


def test_each_has_one_permission_at_most() -> None:
    texts = {each.strategy: each.policy for each in shortlist(ALL, ABLE)}
    assert texts[Strategy.PLAIN] == "predictive:throttle=false,postcopy=false,pause=false"
    assert texts[Strategy.POSTCOPY] == "predictive:throttle=false,pause=false"
    assert texts[Strategy.MULTIFD].endswith("multifd=4")


def test_what_else_is_allowed_is_held_in_reserve_by_what_is_run() -> None:
    for each in shortlist(ALL, ABLE, 0.0171):
        assert each.policy.endswith(",fixed=18ms")
        assert each.runs == f"{each.policy},reserve=true"


@pytest.mark.parametrize(
    ("strategy", "goal", "abilities", "reason"),
    [
        (Strategy.POSTCOPY, GOAL, ABLE, "do not allow post-copy"),
        (Strategy.PAUSED, GOAL, ABLE, "do not allow pausing"),
        (Strategy.THROTTLED, GOAL, ABLE, "do not allow slowing"),
        (Strategy.THROTTLED, ALL, Abilities(capabilities=frozenset({"xbzrle"})), "no auto-converge"),
        (Strategy.POSTCOPY, ALL, Abilities(capabilities=frozenset({"xbzrle"})), "no postcopy-ram"),
        (Strategy.MULTIFD, GOAL, Abilities(capabilities=frozenset({"xbzrle"})), "no multifd"),
        (Strategy.XBZRLE, GOAL, Abilities(capabilities=frozenset({"multifd"})), "no xbzrle"),
        (Strategy.XBZRLE, GOAL, ABLE, "was not measured"),
    ],
)
def test_what_can_not_be_taken_says_why(
    strategy: Strategy, goal: Objectives, abilities: Abilities, reason: str
) -> None:
    assert reason in why_not(strategy, belief(), goal, abilities)


@pytest.mark.parametrize("strategy", Strategy)
def test_what_is_allowed_and_able_can_be_taken(strategy: Strategy) -> None:
    known = belief(delta_ratio=Estimate(0.3))
    assert why_not(strategy, known, ALL, ABLE) == ""
    assert why_not(strategy, known, ALL, Abilities()) == ""  # what they can do is not known yet


def test_a_throttle_from_outside_needs_nothing_of_qemu() -> None:
    outside = Abilities(capabilities=frozenset({"xbzrle"}), outside_throttle=True)
    assert why_not(Strategy.THROTTLED, belief(), ALL, outside) == ""


# ---- the choice


def chosen(*candidates: Predicted) -> Predicted | None:
    return choose(belief(), GOAL, floors(), candidates).chosen


def test_of_those_that_are_sure_the_cheapest() -> None:
    slow, quick = predicted(takes_s=9.0), predicted(Strategy.THROTTLED, takes_s=7.0, loses_s=0.5)
    unsure = predicted(Strategy.XBZRLE, meets=0.85, takes_s=3.0)
    assert chosen(slow, unsure, quick) is quick


def test_lost_work_costs_as_much_as_time_and_pages_that_follow_are_time() -> None:
    plain = predicted(takes_s=7.0, loses_s=0.2)
    assert chosen(plain, predicted(Strategy.THROTTLED, takes_s=5.0, loses_s=4.0)) is plain
    assert chosen(plain, predicted(Strategy.POSTCOPY, takes_s=4.0, postcopy_s=about(5.0))) is plain
    assert chosen(plain, hybrid := predicted(Strategy.POSTCOPY, takes_s=4.0, postcopy_s=about(1.0))) is hybrid


def test_where_costs_are_alike_the_plainer() -> None:
    plain, throttled = predicted(takes_s=7.5), predicted(Strategy.THROTTLED, takes_s=7.0)
    assert chosen(throttled, plain) is plain
    exactly = predicted(Strategy.THROTTLED, total_s=Range(7.0, 7.0, 7.0))
    assert chosen(exactly, plain) is exactly


def test_where_none_is_sure_the_likeliest_if_it_is_as_likely_as_not() -> None:
    some, more = predicted(meets=0.6), predicted(Strategy.THROTTLED, meets=0.8, takes_s=20.0)
    assert chosen(some, more) is more
    assert chosen(predicted(meets=0.49)) is None
    assert chosen() is None


def test_one_that_is_excluded_is_never_taken_and_comes_last() -> None:
    out, hopeless, unsure = excluded(), predicted(meets=0.0), predicted(meets=0.7)
    dear, cheap = predicted(takes_s=30.0), predicted(Strategy.XBZRLE, takes_s=5.0)
    plan = choose(belief(), GOAL, floors(), (out, hopeless, dear, unsure, cheap))
    assert plan.chosen is cheap
    assert plan.predicted == (cheap, dear, unsure, hopeless, out)
    nobody = choose(belief(), GOAL, floors(), (out, hopeless))
    assert (nobody.chosen, nobody.predicted) == (None, (hopeless, out))
    assert nobody.sentence.startswith("nothing is likely")


def test_where_nothing_will_do_only_what_the_pair_can_do_is_offered() -> None:
    hot = floors(floor_s=about(0.95))
    assert "post-copy" in choose(belief(), GOAL, hot, (), ABLE).sentence
    assert "post-copy" not in choose(belief(), GOAL, hot, (), Abilities(capabilities=frozenset({"xbzrle"}))).sentence
    assert "post-copy if this QEMU has it" in choose(belief(), GOAL, hot, ()).sentence


some_candidates = st.lists(
    st.builds(
        predicted,
        st.sampled_from(Strategy),
        st.floats(0, 1),
        st.floats(0.5, 100),
        st.floats(0, 50),
    ),
    max_size=5,
    unique_by=cost_s,
)


@settings(max_examples=100, deadline=None)
@given(some_candidates, st.randoms(use_true_random=False))
def test_the_choice_is_among_the_likely_and_does_not_hang_on_the_order(candidates: list[Predicted], dice: Any) -> None:
    plan = choose(belief(), ALL, floors(), candidates)
    shuffled = list(candidates)
    dice.shuffle(shuffled)
    assert choose(belief(), ALL, floors(), shuffled).chosen == plan.chosen
    assert sorted(map(id, plan.predicted)) == sorted(map(id, candidates))
    if plan.chosen is None:
        assert all(each.meets < 0.5 for each in candidates)
    else:
        assert plan.chosen is plan.predicted[0]
        assert plan.chosen.meets >= 0.5
        assert plan.chosen.meets >= 0.9 or max(each.meets for each in candidates) < 0.9
    sure = [each.meets >= 0.9 for each in plan.predicted]
    assert [each for each, _ in itertools.groupby(sure)] in ([], [True], [False], [True, False])
