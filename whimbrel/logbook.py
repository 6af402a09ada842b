"""Reports out of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from whimbrel.engine.errors import BadInput
from whimbrel.engine.report import CompletedReport
from whimbrel.qmp_driver.journal import is_held, read


def report_of(log: Path) -> CompletedReport:
    """The report that a log ends with.

    Raises:
        BadInput: no log, or one of a migration that has not ended (its phase and owner are named).
        WhimbrelError: the log is damaged.
    """
    where: dict[str, Any] = {}
    for line in read(log):
        if line["kind"] == "end":
            return msgspec.convert(line["report"], CompletedReport, strict=False)
        if line["kind"] == "step":
            where = line
    state = "is still under way" if is_held(log) else "was left by a manager that died"
    last = f"; last seen in {where['phase']}, owner {where['owner']}" if where else ""
    raise BadInput("log", str(log), f"the log of a migration that has ended (this one {state}{last})")
