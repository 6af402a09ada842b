"""The guest's serial protocol: lines of text in, typed records out.

Every line is one letter, fields in hexadecimal (names and messages are words) separated by single blanks, a star and
Fletcher's checksum of all before it (both sums modulo 256, second sum first)::

    H 2a 3d090 1f40 12 0 7d0 0*91c3

A reader may come in the middle of a line and a side may die in one; whatever does not pass the checksum is
counted and skipped, never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = [
    "TAUS_S",
    "Banner",
    "ClassState",
    "DirtyRow",
    "GuestFailure",
    "Heartbeat",
    "LineParser",
    "Record",
    "Verification",
    "checksum",
    "parse_line",
]

#: The windows of a dirty report, in seconds.
TAUS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
)
#: Version of this protocol; the guest states its own in the banner.
PROTOCOL: Final = 1
_LONGEST_LINE_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One beat.

    Attributes:
        sequence: counts the beats, from 1, without a gap.
        guest_us: guest clock in microseconds since its start; stands still while the machine is stopped.
        writes: page writes since the start.
        lag_us: the most that the writer was behind since the last beat.
        dropped: page writes that fell more than 20 ms behind and were given up, since the start.
        checked: pages checked since the start.
        bad: findings of all checks since the start; anything but 0 means that memory was damaged.
    """

    sequence: int
    guest_us: int
    writes: int
    lag_us: int
    dropped: int
    checked: int
    bad: int


@dataclass(frozen=True, slots=True)
class Banner:
    """What the guest runs, as it understood its command line.

    Attributes:
        protocol: version of this protocol.
        ram_end_page: first page number (address / 4096) behind the usable memory.
        first_page: page number of the first class.
        pages: of all classes.
        classes: number of classes; as many :class:`ClassState` follow.
        beat_hz: heartbeats per second.
        seed: of all choices and contents.
        check_pages_per_s: speed of the continuous check.
        hot_pages: pages of the program itself that every turn of its loop dirties.
        tsc_khz: frequency of the guest's time-stamp counter as calibrated.
        started_us: guest clock when the filling was done and the writing (and every first period) began.
    """

    protocol: int
    ram_end_page: int
    first_page: int
    pages: int
    classes: int
    beat_hz: int
    seed: int
    check_pages_per_s: int
    hot_pages: int
    tsc_khz: int
    started_us: int


