"""Past migrations, out of a folder of logs.

Of each log only the first line and the last ones are read, so that a thousand logs take a moment; damage in
between is found by ``whimbrel report LOG``.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from whimbrel.commands.codes import UNSETTLED, exit_code
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.report import CompletedReport
from whimbrel.logbook import report_in
from whimbrel.qmp_driver.journal import FORMAT, is_held, read

CHUNK_BYTES = 1 << 16
"""Most logs end with a report shorter than this; where it is longer, more is read."""

DECODER = msgspec.json.Decoder(dict[str, Any])


class Standing(StrEnum):
    """How the migration of a log stands."""

    ENDED = "ended"
    UNDER_WAY = "under way"
    LEFT = "left"
    """Its manager died."""
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One migration. Times are seconds; what is not known is empty or ``None``."""

    log: str
    standing: Standing
    started_wall_s: float
    """Since 1970; of a log that can't be read, when its file was changed last."""
    source: str = ""
    """The monitor of the QEMU that it was moved away from."""
    policy: str = ""
    outcome: str = ""
    owner: str = ""
    guest: str = ""
    phase: str = ""
    """Where one that has not ended was seen last."""
    downtime_s: float | None = None
    total_s: float | None = None
    time_off: float | None = None
    """The time until the guest ran there against the prediction: 0.1 is a tenth more (`Compared.off`)."""
    downtime_off: float | None = None
    bytes_off: float | None = None
    why: str = ""
    """Why it ended as it did; of a damaged log, which line is damaged and how."""
    advice: str = ""
    """The command that would bring it on."""


def entries(folder: Path, most: int | None = None) -> list[Entry]:
    """The migrations whose logs are in a folder, the newest first. A folder that is not there holds none.

    Args:
        folder: where the logs are. Any file with a log's first line is one; a file that is not, but is
            named ``*.jsonl``, is listed as damaged.
        most: at most so many, the newest; ``None``: all.

    Raises:
        BadInput: the folder can't be read.
    """
    heads = sorted(_heads(folder), key=lambda each: each.started_wall_s, reverse=True)
    return [_entry(head) for head in heads[:most]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A migration that has ended, with all that its first and its last line say."""

    log: Path
    started_wall_s: float
    header: Mapping[str, Any]
    report: CompletedReport


def ended(folder: Path, most: int | None = None) -> Iterator[Ended]:
    """Those migrations of a folder that have ended, the newest first; all others are passed over.

    Args:
        folder: as for `entries`.
        most: only the newest so many logs are looked at; ``None``: all.

    Raises:
        BadInput: the folder can't be read.
    """
    heads = sorted(_heads(folder), key=lambda each: each.started_wall_s, reverse=True)
    for head in heads[:most]:
        if head.header is None:
            continue
        try:
            last, _ = _tail(head.path)
            if last.get("kind") == "end":
                report = report_in(last)
                yield Ended(log=head.path, started_wall_s=head.started_wall_s, header=head.header, report=report)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            continue  # a damaged one teaches nothing; `entries` names it


@dataclass(frozen=True, slots=True)
class _Head:
    """What a log begins with."""

    path: Path
    started_wall_s: float
    header: dict[str, Any] | None
    """``None``: it has none, or not one that can be read."""


def _heads(folder: Path) -> Iterator[_Head]:
    try:
        with os.scandir(folder) as found:
            paths = [Path(each.path) for each in found]
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput("folder", str(folder), f"a folder that can be read ({error.strerror})") from error
    for path in paths:
        head = _head(path)
        if head is not None:
            yield head


def _head(path: Path) -> _Head | None:
    """The beginning of a log; ``None``: it is none."""
    named_so = path.suffix == ".jsonl"
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            return None  # a socket, a pipe that would keep us waiting
        with path.open("rb") as file:
            line = file.readline(CHUNK_BYTES)
    except OSError:
        # It may be somebody else's; or it went while we looked.
        return _Head(path, 0.0, None) if named_so and path.exists() else None
    try:
        header = DECODER.decode(line)
    except msgspec.DecodeError:
        return _Head(path, seen.st_mtime, None) if named_so else None
    if header.get("kind") != "header" or header.get("format") != FORMAT:
        return _Head(path, seen.st_mtime, None) if named_so else None
    started = header.get("started_wall_s")
    return _Head(path, started if isinstance(started, int | float) else seen.st_mtime, header)


def _entry(head: _Head) -> Entry:
    path, header = head.path, head.header
    if header is None:
        held = is_held(path)  # it has just been made
        standing, why = (Standing.UNDER_WAY, "") if held else (Standing.DAMAGED, _damage_in(path))
        return Entry(log=str(path), standing=standing, started_wall_s=head.started_wall_s, why=why)
    begun = Entry(
        log=str(path),
        standing=Standing.LEFT,
        started_wall_s=head.started_wall_s,
        source=str(header.get("source_address", "")),
        policy=str(header.get("policy", "")),
    )
    held = is_held(path)  # first: so one that ends while we look has its end
    try:
        last, step = _tail(path)
        if last.get("kind") == "end":
            return _ended(begun, report_in(last))
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        why = _damage_in(path) or f"its end can't be read: {error}"
        return replace(begun, standing=Standing.DAMAGED, why=why)
    begun = replace(begun, phase=str(step.get("phase", "")), owner=str(step.get("owner", "")))
    if held or is_held(path):
        return replace(begun, standing=Standing.UNDER_WAY, advice=f"whimbrel cancel {shlex.quote(str(path))}")
    return replace(begun, why="its manager died", advice=_resolve(path))


def _ended(begun: Entry, report: CompletedReport) -> Entry:
    offs = {each.name: each.off for each in report.compared}
    return replace(
        begun,
        standing=Standing.ENDED,
        outcome=report.outcome,
        owner=report.owner,
        guest=report.guest,
        why=report.why,
        downtime_s=report.downtime.total_s if report.downtime is not None else None,
        total_s=report.total_s,
        time_off=offs.get("total"),
        downtime_off=offs.get("downtime"),
        bytes_off=offs.get("transferred"),
        advice=_resolve(Path(begun.log)) if exit_code(report) == UNSETTLED else "",
    )


def _resolve(path: Path) -> str:
    return f"whimbrel resolve {shlex.quote(str(path))}"


def _tail(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last whole line, and the last ``step`` if the former is no end (empty if there is none)."""
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        chunk_bytes = CHUNK_BYTES
        while True:
            begin = max(0, size_bytes - chunk_bytes)
            file.seek(begin)
            lines = file.read(size_bytes - begin).split(b"\n")
            del lines[-1]  # nothing, or a torn line
            if begin:
                del lines[:1]  # its beginning is missing
            if lines:
                last = DECODER.decode(lines[-1])
                steps = (line for line in reversed(lines) if b'"kind":"step"' in line)
                step = next(steps, None)
                if step is not None or last.get("kind") == "end" or not begin:
                    return last, DECODER.decode(step) if step is not None else {}
            elif not begin:
                return {}, {}
            chunk_bytes *= 8


def _damage_in(path: Path) -> str:
    """What is wrong with a log, with the line; empty if every line can be read."""
    try:
        if not path.stat().st_size:
            return "it is empty: its manager died before anything was begun"
        for _ in read(path):
            pass
    except BadInput as error:
        return f"line 1: not {error.allowed}"
    except WhimbrelError as error:
        return str(error).replace(f" of {path}", "")
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    return ""
