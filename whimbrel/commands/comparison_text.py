"""Comparisons as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from whimbrel.laboratory.ranking import METRICS, Agreement, League
from whimbrel.laboratory.records import Case
from whimbrel.laboratory.statistics import Interval
from whimbrel.laboratory.summary import Comparison, Figures, Regrets
from whimbrel.units import format_duration, format_size

MOST_TABLES = 3
"""With more cases than this each is told in a line, not in a table."""
POLICY_WIDTH = 28
"""Of the column of policies; longer ones go over several lines, and so do all where a terminal is too narrow."""
MOST_DISAGREEMENTS = 8
ON_THE_FRONT = "*"

NOTES = (
    "met, moved: runs that met the goal, that moved the guest. rank: run by run, 1 is the best; who met",
    "the goal comes first, by time + guest-seconds lost, then who moved, by how far it was missed; mean",
    "and 95 %. place: by rank, 95 %. first: how probable. time, down, lost, sent: mean ranks in each",
    "alone. x time: against the first, run by run. *: on the Pareto front of met and these four.",
)


def comparison_text(comparison: Comparison) -> RenderableType:
    """What a comparison came to, within 100 columns."""
    cases = comparison.matrix.cases
    parts: list[RenderableType] = []
    if len(cases) <= MOST_TABLES:
        for case in cases:
            parts += ["", _case_table(case, comparison.of_case(case.name))]
    else:
        parts += ["", _winners(comparison)]
    if comparison.regrets:
        parts += ["", _regret_table(comparison.regrets)]
    if len(comparison.matrix.policies) > 1:
        parts += [
            "",
            _league_table(comparison.league),
            *(Text(line, style="dim") for line in _notes(comparison.league)),
        ]
    return Group(*parts)


def _titled(title: str, table: Table) -> Group:
    """A title of its own is not folded to the width of the table."""
    return Group(Text(title, style="bold"), table)


def _new(columns: Iterable[str]) -> Table:
    """A table whose first column is text, and the others figures."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, name in enumerate(columns):
        if number == 0:
            table.add_column(name, max_width=POLICY_WIDTH, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    return table


# ---- cases


def _case_table(case: Case, figures: Sequence[Figures]) -> Group:
    goal = case.scenario.objectives
    within = f" within {format_duration(goal.deadline_s)}" if goal.deadline_s is not None else ""
    title = (
        f"{case.name}: goal {format_duration(goal.downtime_s)}{within},"
        f" called off after {format_duration(case.scenario.limit_s)}"
    )
    table = _new(("policy", "met", "moved", "total", "95 %", "down", "lost", "sent", "slowed", ""))
    for each in figures:
        table.add_row(
            each.policy,
            f"{each.goal_met}/{each.runs}",
            f"{each.moved}/{each.runs}",
            _time(each.total_s.value, each.limit_s),
            _range(each.total_s, partial(_time, limit_s=each.limit_s)),
            _time(each.downtime_s.value, math.inf),
            _time(each.lost_guest_s.value, math.inf),
            "" if math.isnan(each.transferred_bytes.value) else format_size(each.transferred_bytes.value),
            f"{each.throttle:.0%}" if each.throttle else "",
            _remark(each),
        )
    return _titled(title, table)


def _remark(figures: Figures) -> str:
    words = ["post-copy"] if figures.postcopy == figures.runs else []
    if 0 < figures.postcopy < figures.runs:
        words.append(f"{figures.postcopy} post-copy")
    if figures.faults:
        words.append(f"{figures.faults} faults")
    return ", ".join(words)


def _winners(comparison: Comparison) -> Group:
    title = "Each case: who is first there, and what that takes"
    table = _new(("case", "first", "met", "total", "down", "lost", "moved by"))
    table.columns[1].justify, table.columns[1].max_width = "left", POLICY_WIDTH
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    for case in comparison.matrix.cases:
        figures = comparison.of_case(case.name)
        first = figures[0]
        table.add_row(
            case.name,
            first.policy if first.moved else "(nobody)",
            f"{first.goal_met}/{first.runs}",
            _time(first.total_s.value, first.limit_s),
            _time(first.downtime_s.value, math.inf),
            _time(first.lost_guest_s.value, math.inf),
            f"{sum(2 * each.moved > each.runs for each in figures)}/{len(figures)}",
        )
    return _titled(title, table)


# ---- all of it


def _league_table(league: League) -> Group:
    title = f"League: {_several(league.cases, 'case')}, {league.blocks} guests, each moved by everybody"
    table = _new(("policy", "met", "moved", "rank", "95 %", "place", "first", *_SHORT, "x time", ""))
    for each in league.standings:
        table.add_row(
            each.policy,
            f"{each.goal_met.value:.0%}",
            f"{each.moved.value:.0%}",
            f"{each.rank.value:.1f}",
            _range(each.rank, "{:.1f}".format),
            _range(each.place, "{:.0f}".format),
            f"{each.best:.0%}",
            *(f"{each.ranks[name].value:.1f}" for name in METRICS),
            "-" if math.isinf(each.time_ratio.value) else f"{each.time_ratio.value:.2f}",
            "" if each.beaten_by else ON_THE_FRONT,
        )
    return _titled(title, table)


_SHORT = ("time", "down", "lost", "sent")


def _notes(league: League) -> Iterator[str]:
    yield from NOTES
    known = {weight: tau for weight, tau in league.other_weights.items() if not math.isnan(tau)}
    if known:
        told = ", ".join(f"{tau:.2f} at {weight:g} s" for weight, tau in known.items())
        yield f"A lost guest-second counts as 1 s. Kendall's tau with the order otherwise: {told}."


def _regret_table(regrets: Sequence[Regrets]) -> Group:
    title = "Regret, medians: QEMU's mechanism beyond a clairvoyant; the policy beyond the best of the knobs"
    heads = ("down, mech.", "policy", "time, mech.", "policy", "sent, mech.", "policy", "lost, policy")
    table = _new(("policy", *heads))
    for each in regrets:
        cells: list[str] = []
        for name, value in each.medians.items():
            write = _bytes if name.endswith("bytes") else _seconds
            cells.append("" if math.isnan(value.value) else write(value.value))
        table.add_row(each.policy, *cells)
    return _titled(title, table)


def agreement_text(found: Agreement) -> RenderableType:
    """How far a simulated and a real ranking agree, and where they do not."""
    tau = found.tau
    of_what = f"{_several(len(found.policies), 'policy')} on {_several(len(found.cases), 'case')}"
    told = f"Simulated and real order of {of_what}: Kendall's tau {tau.value:.2f} ({tau.low:.2f} to {tau.high:.2f})"
    lines = [Text(""), Text(told, style="bold")]
    lines += [
        Text(
            f"  {each.better} before {each.worse}: by {each.first:.1f} ranks simulated, {each.second:.1f} for real",
        )
        for each in found.disagreements[:MOST_DISAGREEMENTS]
    ]
    left_out = len(found.disagreements) - MOST_DISAGREEMENTS
    if left_out > 0:
        lines.append(Text(f"  … {left_out} more", style="dim"))
    return Group(*lines)


# ---- figures


def _several(number: int, one: str) -> str:
    many = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{number} {one if number == 1 else many}"


def _range(interval: Interval, write: Callable[[float], str]) -> str:
    low, high = write(interval.low), write(interval.high)
    return low if low == high else f"{low}–{high}"


def _time(value_s: float, limit_s: float) -> str:
    if math.isnan(value_s):
        return ""
    return f">{format_duration(limit_s)}" if math.isinf(value_s) else format_duration(value_s)


def _seconds(value_s: float) -> str:
    return ("-" if value_s < 0 else "") + format_duration(abs(value_s))


def _bytes(value_bytes: float) -> str:
    return ("-" if value_bytes < 0 else "") + format_size(abs(value_bytes))
