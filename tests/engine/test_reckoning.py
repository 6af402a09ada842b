"""What the report's figures are made of is gathered while the migration runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.predictions import MOVED, PREDICTION
from whimbrel.engine.aftermath import NOTHING_PREDICTED
from whimbrel.engine.reckoning import Reckoning
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Mark

MARKS = {
    Mark.SOURCE_STOP: 10.0,
    Mark.SOURCE_PRE_SWITCHOVER: 10.01,
    Mark.CONTINUE_SENT: 10.02,
    Mark.DESTINATION_COMPLETED: 10.12,
    Mark.CONT_SENT: 10.13,
    Mark.DESTINATION_RESUME: 10.14,
}
BARE = replace(MOVED, downtime=None, link=None)


def seen(at_s: float, sent: int, status: str = "active", iteration: int = 2) -> Statistics:
    """An answer of QEMU's, at 1 MB/s, with something left."""
    return Statistics(
        at_ns=0, status=status, iteration=iteration, transferred_bytes=sent, remaining_bytes=1, qemu_total_s=at_s,
        bandwidth_bytes_per_s=1e6,
    )  # fmt: skip


def told(*answers: Statistics, report: CompletedReport = BARE, stop_after: int = 1) -> CompletedReport:
    """The report of a migration that answered so, and was stopped after so many answers."""
    reckoning = Reckoning(marks=dict(MARKS))
    for number, answer in enumerate(answers, 1):
        reckoning.see(answer)
        if number == stop_after:
            reckoning.stop()
    return reckoning.into(report, cap_bytes_per_s=0, foreseen=True)


def test_what_was_sent_after_the_last_look_went_over_in_the_outage() -> None:
    report = told(seen(1, 1_000_000), seen(2, 1_050_000, "completed"))
    assert report.downtime is not None
    assert (report.downtime.last_ram_s, report.downtime.device_state_s) == pytest.approx((0.05, 0.05))


def test_a_look_at_the_guest_standing_still_knows_exactly_what_is_left() -> None:
    report = told(seen(1, 1_000_000), seen(1.1, 1_040_000, "pre-switchover"), seen(2, 1_050_000, "completed"))
    assert report.downtime is not None
    assert (report.downtime.last_ram_s, report.downtime.device_state_s) == pytest.approx((0.01, 0.09))


def test_in_postcopy_nothing_waits_for_the_memory() -> None:
    report = told(
        seen(1, 1_000_000), seen(2, 9_000_000, "completed"), report=replace(BARE, postcopy=True)
    )  # fmt: skip
    assert report.downtime is not None and report.downtime.last_ram_s == 0.0


def test_one_that_was_never_seen_to_send_anything_has_an_outage_all_the_same() -> None:
    report = told()
    assert report.downtime is not None and report.downtime.last_ram_s == 0.0


def test_one_that_did_not_move_its_guest_has_no_outage_and_shows_no_link() -> None:
    report = told(seen(1, 10**9), report=replace(BARE, outcome="failed"))
    assert (report.downtime, report.link) == (None, None)


def test_the_first_iteration_shows_how_deep_the_pipe_is() -> None:
    answers = [seen(tenth / 10, 5_000_000 + 10_000_000 * tenth, iteration=1) for tenth in range(1, 30)]
    report = told(*answers, seen(9.9, 10**9), stop_after=30)
    assert report.link is not None
    assert report.link.pipe_bytes == pytest.approx(1.3 * 5e6 + 0.005 * 1e8)
    blind = told(*(replace(each, qemu_total_s=None) for each in answers), seen(9.9, 10**9), stop_after=30)
    assert blind.link is not None and blind.link.pipe_bytes == 0.0, "the moment has to be known by QEMU's own clock"


def test_what_is_predicted_is_told_once_and_compared_at_the_end() -> None:
    reckoning = Reckoning(marks=dict(MARKS))
    assert reckoning.into(BARE, cap_bytes_per_s=0, foreseen=True).off == NOTHING_PREDICTED
    assert reckoning.into(BARE, cap_bytes_per_s=0, foreseen=False).off == ""
    reckoning.predict(PREDICTION)
    assert (reckoning.made(), reckoning.made()) == ([PREDICTION], [])
    report = reckoning.into(BARE, cap_bytes_per_s=0, foreseen=True)
    assert report.prediction == PREDICTION
    assert [each.name for each in report.compared][:2] == ["total", "downtime"]
