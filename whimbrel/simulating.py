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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace

from whimbrel.engine.curve import PAGE_BYTES, Curve, DirtyCurve, Together
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Costs, Forecast, Setting, Throttling, Writers
from whimbrel.engine.recurrences import Prediction, Question, predict
from whimbrel.policies import resolve
from whimbrel.scenario_rules import without_unit
from whimbrel.sim.guests.plan import Area, areas_of
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario
from whimbrel.simulation_records import Decided, Row, Run, Simulation
from whimbrel.stepwise import run_stepwise, stepwise_lacks
from whimbrel.units import format_duration, format_rate

__all__ = ["MODELS", "Model", "refuse_what_it_lacks", "setting_of", "simulate"]

PERIODIC_SYNC_S = 5.0
"""QEMU 9.2 and later sync at least so often while the guest is throttled."""
CLEAR_CHUNK_BYTES = 1 << 30
"""KVM's dirty log is cleared by so much at a time (``x-clear-bitmap-shift`` of 18, in pages of 4 KiB)."""
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
    """

    about: str
    run: Callable[[Scenario, int], Run]
    lacks: Callable[[Scenario], Iterator[str]]
    notes: Callable[[Scenario], Iterator[str]]
    dice: bool = False


def simulate(scenario: Scenario, *, model: str, seed: int = 1, runs: int = 1) -> Simulation:
    """Simulate a scenario.

    Args:
        scenario: one that `whimbrel.scenario_rules` finds nothing wrong with.
        model: a name in `MODELS`.
        seed: of the first run; each further one has the next number.
        runs: how many.

    Raises:
        BadInput: no such model, or one that leaves out what the scenario has; a policy that there is not.
    """
    if model not in MODELS:
        raise BadInput("model", model, f"one of {', '.join(MODELS)}")
    chosen = MODELS[model]
    refuse_what_it_lacks(scenario, model)
    if runs > 1 and not chosen.dice:
        raise BadInput("runs", runs, f"1: the model {model} throws no dice, all runs would be the same")
    first = chosen.run(scenario, seed)
    others = (_figures_only(chosen.run(scenario, seed + number)) for number in range(1, runs))
    return Simulation(scenario=scenario, model=model, runs=(first, *others), notes=tuple(chosen.notes(scenario)))


def _figures_only(run: Run) -> Run:
    """A run without its course: ten thousand courses would fill the memory."""
    return replace(run, each_iteration=(), decisions=(), remaining=(), sending=(), log=b"")


def refuse_what_it_lacks(scenario: Scenario, model: str) -> None:
    """See that a model knows all that the scenario has.

    Raises:
        BadInput: it does not; names every key.
    """
    if lacking := list(MODELS[model].lacks(scenario)):
        able = ", ".join(name for name, each in MODELS.items() if not list(each.lacks(scenario)))
        allowed = f"one that knows {' and '.join(lacking)}: {able}" if able else f"none knows {' and '.join(lacking)}"
        raise BadInput("model", model, allowed)


# ---- the fast path


class _AreaCurve:
    """The curve of some of a guest's pages, for the forecast."""

    knots_s: tuple[float, ...] = ()

    def __init__(self, area: Area) -> None:
        """Of the pages of one writer."""
        self._area = area
        assert area.law is not None
        self.most_bytes = area.law.most * PAGE_BYTES

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, seconds."""
        return PAGE_BYTES * self._area.dirtied_pages(window_s)


def _curves(guest: GuestPlan) -> Iterator[Writers]:
    """Who writes: one curve for all of a measured guest, else one for each writer."""
    if guest.curve:
        curve = Curve(guest.curve, guest.ram_bytes, guest.zero_bytes)
        yield Writers(curve=curve, range_bytes=guest.ram_bytes - guest.zero_bytes)
        return
    for area in areas_of(guest):
        if area.law is not None:
            share = None if area.writer.vcpu is None else area.writer.cpu_share
            yield Writers(curve=_AreaCurve(area), cpu_share=share, range_bytes=area.pages * PAGE_BYTES)


def setting_of(scenario: Scenario) -> Setting:
    """What the forecast is asked for a scenario whose link is steady."""
    guest, link, qemu = scenario.guest, scenario.link, scenario.qemu
    return Setting(
        writers=tuple(_curves(guest)),
        total_bytes=guest.ram_bytes,
        zero_bytes=_zero_bytes(guest),
        bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
        pipe_bytes=link.pipe_bytes,
        latency_s=link.latency_s,
        objectives=scenario.objectives,
        costs=Costs(**{each.name: getattr(qemu.costs, each.name) for each in fields(Costs)}),
        throttling=Throttling(periodic_sync_s=None if qemu.source is Version.V7_2 else PERIODIC_SYNC_S),
        clear_chunk_bytes=CLEAR_CHUNK_BYTES if qemu.kvm else None,
        limit_s=scenario.limit_s,
    )


def _zero_bytes(guest: GuestPlan) -> int:
    """Pages that are zero and stay so, wherever they lie."""
    never_written = (each.size_bytes for each in guest.writers if each.zero and not each.rate_bytes_per_s)
    return guest.zero_bytes + sum(never_written)


def _fast(scenario: Scenario, seed: int) -> Run:
    told = forecast(setting_of(scenario), resolve(scenario.policy))
    outage = asdict(told.outage) if told.outage is not None else {}
    rows = tuple(_forecast_rows(told))
    return Run(
        seed=seed,
        converged=told.converged,
        outcome=told.outcome.value,
        reason=told.reason,
        total_s=told.total_s,
        downtime_s=told.downtime_s if told.converged else None,
        iterations=len(rows),
        transferred_bytes=told.transferred_bytes,
        throttle=told.throttle,
        downtime={name: value for name, value in outage.items() if name.endswith("_s")},
        each_iteration=rows,
        decisions=tuple(
            Decided(
                at_s=each.at_s,
                iteration=each.iteration,
                asked=each.asked,
                because=each.because,
                changes=dict(each.changes),
                clamped=each.clamped,
            )
            for each in told.decisions
        ),
        remaining=tuple(_forecast_points(told)),
        sending=tuple(_by_iteration(rows)),
    )


def _forecast_rows(told: Forecast) -> Iterator[Row]:
    for row in told.rows:
        yield Row(
            number=row.number,
            start_s=row.start_s,
            duration_s=row.duration_s,
            to_send_bytes=row.to_send_bytes,
            sent_bytes=row.wire_bytes,
            left_bytes=row.left_bytes,
            dirtied_bytes=row.dirtied_bytes,
            bandwidth_bytes_per_s=row.bandwidth_bytes_per_s,
            throttle=row.throttle,
            downtime_limit_s=row.downtime_limit_s,
        )
    if told.outage is not None:
        yield Row(
            number=len(told.rows) + 1,
            start_s=told.total_s - told.outage.total_s,
            duration_s=told.outage.total_s,
            to_send_bytes=told.outage.last_ram_bytes,
            sent_bytes=told.transferred_bytes - sum(row.wire_bytes for row in told.rows),
            stopped=True,
        )


def _forecast_points(told: Forecast) -> Iterator[tuple[float, float]]:
    for row in told.rows:
        yield row.start_s, row.to_send_bytes
        yield row.start_s + row.duration_s, row.left_bytes
    if told.outage is not None:
        yield told.total_s - told.outage.total_s, told.outage.last_ram_bytes
        after_s = told.outage.device_state_s + told.outage.load_s + told.outage.resume_s
        yield told.total_s - after_s, 0.0


def _by_iteration(rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
    """The rate of each iteration in which the guest ran, or of all where nobody says that it stood."""
    timed = [row for row in rows if row.duration_s > 0 and not row.stopped]
    for row in timed:
        yield row.start_s, row.sent_bytes / row.duration_s
    if timed:
        yield timed[-1].start_s + timed[-1].duration_s, timed[-1].sent_bytes / timed[-1].duration_s


def _beyond_a_steady_link(scenario: Scenario) -> Iterator[str]:
    """What only the stepwise model knows."""
    plain = LinkPlan()
    for name in ("noise", "steps", "outages", "rivals"):
        if getattr(scenario.link, name) != getattr(plain, name):
            yield f"link.{name}"
    if scenario.migrations > 1:
        yield "migrations"
    if scenario.faults:
        yield "faults"
    if scenario.guest.pages:
        yield "guest.pages"


def _fast_lacks(scenario: Scenario) -> Iterator[str]:
    yield from _beyond_a_steady_link(scenario)
    for each in fields(scenario.qemu.costs):
        known = {own.name for own in fields(Costs)}
        if each.name not in known and getattr(scenario.qemu.costs, each.name) != each.default:
            yield f"qemu.costs.{without_unit(each.name)}"


def _sender_notes(scenario: Scenario) -> Iterator[str]:
    """What holds the sender back without being seen."""
    cpu, allowed = scenario.qemu.costs.cpu_bytes_per_s, scenario.objectives.bandwidth_bytes_per_s
    if cpu <= min(scenario.link.bandwidth_bytes_per_s, allowed or math.inf):
        yield (
            f"the sender itself is what limits: it handles {format_rate(cpu)} (qemu.costs.cpu), the link carries"
            f" {format_rate(scenario.link.bandwidth_bytes_per_s)}"
        )


def _fast_notes(scenario: Scenario) -> Iterator[str]:
    yield from _sender_notes(scenario)
    if any(each.period_s for each in scenario.guest.writers):
        yield "phases are averaged over all of their beginnings: shift has no effect"
    if any(each.zero and each.rate_bytes_per_s for each in scenario.guest.writers):
        yield "pages that are zero until they are written are taken as full from the beginning"


# ---- the published predictors


def _published(model: str) -> Callable[[Scenario, int], Run]:
    def run(scenario: Scenario, seed: int) -> Run:
        return _predicted(predict(model, _question(scenario)), seed)

    return run


def _question(scenario: Scenario) -> Question:
    guest, goal = scenario.guest, scenario.objectives
    curves: tuple[DirtyCurve, ...] = tuple(each.curve for each in _curves(guest))
    return Question(
        curve=curves[0] if len(curves) == 1 else Together(curves),
        total_bytes=guest.ram_bytes,
        zero_bytes=_zero_bytes(guest),
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
        sending=tuple(_by_iteration(rows)),
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
        _sender_notes,
        dice=True,
    ),
    "fast": Model("QEMU's sender and the policy, iteration by iteration", _fast, _fast_lacks, _fast_notes),
    "recurrence": Model(
        "t' = f(t)/B until t is within the limit", _published("recurrence"), _beyond_a_steady_link, _published_notes
    ),
    "constant-rate": Model(
        "one dirty rate, a geometric series", _published("constant-rate"), _beyond_a_steady_link, _constant_rate_notes
    ),
    "two-segment": Model(
        "a hot set, then a cold rate", _published("two-segment"), _beyond_a_steady_link, _two_segment_notes
    ),
}
"""All models by name."""
