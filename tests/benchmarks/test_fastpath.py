"""The figure is of whole forecasts that are steered at each iteration, and judged against its bars."""

from __future__ import annotations

from benchmarks import fastpath
from benchmarks.pairs import Manner
from whimbrel.engine.curve import MOST_CLASSES, PoissonClasses
from whimbrel.engine.forecast import forecast
from whimbrel.engine.policy import Decision, Observation, Reason


def test_it_is_a_migration_of_so_many_classes_that_a_policy_steers_at_each_iteration() -> None:
    reasons: list[Reason] = []
    policy = fastpath.Stepper()

    def watched(seen: Observation) -> Decision:
        reasons.append(seen.reason)
        return policy(seen)

    told = forecast(fastpath.setting(), watched)
    curve = fastpath.setting().writers[0].curve
    assert isinstance(curve, PoissonClasses)
    assert len(curve.classes) == MOST_CLASSES == 64
    assert told.converged
    assert 6 <= told.iterations <= 12
    assert reasons == [Reason.SETUP] + [Reason.ITERATION] * (told.iterations - 1)
    assert len(told.decisions) == told.iterations


def test_a_series_counts_all_iterations() -> None:
    iterations, span_ns = fastpath.series(3)
    assert iterations == 3 * forecast(fastpath.setting(), fastpath.Stepper()).iterations
    assert span_ns > 0


def test_the_bars_are_judged_on_the_median() -> None:
    manner = Manner(runs=3, patience_s=0.0, lock=None, say=lambda _: None)
    results, pairs = fastpath.measure(manner, migrations=5, endless_iterations=50)
    assert pairs == {}
    iteration, endless, migration = results[0].bars
    assert (iteration.bound, endless.bound, migration.bound, iteration.unit) == (50.0, 50.0, 500.0, "µs")
    assert endless.measured.value > 0
    assert 0 < iteration.measured.value < migration.measured.value
    rates = [row.measured.value for row in results[0].rows]
    assert rates[0] > rates[1] > 0
