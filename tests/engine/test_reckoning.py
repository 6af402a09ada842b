"""What the report's figures are made of is gathered while the migration runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.predictions import MOVED, PREDICTION
from whimbrel.engine.aftermath import NOTHING_PREDICTED
from whimbrel.engine.reckoning import Reckoning
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.states import Phase
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Downtime, Mark

MARKS = {
    Mark.SOURCE_STOP: 10.0,
    Mark.SOURCE_PRE_SWITCHOVER: 10.01,
    Mark.CONTINUE_SENT: 10.02,
    Mark.DESTINATION_COMPLETED: 10.12,
    Mark.CONT_SENT: 10.13,
    Mark.DESTINATION_RESUME: 10.14,
}
BARE = replace(MOVED, stages=(), downtime=None, link=None)
SECOND = 1_000_000_000


def seen(at_s: float, sent: int, status: str = "active", iteration: int = 2) -> Statistics:
    """An answer of QEMU's, at 1 MB/s, with something left."""
    return Statistics(
        at_ns=0, status=status, iteration=iteration, transferred_bytes=sent, remaining_bytes=1, qemu_total_s=at_s,
        bandwidth_bytes_per_s=1e6,
    )  # fmt: skip


def told(*answers: Statistics, report: CompletedReport = BARE, stop_after: int = 1) -> CompletedReport:
    """The report of a migration that answered so, and was stopped after so many answers."""
    reckoning = Reckoning(marks=dict(MARKS))
    reckoning.enter(Phase.PRECOPY, 0)
    for number, answer in enumerate(answers, 1):
        reckoning.see(answer)
        if number == stop_after:
            reckoning.enter(Phase.SWITCHOVER, 10 * SECOND)
    return reckoning.into(report, cap_bytes_per_s=0, foreseen=True)


def test_a_stage_takes_as_long_as_its_phases_together() -> None:
    reckoning = Reckoning()
    for at_s, phase in enumerate((Phase.PREFLIGHT, Phase.PREPARING, Phase.PRECOPY, Phase.RESOLVING, Phase.PRECOPY)):
        reckoning.enter(phase, at_s * SECOND)
    reckoning.enter(Phase.CANCELLED, 10 * SECOND)
    report = reckoning.into(replace(BARE, outcome="cancelled"), cap_bytes_per_s=0, foreseen=True)
    assert [(each.stage, each.name, each.seconds) for each in report.stages] == [
        (1, "prepare the destination", 2.0), (2, "transfer", 7.0)
    ]  # fmt: skip


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
    assert report.downtime is not None
    assert report.downtime.last_ram_s == 0.0


def test_one_that_was_never_seen_to_send_anything_has_an_outage_all_the_same() -> None:
    report = told()
    assert report.downtime is not None
    assert report.downtime.last_ram_s == 0.0


def test_one_that_did_not_move_its_guest_has_no_outage_and_shows_no_link() -> None:
    report = told(seen(1, 10**9), report=replace(BARE, outcome="failed"))
    assert (report.downtime, report.link) == (None, None)


HANDED = replace(seen(2, 1_050_000, "device"), remaining_bytes=0, at_ns=40_000_000)


def handed(*answers: Statistics, continued_ns: int = 10_000_000) -> Downtime:
    """The outage of a migration that was told to go on then, and answered so."""
    reckoning = Reckoning()
    for mark, wall_s in MARKS.items():
        reckoning.mark(mark, wall_s, continued_ns)
    for answer in answers:
        reckoning.see(answer)
    downtime = reckoning.into(BARE, cap_bytes_per_s=0, foreseen=True).downtime
    assert downtime is not None
    return downtime


def test_an_answer_that_waited_for_the_hand_over_shows_when_the_last_page_went() -> None:
    outage = handed(HANDED)
    assert outage.measured
    assert (outage.last_ram_s, outage.device_state_s) == pytest.approx((0.03, 0.07))


def test_the_first_such_answer_counts_and_one_with_something_left_does_not() -> None:
    outage = handed(replace(HANDED, remaining_bytes=1, at_ns=20_000_000), HANDED, replace(HANDED, at_ns=50_000_000))
    assert outage.last_ram_s == pytest.approx(0.03)


def test_one_that_came_too_late_is_no_moment_of_the_outage() -> None:
    assert not handed(replace(HANDED, at_ns=150_000_000)).measured


def test_a_second_go_forgets_the_first() -> None:
    reckoning = Reckoning()
    reckoning.mark(Mark.CONTINUE_SENT, 1.0, 0)
    reckoning.see(HANDED)
    for mark, wall_s in MARKS.items():
        reckoning.mark(mark, wall_s, 10**9)
    downtime = reckoning.into(BARE, cap_bytes_per_s=0, foreseen=True).downtime
    assert downtime is not None
    assert not downtime.measured


def test_what_is_predicted_is_told_once_and_compared_at_the_end() -> None:
    reckoning = Reckoning(marks=dict(MARKS))
    assert reckoning.into(BARE, cap_bytes_per_s=0, foreseen=True).off == NOTHING_PREDICTED
    assert reckoning.into(BARE, cap_bytes_per_s=0, foreseen=False).off == ""
    for at_s, phase in ((0, Phase.PRECOPY), (10, Phase.SWITCHOVER)):
        reckoning.enter(phase, at_s * SECOND)
    reckoning.predict(PREDICTION)
    assert (reckoning.made(), reckoning.made()) == ([PREDICTION], [])
    report = reckoning.into(BARE, cap_bytes_per_s=0, foreseen=True)
    assert report.prediction == PREDICTION
    assert [each.name for each in report.compared][:2] == ["total", "downtime"]
