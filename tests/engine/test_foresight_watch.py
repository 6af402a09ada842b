"""Live forecasts and verdicts of migrations that are looked at as they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.looks import MIB, Looks
from whimbrel.engine.estimate import Range
from whimbrel.engine.foresight import Basis, Outlook
from whimbrel.engine.foresight_course import Ending, Standing
from whimbrel.engine.foresight_watch import (
    ERRORS,
    JUDGED_AFTER,
    MODEL_AHEAD,
    MODEL_DOWNTIME,
    SURE,
    UNSURE,
    Foresight,
    corrected,
)
from whimbrel.engine.policy import Knobs, Measurement, Objectives
from whimbrel.engine.prediction import Prediction
from whimbrel.engine.statistics import Ledger, Statistics

GOAL = Objectives(downtime_s=0.3)
KNOBS = Knobs(downtime_limit_s=0.02)
LADDER = frozenset({"auto-converge"})


def followed(
    looks: Looks, iterations: int, foresight: Foresight, knobs: Knobs = KNOBS, **more: object
) -> list[Outlook]:
    """An outlook at each beginning of an iteration, and every second or so."""
    found: list[Outlook] = []
    for number, ledger in enumerate(looks.run(iterations)):
        at_sync = foresight.see(ledger, knobs)
        if at_sync or number % 10 == 9:
            made = foresight.outlook(ledger, knobs, looks.now_s, **more)  # type: ignore[arg-type]
            if made is not None:
                found.append(made)
    return found


def calm(window_s: float) -> float:
    """A twentieth of the link."""
    return 5.0 * MIB * window_s


def busy(window_s: float) -> float:
    """Four times the link, over 150 MiB."""
    return min(400.0 * MIB * window_s, 150.0 * MIB)


def settled(dirtied: Callable[[float], float], goal: Objectives = GOAL, **more: object) -> Outlook:
    """As it stands after five iterations."""
    return followed(Looks(dirtied), 5, Foresight(objectives=goal), **more)[-1]  # type: ignore[arg-type]


# ---- the first iteration


def test_before_the_link_is_known_nothing_is_said() -> None:
    foresight = Foresight(objectives=GOAL)
    assert foresight.outlook(Ledger(), KNOBS, 0.0) is None
    first = next(iter(Looks(calm).run(1)))
    foresight.see(first, KNOBS)
    assert foresight.outlook(first, KNOBS, 0.1) is None


def test_in_the_first_iteration_the_link_tells_when_it_can_end_at_the_soonest() -> None:
    """All that is left may be zero, and it may never end."""
    made = followed(Looks(calm), 1, Foresight(objectives=GOAL))[0]
    assert (made.basis, made.iteration, made.verdict, made.hopeless) == (Basis.LINK, 1, None, None)
    assert made.at_s < made.ends_s.low < 5.5
    assert made.ends_s.high == math.inf
    assert 0.05 < made.meets < 0.95


PLANNED = Prediction(
    basis="plan",
    policy="fixed",
    meets=0.9,
    total_s=Range(5.0, 6.0, 8.0),
    downtime_s=Range(0.1, 0.2, 0.25),
    transferred_bytes=Range(500.0 * MIB, 600.0 * MIB, 700.0 * MIB),
)


def test_in_the_first_iteration_a_plan_stands() -> None:
    made = followed(Looks(calm), 1, Foresight(objectives=GOAL, prediction=PLANNED))[0]
    assert (made.basis, made.meets, made.downtime_s) == (Basis.PLAN, 0.9, PLANNED.downtime_s)
    assert made.ends_s.middle == pytest.approx(6.0, rel=0.1)
    assert made.transferred_bytes == PLANNED.transferred_bytes


def test_a_link_slower_than_planned_puts_the_end_off() -> None:
    made = followed(Looks(calm, rate=50.0 * MIB), 1, Foresight(objectives=GOAL, prediction=PLANNED))[0]
    assert made.basis is Basis.PLAN
    assert made.ends_s.middle == pytest.approx(12.0, rel=0.1)


def test_a_link_too_slow_for_the_deadline_makes_a_plan_unlikely() -> None:
    """Planned: 6 s of 9 s allowed. At half of the rate that was thought it takes twice as long."""
    goal = replace(GOAL, deadline_s=9.0)
    as_fast, at_half, in_time = (
        followed(Looks(calm, rate=rate * MIB), 1, Foresight(objectives=aim, prediction=PLANNED))[0]
        for rate, aim in ((100.0, goal), (50.0, goal), (50.0, replace(goal, deadline_s=60.0)))
    )
    assert as_fast.meets == pytest.approx(0.9, abs=0.02)
    assert at_half.ends_s.low > 9.0
    assert at_half.meets < 0.1
    assert in_time.meets == pytest.approx(0.9)


def test_a_plan_that_may_never_end_is_unlikely_on_a_slower_link_too() -> None:
    planned = replace(PLANNED, total_s=Range(5.0, 6.0, math.inf))
    foresight = Foresight(objectives=replace(GOAL, deadline_s=9.0), prediction=planned)
    made = followed(Looks(calm, rate=50.0 * MIB), 1, foresight)[0]
    assert (made.basis, made.ends_s.high) == (Basis.PLAN, math.inf)
    assert made.meets < 0.1


def test_a_link_as_fast_as_planned_puts_nothing_off() -> None:
    """Of what is transferred a part goes over as the last RAM, after the iterations."""
    parts = {"iterations": Range(4.0, 5.0, 7.0), "last_ram": Range(0.9, 1.0, 1.1), "fixed": Range(0.01, 0.01, 0.01)}
    planned = replace(PLANNED, components=parts)
    made = followed(Looks(calm), 1, Foresight(objectives=GOAL, prediction=planned))[0]
    assert made.ends_s.middle == pytest.approx(6.0, rel=0.03)


@pytest.mark.parametrize("total_s", [Range(0.0, 0.0, 0.0), Range(5.0, math.inf, math.inf)])
def test_a_plan_without_a_rate_is_passed_over(total_s: Range) -> None:
    empty = replace(PLANNED, total_s=total_s)
    assert followed(Looks(calm), 1, Foresight(objectives=GOAL, prediction=empty))[0].basis is Basis.LINK


def test_what_the_policy_had_measured_serves_from_the_start() -> None:
    foresight = Foresight(objectives=GOAL)
    foresight.measured([Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=5.0 * MIB)])
    made = followed(Looks(calm), 1, foresight)[0]
    assert made.basis is Basis.MEASURED
    assert made.ends_s.high < 8.0


# ---- later


def test_after_the_first_iteration_the_guests_own_curve_tells() -> None:
    looks = Looks(calm)
    made = followed(looks, 2, Foresight(objectives=GOAL))[-1]
    assert made.basis is Basis.ITERATIONS
    assert made.ends_s.low < made.ends_s.middle < made.ends_s.high < 7.0
    assert made.meets > 0.9
    assert made.verdict is None


def test_a_migration_that_ends_is_foreseen_to_end_when_it_does() -> None:
    """60 % of the link: each pass is that much of the one before, 12.5 s in all but for what the limit lets through."""
    looks = Looks(lambda window_s: 60.0 * MIB * window_s)
    found = [each for each in followed(looks, 6, Foresight(objectives=GOAL)) if each.iteration > 2]
    assert found
    for each in found:
        assert each.ends_s.middle == pytest.approx(12.5, rel=0.15)


def test_one_that_never_ends_has_no_end_and_meets_nothing() -> None:
    made = settled(busy)
    assert made.ends_s.middle == math.inf
    assert made.downtime_s.middle == pytest.approx(1.5, rel=0.15)
    assert made.meets < 0.05


def test_a_deadline_that_passes_before_it_can_end_is_not_met() -> None:
    in_time, late = (settled(calm, replace(GOAL, deadline_s=deadline_s)).meets for deadline_s in (60.0, 3.0))
    assert in_time > 0.9
    assert late < 0.1


def test_qemus_throttle_is_foreseen_to_climb_its_ladder() -> None:
    goal = replace(GOAL, greatest_throttle=0.99)
    plain, climbing = settled(busy, goal), settled(busy, goal, asked_for=LADDER)
    assert plain.ends_s.middle == math.inf
    assert climbing.ends_s.low < math.inf
    knobs = replace(KNOBS, throttle_initial=0.9, throttle_increment=0.09, throttle_ceiling=0.99, throttle_trigger=0.1)
    steep = settled(busy, goal, asked_for=LADDER, knobs=knobs)
    assert steep.ends_s.low < climbing.ends_s.low


def test_a_policy_that_asked_for_postcopy_is_foreseen_to_use_it() -> None:
    made = settled(busy, replace(GOAL, may_postcopy=True), asked_for=frozenset({"postcopy-ram"}))
    assert made.ends_s.high < math.inf
    assert made.meets > 0.9


def test_in_postcopy_what_is_left_follows() -> None:
    looks, foresight = Looks(busy), Foresight(objectives=GOAL)
    for ledger in looks.run(2):
        foresight.see(ledger, KNOBS)
    made = foresight.outlook(looks.ledger, KNOBS, looks.now_s, moved_s=looks.now_s)
    assert made is not None
    assert made.basis is Basis.POSTCOPY
    assert made.meets == pytest.approx(1.0)
    left_s = looks.left / looks.rate
    assert looks.now_s < made.ends_s.low < looks.now_s + 1.1 * left_s < made.ends_s.high
    assert made.transferred_bytes.middle == pytest.approx(looks.sent + looks.left, rel=0.01)


@pytest.mark.parametrize(("moved_s", "meets"), [(5.0, 1.0), (6.0, 1.0), (6.1, 0.0)])
def test_one_that_went_over_to_postcopy_after_its_deadline_was_late(moved_s: float, meets: float) -> None:
    looks, foresight = Looks(busy), Foresight(objectives=replace(GOAL, deadline_s=6.0))
    for ledger in looks.run(2):
        foresight.see(ledger, KNOBS)
    made = foresight.outlook(looks.ledger, KNOBS, 7.0, moved_s=moved_s)
    assert made is not None
    assert made.meets == pytest.approx(meets)


def test_an_outage_of_post_copy_that_may_have_been_too_long_makes_it_unsure() -> None:
    looks, foresight = Looks(busy), Foresight(objectives=replace(GOAL, downtime_s=0.02))
    for ledger in looks.run(2):
        foresight.see(ledger, KNOBS)
    made = foresight.outlook(looks.ledger, KNOBS, looks.now_s, moved_s=looks.now_s)
    assert made is not None
    assert made.downtime_s.low < 0.02 < made.downtime_s.high
    assert 0.05 < made.meets < 0.95


def test_a_limit_close_above_the_downtime_makes_an_outage_unsure() -> None:
    """A remainder that fills the limit, as pre-copy leaves it: by how much the model is off decides."""
    looks = Looks(lambda window_s: min(400.0 * MIB * window_s, 25.0 * MIB))
    made = followed(looks, 6, Foresight(objectives=GOAL), replace(KNOBS, downtime_limit_s=0.3))[-1]
    assert made.downtime_s.middle < 0.3 < made.downtime_s.high
    assert 0.5 < made.meets < 0.95


# ---- the verdict


def test_where_no_precopy_can_do_that_is_said_early_and_once() -> None:
    foresight = Foresight(objectives=replace(GOAL, greatest_throttle=0.95, may_postcopy=True))
    found = followed(Looks(busy), 8, foresight)
    (told,) = [each for each in found if each.news]
    assert told.verdict is not None
    assert told.verdict.iteration <= 4
    assert told.verdict.confidence >= SURE
    assert told.verdict.left_bytes == pytest.approx(150 * MIB, rel=0.2)
    assert told.verdict.outage_s == pytest.approx(1.5, rel=0.2)
    assert told.verdict.bandwidth_bytes_per_s == pytest.approx(100 * MIB, rel=0.05)
    assert told.verdict.least_throttle is not None
    assert 0.3 < told.verdict.least_throttle < 0.99
    assert told.news == told.verdict.sentence
    assert found[-1].verdict == told.verdict
    assert all(each.verdict is None for each in found if each.iteration <= JUDGED_AFTER + 1)


def test_of_a_guest_that_can_be_moved_no_verdict_is_drawn() -> None:
    found = followed(Looks(calm), 8, Foresight(objectives=GOAL))
    assert all(each.verdict is None and not each.news for each in found)
    assert found[-1].hopeless is not None
    assert found[-1].hopeless < 0.1


@pytest.mark.parametrize("part", [0.5, 0.7])
def test_remainders_that_go_on_shrinking_after_the_third_are_no_verdict(part: float) -> None:
    found = followed(Looks(lambda window_s: part * 100.0 * MIB * window_s), 8, Foresight(objectives=GOAL))
    assert not [each for each in found if each.verdict]


def test_a_verdict_that_turns_out_wrong_is_taken_back_and_that_is_said() -> None:
    looks = Looks(busy)
    foresight = Foresight(objectives=GOAL)
    assert followed(looks, 5, foresight)[-1].verdict is not None
    looks.dirtied = calm
    found = followed(looks, 4, foresight)
    (told,) = [each for each in found if each.news]
    assert told.verdict is None
    assert "taken back" in told.news
    assert told.hopeless is not None
    assert told.hopeless < UNSURE
    assert foresight.verdict is None


def test_where_not_even_the_greatest_throttle_would_do_none_is_named() -> None:
    """A device, which no throttle slows as far as can be seen: a tight goal that the fixed cost alone exceeds."""
    foresight = Foresight(objectives=Objectives(downtime_s=0.003))
    (told,) = [each for each in followed(Looks(busy), 6, foresight) if each.news]
    assert told.verdict is not None
    assert told.verdict.least_throttle is None


def test_a_deadline_that_cannot_be_met_is_a_verdict_too() -> None:
    foresight = Foresight(objectives=Objectives(downtime_s=0.3, deadline_s=5.5))
    found = followed(Looks(lambda window_s: 70.0 * MIB * window_s), 4, foresight)
    assert found[-1].verdict is not None


# ---- the error of the model itself


def test_the_errors_of_the_model_are_standard_and_do_not_correlate() -> None:
    for errors in zip(*ERRORS, strict=True):
        assert sum(errors) == pytest.approx(0.0, abs=1e-9)
        assert sum(each * each for each in errors) / len(ERRORS) == pytest.approx(1.0, rel=0.01)
    assert sum(one * other for one, other in ERRORS) == pytest.approx(0.0, abs=1e-9)


def test_what_lies_ahead_may_be_off_and_what_is_over_may_not() -> None:
    here = Standing(
        at_s=10.0, sent_bytes=1e9, left_bytes=1e8, iteration_bytes=1e9, curve=None, total_bytes=4e9, bytes_per_s=1e8,
        limit_s=0.3, least_limit_s=0.3, goal_limit_s=0.3,
    )  # fmt: skip
    ending = Ending(here.at_s + 4.0, 0.2, here.sent_bytes + 100.0, 7.0)
    pairs = corrected([ending], here)
    assert all(each is ending for each, _ in pairs)
    found = [may for _, may in pairs]
    assert len(found) == len(ERRORS)
    assert ending in found
    assert max(each.ends_s for each in found) == pytest.approx(here.at_s + 4.0 * math.exp(1.711 * MODEL_AHEAD))
    assert min(each.sent_bytes for each in found) == pytest.approx(
        here.sent_bytes + 100.0 * math.exp(-1.711 * MODEL_AHEAD)
    )
    assert max(each.downtime_s for each in found) == pytest.approx(0.2 * math.exp(1.711 * MODEL_DOWNTIME))
    assert all(each.left_bytes == 7.0 for each in found)
    never = corrected([Ending(math.inf, 0.2, math.inf, 7.0)], here)
    assert all(each.ends_s == each.sent_bytes == math.inf for _, each in never)


# ---- whatever is seen


COUNT = st.integers(0, 1 << 45)
TOLD = st.builds(
    Statistics,
    at_ns=st.integers(0, 10**12),
    iteration=st.integers(0, 6),
    remaining_bytes=COUNT,
    transferred_bytes=COUNT,
    total_bytes=COUNT,
    normal_pages=COUNT,
    throttle=st.floats(0, 0.99),
    vcpu_s=st.sampled_from([(), (1.0,), (2.0,)]),
)
ALL_KNOBS = st.builds(
    Knobs,
    downtime_limit_s=st.floats(0, 2000),
    bandwidth_bytes_per_s=st.integers(0, 1 << 40),
    outside_throttle=st.floats(0, 0.99),
    throttle_initial=st.none() | st.floats(0.01, 0.99),
    throttle_trigger=st.none() | st.floats(0.01, 1.0),
)
GOALS = st.builds(
    Objectives,
    downtime_s=st.floats(0.001, 2000),
    deadline_s=st.none() | st.floats(0.1, 1e4),
    bandwidth_bytes_per_s=st.none() | st.integers(1, 1 << 40),
    may_postcopy=st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(TOLD, max_size=8).map(lambda told: sorted(told, key=lambda each: each.at_ns)), ALL_KNOBS, GOALS)
def test_whatever_is_seen_an_outlook_makes_sense(told: Iterable[Statistics], knobs: Knobs, goal: Objectives) -> None:
    foresight, ledger = Foresight(objectives=goal), Ledger()
    for each in told:
        ledger = ledger.add(each)
        foresight.see(ledger, knobs)
        made = foresight.outlook(ledger, knobs, each.at_ns / 1e9, asked_for=LADDER)
        if made is None:
            continue
        assert 0.0 < made.meets < 1.0
        assert made.hopeless is None or 0.0 < made.hopeless < 1.0
        for span in (made.ends_s, made.downtime_s, made.transferred_bytes):
            assert 0 <= span.low <= span.middle <= span.high
        assert made.ends_s.low >= made.at_s
        if made.meets > 0.95:
            assert made.downtime_s.high <= goal.downtime_s
            assert made.ends_s.high <= (goal.deadline_s or math.inf)


def test_the_same_looks_give_the_same_outlooks() -> None:
    once, again = (followed(Looks(busy), 4, Foresight(objectives=GOAL)) for _ in range(2))
    assert once == again
