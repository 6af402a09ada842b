"""The league is run by one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import league
from whimbrel.engine.policies import BUILT_IN


def test_one_command_writes_the_page_with_everybody_on_it(tmp_path: Path) -> None:
    options = [
        "--seeds",
        "1",
        "--case-set",
        "idle@1g",
        "--out",
        str(tmp_path / "rows"),
        "--page",
        str(tmp_path / "league.md"),
    ]
    assert league.main(options) == 0
    text = (tmp_path / "league.md").read_text()
    for name in BUILT_IN:
        assert f"| `{name}` |" in text
    for name in league.SCALED.values():
        assert f"| `{name}` |" in text
    assert {path.name for path in (tmp_path / "league").iterdir()} == {
        "fronts.png", "regrets.png", "survival.png", "cases.png",
    }  # fmt: skip


def test_what_can_not_be_had_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert league.main(["--case-set", "nothing@all"]) == 1
    assert "nothing@all" in capsys.readouterr().err


def test_every_scaled_policy_is_one_of_ours() -> None:
    assert set(league.SCALED) <= set(BUILT_IN)
    assert all(text.startswith(f"{name}:") for name, text in league.SCALED.items())
