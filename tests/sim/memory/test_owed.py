"""Whole pages out of expected ones: nothing is lost, each kind comes to its expectation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from whimbrel.sim.memory.contract import Sent
from whimbrel.sim.memory.owed import DELTA_HEADER_BYTES, FULL, ZERO, Owed, Shares

MIXED = Shares(
    normal=0.5, normal_bytes=2000.0, zero=0.125, delta=0.25, delta_bytes=511.0, unchanged=0.125, miss=0.3, overflow=0.2
)


def test_fractions_are_carried_until_they_are_a_page() -> None:
    owed = Owed()
    owed.take(0.6, FULL)
    owed.take(0.7, FULL)
    assert owed.tell(int(owed.pages), 1e9) == Sent(normal=1, bytes=4104)
    assert abs(owed.pages - 0.3) < 1e-9
    owed.take(0.7, ZERO)
    assert owed.tell(1, 1e9).pages == 1
    assert abs(owed.pages) < 1e-9


def test_a_page_of_each_kind_costs_what_it_costs() -> None:
    assert FULL.cost_bytes == 4104
    assert ZERO.cost_bytes == 9
    assert MIXED.cost_bytes == 0.5 * 2000 + 0.125 * 9 + 0.25 * 511
    assert DELTA_HEADER_BYTES == 11


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=60))
def test_every_kind_comes_to_its_expectation_to_within_a_page(taken: list[float]) -> None:
    owed, told = Owed(), Sent()
    names = ("normal", "zero", "delta", "unchanged", "misses", "overflows", "delta_bytes", "bytes")
    sums: dict[str, int] = dict.fromkeys(names, 0)
    for pages in taken:
        owed.take(pages, MIXED)
        told = owed.tell(int(owed.pages + 1e-9), 1e12)
        assert min(told.normal, told.zero, told.delta, told.unchanged) >= 0
        assert told.misses + told.overflows <= told.normal
        for name in names:
            sums[name] += getattr(told, name)
    total = sum(taken)
    assert abs(sum(sums[kind] for kind in ("normal", "zero", "delta", "unchanged")) - total) < 1.001
    for kind, share in (("zero", 0.125), ("delta", 0.25), ("unchanged", 0.125)):
        assert abs(sums[kind] - share * total) < 1.5
    assert abs(sums["misses"] - 0.3 * total) < 4
    assert abs(sums["bytes"] - MIXED.cost_bytes * total) < 3 * 2000


@given(st.floats(1, 40), st.integers(0, 100_000))
def test_never_more_bytes_than_allowed_are_told_but_for_a_single_page(pages: float, most_bytes: int) -> None:
    owed = Owed()
    owed.take(pages, Shares(normal=0.5, zero=0.5))
    told = owed.tell(int(pages), most_bytes)
    assert told.bytes <= max(most_bytes, 4104 + 9 * told.zero)
    assert told.pages >= 1
