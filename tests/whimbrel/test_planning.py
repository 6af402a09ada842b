"""Planning a move: what is measured and chosen on a real guest, what is refused, and that nothing is begun."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.support.guests import World, ask
from tests.support.past import moved, told, write
from tests.support.planned import EXCLUDED, OBJECTIVES, PLAIN, THROTTLED, a_plan, planned
from whimbrel.engine.errors import BadInput, CannotConnect, Infeasible, WhimbrelError
from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Predicted, Strategy
from whimbrel.engine.policy import Abilities, Decision, Objectives, Observation
from whimbrel.planning import Link, Planned, plan, strategy_of
from whimbrel.policies import resolve
from whimbrel.qmp_driver.destination import Existing, FromCallable
from whimbrel.qmp_driver.options import Options

GIGABIT = Link(bytes_per_s=125e6)
EASY = Objectives(downtime_s=0.5, deadline_s=30.0)
SPAN_S = 0.3
"""Of measuring: the test guest dirties the same all the time."""


# ---- what is done with a plan


def test_what_was_chosen_becomes_the_policy_with_what_was_predicted_of_it() -> None:
    options = planned(a_plan()).options(Options(keep_source=True))
    assert options.policy_name == "predictive:throttle=false"
    assert options.objectives == OBJECTIVES
    assert options.keep_source
    assert options.prediction is not None
    assert options.prediction.total_s == PLAIN.total_s
    assert options.policy is not None


def test_a_way_that_holds_more_in_reserve_is_run_so() -> None:
    kept = replace(PLAIN, candidate=replace(PLAIN.candidate, runs="predictive:throttle=false,reserve=true"))
    options = planned(a_plan(kept, chosen=kept)).options()
    assert options.policy_name == "predictive:throttle=false,reserve=true"
    assert options.prediction is not None
    assert options.prediction.policy == options.policy_name


def test_where_nothing_was_chosen_nothing_is_begun() -> None:
    """The error has the plan's own sentence, and the plan."""
    plan = a_plan(THROTTLED, EXCLUDED, chosen=None)
    with pytest.raises(Infeasible, match="nothing is likely to meet the objectives") as refused:
        planned(plan).options()
    assert refused.value.plan == plan


def test_the_best_effort_is_the_likeliest() -> None:
    never = replace(PLAIN, total_s=None)
    hopeless = planned(a_plan(EXCLUDED, never, THROTTLED, replace(PLAIN, meets=0.6), chosen=None))
    assert hopeless.way(best_effort=True) == THROTTLED
    assert hopeless.options(best_effort=True).policy_name == "predictive"


@pytest.mark.parametrize("deadline_s", [None, 10.0])
def test_of_those_that_all_miss_it_is_what_comes_nearest(deadline_s: float | None) -> None:
    """By the objective that is missed by more."""
    long = replace(PLAIN, meets=0.0, downtime_s=Range(1.0, 1.3, 2.0))
    longer = replace(THROTTLED, meets=0.0, downtime_s=Range(2.0, 3.0, 4.0))
    late = replace(PLAIN, meets=0.0, downtime_s=Range(0.1, 0.2, 0.4), total_s=Range(90.0, 100.0, 120.0))
    goal = Objectives(downtime_s=0.3, deadline_s=deadline_s)
    nearest = planned(a_plan(longer, late, long, chosen=None, objectives=goal)).way(best_effort=True)
    assert nearest == (late if deadline_s is None else long)


def test_where_no_forecast_came_to_an_end_the_first_is_as_good_as_any() -> None:
    """There is nothing to compare its report with."""
    never = replace(THROTTLED, meets=0.0, total_s=None)
    options = planned(a_plan(EXCLUDED, never, chosen=None)).options(best_effort=True)
    assert (options.policy_name, options.prediction) == ("predictive", None)


def test_no_effort_moves_a_guest_that_cannot_be_moved() -> None:
    with pytest.raises(Infeasible):
        planned(a_plan(EXCLUDED, chosen=None)).way(best_effort=True)


