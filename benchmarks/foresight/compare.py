"""Predictions against what came: errors by quantity, intervals, verdicts, and whether the bar is met. All pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scipy import stats

from benchmarks.fidelity.compare import percentile
from whimbrel.engine.aftermath import OUTAGE
from whimbrel.engine.estimate import Range
from whimbrel.engine.prediction import COMPONENTS

from .records import Pair

MEDIAN_BAR: Final = 0.06
"""Greatest median of the relative error of time and of bytes."""
WORST_BAR: Final = 0.25
"""A migration whose time or bytes are further off than this, or whose verdict is wrong, is a miss."""
MISSES_BAR: Final = 3 / 60
HELD_BAR: Final = (48 / 60, 58 / 60)
"""Part of the 90 % intervals that must hold: of so many both more and fewer would be a surprise."""
QUANTITIES: Final = {
    "total_s": "total time",
    "transferred_bytes": "bytes",
    "downtime_s": "downtime",
    "iterations": "iterations",
    "throttle": "throttle",
    "lost_s": "guest-seconds lost",
    "postcopy_s": "post-copy",
}
BARRED: Final = ("total time", "bytes")
LEAST: Final = {"throttle": 0.01, "guest-seconds lost": 0.05, "post-copy": 0.01}
"""What comes to less has no relative error worth the name, and is left out of these."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one migration: predicted and actual.

    Attributes:
        case: which migration.
        predicted: its range.
        actual: what came.
        whole: of which the error is a part; ``None``: of what came.
    """

    case: str
    predicted: Range
    actual: float
    whole: float | None = None

    @property
    def error(self) -> float:
        """How much too much was predicted, as a part; ``inf`` where nothing came and something was predicted."""
        gap, whole = self.predicted.middle - self.actual, self.actual if self.whole is None else self.whole
        if gap == 0:
            return 0.0
        return gap / whole if whole else math.inf

    @property
    def held(self) -> bool:
        """Whether the interval did."""
        return self.predicted.holds(self.actual)


@dataclass(frozen=True, slots=True)
class Row:
    """A quantity over all migrations that have it. Not empty."""

    name: str
    figures: tuple[Figure, ...]

    @property
    def median(self) -> float:
        """Of the errors without their sign."""
        return statistics.median(abs(figure.error) for figure in self.figures)

    @property
    def p95(self) -> float:
        """The same, 95th percentile."""
        return percentile([abs(figure.error) for figure in self.figures], 0.95)

    @property
    def bias(self) -> float:
        """Median of the errors with their sign."""
        return statistics.median(figure.error for figure in self.figures)

    @property
    def off(self) -> float:
        """Median of the differences without their sign, in the quantity's unit."""
        return statistics.median(abs(figure.actual - figure.predicted.middle) for figure in self.figures)

    @property
    def held(self) -> int:
        """How many intervals did."""
        return sum(figure.held for figure in self.figures)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the objectives would be met, as a probability, and whether they were."""

    case: str
    meets: float
    met: bool
    moves: float
    moved: bool

    @property
    def right(self) -> bool:
        """Whether what was likelier than not is what came: of moving, and of meeting the objectives."""
        return (self.meets >= 0.5) is self.met and (self.moves >= 0.5) is self.moved


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it.

    Attributes:
        pairs: what is compared.
        rows: by quantity and component, those that any migration has.
        verdicts: one for each.
    """

    pairs: tuple[Pair, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]

    def row(self, name: str) -> Row:
        """One of them.

        Raises:
            KeyError: no migration has it.
        """
        return self._by_name[name]

    @property
    def _by_name(self) -> dict[str, Row]:
        return {row.name: row for row in self.rows}

    @property
    def wrong(self) -> tuple[str, ...]:
        """Cases with a wrong verdict."""
        return tuple(verdict.case for verdict in self.verdicts if not verdict.right)

    @property
    def far(self) -> tuple[str, ...]:
        """Cases whose time or bytes are far off, the verdict being right."""
        found = {
            figure.case
            for row in self.rows
            if row.name in BARRED
            for figure in row.figures
            if abs(figure.error) > WORST_BAR
        }
        return tuple(sorted(found - set(self.wrong)))

    @property
    def brier(self) -> float:
        """Mean square of probability less outcome, of meeting the objectives; 0.25 is what a coin comes to."""
        return statistics.fmean((verdict.meets - verdict.met) ** 2 for verdict in self.verdicts)

    @property
    def expected_wrong(self) -> float:
        """How many verdicts on the objectives would be wrong, were the probabilities true."""
        return sum(min(verdict.meets, 1 - verdict.meets) for verdict in self.verdicts)

    @property
    def bars(self) -> dict[str, bool]:
        """Each bar as a sentence, and whether it is met; those of a quantity that nobody has are left out."""
        count = len(self.pairs)
        rows = self._by_name
        bars = {
            f"median error of {name} at most {MEDIAN_BAR:.0%}": rows[name].median <= MEDIAN_BAR
            for name in BARRED
            if name in rows
        }
        misses = len(self.wrong) + len(self.far)
        allowed = math.floor(MISSES_BAR * count + 1e-9)
        bars[f"at most {allowed} of {count} far off or with a wrong verdict"] = misses <= allowed
        for row in (rows[name] for name in (*BARRED, "downtime") if name in rows):
            of = len(row.figures)
            low, high = math.ceil(HELD_BAR[0] * of - 1e-9), math.floor(HELD_BAR[1] * of + 1e-9)
            bars[f"{low} to {high} of {of} intervals of {row.name} hold"] = low <= row.held <= high
        return bars

    @property
    def met(self) -> bool:
        """Whether all bars are."""
        return all(self.bars.values())


