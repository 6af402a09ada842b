"""What a sync finds, run by run: windows of draws merged as sets are."""

from __future__ import annotations

import pytest

from tests.sim.memory.plans import plan, writer
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.memory.dirty_log import DirtyLog
from whimbrel.sim.memory.runs import EVER, Run
from whimbrel.sim.scenario import Pattern

PAGES = 4096
AREAS = areas_of(plan(writer("a"), writer("s", pattern=Pattern.SWEEP)))


def log(chunk_pages: int | None = None, *, begins: int = 0) -> DirtyLog:
    """A log whose writers have made 100 draws when it begins; the sweep began at this page."""
    return DirtyLog(AREAS, {1: begins}, chunk_pages, [100.0, 100.0, 0.0, 0.0])


def draws(a: float = 100.0, s: float = 100.0) -> list[float]:
    return [a, s, 0.0, 0.0]


def hit(made: float) -> float:
    """The part of the pages that so many uniform draws hit."""
    return float(1 - (1 - 1 / PAGES) ** made)


def test_of_pages_that_were_sent_those_written_since_the_sync_are_found() -> None:
    ours = log()
    (run,) = ours.merge_into([Run(0, PAGES, 0, 0.0, 777.0, sent=True)], draws(a=1100))
    assert run.density == pytest.approx(hit(1000))
    assert (run.window, run.sent) == (1000.0, False)
    assert ours.logged_pages == round(PAGES * hit(1000))
    assert ours.synced == draws(a=1100)


def test_pages_still_in_the_bitmap_count_once() -> None:
    """500 draws before, 1000 since: the union is that of 1500 draws."""
    (run,) = log().merge_into([Run(0, PAGES, 0, hit(500), 500.0)], draws(a=1100))
    assert run.density == pytest.approx(hit(1500))
    assert run.window == 1500


def test_what_is_in_the_bitmap_in_any_case_stays_and_what_nobody_writes_is_clean_once_sent() -> None:
    runs = log().merge_into([Run(0, PAGES, 0), Run(8192, 9000, 2, 0.0, EVER, sent=True)], draws(a=1100))
    assert [run.density for run in runs] == [1.0, 0.0]
    assert runs[0].window == EVER
    assert not runs[1].sent


def test_with_kvm_pages_found_before_are_logged_from_the_clearing_on_the_others_all_the_time() -> None:
    """Windows of independent draws: 800 before the sync, 300 until the chunk was cleared, 600 after it."""
    ours = log(PAGES)
    run = Run(0, PAGES, 0, 0.0, 800.0, reported=800.0, sent=True)
    assert ours.chunk_to_clear(run) == 0
    ours.clear(0, draws(a=400))
    assert ours.chunk_to_clear(run) is None
    (merged,) = ours.merge_into([run], draws(a=1000))
    expected = hit(800) * hit(600) + (1 - hit(800)) * hit(900)
    assert merged.density == pytest.approx(expected)
    assert 600 < merged.window < 900
    assert hit(merged.window) == pytest.approx(expected, rel=3e-3)
    assert ours.chunk_to_clear(run) == 0


def test_with_kvm_a_chunk_of_which_nothing_was_sent_is_not_cleared() -> None:
    ours = log(1024)
    ours.clear(2, draws(a=400))
    runs = ours.merge_into(
        [Run(0, 1024, 0, 0.0, EVER, sent=True), Run(2048, 3072, 0, 0.0, EVER, sent=True)], draws(a=1000)
    )
    assert [run.density for run in runs] == pytest.approx([hit(900), hit(600)])


def spans(runs: list[Run]) -> list[tuple[float, float, float]]:
    first = AREAS[1].first
    return [(run.begin - first, run.end - first, run.density) for run in runs]


def sweep(begin: float = 0, end: float = PAGES, *, sent: bool = True, density: float = 0.0, window: float = 0.0) -> Run:
    return Run(AREAS[1].first + begin, AREAS[1].first + end, 1, density, window, sent)


def test_of_a_sweep_just_the_pages_that_it_went_over_are_found() -> None:
    runs = log(begins=1000).merge_into([sweep()], draws(s=600))
    assert spans(runs) == [(0, 1100, 0.0), (1100, 1600, 1.0), (1600, PAGES, 0.0)]


def test_a_sweep_goes_round_the_end_of_its_area() -> None:
    runs = log(begins=3900).merge_into([sweep()], draws(s=600))
    assert spans(runs) == [(0, 404, 1.0), (404, 4000, 0.0), (4000, PAGES, 1.0)]
    assert spans(log().merge_into([sweep()], draws(s=100.0 + PAGES))) == [(0, PAGES, 1.0)]


def test_pages_of_a_sweep_that_are_still_in_the_bitmap_stay() -> None:
    runs = log().merge_into([sweep(0, 200, sent=False, density=1.0, window=50.0), sweep(200)], draws(s=300))
    assert spans(runs) == [(0, 200, 1.0), (200, 300, 1.0), (300, PAGES, 0.0)]


def test_with_kvm_a_sweep_over_pages_found_before_shows_from_the_clearing_on() -> None:
    ours = log(PAGES)
    ours.clear(1, draws(s=350))
    runs = ours.merge_into([sweep(0, 300, window=9.0), sweep(300, 360, window=9.0), sweep(360)], draws(s=600))
    assert spans(runs) == [(0, 300, 0.0), (300, 350, 0.0), (350, 360, 1.0), (360, 600, 1.0), (600, PAGES, 0.0)]