def test_a_plan_as_one_object() -> None:
    """With stable keys, and JSON as it is: what never ends is null there."""
    told = planned(a_plan()).as_dict()
    assert set(told) == {
        *("recommended", "sentence", "objectives", "floors", "candidates", "belief", "guest", "costs"),
    }  # fmt: skip
    assert told["recommended"] == told["candidates"][0]
    assert told["candidates"][0]["policy"] == "predictive:throttle=false"
    assert told["candidates"][0]["strategy"] == "plain"
    assert told["candidates"][2]["excluded"] == "these QEMUs have no xbzrle"
    assert told["belief"]["points"][0] == {"window_s": 0.05, "dirtied_bytes": 2 << 20, "error_bytes": 0.4 * (1 << 20)}
    assert told["costs"]["thought_s"] == 1.2
    assert told["floors"]["plateau_s"]["high"] == math.inf
    assert msgspec.json.decode(msgspec.json.encode(told))["floors"]["plateau_s"]["high"] is None
    assert planned(a_plan(chosen=None)).as_dict()["recommended"] is None


# ---- by what means a policy moves a guest

ABLE = Abilities(capabilities=frozenset({"auto-converge", "postcopy-ram", "xbzrle", "multifd"}))
FREE = Objectives(greatest_throttle=0.9, may_postcopy=True)


@pytest.mark.parametrize(
    ("policy", "strategy"),
    [
        ("fixed", Strategy.PLAIN),
        ("auto_converge", Strategy.THROTTLED),
        ("hybrid_after", Strategy.POSTCOPY),
        ("predictive:throttle=false,postcopy=false,pause=false,multifd=4", Strategy.MULTIFD),
        ("predictive:throttle=false,postcopy=false,pause=false,xbzrle=true", Strategy.XBZRLE),
    ],
)
def test_a_policy_says_by_what_means_it_goes(policy: str, strategy: Strategy) -> None:
    assert strategy_of(resolve(policy), FREE, ABLE) is strategy


def test_means_that_are_not_allowed_or_not_there_do_not_count() -> None:
    assert strategy_of(resolve("hybrid_after"), Objectives(), ABLE) is Strategy.PLAIN
    assert strategy_of(resolve("auto_converge"), FREE, Abilities()) is Strategy.PLAIN


def test_a_policy_that_fails_when_it_is_asked_is_taken_for_a_plain_one() -> None:
    def broken(seen: Observation) -> Decision:
        raise ZeroDivisionError

    assert strategy_of(broken, FREE, ABLE) is Strategy.PLAIN


# ---- bad input


def test_a_probe_that_is_asked_for_and_forbidden_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^probe: 'other:7777'"):
        Link(probe=("other", 7777), may_probe=False)


@pytest.mark.parametrize(
    ("field", "goal", "policies"),
    [
        ("downtime", Objectives(downtime_s=0.0), ()),
        ("deadline", Objectives(downtime_s=2.0, deadline_s=1.0), ()),
        ("policy", EASY, ("fixed", "nosuch")),
    ],
)
async def test_what_can_not_be_is_refused_before_anybody_is_asked(
    field: str, goal: Objectives, policies: tuple[str, ...]
) -> None:
    """There is no such guest: it would be told of that otherwise."""
    with pytest.raises(BadInput, match=f"^{field}"):
        await plan("/nowhere/qmp", objectives=goal, policies=policies)


async def test_a_destination_that_cannot_be_reached_is_told_before_anything_is_measured(world: World) -> None:
    source = await world.boot(listen=False)
    with pytest.raises(CannotConnect, match="destination"):
        await plan(source.qmp, Existing(world.folder / "nobody"), objectives=EASY, link=GIGABIT)


# ---- on a real guest


async def test_a_guest_is_measured_and_a_way_to_move_it_chosen(world: World) -> None:
    """The short list is forecast, the guest goes on as it was, and nothing is set on it."""
    source = await world.boot()
    before = source.settings()
    said: list[str] = []
    seen: list[tuple[Predicted, int]] = []
    made = await plan(
        source.qmp,
        objectives=EASY,
        link=GIGABIT,
        span_s=SPAN_S,
        draws=40,
        tell=said.append,
        assessed=lambda each, of: seen.append((each, of)),
    )
    assert made.plan.chosen is not None
    assert made.plan.chosen.meets > 0.9
    assert made.plan.chosen.total_s is not None
    assert made.plan.chosen.total_s.high < 5.0
    assert {each.candidate.strategy for each in made.plan.predicted} == set(Strategy)
    assert len(seen) == len(made.plan.predicted) == seen[0][1]
    assert made.plan.belief.bandwidth_bytes_per_s.value == 125e6
    assert any("measuring" in each for each in said)
    assert any("forecasting 6 ways" in each for each in said)
    assert made.survey.costs.link_bytes == 0
    assert source.settings() == before
    await world.check_beats("source")


