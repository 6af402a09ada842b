"""``python -m benchmarks``."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks.__main__ import main


@pytest.fixture(autouse=True)
def the_switch_interval() -> Generator[None, None, None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_it_measures_prints_verdicts_and_writes_every_move(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "all.json"
    assert main(["gap", "--runs", "1", "--quick", "--json", str(target)]) == 0
    said = capsys.readouterr().out
    assert "### Guest-seen gap at the switchover" in said
    assert "\nMET    guest-seen gap" in said or "\nMISSED guest-seen gap" in said
    written = json.loads(target.read_text())
    assert written["about"]["runs"] == 1
    assert len(written["moves"]["gap"]["whimbrel"]) == len(written["moves"]["gap"]["bare"]) == 1
    assert written["bars"][0]["met"] in (True, False)


@pytest.mark.parametrize("argv", [["everything"], ["gap", "--runs", "0"], ["gap", "--runs", "many"]])
def test_what_it_cannot_use_it_refuses(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
