"""Where a guest's memory lies in the address space of its QEMU, as QEMU itself says."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.errors import QemuRefused, WhimbrelError

from .facts import RamBlock
from .replies import Executor, fit

PROC: Final = Path("/proc")
LEAST_BYTES: Final = 1 << 20
"""Smaller blocks hold firmware and its tables, which nobody writes: they are not looked at."""

_SEED: Final = 4096
"""Fixed: the same guest gives the same sample."""
_RANGE = re.compile(
    r"^\s*(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16}) \(prio -?\d+, (?:ram|rom|nv-ram|romd)\): "
    r"(?P<name>\S+)(?: @(?P<offset>[0-9a-f]{16}))?"
)
_ANSWER = re.compile(r"Host virtual address for 0x[0-9a-f]+ \((?P<name>.*)\) is 0x(?P<host>[0-9a-f]+)")
_MAPPING = re.compile(r"^(?P<first>[0-9a-f]+)-(?P<after>[0-9a-f]+) r[w-].(?P<shared>[sp]) (?P<offset>[0-9a-f]+) ")


class CannotPeek(WhimbrelError):
    """The guest's memory can't be looked at from here; the message says why, as a clause."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A block of guest memory in QEMU's address space.

    Attributes:
        name: the block's, as both ends of a migration know it.
        address: of its first byte, in the process.
        size_bytes: how much of it is in use.
    """

    name: str
    address: int
    size_bytes: int


async def find_stretches(executor: Executor, blocks: Sequence[RamBlock], pid: int) -> tuple[Stretch, ...]:
    """Find the blocks of memory that are worth a look.

    QEMU's memory tree names the addresses at which the guest sees each block, ``gpa2hva`` says where QEMU has one of
    them, and the kernel's list of mappings has to agree. Each is a line of the human monitor: QMP tells nothing of
    the kind.

    Args:
        executor: the source's monitor.
        blocks: of memory, as `facts.parse_ram_blocks` gives them.
        pid: QEMU's process, proven to be it (``truth.Peer``).

    Returns:
        By address; blocks that the guest can't see now (a video card without a driver) are left out.

    Raises:
        CannotPeek: no block was found, the process is hidden from us, or it has other ideas of its memory.
        OutcomeUnknown, CannotConnect: there is no answer.
    """
    try:
        seen = tuple(await seen_by_guest(executor))
        known = tuple(mappings(pid))
        found: list[Stretch] = []
        for block in blocks:
            if block.used_bytes >= LEAST_BYTES:
                address = await _address_of(executor, block, seen)
                if address is not None:
                    found.append(_checked(block, address, known))
    except QemuRefused as error:
        raise CannotPeek(f"QEMU does not say where its memory lies: {error.description}") from None
    except OSError as error:
        raise CannotPeek(f"process {pid} is hidden from us: {error.strerror}") from error
    if not found:
        raise CannotPeek("QEMU does not say where its memory lies")
    return tuple(sorted(found, key=lambda stretch: stretch.address))


@dataclass(frozen=True, slots=True)
class SeenRange:
    """A part of a block, as the guest sees it.

    Attributes:
        name: of the memory, without the device's place before it.
        address: the guest's physical one.
        size_bytes: how long it is.
        offset_bytes: where in the block it begins.
    """

    name: str
    address: int
    size_bytes: int
    offset_bytes: int

    def is_of(self, block: RamBlock) -> bool:
        """Whether it is a part of this block: one of a device is called after its place (``0000:00:02.0/vga.vram``)."""
        return block.name == self.name or block.name.endswith(f"/{self.name}")


async def seen_by_guest(executor: Executor) -> Iterator[SeenRange]:
    """The guest's memory as it sees it: all of its address spaces, in no order; the same range may come twice.

    Raises:
        QemuRefused, OutcomeUnknown, CannotConnect: there is no answer.
    """
    tree = await human(executor, "info mtree -f")
    return (
        SeenRange(
            match["name"],
            first := int(match["first"], 16),
            int(match["last"], 16) - first + 1,
            int(match["offset"] or "0", 16),
        )
        for match in map(_RANGE.match, tree.splitlines())
        if match is not None
    )


def spread(parts: Sequence[Stretch | SeenRange], pages: int) -> Iterator[int]:
    """Choose pages: one at random out of each of so many pieces of memory alike in size.

    Args:
        parts: of memory.
        pages: how many to choose; all, where there are fewer.

    Returns:
        Their addresses, in the order of the parts, rising in each.
    """
    counts = [part.size_bytes // PAGE_BYTES for part in parts]
    ends = list(accumulate(counts, initial=0))
    total = ends[-1]
    pages = min(pages, total)
    draw = random.Random(_SEED)
    for piece in range(pages):
        page = draw.randrange(total * piece // pages, total * (piece + 1) // pages)
        place = bisect_right(ends, page) - 1
        yield parts[place].address + (page - ends[place]) * PAGE_BYTES


async def human(executor: Executor, line: str) -> str:
    """What the human monitor answers.

    Raises:
        QemuRefused, OutcomeUnknown, CannotConnect: there is no answer.
    """
    return fit(str, line, await executor.execute("human-monitor-command", {"command-line": line}))


async def memory_at(executor: Executor, address: int) -> tuple[str, int] | None:
    """What memory the guest's processors see at an address, and where QEMU has it; ``None``: a device, or nothing.

    Other address spaces (of devices, of system management mode) may have something else there.

    Raises:
        QemuRefused, OutcomeUnknown, CannotConnect: there is no answer.
    """
    answer = _ANSWER.search(await human(executor, f"gpa2hva {address:#x}"))
    return None if answer is None else (answer["name"], int(answer["host"], 16))


async def _address_of(executor: Executor, block: RamBlock, seen: Sequence[SeenRange]) -> int | None:
    """Where QEMU has the first byte of a block; ``None`` where the guest does not see it."""
    for part in dict.fromkeys(part for part in seen if part.is_of(block)):
        found = await memory_at(executor, part.address)
        if found is not None and found[0] == part.name:
            return found[1] - part.offset_bytes
    return None


def _checked(block: RamBlock, address: int, known: Iterable[Mapped]) -> Stretch:
    """A block that lies in mappings without a gap."""
    at, end = address, address + block.used_bytes
    for mapping in known:
        if mapping.first <= at < mapping.after:
            at = mapping.after
            if at >= end:
                return Stretch(block.name, address, block.used_bytes)
    raise CannotPeek(f"QEMU says that {block.name} lies at {address:#x}, and the kernel knows no such memory there")


class Mapped(NamedTuple):
    """A piece of a process's address space that can be read.

    Attributes:
        first: its first address.
        after: the one behind its last.
        shared: whether others share what is written there.
        offset_bytes: where in its file it begins.
    """

    first: int
    after: int
    shared: bool
    offset_bytes: int


def mappings(pid: int, *, proc: Path = PROC) -> Iterator[Mapped]:
    """What a process can read, by address.

    Args:
        pid: the process.
        proc: where the kernel shows processes.

    Raises:
        OSError: it has ended, or is hidden from us.
    """
    for line in (proc / f"{pid}/maps").read_text(errors="replace").splitlines():
        match = _MAPPING.match(line)
        if match is not None:
            first, after, offset = (int(match[name], 16) for name in ("first", "after", "offset"))
            yield Mapped(first, after, match["shared"] == "s", offset)
