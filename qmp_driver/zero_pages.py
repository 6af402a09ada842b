"""How much of a guest's memory is zero, where only its monitor can be reached: pages as the human monitor prints them.

A page takes QEMU about a millisecond to print, and its main loop does nothing else meanwhile. So only a few hundred are
looked at, each by its first bytes first, which settles most of those that are not zero.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Final

import msgspec

from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.errors import QemuRefused
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.measuring import UNREAD_MARK, ZERO_MARK, Look, zero_of, zero_unknown

from .facts import RamBlock
from .peeking_places import human, memory_at, seen_by_guest, spread
from .replies import Executor, fit

PAGES: Final = 256
"""The standard error of a share of them is 3 % of memory at most."""
_WORD_BYTES: Final = 8
_FIRST_WORDS: Final = 8
_PAGE_WORDS: Final = PAGE_BYTES // _WORD_BYTES
_WORDS = re.compile(r"0x([0-9a-f]{16})\b")


class _Backend(msgspec.Struct, frozen=True):
    share: bool = False


async def sample_zero(executor: Executor, blocks: Sequence[RamBlock], *, pages: int = PAGES) -> Estimate:
    """Look at some pages of the guest's RAM.

    Memory that is shared or made of huge pages is not looked at: reading what was never touched would give it a place.

    Args:
        executor: the source's monitor.
        blocks: the guest's RAM (`facts.SideFacts.guest_ram`).
        pages: how many to look at, 1 or more.

    Returns:
        Bytes that are zero; `zero_unknown` where nothing may or can be looked at.

    Raises:
        OutcomeUnknown, CannotConnect: there is no answer.
    """
    ram_bytes = sum(block.used_bytes for block in blocks)
    try:
        backends = fit(list[_Backend], "query-memdev", await executor.execute("query-memdev"))
        if any(backend.share for backend in backends) or any(block.page_bytes > PAGE_BYTES for block in blocks):
            return zero_unknown(ram_bytes)
        seen = await seen_by_guest(executor)
        ranges = tuple(dict.fromkeys(part for part in seen if any(part.is_of(block) for block in blocks)))
        names = {part.name for part in ranges}
        zero = [
            await _is_zero(executor, address)
            for address in spread(ranges, pages)
            if await _is_memory(executor, address, names)
        ]
    except QemuRefused:
        return zero_unknown(ram_bytes)
    if not zero:
        return zero_unknown(ram_bytes)
    return zero_of([Look((), tuple(ZERO_MARK if each else UNREAD_MARK for each in zero))], ram_bytes)


async def _is_memory(executor: Executor, address: int, names: Container[str]) -> bool:
    """Whether the guest's processors see its RAM there: to read from a device may change it."""
    found = await memory_at(executor, address)
    return found is not None and found[0] in names


async def _is_zero(executor: Executor, address: int) -> bool:
    if any(await _words(executor, address, _FIRST_WORDS)):
        return False
    return not any(await _words(executor, address, _PAGE_WORDS))


async def _words(executor: Executor, address: int, count: int) -> list[int]:
    text = await human(executor, f"xp /{count}gx {address:#x}")
    return [int(word, 16) for word in _WORDS.findall(text)]
