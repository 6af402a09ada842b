"""The picture of characters: within its size, true to the curve, and nothing where there is nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.simulation_records import Row, Run
from whimbrel.sketch import floor_of, left_at, sketch

MIB = 1 << 20


def run(points: list[tuple[float, float]], rows: tuple[Row, ...] = ()) -> Run:
    """A run with this course."""
    end_s = points[-1][0] if points else 0.0
    return Run(
        seed=1,
        converged=True,
        outcome="completed",
        total_s=end_s,
        downtime_s=0.1,
        iterations=len(rows),
        transferred_bytes=0.0,
        each_iteration=rows,
        remaining=tuple(points),
    )


def row(number: int, start_s: float, to_send_bytes: float) -> Row:
    """An iteration of a second."""
    return Row(number=number, start_s=start_s, duration_s=1.0, to_send_bytes=to_send_bytes, sent_bytes=to_send_bytes)


def test_a_straight_fall_is_a_triangle() -> None:
    """Full on the left, empty on the right, and iterations marked where they begin."""
    rows = (row(1, 0.0, 800.0), row(2, 5.0, 400.0))
    lines = sketch(run([(0.0, 800.0), (10.0, 0.0)], rows), width=50, height=4)
    columns = 50 - 10
    picture = [line[10:].ljust(columns) for line in lines[:4]]
    assert lines[0].startswith("     800B│")
    assert [line[0] for line in picture] == ["█"] * 4
    assert [line[-1] for line in picture] == [" ", " ", " ", "▁"]
    filled = [sum(cell != " " for cell in line) for line in picture]
    assert filled == sorted(filled)
    axis = lines[4][10:]
    assert [index for index, cell in enumerate(axis) if cell == "┴"] == [0, columns // 2]
    assert lines[5].endswith("10s")
    assert "log" not in lines[5]


def test_small_iterations_after_a_large_one_are_seen_on_a_logarithmic_axis() -> None:
    points = [(0.0, 1e9), (9.0, 0.0), (9.0, 1e6), (10.0, 0.0)]
    lines = sketch(run(points, (row(1, 0.0, 1e9), row(2, 9.0, 1e6))))
    assert lines[-1].startswith("log scale")
    assert lines[-3].startswith("   488KiB│")
    assert "▂" in lines[-3] or "█" in lines[-3][-8:]


@pytest.mark.parametrize("points", [[], [(0.0, 5.0)], [(0.0, 5.0), (math.inf, 0.0)]])
def test_nothing_is_drawn_of_nothing(points: list[tuple[float, float]]) -> None:
    assert sketch(run(points)) == []


COURSES = st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 1e12)), min_size=1, max_size=30).map(
    lambda steps: [(sum(gap for gap, _ in steps[: i + 1]), left) for i, (_, left) in enumerate(steps)]
)


@settings(max_examples=40, deadline=None)
@given(COURSES, st.integers(24, 120), st.integers(1, 12))
def test_any_course_fits_into_its_size(points: list[tuple[float, float]], width: int, height: int) -> None:
    rows = tuple(row(i, at_s, left) for i, (at_s, left) in enumerate(points, 1))
    lines = sketch(run(points, rows), width, height)
    assert len(lines) == height + 2
    assert all(len(line) <= width + 20 * (width < 50) for line in lines)


def test_what_is_left_at_a_time() -> None:
    """Straight between the points; at a jump the later of both."""
    points = [(1.0, 10.0), (2.0, 0.0), (2.0, 8.0), (4.0, 4.0)]
    assert [left_at(points, at_s) for at_s in (0.0, 1.0, 1.5, 2.0, 3.0, 9.0)] == [10, 10, 5, 8, 6, 4]
    assert left_at([], 1.0) == 0.0


def test_the_floor_is_below_every_beginning_and_every_threshold() -> None:
    two = run([(0.0, 1.0)], (row(1, 0.0, 1e9), row(2, 1.0, 1e6)))
    assert floor_of(two) == 5e5
    assert floor_of(replace(two, threshold=((0.0, 3e5), (1.0, 1e4), (2.0, 1e4)))) == 5e3
    assert floor_of(run([(0.0, 1.0)])) == 0.0
