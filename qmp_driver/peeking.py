"""Looks at a sample of a running guest's pages, from outside of its QEMU: for dirty curves on any QEMU.

The source runs on this host and we may read its process: ``/proc/PID/mem`` gives the bytes of its pages and
``/proc/PID/pagemap`` says which of them are there at all. QEMU notices nothing of it, and the guest loses what a
reader of 16 MiB in some tens of milliseconds takes of caches and of a core. `whimbrel.engine.measuring` says
what becomes of what was seen.

Pages that nobody ever touched are not touched here either: they are zero, and reading some of them would give them a
place in memory. Pages that lie in swap are not fetched from there: nobody has written them since. Of memory that is
shared QEMU's own map of pages tells only what QEMU itself has touched; there the file behind it says what is a hole.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from whimbrel.engine.belief import CurvePoint
from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.deltas import wire_ratio
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.measuring import UNREAD_MARK, ZERO_MARK, Look, delta_of, looks_for, points_of, zero_of

from .peeking_places import PROC, CannotPeek, Stretch, mappings, spread
from .processes import ProcessIdentity, is_alive

T = TypeVar("T")

FEWEST_PAGES: Final = 4096
MOST_PAGES: Final = 8192
"""In a sample, one of each MiB between these: 16 to 32 MiB. The standard error of a share of them is 0.8 % of memory at
most."""
BATCH_PAGES: Final = 64
"""Read one after the other, a fraction of a millisecond, and stamped together."""
MOST_DELTAS: Final = 512
_ENTRY_BYTES: Final = 8
_PRESENT, _SWAPPED = 0x80, 0x40
"""Bits 63 and 62 of an entry (Documentation/admin-guide/mm/pagemap.rst), in its last byte."""
ZEROS: Final = bytes(PAGE_BYTES)


class MemoryGone(WhimbrelError):
    """What was looked at is not there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a series of looks came to.

    Attributes:
        points: of the dirty curve.
        zero_bytes: pages that were zero all the time, of what was sampled.
        delta_ratio: of pages that changed; ``None``: too few did.
        sampled_bytes: the memory that the sample stands for.
        read_bytes: how much of it was read.
        cpu_s: what the looks took of a core.
    """

    points: tuple[CurvePoint, ...]
    zero_bytes: Estimate
    delta_ratio: Estimate | None
    sampled_bytes: int
    read_bytes: int
    cpu_s: float


class ProcessMemory:
    """The memory of a process of this host, a page at a time."""

    def __init__(self, process: ProcessIdentity, *, proc: Path = PROC) -> None:
        """
        Args:
            process: QEMU's.
            proc: where the kernel shows processes.

        Raises:
            CannotPeek: we may not read it, or it has ended.
        """
        self._contents = self._map = -1
        self._files: dict[str, int | None] = {}
        self._place = proc / str(process.pid)
        try:
            self._contents = os.open(self._place / "mem", os.O_RDONLY | os.O_CLOEXEC)
            self._map = os.open(self._place / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
            self._shared = [each for each in mappings(process.pid, proc=proc) if each.shared]
        except OSError as error:
            self.close()
            raise CannotPeek(f"process {process.pid} may not be read: {error.strerror}") from error
        # The descriptors hold to the process that they were opened for: if it is the right one now, it always is.
        if not is_alive(process):
            self.close()
            raise CannotPeek(f"process {process.pid} has ended")

    def read(self, address: int) -> bytes | None:
        """A page; ``None``: it lies in swap, or nobody can tell whether it was ever touched. One that was not is zero.

        Raises:
            OSError: the process has ended, or has nothing there any more.
        """
        entry = os.pread(self._map, _ENTRY_BYTES, address // mmap.PAGESIZE * _ENTRY_BYTES)
        if len(entry) < _ENTRY_BYTES:
            raise ProcessLookupError(0, "its process has ended")
        if entry[-1] & _SWAPPED:
            return None
        if not entry[-1] & _PRESENT:
            written = self._is_written(address)
            if not written:
                return ZEROS if written is not None else None
        content = os.pread(self._contents, PAGE_BYTES, address)
        if len(content) < PAGE_BYTES:
            raise ProcessLookupError(0, "its process has ended")
        return content

    def close(self) -> None:
        """Let go of it; idempotent."""
        for descriptor in (self._contents, self._map, *self._files.values()):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._contents = self._map = -1
        self._files = {}

    def _is_written(self, address: int) -> bool | None:
        """Whether a page that QEMU has not touched was by others; ``None``: nobody can tell."""
        place = bisect_right(self._shared, address, key=lambda mapping: mapping.first) - 1
        if place < 0 or address >= self._shared[place].after:
            return False  # nobody else has it
        mapping = self._shared[place]
        name = f"{mapping.first:x}-{mapping.after:x}"
        if name not in self._files:
            try:
                self._files[name] = os.open(self._place / "map_files" / name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._files[name] = None  # for that one has to be root
        file = self._files[name]
        if file is None:
            return None
        offset = address - mapping.first + mapping.offset_bytes
        try:
            return os.lseek(file, offset, os.SEEK_DATA) == offset
        except OSError:
            return False  # there is nothing from here to its end


class Pages(Protocol):
    """Whatever has pages to read."""

    def read(self, address: int) -> bytes | None:
        """As `ProcessMemory.read`."""
        ...


class Peeker:
    """Reads the same pages again and again. It blocks meanwhile: for a thread of its own."""

    def __init__(self, memory: Pages, stretches: Sequence[Stretch]) -> None:
        """
        Args:
            memory: of the guest's QEMU.
            stretches: where in it the guest's memory lies. A small guest's pages are all looked at.
        """
        self.read_bytes = 0
        self.cpu_s = 0.0
        self.sampled_bytes = sum(each.size_bytes for each in stretches)
        self._memory = memory
        pages = min(max(FEWEST_PAGES, self.sampled_bytes >> 20), MOST_PAGES)
        self._addresses = tuple(spread(stretches, pages))
        self._first: list[bytes | None] = []
        self._last: list[bytes | None] = []

    def look(self) -> Look:
        """Read all pages once; some tens of milliseconds.

        Raises:
            MemoryGone: the process has ended, or its memory is somewhere else now.
        """
        began_s = time.thread_time()
        stamps: list[float] = []
        contents: list[bytes | None] = []
        try:
            for first in range(0, len(self._addresses), BATCH_PAGES):
                stamps.append(time.monotonic())
                contents += map(self._memory.read, self._addresses[first : first + BATCH_PAGES])
        except OSError as error:
            raise MemoryGone(f"its memory can't be read any more: {error.strerror}", side="source") from error
        self.read_bytes += PAGE_BYTES * sum(content is not None and content is not ZEROS for content in contents)
        self._keep(contents)
        self.cpu_s += time.thread_time() - began_s
        return Look(tuple(stamps), tuple(map(_mark, self._last)))

    def ratios(self) -> list[float]:
        """What pages that changed from the first look to the last would come to as deltas, a part of a page each."""
        began_s = time.thread_time()
        pairs = zip(self._first, self._last, strict=True)
        changed = [(old, new) for old, new in pairs if old is not None and new is not None and old != new]
        stride = -(-len(changed) // MOST_DELTAS) or 1
        found = [wire_ratio(old, new) for old, new in changed[::stride]]
        self.cpu_s += time.thread_time() - began_s
        return found

    def _keep(self, contents: list[bytes | None]) -> None:
        """What lies in swap now is as it was; what lay there at first stays unread: nobody knows what it was."""
        if not self._first:
            self._first = self._last = contents
            return
        looks = zip(self._first, self._last, contents, strict=True)
        self._last = [None if first is None else last if now is None else now for first, last, now in looks]


async def peek(peeker: Peeker, span_s: float) -> Seen:
    """Look several times, as `looks_for` says, and make points of it.

    Args:
        peeker: not in use.
        span_s: from the first look to the last, seconds.

    Raises:
        MemoryGone: as `Peeker.look`.

    If cancelled: a look under way ends first.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    looks: list[Look] = []
    for moment_s in looks_for(span_s):
        await asyncio.sleep(began_s + moment_s - loop.time())
        looks.append(await _in_thread(peeker.look))
    return await _in_thread(lambda: _conclude(peeker, looks))


def _conclude(peeker: Peeker, looks: Sequence[Look]) -> Seen:
    ratios = peeker.ratios()
    return Seen(
        points=points_of(looks, peeker.sampled_bytes),
        zero_bytes=zero_of(looks, peeker.sampled_bytes),
        delta_ratio=delta_of(ratios),
        sampled_bytes=peeker.sampled_bytes,
        read_bytes=peeker.read_bytes,
        cpu_s=peeker.cpu_s,
    )


async def _in_thread(work: Callable[[], T]) -> T:
    """Do it in a thread and wait for its end, whatever comes: what it uses is closed after us."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        working.exception()  # seen: nobody asks any more how it went
        raise


def _mark(content: bytes | None) -> int:
    if content is None:
        return UNREAD_MARK
    return ZERO_MARK if content == ZEROS else hash(content)
