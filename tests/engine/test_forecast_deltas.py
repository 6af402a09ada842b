"""XBZRLE by expectation: against a cache that is played through page by page."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.curve import PAGE_BYTES, PoissonClasses
from whimbrel.engine.forecast_deltas import DeltaCache, Shares
from whimbrel.engine.forecast_dirt import Dirt
from whimbrel.engine.forecast_records import Deltas, Setting, Writers

MIB = 1 << 20
PAGES = 4096
"""16 MiB that are written at random, of 64 MiB."""
ROOM = 64 * MIB


def written(rate_per_s: float, total_mib: int = 64) -> Dirt:
    """Pages that are written so many times a second each; the rest never."""
    curve = PoissonClasses(((PAGES, rate_per_s),))
    writers = (Writers(curve=curve),) if rate_per_s else ()
    return Dirt.of(Setting(writers=writers, total_bytes=total_mib * MIB, bandwidth_bytes_per_s=1e6))


def iterated(cache: DeltaCache, dirt: Dirt, *spans_s: float) -> None:
    """Iterations that each send all there is."""
    for span_s in spans_s:
        cache.ran(dirt, span_s)
        dirt.sync(span_s, dirt.pending_bytes)


def played(rate_per_s: float, *spans_s: float, count: int = 20_000) -> Shares:
    """The same page by page: each sent at a random place of its iteration."""
    dice = random.Random(7)
    dirty = changed = unchanged = 0
    for _ in range(count):
        now_s, cached, stale, pending = 0.0, False, False, False
        for number, span_s in enumerate(spans_s):
            sent_s = now_s + dice.random() * span_s
            again = False
            at_s = now_s + dice.expovariate(rate_per_s)
            writes: list[float] = []
            while at_s < now_s + span_s:
                writes.append(at_s)
                at_s += dice.expovariate(rate_per_s)
            stale |= any(each < sent_s for each in writes)
            if number > 0 and pending:
                cached, stale = True, False
            again = any(each >= sent_s for each in writes)
            pending, stale, now_s = bool(writes), stale or again, now_s + span_s
        if pending:
            dirty += 1
            changed += cached and stale
            unchanged += cached and not stale
    return Shares(changed / dirty, unchanged / dirty)


def test_in_the_first_two_iterations_nothing_is_found() -> None:
    cache, dirt = DeltaCache(Deltas(ratio=0.3)), written(1.0)
    iterated(cache, dirt, 3.0)
    assert cache.shares(dirt, ROOM) == Shares(0.0, 0.0)
    assert cache.wire_each(Shares(0.0, 0.0)) == pytest.approx(4104 / 4096)
    assert cache.encoding_s(Shares(0.0, 0.0)) == 0.0


@pytest.mark.parametrize(("rate_per_s", "spans_s"), [(1.0, (3.0, 1.0)), (0.5, (4.0, 2.0, 1.0)), (3.0, (1.0, 0.5, 0.5))])
def test_later_on_it_is_as_if_it_were_played_through(rate_per_s: float, spans_s: tuple[float, ...]) -> None:
    cache, dirt = DeltaCache(Deltas(ratio=0.3)), written(rate_per_s)
    iterated(cache, dirt, *spans_s)
    told, truth = cache.shares(dirt, ROOM), played(rate_per_s, *spans_s)
    assert told.changed + told.unchanged == pytest.approx(truth.changed + truth.unchanged, abs=0.02)
    assert told.unchanged == pytest.approx(truth.unchanged, abs=0.03)


def test_what_is_found_goes_as_its_difference_and_what_has_not_changed_not_at_all() -> None:
    cache = DeltaCache(Deltas(ratio=0.25, encode_bytes_per_s=2e9))
    shares = Shares(changed=0.5, unchanged=0.2)
    assert cache.wire_each(shares) == pytest.approx((0.3 * 4104 + 0.5 * (1024 + 11)) / 4096)
    assert cache.encoding_s(shares) == pytest.approx(0.7 / 2e9)


def test_a_difference_larger_than_its_page_goes_as_the_page() -> None:
    cache = DeltaCache(Deltas(ratio=1.0))
    assert cache.wire_each(Shares(changed=1.0, unchanged=0.0)) == pytest.approx(4104 / 4096)


def test_where_nothing_has_changed_there_is_a_size_all_the_same() -> None:
    assert DeltaCache(Deltas(ratio=0.25)).wire_each(Shares(changed=0.0, unchanged=1.0)) > 0


def test_a_cache_that_is_too_small_holds_a_part() -> None:
    """With two pages for each slot (1 - exp(-2)) / 2 of them."""
    cache, dirt = DeltaCache(Deltas(ratio=0.3)), written(50.0)
    iterated(cache, dirt, 1.0, 1.0)
    whole, half = cache.shares(dirt, PAGES * PAGE_BYTES), cache.shares(dirt, PAGES // 2 * PAGE_BYTES)
    assert whole.changed + whole.unchanged == pytest.approx(1.0)
    assert half.changed + half.unchanged == pytest.approx(0.432, abs=0.001)


def test_of_a_guest_that_writes_nothing_nothing_is_found() -> None:
    cache, dirt = DeltaCache(Deltas(ratio=0.3)), written(0.0)
    iterated(cache, dirt, 1.0, 1.0)
    assert cache.shares(dirt, 1) == Shares(0.0, 0.0)


def test_a_guest_that_stood_still_has_found_nothing_again() -> None:
    """Its area has a window of no length; the rest of the first iteration is still to be sent."""
    cache, dirt = DeltaCache(Deltas(ratio=0.3)), written(1.0)
    cache.ran(dirt, 0.0)
    dirt.sync(0.0, 8.0 * MIB)
    assert cache.shares(dirt, 1) == Shares(0.0, 0.0)
    cache.ran(dirt, 0.0)
    dirt.sync(0.0, dirt.pending_bytes / 2)
    assert cache.shares(dirt, 1) == Shares(0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.01, 20),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), min_size=1, max_size=6),
    st.sampled_from([1 << 16, 8 * MIB, ROOM]),
)
def test_parts_are_parts_and_a_larger_cache_finds_more(
    rate_per_s: float, course: list[tuple[float, float]], cache_bytes: int
) -> None:
    cache, dirt = DeltaCache(Deltas(ratio=0.3)), written(rate_per_s)
    for span_s, part in course:
        cache.ran(dirt, span_s)
        dirt.sync(span_s, part * dirt.pending_bytes)
        told, more = cache.shares(dirt, cache_bytes), cache.shares(dirt, 2 * cache_bytes)
        for each in (told, more):
            assert each.changed >= -1e-9
            assert each.unchanged >= 0
            assert each.changed + each.unchanged <= 1 + 1e-9
        assert more.changed + more.unchanged >= told.changed + told.unchanged - 1e-9
        assert 0 < cache.wire_each(told) <= 4104 / 4096 + 1e-9
