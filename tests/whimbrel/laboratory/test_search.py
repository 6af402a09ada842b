"""The search for scenarios that a policy does badly on."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.catalogue_scale import MOST_WRITES, steady
from whimbrel.laboratory.search import (
    BOUND,
    GENES,
    INFEASIBLE,
    SIZE,
    bound_cost,
    cost,
    judge,
    main,
    scenario_of,
    search,
)
from whimbrel.scenario_file import check, loads
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.sim.scenario import Pattern

HALF = (0.5,) * GENES
EASY = (0.3, 0.2, *([0.1] * (GENES - 2)))
"""A small set, written slowly, over a quiet link."""
HOPELESS = (1.0, 0.99, *([0.1] * (GENES - 2)))
"""Most of its RAM, at five times the link."""


def _with(place: int, value: float) -> tuple[float, ...]:
    return (*EASY[:place], value, *EASY[place + 1 :])


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(0, 1, exclude_max=True)] * GENES), st.sampled_from(["pause", "precopy", ""]))
def test_any_numbers_are_a_scenario_that_can_be_simulated(genes: tuple[float, ...], word: str) -> None:
    scenario = scenario_of(genes, word)
    writes = sum(writer.rate_bytes_per_s for writer in scenario.guest.writers) / 4096 * scenario.limit_s

    check(scenario)
    assert loads(dumps(Plan(scenario=scenario))).scenario == scenario
    assert writes <= MOST_WRITES


def test_each_number_has_its_meaning() -> None:
    patterns = {scenario_of(_with(2, value), "").guest.writers[0].pattern for value in (0.1, 0.3, 0.6, 0.9)}

    assert patterns == {Pattern.UNIFORM, Pattern.SWEEP, Pattern.ZIPF, Pattern.HOTSPOT}
    assert scenario_of(_with(5, 0.9), "").guest.writers[0].period_s > 0
    assert scenario_of(_with(8, 0.9), "").guest.writers[1].name == "second"
    device = scenario_of((*_with(8, 0.9)[:10], 0.9, *EASY[11:]), "").guest.writers[1]
    assert device.vcpu is None
    assert scenario_of((*_with(8, 0.9)[:11], 0.9, *EASY[12:]), "").guest.writers[1].period_s > 0
    assert scenario_of(_with(12, 0.9), "").link.noise > 0
    assert len(scenario_of(_with(13, 0.7), "").link.steps) == 1
    assert len(scenario_of(_with(13, 0.9), "").link.outages) == 1
    assert scenario_of(_with(15, 0.9), "").guest.writers[0].delta_bytes < 4096


def test_a_run_costs_its_time_its_downtime_and_the_work_that_it_lost() -> None:
    run = cost(scenario_of(EASY, "pause"), 1, "fixed")

    assert run.done
    assert run.total_s + 10 * run.downtime_s <= run.cost_s <= run.total_s + 12 * run.downtime_s


def test_a_run_that_does_not_get_there_costs_twice_its_limit() -> None:
    run = cost(scenario_of(HOPELESS, "pause"), 1, "fixed")

    assert not run.done
    assert run.cost_s == 2 * SIZE.censored_s


def test_a_policy_is_blamed_for_what_a_reference_does_better() -> None:
    judged = judge(scenario_of(EASY, "pause"), "fixed", ("least_downtime",))

    assert judged.regret > 0
    assert judged.against == "least_downtime"
    assert judged.policy is not None
    assert judged.reference is not None
    assert judged.policy.downtime_s > judged.reference.downtime_s


def test_nobody_is_blamed_for_what_no_reference_can_do() -> None:
    assert judge(scenario_of(HOPELESS, "pause"), "fixed", ("least_downtime",)).regret == INFEASIBLE


def test_no_reference_is_run_where_the_policy_s_own_cost_shows_that_it_does_not_matter() -> None:
    judged = judge(scenario_of(EASY, "pause"), "fixed", ("no such policy",), above=5.0)

    assert judged.regret == INFEASIBLE


def test_the_bound_is_a_reference_too() -> None:
    scenario = scenario_of(EASY, "pause")

    judged = judge(scenario, "least_downtime", (BOUND,), seeds=(1,))

    assert judged.against == BOUND
    assert judged.regret >= -0.01
    assert bound_cost(scenario, 1) == judged.reference


def test_the_bound_has_throttles_only_where_they_are_allowed() -> None:
    allowed = bound_cost(scenario_of(HOPELESS, "precopy"), 1)
    refused = bound_cost(scenario_of(HOPELESS, "pause"), 1)

    assert allowed.cost_s <= refused.cost_s
    assert allowed.downtime_s < refused.downtime_s


def test_a_seed_is_needed() -> None:
    with pytest.raises(BadInput, match="seeds"):
        judge(scenario_of(EASY, "pause"), "fixed", ("least_downtime",), seeds=())


def test_the_same_seed_finds_the_same_and_says_what_it_finds() -> None:
    told: list[str] = []
    found = search("fixed", budget=2, references=("least_downtime",), tell=told.append)

    assert found is not None
    assert found == search("fixed", budget=2, references=("least_downtime",))
    assert found.regret > 0
    assert found.against == "least_downtime"
    assert told[-1].startswith("fixed: ")
    assert f"{found.regret:.2f} rounds behind least_downtime" in told[-1]


def test_what_the_regret_does_not_need_is_left_out() -> None:
    found = search("fixed", budget=2, references=("least_downtime",))

    assert found is not None
    assert found.scenario.link == steady(SIZE)  # that all of 300 ms are used has nothing to do with noise or an outage


def test_another_seed_looks_elsewhere() -> None:
    scenarios = {
        str(each and each.scenario)
        for seed in (1, 2)
        for each in [search("fixed", budget=1, seed=seed, references=("least_downtime",))]
    }

    assert len(scenarios) == 2


def test_nothing_is_found_against_a_policy_that_is_as_good_as_its_references() -> None:
    assert search("fixed", budget=3, references=("qemu_default",), word="gentle") is None


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(BadInput, match="budget"):
        search("fixed", budget=0)
    with pytest.raises(BadInput, match="no_such"):
        search("no_such")


def test_the_command_writes_findings_that_are_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixed", "--budget", "2"]) == 0

    out, err = capsys.readouterr()
    [table] = tomllib.loads(out)["finding"]
    assert table["policy"] == "fixed"
    assert "fixed: " in err


def test_the_command_says_what_a_policy_of_somebodys_may_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody knows by its name that it throttles."""
    assert main(["fixed", "--budget", "2", "--allow", "throttle"]) == 0

    [table] = tomllib.loads(capsys.readouterr().out)["finding"]
    allowed = loads(table["scenario"]).scenario.objectives
    assert (allowed.greatest_throttle, allowed.may_postcopy, allowed.may_pause) == (0.99, False, False)


def test_the_command_names_a_policy_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no_such", "--budget", "1"]) == 2

    assert "no_such" in capsys.readouterr().err
