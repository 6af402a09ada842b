"""The sentence of a plan: what is taken and why, or why nothing is and what would help."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.beliefs import ABLE, MIB, about, belief, excluded, floors, predicted
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.plan import Floors, Predicted, Strategy
from whimbrel.engine.planning_sentences import (
    bandwidth_bytes_per_s,
    between,
    cost_s,
    named,
    percent,
    rate,
    recommendation,
    refusal,
    seconds,
    size,
)
from whimbrel.engine.policy import Abilities, Objectives

GOAL = Objectives(downtime_s=0.3)
HOT = floors(
    floor_s=about(0.95), plateau_s=about(2.0), least_throttle=about(0.64), least_bandwidth_bytes_per_s=about(900 * MIB)
)


def said(chosen: Predicted, *others: Predicted, goal: Objectives = GOAL, bounds: Floors | None = None) -> str:
    return recommendation(chosen, belief(), goal, bounds or floors(), (chosen, *others))


def refused(
    *can: Predicted,
    goal: Objectives = GOAL,
    bounds: Floors = HOT,
    fixed_s: float = 0.012,
    able: Abilities | None = ABLE,
) -> str:
    return refusal(belief(fixed_s=Estimate(fixed_s)), goal, bounds, can, able)


# ---- what is taken


def test_the_recommendation_has_the_numbers_and_the_bound_that_decides() -> None:
    throttled = predicted(Strategy.THROTTLED, 0.97, 7.1, throttle=about(0.64), total_s=Range(6.5, 7.1, 8.0))
    assert said(throttled, predicted(meets=0.0), bounds=HOT) == (
        "predictive, throttled to 64 %: 7.1 s (6.5 to 8.0), outage 0.24 s of 0.3 s allowed, 97 % sure; "
        "without a throttle no pre-copy can beat 0.95 s at 114 MiB/s"
    )


def test_a_deadline_is_told_with_what_is_allowed() -> None:
    assert "7.0 s (6.3 to 7.7) of 20 s allowed" in said(predicted(), goal=Objectives(deadline_s=20.0))


def test_where_plain_pre_copy_might_do_it_says_how_surely() -> None:
    it = said(predicted(Strategy.XBZRLE), predicted(meets=0.7))
    assert it.endswith("without XBZRLE plain pre-copy meets them with 70 % only")


def test_where_both_would_do_it_says_what_they_cost() -> None:
    cheaper = said(predicted(Strategy.POSTCOPY, takes_s=3.0), predicted(takes_s=7.0))
    assert cheaper.endswith("with the guest's lost time it costs 3.3 s, the next one 7.3 s")
    plainer = said(predicted(takes_s=7.0), predicted(Strategy.POSTCOPY, takes_s=6.9))
    assert "it costs 7.3 s, and 7.2 s is the least" in plainer


def test_where_nothing_else_would_it_says_so() -> None:
    assert said(predicted(), excluded()).endswith("it is the only way that does")
    assert said(predicted(meets=0.7)).endswith("70 % sure; nothing is surer")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Strategy.PLAIN, "predictive, plain pre-copy"),
        (Strategy.THROTTLED, "predictive, a throttle in reserve"),
        (Strategy.XBZRLE, "predictive with XBZRLE"),
        (Strategy.MULTIFD, "predictive over several channels"),
        (Strategy.POSTCOPY, "predictive with post-copy"),
        (Strategy.PAUSED, "predictive, pausing the guest"),
    ],
)
def test_each_strategy_has_a_name(strategy: Strategy, words: str) -> None:
    assert named(predicted(strategy)) == words


def test_one_that_moved_nobody_has_a_name_and_costs_without_end() -> None:
    nobody = predicted(Strategy.THROTTLED, 0.0, total_s=None, lost_s=None, throttle=None)
    assert named(nobody) == "predictive, a throttle in reserve"
    assert cost_s(nobody) == math.inf


# ---- why nothing is, and what would help


def test_a_floor_above_the_downtime_is_told_with_all_that_would_do() -> None:
    assert refused(predicted(meets=0.0, downtime_s=about(2.0))) == (
        "nothing is likely to meet the objectives: no pre-copy can beat 0.95 s of outage at 114 MiB/s, "
        "0.3 s are allowed; what would help: a bandwidth of 990 MiB/s or more, or a throttle of 71 %, or post-copy, "
        "or a downtime of 2.2 s"
    )


@pytest.mark.parametrize("without", ["auto-converge", "postcopy-ram"])
def test_what_this_qemu_has_not_is_not_offered(without: str) -> None:
    it = refused(able=Abilities(capabilities=ABLE.capabilities - {without}))
    assert ("throttle" in it) is (without != "auto-converge")
    assert ("post-copy" in it) is (without != "postcopy-ram")


def test_a_throttle_from_outside_needs_nothing_of_qemu() -> None:
    assert "a throttle of 71 %," in refused(able=Abilities(capabilities=frozenset({"xbzrle"}), outside_throttle=True))


def test_where_nobody_knows_what_this_qemu_has_that_is_said() -> None:
    it = refused(able=None)
    assert "a throttle of 71 % if this QEMU has it, or post-copy if this QEMU has it" in it


def test_a_throttle_that_may_not_be_enough_is_not_offered() -> None:
    for least in (Range(0.5, 0.6, math.inf), Range(0.9, 0.95, 0.995)):
        assert "throttle" not in refused(bounds=floors(floor_s=about(0.95), least_throttle=least))


def test_post_copy_whose_own_outage_may_be_too_long_is_not_offered() -> None:
    """0.28 s are fixed: forecasts of an outage are off by so much that it may come to more than 0.3 s."""
    assert "post-copy" in refused(fixed_s=0.2)
    assert "post-copy" not in refused(fixed_s=0.28)


def test_bandwidth_beyond_what_one_thread_sends_takes_several_channels() -> None:
    bounds = floors(floor_s=about(0.95), least_bandwidth_bytes_per_s=about(2000 * MIB))
    assert "a bandwidth of 2.15 GiB/s or more over several channels" in refused(bounds=bounds)
    assert "bandwidth" not in refused(bounds=bounds, able=Abilities(capabilities=frozenset({"xbzrle"})))
    assert "bandwidth" not in refused(bounds=floors(floor_s=about(0.95), least_bandwidth_bytes_per_s=None))


def test_only_who_is_in_time_counts_for_the_downtime_that_is_offered() -> None:
    goal = Objectives(downtime_s=0.3, deadline_s=10.0)
    late = predicted(meets=0.0, takes_s=9.5, downtime_s=about(0.35), misses={"deadline": 0.4, "downtime": 0.9})
    quick = predicted(meets=0.0, takes_s=7.0, downtime_s=about(0.6), misses={"deadline": 0.0, "downtime": 1.0})
    assert refused(late, quick, goal=goal).endswith("a downtime of 0.66 s")
    assert "a downtime" not in refused(late, goal=goal)
    assert refused(late, quick).endswith("a downtime of 0.39 s")


def test_with_a_deadline_a_throttle_is_told_as_the_least_and_post_copy_has_to_be_in_time() -> None:
    roomy, tight = (refused(goal=Objectives(downtime_s=0.3, deadline_s=deadline_s)) for deadline_s in (9.0, 2.605))
    assert "a bandwidth of at least 990 MiB/s, or a throttle of at least 71 %, or post-copy" in roomy
    assert "throttle" in tight
    assert "post-copy" not in tight


@given(st.floats(1e-3, 1e5), st.floats(1.0, 1e12))
def test_what_is_offered_is_never_less_than_what_is_needed(needed_s: float, needed: float) -> None:
    bounds = floors(least_throttle=None, least_bandwidth_bytes_per_s=Range(needed, needed, needed))
    far = Objectives(downtime_s=1e-4, may_postcopy=True)
    long = predicted(meets=0.0, downtime_s=Range(needed_s, needed_s, needed_s))
    fast = belief(bandwidth_bytes_per_s=Estimate(0.5), cpu_bytes_per_s=Estimate(1e13))
    it = refusal(fast, far, bounds, [long], ABLE)
    units = {"s": 1, "min": 60, "bytes/s": 1, "KiB/s": 1 << 10, "MiB/s": 1 << 20, "GiB/s": 1 << 30}
    for what, wanted in (("bandwidth", needed), ("downtime", needed_s)):
        found = re.search(rf"a {what} of ([0-9.]+) ([A-Za-z/]+)", it)
        assert found is not None
        told = float(found[1]) * units[found[2]]
        assert wanted * (1 - 1e-8) <= told <= max(1.12 * wanted, wanted + 60 * (wanted >= 600) + (what == "bandwidth"))


def test_what_is_needed_is_rounded_up() -> None:
    assert refused(predicted(downtime_s=Range(0.19, 0.19, 0.194)), goal=Objectives(downtime_s=0.1)).endswith("0.2 s")


def test_what_is_allowed_already_is_not_offered() -> None:
    goal = Objectives(downtime_s=0.3, greatest_throttle=0.9, may_postcopy=True)
    it = refused(goal=goal)
    assert "throttle" not in it
    assert "post-copy" not in it
    assert it.endswith("a downtime of 2.2 s")


def test_a_fixed_cost_above_the_downtime_can_only_be_allowed() -> None:
    bounds = floors(floor_s=about(0.5), least_throttle=None, least_bandwidth_bytes_per_s=None)
    assert refused(predicted(meets=0.0, downtime_s=about(0.6)), bounds=bounds, fixed_s=0.5).endswith(
        "0.3 s are allowed; what would help: a downtime of 0.66 s"
    )


def test_a_deadline_before_the_first_pass_needs_bandwidth_or_time() -> None:
    goal = Objectives(downtime_s=0.3, deadline_s=1.3)
    it = refused(goal=goal, bounds=floors())
    assert "sending the 300 MiB that are not zero takes 2.6 s at 114 MiB/s, 1.3 s are allowed" in it
    assert it.endswith("what would help: a bandwidth of at least 228 MiB/s, or a deadline of more than 2.6 s")
    both = refused(goal=goal, bounds=HOT)
    assert "a deadline of more than 2.6 s with a throttle of at least 71 % or post-copy or a downtime of 2.2 s" in both


def test_where_neither_outage_nor_time_can_be_had_only_bandwidth_is_named() -> None:
    goal = Objectives(downtime_s=0.3, deadline_s=1.3, may_postcopy=True)
    bounds = floors(floor_s=Range(1.0, math.inf, math.inf), plateau_s=about(math.inf), least_throttle=None)
    assert refused(goal=goal, bounds=bounds).endswith("what would help: a bandwidth of at least 228 MiB/s")


def test_how_much_longer_or_faster_is_told_by_one_whose_outage_is_short_enough() -> None:
    goal = Objectives(downtime_s=0.3, deadline_s=5.0)
    late = predicted(meets=0.0, misses={"deadline": 1.0}, takes_s=10.0)
    assert refused(late, goal=goal, bounds=floors()).endswith(
        "what would help: a bandwidth of 252 MiB/s or more, or post-copy, or a deadline of 11 s"
    )
    soon = Objectives(downtime_s=0.01, deadline_s=0.012)
    assert "bandwidth" not in refused(late, goal=soon, bounds=floors())
    unsure = predicted(meets=0.4, misses={"downtime": 0.1})
    assert "what would help" not in refused(unsure, goal=Objectives(may_postcopy=True), bounds=floors())


def test_otherwise_the_likeliest_is_told_with_what_it_misses() -> None:
    long = predicted(meets=0.2, misses={"downtime": 0.8}, downtime_s=about(0.4))
    it = refused(predicted(meets=0.1), long, bounds=floors())
    assert "the likeliest, predictive, plain pre-copy, meets them with 20 %: its outage is 0.4 s (0.36 to 0.44)" in it
    late = predicted(meets=0.2, misses={"deadline": 0.8}, takes_s=30.0)
    it = refused(late, goal=Objectives(downtime_s=0.3, deadline_s=25.0), bounds=floors())
    assert "it takes 30 s (27 to 33)" in it
    assert "a deadline of 33 s" in it
    endless = predicted(meets=0.0, misses={"never": 1.0}, total_s=None, downtime_s=None)
    assert "it comes to no end" in refused(endless, bounds=floors())


def test_with_nobody_to_ask_it_says_so() -> None:
    quiet = floors(least_bandwidth_bytes_per_s=about(1 * MIB))
    it = refused(goal=Objectives(downtime_s=0.3, may_postcopy=True), bounds=quiet)
    assert it == "nothing is likely to meet the objectives: there is no way left to move the guest"


def test_there_is_as_much_bandwidth_as_the_least_of_three() -> None:
    known = belief(bandwidth_bytes_per_s=Estimate(50.0), cpu_bytes_per_s=Estimate(40.0))
    assert bandwidth_bytes_per_s(known, GOAL) == 40.0
    assert bandwidth_bytes_per_s(known, Objectives(bandwidth_bytes_per_s=30)) == 30.0


# ---- figures


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.012 s"), (0.3, "0.3 s"), (7.14, "7.1 s"), (45.67, "45.7 s"), (599.9, "600 s"), (900.0, "15 min"),
     (math.inf, "no end")],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 bytes"), (900, "900 bytes"), (10 * MIB, "10 MiB"), (149.4 * MIB, "149 MiB"), (1010 * MIB, "1010 MiB"),
     (2.5 * 1024 * MIB, "2.5 GiB")],
)  # fmt: skip
def test_sizes(value: float, text: str) -> None:
    assert size(value) == text
    assert rate(value) == f"{text}/s"


def test_ranges_and_shares() -> None:
    assert between(Range(6.5, 7.1, 8.0)) == "7.1 s (6.5 to 8.0)"
    assert percent(0.64) == "64 %"


@given(st.floats(0, 1))
def test_only_what_is_all_is_all(part: float) -> None:
    assert (percent(part) == "100 %") == (part == 1.0)
