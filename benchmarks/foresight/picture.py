"""The comparison as a picture: predicted against what came, with intervals. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from whimbrel.engine.errors import BadInput

from .compare import WORST_BAR, Comparison, Row

PANELS: Final = ("total time", "bytes", "downtime")
SCALE: Final = {"bytes": (1 / 2**20, "MiB"), "downtime": (1e3, "ms"), "total time": (1.0, "s")}
MARKS: Final = "os^vDP*X"
BANDS: Final = 5
"""Of probabilities, in the panel that shows how often they came true."""


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture.

    Args:
        comparison: what is shown.
        path: its ending says the form (``.png``, ``.svg``, ``.pdf``).

    Raises:
        BadInput: matplotlib is not installed.
    """
    try:
        from matplotlib import ticker
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("--picture", str(path), "matplotlib installed (pip install 'whimbrel[report]')") from None
    figure: Any = Figure(figsize=(12, 11))
    panels = list(figure.subplots(2, 2).flat)
    policies = {pair.said.case.name: pair.said.case.policy_name for pair in comparison.pairs}
    rows = {row.name: row for row in comparison.rows}
    for panel, name in zip(panels, PANELS, strict=False):
        if name not in rows:
            panel.set_axis_off()
            continue
        _panel(panel, rows[name], policies)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(ticker.NullFormatter())
    _probabilities(panels[-1], comparison)
    figure.suptitle(f"{len(comparison.pairs)} migrations, each predicted before it began")
    figure.tight_layout()
    figure.savefig(path)


def _panel(panel: Any, row: Row, policies: dict[str, str]) -> None:
    factor, unit = SCALE[row.name]
    seen: list[float] = []
    for mark, policy in zip(MARKS, sorted(set(policies.values())), strict=False):
        figures = [each for each in row.figures if policies[each.case] == policy]
        if not figures:
            continue
        x = [each.actual * factor for each in figures]
        y = [each.predicted.middle * factor for each in figures]
        high = [each.predicted.high * factor for each in figures]
        errors = (
            [middle - each.predicted.low * factor for middle, each in zip(y, figures, strict=True)],
            [end - middle if math.isfinite(end) else 0.0 for middle, end in zip(y, high, strict=True)],
        )
        seen += x + y
        panel.errorbar(x, y, yerr=errors, fmt=mark, alpha=0.7, markersize=5, elinewidth=0.8, label=policy)
    ends = (min(seen) * 0.85, max(seen) * 1.15)
    panel.plot(ends, ends, "-", color="grey", linewidth=0.8)
    for bound in (1 - WORST_BAR, 1 + WORST_BAR):
        panel.plot(ends, [end * bound for end in ends], ":", color="grey", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(*ends)
    panel.set_xlabel(f"{row.name}, {unit}: what came")
    panel.set_ylabel("predicted, with nine-in-ten interval")
    panel.set_title(
        f"median error {row.median:.1%}; {row.held} of {len(row.figures)} intervals hold", fontsize="medium"
    )
    panel.legend(fontsize="small")


def _probabilities(panel: Any, comparison: Comparison) -> None:
    """How often what was said to meet the objectives did, by how likely that was said to be."""
    for low, high, said, came in bands(comparison):
        panel.plot(
            sum(said) / len(said), sum(came) / len(came), "o", color="C0", markersize=4 + 2 * math.sqrt(len(said))
        )
        panel.annotate(
            f"{len(said)}", (sum(said) / len(said), sum(came) / len(came)), ha="center", va="center", fontsize=7
        )
        panel.axvspan(low, high, color="grey", alpha=0.04)
    panel.plot((0, 1), (0, 1), "-", color="grey", linewidth=0.8)
    panel.set_xlabel("probability that the objectives are met, as predicted")
    panel.set_ylabel("how often they were")
    panel.set_title(f"Brier score {comparison.brier:.3f}, {len(comparison.wrong)} wrong verdicts", fontsize="medium")


def bands(comparison: Comparison) -> Sequence[tuple[float, float, list[float], list[bool]]]:
    """Migrations by the probability that was given to them: ends of the band, the probabilities, and what came."""
    found: list[tuple[float, float, list[float], list[bool]]] = []
    for place in range(BANDS):
        low, high = place / BANDS, (place + 1) / BANDS
        last = place == BANDS - 1
        inside = [each for each in comparison.verdicts if low <= each.meets < high or (last and each.meets == high)]
        if inside:
            found.append((low, high, [each.meets for each in inside], [each.met for each in inside]))
    return found
