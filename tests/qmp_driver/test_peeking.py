"""Looks at the pages of a process: one made up of files, this one, a real QEMU whose guest knows its own curve."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.guests import World
from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.measuring import UNREAD_MARK, ZERO_MARK
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.facts import read_facts
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.peeking import MOST_DELTAS, ZEROS, Peeker, ProcessMemory, peek
from whimbrel.qmp_driver.peeking_places import CannotPeek, Stretch, find_stretches
from whimbrel.qmp_driver.processes import ProcessIdentity, identify_peer

PRESENT, SWAPPED = 1 << 63, 1 << 62


@dataclass
class Book:
    """Pages by their address."""

    pages: dict[int, bytes | None] = field(default_factory=dict[int, bytes | None])

    def read(self, address: int) -> bytes | None:
        """A page, or an error where there is none."""
        if address not in self.pages:
            raise OSError(5, "Input/output error")
        return self.pages[address]


def page(letter: str) -> bytes:
    return letter.encode() * PAGE_BYTES


def whole(pages: int) -> list[Stretch]:
    return [Stretch("ram", 0, pages * PAGE_BYTES)]


# ---- a process in files


def made_up(folder: Path, *entries: int, pages: str = "", maps: str = "") -> ProcessMemory:
    """A process with these entries in its page map and these pages in its memory; its identity is ours.

    Args:
        folder: for its files.
        entries: of the page map.
        pages: a letter for each.
        maps: its list of mappings.
    """
    us = identify_peer(os.getpid())
    place = folder / str(us.pid)
    place.mkdir()
    (place / "pagemap").write_bytes(b"".join(entry.to_bytes(8, "little") for entry in entries))
    (place / "mem").write_bytes(b"".join(map(page, pages)))
    (place / "maps").write_text(maps)
    return ProcessMemory(us, proc=folder)


def test_what_was_never_touched_is_zero_and_what_is_in_swap_is_not_fetched(tmp_path: Path) -> None:
    memory = made_up(tmp_path, PRESENT, 0, SWAPPED, pages="abc")
    assert [memory.read(at * PAGE_BYTES) for at in range(3)] == [page("a"), bytes(PAGE_BYTES), None]
    memory.close()
    memory.close()


SHARED = """\
1000-3000 rw-p 00000000 00:00 0
3000-6000 rw-s 00001000 00:01 7 /memfd:ram (deleted)
"""


def test_of_shared_memory_the_file_says_what_others_have_written(tmp_path: Path) -> None:
    """QEMU has not touched any of it here: of three shared pages the second is written, the rest are holes."""
    files = tmp_path / str(os.getpid()) / "map_files"
    memory = made_up(tmp_path, *[0] * 8, pages="abcdefgh", maps=SHARED)
    files.mkdir()
    with (files / "3000-6000").open("wb") as file:
        file.truncate(8 * PAGE_BYTES)
        file.seek(2 * PAGE_BYTES)
        file.write(page("x"))
    found = [memory.read(at * PAGE_BYTES) for at in range(8)]
    memory.close()
    assert found == [ZEROS, ZEROS, ZEROS, ZEROS, page("e"), ZEROS, ZEROS, ZEROS]


def test_of_shared_memory_that_nobody_shows_nothing_is_believed(tmp_path: Path) -> None:
    """Others may have written it: it is neither zero nor unchanged for all that is known."""
    memory = made_up(tmp_path, *[0] * 6, maps=SHARED)
    assert [memory.read(at * PAGE_BYTES) for at in (2, 3, 4)] == [ZEROS, None, None]
    memory.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows the files behind mappings to root only")
def test_what_another_process_writes_into_shared_memory_is_seen() -> None:
    """As a vhost-user back end does: QEMU itself has touched none of it, and a hole stays one."""
    file = os.memfd_create("ram")
    os.truncate(file, 4 * PAGE_BYTES)
    with mmap.mmap(file, 4 * PAGE_BYTES) as mapping:
        first = ctypes.c_char.from_buffer(mapping)
        peeker = Peeker(
            memory := ProcessMemory(identify_peer(os.getpid())),
            [Stretch("ram", ctypes.addressof(first), 4 * PAGE_BYTES)],
        )
        before = peeker.look()
        os.pwrite(file, page("z"), PAGE_BYTES)
        after = peeker.look()
        memory.close()
        del first
    blocks = os.fstat(file).st_blocks
    os.close(file)
    assert set(before.marks) == {ZERO_MARK}
    assert [mark != ZERO_MARK for mark in after.marks] == [False, True, False, False]
    assert blocks * 512 == PAGE_BYTES


def test_a_process_that_ends_has_no_pages_any_more(tmp_path: Path) -> None:
    memory = made_up(tmp_path, PRESENT, PRESENT, pages="a")
    for at in (1, 2):
        with pytest.raises(ProcessLookupError, match="has ended"):
            memory.read(at * PAGE_BYTES)
    memory.close()


def test_a_process_that_may_not_be_read(tmp_path: Path) -> None:
    """Its memory may be open to us and its map not."""
    us = identify_peer(os.getpid())
    with pytest.raises(CannotPeek, match="may not be read: No such file"):
        ProcessMemory(us, proc=tmp_path)
    (tmp_path / str(us.pid)).mkdir()
    (tmp_path / str(us.pid) / "mem").touch()
    with pytest.raises(CannotPeek, match="may not be read: No such file"):
        ProcessMemory(us, proc=tmp_path)


def test_another_process_under_the_same_number_is_not_read() -> None:
    us = identify_peer(os.getpid())
    with pytest.raises(CannotPeek, match="has ended"):
        ProcessMemory(ProcessIdentity(us.pid, us.start_ticks - 1))


# ---- this process


@pytest.fixture
def ram() -> Generator[tuple[mmap.mmap, int]]:
    """A mapping of 16 pages of this process, and where it lies."""
    with mmap.mmap(-1, 16 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        first = ctypes.c_char.from_buffer(memory)
        yield memory, ctypes.addressof(first)
        del first


def present(address: int) -> list[bool]:
    """Which of its 16 pages have a place in memory."""
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(address // mmap.PAGESIZE * 8)
        data = file.read(16 * 8)
    return [bool(data[at + 7] & 0x80) for at in range(0, len(data), 8)]


def test_looking_at_pages_does_not_give_them_a_place(ram: tuple[mmap.mmap, int]) -> None:
    mapping, address = ram
    mapping[: 2 * PAGE_BYTES] = page("a") + page("b")
    before = present(address)
    memory = ProcessMemory(identify_peer(os.getpid()))
    peeker = Peeker(memory, [Stretch("ram", address, 16 * PAGE_BYTES)])
    seen = peeker.look()
    memory.close()
    assert present(address) == before
    assert [mark != ZERO_MARK for mark in seen.marks] == [True, True, *[False] * 14]
    assert peeker.read_bytes == 2 * PAGE_BYTES
    assert peeker.cpu_s > 0


# ---- looks


def test_marks_change_with_contents() -> None:
    """A page written with what it held keeps its mark."""
    book = Book({0: page("a"), 4096: page("b"), 8192: bytes(PAGE_BYTES)})
    peeker = Peeker(book, whole(3))
    first = peeker.look()
    book.pages = {0: page("a"), 4096: page("c"), 8192: bytes(PAGE_BYTES)}
    second = peeker.look()
    assert [a == b for a, b in zip(first.marks, second.marks, strict=True)] == [True, False, True]
    assert first.marks[2] == ZERO_MARK
    assert first.at_s < second.at_s


def test_a_page_that_goes_to_swap_is_as_it_was_and_one_that_was_there_stays_unread() -> None:
    book = Book({0: page("a"), 4096: None})
    peeker = Peeker(book, whole(2))
    first = peeker.look()
    book.pages = {0: None, 4096: page("b")}
    assert peeker.look().marks == first.marks
    assert first.marks[1] == UNREAD_MARK
    book.pages = {0: page("c"), 4096: page("d")}
    third = peeker.look()
    assert third.marks[0] != first.marks[0]
    assert third.marks[1] == UNREAD_MARK
    assert len(peeker.ratios()) == 1


def test_deltas_are_those_of_pages_that_changed_and_no_more_than_tell() -> None:
    pages = 2 * MOST_DELTAS + 1
    book = Book({at * PAGE_BYTES: page("a") for at in range(pages + 5)})
    peeker = Peeker(book, whole(pages + 5))
    peeker.look()
    assert peeker.ratios() == []
    book.pages |= {at * PAGE_BYTES: b"b" + page("a")[1:] for at in range(pages)}
    peeker.look()
    ratios = peeker.ratios()
    assert MOST_DELTAS // 2 < len(ratios) <= MOST_DELTAS
    assert set(ratios) == {6 / PAGE_BYTES}


@pytest.mark.parametrize(("size_bytes", "pages"), [(1 << 20, 256), (1 << 30, 4096), (5 << 30, 5120), (1 << 40, 8192)])
def test_a_large_guest_has_a_larger_sample(size_bytes: int, pages: int) -> None:
    class Zero:
        def read(self, address: int) -> bytes:
            return ZEROS

    assert len(Peeker(Zero(), [Stretch("ram", 0, size_bytes)]).look().marks) == pages


def test_memory_that_has_gone_is_one_sentence() -> None:
    peeker = Peeker(Book(), whole(1))
    with pytest.raises(WhimbrelError, match="can't be read any more: Input/output error"):
        peeker.look()


async def test_a_series_of_looks_that_is_called_off_ends_with_the_look_under_way() -> None:
    """What it reads from is closed after it: a thread that went on would read from somebody else's file."""
    loop = asyncio.get_running_loop()
    began, go_on = asyncio.Event(), threading.Event()
    reads: list[int] = []

    class Slow:
        def read(self, address: int) -> bytes:
            loop.call_soon_threadsafe(began.set)
            go_on.wait(10)
            reads.append(address)
            return bytes(PAGE_BYTES)

    looking = loop.create_task(peek(Peeker(Slow(), whole(1)), 1.0))
    await began.wait()
    looking.cancel()
    loop.call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert reads == [0]


