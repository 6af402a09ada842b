"""``whimbrel simulate``: from a file, from options, as text, as an object, as a picture; and what it refuses."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.command_line import PROGRAM, Ran, here
from whimbrel.cli import BAD_INPUT, OK
from whimbrel.commands.simulating import counting
from whimbrel.logbook import report_of
from whimbrel.simulating import MODELS

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
CURVE = ("--curve", EXAMPLES / "memcached.json")
CLASS = ("--class", "hot:size=16MiB,rate=20MiB/s", "--ram", "64MiB")
OPTIONS = ("--bandwidth", "10Gbit/s", "--downtime", "500ms", "--policy", "fixed", "--json")
SMALL = """\
seed = 5
policy = "fixed"
[guest]
ram = "64MiB"
[[guest.writer]]
name = "hot"
size = "8MiB"
rate = "20MiB/s"
[link]
noise = "10%"
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A small scenario file."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


# ---- from options


def test_a_measured_curve_by_the_fast_model(capsys: pytest.CaptureFixture[str]) -> None:
    """The keys that scripts rely on, and all that was derived from the options."""
    ran = here(capsys, "simulate", *CURVE, *OPTIONS)
    assert ran.code == OK
    told = ran.object
    assert (told["model"], told["seed"], told["converged"]) == ("fast", 1, True)
    assert 10 < told["total_s"] < 20
    assert 0.1 < told["downtime_s"] < 0.6
    assert told["iterations"] == len(told["each_iteration"]) >= 3
    assert 13e9 < told["transferred_bytes"] < 18e9
    assert told["scenario"]["link"]["bandwidth_bytes_per_s"] == 1.25e9
    assert told["scenario"]["objectives"]["downtime_s"] == 0.5
    assert told["scenario"]["guest"]["zero_bytes"] == 10060 * 512 * 4096
    assert told["scenario"]["policy"] == "fixed"
    assert told["runs"][0]["total_s"] == told["total_s"]


def test_the_published_cell_by_the_pure_recurrence(capsys: pytest.CaptureFixture[str]) -> None:
    """The table's Gbit/s are 2^30 bits: 2 of them and 5 s of downtime come to 1 min 41 s, in 6 rounds."""
    words = ["--bandwidth", "2Gibit/s", "--downtime", "5s", "--policy", "fixed", "--model", "recurrence", "--json"]
    told = here(capsys, "simulate", *CURVE, *words).object
    assert (told["converged"], told["iterations"], round(told["total_s"])) == (True, 6, 101)
    assert told["downtime_s"] == pytest.approx(4.786, abs=0.001)
    assert any("knows no policy" in note for note in told["notes"])


def test_what_never_converges_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--bandwidth", "1Gbit/s", "--downtime", "500ms", "--policy", "fixed", "--model", "recurrence", "--json"]
    ran = here(capsys, "simulate", *CURVE, *words)
    assert (ran.code, ran.object["converged"], ran.object["downtime_s"]) == (OK, False, None)
    assert ran.object["reason"]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_gives_the_same_keys(capsys: pytest.CaptureFixture[str], model: str) -> None:
    """What it has no number for is null."""
    words = ("simulate", *CLASS, "--bandwidth", "200Mbit/s", "--model", model, "--json")
    told = here(capsys, *words).object
    assert set(told) == set(here(capsys, *words[:-2], "fast", "--json").object)
    assert told["model"] == model
    assert "Infinity" not in json.dumps(told)


def test_the_workload_guest_by_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    told = here(capsys, "simulate", *CLASS, "--bandwidth", "1Gbit/s", "--json").object
    assert told["scenario"]["guest"]["ram_bytes"] == 64 << 20
    assert "hot" in [each["name"] for each in told["scenario"]["guest"]["writers"]]
    assert told["converged"] is True


# ---- from a file


