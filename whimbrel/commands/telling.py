"""How the end of a migration is told."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from whimbrel import render
from whimbrel.engine.report import CompletedReport
from whimbrel.live import print_json


def tell(finished: CompletedReport, log: Path | None, as_json: bool, console: Console) -> None:
    """Print a report, for people on the console or as one object on standard output, and where its log is."""
    if as_json:
        print_json(asdict(finished) | {"log": str(log or "")})
    else:
        console.print(render.report(finished))
        console.print(f"log: {log}", soft_wrap=True)
