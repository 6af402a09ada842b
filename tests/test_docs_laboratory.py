"""The laboratory's page: its walk runs as it stands, and its tables are those of the code.

Blocks of ``sh`` and ``python`` are run one after the other in one folder, as a reader would. Blocks without a language
hold what needs a real guest, other machines or many minutes: of these it is seen that the commands can be meant.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet
import pytest
import typer.main
from rich.console import Console

from tests.support.command_line import here
from tests.test_docs import PAGES, ROOT
from tests.whimbrel.laboratory.matrices import row, small_matrix
from whimbrel.cli import OK, app
from whimbrel.commands.comparison_text import comparison_text
from whimbrel.engine.policies import BUILT_IN
from whimbrel.laboratory.catalogue import SETS
from whimbrel.laboratory.choosing import Chosen, matrix_of
from whimbrel.laboratory.records import Row
from whimbrel.laboratory.statistics import LEAST_RUNS
from whimbrel.laboratory.summary import as_dict, compared
from whimbrel.policies import resolve

PAGE = PAGES["laboratory.md"]
BLOCKS = re.findall(r"^```([a-z]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
POLICY_FILE = "brake.py"


def section(title: str) -> str:
    """What stands below a heading, up to the next one of any kind."""
    (found,) = re.findall(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def table(title: str) -> dict[str, list[str]]:
    """The rows of the tables in a section, by their first cells; without headings."""
    lines = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| `")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def coded(cells: Sequence[str]) -> set[str]:
    """What stands in code in some cells."""
    return set(re.findall(r"`([^`]+)`", " ".join(cells)))


def commands() -> Iterator[list[str]]:
    """The words of each line of the blocks without a language, and of those that compare in the README."""
    for language, text in BLOCKS:
        if not language:
            yield from map(shlex.split, text.splitlines())
    for line in re.findall(r"^whimbrel compare .*$", PAGES["README.md"], re.MULTILINE):
        yield shlex.split(line, comments=True)


# ---- the walk


class Reader:
    """Does what the page says, in the current folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.said: list[str] = []
        """What came of each command, and of each block of Python."""

    def run(self, text: str) -> None:
        """Commands, one a line; in this process, which is quicker."""
        for words in map(shlex.split, text.splitlines()):
            if words[:2] == ["python", "-m"]:
                assert importlib.import_module(words[2]).main(words[3:]) == OK
                self.said.append("".join(self.capsys.readouterr()))
            else:
                assert words[0] == "whimbrel"
                ran = here(self.capsys, *words[1:])
                assert ran.code == OK, ran.err
                self.said.append(ran.out + ran.err)

    def take(self, text: str) -> None:
        """Python: a policy is kept in its file, anything else is run."""
        if "class Brake" in text:
            Path(POLICY_FILE).write_text(text)
        else:
            exec(compile(text, "laboratory.md", "exec"), {})
            self.said.append(self.capsys.readouterr().out)


def test_the_walk_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what the page says of it is so: rows are kept, nothing is run twice, and a row can be had again."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    reader = Reader(capsys)
    for language, text in BLOCKS:
        if language == "sh":
            reader.run(text)
        elif language == "python":
            reader.take(text)
    said = "\n".join(reader.said)
    assert "too little progress  → outside throttle 0.9" in reader.said[0]
    assert "of 8 runs" not in said.replace("8 of 8 runs are there already", "")
    assert "8 of 8 runs are there already" in said

    read: Any = pyarrow.parquet
    table = cast("list[dict[str, Any]]", read.read_table("first/result.parquet").to_pylist())
    assert list(table[0]) == [each.name for each in fields(Row)]
    assert not any(each["fault"] for each in table)
    brake = {(each["case"], each["seed"]): each for each in table if each["policy"] == "brake.py:Brake"}
    assert len(brake) == 6
    assert all(each["goal_met"] for each in brake.values())
    assert not any(each["goal_met"] for each in table if each["case"] == "stress@10g" and "qemu" in each["policy"])
    assert Path("first.html").read_text().startswith("<!doctype html>")
    assert Path("again.svg").exists()
    again = here(capsys, "simulate", "row.toml", "--seed", "1", "--policy", "brake.py:Brake", "--json").object
    for name in ("total_s", "downtime_s", "transferred_bytes"):
        assert again[name] == brake["stress@10g", 1][name]


def test_the_policy_of_the_walk_has_twenty_lines() -> None:
    (source,) = (text for _, text in BLOCKS if "class Brake" in text)
    assert sum(1 for line in source.splitlines() if line) <= 20


# ---- what is not run


def chosen_of(given: dict[str, Any]) -> Chosen:
    """What the options of ``compare`` and ``sweep`` choose."""
    return Chosen(
        policies=tuple(each for each in given["policy"] or () if ".py" not in each),
        cases=tuple(given["case"] or ()),
        sets=tuple(given["set_"] or ()),
        scenarios=tuple(given["scenario"] or ()),
        links=tuple(given["link"] or ()),
        seeds=given["seeds"],
        real=given.get("real", False),
    )


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_commands_that_are_not_run_can_be_meant(words: list[str]) -> None:
    """Their options exist, their policies and cases, too; real QEMUs, Dask and long runs have tests of their own."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    group: Any = typer.main.get_command(app)
    command = group.commands[words[1]]
    given = command.make_context(words[1], words[2:]).params
    for name in given.get("shadow") or ():
        if POLICY_FILE not in name:
            resolve(name)
    if words[1] in ("compare", "sweep"):
        assert len(matrix_of(chosen_of(given)))


# ---- tables


def test_every_column_is_there_with_its_unit_and_its_meaning() -> None:
    told = section("The columns").split("\n\n", 2)[-1].strip().splitlines()
    wanted = [f"| `{each.name}` | {each.metadata['unit']} | {each.metadata['about']} |" for each in fields(Row)]
    assert told[2:] == wanted


def test_every_key_of_the_object_is_there() -> None:
    matrix = small_matrix()
    made = [row(policy=cell.policy, case=cell.case.name, seed=cell.seed) for cell in matrix.cells()]
    assert coded(list(table("For programs"))) == set(as_dict(compared(matrix, made))) | {"files"}


def test_every_set_is_there() -> None:
    assert table("Cases") == {f"`{name}`": [about] for name, about in SETS.items()}


@pytest.mark.parametrize("seeds", [2, LEAST_RUNS])
def test_headings_of_the_text_are_explained(seeds: int) -> None:
    """All that a comparison prints at 100 columns, of few runs or many; of regrets the section on bounds tells."""
    matrix = small_matrix(seeds)
    made = [row(policy=cell.policy, case=cell.case.name, seed=cell.seed) for cell in matrix.cells()]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(comparison_text(compared(matrix, made), 100))
    lines = captured.get().splitlines()
    case, league = (
        re.split(r" {2,}", lines[number + 1].strip())
        for number, line in enumerate(lines)
        if line.startswith((f"{matrix.cases[0].name}:", "League:"))
    )
    assert set(case) - {"policy"} <= coded(list(table("Compare it")))
    assert set(league) - {"policy", "met", "moved"} <= coded(list(table("Who is better")))


def test_nobody_is_told_to_look_for_a_policy_that_is_not_there() -> None:
    named = set(re.findall(r"--policy ([a-z0-9_]+)(?=[ :`\n])", PAGE))
    assert named <= set(BUILT_IN)
