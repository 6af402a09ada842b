"""Time outside the transfer."""

from __future__ import annotations

from benchmarks import overhead
from benchmarks.pairs import Manner


def test_the_parts_before_add_up_to_less_than_the_bars_figure() -> None:
    results, measured = overhead.measure(Manner(runs=1, say=lambda text: None))
    (result,) = results
    before_ms = sum(row.measured.value for row in result.rows[:5])
    after_ms = next(row for row in result.rows if row.name == "source `completed` to RESUME").measured.value
    assert abs(before_ms + after_ms - result.bars[0].measured.value) < 0.01
    assert result.bars[1].measured.value >= result.bars[0].measured.value
    assert len(measured["overhead"].ours) == 1