async def test_a_goal_that_nothing_can_meet_is_told_with_what_would_help(world: World) -> None:
    """Over a link that takes longer for the RAM than there is time."""
    source = await world.boot()
    hasty = Objectives(downtime_s=0.1, deadline_s=0.5)
    slow = Link(bytes_per_s=1e6)
    made = await plan(
        source.qmp, objectives=hasty, link=slow, span_s=SPAN_S, policies=("fixed", "predictive"), draws=40
    )
    assert [each.candidate.policy for each in made.plan.predicted if each.meets] == []
    with pytest.raises(Infeasible, match="what would help"):
        made.way()
    await world.check_beats("source")


async def test_every_policy_is_looked_at_where_that_is_wanted(world: World) -> None:
    source = await world.boot(listen=False)
    made = await plan(source.qmp, objectives=EASY, link=GIGABIT, span_s=SPAN_S, everything=True, draws=3)
    policies = {each.candidate.policy for each in made.plan.predicted}
    assert {"fixed", "nova_steps", "auto_converge"} < policies
    assert len(made.plan.predicted) == len(policies) > 20


async def test_what_the_destination_lacks_is_not_counted_on(world: World) -> None:
    """One that runs already is asked; here it is another QEMU of the same make, so that it has what the source has."""
    source = await world.boot(listen=False)
    other = await world.boot(listen=False, paused=True, incoming="defer")
    made = await plan(
        source.qmp, Existing(other.qmp), objectives=EASY, link=GIGABIT, span_s=SPAN_S, policies=("fixed",), draws=3
    )
    assert made.plan.chosen is not None
    assert made.plan.chosen.candidate.policy == "fixed"


async def test_a_link_that_is_not_known_and_may_not_be_probed_is_refused(world: World, tmp_path: Path) -> None:
    """One clear sentence with what would do; nothing is known of where a destination of the caller's own would be.

    What moves on this host have shown is another link.
    """
    here = os.uname().nodename
    write(tmp_path / "log", moved(facts=told(source=here, destination=here)))
    source = await world.boot(listen=False)
    elsewhere = FromCallable(lambda truth: never())
    with pytest.raises(BadInput, match=r"^link: 'unknown' is not allowed; allowed: .*--link RATE"):
        await plan(source.qmp, elsewhere, objectives=EASY, link=Link(may_probe=False), span_s=SPAN_S, logs=tmp_path)


async def never() -> str:
    """Starts nothing."""
    raise AssertionError("a plan starts nothing")


async def test_a_guest_that_shuts_down_while_it_is_measured_is_told(world: World) -> None:
    source = await world.boot()

    def shut_down(text: str) -> None:
        if "measuring" in text:
            ask(source.spare, "quit")

    with pytest.raises(WhimbrelError, match="while it was measured"):
        await plan(source.qmp, objectives=EASY, link=GIGABIT, span_s=5.0, tell=shut_down)


async def test_planning_that_is_called_off_leaves_nothing(world: World) -> None:
    """No forecaster, nothing on the source, and its monitor is free again."""
    source = await world.boot()
    before = source.settings()
    begun = asyncio.Event()
    work = plan(source.qmp, objectives=EASY, link=GIGABIT, span_s=30.0, tell=lambda text: begun.set())
    task: asyncio.Task[Planned] = asyncio.create_task(work)
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.settings() == before
    assert ask(source.qmp, "query-status")[0]["status"] == "running"
    await world.check_beats("source")


def test_it_works_without_the_extras() -> None:
    """Planning and its processes need neither numpy nor the simulator, and the command line starts without numpy."""
    program = (
        "import sys; sys.modules['numpy'] = sys.modules['matplotlib'] = None\n"
        "import whimbrel.planning, whimbrel.forecasters, whimbrel.plan_words\n"
        "print([name for name in sys.modules if name.startswith('whimbrel.sim')])\n"
        "import whimbrel.cli"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[]\n"
