"""Reports out of logs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from tests.support.predictions import MOVED, PREDICTIONS
from whimbrel.engine.aftermath import with_comparison
from whimbrel.engine.errors import BadInput
from whimbrel.engine.prediction import Prediction
from whimbrel.engine.report import CompletedReport, StageTime
from whimbrel.engine.statistics import Iteration
from whimbrel.engine.timeline import Downtime
from whimbrel.logbook import check_running, report_in, report_of, sides_seen
from whimbrel.qmp_driver.journal import FORMAT, Journal

REPORT = CompletedReport(
    outcome="completed",
    owner="destination",
    guest="running",
    why="moved",
    total_s=1.5,
    stages=(StageTime(stage=1, name="prepare the destination", seconds=0.5),),
    downtime=Downtime(
        total_s=0.6, stop_s=0.1, drain_s=0.1, last_ram_s=0.1, device_state_s=0.1, load_s=0.1, resume_s=0.1
    ),
    iterations=(
        Iteration(
            number=1,
            started_ns=1,
            ended_ns=2,
            remaining_at_start_bytes=3,
            remaining_at_end_bytes=4,
            sent_bytes=5,
            dirtied_bytes=6,
        ),
    ),
    facts={"qemu_source": "7.2.22"},
    notes=("a note",),
)


def writer(path: Path) -> Journal:
    """A log with its header and one step, still written to."""
    journal = Journal.create(path)
    journal.write("header", 0, 0.0, format=FORMAT)
    journal.write("step", 1, 0.0, phase="precopy", owner="source")
    return journal


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a log goes."""
    return tmp_path / "log"


def test_a_report_comes_back_whole(log: Path) -> None:
    """Equal to what was written, with its tuples and records."""
    journal = writer(log)
    journal.write("end", 2, 0.0, report=asdict(REPORT))
    journal.close()
    assert report_of(log) == REPORT


@given(PREDICTIONS)
def test_a_prediction_comes_back_whole_even_where_it_has_no_end(prediction: Prediction) -> None:
    """JSON has no word for what never ends."""
    report = with_comparison(MOVED, prediction)
    line = msgspec.json.decode(msgspec.json.encode({"report": asdict(report)}))
    assert report_in(line) == report


def test_a_report_from_before_there_were_predictions_still_reads() -> None:
    told = asdict(REPORT)
    for name in ("postcopy", "link", "prediction", "compared", "off"):
        del told[name]
    assert report_in({"report": told}) == REPORT


@pytest.mark.parametrize("line", [{}, {"report": None}, {"report": 7}, {"report": {"prediction": [[7]]}}])
def test_what_is_no_report_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        report_in(line)


def test_one_that_runs_has_no_report_and_can_be_called_off(log: Path) -> None:
    journal = writer(log)
    with pytest.raises(BadInput, match="still under way; last seen in precopy, owner source"):
        report_of(log)
    check_running(log)
    journal.close()


def test_one_that_was_left_has_neither(log: Path) -> None:
    """And the command that brings it on is named."""
    writer(log).close()
    for look in (report_of, check_running):
        with pytest.raises(BadInput, match="was left by a manager that died; last seen in precopy, owner source") as it:
            look(log)
        assert f"to settle it: whimbrel resolve {log}" in it.value.allowed


def test_the_last_end_counts(log: Path) -> None:
    """One that was held is tried again: while that goes on it has no end, and then another."""
    journal = writer(log)
    journal.write("end", 2, 0.0, report=asdict(replace(REPORT, guest="held")))
    journal.write("reopened", 3, 0.0, phase="failed", owner="limbo", guest="held")
    with pytest.raises(BadInput, match="still under way"):
        report_of(log)
    journal.write("end", 4, 0.0, report=asdict(REPORT))
    journal.close()
    assert report_of(log) == REPORT


def test_how_the_sides_were_seen_last(log: Path) -> None:
    """Also where a later line is damaged: it tells nothing of what was seen before it."""
    journal = writer(log)
    assert sides_seen(log) == {}
    journal.write("inspected", 2, 0.0, source="moving", destination="loading")
    journal.write("inspected", 3, 0.0, source="unreachable", destination="ready")
    journal.close()
    with log.open("a") as file:
        file.write("noise\n")
    assert sides_seen(log) == {"source": "unreachable", "destination": "ready"}
    assert sides_seen(log.with_name("none")) == {}


def test_one_that_ended_cannot_be_called_off(log: Path) -> None:
    journal = writer(log)
    journal.write("end", 2, 0.0, report=asdict(REPORT))
    journal.close()
    with pytest.raises(BadInput, match=r"under way \(this one completed, and the guest belongs to: destination\)"):
        check_running(log)


def test_a_log_without_a_step_says_no_phase(log: Path) -> None:
    """The manager died at its first line."""
    journal = Journal.create(log)
    journal.write("header", 0, 0.0, format=FORMAT)
    journal.close()
    with pytest.raises(BadInput, match="a manager that died; to settle it"):
        report_of(log)


HEADER = json.dumps({"kind": "header", "format": FORMAT})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a log of a migration"),
        ("plain text\n", "a log of a migration"),
        ('{"kind": "header", "format": 99}\n', "of format"),
        (f"{HEADER}\n{{}}\n", "a manager that died"),
        (f"{HEADER}\nnoise\n{HEADER}\n", "a log that is whole (line 2"),
        (f'{HEADER}\n{{"kind": "end"}}\n', "a log that is whole"),
        (f'{HEADER}\n{{"kind": "end", "report": {{"outcome": 3}}}}\n', "a log that is whole"),
        (f'{HEADER}\n{{"kind": "step"}}\n', "last seen in None"),
    ],
)
def test_what_is_no_log_or_a_damaged_one_is_named(log: Path, text: str, words: str) -> None:
    """Always as bad input, with the path: no other error comes out."""
    log.write_text(text)
    with pytest.raises(BadInput) as caught:
        report_of(log)
    assert caught.value.given == str(log)
    assert words in caught.value.allowed


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_waited_for(log: Path, make: Callable[[Path], None]) -> None:
    make(log)
    for look in (report_of, check_running):
        with pytest.raises(BadInput, match="log: "):
            look(log)