def compare(pairs: Iterable[Pair]) -> Comparison:
    """Hold predictions against what came.

    Raises:
        ValueError: there is nothing to compare.
    """
    each = tuple(sorted(pairs, key=lambda pair: pair.said.case.name))
    if not each:
        raise ValueError("nothing is on record")
    found = [_row(name, each, _quantity(key, LEAST.get(name, 0.0))) for key, name in QUANTITIES.items()]
    found += [_row(f"  {name}", each, _component(name)) for name in COMPONENTS]
    return Comparison(each, tuple(row for row in found if row.figures), tuple(_verdict(pair) for pair in each))


def _verdict(pair: Pair) -> Verdict:
    """A migration is called off at its deadline: what would have moved later has not moved."""
    said, came = pair.said.foretold, pair.came
    in_time = min(said.moves, 1.0 - said.misses.get("deadline", 0.0))
    return Verdict(pair.said.case.name, said.meets, came.met, in_time, came.moved)


Get = Callable[[Pair], Figure | None]


def _row(name: str, pairs: Sequence[Pair], get: Get) -> Row:
    return Row(name, tuple(figure for pair in pairs if (figure := get(pair)) is not None))


def _quantity(key: str, least: float) -> Get:
    """Of a migration that was called off there is no time to compare, nor what it would have sent."""

    def get(pair: Pair) -> Figure | None:
        predicted, actual = pair.said.foretold.ranges.get(key), pair.came.actual(key)
        if predicted is None or actual is None or not pair.came.moved or max(predicted.middle, actual) <= least:
            return None
        return Figure(pair.said.case.name, predicted, actual)

    return get


def _component(name: str) -> Get:
    """Those of the outage are off by so much of it: what of it is the last RAM and what device state is an estimate in
    the reports, too (`whimbrel.engine.aftermath.actual`), and may be nothing."""

    def get(pair: Pair) -> Figure | None:
        predicted, actual = pair.said.foretold.components.get(name), pair.came.components.get(name)
        if predicted is None or actual is None or not pair.came.moved:
            return None
        return Figure(pair.said.case.name, predicted.range, actual, pair.came.downtime_s if name in OUTAGE else None)

    return get


def by(comparison: Comparison, key: Callable[[Pair], str]) -> dict[str, Comparison]:
    """The same for groups of migrations, in the order of their names."""
    groups: dict[str, list[Pair]] = {}
    for pair in comparison.pairs:
        groups.setdefault(key(pair), []).append(pair)
    return {name: compare(groups[name]) for name in sorted(groups)}


def interval(held: int, count: int) -> tuple[float, float]:
    """What part of all intervals would hold, seeing that so many of these did: Wilson's interval, 95 %."""
    found = stats.binomtest(held, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


# ---- in words


def as_text(comparison: Comparison) -> str:
    """A table for people."""
    lines = [_LINE.format(f"{len(comparison.pairs)} migrations", "of", "median", "95 %", "bias", "hold", "off")]
    for row in comparison.rows:
        figures = (f"{row.median:.1%}", f"{row.p95:.1%}", f"{row.bias:+.1%}", f"{row.held}")
        off = "" if row.name in ("bytes", "iterations", "throttle") else f"{row.off * 1e3:.0f} ms"
        lines.append(_LINE.format(row.name, len(row.figures), *figures, off).rstrip())
    lines.append(
        f"  wrong verdicts: {', '.join(comparison.wrong) or 'none'} ({comparison.expected_wrong:.1f} expected)"
    )
    lines.append(f"  time or bytes more than {WORST_BAR:.0%} off: {', '.join(comparison.far) or 'none'}")
    lines.append(f"  Brier score of the probabilities: {comparison.brier:.3f}")
    lines += [f"  {'MET   ' if met else 'MISSED'} {bar}" for bar, met in comparison.bars.items()]
    return "\n".join(lines)


_LINE: Final = "  {:<22} {:>4} {:>8} {:>8} {:>8} {:>6}  {}"


def groups_as_text(comparison: Comparison, key: Callable[[Pair], str]) -> str:
    """A line for each group."""
    lines = ["  " + _GROUP.format("", "of", "time", "bytes", "downtime", "hold", "wrong, far")]
    for name, group in by(comparison, key).items():
        rows = {row.name: row for row in group.rows}
        medians = [f"{rows[each].median:.1%}" if each in rows else "-" for each in (*BARRED, "downtime")]
        held = "/".join(str(rows[each].held) if each in rows else "-" for each in (*BARRED, "downtime"))
        lines.append(
            "  " + _GROUP.format(name, len(group.pairs), *medians, held, f"{len(group.wrong)}, {len(group.far)}")
        )
    return "\n".join(lines)


_GROUP: Final = "{:<18} {:>4} {:>8} {:>8} {:>8} {:>10}  {}"


def as_json(comparison: Comparison) -> Mapping[str, Any]:
    """The same for programs, with every figure."""
    return {
        "migrations": len(comparison.pairs),
        "met": comparison.met,
        "bars": comparison.bars,
        "wrong_verdicts": list(comparison.wrong),
        "wrong_verdicts_expected": comparison.expected_wrong,
        "far_off": list(comparison.far),
        "brier": comparison.brier,
        "quantities": {
            row.name.strip(): {
                "median": row.median,
                "p95": row.p95,
                "bias": row.bias,
                "median_off": row.off,
                "held": row.held,
                "held_interval": interval(row.held, len(row.figures)),
                "figures": {
                    each.case: [each.predicted.low, each.predicted.middle, each.predicted.high, each.actual]
                    for each in row.figures
                },
            }
            for row in comparison.rows
        },
        "verdicts": {each.case: [each.meets, each.met, each.moves, each.moved] for each in comparison.verdicts},
    }
