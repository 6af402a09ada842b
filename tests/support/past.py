"""Logs of migrations that have ended, as far as others learn from them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.support.predictions import MOVED, PREDICTION
from whimbrel.engine.aftermath import with_comparison
from whimbrel.engine.belief import Kind
from whimbrel.engine.prediction import Prediction
from whimbrel.engine.report import CompletedReport
from whimbrel.qmp_driver.journal import FORMAT, Journal

KIND = Kind(machine="pc-q35-7.2", ram_bytes=512 << 20, vcpus=2, accelerator="tcg", version=(7, 2, 22))


def told(kind: Kind = KIND, source: str = "here", destination: str = "there") -> dict[str, Any]:
    """The facts of a report between these hosts."""
    side = asdict(kind) | {"version": list(kind.version), "host": source}
    return {"source": side, "destination": {"host": destination}}


def moved(
    prediction: Prediction | None = PREDICTION, facts: dict[str, Any] | None = None, **changes: Any
) -> CompletedReport:
    """A migration that moved its guest, with these changes, compared with its prediction."""
    report = replace(MOVED, facts=told() if facts is None else facts, **changes)
    return with_comparison(report, prediction)


def write(path: Path, report: CompletedReport, started_s: float = 1000.0, stream: str = "10.0.0.2") -> None:
    """Its log."""
    journal = Journal.create(path)
    header = {"format": FORMAT, "started_wall_s": started_s, "policy": "fixed", "options": {"host": stream}}
    journal.write("header", 0, started_s, **header)
    journal.write("end", 2, started_s, report=asdict(report))
    journal.close()
