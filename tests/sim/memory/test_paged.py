"""The page level against the same rules done with Python sets, one page at a time."""

from __future__ import annotations

from random import Random

import pytest

from tests.sim.memory.plans import MIB, MIXED, SEED, begun, plan, send_all, writer
from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import areas_of
from whimbrel.sim.guests.realised import writers_of
from whimbrel.sim.memory.contract import PAGE_BYTES, PAGE_HEADER_BYTES, ZERO_PAGE_BYTES, Sent
from whimbrel.sim.memory.paged import PagedMemory
from whimbrel.sim.scenario import GuestPlan, Pattern

CHUNK = 1024
FULL = PAGE_BYTES + PAGE_HEADER_BYTES


class Plain:
    """What QEMU does to its bitmaps, page by page; the guest never halts."""

    def __init__(self, guest: GuestPlan, kvm: bool, seed: int) -> None:
        self.areas = areas_of(guest)
        self.total = guest.ram_bytes // PAGE_BYTES
        self.writers = [writers_of(guest, area, seed) if area.law is not None else () for area in self.areas]
        self.life = Life(self.areas)
        self.life.run(0)
        self.kvm = kvm
        self.bitmap: set[int] = set()
        self.log: set[int] = set()
        self.reported: set[int] = set()
        self.to_clear: set[int] = set()
        self.zero = {page for area in self.areas if area.zero for page in range(area.first, area.first + area.pages)}
        self.place = 0

    def write(self, now_ns: int) -> None:
        for stream, writers in zip(self.life.streams, self.writers, strict=True):
            for one in writers:
                assert stream is not None
                for pages in one.until(stream.draws(self.life.guest_s(now_ns))):
                    self.log.update(pages.tolist())
                    self.zero.difference_update(pages.tolist())

    def begin(self, now_ns: int) -> None:
        self.write(now_ns)
        self.bitmap = set(range(self.total))
        self.log = set(range(self.total)) if self.kvm else set()

    def sync(self, now_ns: int) -> int:
        self.write(now_ns)
        fresh = self.log - self.bitmap
        self.bitmap |= self.log
        if self.kvm:
            self.reported = set(self.log)
            self.to_clear = set(range(self.total // CHUNK + 1))
        else:
            self.log = set()
        return len(fresh)

    def send(self, now_ns: int, most_bytes: int) -> tuple[int, int]:
        self.write(now_ns)
        normal = zero = spent = 0
        while self.bitmap:
            page = self.place
            while page not in self.bitmap:
                page = (page + 1) % self.total
            cost = ZERO_PAGE_BYTES if page in self.zero else FULL
            if spent + cost > most_bytes and normal + zero:
                return normal, zero  # the search begins again behind the last page sent
            chunk = page // CHUNK
            if self.kvm and chunk in self.to_clear:
                self.to_clear.remove(chunk)
                self.log -= {each for each in self.reported if each // CHUNK == chunk}
            self.bitmap.remove(page)
            self.place = (page + 1) % self.total
            spent += cost
            normal, zero = normal + (cost == FULL), zero + (cost != FULL)
        self.place = 0
        return normal, zero


@pytest.mark.parametrize("kvm", [False, True], ids=["tcg", "kvm"])
@pytest.mark.parametrize("seed", [5, 11, 13])
def test_it_is_what_sets_of_pages_come_to(kvm: bool, seed: int) -> None:
    """A random schedule: syncs, small and large sends, at random times; every count is the same."""
    dice, now_ns = Random(7), SECOND_NS
    paged, plain = PagedMemory(MIXED, seed=seed, kvm=kvm, chunk_pages=CHUNK), Plain(MIXED, kvm, seed)
    paged.run(0)
    paged.begin(now_ns)
    plain.begin(now_ns)
    assert paged.sync(now_ns) == plain.sync(now_ns) == 0
    for _ in range(150):
        now_ns += dice.randrange(60) * MILLISECOND_NS
        if dice.random() < 0.25:
            assert paged.sync(now_ns) == plain.sync(now_ns)
        else:
            most = dice.choice((1, 50_000, 600_000, 3_000_000))
            sent = paged.send(now_ns, most)
            assert (sent.normal, sent.zero) == plain.send(now_ns, most)
        assert paged.remaining_pages == len(plain.bitmap)


def test_with_kvm_writes_before_a_chunk_is_cleared_are_not_logged_again() -> None:
    """All pages are reported in the beginning; each chunk's log is cleared when its first page goes."""
    guest = plan(writer(size_mib=16, rate_mib_per_s=8.0, pattern=Pattern.SWEEP), ram_mib=16, zero_mib=0)
    logged: list[int] = []
    for kvm in (False, True):
        memory = PagedMemory(guest, seed=SEED, kvm=kvm, chunk_pages=2048)
        now_ns = begun(memory)
        memory.send(now_ns, 1)
        for i in range(1, 3):
            memory.send(now_ns + i * SECOND_NS // 4, 1 << 40, 2048)
        send_all(memory, now_ns + SECOND_NS // 2)
        logged.append(memory.sync(now_ns + SECOND_NS))
    assert logged[0] == 2048
    assert 1024 <= logged[1] < 2048


def test_a_page_that_was_not_written_since_it_was_sent_is_skipped() -> None:
    """Written before it was sent in the same iteration: it is in the bitmap again, but has not changed."""
    memory = PagedMemory(plan(writer(size_mib=1, rate_mib_per_s=64.0, delta_bytes=100)), seed=SEED)
    memory.cache(64 * MIB)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    memory.sync(now_ns + SECOND_NS)
    memory.halt(now_ns + 2 * SECOND_NS)
    assert memory.send(now_ns + 2 * SECOND_NS, 1 << 40).misses == 256
    assert memory.sync(now_ns + 3 * SECOND_NS) == 256
    assert memory.send(now_ns + 3 * SECOND_NS, 0) == Sent(unchanged=256)


def test_a_cache_smaller_than_the_working_set_keeps_its_fresh_pages() -> None:
    """512 pages in 256 slots, all written all the time: those that came first stay, and the others never hit."""
    memory = PagedMemory(plan(writer(size_mib=2, rate_mib_per_s=128.0, delta_bytes=100)), seed=SEED)
    memory.cache(1 * MIB)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    for i in range(1, 5):
        memory.sync(now_ns + i * SECOND_NS)
        lower = memory.send(now_ns + i * SECOND_NS, 1 << 40, 256)
        upper = memory.send(now_ns + i * SECOND_NS, 1 << 40)
        assert (lower.delta, upper.delta) == ((0, 0) if i == 1 else (256, 0))
        assert (lower.misses, upper.misses) == ((256, 256) if i == 1 else (0, 256))


def test_a_slot_for_two_pages_of_one_call_goes_to_the_first() -> None:
    """All 512 pages of 256 slots in one call, as in several."""
    memory = PagedMemory(plan(writer(size_mib=2, rate_mib_per_s=128.0, delta_bytes=100)), seed=SEED)
    memory.cache(1 * MIB)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    memory.sync(now_ns + SECOND_NS)
    assert memory.send(now_ns + SECOND_NS, 1 << 40).misses == 512
    memory.sync(now_ns + 2 * SECOND_NS)
    assert memory.send(now_ns + 2 * SECOND_NS, 1 << 40, 256).delta == 256


def test_the_same_seed_gives_the_same_and_another_gives_another() -> None:
    def found(seed: int) -> list[int]:
        memory = PagedMemory(MIXED, seed=seed)
        now_ns = begun(memory)
        send_all(memory, now_ns)
        return [memory.sync(now_ns + i * SECOND_NS // 3) for i in range(1, 9)]

    assert found(1) == found(1) != found(2)


def test_the_push_goes_on_behind_the_page_that_was_served() -> None:
    """All of 64 MiB are missing, the writer is at the upper end: after a fault the pages behind it come next."""
    guest = plan(writer("idle", 40, 0.0), writer("busy", 8, 8.0, pattern=Pattern.SWEEP), ram_mib=48, zero_mib=0)
    memory = PagedMemory(guest, seed=SEED)
    now_ns = begun(memory)
    memory.halt(now_ns)
    memory.arrive(now_ns)
    memory.run(now_ns)
    wait_ns = memory.fault(now_ns)
    assert wait_ns is not None
    now_ns += wait_ns
    assert memory.serve(now_ns) == Sent(normal=1, bytes=FULL)
    memory.send(now_ns, 100 * FULL)
    memory.run(now_ns)
    later_ns = memory.fault(now_ns)
    assert later_ns is not None
    assert later_ns / SECOND_NS == pytest.approx(101 / 2048, rel=0.02)


def test_expected_bytes_are_the_curve_of_the_guest_as_it_runs() -> None:
    memory = PagedMemory(plan(writer(pattern=Pattern.SWEEP)), seed=SEED)
    memory.run(0)
    assert memory.expected_bytes(0, 1.0) == pytest.approx(8 * MIB)
