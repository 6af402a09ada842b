"""Predictions against what came: relative errors by quantity, verdicts, and whether the bar is met. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .records import Outcome, Prediction, Run

MEDIAN_BAR: Final = 0.06
"""Greatest median of the relative error of time and of bytes."""
WORST_BAR: Final = 0.25
"""A run whose time or bytes are further off than this, or whose verdict is wrong, is a miss."""
MISSES_ALLOWED: Final = 1
BARRED: Final = ("total time", "bytes")


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is predicted.

    Attributes:
        name: for people.
        unit: ``s``, ``ms``, ``bytes`` or nothing.
        real: its value on record; ``None``: it has none there.
        predicted: the same of a prediction.
    """

    name: str
    unit: str
    real: Callable[[Outcome], float | None]
    predicted: Callable[[Prediction], float | None]


def _item(*names: str) -> tuple[Callable[[Outcome], float | None], Callable[[Prediction], float | None]]:
    """Items of the downtime, added up; none where the guest did not move."""

    def total(items: Mapping[str, float]) -> float | None:
        return sum(items[name] for name in names) if all(name in items for name in names) else None

    return (lambda outcome: total(outcome.downtime)), (lambda prediction: total(prediction.downtime))


QUANTITIES: Final = (
    Quantity("iterations", "", lambda o: o.iterations, lambda p: p.iterations),
    Quantity(
        "total time",
        "s",
        lambda o: o.total_s if o.verdict == "converged" else None,
        lambda p: p.total_s if p.verdict == "converged" else None,
    ),
    Quantity("bytes", "bytes", lambda o: o.bytes, lambda p: p.bytes),
    Quantity("downtime", "s", *_item("total")),
    Quantity("outage between heartbeats", "s", lambda o: o.outage_s, lambda p: p.outage_s),
    Quantity("downtime: stop", "s", *_item("stop")),
    Quantity("downtime: drain", "s", *_item("drain")),
    Quantity("downtime: last RAM, device state", "s", *_item("last_ram", "device_state")),
    Quantity("downtime: load", "s", *_item("load")),
    Quantity("downtime: resume", "s", *_item("resume")),
)
"""Time of a migration that was called off is the same by construction and not compared. The report splits the span of
the last RAM and the device state by an estimate (`whimbrel.engine.timeline`): they are compared together."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure on record beside the predicted one."""

    case: str
    real: float
    predicted: float

    @property
    def error(self) -> float:
        """Relative, with its sign: above 0, too much was predicted."""
        return (self.predicted - self.real) / self.real


