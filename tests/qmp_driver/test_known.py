"""An address is written down so that it can be found from anywhere on its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from whimbrel.qmp_driver.known import recorded_address


def test_a_path_is_written_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the abstract space is no path; a host stays a host."""
    monkeypatch.chdir(tmp_path)
    assert recorded_address("q.sock") == str(tmp_path / "q.sock")
    assert recorded_address(Path("/run/q")) == "/run/q"
    assert recorded_address("\0abstract") == "\0abstract"
    assert recorded_address(("10.0.0.2", 4444)) == ["10.0.0.2", 4444]
