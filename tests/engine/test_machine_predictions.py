"""The machine keeps what was predicted, tells it once for the log, and compares it at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import pytest

from tests.support.driving import SECOND, Drive, drive, nothing, to_precopy, to_the_end
from tests.support.predictions import PREDICTION, around
from whimbrel.engine import records
from whimbrel.engine.aftermath import NOTHING_PREDICTED
from whimbrel.engine.errors import BadInput
from whimbrel.engine.foresight import Basis, Outlook
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.machine import Machine, Marked, Measured, Sampled
from whimbrel.engine.policy import Knobs, Measurement, Objectives
from whimbrel.engine.prediction import FIRST_ITERATION, Prediction
from whimbrel.engine.replay import replay
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.signals import Signal
from whimbrel.engine.statistics import Ledger, Statistics
from whimbrel.engine.timeline import Mark

MIB = 1 << 20


def foreseeing(prediction: Prediction | None = None) -> Drive:
    """A machine that looks ahead."""
    foresight = Foresight(objectives=Objectives(), prediction=prediction)
    return Drive(Machine(policy=nothing, foresight=foresight, policy_name="fixed"))


def send(it: Drive, *, first_s: int = 10, more_s: int = 5) -> Drive:
    """100 MiB/s: all RAM in the first iteration, half as much in the second."""
    for tenth in range(1, 10 * (first_s + more_s)):
        at_s, sent = 4 + tenth / 10, 10 * MIB * tenth
        iteration, whole = (1, 100 * first_s * MIB) if tenth < 10 * first_s else (2, 100 * (first_s + more_s) * MIB)
        answer = Statistics(
            at_ns=round(at_s * SECOND),
            status="active",
            iteration=iteration,
            transferred_bytes=sent,
            remaining_bytes=whole - sent,
            total_bytes=100 * first_s * MIB,
            normal_pages=sent // 4096,
            bandwidth_bytes_per_s=100.0 * MIB,
            qemu_total_s=tenth / 10,
        )
        it.at(at_s, Sampled(answer)).machine.outlooks()
    return it


def report(it: Drive) -> CompletedReport:
    """Of one that has ended."""
    finished = it.machine.report()
    assert finished is not None
    return finished


def test_what_a_plan_predicted_is_told_at_the_start_and_compared_at_the_end() -> None:
    it = foreseeing(PREDICTION).at(0, Signal.START)
    assert it.machine.reckoning.made() == [PREDICTION]
    finished = report(to_the_end(foreseeing(PREDICTION)))
    assert finished.prediction == PREDICTION
    assert {each.name for each in finished.compared} >= {"total", "transferred", "preparation"}


def test_without_a_plan_the_forecast_after_the_first_iteration_is_the_prediction() -> None:
    it = send(to_precopy(foreseeing()))
    (made,) = it.machine.reckoning.made()
    assert (made.basis, made.policy) == (FIRST_ITERATION, "fixed")
    assert made.made_at_s == pytest.approx(11, abs=0.2), "it began at 3 s, and its first iteration ended at 14 s"
    assert made == it.machine.reckoning.prediction


def test_a_plan_is_not_replaced_by_what_is_seen_later() -> None:
    it = send(to_precopy(foreseeing(PREDICTION)))
    assert it.machine.reckoning.made() == [PREDICTION]


def test_one_that_ends_within_its_first_iteration_says_so() -> None:
    finished = report(to_the_end(foreseeing()))
    assert (finished.prediction, finished.compared, finished.off) == (None, (), NOTHING_PREDICTED)


def test_where_nobody_looks_ahead_nothing_is_missing() -> None:
    assert report(to_the_end(drive())).off == ""


def test_a_new_manager_compares_what_the_one_that_died_predicted() -> None:
    kind, fields = records.of_prediction(PREDICTION)
    told = replay([{"n": 1, "t_ns": 5, "kind": kind, **fields}], policy=nothing)
    assert told.machine.reckoning.prediction == PREDICTION
    assert told.machine.reckoning.made() == [], "the log has it"
    again = Machine(policy=nothing, foresight=Foresight(objectives=Objectives(), prediction=PREDICTION))
    again.recall(Marked(Mark.SOURCE_STOP, 1.0), 1)
    assert again.reckoning.marks == {Mark.SOURCE_STOP: 1.0}


def test_a_prediction_that_can_not_be_read_keeps_nobody_from_settling_the_migration() -> None:
    told = replay([{"n": 1, "t_ns": 5, "kind": "prediction", "basis": "plan"}], policy=nothing)
    assert told.machine.reckoning.prediction is None


def test_the_whole_of_a_compared_report_is_plain_data() -> None:
    told = asdict(report(to_the_end(foreseeing(PREDICTION))))
    assert told["prediction"]["total_s"] == {"low": 9.0, "middle": 10.0, "high": 11.0}
    assert told["compared"][0]["name"] == "total"


# ---- looking ahead


@dataclass(slots=True, kw_only=True)
class Oracle(Foresight):
    """Says what it was told to, and keeps what it was told."""

    told: Outlook | None = None
    heard: list[Measurement] = field(default_factory=list[Measurement])
    looks: int = 0

    def measured(self, measurements: Sequence[Measurement]) -> None:
        self.heard = list(measurements)

    def see(self, ledger: Ledger, knobs: Knobs) -> bool:
        self.looks += 1
        return False

    def outlook(
        self,
        ledger: Ledger,
        knobs: Knobs,
        at_s: float,
        *,
        asked_for: frozenset[str] = frozenset(),
        moved_s: float | None = None,
    ) -> Outlook | None:
        return self.told and replace(self.told, at_s=at_s)


OUTLOOK = Outlook(
    at_s=0.0,
    iteration=1,
    ends_s=around(10.0),
    downtime_s=around(0.2),
    transferred_bytes=around(1e9),
    meets=0.5,
    basis=Basis.LINK,
    news="no pre-copy will do",
)


def asking(told: Outlook | None) -> tuple[Oracle, Drive]:
    """A machine with one of these."""
    oracle = Oracle(objectives=Objectives(), told=told)
    return oracle, Drive(Machine(policy=nothing, foresight=oracle))


def through_precopy(it: Drive) -> Drive:
    """A move that goes well, with one look at its first stage."""
    to_precopy(it).sample(5).machine.outlooks()
    it.at(10, Signal.SOURCE_STOPPED, Signal.SOURCE_PRE_SWITCHOVER)
    it.at(11, Signal.QUIESCE_DONE, Signal.CONTINUE_DONE)
    it.at(12, Signal.SOURCE_DEVICE, Signal.DESTINATION_COMPLETED, Signal.SOURCE_COMPLETED)
    return it.at(13, Signal.CLAIM_DONE, Signal.DESTINATION_RUNNING).at(14, Signal.RELEASE_SOURCE_DONE)


def test_an_outlook_is_shown_and_told_once_and_its_news_is_a_note() -> None:
    _, it = asking(OUTLOOK)
    to_precopy(it).sample(5)
    (made,) = it.machine.outlooks()
    assert made.at_s == pytest.approx(2.0)
    assert it.machine.progress().outlook == made
    assert it.machine.outlooks() == []
    assert it.machine.reckoning.prediction is None, "what rests on the link alone is no prediction"
    assert report(through_precopy(asking(OUTLOOK)[1])).notes == ("no pre-copy will do",)


def test_without_one_there_is_nothing_to_show() -> None:
    _, it = asking(None)
    to_precopy(it).sample(5)
    assert (it.machine.outlooks(), it.machine.progress().outlook) == ([], None)
    assert to_precopy(drive()).sample(5).machine.outlooks() == []


@dataclass(slots=True, kw_only=True)
class Broken(Foresight):
    """A forecast with a defect; what it raises is an error of ours, which elsewhere means that the log is lost."""

    def see(self, ledger: Ledger, knobs: Knobs) -> bool:
        raise BadInput("points", 0, "one or more")


def test_one_that_fails_is_not_asked_again_and_the_guest_is_moved() -> None:
    finished = report(through_precopy(Drive(Machine(policy=nothing, foresight=Broken(objectives=Objectives())))))
    assert finished.outcome == "completed"
    (note,) = finished.notes
    assert note.startswith("no forecasts from here on, by an internal error: BadInput")


def test_one_that_fails_on_a_log_keeps_nobody_from_taking_over() -> None:
    it = to_precopy(Drive(Machine(policy=nothing, foresight=Broken(objectives=Objectives()))))
    it.machine.recall(Sampled(Statistics(at_ns=4 * SECOND, iteration=1)), 4 * SECOND)
    it.sample(5)
    assert it.machine.outlooks() == []
    assert it.machine.progress().outlook is None


def test_out_of_a_log_it_learns_and_says_nothing() -> None:
    oracle, it = asking(OUTLOOK)
    to_precopy(it)
    it.machine.recall(Sampled(Statistics(at_ns=5 * SECOND, iteration=1)), 5 * SECOND)
    assert (oracle.looks, it.machine.outlooks()) == (1, [])


def test_it_hears_what_was_measured_before_the_start() -> None:
    oracle, it = asking(None)
    measurement = Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=1e6)
    it.at(0, Signal.START).at(1, Measured((measurement,)))
    assert oracle.heard == [measurement]
