"""The comparison as a picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.fidelity import compare, picture
from benchmarks.fidelity.records import load_runs

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from pathlib import Path
from benchmarks.fidelity import compare, picture
from benchmarks.fidelity.records import load_runs
runs = load_runs()
picture.draw([compare.itself(runs, runs)], Path("never.png"))
"""


def test_a_picture_has_a_panel_for_each_quantity(tmp_path: Path) -> None:
    runs = load_runs()
    target = tmp_path / "fidelity.svg"
    picture.draw([compare.itself(runs, runs)], target)
    text = target.read_text()
    assert text.count('id="axes_') == len(picture.PANELS)


def test_without_matplotlib_it_says_what_to_install() -> None:
    done = subprocess.run((sys.executable, "-c", WITHOUT_MATPLOTLIB), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "BadInput" in done.stderr
    assert "pip install 'whimbrel[report]'" in done.stderr
