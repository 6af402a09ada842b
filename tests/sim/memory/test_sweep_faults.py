"""Where a sweep meets a missing page, and what is left when that is taken out."""

from __future__ import annotations

import pytest

from tests.sim.memory.plans import plan, writer
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.memory.runs import Run
from whimbrel.sim.memory.sweep_faults import Reached, next_reached, take_out
from whimbrel.sim.scenario import Pattern

AREAS = areas_of(plan(writer("u", 4), writer("s", 16, 8.0, pattern=Pattern.SWEEP)))
FIRST, PAGES, PER_S = 1024, 4096, 2048.0


def reached(*runs: Run, begins: int = 0, guest_s: float = 0.0) -> Reached | None:
    life = Life(AREAS)
    life.run(0)
    return next_reached(AREAS, life, list(runs), {1: begins}, guest_s)


def run(begin: float, end: float, density: float = 1.0) -> Run:
    return Run(FIRST + begin, FIRST + end, 1, density)


@pytest.mark.parametrize(
    ("runs", "begins", "page", "ahead"),
    [
        ([run(100, 200)], 0, 100, 100),
        ([run(100, 200)], 150, 150, 0),
        ([run(100, 200)], 200, 100, 3996),
        ([run(100, 200), run(3000, 3001)], 200, 3000, 2800),
        ([run(100, 200, 0.0), run(300, 400)], 0, 300, 300),
        ([run(100.4, 200)], 0, 100, 100),
        ([run(100.6, 200)], 0, 101, 101),
    ],
)
def test_it_is_the_first_missing_page_ahead_round_the_area(runs: list[Run], begins: int, page: int, ahead: int) -> None:
    got = reached(*runs, begins=begins)
    assert got is not None
    assert (got.area, got.page) == (1, FIRST + page)
    assert got.at_s == pytest.approx((ahead + 1) / PER_S)


def test_the_sweep_has_gone_on_meanwhile() -> None:
    got = reached(run(100, 200), guest_s=0.06)
    assert got is not None
    assert got.page == FIRST + int(0.06 * PER_S)


def test_where_nothing_is_missing_nothing_is_reached() -> None:
    assert reached() is None
    assert reached(run(0, 100, 0.0), Run(0, 1024, 0)) is None


@pytest.mark.parametrize(
    ("page", "left"),
    [(100, [(101, 200)]), (199, [(100, 199)]), (150, [(100, 150), (151, 200)])],
)
def test_a_page_is_taken_out_of_its_run(page: int, left: list[tuple[float, float]]) -> None:
    runs = [Run(0, 100, 0), Run(100, 200, 1), Run(200, 300, 1)]
    taken = take_out(runs, page)
    assert taken is not None
    assert taken[0] == 1
    assert taken[2] == 1.0
    assert [(one.begin, one.end) for one in runs] == [(0, 100), *left, (200, 300)]


def test_of_a_page_that_was_partly_sent_only_the_rest_is_taken() -> None:
    runs = [Run(100.25, 200, 1)]
    taken = take_out(runs, 100)
    assert taken is not None
    assert taken[2] == pytest.approx(0.75)
    assert runs[0].begin == 101


def test_a_page_that_is_not_missing_is_not_taken() -> None:
    runs = [Run(100, 200, 1, 0.0)]
    assert take_out(runs, 150) is None
    assert take_out(runs, 300) is None
