"""Real runs, one after the other on one bench; what each does is tested with `whimbrel.laboratory.real`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.whimbrel.laboratory.matrices import row, small_matrix
from whimbrel.laboratory.benches import RealQemus
from whimbrel.laboratory.real import RealBench
from whimbrel.laboratory.records import Backend, Cell, Row


def test_runs_follow_one_another_on_one_bench_and_are_given_back_one_by_one() -> None:
    """So that each is kept before the next, which takes long, is begun."""
    matrix = replace(small_matrix(1), backend=Backend.REAL)
    benches: list[RealBench] = []
    begun: list[str] = []

    def run_cell(cell: Cell, bench: RealBench) -> Row:
        benches.append(bench)
        begun.append(cell.policy)
        return row(cell.policy, case=cell.case.name)

    done = RealQemus(run_cell=run_cell).run(matrix.blocks())
    first = next(done)
    assert [each.policy for each in first.rows] == begun
    assert len(begun) == 1
    assert len(list(done)) == 3
    assert begun == [cell.policy for cell in matrix.cells()]
    assert all(bench is benches[0] for bench in benches)


def test_a_run_that_can_not_be_had_ends_it() -> None:
    def run_cell(cell: Cell, bench: RealBench) -> Row:
        raise OSError("no QEMU")

    with pytest.raises(OSError, match="no QEMU"):
        next(RealQemus(run_cell=run_cell).run(replace(small_matrix(1), backend=Backend.REAL).blocks()))
