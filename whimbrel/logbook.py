"""Reports out of logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.report import CompletedReport
from whimbrel.qmp_driver.journal import is_held, read


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


def _look(log: Path) -> tuple[CompletedReport | None, str]:
    """The report, if there is one, and how the migration stands, as the end of a sentence."""
    if os.path.exists(log) and not os.path.isfile(log):
        raise BadInput("log", str(log), "a file")  # a pipe would keep us waiting
    where: dict[str, Any] = {}
    try:
        for line in read(log):
            if line.get("kind") == "end":
                finished = msgspec.convert(line.get("report"), CompletedReport, strict=False)
                return finished, f"{finished.outcome}, and the guest belongs to: {finished.owner}"
            if line.get("kind") == "step":
                where = line
    except BadInput:
        raise
    except (WhimbrelError, msgspec.ValidationError) as error:
        raise BadInput("log", str(log), f"a log that is whole ({error})") from error
    state = "is still under way" if is_held(log) else "was left by a manager that died"
    return None, state + (f"; last seen in {where.get('phase')}, owner {where.get('owner')}" if where else "")
