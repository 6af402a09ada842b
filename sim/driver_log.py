"""The log of a simulated migration: the lines that a real one has, in memory, rendered when somebody reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from whimbrel.engine import records
from whimbrel.engine.machine import Event, Happened, Sampled
from whimbrel.engine.records import Record
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.statistics import Statistics

FORMAT = 1
EPOCH_S = 1_700_000_000
"""The virtual wall clock's beginning: November 2023, so that nobody takes a simulated log for one of today."""


def wall_s(now_ns: int) -> float:
    """The virtual wall clock, seconds since 1970, at a time of the world."""
    return EPOCH_S + now_ns / 1e9


Fields = dict[str, Any]


class Log:
    """One log, which several managers may write one after the other.

    Equal to another one if its lines are; ``bytes`` of it is what its file would hold.
    """

    def __init__(self) -> None:
        """Make an empty one."""
        self._lines: list[tuple[int, float, Record | Event | CompletedReport]] = []

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return self.lines()

    def __bytes__(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines()).encode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Log):
            return NotImplemented
        return self is other or (len(self) == len(other) and all(map(str.__eq__, self, other)))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def write(self, kind: str, t_ns: int, now_ns: int, fields: Fields) -> None:
        """Append one line.

        Args:
            kind: what it is (docs/log.md).
            t_ns: the migration's clock.
            now_ns: the world's.
            fields: the rest of it, which nobody changes any more.
        """
        self._lines.append((t_ns, wall_s(now_ns), (kind, fields)))

    def write_event(self, event: Event, t_ns: int, now_ns: int) -> None:
        """Append what records an event; signals are written as taken."""
        if not isinstance(event, Happened):
            self._lines.append((t_ns, wall_s(now_ns), event))

    def write_report(self, report: CompletedReport, t_ns: int, now_ns: int) -> None:
        """Append the end."""
        self._lines.append((t_ns, wall_s(now_ns), report))

    def statistics(self) -> Iterator[Statistics]:
        """The statistics that were seen, in order."""
        for _, _, said in self._lines:
            if isinstance(said, Sampled):
                yield said.statistics

    def of_kind(self, kind: str) -> Iterator[tuple[int, Fields]]:
        """What was written under a kind, events apart: the migration's clock and the fields, as they were handed over.

        It renders nothing, which matters to whoever looks at ten thousand logs.
        """
        for t_ns, _, said in self._lines:
            if isinstance(said, tuple) and said[0] == kind:
                yield t_ns, said[1]

    def records(self) -> Iterator[Fields]:
        """The lines, as `whimbrel.qmp_driver.journal.read` gives those of a file."""
        for line in self.lines():
            yield json.loads(line)

    def lines(self) -> Iterator[str]:
        """The lines, as they stand in a file, without their ends; what they say is only put together here."""
        for number, (t_ns, at_s, said) in enumerate(self._lines, 1):
            kind, fields = _record_of(said)
            yield _ENCODE({"n": number, "t_ns": t_ns, "wall_s": round(at_s, 6), "kind": kind, **fields})


def _record_of(said: Record | Event | CompletedReport) -> Record:
    if isinstance(said, tuple):
        return said
    if isinstance(said, CompletedReport):
        return "end", {"report": asdict(said)}
    record = records.of_event(said)
    assert record is not None  # only signals have none
    return record


_ENCODE: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
