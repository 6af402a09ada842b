"""Published figures that predictions are held to: inputs and outputs, as they were printed."""

from __future__ import annotations

from whimbrel.engine.curve import Curve

SAMPLED, TOTAL_PAGES, ZERO_SAMPLES = 16392, 8392704, 10060
PERIODS_MS = (
    *(125, 250, 375, 500, 750, 1000, 1500, 2000, 3000, 4001, 6000, 8000, 10000, 15000, 20000, 25000, 30000),
    *(35000, 40000, 45000, 50000, 60000),
)
DIRTY = (
    *(33, 78, 119, 151, 217, 236, 293, 336, 425, 505, 620, 756, 898, 1204, 1457, 1723, 1934),
    *(2141, 2328, 2522, 2675, 2958),
)
"""A. Gudkov's vector of a 32 GiB guest under memcached and YCSB (qemu-devel, 2023)."""

LIMITS_MS = (125, 250, 500, 1000, 5000, None)
NEVER = None
PREDICTED: dict[float, tuple[int | None, ...]] = {
    0.1: (NEVER, NEVER, NEVER, NEVER, NEVER, 1019),
    1: (NEVER, NEVER, NEVER, NEVER, NEVER, 100),
    2: (NEVER, NEVER, NEVER, NEVER, 101, 50),
    2.5: (NEVER, NEVER, NEVER, NEVER, 67, 40),
    5: (48, 46, 31, 28, 25, 20),
    10: (13, 12, 12, 12, 12, 10),
    25: (5, 5, 5, 5, 4, 4),
    40: (3, 3, 3, 3, 3, 3),
}
"""His table: total seconds by Gbit/s, for each of `LIMITS_MS`; seconds begun count whole."""

ROUNDS: dict[float, tuple[tuple[int, int | None] | None, ...]] = {
    0.1: (None, None, None, None, None, (1, None)),
    1: (None, None, None, None, None, (1, None)),
    2: (None, None, None, None, (6, 4786), (1, None)),
    2.5: (None, None, None, None, (4, 4460), (1, None)),
    5: ((65, 119), (54, 248), (10, 492), (4, 965), (2, 4544), (1, None)),
    10: ((5, 101), (4, 212), (3, 440), (3, 440), (2, 1399), (1, None)),
    25: ((3, 62), (3, 62), (2, 315), (2, 315), (1, None), (1, None)),
    40: ((3, 16), (2, 148), (2, 148), (2, 148), (1, None), (1, None)),
}
"""Rounds, and ms of the last one where it is known, of an independent implementation of the same loop."""

FLOOR_MS = {1: 4059, 2: 949, 2.5: 609, 3: 382, 4: 99, 5: 0}
PLATEAU_MS = {1: 30789, 2: 3873, 2.5: 2235, 3: 1553, 4: 891, 5: 0}
"""On the same curve, by Gbit/s."""

LEAST_THROTTLE: dict[tuple[str, int], dict[float, float]] = {
    ("clairvoyant", 300): {1: 76.5, 2: 46.5, 2.5: 29.5, 3: 10, 4: 0},
    ("rounds", 300): {1: 80, 2: 60, 2.5: 50, 3: 40, 4: 20},
    ("clairvoyant", 1000): {1: 69, 2: 0, 2.5: 0, 3: 0, 4: 0},
    ("rounds", 1000): {1: 80, 2: 59.5, 2.5: 47, 3: 35, 4: 0},
}
"""Percent of the CPU, by sender and downtime limit in ms, by Gbit/s; on a grid of half a percent."""


def memcached() -> Curve:
    """The curve of that guest."""
    return Curve.from_samples(SAMPLED, TOTAL_PAGES, ZERO_SAMPLES, [period / 1000 for period in PERIODS_MS], list(DIRTY))


def link(gbit_per_s: float) -> float:
    """Bytes per second of a row of the table: 2^30/8 for a Gbit/s; but its first row is 100 Mbit/s of 2^20/8."""
    return 100 * 2**20 / 8 if gbit_per_s == 0.1 else gbit_per_s * 2**30 / 8
