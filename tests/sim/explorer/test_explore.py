"""The command line of the explorer."""

from __future__ import annotations

import io
import json

import pytest

from whimbrel.sim.explorer.exploration import Counterexample, Found
from whimbrel.sim.explorer.explore import as_record, main, print_found
from whimbrel.sim.explorer.scenarios import SCENARIOS
from whimbrel.sim.explorer.world import Breach


def run(*argv: str) -> tuple[int, str]:
    """Exit code and output."""
    out = io.StringIO()
    return main(argv, out), out.getvalue()


def test_it_says_what_it_saw() -> None:
    code, text = run("--scenario", "plain", "--faults", "0")
    assert code == 0
    assert "plain: " in text
    assert "at most 0 faults" in text
    assert "completed, owner destination, guest running" in text
    assert text.endswith("every invariant holds\n")


def test_json_is_one_object_with_stable_keys() -> None:
    code, text = run("--scenario", "paused", "--faults", "0", "--json")
    record = json.loads(text)
    assert (code, record["broken"]) == (0, False)
    (scenario,) = record["scenarios"]
    assert set(scenario) == {
        *("scenario", "faults", "states", "transitions", "longest", "seconds", "whole", "ends", "broken"),
    }
    assert {"faults", "phase", "owner", "guest", "worlds"} == set(scenario["ends"][0])


def test_the_scenarios_are_listed() -> None:
    code, text = run("--list")
    assert code == 0
    assert len(text.splitlines()) == len(SCENARIOS)


def test_single_faults_as_a_table_and_as_json() -> None:
    code, text = run("--by-fault", "--scenario", "plain")
    assert code == 0
    assert "| kill-source | " in text
    code, text = run("--by-fault", "--scenario", "plain", "--json")
    assert set(json.loads(text)) == {"plain"}


def test_time_that_is_up_is_said() -> None:
    code, text = run("--scenario", "plain", "--seconds", "0.2")
    assert code == 0
    assert "NOT the whole space" in text


@pytest.mark.parametrize("argv", [("--faults", "-1"), ("--seconds", "0"), ("--scenario", "nowhere")])
def test_wrong_arguments(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_a_counterexample_is_printed_as_a_trace() -> None:
    wrong = Counterexample(Breach.TWO_RUNNING, "two guests", ("first", "second"))
    found = Found("plain", 2, broken=[wrong])
    out = io.StringIO()
    print_found(found, out)
    assert "BROKEN 1: two guests\n      first\n      second\n" in out.getvalue()
    assert as_record(found)["broken"] == [
        {"breach": "TWO_RUNNING", "why": "two guests", "trace": ("first", "second")},
    ]
