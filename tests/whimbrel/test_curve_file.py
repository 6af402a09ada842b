"""A measured curve as a file: read, made a guest of, or refused with everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whimbrel.curve_file import measured_guest, read_curve
from whimbrel.engine.curve import Curve
from whimbrel.engine.errors import BadInput

GOOD = {"window_s": [0.5, 1, 2], "dirty_bytes": [8192, 4096.5, 12288], "total_bytes": 65536.5, "zero_bytes": 8191.5}


def test_a_curve_is_read_and_becomes_a_guest(tmp_path: Path) -> None:
    """In whole pages; counts that fall, as samples do, are raised to those before."""
    file = tmp_path / "c.json"
    file.write_text(json.dumps(GOOD))
    curve = read_curve(file)
    assert curve.points[1] == (1.0, 4096.5)
    guest = measured_guest(curve)
    assert (guest.ram_bytes, guest.zero_bytes) == (17 * 4096, 4096)
    assert guest.curve == ((0.5, 8192.0), (1.0, 8192.0), (2.0, 12288.0))
    assert [Curve(guest.curve, 65536).at(tau_s) for tau_s in (0.7, 3)] == [curve.at(tau_s) for tau_s in (0.7, 3)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ("\xff", "JSON"),
        ("[]", "one JSON object"),
        ('{"window_s": [1, 2]}', "dirty_bytes"),
        (json.dumps(GOOD | {"windows": 1}), "windows"),
        (json.dumps(GOOD | {"window_s": [1, 1, 2]}), "rising"),
        (json.dumps(GOOD | {"dirty_bytes": [1, 2]}), "as many"),
        (json.dumps(GOOD | {"total_bytes": -1, "zero_bytes": "x"}), "zero_bytes"),
    ],
    ids=range(9),
)
def test_what_is_no_curve_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=words):
        read_curve(file)


@pytest.mark.parametrize("path", ["/nowhere/c.json", "/dev/zero", "/etc"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(BadInput, match="a file that can be read"):
        read_curve(Path(path))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(b" " * (5 << 20))
    with pytest.raises(BadInput, match="at most"):
        read_curve(tmp_path / "c.json")
