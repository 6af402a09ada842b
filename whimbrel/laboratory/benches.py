"""Runs blocks on real QEMUs of this host, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .matrix import Block
from .real import RealBench, run_real
from .records import Cell, Row
from .running import Done

__all__ = ["RealQemus"]


@dataclass(frozen=True, slots=True)
class RealQemus:
    """Runs blocks on real QEMUs; their links are made once and stay until all is done (`whimbrel.laboratory.crews`).

    Attributes:
        say: takes a sentence on what is set up, and on makeshifts.
        run_cell: runs one of them on a bench.
    """

    say: Callable[[str], None] = lambda _: None
    run_cell: Callable[[Cell, RealBench], Row] = run_real

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """See `Crew`.

        Raises:
            WhimbrelError: as `whimbrel.laboratory.real.run_real`.
        """
        with RealBench(say=self.say) as bench:
            for block in blocks:
                yield Done(rows=tuple(self.run_cell(cell, bench) for cell in block.cells))
