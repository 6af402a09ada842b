"""Reports are values that do not change, and turn into plain data."""

from __future__ import annotations

import dataclasses
import json

import pytest

from whimbrel.engine.report import CompletedReport, OngoingReport, StageTime
from whimbrel.engine.statistics import Iteration
from whimbrel.engine.timeline import Downtime


def completed(outcome: str = "completed") -> CompletedReport:
    return CompletedReport(outcome=outcome, owner="destination", guest="running", why="moved", total_s=1.5)


@pytest.mark.parametrize(("outcome", "moved"), [("completed", True), ("cancelled", False), ("failed", False)])
def test_moved_is_completed_and_nothing_else(outcome: str, moved: bool) -> None:
    assert completed(outcome).moved is moved


def test_a_report_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(completed(), "outcome", "failed")  # noqa: B010 - the type checkers refuse it already


def test_the_whole_of_it_is_plain_data() -> None:
    """The log and ``--json`` write it as it stands."""
    report = dataclasses.replace(
        completed(),
        stages=(StageTime(stage=1, name="prepare the destination", seconds=0.5),),
        downtime=Downtime(
            total_s=0.3, stop_s=0.05, drain_s=0.05, last_ram_s=0.05, device_state_s=0.05, load_s=0.05, resume_s=0.05
        ),
        iterations=(
            Iteration(
                number=1, started_ns=0, ended_ns=1, remaining_at_start_bytes=2, remaining_at_end_bytes=1, sent_bytes=1,
                dirtied_bytes=0,
            ),
        ),
        facts={"uri": "tcp:127.0.0.1:1"},
        notes=("a note",),
    )  # fmt: skip
    again = json.loads(json.dumps(dataclasses.asdict(report)))
    assert again["stages"] == [{"stage": 1, "name": "prepare the destination", "seconds": 0.5}]
    assert again["downtime"]["total_s"] == 0.3
    assert again["iterations"][0]["number"] == 1
    glance = OngoingReport(phase="precopy", stage=2, stage_name="transfer", owner="source", elapsed_s=1.0)
    assert json.loads(json.dumps(dataclasses.asdict(glance)))["knobs"]["downtime_limit_s"] == 0.3
