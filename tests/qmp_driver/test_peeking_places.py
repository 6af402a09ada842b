"""Where a guest's memory lies: this process stands in for QEMU's, with a mapping of its own for the guest's RAM."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import tempfile
from collections.abc import Generator, Mapping

import pytest

from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.errors import QemuRefused
from whimbrel.qmp_driver.facts import RamBlock
from whimbrel.qmp_driver.peeking_places import (
    CannotPeek,
    Mapped,
    SeenRange,
    Stretch,
    find_stretches,
    mappings,
    seen_by_guest,
    spread,
)

MIB = 1 << 20
TREE = """\
FlatView #0
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000dffff (prio 0, rom): pc.ram @00000000000c0000 KVM
  0000000000100000-00000000003fffff (prio 0, ram): pc.ram @0000000000100000
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
FlatView #1
 AS "I/O", root: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan
"""


class Human:
    """A QEMU that answers the human monitor's questions about its memory."""

    def __init__(self, places: Mapping[int, tuple[str, int]], tree: str = TREE) -> None:
        """
        Args:
            places: which memory it says to have for an address of the guest's, and where.
            tree: what it says of all.
        """
        self.asked: list[str] = []
        self._places = places
        self._tree = tree

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
        oob: bool = False,
    ) -> object:
        """Answer."""
        assert command == "human-monitor-command"
        assert arguments is not None
        line = str(arguments["command-line"])
        self.asked.append(line)
        if line == "info mtree -f":
            return self._tree
        word, address = line.split()
        assert word == "gpa2hva"
        if int(address, 16) not in self._places:
            return f"No memory is mapped at address {address}\r\n"
        name, place = self._places[int(address, 16)]
        return f"Host virtual address for {address} ({name}) is {place:#x}\r\n"


class Silent(Human):
    """One that was built without the human monitor."""

    async def execute(self, command: str, *_: object, **__: object) -> object:
        """Refuse."""
        raise QemuRefused(command, "CommandNotFound", "The command has not been found")


@pytest.fixture
def ram() -> Generator[int]:
    """Where 4 MiB of this process lie."""
    with mmap.mmap(-1, 4 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        first = ctypes.c_char.from_buffer(memory)
        yield ctypes.addressof(first)
        del first


def block(name: str, size_bytes: int = 4 * MIB) -> RamBlock:
    return RamBlock(name, 0, size_bytes, size_bytes, 4096)


async def test_qemu_says_where_its_memory_lies_and_the_kernel_agrees(ram: int) -> None:
    """The address is that of the block's first byte, whatever part of it the guest sees first."""
    told = Human({0x100000: ("pc.ram", ram + 0x100000)})
    (found,) = await find_stretches(told, [block("pc.ram"), block("pc.bios", 262144)], os.getpid())
    assert found == Stretch("pc.ram", ram, 4 * MIB)
    assert told.asked == ["info mtree -f", "gpa2hva 0x0", "gpa2hva 0xc0000", "gpa2hva 0x100000"]


async def test_memory_of_a_device_goes_by_its_place_too(ram: int) -> None:
    told = Human({0xFD000000: ("vga.vram", ram)})
    (found,) = await find_stretches(told, [block("0000:00:01.0/vga.vram")], os.getpid())
    assert (found.name, found.address) == ("0000:00:01.0/vga.vram", ram)


async def test_what_another_space_has_at_the_address_is_not_taken(ram: int) -> None:
    """What the guest does not see at all is left out; nothing at all is an error."""
    told = Human({0: ("smram", ram), 0xC0000: ("smram", ram), 0x100000: ("smram", ram)})
    with pytest.raises(CannotPeek, match="does not say where its memory lies"):
        await find_stretches(told, [block("pc.ram"), block("nvdimm")], os.getpid())


async def test_memory_that_the_kernel_does_not_know_is_not_believed(ram: int) -> None:
    """A QEMU in another namespace may have the same pid as somebody here."""
    told = Human({0: ("pc.ram", ram)})
    with pytest.raises(CannotPeek, match="knows no such memory"):
        await find_stretches(told, [block("pc.ram", 1 << 40)], os.getpid())


def test_shared_memory_is_told_from_other(ram: int) -> None:
    """With the place in its file at which it begins."""
    with tempfile.TemporaryFile() as file:
        file.truncate(4 * MIB)
        with mmap.mmap(file.fileno(), MIB, offset=MIB) as memory:
            first = ctypes.c_char.from_buffer(memory)
            address = ctypes.addressof(first)
            known = {each.first: each for each in mappings(os.getpid())}
            del first
    assert known[address] == Mapped(address, address + MIB, True, MIB)
    assert not any(each.shared for each in known.values() if each.first <= ram < each.after)


async def test_a_qemu_that_does_not_say() -> None:
    with pytest.raises(CannotPeek, match="has not been found"):
        await find_stretches(Silent({}), [block("pc.ram")], os.getpid())


@pytest.fixture
def ended_pid() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


async def test_a_process_that_has_ended(ram: int, ended_pid: int) -> None:
    with pytest.raises(CannotPeek, match="is hidden from us"):
        await find_stretches(Human({0: ("pc.ram", ram)}), [block("pc.ram")], ended_pid)


async def test_the_guests_view_has_sizes_and_offsets() -> None:
    seen = list(await seen_by_guest(Human({})))
    assert seen == [
        SeenRange("pc.ram", 0, 0xA0000, 0),
        SeenRange("pc.ram", 0xC0000, 0x20000, 0xC0000),
        SeenRange("pc.ram", 0x100000, 0x300000, 0x100000),
        SeenRange("vga.vram", 0xFD000000, 0x1000000, 0),
    ]


@pytest.mark.parametrize("as_seen", [False, True], ids=["in QEMU", "as the guest sees it"])
def test_pages_are_spread_evenly_one_in_each_piece(as_seen: bool) -> None:
    """Over all parts as if they lay side by side; the same every time."""
    places = ((0, 40 * PAGE_BYTES), (1 << 30, 24 * PAGE_BYTES))
    parts = [SeenRange("ram", at, size, 0) if as_seen else Stretch("ram", at, size) for at, size in places]
    chosen = list(spread(parts, 16))
    pages = [
        address // PAGE_BYTES if address < 1 << 30 else 40 + (address - (1 << 30)) // PAGE_BYTES for address in chosen
    ]
    assert [page // 4 for page in pages] == list(range(16))
    assert list(spread(parts, 16)) == chosen


def test_all_pages_of_a_small_guest_are_chosen() -> None:
    assert list(spread([Stretch("ram", 8192, 3 * PAGE_BYTES)], 4096)) == [8192, 12288, 16384]
    assert list(spread([], 4096)) == []
