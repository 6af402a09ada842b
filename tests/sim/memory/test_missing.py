"""Faults in expectation: as many, and as far apart, as the writers' laws say."""

from __future__ import annotations

import pytest

from tests.sim.memory.plans import plan, writer
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.guests.laws import Sweep
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.memory.missing import Missing
from whimbrel.sim.memory.runs import EVER, Run
from whimbrel.sim.scenario import Pattern, Writer

PER_S = 2048.0


def missing_of(run: Run, *writers: Writer) -> tuple[Missing, Life, list[Run]]:
    areas = areas_of(plan(*(writers or (writer(),))))
    life, runs = Life(areas), [run]
    life.run(0)
    sweeps = {i: 0 for i, area in enumerate(areas) if isinstance(area.law, Sweep)}
    return Missing(areas, life, runs, sweeps, 0.0), life, runs


def serve(missing: Missing, life: Life, seconds: float) -> list[int | None]:
    """Areas of the faults in so much of the guest's time, each served at once."""
    now_ns = 0
    areas: list[int | None] = []
    while (wait_ns := missing.next_ns()) is not None and now_ns + wait_ns < seconds * SECOND_NS:
        now_ns += wait_ns
        missing.touch(now_ns)
        assert missing.waiting
        assert missing.next_ns() == 0
        areas.append(missing.served())
        assert not missing.waiting
        life.run(now_ns)
    return areas


def test_all_pages_missing_every_first_touch_is_a_fault() -> None:
    """2 s at 2048 draws a second over 4096 pages, nothing pushed: as many faults as distinct pages."""
    missing, life, runs = missing_of(Run(0, 4096, 0))
    distinct = 4096 * (1 - (1 - 1 / 4096) ** (2 * PER_S))
    faults = len(serve(missing, life, 2.0))
    assert faults == pytest.approx(distinct, rel=0.01)
    assert runs[0].left == pytest.approx(4096 - faults, rel=0.01)


def test_pages_of_a_window_are_touched_as_independence_has_it() -> None:
    """Half of the pages are missing: half of the first touches are faults."""
    density = 1 - (1 - 1 / 4096) ** 2839
    missing, life, _ = missing_of(Run(0, 4096, 0, density, 2839.0))
    assert density == pytest.approx(0.5, abs=1e-3)
    distinct = 4096 * (1 - (1 - 1 / 4096) ** PER_S)
    assert len(serve(missing, life, 1.0)) == pytest.approx(density * distinct, rel=0.01)


def test_a_fault_is_one_page_of_one_area_and_what_was_touched_elsewhere_still_counts_there() -> None:
    """Two writers, one three times as fast as the other: each area has as many faults as its own distinct pages."""
    missing, life, runs = missing_of(Run(0, 4096, 0), writer("slow", 16, 4.0), writer("fast", 16, 12.0))
    runs.append(Run(4096, 8192, 1))
    areas = serve(missing, life, 0.5)
    for area, per_s in enumerate((1024.0, 3072.0)):
        distinct = 4096 * (1 - (1 - 1 / 4096) ** (0.5 * per_s))
        assert areas.count(area) == pytest.approx(distinct, rel=0.01)


def test_a_sweep_comes_to_what_it_wrote_last_only_after_the_rest() -> None:
    """It began with page 0; the 1000 pages before that are missing: 3096 come first."""
    missing, life, _ = missing_of(Run(3096, 4096, 0, 1.0, 1000.0), writer(pattern=Pattern.SWEEP))
    wait_ns = missing.next_ns()
    assert wait_ns is not None
    assert wait_ns / SECOND_NS == pytest.approx(3097 / PER_S, abs=1e-8)
    missing.touch(wait_ns)
    assert missing.waiting
    assert missing.reached is not None
    assert (missing.reached.area, missing.reached.page) == (0, 3096)
    assert not life.running
    assert missing.served() == 0
    assert missing.reached is None


def test_a_writer_that_is_off_touches_nothing_until_it_is_on() -> None:
    missing, _, _ = missing_of(Run(0, 4096, 0), writer(period_s=2.0, duty=0.25, shift_s=0.5))
    wait_ns = missing.next_ns()
    assert wait_ns is not None
    assert wait_ns / SECOND_NS == pytest.approx(1.5 + 1 / PER_S, rel=0.01)


def test_missing_pages_that_nobody_writes_are_never_touched() -> None:
    missing, _, _ = missing_of(Run(4096, 9000, 1, 1.0, EVER))
    assert missing.next_ns() is None
    assert missing.touch(SECOND_NS) == []


def test_what_is_touched_is_no_longer_missing() -> None:
    missing, _, runs = missing_of(Run(0, 4096, 0))
    ((run, pages),) = missing.touch(round(0.4 / PER_S * SECOND_NS))
    assert run is runs[0]
    assert pages == pytest.approx(0.4, rel=1e-3)
    assert run.left == pytest.approx(4096 - 0.4)
    assert not missing.waiting
    assert missing.served() is None


def test_who_is_asked_too_late_stood_still_on_the_way() -> None:
    missing, life, _ = missing_of(Run(0, 4096, 0))
    missing.touch(SECOND_NS)
    assert missing.waiting
    assert not life.running
    assert life.guest_s(5 * SECOND_NS) == pytest.approx(1 / PER_S, rel=0.3)


def test_after_a_stand_on_the_way_it_goes_on_from_there() -> None:
    missing, life, _ = missing_of(Run(0, 4096, 0))
    missing.touch(SECOND_NS)
    assert missing.served() == 0
    life.run(5 * SECOND_NS)
    wait_ns = missing.next_ns()
    assert wait_ns is not None
    assert wait_ns / SECOND_NS == pytest.approx(1 / PER_S, rel=0.01)
    missing.touch(5 * SECOND_NS + wait_ns)
    assert missing.waiting
    assert life.guest_s(6 * SECOND_NS) == pytest.approx(2 / PER_S, rel=0.3)
