"""A report says what was predicted, what came of it, and what was off."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.predictions import MOVED, OUTAGE, PREDICTION, PREDICTIONS, around, compared, iterated
from whimbrel.engine.aftermath import (
    AS_PREDICTED,
    NOTHING_PREDICTED,
    actual,
    compare,
    link_seen,
    what_was_off,
    with_comparison,
)
from whimbrel.engine.estimate import Range
from whimbrel.engine.prediction import COMPONENTS, Prediction
from whimbrel.engine.report import CompletedReport, LinkSeen, StageTime
from whimbrel.engine.timeline import Downtime

TIMES = st.floats(0.0, 1e4)


def outage(*items: float) -> Downtime:
    """One of these items, which add up."""
    stop, drain, last_ram, device, load, resume = items
    return Downtime(
        total_s=sum(items), stop_s=stop, drain_s=drain, last_ram_s=last_ram, device_state_s=device, load_s=load,
        resume_s=resume,
    )  # fmt: skip


REPORTS = st.builds(
    replace,
    st.just(MOVED),
    stages=st.lists(TIMES, min_size=5, max_size=5).map(
        lambda seconds: tuple(StageTime(stage=n, name="", seconds=each) for n, each in enumerate(seconds, 1))
    ),
    downtime=st.none() | st.builds(outage, *([TIMES] * 6)),
    link=st.none() | st.builds(LinkSeen, bandwidth_bytes_per_s=st.floats(1.0, 1e11), capped=st.booleans()),
)


# ---- what came of it


def test_each_figure_is_made_of_the_stages_and_the_items_of_the_outage() -> None:
    came = actual(MOVED)
    assert came == pytest.approx(
        {
            "transferred": 1e9,
            "preparation": 0.1,
            "iterations": 9.8,  # stage 2 but for the guest's stop
            "last_ram": 0.1,
            "device_state": 0.06,
            "fixed": 0.04,
            "downtime": 0.2,
            "total": 10.0,
            "iteration_count": 4.0,  # the fifth began when the guest stood still
        }
    )


@given(REPORTS)
def test_the_components_add_up_to_the_whole(report: CompletedReport) -> None:
    came = actual(report)
    assert all(value >= 0 for value in came.values())
    if report.downtime is None:
        assert came["total"] == pytest.approx(sum(each.seconds for each in report.stages[1:4]))
    else:
        assert sum(came[name] for name in COMPONENTS[1:]) == pytest.approx(came["total"])
        assert sum(came[name] for name in ("last_ram", "device_state", "fixed")) == pytest.approx(came["downtime"])


def test_a_guest_that_stood_paused_has_no_outage() -> None:
    came = actual(replace(MOVED, downtime=None))
    assert came["total"] == pytest.approx(9.99)
    assert came["iteration_count"] == 5
    assert not {"downtime", "last_ram", "device_state", "fixed"} & came.keys()


def test_of_a_report_without_stages_only_the_bytes_are_known() -> None:
    assert actual(replace(MOVED, stages=())) == {"transferred": 1e9}


def test_one_that_ended_in_its_first_iteration_had_one() -> None:
    assert actual(replace(MOVED, iterations=()))["iteration_count"] == 1
    assert actual(replace(MOVED, iterations=(), downtime=None))["iteration_count"] == 1


# ---- predicted and actual


def test_figures_stand_in_a_fixed_order_with_how_far_they_were_off() -> None:
    report = compared(ram_transferred_bytes=1_050_000_000)
    assert [each.name for each in report.compared] == [
        "total", "downtime", "transferred", "iteration_count", *COMPONENTS
    ]  # fmt: skip
    assert {each.name: each.unit for each in report.compared if each.unit != "s"} == {
        "transferred": "bytes", "iteration_count": ""
    }  # fmt: skip
    sent = next(each for each in report.compared if each.name == "transferred")
    assert sent.off == pytest.approx(0.05)
    assert (sent.within, sent.actual) == (True, 1.05e9)
    assert report.prediction == PREDICTION
    assert report.off == AS_PREDICTED


@given(PREDICTIONS, REPORTS)
@example(replace(PREDICTION, transferred_bytes=Range(0.0, 1.1e-308, math.inf)), MOVED)
def test_whatever_was_predicted_can_be_compared(prediction: Prediction, report: CompletedReport) -> None:
    finished = with_comparison(report, prediction)
    assert finished.prediction is prediction
    for each in finished.compared:
        assert each.within == (each.predicted.low <= each.actual <= each.predicted.high)
        middle = each.predicted.middle  # one next to nothing is as good as none: what came is infinitely often that
        assert (each.off is None) == (middle in (0.0, math.inf) or each.actual / middle == math.inf)
    assert (finished.off == AS_PREDICTED) == all(
        each.within for each in finished.compared if each.name in ("total", "downtime", "transferred")
    )


def test_what_was_not_predicted_or_is_not_known_is_not_compared() -> None:
    some = replace(PREDICTION, iterations=None, components={"fixed": around(0.04)})
    names = [each.name for each in compare(some, {"total": 1.0, "fixed": 0.1, "iterations": 2.0})]
    assert names == ["total", "fixed"]


# ---- what was off


def late(**items: float) -> str:
    """What is said of an outage with these items instead."""
    last_ram_s = items.get("last_ram_s", OUTAGE.last_ram_s)
    device_state_s = items.get("device_state_s", OUTAGE.device_state_s)
    total_s = OUTAGE.total_s + last_ram_s + device_state_s - OUTAGE.last_ram_s - OUTAGE.device_state_s
    changed = replace(OUTAGE, total_s=total_s, last_ram_s=last_ram_s, device_state_s=device_state_s)
    return compared(downtime=changed).off


def test_the_component_that_is_to_blame_is_named() -> None:
    assert late(device_state_s=0.09) == "downtime 30 ms longer than predicted: device state +30 ms"
    assert late(device_state_s=0.09, last_ram_s=0.12) == (
        "downtime 50 ms longer than predicted: device state +30 ms, last ram +20 ms"
    )
    assert late(last_ram_s=0.07) == "downtime 30 ms shorter than predicted: last ram -30 ms"


def test_a_component_that_went_the_other_way_is_not_to_blame() -> None:
    assert late(device_state_s=0.12, last_ram_s=0.08) == (
        "downtime 40 ms longer than predicted: device state +60 ms"
    )  # fmt: skip


def test_time_and_bytes_are_told_in_their_units() -> None:
    stages = tuple(replace(each, seconds=12.81) if each.stage == 2 else each for each in MOVED.stages)
    report = compared(stages=stages, ram_transferred_bytes=1_209_715_200, iterations=iterated(0.1))
    assert report.off == (
        "time 3 s longer than predicted: iterations +3 s; bytes 200 MiB more than predicted"
    )  # fmt: skip
    assert compared(ram_transferred_bytes=790_284_800).off == "bytes 200 MiB less than predicted"


def test_an_end_that_nobody_expected_is_said_to_be_one() -> None:
    never = replace(PREDICTION, total_s=replace(PREDICTION.total_s, low=math.inf, middle=math.inf, high=math.inf))
    finished = with_comparison(MOVED, never)
    assert finished.off == "time 10 s, where no end was predicted"
    assert finished.compared[0].off is None


def test_a_component_without_an_end_explains_nothing() -> None:
    endless = replace(PREDICTION.total_s, low=math.inf, middle=math.inf, high=math.inf)
    told = replace(PREDICTION, total_s=around(5.0), components={"iterations": endless})
    assert with_comparison(MOVED, told).off == "time 5 s longer than predicted"


def test_nothing_compared_is_nothing_off() -> None:
    assert what_was_off(()) == AS_PREDICTED


# ---- nothing to compare


@pytest.mark.parametrize(("outcome", "words"), [("cancelled", "was called off"), ("failed", "failed")])
def test_one_that_did_not_move_its_guest_keeps_its_prediction_and_compares_nothing(outcome: str, words: str) -> None:
    report = with_comparison(replace(MOVED, outcome=outcome), PREDICTION)
    assert (report.prediction, report.compared) == (PREDICTION, ())
    assert report.off == f"there is nothing to hold the prediction against: it {words}"


def test_one_that_nothing_was_predicted_of_says_why() -> None:
    assert with_comparison(MOVED, None).off == ""
    assert with_comparison(MOVED, None, why_none=NOTHING_PREDICTED).off == NOTHING_PREDICTED
    assert with_comparison(replace(MOVED, outcome="failed"), None, why_none=NOTHING_PREDICTED).off == ""


# ---- the link


def test_the_bandwidth_is_all_bytes_over_the_time_that_they_took() -> None:
    seen = link_seen(replace(MOVED, link=None), 0)
    assert seen is not None
    assert seen.bandwidth_bytes_per_s == pytest.approx(1e9 / 9.9)
    assert not seen.capped


@pytest.mark.parametrize(("cap_bytes_per_s", "capped"), [(105_000_000, True), (500_000_000, False), (0, False)])
def test_a_sender_that_comes_to_its_cap_is_held_up_by_it(cap_bytes_per_s: int, capped: bool) -> None:
    seen = link_seen(replace(MOVED, link=None), cap_bytes_per_s)
    assert seen is not None
    assert seen.capped is capped


def test_a_guest_that_stood_paused_shows_the_link_too() -> None:
    seen = link_seen(replace(MOVED, link=None, downtime=None), 0)
    assert seen is not None
    assert seen.bandwidth_bytes_per_s == pytest.approx(1e9 / 9.81)


@pytest.mark.parametrize(
    "report",
    [
        replace(MOVED, outcome="failed"),
        replace(MOVED, postcopy=True),
        replace(MOVED, ram_transferred_bytes=10**8),
        replace(MOVED, stages=(StageTime(stage=2, name="", seconds=0.3),)),
    ],
)
def test_what_was_short_or_hardly_sent_anything_or_went_on_after_it_tells_nothing_of_the_link(
    report: CompletedReport,
) -> None:
    assert link_seen(report, 0) is None
