"""What a simulation gives: the same keys for every model, and figures over many runs."""

from __future__ import annotations

from dataclasses import fields, replace

from whimbrel.sim.scenario import GuestPlan, Scenario
from whimbrel.simulation_records import FIGURES, Run, Simulation, as_dict, figures, summary

RUN = Run(
    seed=1,
    converged=True,
    outcome="completed",
    total_s=10.0,
    downtime_s=0.1,
    iterations=3,
    transferred_bytes=1e9,
    log=b"{}\n",
)


def test_one_object_with_everything_but_the_log() -> None:
    scenario = Scenario(guest=GuestPlan(ram_bytes=1 << 20))
    told = as_dict(Simulation(scenario=scenario, model="fast", runs=(RUN, replace(RUN, seed=2)), notes=("so",)))
    assert set(told) == {each.name for each in fields(Run)} - {"log"} | {
        *("model", "notes", "runs", "summary", "scenario")
    }
    assert list(told)[:4] == ["model", "seed", "scenario", "drawn"]
    assert (told["seed"], told["total_s"], told["converged"]) == (1, 10.0, True)
    assert [each["seed"] for each in told["runs"]] == [1, 2]
    assert told["scenario"]["link"]["bandwidth_bytes_per_s"] == 125e6


def test_bytes_are_whole_and_courses_small() -> None:
    """Times keep their fractions; of each stretch of a long course the most is kept, and its end."""
    course = tuple((i / 100, 1e9 - i + 0.5) for i in range(100_000))
    run = replace(RUN, transferred_bytes=1e9 + 0.3, remaining=course, sending=((0.0, 1.5), (1.0, 1.5)))
    told = as_dict(Simulation(scenario=Scenario(guest=GuestPlan(ram_bytes=1 << 20)), model="fast", runs=(run, run)))
    assert told["transferred_bytes"] == 10**9
    assert all(type(each["transferred_bytes"]) is int for each in told["runs"])
    assert type(told["summary"]["transferred_bytes"]["median"]) is int
    assert 190 < len(told["remaining"]) < 210
    assert told["remaining"][0] == (0.0, 10**9)
    assert told["remaining"][-1][0] == 999.99
    assert told["sending"] == [(0.0, 2), (1.0, 2)]
    assert type(told["total_s"]) is float


def test_the_figures_of_a_run() -> None:
    assert set(figures(RUN)) == set(FIGURES)


def test_a_summary_tells_of_those_that_moved_the_guest() -> None:
    """A run that did not is counted, and its times are no times of a migration."""
    runs = (RUN, replace(RUN, total_s=30.0), replace(RUN, total_s=11.0), replace(RUN, converged=False, total_s=3600.0))
    told = summary(runs)
    assert (told["runs"], told["converged"]) == (4, 3)
    assert told["total_s"] == {"least": 10.0, "median": 11.0, "most": 30.0}
    assert summary(runs[3:]) == {
        "runs": 1,
        "converged": 0,
        "total_s": None,
        "downtime_s": None,
        "iterations": None,
        "transferred_bytes": None,
    }


def test_a_model_may_say_nothing_of_downtime() -> None:
    assert summary((replace(RUN, downtime_s=None),))["downtime_s"] is None
