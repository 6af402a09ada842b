"""How early a verdict can be right: the tables, from runs made up by hand and from two that are simulated."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import verdict
from benchmarks.verdict import Look, Run
from whimbrel.laboratory.catalogue import case


def look(iteration: int, hopeless: float | None, meets: float = 0.5, end_s: float = 10.0) -> Look:
    """What was foreseen then: an end within a second of that."""
    return Look(
        iteration,
        float(iteration),
        [end_s - 1, end_s, end_s + 1],
        [0.1, 0.2, 0.3],
        [1.0, 2.0, 3.0],
        meets,
        hopeless,
        (hopeless or 0.0) >= 0.95,
    )


def done(name: str, *looks: Look, met: bool, policy: str = "least_downtime") -> Run:
    """A run that ends at 10 s, or never."""
    return Run(
        case=name, policy=policy, seed=1, met=met, limit_s=30.0, ends_s=10.0 if met else math.inf,
        downtime_s=0.2 if met else None, sent_bytes=2, first_pass_s=2.0, looks=list(looks),
    )  # fmt: skip


RIGHT = done("stuck", look(1, None), look(2, None), look(3, 0.97, 0.01), look(4, 0.99, 0.01), met=False)
WRONG = done("odd", look(3, 0.96, 0.02), look(4, 0.3, 0.9), met=True)
OPEN = done("slow", look(3, 0.7, 0.1), look(4, 0.8, 0.1), met=False)
FINE = done("easy", look(2, None, 0.99), look(3, 0.02, 0.99), met=True)
ALL = [RIGHT, WRONG, OPEN, FINE]


def test_verdicts_are_counted_as_they_stand_after_each_iteration() -> None:
    rows = verdict.verdicts(ALL)
    assert rows[2] == "| 2 | 1 | 1 | 1 | 1 |"
    assert rows[3] == "| 3 | 1 | 0 | 1 | 2 |"
    assert len(rows) == 2 + verdict.LAST - 1


def test_what_another_policy_manages_is_possible() -> None:
    """Nobody but the policies that are judged is counted, and everybody tells what can be done."""
    helped = [OPEN, done("slow", met=True, policy="clark_rate")]
    assert verdict.can_be_met(helped) == {("slow", 1)}
    assert verdict.verdicts(helped)[2] == "| 2 | 0 | 0 | 0 | 1 |"


def test_confidence_and_promises_are_held_against_what_came_true() -> None:
    assert "| 95% to 100% | 97% | 67% | 3 |" in verdict.confidence(ALL)
    assert "| 0% to 5% | 1% | 33% | 3 |" in verdict.promises(ALL)
    assert "| 95% to 100% | 99% | 100% | 2 |" in verdict.promises(ALL)


def test_ranges_are_counted_where_the_end_lies_in_them() -> None:
    rows = verdict.ranges([FINE, done("late", look(3, None, end_s=20.0), met=True), RIGHT])
    third = next(row for row in rows if row.startswith("| 3 |"))
    assert third == "| 3 | 3 | 33% | 100% | 100% | 50.0% |"


def test_the_earliest_verdict_is_the_first_that_stood_to_the_end() -> None:
    assert verdict.earliest(ALL) == (
        "1 of 2 runs that nothing could save had a verdict that stood to the end, "
        "drawn after 2 iterations, 1.5 times the first pass (medians)"
    )
    assert verdict.earliest([OPEN]).endswith("none had a verdict that stood to the end")


def test_objectives_allow_nothing_but_precopy() -> None:
    goal = verdict.plain(case("d150@1g")).scenario.objectives
    assert (goal.greatest_throttle, goal.may_postcopy, goal.may_pause, goal.may_abort) == (0.0, False, False, False)


def test_it_runs_from_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = tmp_path / "looks.json"
    assert verdict.main(["--seeds", "1", "--jobs", "1", "--case-set", "stress@10g", "--json", str(wanted)]) == 0
    said = capsys.readouterr().out
    assert "6 simulated migrations, of which 2 are judged" in said
    runs = json.loads(wanted.read_text())
    assert {each["policy"] for each in runs} == set(verdict.POLICIES)
    assert all(each["looks"] for each in runs)


def test_a_case_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict.main(["--case-set", "nothing@all"]) == 1
    assert "nothing@all" in capsys.readouterr().err
