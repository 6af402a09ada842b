"""How much quicker a sweep is on two workers than on one: the same matrix, on local Dask clusters.

What is timed is what the cluster is for: from the first block to the last, clusters being up. Pairs of one and two
workers follow one another, so that a slow drift of the machine meets both; the figure is the median of their ratios.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic

from whimbrel.laboratory.catalogue import case
from whimbrel.laboratory.matrix import Block, Matrix
from whimbrel.laboratory.records import Row
from whimbrel.laboratory.store import in_order
from whimbrel.laboratory.sweeping import Cluster
from whimbrel.laboratory.table import parquet_of

from .bars import Bar, Result
from .bars import Row as Line
from .figures import median
from .pairs import Manner, Pairs

LEAST_RATIO = 1.8
CASES = ("d50@1g", "d90@1g", "hot@1g")
POLICIES = ("fixed", "least_downtime", "xen_classic", "nova_steps")
SEEDS = 40
"""480 runs in 120 blocks, with their bounds: a minute on one core, beside which the start of a worker is little."""


def matrix(seeds: int = SEEDS) -> Matrix:
    """What is swept."""
    return Matrix(cases=tuple(case(name) for name in CASES), policies=POLICIES, seeds=tuple(range(1, seeds + 1)))


def measure(manner: Manner, seeds: int = SEEDS) -> tuple[list[Result], dict[str, Pairs]]:
    """Sweep it with one worker and with two, as many times as runs are asked for.

    Raises:
        AssertionError: the tables differ.
    """
    asked = matrix(seeds)
    ratios: list[float] = []
    per_s: list[float] = []
    for number in range(manner.runs):
        (one_s, one), (two_s, two) = (sweep(asked, workers) for workers in (1, 2))
        assert one == two, "the tables of one worker and of two differ"
        ratios.append(two_s / one_s)
        per_s.append(len(asked) / two_s)
        manner.say(f"  pair {number + 1}: {one_s:.1f} s on one worker, {two_s:.1f} s on two")
    most = 1 / LEAST_RATIO
    bar = Bar(
        "a sweep on two workers",
        f"at most {most:.3f} x the time on one ({LEAST_RATIO:g} x as quick)",
        median(ratios),
        most,
        "x",
    )
    rows = (
        Line("as quick as on one worker", median([1 / each for each in ratios]), "x"),
        Line("migrations on two workers", median(per_s), "a second"),
    )
    note = f"{len(asked)} runs, {os.cpu_count()} cores; both gave the same bytes"
    return [Result("The sweep: two workers against one", (bar,), rows, (note,))], {}


def sweep(asked: Matrix, workers: int) -> tuple[float, bytes]:
    """Sweep it; the seconds that it took, and the table."""
    times_s: list[float] = []
    rows: list[Row] = []
    crew = Cluster(workers=workers, watch=lambda _: times_s.append(monotonic()))
    for done in crew.run(_blocks(asked)):
        rows += done.rows
        times_s.append(monotonic())  # the last one counts: then the cluster is taken down
    return times_s[-1] - times_s[0], parquet_of(in_order(rows))


def _blocks(asked: Matrix) -> Iterator[Block]:
    """With bounds, as a comparison has them by default."""
    for block in asked.blocks():
        yield Block(cells=block.cells, bounded=True)
