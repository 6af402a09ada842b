"""XBZRLE in expectation, where its answers can be worked out otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.memory.plans import plan, writer
from whimbrel.sim.guests.laws import Independent
from whimbrel.sim.guests.plan import Area, areas_of
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.memory.deltas import DeltaCache
from whimbrel.sim.memory.owed import Shares
from whimbrel.sim.memory.runs import EVER, Run

PAGES = 4096
LARGE = 1 << 20


def shares(run: Run, draws: float, slots: int = LARGE, delta_bytes: int = 300) -> Shares:
    areas = areas_of(plan(writer(delta_bytes=delta_bytes)))
    area: Area = areas[0]
    assert isinstance(area.law, Independent)
    return DeltaCache(slots, areas).shares(area, area.law, run, draws, 4104.0)


def clean(draws: float) -> float:
    """The probability that so many uniform draws leave a page alone."""
    return float((1 - 1 / PAGES) ** draws)


def test_pages_that_were_never_sent_are_looked_for_in_vain() -> None:
    assert shares(Run(0, PAGES, 0, 0.5, 2000.0), 5000.0) == Shares(normal_bytes=4104.0, miss=1.0)


def test_pages_are_held_if_an_earlier_window_had_them_too() -> None:
    """Windows of independent draws are independent: the hit rate is that of the earlier windows alone."""
    got = shares(Run(0, PAGES, 0, 0.4, 2000.0, seen=3000.0, last=0.0, at=9000.0), 10_000.0)
    assert got.miss == pytest.approx(clean(3000))
    assert got.normal == pytest.approx(got.miss)
    assert got.delta == pytest.approx(1 - clean(3000))
    assert got.delta_bytes == 311
    assert got.unchanged == pytest.approx(0, abs=1e-9)


def test_unchanged_are_pages_written_only_before_they_were_last_sent() -> None:
    """Sent last with a window of 2000 draws, 500 draws after the sync; 1000 draws have been made since."""
    run = Run(0, PAGES, 0, 0.3, 1400.0, seen=1e9, last=2000.0, after=500.0, at=9000.0)
    got = shares(run, 10_000.0)
    pages = (1 - clean(2000)) * (1 - clean(500)) * clean(1000)
    assert got.unchanged == pytest.approx(pages / (1 - clean(1400)))
    assert got.delta + got.unchanged + got.normal == pytest.approx(1)


def test_of_pages_sent_whatever_was_written_those_of_the_window_after_count() -> None:
    run = Run(0, PAGES, 0, 0.3, 1400.0, seen=1e9, last=EVER, after=500.0, at=9000.0)
    pages = (1 - clean(500)) * clean(1000)
    assert shares(run, 10_000.0).unchanged == pytest.approx(pages / (1 - clean(1400)))


def test_a_difference_as_large_as_the_page_overflows() -> None:
    run = Run(0, PAGES, 0, 0.4, 2000.0, seen=3000.0, at=9000.0)
    small, large = shares(run, 10_000.0), shares(run, 10_000.0, delta_bytes=PAGE_BYTES)
    assert large.overflow == pytest.approx(small.delta)
    assert large.normal == pytest.approx(1)
    assert large.delta == 0


def test_a_small_cache_holds_one_of_the_pages_of_each_slot() -> None:
    """Four pages for each slot, all written all the time: a quarter is found, changed or not."""
    run = Run(0, PAGES, 0, 1.0, 1e6, seen=1e9, at=0.0)
    assert 1 - shares(run, 1e9, PAGES // 4).miss == pytest.approx(1 / 4, rel=0.02)
    once = replace(run, window=1400.0, last=2000.0, after=500.0, at=1e9 - 1000)
    large, small = shares(once, 1e9), shares(once, 1e9, PAGES // 4)
    assert small.unchanged / large.unchanged == pytest.approx(small.delta / large.delta)
    assert small.unchanged < large.unchanged / 2
