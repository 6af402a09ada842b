"""What is kept of a recorded migration."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from benchmarks.fidelity import records

MOST_BYTES = 300_000
"""Of all records together: they are part of the tree."""


def test_the_records_of_the_tree_are_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in records.FOLDER.iterdir()) <= MOST_BYTES
    runs = records.load_runs()
    assert len(runs) >= 24
    assert len({run.known.case for run in runs}) == len(runs)
    for run in runs:
        assert len(run.outcome.rows) == run.outcome.iterations
        assert bool(run.outcome.downtime) == (run.outcome.verdict == "converged")


def test_both_verdicts_are_on_record() -> None:
    assert {run.outcome.verdict for run in records.load_runs()} == {"converged", "cut off"}


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    runs = records.load_runs()
    records.save_runs(reversed(runs), tmp_path, records.AGAIN)
    assert records.load_runs(tmp_path, records.AGAIN) == runs
    calibration = records.load_calibration()
    records.save_calibration(calibration, tmp_path)
    assert records.load_calibration(tmp_path) == calibration


def test_a_key_that_is_not_known_is_refused(tmp_path: Path) -> None:
    written = json.loads((records.FOLDER / records.RUNS).read_text())
    written["runs"][0]["known"]["colour"] = "blue"
    (tmp_path / records.RUNS).write_text(json.dumps(written))
    with pytest.raises(msgspec.ValidationError, match="colour"):
        records.load_runs(tmp_path)


def test_a_digest_follows_from_the_values_and_nothing_else() -> None:
    known, calibration = records.load_runs()[0].known, records.load_calibration()
    copy = msgspec.json.decode(msgspec.json.encode(known), type=records.Known)
    assert records.digest(known, calibration) == records.digest(copy, calibration)
    other = msgspec.structs.replace(known, pipe_bytes=known.pipe_bytes + 1)
    assert records.digest(other, calibration) != records.digest(known, calibration)
    assert records.digest(known) != records.digest(known, calibration)
