"""Bars, verdicts, tables."""

from __future__ import annotations

import pytest

from benchmarks.bars import Bar, Result, Row, as_text, shown
from benchmarks.figures import Estimate


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(5, 4, 6), "met"),
        (Estimate(9, 8, 11), "met, but the interval spans the bound"),
        (Estimate(11, 9, 12), "missed, but the interval spans the bound"),
        (Estimate(12, 11, 13), "missed"),
        (Estimate(10, 10, 10), "met"),
    ],
)
def test_a_verdict_says_whether_it_is_met_and_whether_that_is_sure(estimate: Estimate, verdict: str) -> None:
    bar = Bar("gap", "at most 10 ms", estimate, 10, "ms")
    assert bar.verdict() == verdict
    assert bar.met is verdict.startswith("met")


def test_the_table_names_every_bar_row_and_note() -> None:
    bar = Bar("gap", "at most 10 ms", Estimate(5, 4, 6), 10, "ms")
    text = as_text([Result("Gap", (bar,), (Row("bare", Estimate(0.5, 0.4, 0.6), "x"),), ("at 500 Hz",))])
    assert "| gap: at most 10 ms | 5.0 ms (4.0 to 6.0) | met |" in text
    assert "| bare | 0.500 (0.400 to 0.600) |" in text
    assert "- at 500 Hz" in text


def test_seconds_and_milliseconds_carry_their_unit() -> None:
    assert shown(Estimate(5.04, 5.01, 5.11), "s") == "5.04 s (5.01 to 5.11)"