@dataclass(frozen=True, slots=True)
class Row:
    """A quantity over all runs.

    Attributes:
        median, p95: of the absolute value of the relative error.
        bias: median of the error with its sign.
        off: median of the absolute difference, in the quantity's unit.
    """

    name: str
    unit: str
    pairs: tuple[Pair, ...]

    @property
    def median(self) -> float:
        return statistics.median(abs(pair.error) for pair in self.pairs)

    @property
    def p95(self) -> float:
        return percentile([abs(pair.error) for pair in self.pairs], 0.95)

    @property
    def bias(self) -> float:
        return statistics.median(pair.error for pair in self.pairs)

    @property
    def off(self) -> float:
        return statistics.median(abs(pair.predicted - pair.real) for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way of predicting, over all runs."""

    by: str
    rows: tuple[Row, ...]
    wrong: tuple[str, ...]
    """Cases with a wrong verdict."""
    far: tuple[str, ...]
    """Cases with the right verdict whose time or bytes are further off than `WORST_BAR`."""
    cases: int

    def row(self, name: str) -> Row:
        """The row of a quantity.

        Raises:
            KeyError: there is none of this name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        if not {*BARRED} <= {row.name for row in self.rows}:
            return False
        medians = all(self.row(name).median <= MEDIAN_BAR for name in BARRED)
        return medians and len(self.wrong) + len(self.far) <= MISSES_ALLOWED


def compare(runs: Sequence[Run], predictions: Iterable[Prediction]) -> Comparison:
    """Hold predictions of one kind against the records.

    Raises:
        ValueError: a run has no prediction, or they are of more kinds than one.
    """
    found = {prediction.case: prediction for prediction in predictions}
    kinds = {prediction.by for prediction in found.values()}
    if len(kinds) != 1:
        raise ValueError(f"predictions of one kind, not {sorted(kinds)}")
    missing = [run.known.case for run in runs if run.known.case not in found]
    if missing:
        raise ValueError(f"no prediction for {', '.join(missing)}")
    beside = [(run, found[run.known.case]) for run in runs]
    rows = tuple(row for quantity in QUANTITIES if (row := _row(quantity, beside)).pairs)
    wrong = [run.known.case for run, prediction in beside if run.outcome.verdict != prediction.verdict]
    far = {
        pair.case
        for row in rows
        if row.name in BARRED
        for pair in row.pairs
        if abs(pair.error) > WORST_BAR and pair.case not in wrong
    }
    return Comparison(kinds.pop(), rows, tuple(wrong), tuple(sorted(far)), len(runs))


def _row(quantity: Quantity, beside: Sequence[tuple[Run, Prediction]]) -> Row:
    pairs: list[Pair] = []
    for run, prediction in beside:
        real, predicted = quantity.real(run.outcome), quantity.predicted(prediction)
        if real is not None and predicted is not None and real > 0:
            pairs.append(Pair(run.known.case, real, predicted))
    return Row(quantity.name, quantity.unit, tuple(pairs))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies, between neighbours in proportion (as numpy's default).

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def as_text(comparison: Comparison) -> str:
    """A table for people."""
    lines = [f"{comparison.by}: {comparison.cases} migrations", _LINE.format("", "runs", "median", "95 %", "bias", "")]
    for row in comparison.rows:
        off = f"{row.off * 1e3:.1f} ms off" if row.name.startswith(("downtime", "outage")) else ""
        figures = (f"{row.median:.1%}", f"{row.p95:.1%}", f"{row.bias:+.1%}")
        lines.append(_LINE.format(row.name, len(row.pairs), *figures, off).rstrip())
    lines.append(f"  wrong verdicts: {', '.join(comparison.wrong) or 'none'}")
    lines.append(f"  time or bytes more than {WORST_BAR:.0%} off: {', '.join(comparison.far) or 'none'}")
    asked = f"median at most {MEDIAN_BAR:.0%} for {' and '.join(BARRED)}, at most {MISSES_ALLOWED} run missed"
    lines.append(f"  {'MET   ' if comparison.met else 'MISSED'} {asked}")
    return "\n".join(lines)


_LINE: Final = "  {:<34} {:>4} {:>8} {:>8} {:>8}  {}"


def as_json(comparison: Comparison) -> dict[str, object]:
    """The same for programs, with every pair."""
    return {
        "by": comparison.by,
        "runs": comparison.cases,
        "met": comparison.met,
        "wrong_verdicts": list(comparison.wrong),
        "far_off": list(comparison.far),
        "quantities": {
            row.name: {
                "unit": row.unit,
                "median": row.median,
                "p95": row.p95,
                "bias": row.bias,
                "median_off": row.off,
                "pairs": {pair.case: [pair.real, pair.predicted] for pair in row.pairs},
            }
            for row in comparison.rows
        },
    }


def itself(runs: Sequence[Run], again: Sequence[Run]) -> Comparison:
    """Reality as its own prediction: cells recorded a second time. No predictor can be asked for more.

    Args:
        runs: the grid.
        again: any of its cells once more.
    """
    twice = {run.known.case for run in again}
    return compare([run for run in runs if run.known.case in twice], [as_prediction(run) for run in again])


def as_prediction(run: Run) -> Prediction:
    """A recorded outcome in the form of a prediction."""
    outcome = run.outcome
    return Prediction(
        case=run.known.case,
        by="the same migration once more",
        inputs="",
        verdict=outcome.verdict,
        iterations=outcome.iterations,
        total_s=outcome.total_s,
        bytes=outcome.bytes,
        downtime=outcome.downtime,
        outage_s=outcome.outage_s,
    )
