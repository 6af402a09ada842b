"""The ratio is that of the same matrix, whose tables must not differ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import sweep
from benchmarks.pairs import Manner
from whimbrel.laboratory.matrix import Matrix


def test_what_is_swept_takes_long_enough_to_be_shared() -> None:
    """At least ten blocks for each worker, each with the bounds that a comparison has by default."""
    asked = sweep.matrix()
    assert len(list(asked.blocks())) >= 20
    assert all(case.scenario.guest.pages for case in asked.cases)


def test_the_bar_is_judged_on_the_median_of_the_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([10.0, 5.0, 12.0, 6.6, 10.0, 8.0])

    def quick(asked: Matrix, workers: int) -> tuple[float, bytes]:
        return next(times), b"table"

    monkeypatch.setattr(sweep, "sweep", quick)
    results, pairs = sweep.measure(Manner(runs=3, patience_s=0.0, lock=None, say=lambda _: None))
    assert pairs == {}
    (bar,) = results[0].bars
    assert bar.measured.value == pytest.approx(0.55)
    assert bar.bound == pytest.approx(1 / 1.8)
    assert bar.met
    assert results[0].rows[0].measured.value == pytest.approx(1 / 0.55)


def test_tables_that_differ_are_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(asked: Matrix, workers: int) -> tuple[float, bytes]:
        return 1.0, str(workers).encode()

    monkeypatch.setattr(sweep, "sweep", other)
    with pytest.raises(AssertionError, match="differ"):
        sweep.measure(Manner(runs=1, patience_s=0.0, lock=None, say=lambda _: None))
