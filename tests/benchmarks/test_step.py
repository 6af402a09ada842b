"""The figure is of whole moves, and judged against its bar."""

from __future__ import annotations

from benchmarks import step
from benchmarks.pairs import Manner


def test_every_step_of_every_move_is_timed() -> None:
    spans_ns = step.series()
    assert len(spans_ns) == step.MOVES * len(step.MOVE)
    assert min(spans_ns) > 0


def test_the_bar_is_judged_on_the_median() -> None:
    results, pairs = step.measure(Manner(runs=2, patience_s=0.0, lock=None, say=lambda _: None))
    assert pairs == {}
    (bar,) = results[0].bars
    assert (bar.bound, bar.unit) == (step.GREATEST_US, "µs")
    assert 0 < bar.measured.low <= bar.measured.value <= bar.measured.high
    assert results[0].rows[0].measured.value >= bar.measured.value
