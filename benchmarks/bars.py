"""What is asked of whimbrel, and whether a measurement meets it."""

from __future__ import annotations

from dataclasses import dataclass

from .figures import Estimate


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that is asked, and what was measured."""

    name: str
    ask: str
    """The bound, in words."""
    measured: Estimate
    """In `unit`."""
    bound: float
    """The most that is allowed, in `unit`."""
    unit: str
    """``ms``, ``x`` (a ratio) ..."""

    @property
    def met(self) -> bool:
        """Whether the figure itself keeps within the bound."""
        return self.measured.value <= self.bound

    @property
    def clear(self) -> bool:
        """Whether the whole interval lies on the same side of the bound as the figure."""
        return self.measured.high <= self.bound if self.met else self.measured.low > self.bound

    def verdict(self) -> str:
        """``met`` or ``missed``, and whether that is sure."""
        word = "met" if self.met else "missed"
        return word if self.clear else f"{word}, but the interval spans the bound"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a figure and what it is of."""

    name: str
    measured: Estimate
    unit: str


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark came to."""

    title: str
    bars: tuple[Bar, ...] = ()
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()


def shown(estimate: Estimate, unit: str) -> str:
    """A figure with its interval, as people read it: ``12.3 ms (11.9 to 12.8)``."""
    digits = {"x": 3, "s": 2}.get(unit, 1)
    value, low, high = (f"{each:.{digits}f}" for each in (estimate.value, estimate.low, estimate.high))
    return f"{value} {unit} ({low} to {high})" if unit != "x" else f"{value} ({low} to {high})"


def as_text(results: list[Result]) -> str:
    """All results as a Markdown table each, with a verdict for each bar."""
    lines: list[str] = []
    for result in results:
        lines += [f"### {result.title}", ""]
        if result.bars:
            lines += ["| asked | measured: median (95 % interval) | |", "|---|---|---|"]
            lines += [f"| {b.name}: {b.ask} | {shown(b.measured, b.unit)} | {b.verdict()} |" for b in result.bars]
            lines.append("")
        if result.rows:
            lines += ["| figure | median (95 % interval) |", "|---|---|"]
            lines += [f"| {row.name} | {shown(row.measured, row.unit)} |" for row in result.rows]
            lines.append("")
        lines += [*(f"- {note}" for note in result.notes), ""]
    return "\n".join(lines)
