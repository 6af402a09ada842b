"""The matrix: its seeds, its order, and what it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.whimbrel.laboratory.matrices import small_matrix, tiny
from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.matrix import GREATEST_SEED, MOST_SEEDS, Block, Matrix, parse_seeds
from whimbrel.laboratory.records import Backend, Cell


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", (1,)),
        ("3", (1, 2, 3)),
        ("4..6", (4, 5, 6)),
        ("7..7", (7,)),
        ("0..1", (0, 1)),
        (f"{GREATEST_SEED}..{GREATEST_SEED}", (GREATEST_SEED,)),
    ],
)
def test_seeds_are_a_number_of_them_or_a_range(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "x", "1.5", "3..", "..3", "5..4", "1..2..3", str(MOST_SEEDS + 1), f"1..{GREATEST_SEED + 1}"]
)
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^seeds: "):
        parse_seeds(text)


def test_every_cell_is_there_once() -> None:
    matrix = small_matrix(5, policies=("fixed", "least_downtime", "xen_classic"))
    cells = list(matrix.cells())
    assert len(cells) == len(matrix) == 2 * 3 * 5
    assert set(Counter(cell.key for cell in cells).values()) == {1}


def test_a_block_has_all_policies_of_one_case_and_seed() -> None:
    matrix = small_matrix(3)
    for block in matrix.blocks():
        assert {cell.policy for cell in block.cells} == set(matrix.policies)
        assert {(cell.case.name, cell.seed) for cell in block.cells} == {(block.case.name, block.seed)}


def test_no_policy_always_comes_first() -> None:
    """Over 40 blocks each of the two is first in at least ten; the order follows from case and seed alone."""
    matrix = small_matrix(20)
    firsts = Counter(block.cells[0].policy for block in matrix.blocks())
    assert min(firsts[policy] for policy in matrix.policies) >= 10
    assert list(matrix.cells()) == list(small_matrix(20).cells())


def test_whatever_is_broken_off_is_a_whole_comparison_over_fewer_seeds() -> None:
    assert [block.seed for block in small_matrix(3).blocks()] == [1, 1, 2, 2, 3, 3]


def test_on_a_real_qemu_each_run_is_a_block_of_its_own() -> None:
    """A run takes long there: what is done is kept run by run, in the same order."""
    matrix = small_matrix(2)
    real = replace(matrix, backend=Backend.REAL)
    assert all(len(block.cells) == 1 and block.backend is Backend.REAL for block in real.blocks())
    assert [cell.policy for cell in real.cells()] == [cell.policy for cell in matrix.cells()]


def test_a_block_is_named_as_a_person_would() -> None:
    one = Cell(case=tiny(), policy="fixed", seed=7)
    assert str(Block(cells=(one,))) == "busy@slow, seed 7, fixed"
    assert str(Block(cells=(one, replace(one, policy="xen_classic")))) == "busy@slow, seed 7, 2 policies"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"policies": ()}, "policy"),
        ({"cases": ()}, "case"),
        ({"seeds": ()}, "seeds"),
        ({"policies": ("fixed", "fixed")}, "policy"),
        ({"cases": (tiny(), tiny(rate_bytes_per_s=1.0))}, "case"),
    ],
)
def test_an_edge_is_neither_empty_nor_has_a_thing_twice(changes: dict[str, tuple[object, ...]], field: str) -> None:
    edges: dict[str, tuple[object, ...]] = {"cases": (tiny(),), "policies": ("fixed",), "seeds": (1,)}
    with pytest.raises(BadInput, match=f"^{field}: "):
        Matrix(**(edges | changes))  # type: ignore[arg-type]
