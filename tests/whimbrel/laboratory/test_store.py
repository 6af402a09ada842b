"""Rows on disk: whole or not at all, gone on with, added to, and refused where they can't stand side by side."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.whimbrel.laboratory.matrices import MIB, hot, small_matrix, tiny
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.laboratory import store as module
from whimbrel.laboratory.matrix import Block, Matrix
from whimbrel.laboratory.running import Done, run_block
from whimbrel.laboratory.store import MATRIX, RESULT, Header, Store, in_order, write_whole
from whimbrel.laboratory.table import read_rows


def filled(directory: Path, matrix: Matrix, blocks: int | None = None, *, bounds: bool = False) -> None:
    """Run so many blocks of a matrix into a directory; all, if nothing is said."""
    with Store(directory, matrix, bounds=bounds) as store:
        for block in list(store.missing(matrix))[:blocks]:
            store.add(run_block(block))
        store.write_result()


def missing(directory: Path, matrix: Matrix, *, bounds: bool = False) -> list[Block]:
    """What is not there yet."""
    with Store(directory, matrix, bounds=bounds) as store:
        return list(store.missing(matrix))


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    matrix = small_matrix(2)
    filled(tmp_path / "out", matrix, 3)
    assert missing(tmp_path / "out", matrix) == list(matrix.blocks())[3:]
    filled(tmp_path / "out", matrix)
    assert missing(tmp_path / "out", matrix) == []


def test_the_same_rows_are_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    matrix = small_matrix(2)
    filled(tmp_path / "one", matrix)
    with Store(tmp_path / "other", matrix, bounds=False) as store:
        for block in reversed(list(store.missing(matrix))):
            for cell in block.cells:
                store.add(run_block(Block(cells=(cell,))))
        store.write_result()
    assert (tmp_path / "one" / RESULT).read_bytes() == (tmp_path / "other" / RESULT).read_bytes()


def test_the_table_holds_every_row_in_canonical_order(tmp_path: Path) -> None:
    matrix = small_matrix(2)
    filled(tmp_path, matrix)
    rows = read_rows(tmp_path / RESULT)
    assert rows == in_order(rows)
    assert {row.key for row in rows} == {cell.key for cell in matrix.cells()}
    assert [(row.case, row.policy, row.seed) for row in rows[:3]] == [
        ("busy@slow", "fixed", 1),
        ("busy@slow", "fixed", 2),
        ("busy@slow", "least_downtime", 1),
    ]


def test_other_seeds_policies_and_cases_are_added(tmp_path: Path) -> None:
    first = small_matrix(1)
    filled(tmp_path, first)
    more = replace(
        first, policies=(*first.policies, "xen_classic"), seeds=(1, 2), cases=(*first.cases, tiny("new@slow"))
    )
    left = missing(tmp_path, more)
    assert sum(len(block.cells) for block in left) == len(more) - len(first)
    assert [cell.policy for cell in left[0].cells] == ["xen_classic"]
    filled(tmp_path, more)
    assert len(read_rows(tmp_path / RESULT)) == len(more)
    with Store(tmp_path, first, bounds=False) as store:
        assert len(store.of(first)) == len(first), "who asks for less gets less"


def test_a_table_that_is_right_is_left_alone(tmp_path: Path) -> None:
    matrix = small_matrix(1)
    filled(tmp_path, matrix)
    before = (tmp_path / RESULT).stat().st_mtime_ns
    filled(tmp_path, matrix)
    assert (tmp_path / RESULT).stat().st_mtime_ns == before


# ---- bounds


def test_bounds_are_kept_and_given_back_to_blocks(tmp_path: Path) -> None:
    matrix = Matrix(cases=(tiny(pages=True),), policies=("fixed",), seeds=(1,))
    filled(tmp_path, matrix, bounds=True)
    with Store(tmp_path, matrix) as store:
        kept = store.bounds("busy@slow", 1)
        assert kept is not None
        assert store.bounds("busy@slow", 2) is None
        (left,) = store.missing(replace(matrix, policies=("fixed", "xen_classic")))
    assert (left.bounds, left.bounded) == (kept, True)
    assert run_block(replace(left, bounds=None)).bounds == kept


def test_without_bounds_blocks_want_none(tmp_path: Path) -> None:
    assert not any(block.bounded for block in missing(tmp_path, small_matrix(1)))


# ---- what is damaged, or another's


def test_what_a_killed_process_began_is_thrown_away(tmp_path: Path) -> None:
    matrix = small_matrix(1)
    filled(tmp_path, matrix, 1)
    begun = tmp_path / "rows" / "000001-hot@slow-123.json.begun"
    begun.write_text('[{"backend": "simu')
    assert len(missing(tmp_path, matrix)) == 1
    assert not begun.exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full the old content stays."""
    path = tmp_path / "file"
    write_whole(path, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("name", ["rows", MATRIX, "bounds"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    matrix = Matrix(cases=(tiny(pages=True),), policies=("fixed",), seeds=(1,))
    filled(tmp_path, matrix, bounds=True)
    path = tmp_path / name if name == MATRIX else next((tmp_path / name).iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=path.name), Store(tmp_path, matrix) as store:
        store.bounds("busy@slow", 1)


def test_only_one_comparison_writes_at_a_time(tmp_path: Path) -> None:
    matrix = small_matrix(1)
    with Store(tmp_path, matrix), pytest.raises(BadInput, match="no other comparison"):
        Store(tmp_path, matrix)
    Store(tmp_path, matrix).close()


def test_a_directory_of_others_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(BadInput, match="new or empty directory"):
        Store(tmp_path, small_matrix(1))
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadInput, match="a directory that can be written"):
        Store(tmp_path / "thesis.tex", small_matrix(1))


# ---- what can't stand side by side


def test_another_scenario_of_the_same_name_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, small_matrix(1), 1)
    other = replace(small_matrix(1), cases=(tiny(rate_bytes_per_s=9.0 * MIB), hot()))
    with pytest.raises(BadInput, match="this case busy@slow: what is there belongs to another scenario"):
        Store(tmp_path, other, bounds=False)


def test_another_text_of_a_policys_file_is_refused(tmp_path: Path) -> None:
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text("from whimbrel.engine.policies import Fixed\n")
    matrix = replace(small_matrix(1), policies=(f"{file}:Fixed",))
    filled(out, matrix, 1)
    file.write_text("from whimbrel.engine.policies import Fixed  # changed\n")
    with pytest.raises(BadInput, match=r"mine\.py:Fixed: what is there was decided by another text of its file"):
        Store(out, matrix, bounds=False)


def test_rows_of_another_whimbrel_are_refused(tmp_path: Path) -> None:
    filled(tmp_path, small_matrix(1), 1)
    path = tmp_path / MATRIX
    path.write_text(json.dumps(json.loads(path.read_text()) | {"whimbrel": "0.0.1"}))
    with pytest.raises(BadInput, match=r"what is there was made by Whimbrel 0\.0\.1"):
        Store(tmp_path, small_matrix(1), bounds=False)


@pytest.mark.parametrize("bounds", [True, False])
def test_rows_with_and_without_regrets_do_not_mix(tmp_path: Path, bounds: bool) -> None:
    Store(tmp_path, small_matrix(1), bounds=bounds).close()
    with pytest.raises(BadInput, match="has regrets" if bounds else "has no regrets"):
        Store(tmp_path, small_matrix(1), bounds=not bounds)


def test_a_worker_with_another_whimbrel_or_another_file_is_found_out(tmp_path: Path) -> None:
    matrix = small_matrix(1)
    done = run_block(next(matrix.blocks()))
    with Store(tmp_path, matrix, bounds=False) as store:
        with pytest.raises(WhimbrelError, match=r"Whimbrel 0\.0\.1"):
            store.add(Done(rows=(replace(done.rows[0], whimbrel="0.0.1"),)))
        with pytest.raises(WhimbrelError, match="another text"):
            store.add(Done(rows=(replace(done.rows[0], policy_source="abc"),)))
        assert store.rows == {}


def test_the_header_says_what_the_rows_belong_to(tmp_path: Path) -> None:
    header = Header.of(small_matrix(1), bounds=True)
    assert (header.format, set(header.cases), set(header.policies)) == (
        module.FORMAT,
        {"busy@slow", "hot@slow"},
        {"fixed", "least_downtime"},
    )
    assert 'ram = "16MiB"' in header.cases["busy@slow"]["scenario"]
