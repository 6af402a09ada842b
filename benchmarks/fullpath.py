"""What a whole simulated migration costs: the real machine, its driver in virtual time, both QEMUs and the link.

CPU time of one process, so that others on the machine do not count. Each series simulates the same scenario with one
seed after the other; the figure is the median over the series.
"""

from __future__ import annotations

import gc
import time

from whimbrel.engine.policy import Objectives
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, Scenario, Writer
from whimbrel.sim.world import simulate

from .bars import Bar, Result, Row
from .figures import median
from .pairs import Manner, Pairs

LEAST_PER_S = 200
MIGRATIONS = 40
"""Of each series: a fifth of a second."""
MIB = 1 << 20


def scenario() -> Scenario:
    """512 MiB, half of it zero, over 1 Gbit/s, moderately busy, by expectation; the policy holds 300 ms.

    2.5 s of virtual time, in which the source is asked for its statistics 26 times and the guest is sent in
    three iterations.
    """
    return Scenario(
        guest=GuestPlan(
            ram_bytes=512 * MIB,
            zero_bytes=256 * MIB,
            writers=(
                Writer(name="busy", size_bytes=64 * MIB, rate_bytes_per_s=20e6, pattern=Pattern.UNIFORM),
                Writer(name="calm", size_bytes=128 * MIB, rate_bytes_per_s=2e6, pattern=Pattern.UNIFORM),
            ),
        ),
        link=LinkPlan(bandwidth_bytes_per_s=125e6, latency_s=0.0001, pipe_bytes=2_500_000),
        objectives=Objectives(downtime_s=0.3),
        policy="fixed",
    )


def measure(manner: Manner, migrations: int = MIGRATIONS) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it: a series of so many migrations for each run that is asked for."""
    each_ms: list[float] = []
    lines: list[float] = []
    for number in range(manner.runs):
        span_ns, written = series(migrations, number * migrations)
        each_ms.append(span_ns / 1e6 / migrations)
        lines.append(written / migrations)
    most_ms = 1e3 / LEAST_PER_S
    bar = Bar(
        "a simulated migration, whole",
        f"at most {most_ms:g} ms ({LEAST_PER_S} a second)",
        median(each_ms),
        most_ms,
        "ms",
    )
    rows = (
        Row("migrations on one core", median([1e3 / span for span in each_ms]), "a second"),
        Row("lines in the log of each", median(lines), "lines"),
    )
    return [Result("The full protocol, simulated: 512 MiB over 1 Gbit/s", (bar,), rows)], {}


def series(migrations: int = MIGRATIONS, first_seed: int = 0) -> tuple[int, int]:
    """Simulate so many migrations.

    Returns:
        Nanoseconds of CPU time for all of it, and the lines that their logs have.
    """
    asked = scenario()
    lines = 0
    gc.collect()
    before_ns = time.process_time_ns()
    for seed in range(first_seed, first_seed + migrations):
        outcome = simulate(asked, seed)
        assert outcome.report is not None
        assert outcome.report.moved
        lines += len(outcome.log)
    return time.process_time_ns() - before_ns, lines
