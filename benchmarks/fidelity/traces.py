"""What QEMU's own trace events tell of a migration: every sync, every window, and the parts of the switchover.

Only stamps and figures are taken; nothing of it goes into a prediction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

EVENTS: Final = (
    "migrate_set_state",
    "migration_thread_setup_complete",
    "migration_bitmap_sync_start",
    "migration_bitmap_sync_end",
    "migrate_pending",
    "migrate_transferred",
    "migration_thread_low_pending",
    "migration_completion_vm_stop",
    "savevm_section_start",
    "savevm_section_end",
    "migration_return_path_end_before",
    "migration_return_path_end_after",
    "migration_thread_after_loop",
)
"""What is traced on the source. None comes more often than every few milliseconds."""

_LINE: Final = re.compile(r"(\d+)@(\d+\.\d+):(\w+) ?(.*)")
_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Traced:
    """One trace line: wall-clock second, event, and its words."""

    at_s: float
    event: str
    words: str

    @property
    def numbers(self) -> list[int]:
        """The numbers in its words, in order."""
        return [int(word) for word in _NUMBERS.findall(self.words)]


@dataclass(frozen=True, slots=True)
class Sync:
    """One dirty-bitmap sync.

    Attributes:
        at_s: its begin, wall-clock seconds.
        took_s: its length.
        pending_bytes: to be sent right after it; -1 where QEMU did not say (in the setup, and the last one).
    """

    at_s: float
    took_s: float
    pending_bytes: int


def options(path: str) -> list[str]:
    """Words for QEMU's command line that have it write the events, with stamps, to a file.

    Args:
        path: the file; without commas.
    """
    words = ["-msg", "timestamp=on", "-D", path]
    for event in EVENTS:
        words += ["-trace", event]
    return words


def read(lines: Iterable[str]) -> Iterator[Traced]:
    """The trace lines among these; QEMU may say other things in between."""
    for line in lines:
        if found := _LINE.fullmatch(line.rstrip("\n")):
            yield Traced(float(found[2]), found[3], found[4])


def syncs(traced: Sequence[Traced]) -> list[Sync]:
    """All syncs, in order."""
    found: list[Sync] = []
    began_s = 0.0
    for line in traced:
        match line.event:
            case "migration_bitmap_sync_start":
                began_s = line.at_s
            case "migration_bitmap_sync_end":
                found.append(Sync(began_s, line.at_s - began_s, -1))
            case "migrate_pending" if found and found[-1].pending_bytes < 0:
                found[-1] = Sync(found[-1].at_s, found[-1].took_s, line.numbers[0])
            case _:
                pass
    return found


def moment_s(traced: Iterable[Traced], event: str, words: str = "", *, last: bool = False) -> float | None:
    """When an event came for the first (or last) time whose words contain these."""
    stamps = [line.at_s for line in traced if line.event == event and words in line.words]
    return stamps[-1 if last else 0] if stamps else None
