"""Past migrations out of a folder of logs: all of them, whatever state they are in, and quickly."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.predictions import MOVED, PREDICTION, around
from whimbrel.engine.aftermath import with_comparison
from whimbrel.engine.errors import BadInput
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.timeline import Downtime
from whimbrel.history import CHUNK_BYTES, Entry, Standing, ended, entries
from whimbrel.qmp_driver.journal import FORMAT, Journal

REPORT = CompletedReport(
    outcome="completed",
    owner="destination",
    guest="running",
    why="moved",
    total_s=1.5,
    downtime=Downtime(
        total_s=0.6, stop_s=0.1, drain_s=0.1, last_ram_s=0.1, device_state_s=0.1, load_s=0.1, resume_s=0.1
    ),
)


def write(path: Path, *lines: tuple[str, dict[str, Any]], started_s: float = 1000.0) -> Journal:
    """A log with its header, a step and these lines; still written to."""
    journal = Journal.create(path)
    header = {"format": FORMAT, "started_wall_s": started_s, "source_address": "/run/q", "policy": "fixed"}
    journal.write("header", 0, started_s, **header)
    journal.write("step", 1, started_s, phase="precopy", owner="source")
    for kind, fields in lines:
        journal.write(kind, 2, started_s, **fields)
    return journal


def end(**changes: Any) -> tuple[str, dict[str, Any]]:
    """The line that ends a log."""
    return "end", {"report": asdict(replace(REPORT, **changes))}


def only(folder: Path) -> Entry:
    """The one migration of a folder."""
    (entry,) = entries(folder)
    return entry


def test_one_that_ended(tmp_path: Path) -> None:
    write(tmp_path / "log", end()).close()
    assert only(tmp_path) == Entry(
        log=str(tmp_path / "log"),
        standing=Standing.ENDED,
        started_wall_s=1000.0,
        source="/run/q",
        policy="fixed",
        outcome="completed",
        owner="destination",
        guest="running",
        downtime_s=0.6,
        total_s=1.5,
        why="moved",
    )


@pytest.mark.parametrize(("owner", "guest"), [("limbo", "held"), ("source", "held"), ("destination", "unconfirmed")])
def test_one_that_is_unsettled_names_what_would_settle_it(tmp_path: Path, owner: str, guest: str) -> None:
    log = tmp_path / "a log"
    write(log, end(outcome="failed", owner=owner, guest=guest)).close()
    assert only(tmp_path).advice == f"whimbrel resolve '{log}'"


def test_one_that_was_called_off_before_anything_was_begun_is_settled(tmp_path: Path) -> None:
    """Nobody looked whether its guest ran, and nobody has to."""
    write(tmp_path / "log", end(outcome="cancelled", owner="source", guest="unconfirmed", downtime=None)).close()
    assert only(tmp_path).advice == ""


def test_one_that_is_under_way_and_one_that_was_left(tmp_path: Path) -> None:
    """They differ in the lock alone; a torn last line is of the manager that died."""
    log = tmp_path / "log"
    journal = write(log, ("sample", {}))
    running = only(tmp_path)
    assert (running.standing, running.phase, running.owner) == (Standing.UNDER_WAY, "precopy", "source")
    assert running.advice == f"whimbrel cancel {log}"
    journal.close()
    with log.open("a") as file:
        file.write('{"kind":"step","phase":"hando')
    left = only(tmp_path)
    assert (left.standing, left.phase, left.outcome) == (Standing.LEFT, "precopy", "")
    assert left.advice == f"whimbrel resolve {log}"


def test_one_that_is_tried_again_has_no_end_for_the_time_being(tmp_path: Path) -> None:
    write(tmp_path / "log", end(guest="held"), ("reopened", {})).close()
    assert only(tmp_path).standing is Standing.LEFT


@pytest.mark.parametrize("size", [CHUNK_BYTES, CHUNK_BYTES * 20])
def test_lines_longer_than_what_is_read_at_once(tmp_path: Path, size: int) -> None:
    """A report of thousands of iterations; and thousands of lines since the last step."""
    write(tmp_path / "ended", end(why="x" * size), started_s=2.0).close()
    write(tmp_path / "left", *[("sample", {"x": "x" * 1000})] * (size // 1000), started_s=1.0).close()
    ended, left = entries(tmp_path)
    assert (ended.standing, len(ended.why)) == (Standing.ENDED, size)
    assert (left.standing, left.phase) == (Standing.LEFT, "precopy")


def damaged(log: Path, old: str, new: str) -> None:
    """Change a log's text."""
    text = log.read_text()
    assert old in text
    log.write_text(text.replace(old, new))


