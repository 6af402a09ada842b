"""Pages that go together, and XBZRLE's cache slot by slot, against QEMU's rules done one page at a time."""

from __future__ import annotations

import numpy as np
import pytest

from whimbrel.sim.guests.realised import Flags
from whimbrel.sim.memory.batch import Batch, DeltaCache
from whimbrel.sim.memory.contract import Sent


class PlainCache:
    """The same table in plain Python: one page for each slot, protected for two syncs."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.syncs = 0
        self.table: dict[int, tuple[int, int]] = {}

    def look(self, page: int) -> bool:
        held = self.table.get(page % self.slots)
        hit = held is not None and held[0] == page
        if held is None or hit or held[1] + 2 <= self.syncs:
            self.table[page % self.slots] = (page, self.syncs)
        return hit


def none(pages: int) -> Flags:
    return np.zeros(pages, dtype=np.bool_)


def test_the_cache_is_the_plain_table() -> None:
    dice = np.random.default_rng(5)
    ours, plain = DeltaCache(64, 1000), PlainCache(64)
    hits = 0
    for _ in range(300):
        pages = np.unique(dice.integers(0, 256, 40))
        pages = pages[np.unique(pages % 64, return_index=True)[1]]  # no slot twice
        expected = [plain.look(int(page)) for page in pages]
        assert ours.hits(pages).tolist() == expected
        ours.put(pages)
        hits += sum(expected)
        if dice.random() < 0.3:
            ours.syncs += 1
            plain.syncs += 1
    assert 500 < hits < 5000


def test_a_table_larger_than_the_guest_takes_no_more_room_than_it() -> None:
    cache = DeltaCache(1 << 40, 100)
    cache.put(np.arange(100))
    assert cache.hits(np.arange(100)).all()


@pytest.mark.parametrize(("most_bytes", "taken"), [(0, 1), (4103, 1), (8208, 2), (8216, 2), (8217, 3), (1 << 30, 4)])
def test_a_batch_takes_what_fits_and_one_in_any_case(most_bytes: int, taken: int) -> None:
    batch = Batch(most_bytes, 10)
    assert batch.take(np.array([False, False, True, False]), 4104) == taken
    assert batch.most_pages == 10 - taken
    zero = int(taken > 2)
    assert batch.sent() == Sent(normal=taken - zero, zero=zero, bytes=4104 * (taken - zero) + 9 * zero)


def test_what_does_not_fit_any_more_is_left() -> None:
    batch = Batch(5000, 10)
    assert batch.take(none(1), 4104) == 1
    assert batch.take(none(5), 4104) == 0
    assert batch.sent() == Sent(normal=1, bytes=4104)


def test_each_kind_of_page_is_told_and_priced() -> None:
    cache = DeltaCache(16, 16)
    cache.put(np.array([0, 1, 2, 3]))
    cache.changed[:] = [True, True, False] + [True] * 13
    pages, zero = np.array([0, 1, 2, 3, 4, 5]), none(6)
    zero[5] = True
    delta_bytes = np.array([100, 4096, 100, 200, 100, 100])
    batch = Batch(1 << 20, 100)
    assert batch.take_deltas(cache, pages, zero, 4104, delta_bytes) == 6
    wire = 111 + 211
    assert batch.sent() == Sent(
        normal=2, zero=1, delta=2, unchanged=1, misses=1, overflows=1, delta_bytes=wire, bytes=wire + 2 * 4104 + 9
    )
    assert cache.hits(pages).all()
