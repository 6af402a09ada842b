"""What the exit code of a command says."""

from __future__ import annotations

import pytest

from whimbrel.commands.codes import CANCELLED, FAILED, OK, UNSETTLED, exit_code
from whimbrel.engine.report import CompletedReport, StageTime


def ended(outcome: str, owner: str, guest: str, *, stage: int = 2) -> CompletedReport:
    """A report of a migration that came as far as a stage."""
    stages = tuple(StageTime(stage=each, name="", seconds=1.0) for each in range(1, stage + 1))
    return CompletedReport(outcome=outcome, owner=owner, guest=guest, why="", total_s=1.0, stages=stages)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (ended("completed", "destination", "running"), OK),
        (ended("completed", "destination", "paused"), OK),
        (ended("cancelled", "source", "running"), CANCELLED),
        (ended("cancelled", "source", "unconfirmed"), UNSETTLED),
        (ended("cancelled", "source", "unconfirmed", stage=1), CANCELLED),
        (ended("failed", "source", "running"), FAILED),
        (ended("failed", "source", "lost"), FAILED),
        (ended("failed", "limbo", "held"), UNSETTLED),
        (ended("failed", "destination", "unconfirmed"), UNSETTLED),
    ],
    ids=lambda value: f"{value.outcome}-{value.owner}-{value.guest}" if isinstance(value, CompletedReport) else "",
)
def test_the_exit_code_tells_how_it_ended(report: CompletedReport, code: int) -> None:
    """Called off before the source was even looked at: nothing was begun, so nothing is unsettled."""
    assert exit_code(report) == code
