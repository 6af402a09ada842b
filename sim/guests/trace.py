"""Recorded writes, and their file: JSON lines.

The first line says what was recorded, each further one which pages were written since the line before::

    {"format": "whimbrel-writes-1", "total_pages": 65536, "page_bytes": 4096, "seconds": 30.0}
    {"t": 0.1, "pages": [[512, 3], [4096, 1]]}

``t`` is in seconds since the recording began, never falling, below ``seconds``, its length; ``pages`` are ranges:
the first page and how many. The replay begins again after ``seconds``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from whimbrel.engine.errors import BadInput
from whimbrel.sim.memory.contract import PAGE_BYTES

from .laws import Recurring

FORMAT = "whimbrel-writes-1"

Range = tuple[int, int]
"""(first page, pages)."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A recording.

    Attributes:
        total_pages: of the RAM that was watched.
        seconds: its length.
        writes: (seconds since it began, ranges of pages written since the entry before), in order of time.
    """

    total_pages: int
    seconds: float
    writes: tuple[tuple[float, tuple[Range, ...]], ...]

    @property
    def law(self) -> Recurring:
        """Expected distinct pages of a window that begins anywhere in the loop, by its length in seconds."""
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        gaps: list[float] = []
        for at_s, page in self._pages():
            if page in last:
                gaps.append(at_s - last[page])
            else:
                first[page] = at_s
            last[page] = at_s
        gaps.extend(first[page] + self.seconds - last[page] for page in first)
        return Recurring(gaps, len(first), self.seconds)

    def dirtied_pages(self, start_s: float, window_s: float) -> int:
        """Distinct pages written after ``start_s`` and until ``window_s`` later, in the replay."""
        begin_s = start_s % self.seconds
        rounds = int((begin_s + window_s) // self.seconds)
        hit: set[int] = set()
        for at_s, page in self._pages():
            if any(begin_s < at_s + k * self.seconds <= begin_s + window_s for k in range(min(rounds, 1) + 2)):
                hit.add(page)
        return len(hit)

    def _pages(self) -> Iterator[tuple[float, int]]:
        for at_s, ranges in self.writes:
            for first, count in ranges:
                for page in range(first, first + count):
                    yield at_s, page


def write_trace(path: Path, trace: Trace) -> None:
    """Write a recording's file.

    Raises:
        OSError: it cannot be written.
    """
    head = {
        "format": FORMAT,
        "total_pages": trace.total_pages,
        "page_bytes": PAGE_BYTES,
        "seconds": trace.seconds,
    }
    with path.open("w", encoding="ascii") as file:
        file.write(json.dumps(head) + "\n")
        for at_s, ranges in trace.writes:
            file.write(json.dumps({"t": at_s, "pages": [list(one) for one in ranges]}) + "\n")


def read_trace(path: Path) -> Trace:
    """Read a recording's file.

    Raises:
        BadInput: it cannot be read or breaks a rule of the format; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("trace", str(path), f"a file that can be read ({error})") from None
    entries = [(number, _object(line, number)) for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise BadInput("trace line 1", "", _HEAD)
    total_pages, seconds = _head(entries[0][1])
    return Trace(total_pages, seconds, tuple(_writes(entries[1:], total_pages, seconds)))


_HEAD = f'{{"format": "{FORMAT}", "total_pages": above 0, "page_bytes": {PAGE_BYTES}, "seconds": above 0}}'
_ENTRY = '{"t": seconds, "pages": [[first, count], ...]}'


def _object(line: str, number: int) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadInput(f"trace line {number}", line[:80], "a JSON object")
    return cast("dict[str, object]", value)


def _number(value: object) -> float:
    """A finite number, else NaN, which fails every comparison."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


def _head(given: dict[str, object]) -> tuple[int, float]:
    total, seconds = _number(given.get("total_pages")), _number(given.get("seconds"))
    known = given.get("format") == FORMAT and given.get("page_bytes") == PAGE_BYTES and set(given) == _HEAD_KEYS
    if not (known and total > 0 and total.is_integer() and seconds > 0):
        raise BadInput("trace line 1", given, _HEAD)
    return int(total), seconds


_HEAD_KEYS = {"format", "total_pages", "page_bytes", "seconds"}


def _writes(
    entries: Iterable[tuple[int, dict[str, object]]], total_pages: int, seconds: float
) -> Iterator[tuple[float, tuple[Range, ...]]]:
    before_s = 0.0
    for number, entry in entries:
        at_s, pages = _number(entry.get("t")), entry.get("pages")
        if not before_s <= at_s < seconds or not isinstance(pages, list) or set(entry) != {"t", "pages"}:
            raise BadInput(f"trace line {number}", entry, f"{_ENTRY}, t from {before_s} up to {seconds}")
        given = cast("list[object]", pages)
        ranges = tuple(_range(one) for one in given)
        if any(first < 0 or count <= 0 or first + count > total_pages for first, count in ranges):
            raise BadInput(f"trace line {number}", given, f"ranges within the {total_pages} pages")
        before_s = at_s
        yield at_s, ranges


def _range(given: object) -> Range:
    match given:
        case [int(first), int(count)]:
            return first, count
        case _:
            return 0, 0  # no range: refused with those that are out of bounds
