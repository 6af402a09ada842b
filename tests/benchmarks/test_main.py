"""``python -m benchmarks``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def this_process_as_it_was() -> Generator[None, None, None]:
    """It is made for a process of its own, and sets what belongs to the whole of it."""
    interval_s = sys.getswitchinterval()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    sys.setswitchinterval(interval_s)
    for number, handler in handlers.items():
        signal.signal(number, handler)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_called_off_it_leaves_no_qemu_behind(number: signal.Signals, short_folder: Path) -> None:
    """Once its first guest's monitor is there, it is told to end."""
    environment = os.environ | {"TMPDIR": str(short_folder)}
    command = (sys.executable, "-m", "benchmarks", "gap", "--runs", "50", "--quick")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        deadline_s = time.monotonic() + 30
        while not list(short_folder.glob("wb-*/s.qmp")) and time.monotonic() < deadline_s:
            time.sleep(0.01)  # there is nothing to wait on for a file of another process
        process.send_signal(number)
        _said, complained = process.communicate(timeout=30)
    assert process.returncode == 130, complained.decode()
    assert b"called off" in complained
    assert not list(short_folder.glob("wb-*"))
