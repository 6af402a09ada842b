"""Reports out of logs."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.report import CompletedReport
from whimbrel.qmp_driver.journal import is_held, read

ENDS = frozenset({"low", "middle", "high"})
"""The fields of a range."""
RANGED = ("prediction", "compared")
"""Where a report has some."""


def report_of(log: Path) -> CompletedReport:
    """The report that a log ends with.

    Raises:
        BadInput: no log, a damaged one, or one of a migration that has not ended (its phase and owner are named).
    """
    finished, standing = _look(log)
    if finished is None:
        raise BadInput("log", str(log), f"the log of a migration that has ended (this one {standing})")
    return finished


def check_running(log: Path) -> None:
    """See that a log is that of a migration which is under way.

    Raises:
        BadInput: it is none, or its migration has ended, or was left by a manager that died.
    """
    _, standing = _look(log)
    if not is_held(log):
        raise BadInput("log", str(log), f"the log of a migration that is under way (this one {standing})")


def sides_seen(log: Path) -> dict[str, str]:
    """The classes in which both sides were found when they were asked last, by side; empty if nobody asked."""
    seen: dict[str, str] = {}
    try:
        for line in read(log):
            if line.get("kind") == "inspected":
                seen = {side: str(line.get(side)) for side in ("source", "destination")}
    except WhimbrelError:
        pass  # a damaged log: what stands before the damage is still true
    return seen


def report_in(line: dict[str, Any]) -> CompletedReport:
    """The report in a log's ``end`` line.

    Raises:
        msgspec.ValidationError: there is none.
    """
    told = line.get("report")
    if isinstance(told, dict):
        report = cast("Mapping[str, Any]", told)
        told = {**report} | {name: _with_infinity(report[name]) for name in RANGED if name in report}
    return msgspec.convert(told, CompletedReport, strict=False)


def _with_infinity(told: Any) -> Any:
    """With ``inf`` for the ``null`` that stands for it in a range: JSON has no word for it."""
    if isinstance(told, list):
        return [_with_infinity(each) for each in cast("Sequence[Any]", told)]
    if not isinstance(told, dict):
        return told
    fields = cast("Mapping[str, Any]", told)
    if frozenset(fields) == ENDS:
        return {name: math.inf if end is None else end for name, end in fields.items()}
    return {name: _with_infinity(each) for name, each in fields.items()}


def _look(log: Path) -> tuple[CompletedReport | None, str]:
    """The report, if there is one, and how the migration stands, as the end of a sentence."""
    if os.path.exists(log) and not os.path.isfile(log):
        raise BadInput("log", str(log), "a file")  # a pipe would keep us waiting
    where: dict[str, Any] = {}
    finished: CompletedReport | None = None
    try:
        for line in read(log):
            match line.get("kind"):
                case "end":
                    finished = report_in(line)
                case "reopened":
                    finished = None  # what could not be settled then is being settled, or was left again
                case "step":
                    where = line
                case _:
                    pass
    except BadInput:
        raise
    except (WhimbrelError, msgspec.ValidationError) as error:
        raise BadInput("log", str(log), f"a log that is whole ({error})") from error
    if finished is not None:
        return finished, f"{finished.outcome}, and the guest belongs to: {finished.owner}"
    last = f"; last seen in {where.get('phase')}, owner {where.get('owner')}" if where else ""
    if is_held(log):
        return None, f"is still under way{last}"
    return None, f"was left by a manager that died{last}; to settle it: whimbrel resolve {shlex.quote(str(log))}"
