"""The migrations in the tree that were predicted before they were made."""

from __future__ import annotations

import pytest

from benchmarks.foresight import again, compare
from benchmarks.foresight.compare import as_text
from benchmarks.foresight.design import COUNTS, JUDGED, LEARNT, cases
from benchmarks.foresight.records import Store

STORE = Store()
PAIRS = STORE.pairs(JUDGED)


def test_every_case_of_both_designs_is_on_record_as_it_was_designed() -> None:
    for stage in (LEARNT, JUDGED):
        assert {pair.said.case.name: pair.said.case for pair in STORE.pairs(stage)} == {
            case.name: case for case in cases(stage)
        }


def test_the_judged_ones_were_predicted_by_one_model_that_had_learnt_from_the_others_alone() -> None:
    assert len({pair.said.model for pair in PAIRS}) == 1
    assert {pair.said.learnt_from for pair in PAIRS} == {COUNTS[LEARNT]}
    last_learnt = max(pair.came.began for pair in STORE.pairs(LEARNT))
    assert all(last_learnt < pair.said.written < pair.came.began for pair in PAIRS)


def test_time_bytes_and_verdicts_came_as_the_bar_has_it() -> None:
    found = compare.compare(PAIRS)
    for name in compare.BARRED:
        assert found.row(name).median <= compare.MEDIAN_BAR / 2, as_text(found)
    assert len(found.wrong) + len(found.far) <= 3, as_text(found)


@pytest.mark.parametrize("policy", ["fixed", "auto_converge"])
def test_the_model_of_today_does_as_well_by_the_same_measurements(policy: str) -> None:
    """The predictions stay as they were; this is what the tree says now, where no policy's own changes come in."""
    pairs = [pair for pair in PAIRS if pair.said.case.policy_name == policy]
    found = compare.compare(again.predicted(pair, draws=40) for pair in pairs)
    assert found.row("total time").median <= compare.MEDIAN_BAR, as_text(found)
    assert found.row("bytes").median <= compare.MEDIAN_BAR, as_text(found)
