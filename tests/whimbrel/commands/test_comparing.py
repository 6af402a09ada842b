"""``whimbrel compare``: what it prints, writes and keeps, how it is stopped, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.command_line import here, running
from tests.support.guests import until
from whimbrel.cli import BAD_INPUT, CANCELLED, NOT_BEGUN, OK
from whimbrel.commands import comparing
from whimbrel.commands.comparing import counting
from whimbrel.laboratory.catalogue import SETS
from whimbrel.laboratory.choosing import DEFAULT_SEEDS
from whimbrel.laboratory.table import read_rows

SCENARIO = """\
limit = "3s"
[guest]
ram = "16MiB"
pages = true
[[guest.writer]]
name = "hot"
size = "4MiB"
rate = "8MiB/s"
[link]
bandwidth = "32MiB/s"
pipe = "512KiB"
[objectives]
downtime = "200ms"
"""
TWO = ("--policy", "fixed", "--policy", "least_downtime", "--jobs", "1")
RAISES = """
def policy(seen):
    raise RuntimeError("no idea")
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A small scenario, page by page."""
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


def test_it_prints_a_table_of_each_case_regrets_and_a_league(
    capsys: pytest.CaptureFixture[str], scenario: Path
) -> None:
    ran = here(capsys, "compare", "--scenario", scenario, "--seeds", "2", *TWO)
    assert ran.code == OK
    lines = ran.out.splitlines()
    assert lines[0] == "2 policies × 1 case × 2 seeds = 4 runs, simulated"
    assert "small@file: goal 200ms, called off after 3s" in lines
    assert any(line.startswith("Regret") for line in lines)
    assert "League: 1 case, 2 guests, each given to every policy" in lines
    assert max(map(len, lines)) <= 100
    assert "Kendall" in ran.out


def test_json_is_one_object_and_everything_else_goes_to_the_other_stream(
    capsys: pytest.CaptureFixture[str], scenario: Path
) -> None:
    ran = here(capsys, "compare", "--scenario", scenario, "--seeds", "2", "--json", "--no-bounds", *TWO)
    assert (ran.code, ran.object["runs"], ran.object["policies"]) == (OK, 4, ["fixed", "least_downtime"])
    assert len(ran.object["figures"]) == 2
    assert ran.object["regrets"] == []
    assert ran.object["files"] == {"table": "", "csv": "", "page": "", "figures": ""}
    assert "4 runs" in ran.err


def test_a_directory_keeps_the_rows_and_the_second_time_nothing_is_run(
    capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path
) -> None:
    words = ("compare", "--scenario", scenario, "--seeds", "2", "--no-bounds", "--out", tmp_path / "out", *TWO)
    first, again = here(capsys, *words), here(capsys, *words)
    assert (first.code, again.code) == (OK, OK)
    assert f"table: {tmp_path / 'out' / 'result.parquet'}" in first.out
    assert "4 of 4 runs are there already" in again.out
    assert again.out.replace("4 of 4 runs are there already\n", "") == first.out
    assert len(read_rows(tmp_path / "out" / "result.parquet")) == 4


def test_it_writes_csv_a_page_and_pictures(capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path) -> None:
    files = {"--csv": tmp_path / "rows.csv", "--html": tmp_path / "page.html", "--figures": tmp_path / "figures"}
    asked = [each for pair in files.items() for each in pair]
    ran = here(capsys, "compare", "--scenario", scenario, "--seeds", "1", *asked, *TWO)
    assert ran.code == OK
    assert len(files["--csv"].read_text().splitlines()) > 2
    page = files["--html"].read_text()
    assert "least_downtime" in page
    assert {each.suffix for each in files["--figures"].iterdir()} == {".png", ".svg"}
    for name, path in (("csv", files["--csv"]), ("page", files["--html"]), ("figures", files["--figures"])):
        assert f"{name}: {path}" in ran.out


def test_a_policy_that_fails_is_named_with_what_it_was_asked_and_what_it_did(
    capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(RAISES)
    policies = ("--policy", f"{file}:policy", "--policy", "fixed", "--jobs", "1")
    ran = here(capsys, "compare", "--scenario", scenario, "--seeds", "1", "--no-bounds", *policies)
    told = " ".join(ran.out.split())
    assert ran.code == OK
    assert "bad.py:policy:" in told
    assert "the first (small@file, seed 1)" in told
    assert "failed when it was asked (setup at 0.00 s): raised RuntimeError('no idea')" in told


def test_cases_are_listed_and_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    some, every = here(capsys, "compare", "--list", "--case", "d50@*"), here(capsys, "compare", "--list", "--json")
    assert "d50@1g" in some.out
    assert "d90@1g" not in some.out
    assert max(map(len, some.out.splitlines())) <= 100
    assert {each["name"] for each in every.object["cases"]} > {"d50@1g", "web@100m"}


# ---- stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_who_stops_it_keeps_what_is_done(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    words = ("compare", "--case", "d50@1g", "--policy", "fixed", "--seeds", "5000", "--no-bounds", "--out", out)
    async with running(*words, "--jobs", "2") as command:
        await until(lambda: (out / "rows").is_dir() and any((out / "rows").glob("*.json")), "a row")
        command.process.send_signal(number)
        assert await command.end() == CANCELLED
    lines = command.seen.splitlines()
    assert "Traceback" not in command.seen
    assert lines[-1].startswith("whimbrel: stopped: ")
    assert lines[-1].endswith("they are kept, and the same command goes on from there")
    assert not list((out / "rows").glob("*.begun"))


async def test_killed_it_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    """SIGKILL: nothing can be tidied up, and nothing needs to be."""
    out = tmp_path / "out"
    words = ("compare", "--case", "d50@1g", "--policy", "fixed", "--seeds", "30", "--no-bounds", "--out", out)
    async with running(*words, "--jobs", "1") as command:
        await until(lambda: (out / "rows").is_dir() and any((out / "rows").glob("*.json")), "a row")
        command.process.kill()
        await command.process.wait()
    kept = len(list((out / "rows").glob("*.json")))
    async with asyncio.timeout(60), running(*words, "--jobs", "1") as command:
        assert await command.end() == OK
    assert f"{kept} of 30 runs are there already" in command.seen
    assert len(read_rows(out / "result.parquet")) == 30


def test_a_run_that_breaks_is_told_by_its_cell(
    capsys: pytest.CaptureFixture[str], scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("whimbrel.laboratory.running.simulate", broken)
    words = ("--scenario", scenario, "--policy", "fixed", "--seeds", "1", "--jobs", "1", "--no-bounds")
    ran = here(capsys, "compare", *words)
    assert ran.code == NOT_BEGUN
    assert ran.sentence == "small@file, fixed, seed 1: it broke with ZeroDivisionError('a defect')"


# ---- what is refused


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--seeds", "x"), "seeds"),
        (("--policy", "nonsense"), "policy"),
        (("--case", "nonsense"), "case"),
        (("--set", "nonsense"), "set"),
        (("--link", "fast"), "link"),
        (("--scenario", "nowhere.toml"), "scenario"),
        (("--csv", "/nowhere/rows.csv"), "csv"),
        (("--html", "/nowhere/page.html"), "html"),
        (("--figures", "pyproject.toml"), "figures"),
        (("--out", "pyproject.toml"), "out"),
        (("--out", "docs"), "out"),
    ],
)
def test_what_can_not_be_is_said_in_a_sentence_before_anything_is_run(
    capsys: pytest.CaptureFixture[str], words: tuple[str, str], field: str
) -> None:
    ran = here(capsys, "compare", *words)
    assert ran.code == BAD_INPUT
    assert ran.sentence.startswith(f"{field}: ")
    assert ran.out == ""


def test_an_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    ran = here(capsys, "compare", "--seeds", "x", "--json")
    assert json.loads(ran.out)["error"]["exit_code"] == BAD_INPUT


def test_help_names_every_set_and_the_seeds_that_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    ran = here(capsys, "compare", "--help")
    told = " ".join(ran.out.split())
    assert all(name in told for name in SETS)
    assert comparing.compare.__defaults__ is not None
    assert DEFAULT_SEEDS in comparing.compare.__defaults__


# ---- progress


def lines_of(steps: Iterator[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is printed where nobody sees a terminal, when so many of ten runs are done at these times."""
    console = Console(file=io.StringIO(), width=100)
    times = list(steps)
    clock = iter([at_s for at_s, _ in times])
    monkeypatch.setattr(comparing, "monotonic", lambda: next(clock))
    with counting(console) as told:
        for _, done in times:
            told(done, 10)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pace is that since the first block was through: until then, processes start."""
    steps = iter([(0.0, 0), (5.0, 1), (14.0, 2), (15.0, 3), (35.0, 7), (60.0, 10)])
    assert lines_of(steps, monkeypatch) == ["3 of 10 runs, about 35s left", "7 of 10 runs, about 15s left"]


def test_what_was_there_already_is_no_part_of_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_of(iter([(0.0, 5), (20.0, 6), (40.0, 8)]), monkeypatch) == [
        "5 of 10 runs are there already",
        "8 of 10 runs, about 20s left",
    ]


def test_on_a_terminal_a_bar_is_shown_with_the_time_left_and_nothing_stays_of_it() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with counting(console) as told:
        told(2, 10)
        told(5, 10)
    assert isinstance(console.file, io.StringIO)
    assert "5/10" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")