def test_a_damaged_log_is_named_with_its_line(tmp_path: Path) -> None:
    """No file, whatever is in it, is more than a line in the list."""
    files = {
        "last.jsonl": "line 3 is damaged: ",
        "report.jsonl": "its end can't be read: ",
        "header.jsonl": "line 1: not a log of a migration",
        "format.jsonl": "line 1: not a log of a migration, of format 1",
        "empty.jsonl": "it is empty: its manager died before anything was begun",
        "zeros.jsonl": "line 1: not a log of a migration",
        "torn.jsonl": "line 1: not a log of a migration (this one is cut short)",
        "middle.jsonl": "",
    }
    for name in ("last.jsonl", "report.jsonl", "middle.jsonl"):
        write(tmp_path / name, end()).close()
    damaged(tmp_path / "last.jsonl", '"report":{', '"report":')
    damaged(tmp_path / "report.jsonl", '"total_s":1.5', '"total_s":[]')
    damaged(tmp_path / "middle.jsonl", '"kind":"step"', '"kind":')
    (tmp_path / "header.jsonl").write_text("noise\n{}\n")
    (tmp_path / "format.jsonl").write_text(json.dumps({"kind": "header", "format": 99}) + "\n")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "zeros.jsonl").write_bytes(bytes(5000))
    (tmp_path / "torn.jsonl").write_text('{"kind":"hea')
    found = {Path(each.log).name: each for each in entries(tmp_path)}
    assert {name: each.why[: len(files[name])] for name, each in found.items()} == files
    standings = {name: each.standing for name, each in found.items()}
    assert standings.pop("middle.jsonl") is Standing.ENDED, "only its ends are read"
    assert set(standings.values()) == {Standing.DAMAGED}
    assert found["last.jsonl"].source == "/run/q", "what can be read is told"


def test_one_that_was_only_just_made_is_under_way(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "log.jsonl")
    assert only(tmp_path).standing is Standing.UNDER_WAY
    journal.close()


def test_what_is_no_log_is_passed_over(tmp_path: Path, short_folder: Path) -> None:
    """Sockets and pipes beside logs, folders, what a guardian was told, anybody's files."""
    write(tmp_path / "log", end()).close()
    (tmp_path / "log.guardian").write_text("whimbrel: still held\n")
    (tmp_path / "notes.json").write_text('{"kind": "note"}\n')
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(short_folder / "s"))
        (tmp_path / "log.control").symlink_to(short_folder / "s")
        (tmp_path / "broken.jsonl").symlink_to("nowhere")
        assert only(tmp_path).log == str(tmp_path / "log")


def test_the_newest_come_first_and_only_so_many(tmp_path: Path) -> None:
    """By when they began, whatever their files are called and when they were changed last."""
    for name, started_s in {"a": 2.0, "b": 3.0, "c": 1.0}.items():
        write(tmp_path / name, end(), started_s=started_s).close()
    assert [Path(each.log).name for each in entries(tmp_path)] == ["b", "a", "c"]
    assert [Path(each.log).name for each in entries(tmp_path, 2)] == ["b", "a"]


def test_folders_that_hold_none(tmp_path: Path) -> None:
    """None yet is not an error; one that is no folder is."""
    assert entries(tmp_path) == entries(tmp_path / "none") == []
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="a folder that can be read"):
        entries(tmp_path / "file")


def test_a_thousand_large_logs_take_a_moment(tmp_path: Path) -> None:
    """Of 4 MiB each by their size, which nobody may read whole: 4 GiB in all."""
    write(tmp_path / "0", end()).close()
    whole = (tmp_path / "0").read_bytes()
    header, last = whole.splitlines(keepends=True)[0], whole.splitlines(keepends=True)[-1]
    for number in range(1, 1000):
        with (tmp_path / str(number)).open("wb") as file:
            file.write(header)
            file.seek(4 << 20)
            file.write(b"\n" + last)
    began_s = time.process_time()
    assert [each.standing for each in entries(tmp_path)] == [Standing.ENDED] * 1000
    assert time.process_time() - began_s < 3.0


def test_one_that_was_predicted_says_how_far_off_it_was(tmp_path: Path) -> None:
    prediction = replace(PREDICTION, total_s=around(8.0), downtime_s=around(0.25), transferred_bytes=around(1e9))
    report = with_comparison(MOVED, prediction)
    write(tmp_path / "log", ("end", {"report": asdict(report)})).close()
    entry = only(tmp_path)
    assert entry.time_off == pytest.approx(0.25)
    assert entry.downtime_off == pytest.approx(-0.2)
    assert entry.bytes_off == pytest.approx(0.0)


def test_those_that_have_ended_are_read_whole_and_all_others_passed_over(tmp_path: Path) -> None:
    for name, started_s in (("first", 1.0), ("second", 2.0), ("damaged", 3.0)):
        write(tmp_path / name, end(why=name), started_s=started_s).close()
    damaged(tmp_path / "damaged", '"total_s":1.5', '"total_s":[]')
    write(tmp_path / "left", started_s=4.0).close()
    (tmp_path / "noise.jsonl").write_text("noise\n")
    os.utime(tmp_path / "noise.jsonl", (5.0, 5.0))
    found = list(ended(tmp_path))
    assert [(each.report.why, each.started_wall_s, each.log.name) for each in found] == [
        ("second", 2.0, "second"), ("first", 1.0, "first")
    ]  # fmt: skip
    assert found[0].header["policy"] == "fixed"
    assert [each.report.why for each in ended(tmp_path, 4)] == ["second"], "only so many logs are looked at"
