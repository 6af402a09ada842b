"""What should have come of each recorded migration, from what was known before it and the calibration alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from whimbrel.engine import recurrences
from whimbrel.engine.curve import DirtyCurve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Forecast, Setting, Writers
from whimbrel.engine.policies.fixed import Fixed
from whimbrel.engine.policy import Objectives
from whimbrel.sim.guests.plan import ExpectedCurve, expected_curve
from whimbrel.sim.scenario import GuestPlan
from whimbrel.sim.world import Outcome, simulate

from .records import FOLDER, Calibration, Known, Prediction, digest
from .scenarios import LATENCY_S, costs_of, guest_plan, scenario_of

PREDICTIONS: Final = "predictions.json"
SEEDS: Final = range(1, 8)
CONVERGED: Final = "converged"
CUT_OFF: Final = "cut off"
Predictor = Callable[[Known, Calibration], Prediction]


@dataclass(frozen=True, slots=True)
class _AsCurve:
    """The guest's exact curve, in the form that the fast path takes."""

    curve: ExpectedCurve
    most_bytes: float
    knots_s: tuple[float, ...] = ()

    def at(self, window_s: float) -> float:
        """Distinct bytes dirtied in a window."""
        return self.curve.dirty_bytes(window_s)


def curve_of(plan: GuestPlan) -> DirtyCurve:
    """The curve of a guest, for the maths in the engine."""
    written = sum(writer.size_bytes for writer in plan.writers if writer.rate_bytes_per_s)
    return _AsCurve(expected_curve(plan), float(written))


def fast(known: Known, calibration: Calibration) -> Prediction:
    """By the fast path: iterations in closed form, no protocol."""
    plan = guest_plan(known, calibration, pages=False)
    costs = costs_of(known, calibration)
    setting = Setting(
        writers=(Writers(curve=curve_of(plan)),),
        total_bytes=plan.ram_bytes,
        zero_bytes=plan.zero_bytes,
        bandwidth_bytes_per_s=known.goodput_bytes_per_s,
        pipe_bytes=known.pipe_bytes,
        latency_s=LATENCY_S,
        objectives=Objectives(downtime_s=known.limit_s),
        costs=costs,
        limit_s=known.cut_off_s,
    )
    return _of_forecast(known, calibration, forecast(setting, Fixed(downtime_limit_s=known.limit_s)))


def _of_forecast(known: Known, calibration: Calibration, said: Forecast) -> Prediction:
    outage = said.outage
    downtime: dict[str, float] = {}
    if outage is not None:
        downtime = {
            "total": outage.total_s,
            "last_ram": outage.stop_s + outage.pipe_s + outage.last_ram_s,
            "device_state": outage.device_state_s + outage.load_s,
            "resume": outage.resume_s,
        }
    # Each row ends with a sync; besides, one is made in the setup, and one when the guest has been stopped.
    syncs = 1 + len(said.rows) + said.converged
    return Prediction(
        case=known.case,
        by="fast path",
        inputs=digest(known, calibration),
        verdict=CONVERGED if said.converged else CUT_OFF,
        iterations=syncs,
        total_s=said.total_s,
        bytes=round(said.transferred_bytes),
        downtime=downtime,
        outage_s=None if outage is None else _as_heard(known, outage.total_s),
    )


def _as_heard(known: Known, outage_s: float) -> float:
    """Between two heartbeats: the guest's clock stands still in the outage, and a whole period passes besides."""
    return outage_s + 1 / known.beat_hz


def published(model: str) -> Predictor:
    """A model of the literature (`whimbrel.engine.recurrences`), from the same curve, link and limit: what is gained.

    Args:
        model: one of `whimbrel.engine.recurrences.MODELS`.
    """

    def predictor(known: Known, calibration: Calibration) -> Prediction:
        plan = guest_plan(known, calibration, pages=False)
        question = recurrences.Question(
            curve=curve_of(plan),
            total_bytes=plan.ram_bytes,
            zero_bytes=plan.zero_bytes,
            bytes_per_s=known.goodput_bytes_per_s,
            downtime_limit_s=known.limit_s,
        )
        said = recurrences.predict(model, question)
        converged = said.converged and said.total_s <= known.cut_off_s
        return Prediction(
            case=known.case,
            by=f"published model: {model}",
            inputs=digest(known, calibration),
            verdict=CONVERGED if converged else CUT_OFF,
            iterations=said.iterations,
            total_s=said.total_s if converged else known.cut_off_s,
            bytes=round(said.transferred_bytes) if converged else None,
            downtime={"total": said.downtime_s} if converged and said.downtime_s is not None else {},
        )

    return predictor