@dataclass(frozen=True, slots=True)
class ClassState:
    """One page class as the guest has it, and what it did so far.

    Attributes:
        index: from 0, in the order of the command line.
        name: as given.
        first_page: page number (address / 4096).
        pages: how many.
        rate_mpps: thousandths of a page write per second, while on.
        content: ``z``, ``c``, ``p`` or ``r``.
        touch: vectors of 16 bytes of the body that a write changes.
        period_us: length of a phase cycle, 0 if always on.
        on_us: how much of it the class writes.
        shift_us: how far into its first period it began.
        steps: steps of its popularity, 0 for a sweep.
        writes: page writes since the start.
        dropped: page writes given up since the start.
    """

    index: int
    name: str
    first_page: int
    pages: int
    rate_mpps: int
    content: str
    touch: int
    period_us: int
    on_us: int
    shift_us: int
    steps: int
    writes: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a check of every page.

    Attributes:
        number: counts the verifications, from 1.
        pages: how many were checked: all.
        torn: pages that are no whole version of themselves, or not themselves.
        stale_groups: groups of 64 pages whose versions do not add up to what was written.
        flags: bit 0: the groups' writes do not add up to all writes; bit 1: nor their hashes; bit 2: memory
            as a whole disagrees (now or earlier) with the counters that the vCPU's registers carried over.
        rewound: how often, since the start, memory was found behind those registers.
        bad: findings of all checks since the start.
        first_bad_page: page number of this check's first finding (of a stale group: its first page), or 0.
        writes: page writes since the start.
        took_us: guest time of the walk.
    """

    number: int
    pages: int
    torn: int
    stale_groups: int
    flags: int
    rewound: int
    bad: int
    first_bad_page: int
    writes: int
    took_us: int

    @property
    def passed(self) -> bool:
        """No write was lost and no page is damaged, now or at any earlier check."""
        return not (self.torn or self.stale_groups or self.flags or self.rewound or self.bad)

    def __str__(self) -> str:
        """One sentence."""
        if self.passed:
            return f"{self.pages} pages checked against {self.writes} writes: none lost, none torn"
        return (
            f"MEMORY DAMAGED: of {self.pages} pages {self.torn} torn, {self.stale_groups} groups stale, "
            f"counters gone back {self.rewound} times, {self.bad} findings in all, flags {self.flags:#x}, "
            f"first at page {self.first_bad_page:#x}"
        )


@dataclass(frozen=True, slots=True)
class DirtyRow:
    """Part of a dirty report: distinct pages written in the windows that end at one instant.

    Attributes:
        number: counts the reports, from 1.
        guest_us: the instant.
        row: index of the class; one behind the last class: the accumulators' own pages.
        pages: for each window of :data:`TAUS_S`, how many.
    """

    number: int
    guest_us: int
    row: int
    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GuestFailure:
    """The guest cannot run what it was asked to; it repeats this and does nothing else."""

    message: str


Record = Heartbeat | Banner | ClassState | Verification | DirtyRow | GuestFailure


def checksum(text: bytes) -> int:
    """Fletcher's checksum with sums modulo 256, second sum in the high byte."""
    first = second = 0
    for byte in text:
        first += byte
        second += first
    return (second % 256) << 8 | first % 256


def _numbers(words: list[str]) -> list[int]:
    return [int(word, 16) for word in words]


def _class_state(words: list[str]) -> ClassState:
    name, content = words.pop(1), words.pop(4)
    index, first, pages, rate, touch, period, on, shift, steps, writes, dropped = _numbers(words)
    return ClassState(
        *(index, name, first, pages, rate, content, touch),
        *(period, on, shift, steps, writes, dropped),
    )


def _dirty_row(words: list[str]) -> DirtyRow:
    number, guest_us, row, *pages = _numbers(words)
    if len(pages) != len(TAUS_S):
        raise ValueError("not as many windows as there should be")
    return DirtyRow(number, guest_us, row, tuple(pages))


_READERS: Final[dict[str, Callable[[list[str]], Record]]] = {
    "H": lambda words: Heartbeat(*_numbers(words)),
    "B": lambda words: Banner(*_numbers(words)),
    "C": _class_state,
    "V": lambda words: Verification(*_numbers(words)),
    "D": _dirty_row,
    "E": lambda words: GuestFailure(" ".join(words)),
}


def parse_line(line: bytes) -> Record | None:
    """Reads one line without its end; None if it is torn, garbage or of an unknown kind."""
    body, star, tail = line.rpartition(b"*")
    try:
        if not star or tail != b"%04x" % checksum(body):
            return None
        kind, *words = body.decode("ascii").split(" ")
        return _READERS[kind](words)
    except (ValueError, TypeError, LookupError):
        # ValueError: no number, not ASCII, wrong count to unpack; TypeError: wrong count of fields;
        # LookupError: unknown kind, too few words.
        return None


class LineParser:
    """Cuts a byte stream into records.

    Attributes:
        damaged: lines (or over-long stretches without an end) that were skipped.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[Record]:
        """Takes what arrived; returns the records that it completed, in order."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        records: list[Record] = []
        for line in lines:
            record = parse_line(line)
            if record is None:
                self.damaged += 1
            else:
                records.append(record)
        if len(self._rest) > _LONGEST_LINE_BYTES:  # bounded memory, whatever is at the other end
            self.damaged += 1
            self._rest = b""
        return records
