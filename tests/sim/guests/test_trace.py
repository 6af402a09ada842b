"""A recording's file: read back as written, and refused with the line where it breaks a rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.sim.guests.trace import Trace, read_trace, write_trace

TRACE = Trace(100, 4.0, ((0.0, ((3, 2),)), (1.0, ((4, 1), (90, 10))), (1.0, ()), (3.5, ((3, 1),))))
HEAD = '{"format": "whimbrel-writes-1", "total_pages": 100, "page_bytes": 4096, "seconds": 4.0}'


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    write_trace(path, TRACE)
    assert read_trace(path) == TRACE
    assert json.loads(path.read_text().splitlines()[0]) == json.loads(HEAD)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], 1),
        (["nonsense"], 1),
        (['["no", "object"]'], 1),
        ([HEAD.replace("whimbrel-writes-1", "other")], 1),
        ([HEAD.replace("4096", "65536")], 1),
        ([HEAD.replace("100", "0")], 1),
        ([HEAD.replace("100", "true")], 1),
        ([HEAD.replace("4.0", "-4.0")], 1),
        ([HEAD.replace("}", ', "more": 1}')], 1),
        ([HEAD, '{"t": 0.5}'], 2),
        ([HEAD, '{"t": 4.0, "pages": []}'], 2),
        ([HEAD, '{"t": -1, "pages": []}'], 2),
        ([HEAD, '{"t": NaN, "pages": []}'], 2),
        ([HEAD, '{"t": 1, "pages": []}', '{"t": 0.5, "pages": []}'], 3),
        ([HEAD, '{"t": 1, "pages": [[99, 2]]}'], 2),
        ([HEAD, '{"t": 1, "pages": [[-1, 2]]}'], 2),
        ([HEAD, '{"t": 1, "pages": [[1, 0]]}'], 2),
        ([HEAD, '{"t": 1, "pages": [7]}'], 2),
        ([HEAD, '{"t": 1, "pages": [[1, "2"]]}'], 2),
        ([HEAD, '{"t": 1, "pages": [], "more": 1}'], 2),
    ],
)
def test_a_broken_rule_is_told_with_its_line(tmp_path: Path, lines: list[str], line: int) -> None:
    path = tmp_path / "trace"
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput) as caught:
        read_trace(path)
    assert caught.value.field == f"trace line {line}"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a file that can be read"):
        read_trace(tmp_path / "missing")


def test_the_law_is_the_mean_of_all_beginnings_of_the_loop() -> None:
    """Beginnings at the midpoints of 4000 steps: a page is in or out of each but for the steps with a write in them,
    of which each of the 14 page writes spoils two."""
    steps = 4000
    law = TRACE.law
    for window_s in (0.25, 1.0, 2.0, 3.9, 4.0):
        starts = [(i + 0.5) * TRACE.seconds / steps for i in range(steps)]
        mean = sum(TRACE.dirtied_pages(start_s, window_s) for start_s in starts[::10]) / len(starts[::10])
        assert law.at(window_s) == pytest.approx(mean, abs=14 * 2 * 10 / steps + 1e-9)
    assert law.most == 12


def test_pages_of_a_window_that_goes_round_the_loop_count_once() -> None:
    assert TRACE.dirtied_pages(0.5, 1.0) == 11
    assert TRACE.dirtied_pages(3.6, 0.9) == 2
    assert TRACE.dirtied_pages(3.0, 100.0) == 12
