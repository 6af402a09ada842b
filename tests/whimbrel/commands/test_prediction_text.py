"""Predictions against what came of them, as people read them."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from tests.support.past import KIND, moved
from tests.support.predictions import MOVED, OUTAGE, PREDICTION, compared
from whimbrel.calibration import Calibration, Hosts, Quality
from whimbrel.commands.prediction_text import calibrations, comparison, percent
from whimbrel.engine.aftermath import NOTHING_PREDICTED, with_comparison
from whimbrel.engine.belief import Typical
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.prediction import FIRST_ITERATION
from whimbrel.render import history, report


def text(shown: RenderableType | None, width: int = 80) -> str:
    """As a terminal of this width has it."""
    assert shown is not None
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(shown)
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_every_figure_stands_beside_what_was_predicted_of_it() -> None:
    late = replace(OUTAGE, total_s=0.23, device_state_s=0.09)
    said = text(comparison(compared(downtime=late)))
    rows = {line[:30].strip(): line[30:].split() for line in said.splitlines()}
    assert "Predicted by the plan, against actual" in said
    assert rows["downtime"] == ["200ms", "180ms", "to", "220ms", "230ms", "+15%"]
    assert rows["pipe, device state, loading"][-2:] == ["90ms", "+50%"]
    assert rows["sent"] == ["954MiB", "858MiB", "to", "1.02GiB", "954MiB", "+0.0%"]
    assert said.rstrip().endswith("downtime 30 ms longer than predicted: device state +30 ms")
    assert said.count("iterations") == 2, "how many, and how long"
    assert max(map(len, said.splitlines())) <= 80


def test_a_prediction_that_was_made_on_the_way_says_when() -> None:
    early = replace(PREDICTION, basis=FIRST_ITERATION, made_at_s=3.5)
    assert "Predicted after the first iteration (3.5s), against actual" in text(comparison(moved(early)))


def test_what_has_no_end_is_never() -> None:
    never = replace(PREDICTION, total_s=Range(9.0, math.inf, math.inf))
    (row,) = (line for line in text(comparison(moved(never))).splitlines() if "until it ran there" in line)
    assert row.split()[4:] == ["never", "9s", "to", "never", "10s"]


def test_where_there_is_nothing_to_compare_it_says_why_or_nothing() -> None:
    assert comparison(MOVED) is None
    assert NOTHING_PREDICTED in text(comparison(with_comparison(MOVED, None, why_none=NOTHING_PREDICTED)))
    failed = text(comparison(moved(outcome="failed")))
    assert failed.strip() == "there is nothing to hold the prediction against: it failed"


def test_a_report_has_the_comparison_before_its_figures() -> None:
    said = text(report(moved()))
    assert said.index("Downtime by both") < said.index("Predicted by the plan") < said.index("decisions")
    assert "Predicted" not in text(report(MOVED))


@pytest.mark.parametrize(("part", "words"), [(0.042, "+4.2%"), (-0.15, "-15%"), (3.0, "+300%"), (0.0, "+0.0%")])
def test_a_part_has_its_sign_and_no_more_digits_than_it_is_worth(part: float, words: str) -> None:
    assert percent(part) == words


CALIBRATION = Calibration(
    hosts=Hosts("here", "there", "10.0.0.2"),
    kind=KIND,
    migrations=12,
    typical=Typical(
        fixed_s=Estimate(0.025, 0.2, "from 12 migrations"), bandwidth_bytes_per_s=Estimate(117 * 2**20, 0.02)
    ),
    quality=(
        Quality(figure="total", basis="plan", count=12, median_error=0.031, bias=-0.01, held=11),
        Quality(figure="fixed", basis="plan", count=12, median_error=0.2, bias=0.1, held=9),
    ),
)


def test_a_calibration_says_what_was_learnt_and_how_good_predictions_were() -> None:
    said = text(calibrations([CALIBRATION]))
    assert "here → there by 10.0.0.2" in said
    assert "pc-q35-7.2, 512MiB, 2 vCPUs, tcg, QEMU 7.2.22: 12 migrations" in said
    assert "fixed cost of a switchover 25ms ± 20%, link 117MiB/s ± 2%" in said
    (row,) = (line for line in said.splitlines() if "until it ran there" in line)
    assert row.split()[-5:] == ["3.1%", "-1.0%", "11", "of", "12"]
    assert "stop, resume" not in said, "of the whole only"


def test_one_that_nothing_is_known_of_says_so() -> None:
    bare = replace(
        CALIBRATION, hosts=Hosts("", ""), kind=replace(KIND, vcpus=1), migrations=1, typical=Typical(), quality=()
    )
    said = text(calibrations([CALIBRATION, bare]))
    assert "unknown → unknown\n" in said
    assert "1 vCPU, tcg, QEMU 7.2.22: 1 migration\n" in said.replace(" \n", "\n")
    assert "no predictions to judge yet" in said
    assert text(calibrations([])).strip() == "no migration that could teach anything yet"


def test_the_history_has_a_word_on_how_far_off_it_was() -> None:
    from whimbrel.history import Entry, Standing

    entry = Entry(
        log="log", standing=Standing.ENDED, started_wall_s=0.0, outcome="completed", downtime_s=0.2, time_off=-0.043,
        downtime_off=0.26,
    )  # fmt: skip
    assert "against the prediction: time -4.3%, downtime +26%" in text(history([entry]), 200)
    assert "prediction" not in text(history([replace(entry, time_off=None, downtime_off=None)]), 200)
