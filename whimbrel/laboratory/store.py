"""Rows on disk: a directory that a killed comparison goes on in.

::

    DIR/matrix.json      what the rows in it belong to: cases as text, policies with the sums of their files, versions
    DIR/rows/*.json      what came of each block, a file written whole or not at all, and never again
    DIR/bounds/*.msgpack the bounds of each case and seed, with numbers that JSON has no word for
    DIR/result.parquet   all rows, in an order of their own: the same rows are the same bytes, however they were got
    DIR/lock             held by whoever writes

A directory may be given again with other cases, policies or seeds: what is there already is not run again, what is
missing is added. What it may not be given is another thing under a name that it knows (another scenario, another text
of a policy's file, another Whimbrel): rows that stand side by side can be compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import msgspec

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.sim.bounds import Bounds

from .matrix import Block, Matrix
from .records import Backend, Row
from .running import Done, asked_of, policy_source, scenario_text
from .table import parquet_of

__all__ = ["RESULT", "Header", "Store", "in_order", "write_whole"]

FORMAT = 1
RESULT = "result.parquet"
MATRIX = "matrix.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the rows of a directory belong to.

    Attributes:
        format: of the directory.
        whimbrel: the version that ran them.
        bounds: whether regrets are part of them.
        cases: what each case asks, by name.
        policies: the sum of each policy's files (`Row.policy_source`), by its text.
    """

    format: int = FORMAT
    whimbrel: str = __version__
    bounds: bool = True
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    policies: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, matrix: Matrix, *, bounds: bool) -> Header:
        """What the rows of a matrix belong to.

        Raises:
            BadInput: a policy's file can't be read.
        """
        return cls(
            bounds=bounds,
            cases={case.name: asked_of(case) | {"scenario": scenario_text(case.scenario)} for case in matrix.cases},
            policies={policy: policy_source(policy) for policy in matrix.policies},
        )

    def with_(self, other: Header, directory: Path) -> Header:
        """All that both belong to.

        Raises:
            BadInput: they can't stand side by side; names what differs.
        """

        def differs(given: str, what: str) -> BadInput:
            return BadInput("out", str(directory), f"another directory for {given}: what is there {what}")

        if self.format != other.format or self.whimbrel != other.whimbrel:
            raise differs(f"Whimbrel {other.whimbrel}", f"was made by Whimbrel {self.whimbrel}")
        if self.bounds != other.bounds:
            have, want = ("has", "without") if self.bounds else ("has no", "with")
            raise differs(f"runs {want} bounds", f"{have} regrets")
        for name, asked in other.cases.items():
            if self.cases.get(name, asked) != asked:
                raise differs(f"this case {name}", "belongs to another scenario of that name")
        for policy, source in other.policies.items():
            if self.policies.get(policy, source) != source:
                raise differs(f"this policy {policy}", "was decided by another text of its file")
        return replace(self, cases={**self.cases, **other.cases}, policies={**self.policies, **other.policies})


