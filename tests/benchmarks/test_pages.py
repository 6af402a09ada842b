"""The page level's benchmark runs what it says, alone in a process, and judges its memory."""

from __future__ import annotations

import pytest

from benchmarks import pages
from benchmarks.pairs import Manner
from whimbrel.sim.guests.plan import findings
from whimbrel.sim.memory.expected import ExpectedMemory
from whimbrel.sim.memory.paged import PagedMemory

SMALL = 1 << 15


@pytest.mark.parametrize("curve", [False, True])
def test_its_guests_are_possible(curve: bool) -> None:
    plan = pages.guest(SMALL, curve=curve)
    assert findings(plan) == []
    assert plan.ram_bytes == SMALL * 4096
    assert plan.pages


def test_a_migration_sends_every_page_and_meets_faults() -> None:
    spent = pages.migrate(PagedMemory(pages.guest(SMALL), seed=1, kvm=True), most_faults=20)
    assert spent.sent_pages >= SMALL
    assert (spent.syncs, spent.faults) == (pages.ITERATIONS, 20)
    assert spent.written_pages > 0
    assert spent.sends > 0


def test_both_levels_send_about_the_same() -> None:
    paged = pages.migrate(PagedMemory(pages.guest(SMALL), seed=1), cache_bytes=None, most_faults=0)
    expected = pages.migrate(ExpectedMemory(pages.guest(SMALL), seed=1), cache_bytes=None, most_faults=0)
    assert expected.sent_pages == pytest.approx(paged.sent_pages, rel=0.02)


def test_a_run_alone_tells_of_its_own_memory() -> None:
    """An interpreter with numpy and 32768 pages: more than 20 MB, far less than this process may have come to."""
    spent = pages.alone(SMALL)
    assert 20 < spent.resident_mb < pages.GREATEST_MB
    assert spent.sent_pages >= SMALL


def test_the_resident_size_is_read_in_kib() -> None:
    assert pages.resident_mb("Name:\tx\nVmHWM:\t  1000 kB\nVmRSS:\t 5 kB\n") == 1.024
    with pytest.raises(ValueError, match="VmHWM"):
        pages.resident_mb("Name:\tx\n")


def test_the_bar_is_judged_on_the_median() -> None:
    results, pairs = pages.measure(Manner(runs=2, patience_s=0.0, lock=None, say=lambda _: None), pages=SMALL)
    assert pairs == {}
    (bar,) = results[0].bars
    assert (bar.bound, bar.unit, bar.met) == (200.0, "MB", True)
    assert all(row.measured.value > 0 for row in results[0].rows if "further" not in row.name)
