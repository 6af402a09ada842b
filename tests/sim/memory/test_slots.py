"""Who owns a slot of XBZRLE's cache in the long run, against the cache itself, page by page."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.memory.plans import plan, writer
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.guests.popularity import groups_of, stride_for
from whimbrel.sim.memory.batch import DeltaCache
from whimbrel.sim.memory.slots import Slots
from whimbrel.sim.scenario import Pattern

PAGES = 4096
PER_S = 2048.0


def found(pattern: Pattern, slots: int, seconds: float) -> float:
    """What the cache comes to: each iteration sends the pages that so many seconds of writing dirty, in order of
    address; of 60 iterations the first 20 are not counted."""
    area = areas_of(plan(writer(pattern=pattern)))[0]
    rank = 0
    sent = np.empty(PAGES)
    for count, p in groups_of(area.writer, PAGES):
        ranks = np.arange(rank, rank + count)
        sent[ranks * stride_for(PAGES) % PAGES] = 1 - np.exp(-p * PER_S * seconds)
        rank += count
    dice, cache = np.random.default_rng(3), DeltaCache(slots, PAGES)
    hits = looked = 0
    for iteration in range(60):
        dirty = np.flatnonzero(dice.random(PAGES) < sent)
        for first in range(0, PAGES, slots):
            part = dirty[(dirty >= first) & (dirty < first + slots)]
            hit = int(np.count_nonzero(cache.hits(part)))
            cache.put(part)
            if iteration >= 20:
                hits, looked = hits + hit, looked + len(part)
        cache.syncs += 1
    return hits / looked


@pytest.mark.parametrize("pattern", [Pattern.UNIFORM, Pattern.HOTSPOT, Pattern.ZIPF])
@pytest.mark.parametrize("slots", [256, 512, 1024, 2048])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 4.0])
def test_the_part_that_is_found_is_that_of_the_cache_itself(pattern: Pattern, slots: int, seconds: float) -> None:
    """Hotspot with 819 hot pages: fewer slots than these, about as many, and more. To 8 hits in 100 looks."""
    ours = Slots(slots, areas_of(plan(writer(pattern=pattern)))).found(0, seconds)
    assert ours == pytest.approx(found(pattern, slots, seconds), abs=0.08)


def test_with_a_slot_for_every_page_each_is_found() -> None:
    slots = Slots(PAGES, areas_of(plan(writer())))
    assert slots.enough
    assert slots.found(0, 1.0) == 1


def test_pages_that_were_never_sent_are_not_found() -> None:
    slots = Slots(1024, areas_of(plan(writer())))
    assert slots.found(0, 1.0, 0.0) == 0
    assert 0 < slots.found(0, 1.0, 1.0) < slots.found(0, 1.0, 5.0) < slots.found(0, 1.0)


def test_pages_of_other_writers_take_slots_too() -> None:
    alone = Slots(2048, areas_of(plan(writer("a")))).found(0, 1.0)
    beside = Slots(2048, areas_of(plan(writer("a"), writer("b")))).found(0, 1.0)
    assert beside == pytest.approx(alone / 2, rel=0.1)


def test_a_measured_curve_and_a_sweep_have_owners_as_well() -> None:
    curve = areas_of(plan(curve=((0.5, 1 << 22), (2.0, 1 << 23))))
    assert 0 < Slots(1024, curve).found(0, 1.0) < 1
    assert 0 < Slots(1024, areas_of(plan(writer(pattern=Pattern.SWEEP)))).found(0, 1.0) < 1
