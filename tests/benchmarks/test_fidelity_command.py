"""``python -m benchmarks fidelity``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.fidelity import predict
from benchmarks.fidelity.command import main
from benchmarks.fidelity.records import FOLDER, load_calibration, load_runs, save_calibration, save_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The records of the tree, where they may be changed."""
    return Path(shutil.copytree(FOLDER, tmp_path / "recorded"))


def test_it_compares_what_is_in_the_tree(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, picture = tmp_path / "all.json", tmp_path / "all.png"
    assert main(["compare", "--folder", str(folder), "--json", str(target), "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "simulator, page level: 24 migrations" in said
    assert said.count("MET    median at most 6%") >= len(predict.HELD)
    assert "hold-out, simulator, page level: 6 migrations" in said
    written = json.loads(target.read_text())
    assert written[0]["runs"] == len(written[0]["quantities"]["bytes"]["pairs"]) == 24
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_hold_out_is_neither_predicted_nor_recorded_a_second_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["predict", "--hold-out", "--folder", str(folder)]) == 1
    assert "none of it is on record yet" in capsys.readouterr().err
    assert main(["record", "--hold-out", "--folder", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_it_predicts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = load_runs()[:1]
    save_runs(runs, tmp_path)
    save_calibration(load_calibration(), tmp_path)
    assert main(["predict", "--folder", str(tmp_path)]) == 0
    assert f"{len(predict.PREDICTORS)} predictions of 1 migrations" in capsys.readouterr().out
    assert {each.case for each in predict.load(tmp_path)} == {runs[0].known.case}


def test_a_missed_bar_is_said_by_the_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / predict.PREDICTIONS).read_text()
    (folder / predict.PREDICTIONS).write_text(text.replace('"verdict":"cut off"', '"verdict":"converged"'))
    assert main(["compare", "--folder", str(folder)]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_predictions_of_other_records_are_not_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / predict.PREDICTIONS).write_text(
        (folder / predict.PREDICTIONS).read_text().replace('"inputs":"', '"inputs":"0')
    )
    assert main(["compare", "--folder", str(folder)]) == 1
    assert "predict again" in capsys.readouterr().err
