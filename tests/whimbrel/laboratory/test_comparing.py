"""A comparison from beginning to end: kept, gone on with, and told how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.whimbrel.laboratory.matrices import small_matrix, tiny
from whimbrel.laboratory.comparing import compare, fronts
from whimbrel.laboratory.crews import Serial
from whimbrel.laboratory.matrix import Block, Matrix
from whimbrel.laboratory.running import Done
from whimbrel.laboratory.store import RESULT
from whimbrel.sim.bounds import bounds


class Dying:
    """A crew that is killed after so many blocks."""

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """Run some, and die."""
        for number, done in enumerate(Serial().run(blocks)):
            if number == self.after:
                raise KeyboardInterrupt
            yield done


class Idle:
    """A crew that is not needed."""

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """Be asked for nothing."""
        raise AssertionError(f"asked to run {list(blocks)}")


def test_a_comparison_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    matrix = small_matrix(2)
    with pytest.raises(KeyboardInterrupt):
        compare(matrix, Dying(after=3), tmp_path / "killed", bounds=False)
    told: list[tuple[int, int]] = []
    compare(matrix, Serial(), tmp_path / "killed", bounds=False, told=lambda done, total: told.append((done, total)))
    assert told == [(6, 8), (8, 8)]
    compare(matrix, Serial(), tmp_path / "whole", bounds=False)
    assert (tmp_path / "killed" / RESULT).read_bytes() == (tmp_path / "whole" / RESULT).read_bytes()


def test_the_second_time_nothing_is_run_and_the_same_comes_out(tmp_path: Path) -> None:
    matrix = small_matrix(1)
    first = compare(matrix, Serial(), tmp_path, bounds=False)
    assert compare(matrix, Idle(), tmp_path, bounds=False) == first


def test_without_a_directory_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = compare(small_matrix(1), Serial(), bounds=False)
    assert len(told.rows) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_has_the_bounds_of_the_first_seed_of_each_case() -> None:
    case = tiny(pages=True)
    matrix = Matrix(cases=(case, tiny("plain@slow")), policies=("fixed",), seeds=(2, 3))
    told = compare(matrix, Serial())
    assert told.bounds == {"busy@slow": bounds(case.scenario, 2)}
    assert [(each.policy, each.runs) for each in told.regrets] == [("fixed", 2)]
    (front,) = fronts(told).values()
    assert front.clairvoyant[0] == (
        told.bounds["busy@slow"].clairvoyant.totals_s[0],
        told.bounds["busy@slow"].clairvoyant.downtimes_s[0],
    )
    assert front.restricted