class Store:
    """A directory of rows, held by one comparison at a time.

    Attributes:
        rows: all that it has, by the keys of their cells.
        header: what they belong to.
    """

    def __init__(self, directory: Path, matrix: Matrix, *, bounds: bool = True) -> None:
        """Open it, or make it, and read what it has.

        Raises:
            BadInput: it is no directory of ours, somebody writes to it, it is damaged, or what it holds can't stand
                beside this matrix.
        """
        self.directory = directory
        self.rows: dict[str, Row] = {}
        self._lock = self._hold()
        try:
            self.header = Header.of(matrix, bounds=bounds)
            path = directory / MATRIX
            if path.exists():
                known: Header = _decode(path, Header)
                self.header = known.with_(self.header, directory)
            for name in ("rows", "bounds"):
                (directory / name).mkdir(exist_ok=True)
            write_whole(path, msgspec.json.format(msgspec.json.encode(self.header, order="sorted")))
            self._read()
        except BaseException:  # whatever it is: the lock goes with the descriptor
            self.close()
            raise

    def __enter__(self) -> Store:
        """Nothing more: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let others write to it."""
        self._lock.close()

    def missing(self, matrix: Matrix) -> Iterator[Block]:
        """The blocks of a matrix, in its order, without what is there already."""
        for block in matrix.blocks():
            cells = tuple(cell for cell in block.cells if cell.key not in self.rows)
            if cells:
                bounded = self.header.bounds and block.backend is Backend.SIMULATED
                known = self.bounds(block.case.name, block.seed) if bounded else None
                yield replace(block, cells=cells, bounded=bounded, bounds=known)

    def bounds(self, case: str, seed: int) -> Bounds | None:
        """The bounds of a case and seed, if they were found already.

        Raises:
            BadInput: their file is damaged.
        """
        path = self._bounds_path(case, seed)
        if not path.exists():
            return None
        with _damage(path):
            return msgspec.msgpack.decode(path.read_bytes(), type=Bounds)

    def add(self, done: Done) -> None:
        """Keep what came of a block; once this returns, it survives whatever happens to this process, or to the host.

        Raises:
            WhimbrelError: whoever ran it has another Whimbrel, or another text of a policy's file.
            OSError: it can't be written.
        """
        for row in done.rows:
            if row.whimbrel != self.header.whimbrel or row.policy_source != self.header.policies[row.policy]:
                same = row.whimbrel == self.header.whimbrel
                what = "another text of its file" if same else f"Whimbrel {row.whimbrel}"
                raise WhimbrelError(f"{row.case}, {row.policy}, seed {row.seed} was run with {what}")
        keys = sorted(row.key for row in done.rows)
        first = done.rows[0]
        digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]
        if done.bounds is not None:
            write_whole(self._bounds_path(first.case, first.seed), msgspec.msgpack.encode(done.bounds))
        name = f"{_file_name(first.case, first.seed)}-{digest}.json"
        write_whole(self.directory / "rows" / name, msgspec.json.encode(done.rows))
        self.rows.update((row.key, row) for row in done.rows)

    def of(self, matrix: Matrix) -> tuple[Row, ...]:
        """The rows of a matrix, in the canonical order; those that are missing are left out."""
        keys = {cell.key for cell in matrix.cells()}
        return in_order(row for key, row in self.rows.items() if key in keys)

    def write_result(self) -> None:
        """Write all rows that it has as one table, unless it is there as it should be.

        Raises:
            OSError: it can't be written.
        """
        data, path = parquet_of(in_order(self.rows.values())), self.directory / RESULT
        if not path.exists() or path.read_bytes() != data:
            write_whole(path, data)

    # ---- the directory

    def _bounds_path(self, case: str, seed: int) -> Path:
        return self.directory / "bounds" / f"{_file_name(case, seed)}.msgpack"

    def _hold(self) -> IO[bytes]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            foreign = not (self.directory / MATRIX).exists() and any(
                each.name != "lock" for each in self.directory.iterdir()
            )
            if foreign:
                raise BadInput("out", str(self.directory), "a new or empty directory, or one of an earlier comparison")
            lock = (self.directory / "lock").open("ab")
        except OSError as error:
            raise BadInput("out", str(self.directory), f"a directory that can be written ({error.strerror})") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BadInput("out", str(self.directory), "a directory that no other comparison writes to now") from None
        return lock

    def _read(self) -> None:
        for path in sorted((self.directory / "rows").iterdir()):
            if path.suffix != ".json":
                path.unlink()  # begun by one that was killed; nobody else writes now
                continue
            rows: tuple[Row, ...] = _decode(path, tuple[Row, ...])
            self.rows.update((row.key, row) for row in rows)


def _file_name(case: str, seed: int) -> str:
    return f"{seed:06d}-{case}"


def in_order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The canonical order: by backend, case, policy and seed."""
    return tuple(sorted(rows, key=lambda row: (row.backend, row.case, row.policy, row.seed)))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, or not at all, whatever happens meanwhile.

    Raises:
        OSError: it can't be written.
    """
    begun = path.with_name(f"{path.name}.begun")
    with begun.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(path)


def _decode(path: Path, kind: Any) -> Any:
    with _damage(path):
        return msgspec.json.decode(path.read_bytes(), type=kind)


@contextlib.contextmanager
def _damage(path: Path) -> Generator[None]:
    try:
        yield
    except (msgspec.DecodeError, OSError) as error:
        raise BadInput("out", str(path), f"a file as a comparison of this version writes it ({error})") from None
