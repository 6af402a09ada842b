"""What an iteration of the fast path costs: whole forecasts, steered iteration by iteration, on a guest of 64 classes.

CPU time of one process, so that others on the machine do not count. Each series forecasts the same migrations again
and again, with a new policy for each; the figure is the median over the series. Besides, one that never ends, for what
grows with the iterations that were made before, and the default policy, for which nothing is asked.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from whimbrel.engine.curve import MOST_CLASSES, PAGE_BYTES, PoissonClasses
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Setting, Writers
from whimbrel.engine.policies import LeastDowntime
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason

from .bars import Bar, Result, Row
from .figures import median
from .pairs import Manner, Pairs

LEAST_ITERATIONS_PER_S = 20_000
LEAST_MIGRATIONS_PER_S = 2_000
MIGRATIONS = 200
"""Of each series: about 1700 iterations, less than 0.1 s."""
ENDLESS_ITERATIONS = 5000
"""Of the one that does not converge: 0.2 s."""
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


def setting(hot: int = 0, most_iterations: int = 20_000) -> Setting:
    """1 GiB in classes whose rates fall as a zipf law, over 1 Gbit/s: eight or nine iterations.

    Args:
        hot: so many of the classes, of 16 MiB each, are written all over every 20 ms. Four are more than the limit
            lets through: it never converges.
        most_iterations: it is called off then.
    """
    pages = RAM_BYTES // PAGE_BYTES / MOST_CLASSES
    rates = [50.0 if rank <= hot else 0.9 * rank**-1.1 for rank in range(1, MOST_CLASSES + 1)]
    return Setting(
        writers=(Writers(curve=PoissonClasses(tuple((pages, rate) for rate in rates))),),
        total_bytes=RAM_BYTES,
        bandwidth_bytes_per_s=LINK_BYTES_PER_S,
        pipe_bytes=2_500_000,
        objectives=Objectives(downtime_s=0.3),
        limit_s=86_400.0,
        most_iterations=most_iterations,
    )


def measure(
    manner: Manner, migrations: int = MIGRATIONS, endless_iterations: int = ENDLESS_ITERATIONS
) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it: for each run that is asked for, a series of so many migrations, and one of so many iterations."""
    spans_us: list[float] = []
    whole_us: list[float] = []
    endless_us: list[float] = []
    default_us: list[float] = []
    for _ in range(manner.runs):
        iterations, span_ns = series(migrations)
        spans_us.append(span_ns / 1e3 / iterations)
        whole_us.append(span_ns / 1e3 / migrations)
        endless_us.append(endless_ns(endless_iterations) / 1e3 / endless_iterations)
        default_us.append(series(max(1, migrations // 10), LeastDowntime)[1] / 1e3 / max(1, migrations // 10))
    iteration, migration, endless = median(spans_us), median(whole_us), median(endless_us)
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
            f"one of {endless_iterations} that do not converge",
            f"at most {most_us:g} µs ({LEAST_ITERATIONS_PER_S} a second)",
            endless,
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
        Row("a migration by least_downtime, for which nothing is asked", median(default_us), "µs"),
    )
    return [Result("The fast path, 64 page classes, an iteration-driven policy", bars, rows)], {}


def series(migrations: int = MIGRATIONS, policy: Callable[[], Policy] = Stepper) -> tuple[int, int]:
    """Forecast so many migrations, with a new policy for each.

    Returns:
        Their iterations, and nanoseconds of CPU time for all of it.
    """
    asked = setting()
    iterations = 0
    gc.collect()
    before_ns = time.process_time_ns()
    for _ in range(migrations):
        told = forecast(asked, policy())
        iterations += told.iterations
        assert told.converged
    return iterations, time.process_time_ns() - before_ns


def endless_ns(iterations: int = ENDLESS_ITERATIONS) -> int:
    """Forecast one migration that is called off after so many iterations: nanoseconds of CPU time."""
    asked = setting(hot=4, most_iterations=iterations)
    gc.collect()
    before_ns = time.process_time_ns()
    told = forecast(asked, Stepper())
    span_ns = time.process_time_ns() - before_ns
    assert (told.iterations, told.converged) == (iterations, False)
    return span_ns
