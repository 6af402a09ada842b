"""How much of a guest is zero, as far as its monitor tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.qmp_driver.test_peeking_places import TREE
from tests.support.guests import World
from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.errors import QemuRefused
from whimbrel.engine.measuring import zero_unknown
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.facts import RamBlock, read_facts
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.zero_pages import PAGES, sample_zero

RAM = RamBlock("pc.ram", 0, 4 << 20, 4 << 20, 4096)


DEVICE = range(0xA0000, 0xC0000)
"""Where a PC's processors see its video card, and its system management mode sees RAM."""
SMM = """\
FlatView #2
 AS "cpu-smm-0", root: mem
  0000000000000000-00000000000fffff (prio 0, ram): pc.ram
"""


class Printing:
    """A QEMU that prints memory: zero above an address, below it a word in each page, behind many zeros."""

    def __init__(self, zero_from: int, *, share: bool = False, tree: str = TREE) -> None:
        self.looked_at: list[tuple[int, int]] = []
        self._zero_from = zero_from
        self._share = share
        self._tree = tree

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float = 10, oob: bool = False
    ) -> object:
        """Answer."""
        if command == "query-memdev":
            return [{"id": "pc.ram", "share": self._share, "size": 4 << 20}]
        assert arguments is not None
        line = str(arguments["command-line"])
        if line == "info mtree -f":
            return self._tree
        if line.startswith("gpa2hva"):
            name = "vga-lowmem" if int(line.split()[1], 16) in DEVICE else "pc.ram"
            return f"Host virtual address for {line.split()[1]} ({name}) is 0x1000\r\n"
        word, count, address = line.split()
        assert word == "xp"
        words = int(count.strip("/gx"))
        at = int(address, 16)
        self.looked_at.append((at, words))
        shown = [0] * words
        if at < self._zero_from and words == PAGE_BYTES // 8:
            shown[300] = 0xABC
        return "".join(f"{at + 8 * place:016x}: 0x{value:016x}\r\n" for place, value in enumerate(shown))


async def test_a_page_is_zero_only_if_all_of_it_is() -> None:
    """2 MiB of the 3.75 MiB that the guest sees of its RAM are zero; the first words alone would say that all is."""
    printing = Printing(2 << 20)
    found = await sample_zero(printing, [RAM])
    assert len([1 for _, words in printing.looked_at if words == 8]) == PAGES
    assert found.value == pytest.approx(RAM.used_bytes * 2 / 3.75, rel=0.05)
    assert 0 < found.spread < 0.05


async def test_memory_where_reading_makes_places_is_left_alone() -> None:
    """Shared memory, and huge pages."""
    shared, plain = Printing(0, share=True), Printing(0)
    assert await sample_zero(shared, [RAM]) == zero_unknown(RAM.used_bytes)
    assert await sample_zero(plain, [replace(RAM, page_bytes=2 << 20)]) == zero_unknown(RAM.used_bytes)
    assert shared.looked_at == plain.looked_at == []


async def test_where_the_processors_see_a_device_nothing_is_read() -> None:
    """Though another address space has RAM there: to read from a device may change it."""
    printing = Printing(0, tree=SMM)
    found = await sample_zero(printing, [RAM])
    assert {at for at, _ in printing.looked_at} == set(range(0, 1 << 20, PAGE_BYTES)) - set(DEVICE)
    assert found.value == RAM.used_bytes


async def test_memory_that_is_not_found_is_not_known() -> None:
    assert await sample_zero(Printing(0, tree=""), [RAM]) == zero_unknown(RAM.used_bytes)


async def test_a_qemu_without_a_human_monitor_does_not_tell() -> None:
    class Refusing(Printing):
        async def execute(self, command: str, *_: object, **__: object) -> object:
            raise QemuRefused(command, "CommandNotFound", "The command has not been found")

    assert await sample_zero(Refusing(0), [RAM]) == zero_unknown(RAM.used_bytes)


async def test_a_real_guest(world: World) -> None:
    """10 MiB of it are full, in a hot and a cold class; all else is zero but for the guest's own program."""
    guest = await world.boot(spec=WorkloadSpec.parse(("hot:size=4MiB,rate=1MiB/s", "cold:size=6MiB"), beat_hz=200))
    async with await Monitor.connect(guest.qmp, side="source") as monitor:
        facts = await read_facts(monitor, pid=None)
        found = await sample_zero(monitor, facts.guest_ram)
    assert found.source == "sampled"
    assert found.value == pytest.approx(facts.ram_bytes - (10 << 20), abs=3 * found.spread * found.value + (1 << 20))
