"""``python -m whimbrel.sim``."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Phase
from whimbrel.sim import swarm, trial
from whimbrel.sim.canaries import BY_NAME
from whimbrel.sim.driver_procedures import Procedures
from whimbrel.sim.explorer.world import Breach
from whimbrel.sim.faults import Kind
from whimbrel.sim.trial import Trial


def run(*words: str) -> tuple[int, str]:
    """Run the command line; its exit code, and what it printed."""
    out = io.StringIO()
    return swarm.main(words, out), out.getvalue()


def test_one_seed_is_told_from_what_was_drawn_to_the_verdict() -> None:
    code, said = run("3")
    lines = said.splitlines()
    assert code == swarm.CLEAN
    assert lines[0] == "seed = 3"
    assert lines[1].startswith("guest = ")
    assert any(line.split()[1:2] == ["header"] for line in lines)
    assert "s of virtual time" in lines[-1]
    times = [float(line.split()[0]) for line in lines if line[:12].strip().replace(".", "").isdigit()]
    assert len(times) > 30
    assert times == sorted(times)


def test_one_seed_for_a_program() -> None:
    code, said = run("3", "--json")
    told = json.loads(said)
    assert code == swarm.CLEAN
    assert told["drawn"]["seed"] == told["found"]["seed"] == 3
    assert told["steady"] is True


def test_a_range_is_run_whole_and_counted() -> None:
    code, said = run("0..6")
    assert code == swarm.CLEAN
    assert "6 seeds, each twice" in said
    assert "every invariant holds" in said


def test_a_range_for_a_program_on_two_processes() -> None:
    code, said = run("0..10", "--jobs", "2", "--json")
    told: dict[str, Any] = json.loads(said)
    assert (code, told["seeds"], told["broken"], told["unsteady"]) == (swarm.CLEAN, 10, [], [])
    assert sum(told["ends"].values()) == 10
    assert set(told["struck"]) <= {kind.value for kind in Kind}


def test_it_stops_when_the_time_is_up() -> None:
    code, said = run("0..100000", "--seconds", "0.2", "--json")
    assert code == swarm.CLEAN
    assert 1 <= json.loads(said)["seeds"] < 1000


def test_a_broken_invariant_has_an_exit_code_of_its_own_and_its_seed_is_named() -> None:
    with BY_NAME["needed"].in_place():
        pass  # in place only within: the build is sound again
    broken = swarm.seek(BY_NAME["needed"], range(50))
    assert broken is not None
    tally = swarm.Tally()
    tally.take(broken, broken.digest)
    assert tally.code == swarm.BROKEN
    out = io.StringIO()
    swarm.print_tally(tally, 1.0, out)
    assert f"BROKEN seed {broken.seed}" in out.getvalue()
    assert swarm.as_record(broken)["broken"][0]["breach"] == Breach.OWNER_KILLED.name


def test_a_broken_table_is_seen_from_the_command_line() -> None:
    """The same tables as the real driver's: what is wrong there is wrong here."""
    canary = BY_NAME["endless"]
    assert (Phase.HANDOVER, Signal.DEADLINE) in canary.table
    with canary.in_place():
        seed = next(seed for seed in range(200) if trial.run(Trial.drawn(seed)).broken)
        code, said = run(str(seed))
    assert code == swarm.BROKEN
    assert "BROKEN" in said
    assert run(str(seed))[0] == swarm.CLEAN


def test_a_seed_that_goes_differently_the_second_time_has_an_exit_code_of_its_own() -> None:
    found = trial.run(Trial.drawn(3))
    tally = swarm.Tally()
    tally.take(found, "another digest")
    assert (tally.code, tally.unsteady) == (swarm.UNSTEADY, [3])
    out = io.StringIO()
    swarm.print_tally(tally, 1.0, out)
    assert "NOT STEADY seed 3" in out.getvalue()


def test_a_canary_that_is_caught_is_well_and_one_that_is_not_has_an_exit_code_of_its_own() -> None:
    code, said = run("--canary", "needed")
    assert (code, "caught by seed" in said) == (swarm.CLEAN, True)
    harmless = replace(BY_NAME["needed"], procedures=Procedures)
    out = io.StringIO()
    assert swarm.hunt([harmless], range(2), out, as_json=False) == swarm.UNCAUGHT
    assert "NOT CAUGHT" in out.getvalue()


def test_canaries_for_a_program() -> None:
    code, said = run("--canary", "cancel-after-continue", "0..200", "--json")
    assert code == swarm.CLEAN
    assert json.loads(said)["caught"]["cancel-after-continue"] is not None
    assert Command.CANCEL_MIGRATION.value == "cancel-migration"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("x",),
        ("5..5",),
        ("-3",),
        ("1..",),
        ("1..2..3",),
        ("7", "--jobs", "0"),
        ("7", "--seconds", "0"),
        ("--canary", "nobody"),
    ],
)
def test_wrong_arguments_end_with_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == swarm.ARGUMENTS
    assert capsys.readouterr().err


def test_whoever_reads_only_the_beginning_is_no_trouble() -> None:
    command = f"{sys.executable} -m whimbrel.sim 3 | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "seed = 3\n"
    assert done.stderr == ""
