"""Predictions, and reports to hold them against, for several tests."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import strategies as st

from whimbrel.engine.aftermath import with_comparison
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.prediction import COMPONENTS, FIRST_ITERATION, PLAN, Prediction
from whimbrel.engine.report import CompletedReport, LinkSeen, StageTime
from whimbrel.engine.statistics import Iteration
from whimbrel.engine.timeline import Downtime

SIZES = st.floats(0.0, 1e12) | st.just(math.inf)
RANGES = st.lists(SIZES, min_size=3, max_size=3).map(lambda ends: Range(*sorted(ends)))
ESTIMATES = st.builds(Estimate, st.floats(0.1, 10.0), st.floats(0.0, 1.0), st.text(max_size=5))
PREDICTIONS = st.builds(
    Prediction,
    basis=st.sampled_from([PLAN, FIRST_ITERATION]),
    policy=st.text(max_size=10),
    meets=st.floats(0.0, 1.0),
    total_s=RANGES,
    downtime_s=RANGES,
    transferred_bytes=RANGES,
    iterations=st.none() | RANGES,
    made_at_s=st.floats(0.0, 1e5),
    components=st.dictionaries(st.sampled_from(COMPONENTS), RANGES),
    model=st.dictionaries(st.sampled_from(["time", "bytes", "downtime"]), ESTIMATES),
)


def around(middle: float, part: float = 0.1) -> Range:
    """A range that reaches so far to both sides."""
    return Range(middle * (1 - part), middle, middle * (1 + part))


PREDICTION = Prediction(
    basis=PLAN,
    policy="fixed",
    meets=0.9,
    total_s=around(10.0),
    downtime_s=around(0.2),
    transferred_bytes=around(1e9),
    iterations=Range(3.0, 4.0, 5.0),
    components={
        "preparation": around(0.1),
        "iterations": around(9.8),
        "last_ram": around(0.1),
        "device_state": around(0.06),
        "fixed": around(0.04),
    },
    model={"time": Estimate(1.0, 0.03), "bytes": Estimate(1.0, 0.03), "downtime": Estimate(1.0, 0.25)},
)


def iterated(*started_s: float) -> tuple[Iteration, ...]:
    """Iterations that began then, seconds on the machine's clock."""
    blank = Iteration(
        number=0, started_ns=0, ended_ns=0, remaining_at_start_bytes=0, remaining_at_end_bytes=0, sent_bytes=0,
        dirtied_bytes=0,
    )  # fmt: skip
    return tuple(replace(blank, number=n, started_ns=round(at_s * 1e9)) for n, at_s in enumerate(started_s, 1))


OUTAGE = Downtime(
    total_s=0.2,
    stop_s=0.01,
    drain_s=0.01,
    last_ram_s=0.1,
    device_state_s=0.06,
    load_s=0.01,
    resume_s=0.01,
    measured=True,
)
MOVED = CompletedReport(
    outcome="completed",
    owner="destination",
    guest="running",
    why="moved",
    total_s=10.2,
    stages=tuple(
        StageTime(stage=stage, name=str(stage), seconds=seconds)
        for stage, seconds in [(1, 0.1), (2, 9.81), (3, 0.01), (4, 0.17), (5, 0.12)]
    ),
    downtime=OUTAGE,
    iterations=iterated(0.1, 5.0, 8.0, 9.5, 9.91),
    ram_transferred_bytes=10**9,
    ram_total_bytes=2 * 10**9,
    link=LinkSeen(bandwidth_bytes_per_s=1e8, capped=False),
)
"""Just as `PREDICTION` has it, in the middle of every range."""


def compared(**changes: object) -> CompletedReport:
    """`MOVED` with these changes, and held against `PREDICTION`."""
    return with_comparison(replace(MOVED, **changes), PREDICTION)  # type: ignore[arg-type]
