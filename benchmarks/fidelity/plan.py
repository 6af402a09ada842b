"""Which migrations are recorded: the grid, and the other guests that constants are measured with.

The grid is four patterns of writing, three ratios of write rate to the link's goodput, and two downtime limits. The
classes are sized so that the outcome of no cell hangs by a hair: a page-by-page replay of the loop of
``migration_iteration_run`` (QEMU 7.2, migration/migration.c) with five seeds gave the same verdict for each cell, and
passes that differ by one or two. What nobody could foretell tells nothing about a simulator.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from benchmarks.guests import MIB
from whimbrel.guest.spec import PAGE_BYTES, PageClass, Pattern, WorkloadSpec
from whimbrel.laboratory.stage import Guest

LINK_RATE: Final = "400mbit"
RAM_BYTES: Final = 262080 << 10
"""256 MiB less 64 KiB: no multiple of 256 KiB (see `whimbrel.guest.boot.DEFAULT_RAM_BYTES`)."""
FILLED_BYTES: Final = 200 * MIB
"""Random content; the rest of the guest's memory is zero."""
CUT_OFF_S: Final = 25.0
"""A migration that has not ended so long after ``migrate`` is called off: its verdict is that it does not converge."""
RATIOS: Final = (0.3, 0.8, 1.5)
LIMITS_S: Final = (0.05, 0.3)
PATTERNS: Final = {
    "uniform": ("size=96MiB,pattern=uniform", 96 * MIB),
    "sweep": ("size=96MiB,pattern=sweep", 96 * MIB),
    "hotspot": ("size=96MiB,pattern=hotspot,share=90%,part=15%", 96 * MIB),
    "zipf": ("size=128MiB,pattern=zipf,skew=0.8", 128 * MIB),
}
"""The class that writes, by pattern: as text, without its rate, and its size."""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the grid.

    Attributes:
        name: for people and for file names.
        pattern: key of `PATTERNS`.
        ratio: bytes of page writes per second over the link's goodput.
        limit_s: downtime limit, seconds.
    """

    name: str
    pattern: str
    ratio: float
    limit_s: float

    def guest(self, goodput_bytes_per_s: float) -> Guest:
        """The guest of this cell on a link of this goodput."""
        text, size = PATTERNS[self.pattern]
        rate = round(self.ratio * goodput_bytes_per_s / PAGE_BYTES) * PAGE_BYTES
        writer = PageClass.parse(f"writer:{text},rate={rate}B/s")
        cold = PageClass(name="cold", size_bytes=FILLED_BYTES - size)
        return Guest(self.name, WorkloadSpec(classes=(writer, cold)), RAM_BYTES)


def cases() -> tuple[Case, ...]:
    """All cells, in an order in which neighbours differ in everything: what drifts over time hits no pattern alone."""
    grid = [
        Case(f"{pattern}-{ratio:g}-{limit_s * 1e3:.0f}ms", pattern, ratio, limit_s)
        for ratio, limit_s, pattern in itertools.product(RATIOS, LIMITS_S, PATTERNS)
    ]
    step = 7  # prime to 24, so that every cell comes once
    return tuple(grid[step * index % len(grid)] for index in range(len(grid)))


def idle_guest(filled_bytes: int, ram_bytes: int = RAM_BYTES) -> Guest:
    """A guest that writes nothing, for calibration."""
    name = f"idle, {filled_bytes // MIB} MiB"
    return Guest(name, WorkloadSpec(classes=(PageClass(name="cold", size_bytes=filled_bytes),)), ram_bytes)


def busy_guest(rate_bytes_per_s: float, ram_bytes: int = RAM_BYTES) -> Guest:
    """A guest of none of the grid's patterns (two classes, other sizes), for calibration of what needs a writer."""
    rate = round(rate_bytes_per_s / PAGE_BYTES) * PAGE_BYTES
    classes = (
        PageClass(name="cold", size_bytes=56 * MIB),
        PageClass(name="w", size_bytes=40 * MIB, rate_bytes_per_s=rate, pattern=Pattern.UNIFORM),
    )
    return Guest("busy", WorkloadSpec(classes=classes), ram_bytes)
