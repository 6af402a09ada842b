"""The page on policies: its policy runs as it stands, its table has all of them, its commands are possible."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.asking import setup
from tests.support.command_line import here
from tests.test_docs import PAGES, rows
from whimbrel.cli import OK
from whimbrel.engine.policies import BUILT_IN
from whimbrel.engine.policy import Abilities, Observation, Policy, Reason
from whimbrel.policies import resolve
from whimbrel.policy_text import OPTIONS, condition

ROOT = Path(__file__).resolve().parent.parent
PAGE = PAGES["policies.md"]
SOURCES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^(whimbrel simulate .*)$", PAGE, re.MULTILINE)
TABLE = {name.strip("`"): cells for name, cells in rows(PAGE).items() if name.strip("`") in BUILT_IN}


@pytest.fixture
def ratchet(tmp_path: Path) -> Path:
    """The file of the page's policy."""
    path = tmp_path / "ratchet.py"
    path.write_text(SOURCES[0])
    return path


def test_the_policy_has_twenty_lines() -> None:
    assert sum(1 for line in SOURCES[0].splitlines() if line) <= 20


def test_the_policy_runs_as_it_stands(ratchet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And it is that policy which steers."""
    log = ratchet.with_name("log.jsonl")
    scenario = str(ROOT / "docs" / "examples" / "memcached.toml")
    ran = here(capsys, "simulate", scenario, "--policy", f"{ratchet}:Ratchet", "--log", str(log), "--json")
    assert ran.code == OK
    written = log.read_text()
    assert "begin low" in written
    assert "too little progress" in written
    assert '"fault"' not in written or '"fault":""' in written


def test_the_policy_decides_what_its_docstring_says(ratchet: Path) -> None:
    policy = resolve(f"{ratchet}:Ratchet:start=50ms")
    assert policy(setup()).downtime_limit_s == 0.05
    assert policy(Observation(reason=Reason.ITERATION)).downtime_limit_s is None


def test_every_policy_is_in_the_table_in_its_order() -> None:
    assert list(TABLE) == list(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_asked_for_before_the_start_is_told_as_needed(name: str) -> None:
    """By the capability that it takes."""
    local = setup(abilities=replace(setup().abilities, outside_throttle=True))
    asked = {key for seen in (setup(), local) for key in BUILT_IN[name]()(seen).capabilities}
    needs = TABLE[name][-1]
    assert ("postcopy-ram" in asked) <= ("post-copy" in needs)
    assert bool(asked & {"auto-converge", "dirty-limit"}) == ("throttle" in needs)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_possible(
    command: str, ratchet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that has the examples and the page's policy."""
    (ratchet.parent / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(ratchet.parent)
    assert here(capsys, *shlex.split(command)[1:]).code == OK


def test_the_python_of_compositions_makes_policies() -> None:
    made: dict[str, Policy] = {}
    exec(compile(SOURCES[1], "policies.md", "exec"), made)
    for name in ("patient", "by_size"):
        assert made[name](setup(abilities=Abilities())).because


def test_conditions_and_options_are_those_of_the_command_line() -> None:
    assert all(f"{option}=" in PAGE for option in OPTIONS)
    told = re.findall(r"`([a-z]+[<>]=?[0-9][^`]*)`", PAGE)
    assert len({condition(text).quantity for text in told}) == 9
