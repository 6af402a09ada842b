"""What was left over time, and what was decided when."""

from __future__ import annotations

from tests.whimbrel.laboratory.sample import comparison
from whimbrel.laboratory.canvas import drawing
from whimbrel.laboratory.courses import MOST_POINTS, course, draw

IDLE, BUSY, HOT = comparison().matrix.cases


def test_a_course_ends_where_its_row_does() -> None:
    told = course(BUSY, "fixed", 1)
    row = next(row for row in comparison().rows if (row.case, row.policy, row.seed) == (BUSY.name, "fixed", 1))
    assert (told.ended_s, told.downtime_s) == (row.total_s, row.downtime_s)
    assert told.moved_s == row.total_s
    assert told.left[0][1] > told.left[-1][1]


def test_post_copy_is_told_with_its_beginning() -> None:
    told = course(HOT, "hybrid_after", 1)
    assert told.postcopy_s is not None
    assert told.moved_s is not None
    assert told.downtime_s is not None
    assert told.postcopy_s < told.moved_s < told.ended_s


def test_decisions_are_told_by_what_they_change() -> None:
    told = course(HOT, "least_downtime", 1)
    assert {kind for _, kind, _ in told.decided} == {"limit"}
    assert all(0 < at_s < told.ended_s and because for at_s, _, because in told.decided)


def test_a_guest_that_does_not_move_has_no_outage() -> None:
    told = course(HOT, "fixed", 1)
    assert (told.moved_s, told.downtime_s, told.postcopy_s) == (None, None, None)


def test_a_long_one_is_thinned_and_keeps_its_extremes() -> None:
    told = course(HOT, "least_downtime", 1)
    assert len(told.left) <= 3 * (MOST_POINTS + 1)
    assert max(left for _, left in told.left) >= 30 << 20


def test_it_is_drawn_with_a_panel_for_each() -> None:
    with drawing():
        figure = draw(
            HOT, [course(HOT, policy, 1) for policy in ("fixed", "hybrid_after", "auto_converge:initial=0.9", "fixed")]
        )
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles == ["fixed", "hybrid_after", "auto_converge:initial=0.9", "fixed"]
