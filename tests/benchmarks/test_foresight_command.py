"""``python -m benchmarks foresight``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.foresight.command import main
from benchmarks.foresight.design import COUNTS, QUICK
from benchmarks.foresight.records import PREDICTED, Store
from tests.support.foresight import came, said
from whimbrel.engine.policy import Abilities

LATER = {"total_s": 5.1, "transferred_bytes": 225e6, "downtime_s": 0.16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty on record, of which eighteen came as predicted and two beside their intervals."""
    store = Store(tmp_path / "recorded")
    for number in range(1, 21):
        one = said(number=number)
        store.predict(one)
        store.record(came(one, store.digest(one.case.name, 1), **(LATER if number <= 2 else {})))
    return tmp_path / "recorded"


def test_the_design_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == sum(COUNTS.values())
    assert main(["plan", "--quick"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == sum(QUICK.values())


def test_what_is_on_record_is_compared(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, drawn = tmp_path / "all.json", tmp_path / "all.png"
    assert main(["compare", "--folder", str(folder), "--json", str(target), "--picture", str(drawn)]) == 0
    text = capsys.readouterr().out
    assert "20 migrations" in text
    assert "MISSED" not in text
    assert "by 1 model: 000000000000" in text
    assert json.loads(target.read_text())["as predicted"]["migrations"] == 20
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_missed_bar_is_said_by_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    store.predict(said())
    store.record(came(said(), store.digest(said().case.name, 1), total_s=9.0))
    assert main(["compare", "--folder", str(tmp_path)]) == 1
    assert "MISSED median error of total time" in capsys.readouterr().out


def test_the_model_of_today_is_asked_about_the_same_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    one = said()
    store.predict(one)
    store.record(came(one, store.digest(one.case.name, 1)))
    assert one.abilities == Abilities()
    main(["compare", "--folder", str(tmp_path), "--anew", "--exact"])
    text = capsys.readouterr().out
    assert "the model of today, after the fact:" in text
    assert "the same from the true curves:" in text


def test_nothing_on_record_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--folder", str(tmp_path)]) == 1
    assert "nothing of judged is on record" in capsys.readouterr().err
    assert main(["compare", "--folder", str(tmp_path), "--stage", "learnt"]) == 1
    assert "nothing of learnt is on record" in capsys.readouterr().err


def test_a_touched_prediction_is_said_in_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / PREDICTED
    path.write_bytes(path.read_bytes().replace(b'"meets":0.9', b'"meets":0.8', 1))
    assert main(["compare", "--folder", str(folder)]) == 1
    assert "the line that it was made with" in capsys.readouterr().err