def test_a_file_by_the_stepwise_model_and_options_before_it(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    told = here(capsys, "simulate", scenario, "--json").object
    assert (told["model"], told["seed"], told["scenario"]["policy"]) == ("stepwise", 5, "fixed")
    words = ("--seed", "8", "--policy", "least_downtime", "--downtime", "80ms", "--deadline", "1m", "--json")
    changed = here(capsys, "simulate", scenario, *words, "--bandwidth", "400Mbit/s").object
    assert (changed["seed"], changed["scenario"]["policy"]) == (8, "least_downtime")
    goal = changed["scenario"]["objectives"]
    assert (goal["downtime_s"], goal["deadline_s"], goal["bandwidth_bytes_per_s"]) == (0.08, 60.0, 50_000_000)
    assert changed["scenario"]["link"]["bandwidth_bytes_per_s"] == 125e6
    assert changed["total_s"] > 1.5 * told["total_s"]


def test_the_same_seed_prints_the_same(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    first = here(capsys, "simulate", scenario, "--json").out
    assert here(capsys, "simulate", scenario, "--json").out == first
    assert here(capsys, "simulate", scenario, "--json", "--seed", "6").out != first


def test_many_runs_are_told_side_by_side(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    told = here(capsys, "simulate", scenario, "--runs", "4", "--json").object
    assert [each["seed"] for each in told["runs"]] == [5, 6, 7, 8]
    assert (told["seed"], told["summary"]["runs"]) == (5, 4)
    times = sorted(each["total_s"] for each in told["runs"])
    assert (told["summary"]["total_s"]["least"], told["summary"]["total_s"]["most"]) == (times[0], times[-1])
    text = here(capsys, "simulate", scenario, "--runs", "4").out
    assert "4 of 4 runs moved the guest" in text


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_every_example_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path, example: Path) -> None:
    """To a guest that has moved, with its picture and a log that can be reported again."""
    plot, log = tmp_path / "p.svg", tmp_path / "log.jsonl"
    ran = here(capsys, "simulate", example, "--plot", plot, "--log", log)
    assert (ran.code, ran.err) == (OK, "")
    assert "COMPLETED in " in ran.out
    assert plot.read_text().startswith("<?xml")
    assert report_of(log).outcome == "completed"


def test_there_are_three_examples() -> None:
    assert len(list(EXAMPLES.glob("*.toml"))) == 3


def test_the_seed_and_all_that_was_derived_come_before_the_first_run(tmp_path: Path) -> None:
    """Nothing that ends the process takes them along; beside an object they are for people."""
    (tmp_path / "p.py").write_text("import os\n\ndef looks(seen):\n    os._exit(9)\n")
    path = tmp_path / "s.toml"
    path.write_text(SMALL.replace('"fixed"', '"p.py:looks"'))
    for option in ([], ["--json"]):
        ran = subprocess.run([PROGRAM, "simulate", path, *option], capture_output=True, text=True, check=False)
        assert ran.returncode == 9
        assert (ran.stderr == "") is not bool(option)
        told = ran.stdout + ran.stderr
        assert told.startswith("seed 5, model stepwise: ")
        assert "  drawn: " in told
        assert 'size = "8MiB"' in told


def test_many_runs_are_seen_to_go_on_at_a_terminal() -> None:
    """And nothing stays of it; elsewhere there is nothing to be seen."""
    for terminal in (True, False):
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=terminal, width=80)
        with counting(console, 3) as count:
            for _ in range(3):
                count(None)
        assert ("3/3" in screen.getvalue()) is terminal
        with counting(console, 1) as count:
            count(None)


# ---- what is refused

BAD = [
    (("simulate",), "SCENARIO", "a scenario file, --curve FILE, --class CLASS"),
    (("simulate", "a.toml", *CURVE), "SCENARIO", "SCENARIO, curve"),
    (("simulate", "/nowhere/s.toml"), "scenario", "/nowhere/s.toml"),
    (("simulate", *CURVE), "bandwidth", "nothing else says it"),
    (("simulate", *CURVE, "--bandwidth", "2Gbit"), "bandwidth", "2Gbit"),
    (("simulate", *CURVE, "--bandwidth", "0"), "options: link.bandwidth", "more than 0"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--ram", "1GiB"), "ram", "1GiB"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--model", "slow"), "model", "slow"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--policy", "nosuch"), "policy", "nosuch"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--downtime", "soon"), "downtime", "soon"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--throttle", "150%"), "throttle", "150%"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--downtime", "0"), "options: objectives.downtime", "1ms"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--runs", "2"), "runs", "throws no dice"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--plot", "a.gif"), "plot", "a.gif"),
    (("simulate", *CURVE, "--bandwidth", "1Gbit/s", "--log", "a.log"), "log", "stepwise"),
    (("simulate", "--curve", "/nowhere/c.json", "--bandwidth", "1Gbit/s"), "curve", "/nowhere/c.json"),
    (("simulate", "--class", "hot", "--bandwidth", "1Gbit/s"), "class", "hot"),
    (("simulate", "--class", "a:size=1GiB", "--bandwidth", "1Gbit/s"), "ram", "at least"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "field", "given"), BAD, ids=lambda value: " ".join(map(str, value)) or "-")
def test_bad_input_is_named(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], field: str, given: str
) -> None:
    ran = here(capsys, *arguments, "--json")
    assert ran.code == BAD_INPUT
    assert ran.sentence.startswith(f"{field}: ")
    assert given in ran.sentence
    assert ran.object["error"]["exit_code"] == BAD_INPUT


def test_a_bad_file_tells_everything_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A line for each finding, with the file's line; as an object the same text."""
    path = tmp_path / "bad.toml"
    path.write_text(SMALL.replace("8MiB", "80MiB").replace("rate =", "rat =").replace("10%", "-10%"))
    ran = here(capsys, "simulate", path, "--json")
    assert ran.code == BAD_INPUT
    first, *findings = ran.err.removeprefix("whimbrel: ").splitlines()
    assert first == f"{path}: 3 findings"
    assert [finding.split(":")[1] for finding in findings] == ["4", "8", "10"]
    assert "did you mean rate?" in findings[1]
    assert ran.object["error"]["kind"] == "BadScenario"
    assert all(finding.strip() in ran.object["error"]["message"] for finding in findings)


def test_a_log_that_holds_something_is_not_written_to(
    capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("dear to somebody\n")
    ran = here(capsys, "simulate", scenario, "--log", log)
    assert (ran.code, log.read_text()) == (BAD_INPUT, "dear to somebody\n")
    assert "holds something already" in ran.sentence
    assert here(capsys, "simulate", scenario, "--log", tmp_path / "none" / "log").code == BAD_INPUT


def lines_fit(ran: Ran) -> bool:
    """Whether nothing is wider than a terminal."""
    return all(len(line) <= 80 for line in ran.out.splitlines())


@pytest.mark.parametrize("model", MODELS)
def test_text_fits_into_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """The seed and what was derived come first."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = here(capsys, "simulate", *CURVE, *["--bandwidth", "10Gbit/s", "--policy", "fixed", "--model"], model)
    assert ran.code == OK
    assert ran.out.startswith(f"seed 1, model {model}: ")
    assert lines_fit(ran)
