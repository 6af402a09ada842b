"""Earlier migrations teach what the next one costs, and how good predictions have been."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.past import KIND, moved, told, write
from tests.support.predictions import MOVED, OUTAGE, PREDICTION, around
from whimbrel.calibration import (
    LEAST_PIPE_BYTES,
    LEAST_SCATTER,
    MOST_OFF,
    MOST_WORTH,
    Hosts,
    Past,
    calibrations,
    learn,
    pasts,
    qualities,
    typical,
)
from whimbrel.engine.belief import MODEL_DOWNTIME, Typical, outage_error
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.prediction import FIRST_ITERATION
from whimbrel.engine.report import CompletedReport, LinkSeen

HOSTS = Hosts("here", "there")
QUICK = replace(OUTAGE, total_s=0.02, stop_s=0.001, drain_s=0.001, last_ram_s=0.002, device_state_s=0.012,
                load_s=0.003, resume_s=0.001)  # fmt: skip
NEAR = LinkSeen(bandwidth_bytes_per_s=1e9, capped=False)


def past(report: CompletedReport, hosts: Hosts = HOSTS, **kind: Any) -> Past:
    """A migration of the kind, but for these."""
    return Past(started_wall_s=0.0, hosts=hosts, kind=replace(KIND, **kind), report=report)


def learnt(*reports: CompletedReport) -> Typical:
    """What these teach about one just like them."""
    return learn([past(report) for report in reports], HOSTS, KIND)


def slower(part: float, **changes: Any) -> CompletedReport:
    """One whose iterations took longer than predicted by so much of the whole."""
    stages = tuple(replace(each, seconds=9.81 + 10 * part) if each.stage == 2 else each for each in MOVED.stages)
    return moved(stages=stages, **changes)


def sure(estimate: Estimate | None) -> Estimate:
    """One that is there."""
    assert estimate is not None
    return estimate


# ---- reading


def test_a_migration_is_known_by_its_hosts_and_its_kind_of_guest(tmp_path: Path) -> None:
    write(tmp_path / "log", moved(), started_s=5.0)
    (found,) = pasts(tmp_path)
    assert (found.hosts, found.kind, found.started_wall_s) == (Hosts("here", "there", "10.0.0.2"), KIND, 5.0)
    assert found.report == moved()


def test_only_what_moved_its_guest_and_says_which_teaches_anything(tmp_path: Path) -> None:
    old = {"source": {"machine": "pc-q35-7.2", "run_state": "running", "ram_bytes": 1}, "destination": {}}
    write(tmp_path / "old", moved(facts=old))
    write(tmp_path / "bare", moved(facts={}))
    write(tmp_path / "failed", moved(outcome="failed"))
    write(tmp_path / "good", moved())
    (tmp_path / "noise.jsonl").write_text("noise\n")
    (tmp_path / "damaged").write_text((tmp_path / "good").read_text().replace('"total_s":10.2', '"total_s":[]'))
    (tmp_path / "running").write_text((tmp_path / "good").read_text().splitlines()[0] + "\n")
    assert len(pasts(tmp_path)) == 1
    assert len(list(tmp_path.iterdir())) == 7


def test_the_newest_come_first_and_only_so_many_are_looked_at(tmp_path: Path) -> None:
    for started_s in (1.0, 3.0, 2.0):
        write(tmp_path / f"{started_s}", moved(), started_s=started_s)
    assert [each.started_wall_s for each in pasts(tmp_path, 2)] == [3.0, 2.0]


def test_a_folder_that_is_not_there_teaches_nothing(tmp_path: Path) -> None:
    assert typical(tmp_path / "none", KIND) == Typical()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="folder"):
        typical(tmp_path / "file", KIND)


def test_hosts_that_are_not_named_are_this_one(tmp_path: Path) -> None:
    here = os.uname().nodename
    write(tmp_path / "log", moved(facts=told(source=here, destination=here)))
    assert typical(tmp_path, KIND).preparation_s is not None
    assert typical(tmp_path, KIND, "elsewhere").preparation_s is None
    assert typical(tmp_path, KIND, source_host="elsewhere").preparation_s is None
    assert typical(tmp_path, KIND, "").preparation_s is None, "one that nobody knows may be anywhere"


def test_a_thousand_logs_take_about_a_second(tmp_path: Path) -> None:
    write(tmp_path / "0.jsonl", moved())
    whole = (tmp_path / "0.jsonl").read_bytes()
    for number in range(1, 1000):
        (tmp_path / f"{number}.jsonl").write_bytes(whole)
    began_s = time.process_time()
    assert typical(tmp_path, KIND).model_time is not None
    assert time.process_time() - began_s < 3.0


# ---- what a migration costs


def after_the_last_ram(seconds: float, **changes: Any) -> CompletedReport:
    """One whose destination had everything so long after the last page."""
    outage = replace(QUICK, device_state_s=seconds, total_s=QUICK.total_s - QUICK.device_state_s + seconds, **changes)
    return moved(downtime=outage, link=NEAR)


def test_the_costs_are_those_of_the_last_ones() -> None:
    one = learnt(moved(downtime=QUICK, link=NEAR))
    assert sure(one.fixed_s).value == pytest.approx(0.018)
    assert sure(one.preparation_s).value == pytest.approx(0.1)
    assert sure(one.bandwidth_bytes_per_s).value == pytest.approx(1e9)
    assert one.device_state_part == pytest.approx(0.012 / 0.018)
    assert sure(one.fixed_s).source == "from 1 migration"
    many = learnt(*[moved(downtime=QUICK, link=NEAR)] * 20)
    assert sure(many.fixed_s).source == "from 20 migrations"
    assert sure(many.fixed_s).spread < sure(one.fixed_s).spread


def test_what_the_shortest_needed_after_the_last_page_is_the_device_state_and_the_rest_the_pipe() -> None:
    told = learnt(*(after_the_last_ram(seconds) for seconds in (0.004, 0.004, 0.024, 0.024, 0.024, 0.024)))
    assert sure(told.fixed_s).value == pytest.approx(0.006 + 0.004)
    assert sure(told.pipe_bytes).value == pytest.approx(0.02 * 1e9, rel=1.0)
    assert sure(learnt(after_the_last_ram(0.004)).pipe_bytes).value == pytest.approx(LEAST_PIPE_BYTES)


def test_where_the_last_pages_end_was_not_seen_a_long_one_hides_what_came_after_it() -> None:
    hidden = replace(OUTAGE, measured=False)
    alone = learnt(moved(downtime=hidden))
    assert (alone.fixed_s, alone.pipe_bytes, alone.device_state_part) == (None, None, None)
    both = learnt(moved(downtime=hidden), after_the_last_ram(0.004))
    assert sure(both.fixed_s).source == "from 2 migrations", "all else of it is measured"
    guessed = learnt(after_the_last_ram(0.012, measured=False))
    assert sure(guessed.fixed_s).value == pytest.approx(0.018), "the guess is small beside it"


def test_postcopy_and_a_guest_that_stood_paused_tell_nothing_of_a_switchover() -> None:
    assert learnt(moved(downtime=QUICK, link=NEAR, postcopy=True)).fixed_s is None
    assert learnt(moved(downtime=None, link=NEAR)).fixed_s is None


def test_a_cap_tells_nothing_of_the_link() -> None:
    capped = learnt(moved(link=replace(NEAR, capped=True)))
    assert (capped.bandwidth_bytes_per_s, capped.pipe_bytes) == (None, None)


def test_other_hosts_teach_nothing_of_costs_but_of_the_model() -> None:
    elsewhere = learn([past(slower(0.1), Hosts("here", "elsewhere"))], HOSTS, KIND)
    assert (elsewhere.preparation_s, elsewhere.bandwidth_bytes_per_s) == (None, None)
    assert sure(elsewhere.model_time).value > 1.0
    unlike = learn([past(slower(0.1), accelerator="kvm")], HOSTS, KIND)
    assert unlike == Typical(), "another accelerator is another world"


def test_the_address_of_the_stream_counts_where_it_is_known() -> None:
    by_another = past(moved(), Hosts("here", "there", "10.1.0.2"))
    assert learn([by_another], HOSTS, KIND).bandwidth_bytes_per_s is not None
    assert learn([by_another], Hosts("here", "there", "10.0.0.2"), KIND).bandwidth_bytes_per_s is None


def test_those_that_are_less_alike_count_less_and_together_as_no_more_than_a_few() -> None:
    other, alike = past(slower(0.2), ram_bytes=8 << 30), past(slower(0.0))
    few = learn([other], HOSTS, KIND).model_time
    same = learn([past(slower(0.2))], HOSTS, KIND).model_time
    assert 1.0 < sure(few).value < sure(same).value
    mixed = learn([other] * 40 + [alike] * 20, HOSTS, KIND).model_time
    assert 1.0 < sure(mixed).value < 1.0 + 0.2 * MOST_WORTH[1] / (MOST_WORTH[1] + 20)


def test_guests_of_about_the_same_size_are_of_one_kind() -> None:
    near, far = (learn([past(slower(0.2), ram_bytes=n << 20)], HOSTS, KIND).model_time for n in (500, 800))
    same = learn([past(slower(0.2))], HOSTS, KIND).model_time
    assert near == same != far


# ---- what the model is off by


def test_what_the_model_is_off_by_is_learnt_from_what_was_planned() -> None:
    told = learnt(*[slower(0.1)] * 30)
    assert sure(told.model_time).value == pytest.approx(1.1, rel=0.02)
    assert sure(told.model_bytes).value == pytest.approx(1.0)
    later = replace(PREDICTION, basis=FIRST_ITERATION)
    assert learnt(slower(0.1, prediction=later)).model_time is None, "a forecast under way is another model's"
    assert learnt(slower(0.1, prediction=None)).model_time is None


def test_what_it_was_thought_to_be_off_by_is_taken_out_again() -> None:
    """Else a model that was set right once would be found right, and unlearn it."""
    right = replace(PREDICTION, total_s=around(10.0, 0.05), model={"time": Estimate(1.2, 0.03)})
    told = learnt(*[moved(right)] * 30).model_time
    assert sure(told).value == pytest.approx(1.2, rel=0.02)


def test_scatter_that_was_foreseen_is_not_the_models() -> None:
    """A link that was known to a fifth only explains an error of a tenth."""
    narrow = [moved(replace(PREDICTION, total_s=around(10.0 + off, 0.001))) for off in (-1.0, 1.0) for _ in range(10)]
    wide = [moved(replace(PREDICTION, total_s=around(10.0 + off, 0.3))) for off in (-1.0, 1.0) for _ in range(10)]
    one, other = learnt(*narrow).model_time, learnt(*wide).model_time
    assert sure(one).spread > 0.08
    assert sure(other).spread < 0.03


def test_however_well_outages_were_foreseen_what_no_prediction_can_know_of_the_next_remains() -> None:
    told = learnt(*[moved()] * 60)
    assert sure(told.model_downtime).spread == LEAST_SCATTER["downtime"] > 0.1
    assert sure(told.model_time).spread < LEAST_SCATTER["downtime"] / 5


def test_a_long_outage_counts_as_what_a_short_one_would_be_off_by() -> None:
    long = replace(PREDICTION, downtime_s=around(0.1 / 0.5, 0.001))
    outage = replace(OUTAGE, total_s=0.2 * 1.1, device_state_s=0.08)
    told = learnt(*[moved(long, downtime=outage)] * 60).model_downtime
    assert outage_error(0.2) == 0.5
    assert sure(told).value == pytest.approx(1.1**2, rel=0.03)
    assert sure(told).spread < MODEL_DOWNTIME.spread


@pytest.mark.parametrize(
    "prediction",
    [
        replace(PREDICTION, total_s=Range(0.0, 0.0, 0.0), downtime_s=Range(0.0, 0.0, 1.0)),
        replace(PREDICTION, total_s=Range(10.0, float("inf"), float("inf")), downtime_s=Range(0.0, 0.2, 1.0)),
    ],
)
def test_predictions_without_a_size_or_an_end_can_be_learnt_from_or_not(prediction: Any) -> None:
    told = learnt(moved(prediction))
    assert told.model_time is None
    assert (told.model_downtime is None) == (prediction.downtime_s.middle == 0)


def test_one_that_went_wholly_wrong_is_not_taken_at_its_word() -> None:
    """A long outage that came to a tenth would make a short one a thousandth."""
    told = learnt(moved(downtime=replace(OUTAGE, total_s=0.02))).model_downtime
    assert sure(told).value > MOST_OFF**-0.6


@pytest.mark.parametrize("part", [0.1, 10.0])
def test_an_outage_of_minutes_that_was_far_off_can_be_learnt_from(part: float) -> None:
    """One that nothing may be learnt of would stand in the way of every plan to come."""
    minutes = replace(PREDICTION, downtime_s=around(160.0))
    told = learnt(moved(minutes, downtime=replace(OUTAGE, total_s=160.0 * part))).model_downtime
    assert 1 / MOST_OFF <= sure(told).value <= MOST_OFF


def test_the_less_a_range_said_the_less_an_error_beyond_its_middle_tells() -> None:
    """One that was open at an end, or at both."""
    ends = [(9.9, 10.1), (5.0, 20.0), (5.0, math.inf), (0.0, 20.0), (0.0, math.inf)]
    told = [
        sure(learnt(slower(0.2, prediction=replace(PREDICTION, total_s=Range(low, 10.0, high)))).model_time).value
        for low, high in ends
    ]
    assert told[0] > 1.05
    assert told[1] == pytest.approx(told[2]) == pytest.approx(told[3])
    assert 1.0 < told[4] < told[1] < told[0]


def test_an_actual_of_nothing_is_no_factor() -> None:
    assert learnt(moved(ram_transferred_bytes=0)).model_bytes is None


# ---- how good the predictions have been


def test_the_quality_of_predictions_is_told_by_figure_and_basis() -> None:
    later = replace(PREDICTION, basis=FIRST_ITERATION)
    found = qualities([slower(0.05), slower(0.2), slower(-0.05), slower(0.3, prediction=later), moved(None)])
    by_name = {(each.basis, each.figure): each for each in found}
    total = by_name["plan", "total"]
    assert (total.count, total.held) == (3, 2)
    assert total.median_error == pytest.approx(0.05)
    assert total.bias == pytest.approx(0.05)
    assert by_name[FIRST_ITERATION, "total"].count == 1
    assert by_name["plan", "fixed"].median_error == pytest.approx(0.0)
    idle = replace(PREDICTION, downtime_s=Range(0.0, 0.0, 1.0))
    assert "downtime" not in {each.figure for each in qualities([moved(idle)])}, "nothing is no measure"


def test_each_kind_between_each_two_hosts_stands_by_itself_the_newest_first(tmp_path: Path) -> None:
    other = replace(KIND, ram_bytes=8 << 30)
    write(tmp_path / "a", moved(), started_s=1.0)
    write(tmp_path / "b", moved(facts=told(replace(KIND, ram_bytes=500 << 20))), started_s=2.0)
    write(tmp_path / "c", moved(facts=told(other)), started_s=4.0)
    write(tmp_path / "d", moved(facts=told(destination="far")), started_s=3.0)
    found = calibrations(tmp_path)
    assert [(each.hosts.destination, each.kind.ram_bytes >> 20, each.migrations) for each in found] == [
        ("there", 8192, 1), ("far", 512, 1), ("there", 500, 2)
    ]  # fmt: skip
    assert found[2].typical.preparation_s is not None
    assert next(each for each in found[2].quality if each.figure == "total").count == 2
    assert asdict(found[0])["kind"]["version"] == (7, 2, 22)
