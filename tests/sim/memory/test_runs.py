"""Runs of pages: cut, and joined again where nothing tells them apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.sim.memory.runs import Run, merge, split


def spans(runs: list[Run]) -> list[tuple[float, float]]:
    return [(run.begin, run.end) for run in runs]


def test_a_cut_leaves_two_runs_with_one_history() -> None:
    runs = [Run(0, 10, 3, 0.25, 7.0, seen=2.0)]
    assert split(runs, 0, 4)
    assert runs == [Run(0, 4, 3, 0.25, 7.0, seen=2.0), Run(4, 10, 3, 0.25, 7.0, seen=2.0)]
    assert sum(run.left for run in runs) == 2.5


@pytest.mark.parametrize("at", [0, 10, 12])
def test_there_is_nothing_to_cut_at_an_edge(at: float) -> None:
    runs = [Run(0, 10, 3)]
    assert not split(runs, 0, at)
    assert spans(runs) == [(0, 10)]


def test_neighbours_that_are_alike_are_joined() -> None:
    runs = [Run(0, 4, 0), Run(4, 6, 0), Run(6, 9, 0), Run(9, 12, 1)]
    merge(runs, 12, None)
    assert spans(runs) == [(0, 9), (9, 12)]


@pytest.mark.parametrize("field", ["area", "density", "window", "seen"])
def test_neighbours_that_differ_are_not(field: str) -> None:
    first = Run(0, 4, 0, 0.5, 5.0, seen=10.0)
    other = replace(first, begin=4, end=8)
    setattr(other, field, 1 if field == "area" else 0.25)
    runs = [first, other]
    merge(runs, 8, None)
    assert spans(runs) == [(0, 4), (4, 8)]


def test_nothing_is_joined_across_the_sender_or_the_edge_of_a_chunk() -> None:
    runs = [Run(i, i + 1, 0) for i in range(8)]
    merge(runs, 3, None)
    assert spans(runs) == [(0, 3), (3, 8)]
    runs = [Run(i, i + 1, 0) for i in range(8)]
    merge(runs, 0, 4)
    assert spans(runs) == [(0, 4), (4, 8)]


def test_histories_that_hardly_differ_are_joined_so_that_the_list_stays_short() -> None:
    runs = [Run(0, 4, 0, seen=100.0, last=10.0, at=1.0), Run(4, 8, 0, seen=101.0, last=10.1, at=2.0)]
    merge(runs, 8, None)
    assert spans(runs) == [(0, 8)]


def test_of_very_many_runs_even_those_with_other_histories_are_joined() -> None:
    runs = [Run(i, i + 1, 0, seen=float(2**i % 1009), at=float(i)) for i in range(500)]
    merge(runs, 500, None)
    assert len(runs) == 1
