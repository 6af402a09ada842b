"""Simulated migrations: one scenario, one model out of several, one or many seeds.

| model | what it is |
|---|---|
| ``stepwise`` | two modelled QEMUs, a link and the real machine, in virtual time (`whimbrel.sim`) |
| ``fast`` | the same sender, threshold, pipe and policy, iteration by iteration (`whimbrel.engine.forecast`) |
| ``recurrence``, ``constant-rate``, ``two-segment`` | published predictors (`whimbrel.engine.recurrences`) |

What a model leaves out is refused where the scenario has it, by the key's name: silence would pass for a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from whimbrel.engine.curve import DirtyCurve, Together
from whimbrel.engine.errors import BadInput
from whimbrel.engine.recurrences import Prediction, Question, predict
from whimbrel.sim.scenario import GuestPlan, Scenario
from whimbrel.simulation_fast import (
    beyond_a_steady_link,
    by_iteration,
    curves,
    fast_lacks,
    fast_notes,
    run_fast,
    sender_notes,
    setting_of,
    zero_bytes,
)
from whimbrel.simulation_records import Row, Run, Simulation
from whimbrel.stepwise import drawn_by, run_stepwise, stepwise_lacks
from whimbrel.units import format_duration, format_rate

__all__ = ["MODELS", "Model", "drawn", "refuse_what_it_lacks", "setting_of", "simulate"]

RATE_WINDOW_S, HOT_WINDOW_S = 60.0, 2.0
"""From which windows of a curve the published models take their dirty rate, and their hot set."""
LEAST_RATE_WINDOW_S = 2 * HOT_WINDOW_S


@dataclass(frozen=True, slots=True)
class Model:
    """A way to simulate.

    Attributes:
        about: one line.
        run: gives one migration.
        lacks: the keys, with what the scenario has there, that it can't do.
        notes: what a reader should know of it for a scenario.
        dice: whether the seed matters.
        draws: what the seed draws before the run begins.
    """

    about: str
    run: Callable[[Scenario, int], Run]
    lacks: Callable[[Scenario], Iterator[str]]
    notes: Callable[[Scenario], Iterator[str]]
    dice: bool = False
    draws: Callable[[Scenario, int], Mapping[str, Any]] = lambda _, __: {}


def drawn(scenario: Scenario, *, model: str, seed: int, runs: int = 1) -> Mapping[str, Any]:
    """What the seed draws for the first run, before anything is run; it is told first, so that no crash takes it along.

    Raises:
        BadInput: as `simulate`.
    """
    if model not in MODELS:
        raise BadInput("model", model, f"one of {', '.join(MODELS)}")
    refuse_what_it_lacks(scenario, model)
    if runs > 1 and not MODELS[model].dice:
        raise BadInput("runs", runs, f"1: the model {model} throws no dice, all runs would be the same")
    return MODELS[model].draws(scenario, seed)


def simulate(
    scenario: Scenario, *, model: str, seed: int = 1, runs: int = 1, ended: Callable[[Run], None] = lambda _: None
) -> Simulation:
    """Simulate a scenario.

    Args:
        scenario: one that `whimbrel.scenario_rules` finds nothing wrong with.
        model: a name in `MODELS`.
        seed: of the first run; each further one has the next number.
        runs: how many.
        ended: takes each run when it is over.

    Raises:
        BadInput: no such model, or one that leaves out what the scenario has; a policy that there is not.
    """
    drawn(scenario, model=model, seed=seed, runs=runs)
    chosen = MODELS[model]
    done: list[Run] = []
    for number in range(runs):
        run = chosen.run(scenario, seed + number)
        done.append(_figures_only(run) if number else run)
        ended(run)
    return Simulation(scenario=scenario, model=model, runs=tuple(done), notes=tuple(chosen.notes(scenario)))


def _figures_only(run: Run) -> Run:
    """A run without its course: ten thousand courses would fill the memory."""
    return replace(run, each_iteration=(), decisions=(), remaining=(), sending=(), threshold=(), log=b"")


def refuse_what_it_lacks(scenario: Scenario, model: str) -> None:
    """See that a model knows all that the scenario has.

    Raises:
        BadInput: it does not; names every key.
    """
    if lacking := list(MODELS[model].lacks(scenario)):
        able = ", ".join(name for name, each in MODELS.items() if not list(each.lacks(scenario)))
        allowed = f"one that knows {' and '.join(lacking)}: {able}" if able else f"none knows {' and '.join(lacking)}"
        raise BadInput("model", model, allowed)


# ---- the published predictors


def _published(model: str) -> Callable[[Scenario, int], Run]:
    def run(scenario: Scenario, seed: int) -> Run:
        return _predicted(predict(model, _question(scenario)), seed)

    return run


def _question(scenario: Scenario) -> Question:
    guest, goal = scenario.guest, scenario.objectives
    each_curve: tuple[DirtyCurve, ...] = tuple(each.curve for each in curves(guest))
    return Question(
        curve=each_curve[0] if len(each_curve) == 1 else Together(each_curve),
        total_bytes=guest.ram_bytes,
        zero_bytes=zero_bytes(guest),
        bytes_per_s=_sending_rate(scenario),
        downtime_limit_s=goal.downtime_s,
        rate_window_s=_rate_window_s(guest),
        hot_s=HOT_WINDOW_S,
    )


def _sending_rate(scenario: Scenario) -> float:
    return min(scenario.link.bandwidth_bytes_per_s, scenario.objectives.bandwidth_bytes_per_s or math.inf)


def _rate_window_s(guest: GuestPlan) -> float:
    """The longest window that was measured; a minute where nothing was."""
    return max(guest.curve[-1][0], LEAST_RATE_WINDOW_S) if guest.curve else RATE_WINDOW_S


def _predicted(told: Prediction, seed: int) -> Run:
    rows: list[Row] = []
    points: list[tuple[float, float]] = []
    start_s = 0.0
    for each in told.rows:
        rows.append(
            Row(
                number=each.number,
                start_s=start_s,
                duration_s=each.duration_s,
                to_send_bytes=each.wire_bytes,
                sent_bytes=each.wire_bytes,
            )
        )
        points += [(start_s, each.wire_bytes), (start_s + each.duration_s, 0.0)]
        start_s += each.duration_s
    return Run(
        seed=seed,
        converged=told.converged,
        outcome="completed" if told.converged else "does not converge",
        reason=told.reason,
        total_s=told.total_s,
        downtime_s=told.downtime_s if told.converged else None,
        iterations=told.iterations,
        transferred_bytes=told.transferred_bytes,
        each_iteration=tuple(rows),
        remaining=tuple(points),
        sending=tuple(by_iteration(rows)),
    )


def _published_notes(scenario: Scenario) -> Iterator[str]:
    yield "this model knows no policy: its downtime limit is the greatest downtime allowed"
    yield f"it sends {format_rate(_sending_rate(scenario))} from the beginning to the end"


def _constant_rate_notes(scenario: Scenario) -> Iterator[str]:
    yield from _published_notes(scenario)
    yield f"its dirty rate is that of a window of {format_duration(_rate_window_s(scenario.guest))}"


def _two_segment_notes(scenario: Scenario) -> Iterator[str]:
    yield from _published_notes(scenario)
    yield (
        f"its hot set is what {format_duration(HOT_WINDOW_S)} dirty, its cold rate what is dirtied from then until"
        f" {format_duration(_rate_window_s(scenario.guest))}"
    )
    yield "it takes nine bits of the link for a byte, and says nothing of downtime"


# ---- by name


MODELS: dict[str, Model] = {
    "stepwise": Model(
        "two modelled QEMUs, a link, the real machine",
        run_stepwise,
        stepwise_lacks,
        sender_notes,
        dice=True,
        draws=drawn_by,
    ),
    "fast": Model("QEMU's sender and the policy, iteration by iteration", run_fast, fast_lacks, fast_notes),
    "recurrence": Model(
        "t' = f(t)/B until t is within the limit", _published("recurrence"), beyond_a_steady_link, _published_notes
    ),
    "constant-rate": Model(
        "one dirty rate, a geometric series", _published("constant-rate"), beyond_a_steady_link, _constant_rate_notes
    ),
    "two-segment": Model(
        "a hot set, then a cold rate", _published("two-segment"), beyond_a_steady_link, _two_segment_notes
    ),
}
"""All models by name."""