def by_curve(known: Known, calibration: Calibration, seeds: Sequence[int] = SEEDS) -> Prediction:
    """By the whole protocol, with the guest's memory by expectation."""
    return _simulated(known, calibration, "simulator, curve level", seeds, pages=False)


def by_pages(known: Known, calibration: Calibration, seeds: Sequence[int] = SEEDS) -> Prediction:
    """By the whole protocol, with the guest's memory page by page."""
    return _simulated(known, calibration, "simulator, page level", seeds, pages=True)


def _simulated(known: Known, calibration: Calibration, by: str, seeds: Sequence[int], *, pages: bool) -> Prediction:
    """The verdict of most seeds, and the medians of those that came to it.

    What a guest does has chance in it that nobody knows before: where a sweep stands, which page is drawn when.
    """
    scenario = scenario_of(known, calibration, pages=pages)
    policy = Fixed(downtime_limit_s=known.limit_s)
    ends = [simulate(scenario, seed, policy) for seed in seeds]
    moved = [end for end in ends if end.report is not None and end.report.moved]
    converged = 2 * len(moved) > len(ends)
    agreeing = moved if converged else [end for end in ends if end not in moved]
    return Prediction(
        case=known.case,
        by=by,
        inputs=digest(known, calibration),
        verdict=CONVERGED if converged else CUT_OFF,
        iterations=statistics.median_low(end.truth.iterations for end in agreeing),
        total_s=statistics.median(end.truth.total_s for end in agreeing) if converged else known.cut_off_s,
        bytes=round(statistics.median(end.truth.transferred_bytes for end in agreeing)),
        downtime=_downtime(agreeing) if converged else {},
        outage_s=_as_heard(known, statistics.median(_outages_s(agreeing))) if converged else None,
    )


def _outages_s(ends: Sequence[Outcome]) -> list[float]:
    return [end.truth.outage_s for end in ends if end.truth.outage_s is not None]


def _downtime(ends: Sequence[Outcome]) -> dict[str, float]:
    """The items of the reports, the median of each."""
    reported = [end.report.downtime for end in ends if end.report is not None and end.report.downtime is not None]
    each = [{"total_s": one.total_s} | one.items for one in reported]
    return {name.removesuffix("_s"): statistics.median(one[name] for one in each) for name in each[0]}


HELD: Final[tuple[Predictor, ...]] = (fast, by_curve, by_pages)
"""Those that the bar is for."""
PREDICTORS: Final[tuple[Predictor, ...]] = (*HELD, *(published(model) for model in recurrences.MODELS))


def predict_all(
    known: Iterable[Known], calibration: Calibration, predictors: Sequence[Predictor] = PREDICTORS
) -> list[Prediction]:
    """Every migration, by every predictor."""
    each = list(known)
    return [predictor(one, calibration) for predictor in predictors for one in each]


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    predictions: tuple[Prediction, ...]


def save(predictions: Sequence[Prediction], folder: Path = FOLDER) -> None:
    """Write them, a line for each."""
    lines = [json.dumps(msgspec.to_builtins(prediction), separators=(",", ":")) for prediction in predictions]
    body = ",\n".join(lines)
    (folder / PREDICTIONS).write_text(f'{{"predictions":[\n{body}\n]}}\n')


def load(folder: Path = FOLDER) -> tuple[Prediction, ...]:
    """Read them.

    Raises:
        BadInput: nothing was predicted yet.
        msgspec.ValidationError: the file is of another form.
    """
    path = folder / PREDICTIONS
    if not path.exists():
        raise BadInput("--folder", str(folder), "one with predictions: run `python -m benchmarks fidelity predict`")
    return msgspec.json.decode(path.read_bytes(), type=_Saved).predictions


def check(predictions: Iterable[Prediction], known: Iterable[Known], calibration: Calibration) -> None:
    """Refuse predictions that were made from other inputs than these.

    Raises:
        BadInput: names the cases.
    """
    inputs = {one.case: digest(one, calibration) for one in known}
    stale = sorted({each.case for each in predictions if inputs.get(each.case) != each.inputs})
    if stale:
        raise BadInput("predictions", ", ".join(stale), "made from what is on record: predict again")
