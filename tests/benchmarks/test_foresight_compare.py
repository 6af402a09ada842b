"""Holding predictions against what came."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from benchmarks.foresight import compare
from benchmarks.foresight.compare import Figure, as_json, as_text, by, groups_as_text
from tests.support.foresight import CALLED_OFF, pair
from whimbrel.engine.estimate import Range

EXACT = [pair(number) for number in range(1, 21)]
"""Twenty of which each came as predicted."""


def test_what_came_as_predicted_has_no_error_and_only_intervals_that_hold_too_often_are_held_against_it() -> None:
    found = compare.compare(EXACT)
    for name in ("total time", "bytes", "downtime", "iterations", "  iterations", "  last_ram"):
        row = found.row(name)
        assert (row.median, row.p95, row.bias, row.off, row.held) == (0.0, 0.0, 0.0, 0.0, 20)
    assert (found.wrong, found.far) == ((), ())
    missed = [bar for bar, met in found.bars.items() if not met]
    assert missed == [f"16 to 19 of 20 intervals of {name} hold" for name in ("total time", "bytes", "downtime")]
    assert not found.met


def test_the_bar_is_met_where_a_tenth_of_the_intervals_does_not_hold() -> None:
    beside = [pair(number, total_s=5.1, transferred_bytes=225e6, downtime_s=0.16) for number in (1, 2)]
    found = compare.compare([*beside, *EXACT[2:]])
    assert found.row("total time").held == found.row("bytes").held == found.row("downtime").held == 18
    assert found.met


def test_errors_are_parts_of_what_came() -> None:
    figure = Figure("any", Range(3.0, 4.0, 5.0), 5.0)
    assert figure.error == pytest.approx(-0.2)
    assert figure.held
    assert not Figure("any", Range(3.0, 4.0, 5.0), 5.01).held
    assert Figure("any", Range(0.0, 0.1, 0.2), 0.0).error == math.inf
    assert Figure("any", Range(0.0, 0.0, 0.2), 0.0).error == 0.0


def test_a_component_of_the_outage_is_off_by_a_part_of_the_outage() -> None:
    of = pair(1, components={"last_ram": 0.06, "iterations": 3.0})
    found = compare.compare([of])
    assert found.row("  last_ram").bias == pytest.approx((0.08 - 0.06) / 0.1)
    assert found.row("  iterations").bias == pytest.approx(0.3)


def test_medians_and_percentiles_are_over_all_that_have_the_quantity() -> None:
    found = compare.compare([pair(1, total_s=5.0), pair(2, total_s=3.2), pair(3), pair(4, **CALLED_OFF)])
    row = found.row("total time")
    assert len(row.figures) == 3
    assert row.median == pytest.approx(0.2)
    assert row.bias == pytest.approx(0.0)
    assert row.off == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("meets", "moves", "outcome", "right"),
    [
        (0.9, 1.0, {"moved": True, "met": True}, True),
        (0.9, 1.0, {"moved": True, "met": False}, False),
        (0.2, 1.0, {"moved": True, "met": False}, True),
        (0.2, 1.0, CALLED_OFF, False),  # it was to move, late or with a long outage
        (0.0, 0.1, CALLED_OFF, True),
        (0.0, 0.1, {"moved": True, "met": False}, False),
    ],
)
def test_a_verdict_is_right_where_what_was_likelier_came(
    meets: float, moves: float, outcome: dict[str, Any], right: bool
) -> None:
    found = compare.compare([pair(1, meets=meets, moves=moves, **outcome)])
    assert found.verdicts[0].right is right
    assert bool(found.wrong) is not right


def test_a_draw_that_moves_after_the_deadline_is_none_that_moves() -> None:
    """The migration is called off at the deadline."""
    late = {"downtime": 0.0, "deadline": 0.8, "never": 0.0}
    found = compare.compare([pair(1, meets=0.2, misses=late, **CALLED_OFF)])
    assert found.verdicts[0].moves == pytest.approx(0.2)
    assert found.verdicts[0].right


def test_time_or_bytes_beyond_a_quarter_are_far_off_and_downtime_is_not_asked() -> None:
    found = compare.compare([pair(1, total_s=5.4), pair(2, transferred_bytes=150e6), pair(3, downtime_s=0.3), pair(4)])
    assert found.far == tuple(sorted((pair(1).said.case.name, pair(2).said.case.name)))


def test_a_migration_that_is_wrong_twice_is_one_miss() -> None:
    found = compare.compare([pair(1, meets=0.1, total_s=9.0), *EXACT[1:]])
    assert (len(found.wrong), found.far) == (1, ())
    assert found.bars["at most 1 of 20 far off or with a wrong verdict"]


def test_probabilities_are_held_against_outcomes() -> None:
    found = compare.compare([pair(1, meets=0.8), pair(2, meets=0.8, met=False)])
    assert found.brier == pytest.approx((0.04 + 0.64) / 2)
    assert found.expected_wrong == pytest.approx(0.4)


def test_what_is_next_to_nothing_has_no_relative_error() -> None:
    names = {row.name for row in compare.compare(EXACT).rows}
    assert "guest-seconds lost" in names
    assert not names & {"throttle", "post-copy"}


def test_groups_are_compared_each_for_itself() -> None:
    groups = by(compare.compare(EXACT), lambda each: each.said.case.pattern)
    assert sum(len(group.pairs) for group in groups.values()) == 20
    assert len(groups) > 1
    text = groups_as_text(compare.compare(EXACT), lambda each: each.said.case.pattern)
    assert len(text.splitlines()) == len(groups) + 1


def test_a_group_in_which_nothing_moved_has_no_errors() -> None:
    text = groups_as_text(compare.compare([pair(1, meets=0.0, moves=0.0, **CALLED_OFF)]), lambda _: "all")
    assert "-/-/-" in text
    assert "0, 0" in text


def test_nothing_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="nothing"):
        compare.compare([])


def test_both_forms_have_every_figure() -> None:
    found = compare.compare(EXACT)
    text = as_text(found)
    assert "20 migrations" in text
    assert "MISSED 16 to 19 of 20 intervals of downtime hold" in text
    told = json.loads(json.dumps(as_json(found)))
    assert len(told["quantities"]["total time"]["figures"]) == 20
    assert told["quantities"]["last_ram"]["held"] == 20
    assert told["verdicts"][EXACT[0].said.case.name] == [0.9, True, 1.0, True]


def test_where_nothing_moved_only_verdicts_are_judged() -> None:
    found = compare.compare([pair(number, meets=0.0, moves=0.0, **CALLED_OFF) for number in range(1, 5)])
    assert found.rows == ()
    assert found.met
    assert "MET" in as_text(found)


def test_how_many_intervals_would_hold_is_itself_uncertain() -> None:
    low, high = compare.interval(54, 60)
    assert 0.79 < low < 0.9 < high < 0.97
