"""The rows as a tidy table: Parquet, and CSV for those who want that; every column says what it is and in which unit.

The bytes follow from the rows alone: no time of writing, no order but the canonical one (`whimbrel.laboratory.store`).
"""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any

import pyarrow as pa

from whimbrel.engine.errors import BadInput

from .records import Row

__all__ = ["csv_of", "parquet_of", "read_rows", "schema"]

_parquet: Any = importlib.import_module("pyarrow.parquet")
_csv: Any = importlib.import_module("pyarrow.csv")
"""Their types leave too much open to be checked strictly."""

TABLE_FORMAT = "1"
"""Rises when a column is renamed or changes its meaning; new ones may come."""

_TYPES: dict[type, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@functools.cache
def schema() -> pa.Schema:
    """The columns, in the order of `Row`; the metadata of each has ``about`` and ``unit`` (empty: a count, a word)."""
    columns: list[Any] = []
    kinds = typing.get_type_hints(Row)
    for each in fields(Row):
        kind = kinds[each.name]
        options = typing.get_args(kind) or (kind,)
        (plain,) = (option for option in options if option is not NoneType)
        columns.append(pa.field(each.name, _TYPES[plain], nullable=NoneType in options, metadata=dict(each.metadata)))
    about: dict[str | bytes, str | bytes] = {"whimbrel.table": TABLE_FORMAT, "about": "one row for each migration"}
    return pa.schema(columns, metadata=about)


def _table(rows: Iterable[Row]) -> pa.Table:
    kept, asked = list(rows), schema()
    columns: list[Any] = [
        pa.array([getattr(row, name) for row in kept], type=kind)
        for name, kind in zip(asked.names, asked.types, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=asked)


def parquet_of(rows: Iterable[Row]) -> bytes:
    """Rows as a Parquet file, in the order in which they come."""
    sink = pa.BufferOutputStream()
    _parquet.write_table(_table(rows), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def csv_of(rows: Iterable[Row]) -> bytes:
    """Rows as CSV with a line of names; what is not known is empty, and figures have all of their digits."""
    sink = pa.BufferOutputStream()
    _csv.write_csv(_table(rows), sink)
    return sink.getvalue().to_pybytes()


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a Parquet file.

    Raises:
        BadInput: it can't be read, or has other columns.
    """
    try:
        table: pa.Table = _parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput("table", str(path), f"a Parquet file of a comparison ({error})") from None
    if not table.schema.equals(schema()):
        raise BadInput("table", str(path), "a Parquet file of a comparison of this version: it has other columns")
    return tuple(Row(**each) for each in table.to_pylist())
