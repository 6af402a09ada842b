"""What one step of the machine costs: signals of whole moves, taken one by one, with nothing else running.

A series is the median over the signals of many moves; the figure is the median over the series.
"""

from __future__ import annotations

import gc
import statistics
import time

from whimbrel.engine.machine import Happened, Machine
from whimbrel.engine.policies import Fixed
from whimbrel.engine.signals import Signal as S

from .bars import Bar, Result, Row
from .figures import median
from .pairs import Manner, Pairs

GREATEST_US = 30.0
MOVES = 300
MOVE = (
    *(S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE, S.MIGRATE_DONE, S.DESTINATION_ACTIVE, S.SOURCE_ACTIVE),
    *(S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE, S.CONTINUE_DONE, S.SOURCE_DEVICE),
    *(S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED, S.CLAIM_DONE, S.RESUME_DESTINATION_DONE),
    *(S.DESTINATION_RUNNING, S.SOURCE_ENDED, S.RELEASE_SOURCE_DONE),
)


def measure(manner: Manner) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it: a series for each run that is asked for."""
    medians_us: list[float] = []
    worst_us: list[float] = []
    for _ in range(manner.runs):
        spans_ns = series()
        medians_us.append(statistics.median(spans_ns) / 1e3)
        worst_us.append(statistics.quantiles(spans_ns, n=100)[-1] / 1e3)
    bar = Bar("one step of the machine", f"at most {GREATEST_US:g} µs", median(medians_us), GREATEST_US, "µs")
    rows = (Row("one step in a hundred takes more than", median(worst_us), "µs"),)
    return [Result("A step of the machine", (bar,), rows)], {}


def series() -> list[int]:
    """Nanoseconds of every step of `MOVES` moves, one after the other."""
    spans_ns: list[int] = []
    gc.collect()
    for _ in range(MOVES):
        machine = Machine(policy=Fixed())
        for number, signal in enumerate(MOVE):
            event = Happened(signal)
            before_ns = time.perf_counter_ns()
            machine.receive(event, number * 1_000_000)
            machine.orders()
            spans_ns.append(time.perf_counter_ns() - before_ns)
        assert machine.report() is not None
    return spans_ns
