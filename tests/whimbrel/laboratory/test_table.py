"""The tidy table: what it says of its columns, and that it is read back as it was written."""

from __future__ import annotations

import csv
import importlib
import io
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.whimbrel.laboratory.matrices import row
from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.records import Row
from whimbrel.laboratory.table import csv_of, parquet_of, read_rows, schema

pa: Any = importlib.import_module("pyarrow")
"""Its types leave too much open to be checked strictly."""

ROWS = (
    row(),
    row("other", moved=False, downtime_s=None),
    replace(row(seed=2), policy_time_s=0.1 + 0.2, why='a "b",\nc'),
)


def test_a_table_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet_of(ROWS))
    assert read_rows(path) == ROWS


def test_the_same_rows_are_the_same_bytes() -> None:
    assert parquet_of(ROWS) == parquet_of(list(ROWS))
    assert parquet_of(ROWS) != parquet_of(ROWS[::-1])


def test_each_column_has_its_meaning_and_its_unit() -> None:
    asked: Any = schema()
    assert asked.names == [each.name for each in fields(Row)]
    for name in asked.names:
        assert asked.field(name).metadata[b"about"]
    assert asked.field("total_s").metadata[b"unit"] == b"s"
    assert asked.field("policy").metadata[b"unit"] == b""
    assert asked.field("transferred_bytes").type == pa.int64()
    assert asked.field("downtime_s").nullable
    assert not asked.field("total_s").nullable


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet_of([]))
    assert read_rows(path) == ()


def test_csv_has_a_line_of_names_and_all_digits() -> None:
    read = list(csv.DictReader(io.StringIO(csv_of(ROWS).decode())))
    assert [each["policy"] for each in read] == ["one", "other", "one"]
    assert [each["downtime_s"] for each in read] == ["0.1", "", "0.1"]
    assert float(read[2]["policy_time_s"]) == 0.1 + 0.2
    assert read[2]["why"] == 'a "b",\nc'


def test_what_is_no_such_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with pytest.raises(BadInput, match="table: "):
        read_rows(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="table: "):
        read_rows(path)
    importlib.import_module("pyarrow.parquet").write_table(pa.table({"policy": ["fixed"]}), path)
    with pytest.raises(BadInput, match="other columns"):
        read_rows(path)
