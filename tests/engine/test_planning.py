"""Assessing a candidate: forecasts of each way that it may be, steered by its policy, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.beliefs import ABLE, MIB, belief, points
from whimbrel.engine.belief import outage_error
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.plan import Candidate, Predicted, Strategy
from whimbrel.engine.planning import HOPELESS_DRAWS, LEAST_DRAWS, assess, wilson
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason
from whimbrel.engine.prediction import COMPONENTS

GOAL = Objectives(downtime_s=0.3)
PLAIN = Candidate(policy="fixed", strategy=Strategy.PLAIN)


def hold() -> Policy:
    """QEMU alone, with less than the downtime allowed."""
    return Fixed(downtime_limit_s=0.2)


def never(seen: Observation) -> Decision:
    """Hold QEMU off for ever."""
    return Decision(downtime_limit_s=0.001) if seen.reason is Reason.SETUP else Decision()


def told(goal: Objectives = GOAL, make: Callable[[], Policy] = hold, draws: int = 60, **change: Any) -> Predicted:
    return assess(belief(**change), goal, ABLE, PLAIN, make, draws)


def test_a_calm_guest_is_moved_for_sure() -> None:
    it = told()
    assert (it.moves, it.meets, it.meets_high, it.draws) == (1.0, 1.0, 1.0, 60)
    assert it.meets_low == pytest.approx(0.957, abs=0.001)
    assert it.misses == {"downtime": 0.0, "deadline": 0.0, "never": 0.0}
    assert it.total_s is not None
    assert it.downtime_s is not None
    assert it.transferred_bytes is not None
    assert it.iterations is not None
    assert 300 * MIB / (114 * MIB) < it.total_s.middle < 2 * 300 / 114
    assert 300 * MIB < it.transferred_bytes.middle < 2 * 300 * MIB
    assert it.downtime_s.middle < 0.25
    assert it.iterations.middle >= 2
    assert it.throttle == it.postcopy_s == Range(0.0, 0.0, 0.0)


def test_the_components_are_those_of_the_report_and_add_up() -> None:
    """In the middle, where nothing is uncertain."""
    it = told(draws=1, model_time=Estimate(1.0), model_downtime=Estimate(1.2))
    assert tuple(it.components) == COMPONENTS
    assert it.total_s is not None
    assert it.downtime_s is not None
    parts = {name: each.middle for name, each in it.components.items()}
    assert parts["last_ram"] + parts["device_state"] + parts["fixed"] == pytest.approx(it.downtime_s.middle)
    assert sum(parts.values()) - parts["preparation"] == pytest.approx(it.total_s.middle)


def test_what_the_model_was_off_by_moves_and_widens_all() -> None:
    exact = told(model_time=Estimate(1.0), model_bytes=Estimate(1.0), model_downtime=Estimate(1.0))
    off = told(model_time=Estimate(1.1), model_bytes=Estimate(1.2), model_downtime=Estimate(1.3))
    unsure = told(model_time=Estimate(1.0, 0.3), model_bytes=Estimate(1.0, 0.3), model_downtime=Estimate(1.0, 0.3))
    for name, factor in (("total_s", 1.1), ("transferred_bytes", 1.2), ("downtime_s", 1.3)):
        before, after, wide = (getattr(each, name) for each in (exact, off, unsure))
        # A long outage is off by a smaller part of itself.
        part = outage_error(before.middle) if name == "downtime_s" else 1.0
        assert after.middle == pytest.approx(factor**part * before.middle, rel=1e-3)
        assert wide.high - wide.low > 1.2 * (before.high - before.low)


def test_an_objective_that_is_missed_is_named() -> None:
    late = told(Objectives(downtime_s=0.3, deadline_s=2.0))
    assert (late.meets, late.moves) == (0.0, 1.0)
    assert late.misses == {"downtime": 0.0, "deadline": 1.0, "never": 0.0}
    long = told(Objectives(downtime_s=0.3), lambda: Fixed(downtime_limit_s=0.3), model_downtime=Estimate(1.5))
    assert long.misses["downtime"] > 0.9
    assert long.meets < 0.1
    endless = told(Objectives(downtime_s=0.3, deadline_s=5.0), lambda: never, points=points(200 * MIB, 0.3))
    assert endless.misses == {"downtime": 0.0, "deadline": 1.0, "never": 1.0}
    assert (endless.moves, endless.total_s, endless.components) == (0.0, None, {})


def test_a_policy_that_gives_up_moves_nobody_and_is_not_late() -> None:
    def quitter(seen: Observation) -> Decision:
        return Decision(abort=seen.reason is not Reason.SETUP)

    it = told(Objectives(downtime_s=0.3, deadline_s=60.0, may_abort=True), lambda: quitter)
    assert it.misses == {"downtime": 0.0, "deadline": 0.0, "never": 1.0}


def test_post_copy_goes_on_when_the_guest_has_moved() -> None:
    def hybrid(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(capabilities={"postcopy-ram": True}, downtime_limit_s=0.001)
        return Decision(start_postcopy=True)

    goal = Objectives(downtime_s=0.3, may_postcopy=True)
    it = assess(belief(), goal, ABLE, Candidate(policy="mine", strategy=Strategy.POSTCOPY), lambda: hybrid, 60)
    assert it.meets == 1.0
    assert it.postcopy_s is not None
    assert it.lost_s is not None
    assert it.postcopy_s.low > 0.1
    assert it.lost_s.low > 0


def test_one_that_is_not_allowed_is_not_forecast() -> None:
    def nobody() -> Policy:
        raise AssertionError("nobody asks for it")

    it = assess(belief(), GOAL, ABLE, Candidate(policy="x", strategy=Strategy.POSTCOPY), nobody)
    assert it.excluded == "the objectives do not allow post-copy"
    assert (it.draws, it.total_s) == (0, None)


# ---- time


def clock(step_s: float) -> Callable[[], float]:
    """One that goes on by so much whenever it is looked at."""
    ticks: Iterator[int] = count()
    return lambda: step_s * next(ticks)


def test_a_slow_candidate_makes_do_with_fewer_draws_and_says_so() -> None:
    some = assess(belief(), GOAL, ABLE, PLAIN, hold, 100, clock=clock(0.01), budget_s=0.5)
    assert LEAST_DRAWS < some.draws < 100
    least = assess(belief(), GOAL, ABLE, PLAIN, hold, 100, clock=clock(1.0), budget_s=0.5)
    assert least.draws == LEAST_DRAWS
    hopeless = Objectives(downtime_s=0.3, deadline_s=1.0)
    assert assess(belief(), hopeless, ABLE, PLAIN, hold, 100, clock=clock(1.0), budget_s=0.5).draws == HOPELESS_DRAWS
    assert assess(belief(), GOAL, ABLE, PLAIN, hold, 60, clock=clock(1e-9), budget_s=0.5) == told()
    assert assess(belief(), GOAL, ABLE, PLAIN, hold, 60, clock=clock(1.0)) == told()


@pytest.mark.parametrize("draws", [0, 10_001])
def test_a_number_of_draws_that_says_nothing_or_never_ends_is_refused(draws: int) -> None:
    with pytest.raises(BadInput, match="draws"):
        told(draws=draws)


# ---- what holds of all


@settings(max_examples=12, deadline=None)
@given(
    st.floats(10, 200),
    st.floats(0.05, 3.0),
    st.floats(20, 300),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.sampled_from([4.0, 10.0]),
)
def test_more_bandwidth_is_never_worse_and_all_ranges_are_in_order(
    working_set_mib: float, time_s: float, link_mib: float, downtime_s: float, deadline_s: float
) -> None:
    goal = Objectives(downtime_s=downtime_s, deadline_s=deadline_s)
    known = points(working_set_mib * MIB, time_s)

    def at(link: Estimate) -> Predicted:
        return told(goal, lambda: Fixed(downtime_limit_s=downtime_s / 2), 20, points=known, bandwidth_bytes_per_s=link)

    slow, fast = at(Estimate(link_mib * MIB, 0.05)), at(Estimate(2 * link_mib * MIB, 0.05))
    # Where in its slice the sender stands may cost a draw or two.
    assert fast.meets >= slow.meets - 0.05
    for it in (slow, fast):
        assert 0 <= it.meets_low <= it.meets <= it.meets_high <= 1
        assert it.meets <= it.moves <= 1
        assert all(0 <= miss <= 1 for miss in it.misses.values())
        ranges = (it.total_s, it.downtime_s, it.transferred_bytes, it.iterations, it.lost_s, *it.components.values())
        for each in ranges:
            assert each is None or 0 <= each.low <= each.middle <= each.high


@settings(max_examples=100)
@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilsons_interval_holds_the_share_and_narrows(tries: int, part: float) -> None:
    good = round(part * tries)
    low, high = wilson(good, tries)
    assert 0 <= low <= good / tries <= high <= 1
    more_low, more_high = wilson(4 * good, 4 * tries)
    assert more_high - more_low < high - low


def test_wilsons_published_example() -> None:
    """9 of 10 at z = 1.64485: (0.9 + z²/20 ± z sqrt(0.009 + z²/400)) / (1 + z²/10)."""
    assert wilson(9, 10) == pytest.approx((0.65229, 0.97737), abs=1e-5)
