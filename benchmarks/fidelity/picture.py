"""The comparison as a picture: predicted against recorded, a panel for each quantity. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from whimbrel.engine.errors import BadInput

from .compare import WORST_BAR, Comparison

PANELS: Final = ("total time", "bytes", "iterations", "downtime")
SCALE: Final = {"bytes": (1 / 2**20, "MiB"), "downtime": (1e3, "ms")}
MARKS: Final = "ox+v^"


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the picture.

    Args:
        comparisons: of one set of records, one for each way of predicting.
        path: its ending says the form (``.png``, ``.svg``, ``.pdf``).

    Raises:
        BadInput: matplotlib is not installed.
    """
    try:
        from matplotlib import ticker
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("--picture", str(path), "matplotlib installed (pip install 'whimbrel[report]')") from None
    figure: Any = Figure(figsize=(11, 10))
    panels = figure.subplots(2, 2)
    for panel, name in zip(panels.flat, PANELS, strict=True):
        _panel(panel, name, comparisons)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(ticker.NullFormatter())
    figure.suptitle(f"{comparisons[0].cases} recorded migrations and their predictions")
    figure.tight_layout()
    figure.savefig(path)


def _panel(panel: Any, name: str, comparisons: Sequence[Comparison]) -> None:
    factor, unit = SCALE.get(name, (1.0, "s" if name == "total time" else ""))
    seen: list[float] = []
    for mark, comparison in zip(MARKS, comparisons, strict=False):
        row = comparison.row(name)
        x, y = [pair.real * factor for pair in row.pairs], [pair.predicted * factor for pair in row.pairs]
        seen += x + y
        panel.plot(x, y, mark, alpha=0.7, label=f"{comparison.by} (median {row.median:.1%})")
    ends = (min(seen) * 0.9, max(seen) * 1.1)
    panel.plot(ends, ends, "-", color="grey", linewidth=0.8)
    for bound in (1 - WORST_BAR, 1 + WORST_BAR):
        panel.plot(ends, [end * bound for end in ends], ":", color="grey", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_yscale("log")
    label = f"{name}, {unit}" if unit else name
    panel.set_xlabel(f"{label}: recorded")
    panel.set_ylabel("predicted")
    panel.legend(fontsize="small")
