"""The figure is of whole migrations, and judged against its bar."""

from __future__ import annotations

from benchmarks import fullpath
from benchmarks.pairs import Manner
from whimbrel.sim.world import simulate


def test_the_stated_scenario_is_a_move_of_several_iterations_with_its_whole_log() -> None:
    outcome = simulate(fullpath.scenario(), 1)
    assert outcome.report is not None
    assert outcome.report.moved
    assert outcome.truth.iterations >= 3
    assert 2.0 < outcome.truth.total_s < 3.0
    assert len(list(outcome.samples)) > 20


def test_the_bar_is_judged_on_the_median() -> None:
    results, pairs = fullpath.measure(Manner(runs=2, patience_s=0.0, lock=None, say=lambda _: None), 5)
    assert pairs == {}
    (bar,) = results[0].bars
    assert (bar.bound, bar.unit) == (1e3 / fullpath.LEAST_PER_S, "ms")
    assert 0 < bar.measured.low <= bar.measured.value <= bar.measured.high
    assert results[0].rows[1].measured.value > 60
