"""Comparisons as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from whimbrel.laboratory.ranking import METRICS, Agreement, League
from whimbrel.laboratory.records import Case, Row
from whimbrel.laboratory.statistics import LEAST_RUNS, Interval
from whimbrel.laboratory.summary import Comparison, Figures, Regrets
from whimbrel.units import format_duration, format_rate, format_size

MOST_TABLES = 3
"""With more cases than this each is told in a line, not in a table."""
NAME_WIDTH, LEAST_NAME_WIDTH = 28, 18
"""Of a column of names: longer ones go over several lines, the narrower where there is no room."""
GAP = 2
MOST_DISAGREEMENTS = 8
MOST_FAULTS = 8
LEAST_WAIT_S = 0.1
"""Before the start; less is what every migration needs to begin."""
ON_THE_FRONT = "*"

NOTES = (
    "met, moved: runs that met the goal, that moved the guest. rank: run by run, 1 is the best; who met the goal comes "
    "first, by time + guest-seconds lost, then who moved, by how far it was missed; mean and 95 %. place: by rank, "
    "95 %. first: how probable. time, down, lost, sent: mean ranks in each alone. x time: against the first, run by "
    "run. *: on the Pareto front of met and these four."
)
REGRETS = (
    "Of two figures the first is the mechanism's: the best use of QEMU's knobs beyond a clairvoyant sender; the second "
    "the policy's: its runs beyond the best use of the knobs."
)


def comparison_text(comparison: Comparison, width: int) -> RenderableType:
    """What a comparison came to.

    Args:
        comparison: what is told.
        width: of the terminal, in columns; from 100 on nothing is left out.
    """
    cases = comparison.matrix.cases
    parts: list[RenderableType] = []
    if len(cases) <= MOST_TABLES:
        for case in cases:
            parts += ["", _case_table(case, comparison.of_case(case.name), width)]
    else:
        parts += ["", _winners(comparison, width)]
    if comparison.regrets:
        parts += ["", _regret_table(comparison.regrets, width)]
    if len(comparison.matrix.policies) > 1:
        parts += ["", _league_table(comparison.league, width)]
    if faults := list(_faults(comparison.rows)):
        parts += ["", *faults]
    return Group(*parts)


# ---- tables that fit


@dataclass(slots=True)
class _Column:
    """A column.

    Attributes:
        name: its head.
        spare: it is left out where there is no room, that with the most first; 0: never.
        name_like: text, on the left, that may go over several lines.
    """

    name: str
    spare: int = 0
    name_like: bool = False
    cells: list[str] = field(default_factory=list[str])

    def width(self, most: int) -> int:
        longest = max(map(len, (self.name, *self.cells)))
        return min(longest, most) if self.name_like else longest


def _table(title: str, columns: Sequence[_Column], rows: Iterable[Sequence[str]], width: int) -> Group:
    """A table that fits, under a title."""
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            column.cells.append(cell)
    kept = [column for column in columns if column.name or any(column.cells)]
    names = NAME_WIDTH
    while sum(column.width(names) + GAP for column in kept) - GAP > width:
        spare = max(kept, key=lambda column: column.spare)
        if names > LEAST_NAME_WIDTH:
            names -= 1
        elif spare.spare:
            kept.remove(spare)
        else:
            break
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for column in kept:
        if column.name_like:
            table.add_column(column.name, width=column.width(names), overflow="fold")
        else:
            table.add_column(column.name, justify="right", no_wrap=True)
    for row in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*row)
    return Group(Text(title, style="bold"), table)


# ---- cases


def _case_table(case: Case, figures: Sequence[Figures], width: int) -> Group:
    goal = case.scenario.objectives
    within = f" within {format_duration(goal.deadline_s)}" if goal.deadline_s is not None else ""
    title = (
        f"{case.name}: goal {format_duration(goal.downtime_s)}{within},"
        f" called off after {format_duration(case.scenario.limit_s)}"
    )
    columns = (
        _Column("policy", name_like=True),
        _Column("met"),
        _Column("moved"),
        _Column("total"),
        _Column("95 %" if min(each.runs for each in figures) >= LEAST_RUNS else "range", spare=4),
        _Column("down"),
        _Column("lost"),
        _Column("sent", spare=3),
        _Column("slowed", spare=2),
        _Column("", spare=1),
    )
    rows = (
        (
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
        for each in figures
    )
    return _table(title, columns, rows, width)


def _remark(figures: Figures) -> str:
    words = [f"waited {format_duration(figures.waited_s.value)}"] if figures.waited_s.value >= LEAST_WAIT_S else []
    if figures.postcopy == figures.runs:
        words.append("post-copy")
    if 0 < figures.postcopy < figures.runs:
        words.append(f"{figures.postcopy} post-copy")
    if figures.faults:
        words.append(several(figures.faults, "fault"))
    return ", ".join(words)


def _winners(comparison: Comparison, width: int) -> Group:
    columns = (
        _Column("case", name_like=True),
        _Column("first", name_like=True),
        _Column("met"),
        _Column("total"),
        _Column("down"),
        _Column("lost"),
        _Column("moved by"),
    )
    return _table("Each case: who is first there, and what that takes", columns, _winning(comparison), width)


def _winning(comparison: Comparison) -> Iterator[Sequence[str]]:
    for case in comparison.matrix.cases:
        figures = comparison.of_case(case.name)
        first = figures[0]
        yield (
            case.name,
            first.policy if first.moved else "(nobody)",
            f"{first.goal_met}/{first.runs}",
            _time(first.total_s.value, first.limit_s),
            _time(first.downtime_s.value, math.inf),
            _time(first.lost_guest_s.value, math.inf),
            f"{sum(2 * each.moved > each.runs for each in figures)}/{len(figures)}",
        )


def cases_text(cases: Sequence[Case]) -> RenderableType:
    """A list of cases: the figures of each, and below them what it is."""
    longest = max(len(case.name) for case in cases)
    parts: list[RenderableType] = []
    for case in cases:
        scenario = case.scenario
        figures = (
            f"{format_size(scenario.guest.ram_bytes)} over {format_rate(scenario.link.bandwidth_bytes_per_s)}",
            f"goal {format_duration(scenario.objectives.downtime_s)}",
            f"called off after {format_duration(scenario.limit_s)}",
        )
        words = (f"{case.name:{longest}}", f"{case.family:11}", ", ".join(figures))
        parts.append(Text("  ".join(words), style="bold", no_wrap=True, overflow="ellipsis"))
        parts.append(Padding(Text(case.about, style="dim"), (0, 0, 0, 4)))
    return Group(*parts)


# ---- all of it


def _league_table(league: League, width: int) -> Group:
    guests = several(league.blocks, "guest")
    title = f"League: {several(league.cases, 'case')}, {guests}, each given to every policy"
    columns = (
        _Column("policy", name_like=True),
        _Column("met"),
        _Column("moved"),
        _Column("rank"),
        _Column("95 %"),
        _Column("place"),
        _Column("first", spare=3),
        *(_Column(_SHORT[name], spare=5 + number) for number, name in enumerate(METRICS)),
        _Column("x time", spare=4),
        _Column(""),
    )
    rows = (
        (
            each.policy,
            f"{each.goal_met.value:.0%}",
            f"{each.moved.value:.0%}",
            f"{each.rank.value:.1f}",
            _range(each.rank, "{:.1f}".format),
            _range(each.place, "{:g}".format),
            f"{each.best:.0%}",
            *(f"{each.ranks[name].value:.1f}" for name in METRICS),
            "-" if math.isinf(each.time_ratio.value) else f"{each.time_ratio.value:.2f}",
            "" if each.beaten_by else ON_THE_FRONT,
        )
        for each in league.standings
    )
    return Group(_table(title, columns, rows, width), Text(f"{NOTES} {_weights(league.other_weights)}", style="dim"))


_SHORT = {"time": "time", "downtime": "down", "lost": "lost", "sent": "sent"}


def _weights(taus: Mapping[float, float]) -> str:
    known = {weight: tau for weight, tau in taus.items() if not math.isnan(tau)}
    if not known:
        return ""
    told = ", ".join(f"{tau:.2f} at {weight:g} s" for weight, tau in known.items())
    return f"A lost guest-second counts as 1 s; Kendall's tau with the order otherwise: {told}."


def _regret_table(regrets: Sequence[Regrets], width: int) -> Group:
    columns = (
        _Column("policy", name_like=True),
        _Column("downtime"),
        _Column("time"),
        _Column("sent", spare=1),
        _Column("lost"),
    )
    rows = (
        (
            each.policy,
            _both(each.medians["mechanism_downtime_s"], each.medians["policy_downtime_s"], format_duration),
            _both(each.medians["mechanism_time_s"], each.medians["policy_time_s"], format_duration),
            _both(each.medians["mechanism_bytes"], each.medians["policy_bytes"], format_size),
            _signed(each.medians["policy_lost_guest_s"].value, format_duration),
        )
        for each in regrets
    )
    title = "Regret, medians: how far from the best"
    return Group(_table(title, columns, rows, width), Text(REGRETS, style="dim"))


def _faults(rows: Sequence[Row]) -> Iterator[Text]:
    """What policies did wrong: the first fault of each."""
    wrong: dict[str, list[Row]] = {}
    for row in rows:
        if row.faults:
            wrong.setdefault(row.policy, []).append(row)
    for policy, found in list(wrong.items())[:MOST_FAULTS]:
        count = several(sum(row.faults for row in found), "fault")
        first = found[0]
        told = f"{policy}: {count} in {several(len(found), 'run')}; the first ({first.case}, seed {first.seed}): "
        yield Text(told, style="yellow").append(first.fault)
    if len(wrong) > MOST_FAULTS:
        yield Text(f"… and {len(wrong) - MOST_FAULTS} more policies with faults", style="dim")


def agreement_text(found: Agreement) -> RenderableType:
    """How far a simulated and a real ranking agree, and where they do not."""
    tau = found.tau
    of_what = f"{several(len(found.policies), 'policy')} on {several(len(found.cases), 'case')}"
    told = f"Simulated and real order of {of_what}: Kendall's tau {tau.value:.2f} ({tau.low:.2f} to {tau.high:.2f})"
    lines = [Text(""), Text(told, style="bold")]
    lines += [
        Text(f"  {each.better} before {each.worse}: by {each.first:.1f} ranks simulated, {each.second:.1f} for real")
        for each in found.disagreements[:MOST_DISAGREEMENTS]
    ]
    left_out = len(found.disagreements) - MOST_DISAGREEMENTS
    if left_out > 0:
        lines.append(Text(f"  … {left_out} more", style="dim"))
    return Group(*lines)


# ---- figures


def several(number: int, one: str) -> str:
    """A number of things."""
    many = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{number} {one if number == 1 else many}"


def _range(interval: Interval, write: Callable[[float], str]) -> str:
    low, high = write(interval.low), write(interval.high)
    return low if low == high else f"{low}–{high}"


def _time(value_s: float, limit_s: float) -> str:
    if math.isnan(value_s):
        return ""
    return f">{format_duration(limit_s)}" if math.isinf(value_s) else format_duration(value_s)


def _both(mechanism: Interval, policy: Interval, write: Callable[[float], str]) -> str:
    words = [_signed(each.value, write) or "?" for each in (mechanism, policy)]
    return " / ".join(words) if words != ["?", "?"] else ""


def _signed(value: float, write: Callable[[float], str]) -> str:
    if math.isnan(value):
        return ""
    return ("-" if value < 0 else "") + write(abs(value))