# ---- a real QEMU

KNOWN = WorkloadSpec.parse(("hot:size=8MiB,rate=12MiB/s", "zero:size=4MiB,content=zero", "cold:size=4MiB"), beat_hz=200)


async def test_the_curve_is_the_guests_own(world: World) -> None:
    """Within three standard errors, at windows from a tenth of a second to one; the zero pages too."""
    guest = await world.boot(spec=KNOWN)
    process = identify_peer(guest.pid)
    async with await Monitor.connect(guest.qmp, side="source") as monitor:
        facts = await read_facts(monitor, pid=guest.pid)
        stretches = await find_stretches(monitor, facts.ram_blocks, guest.pid)
    assert [stretch.name for stretch in stretches] == ["pc.ram"]
    memory = ProcessMemory(process)
    try:
        seen = await peek(Peeker(memory, stretches), 1.0)
    finally:
        memory.close()
    work = world.monitor.timeline().work  # a machine that is busy lets the guest do less than it was told
    assert len(seen.points) >= 6
    for wanted_s in (0.1, 0.4, 1.0):
        point = min(seen.points, key=lambda each: abs(each.window_s - wanted_s))
        true_bytes = KNOWN.dirtied_bytes(point.window_s * work)
        assert abs(point.dirtied_bytes - true_bytes) < 3 * point.error_bytes, (point, true_bytes, work)
    assert abs(seen.zero_bytes.value - (facts.ram_bytes - (12 << 20))) < 2 << 20
    assert seen.delta_ratio is not None
    assert 0.9 < seen.delta_ratio.value <= 1.0  # its pages are rewritten all over


async def test_a_guest_that_is_gone_is_seen_to_be(world: World) -> None:
    guest = await world.boot()
    process = identify_peer(guest.pid)
    async with await Monitor.connect(guest.qmp, side="source") as monitor:
        facts = await read_facts(monitor, pid=guest.pid)
        stretches = await find_stretches(monitor, facts.ram_blocks, guest.pid)
    memory = ProcessMemory(process)
    peeker = Peeker(memory, stretches)
    peeker.look()
    guest.process.kill()
    guest.process.wait()
    with pytest.raises(WhimbrelError, match="can't be read any more: its process has ended"):
        peeker.look()
    memory.close()
