"""What an iteration of the fast path costs: whole forecasts, steered iteration by iteration, on a guest of 64 classes.

CPU time of one process, so that others on the machine do not count. Each series forecasts the same migrations again
and again, with a new policy for each; the figure is the median over the series.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

from whimbrel.engine.curve import MOST_CLASSES, PAGE_BYTES, PoissonClasses
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Setting, Writers
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason

from .bars import Bar, Result, Row
from .figures import median
from .pairs import Manner, Pairs

LEAST_ITERATIONS_PER_S = 20_000
LEAST_MIGRATIONS_PER_S = 2_000
MIGRATIONS = 200
"""Of each series: about 1700 iterations, less than 0.1 s."""
RAM_BYTES = 1 << 30
LINK_BYTES_PER_S = 125_000_000


@dataclass(slots=True)
class Stepper:
    """Begins at 10 ms and allows 1 ms more at each iteration: iteration-driven, and never in a hurry."""

    limit_s: float = 0.01

    def __call__(self, seen: Observation) -> Decision:
        """Decide."""
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=self.limit_s)
        self.limit_s += 0.001
        dirtied = seen.iterations[-1].dirtied_bytes
        return Decision(downtime_limit_s=self.limit_s, because=f"{dirtied >> 10} KiB were dirtied")


def setting() -> Setting:
    """1 GiB in classes whose rates fall as a zipf law, over 1 Gbit/s: eight or nine iterations."""
    pages = RAM_BYTES // PAGE_BYTES / MOST_CLASSES
    classes = tuple((pages, 0.9 * rank**-1.1) for rank in range(1, MOST_CLASSES + 1))
    return Setting(
        writers=(Writers(curve=PoissonClasses(classes)),),
        total_bytes=RAM_BYTES,
        bandwidth_bytes_per_s=LINK_BYTES_PER_S,
        pipe_bytes=2_500_000,
        objectives=Objectives(downtime_s=0.3),
    )


def measure(manner: Manner, migrations: int = MIGRATIONS) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it: a series of so many migrations for each run that is asked for."""
    spans_us: list[float] = []
    whole_us: list[float] = []
    for _ in range(manner.runs):
        iterations, span_ns = series(migrations)
        spans_us.append(span_ns / 1e3 / iterations)
        whole_us.append(span_ns / 1e3 / migrations)
    iteration, migration = median(spans_us), median(whole_us)
    most_us, most_whole_us = 1e6 / LEAST_ITERATIONS_PER_S, 1e6 / LEAST_MIGRATIONS_PER_S
    bars = (
        Bar(
            "an iteration of the fast path",
            f"at most {most_us:g} µs ({LEAST_ITERATIONS_PER_S} a second)",
            iteration,
            most_us,
            "µs",
        ),
        Bar(
            "a migration on the fast path",
            f"at most {most_whole_us:g} µs ({LEAST_MIGRATIONS_PER_S} a second)",
            migration,
            most_whole_us,
            "µs",
        ),
    )
    rows = (
        Row("iterations on one core", median([1e6 / span for span in spans_us]), "a second"),
        Row("migrations on one core", median([1e6 / span for span in whole_us]), "a second"),
    )
    return [Result("The fast path, 64 page classes, an iteration-driven policy", bars, rows)], {}


def series(migrations: int = MIGRATIONS) -> tuple[int, int]:
    """Forecast so many migrations.

    Returns:
        Their iterations, and nanoseconds of CPU time for all of it.
    """
    asked = setting()
    iterations = 0
    gc.collect()
    before_ns = time.process_time_ns()
    for _ in range(migrations):
        told = forecast(asked, Stepper())
        iterations += told.iterations
        assert told.converged
    return iterations, time.process_time_ns() - before_ns
