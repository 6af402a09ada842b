"""A matrix: policies × cases × seeds, in the order in which it is run.

Runs are paired: for a case and a seed the guest, the link and all that is left to chance are the same for every policy.
They are also interleaved: all policies of a case and a seed stand side by side, in an order that is drawn anew for each
of them, so that no drift of a real machine (its heat, its neighbours) favours the one that always comes first. The
seeds are the outermost loop: whatever is broken off is a whole comparison over fewer seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from whimbrel.engine.errors import BadInput
from whimbrel.sim.bounds import Bounds

from .records import Backend, Case, Cell

GREATEST_SEED = 2**31 - 1
MOST_SEEDS = 100_000

_RANGE = re.compile(r"(\d{1,10})\.\.(\d{1,10})")
_NUMBER = re.compile(r"\d{1,10}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read which seeds: ``20`` are those from 1 to 20, ``21..40`` those from 21 to 40, both ends among them.

    Raises:
        BadInput: it is neither, or there would be none, or more than `MOST_SEEDS`.
    """
    found = _RANGE.fullmatch(text)
    if found is not None:
        first, last = int(found[1]), int(found[2])
    elif _NUMBER.fullmatch(text):
        first, last = 1, int(text)
    else:
        first, last = 1, 0
    if not first <= last <= GREATEST_SEED or last - first >= MOST_SEEDS:
        raise BadInput("seeds", text, f"a number such as 20, or a range such as 21..40; 1 to {MOST_SEEDS} of them")
    return tuple(range(first, last + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What is run in one go: some policies on the same case with the same seed, in this order.

    Attributes:
        cells: at least one; they differ in their policies only.
        bounded: whether regrets are wanted, for which the bounds of case and seed are needed.
        bounds: these, if they are known already.
    """

    cells: tuple[Cell, ...]
    bounded: bool = False
    bounds: Bounds | None = None

    @property
    def case(self) -> Case:
        """The case of all of them."""
        return self.cells[0].case

    @property
    def seed(self) -> int:
        """The seed of all of them."""
        return self.cells[0].seed

    @property
    def backend(self) -> Backend:
        """Where all of them are run."""
        return self.cells[0].backend

    def __str__(self) -> str:
        """As a person would name it."""
        count = len(self.cells)
        several = self.cells[0].policy if count == 1 else f"{count} policies"
        return f"{self.case.name}, seed {self.seed}, {several}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All that is to be compared.

    Attributes:
        cases, policies, seeds: its three edges; none is empty, nothing is in one of them twice.
        backend: where all of it is run.
    """

    cases: tuple[Case, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    backend: Backend = Backend.SIMULATED

    def __post_init__(self) -> None:
        """See that it is one.

        Raises:
            BadInput: an edge is empty, or has something twice.
        """
        names = tuple(case.name for case in self.cases)
        edges: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("case", names),
            ("policy", self.policies),
            ("seeds", self.seeds),
        )
        for field, edge in edges:
            if not edge:
                raise BadInput(field, "", "at least one")
            if len(set(edge)) != len(edge):
                twice = next(each for each in edge if edge.count(each) > 1)
                raise BadInput(field, twice, "each only once")

    def __len__(self) -> int:
        """How many runs it has."""
        return len(self.cases) * len(self.policies) * len(self.seeds)

    def blocks(self) -> Iterator[Block]:
        """All of it, in the order in which it is run; one run after the other on a real QEMU, where each takes long."""
        for seed in self.seeds:
            for case in self.cases:
                policies = list(self.policies)
                Random(f"{seed}|{case.name}|order").shuffle(policies)
                cells = tuple(Cell(case=case, policy=each, seed=seed, backend=self.backend) for each in policies)
                if self.backend is Backend.REAL:
                    yield from (Block(cells=(cell,)) for cell in cells)
                else:
                    yield Block(cells=cells)

    def cells(self) -> Iterator[Cell]:
        """Each run, in that order."""
        for block in self.blocks():
            yield from block.cells
