"""The grid."""

from __future__ import annotations

import itertools

from benchmarks.fidelity import plan
from whimbrel.guest.spec import PAGE_BYTES, Pattern


def test_every_cell_of_the_grid_comes_once() -> None:
    cells = {(case.pattern, case.ratio, case.limit_s) for case in plan.cases()}
    assert cells == set(itertools.product(plan.PATTERNS, plan.RATIOS, plan.LIMITS_S))
    assert len(plan.cases()) == len(cells) == len({case.name for case in plan.cases()}) == 24


def test_neighbours_in_the_order_of_recording_differ_in_their_pattern() -> None:
    assert all(a.pattern != b.pattern for a, b in itertools.pairwise(plan.cases()))


def test_a_guest_writes_at_the_ratio_and_fills_the_same_in_every_cell() -> None:
    for case in plan.cases():
        guest = case.guest(4e7)
        assert abs(guest.spec.rate_bytes_per_s - case.ratio * 4e7) <= PAGE_BYTES
        assert guest.spec.size_bytes == plan.FILLED_BYTES
        assert guest.spec.classes[0].pattern is Pattern(case.pattern)


def test_no_memory_is_of_a_size_that_loses_writes() -> None:
    sizes = [case.guest(4e7).ram_bytes for case in plan.cases()]
    sizes += [plan.idle_guest(8 << 20).ram_bytes, plan.busy_guest(1e7).ram_bytes]
    assert all(size % (256 << 10) for size in sizes)


def test_no_guest_for_calibration_is_one_of_the_grid() -> None:
    grid = {str(case.guest(4e7).spec.classes[0]).rpartition(",rate")[0] for case in plan.cases()}
    for guest in (plan.busy_guest(1e7), plan.idle_guest(96 << 20)):
        assert not grid & {str(page_class).rpartition(",rate")[0] for page_class in guest.spec.classes}
