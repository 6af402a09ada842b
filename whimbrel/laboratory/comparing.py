"""A comparison from beginning to end: what is missing is run, every row is kept, and all of it is put together."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from .crews import Crew
from .matrix import Matrix
from .pictures import Front
from .store import Store
from .summary import Comparison, compared

__all__ = ["compare", "fronts"]


def compare(
    matrix: Matrix,
    crew: Crew,
    out: Path | None = None,
    *,
    bounds: bool = True,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Run a matrix, or what is missing of it.

    Args:
        matrix: what is to be run.
        crew: who runs it.
        out: a directory that keeps all of it (`whimbrel.laboratory.store`) and lets a comparison that was ended go on;
            ``None``: nothing is kept.
        bounds: whether regrets are found, too, for simulated runs.
        told: is told how many runs of how many are done, at the beginning and after each block.

    Raises:
        BadInput: something that can't be had or read; the directory can't be used for this.
        CellFailed: a run broke; what was done before is kept.
        HandsLost: whoever ran a block was ended, again and again.
        OSError: a row can't be written.
    """
    with contextlib.ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whimbrel-compare-"))) / "out"
        store = stack.enter_context(Store(out, matrix, bounds=bounds))
        missing = list(store.missing(matrix))
        done = len(matrix) - sum(len(block.cells) for block in missing)
        told(done, len(matrix))
        for each in crew.run(missing) if missing else ():
            store.add(each)
            done += len(each.rows)
            told(done, len(matrix))
        store.write_result()
        found = {case.name: store.bounds(case.name, matrix.seeds[0]) for case in matrix.cases}
        return compared(matrix, store.of(matrix), {name: each for name, each in found.items() if each is not None})


def fronts(comparison: Comparison) -> dict[str, Front]:
    """The fronts of the bounds that a comparison has, as pictures show them, by the names of the cases."""
    return {
        name: Front(
            clairvoyant=tuple(zip(each.clairvoyant.totals_s, each.clairvoyant.downtimes_s, strict=True)),
            restricted=tuple(zip(each.restricted.totals_s, each.restricted.downtimes_s, strict=True)),
        )
        for name, each in comparison.bounds.items()
    }
