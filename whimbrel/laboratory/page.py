"""A comparison as one HTML page that needs nothing else: pictures, league, figures and how to do it again.

No script, no font, no picture comes from anywhere: the page reads the same in ten years, and without a network. The
only script sorts tables; without it they are sorted as the league is.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import BadInput
from whimbrel.units import format_size

from . import courses, pictures
from .canvas import Figure, drawing, save, svg_of
from .courses import Course
from .pictures import Front
from .ranking import METRICS, Agreement
from .records import Backend, Case
from .statistics import Interval
from .store import write_whole
from .summary import Comparison, Figures

__all__ = ["page", "save_all", "telling", "write"]

STYLE: Final = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c1c1c;background:#fff;max-width:76rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.4rem 0 .4rem}
p,ul{max-width:52rem}figure{margin:.6rem 0}figure svg{width:100%;max-width:72rem;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.86rem}
th,td{padding:.18rem .7rem .18rem 0;text-align:right;white-space:nowrap;border-bottom:1px solid #eee}
th{border-bottom:1px solid #888;vertical-align:bottom;font-weight:600}th[data-sort]{cursor:pointer}
th:first-child,td:first-child,.text{text-align:left}.off{color:#a33}.dim{color:#777}
pre{background:#f5f5f5;padding:.7rem;overflow-x:auto;font-size:.85rem}details{margin:.4rem 0}summary{cursor:pointer}
"""
SORT: Final = """
document.querySelectorAll('table.sort').forEach(function(t){t.querySelectorAll('th').forEach(function(h,i){
h.dataset.sort='';h.title='sort';h.addEventListener('click',function(){var b=t.tBodies[0],up=h.dataset.sort!=='up';
t.querySelectorAll('th').forEach(function(o){o.dataset.sort=''});h.dataset.sort=up?'up':'down';
function v(r){var c=r.cells[i],x=c.dataset.v;return x===undefined?c.textContent:parseFloat(x)}
Array.from(b.rows).sort(function(p,q){var x=v(p),y=v(q);var d=typeof x==='number'&&typeof y==='number'?
(isNaN(x)?1:isNaN(y)?-1:x-y):String(x).localeCompare(String(y));return up?d:-d})
.forEach(function(r){b.appendChild(r)})})})});
document.documentElement.dataset.ready='1';
"""


def write(
    comparison: Comparison,
    path: Path,
    *,
    bounds: Mapping[str, Front] | None = None,
    agreement: Agreement | None = None,
    command: str = "",
) -> None:
    """Write the page.

    Raises:
        BadInput: matplotlib is missing, or the file can't be written.
    """
    try:
        with path.open("a"):
            pass  # said before a minute goes into drawing
        write_whole(path, page(comparison, bounds=bounds, agreement=agreement, command=command).encode())
    except OSError as error:
        raise BadInput("html", str(path), f"a file that can be written ({error.strerror})") from None


def save_all(comparison: Comparison, folder: Path, *, bounds: Mapping[str, Front] | None = None) -> list[Path]:
    """Write each picture as PNG and SVG into a folder, which is made if need be; gives their paths.

    Raises:
        BadInput: matplotlib is missing, or a file can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput("figures", str(folder), f"a folder that can be written ({error.strerror})") from None
    written: list[Path] = []
    with drawing():
        for name, _, figure in _figures(comparison, bounds or {}):
            for form in (".png", ".svg"):
                path = folder / f"{name}{form}"
                save(figure, path)
                written.append(path)
    return written


def page(
    comparison: Comparison,
    *,
    bounds: Mapping[str, Front] | None = None,
    agreement: Agreement | None = None,
    command: str = "",
) -> str:
    """The page's text.

    Args:
        comparison: what it is about.
        bounds: of the first seed of cases, by their names.
        agreement: of this ranking with another one, of real runs with simulated ones.
        command: by which it can be had again.
    """
    with drawing():
        drawn = "".join(
            f'<h2 id="{name}">{html.escape(title)}</h2>\n<figure>{svg_of(figure, name)}</figure>\n'
            for name, title, figure in _figures(comparison, bounds or {})
        )
    matrix = comparison.matrix
    real = matrix.backend is Backend.REAL
    title = "Convergence policies, " + ("on real QEMUs" if real else "simulated")
    counts = (
        f"{_many(len(matrix.policies), 'policy', 'policies')} × {_many(len(matrix.cases), 'case')} × "
        f"{_many(len(matrix.seeds), 'repeat' if real else 'seed')}: {_many(len(comparison.rows), 'migration')}"
    )
    parts = [
        f"<h1>{title}</h1>\n<p>{counts}; Whimbrel {html.escape(__version__)}.</p>",
        _again(command),
        '<h2 id="league">League</h2>',
        f"<p>{LEAGUE_TEXT}</p>",
        _league(comparison),
        _agreement(agreement) if agreement is not None else "",
        drawn,
        '<h2 id="figures">Case by case</h2>',
        "<p>Medians with 95 % intervals; a total time that more than half of the runs did not reach is beyond the "
        "limit. Click on a heading to sort.</p>",
        *(_case(case, comparison.of_case(case.name)) for case in matrix.cases),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n<style>{STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(parts)}\n<script>{SORT}</script>\n</body></html>\n"
    )


LEAGUE_TEXT: Final = (
    "Each policy has its mean rank over cases and seeds, 1 is the best. Runs that met the goal come first, by what "
    "they cost (time plus guest-seconds of work lost); then those that moved the guest and missed the goal, by how "
    "far; then those that did not move it. Behind each rank stands its 95 % interval over other cases and seeds such "
    "as these."
)
"""How the order comes about (`whimbrel.laboratory.ranking`)."""


def _figures(comparison: Comparison, bounds: Mapping[str, Front]) -> Iterable[tuple[str, str, Figure]]:
    """Names, titles and pictures."""
    yield "fronts", "Downtime against time", pictures.fronts(comparison, bounds, telling(comparison, bounds))
    if comparison.matrix.backend is Backend.SIMULATED:
        case = _hardest(comparison)
        yield "courses", "What was left over time, and what was decided", courses.draw(case, _courses(comparison, case))
    yield "survival", "Runs that have not moved their guest yet", pictures.survivals(comparison)
    if comparison.regrets:
        yield "regrets", "Regret: how far from the best possible", pictures.regrets(comparison)
    yield "cases", "Who fails where", pictures.everywhere(comparison)


def _spread(comparison: Comparison, name: str) -> tuple[int, float]:
    """How well a case tells policies apart: how many met its goal as against not, and how far their times differ."""
    figures = comparison.of_case(name)
    met = sum(each.goal_met * 2 > each.runs for each in figures)
    times = [each.total_s.value for each in figures if math.isfinite(each.total_s.value)]
    return min(met, len(figures) - met), max(times, default=0.0) / max(min(times, default=1.0), 1e-9)


def telling(comparison: Comparison, bounds: Mapping[str, Front]) -> list[str]:
    """The cases that tell policies apart most, in the order of the matrix; those with a bound before others."""
    names = [case.name for case in comparison.matrix.cases]
    known = [name for name in names if name in bounds] or names
    chosen = sorted(known, key=lambda name: _spread(comparison, name), reverse=True)[: pictures.MOST_PANELS]
    return [name for name in names if name in chosen]


def _hardest(comparison: Comparison) -> Case:
    return max(comparison.matrix.cases, key=lambda case: _spread(comparison, case.name))


def _courses(comparison: Comparison, case: Case) -> list[Course]:
    """Up to nine policies, evenly spread over the league."""
    names = [standing.policy for standing in comparison.league.standings]
    step = max(1.0, (len(names) - 1) / 8)
    chosen = dict.fromkeys(names[round(place * step)] for place in range(min(9, len(names))))
    return [courses.course(case, name, comparison.matrix.seeds[0]) for name in chosen]


# ---- tables


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _again(command: str) -> str:
    return f"<p>To have it again:</p>\n<pre>{html.escape(command)}</pre>" if command else ""


def _cell(text: str, value: float | None = None, kind: str = "") -> str:
    sort = "" if value is None else f' data-v="{value}"'
    return f"<td{sort}{f' class={kind}' if kind else ''}>{text}</td>"


def _between(each: Interval, unit: float = 1.0, digits: int = 1) -> str:
    def one(value: float) -> str:
        return f"{value * unit:.{digits}f}" if math.isfinite(value) else "∞"

    if math.isnan(each.value):
        return '<span class="dim">–</span>'
    return f'{one(each.value)} <span class="dim">({one(each.low)} to {one(each.high)})</span>'


def _table(headings: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    return (
        f'<div class="wide"><table class="sort"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(f"<tr>{row}</tr>" for row in rows)
        + "\n</tbody></table></div>"
    )


def _league(comparison: Comparison) -> str:
    regrets = {each.policy: each for each in comparison.regrets}
    headings = ["policy", "rank", "place", "first", "met the goal", "moved", *(f"rank: {name}" for name in METRICS)]
    if regrets:
        headings += ["regret: time, s", "regret: downtime, ms"]
    lines: list[str] = []
    for place, each in enumerate(comparison.league.standings, 1):
        cells = [
            _cell(f"{place} {html.escape(each.policy)}", place, "text"),
            _cell(_between(each.rank), each.rank.value),
            _cell(each.places, each.place.value),
            _cell(f"{each.best:.0%}", each.best),
            _cell(_between(each.goal_met, 100, 0) + " %", each.goal_met.value),
            _cell(_between(each.moved, 100, 0) + " %", each.moved.value),
            *(_cell(f"{each.ranks[name].value:.1f}", each.ranks[name].value) for name in METRICS),
        ]
        if regrets:
            medians = regrets[each.policy].medians
            for name, unit, digits in (("policy_time_s", 1.0, 2), ("policy_downtime_s", 1e3, 0)):
                cells.append(_cell(_between(medians[name], unit, digits), medians[name].value))
        lines.append("".join(cells))
    return _table(headings, lines)


def _agreement(told: Agreement) -> str:
    lines = "".join(
        f"<li>{html.escape(each.better)} before {html.escape(each.worse)}: by {each.first:.1f} ranks there, "
        f"{-each.second:.1f} behind here</li>"
        for each in told.disagreements[:12]
    )
    return (
        f'<h2 id="agreement">Simulated against real</h2>\n<p>Kendall\'s tau between both orders of '
        f"{len(told.policies)} policies over {_many(len(told.cases), 'case')}: {_between(told.tau, 1.0, 2)}.</p>"
        + (f"<p>Pairs that they order differently:</p><ul>{lines}</ul>" if lines else "")
    )


def _case(case: Case, figures: Sequence[Figures]) -> str:
    goal = case.scenario.objectives
    wanted = f"goal {goal.downtime_s * 1e3:.0f} ms" + (f" within {goal.deadline_s:g} s" if goal.deadline_s else "")
    headings = (
        "policy",
        "met",
        "moved",
        "of",
        "total, s",
        "downtime, ms",
        "work lost, s",
        "sent",
        "throttle",
        "post-copy",
    )
    rows = (
        "".join(
            (
                _cell(html.escape(each.policy), None, "text"),
                _cell(str(each.goal_met), each.goal_met, "" if each.goal_met else "off"),
                _cell(str(each.moved), each.moved),
                _cell(str(each.runs), each.runs),
                _cell(_total(each), each.total_s.value if math.isfinite(each.total_s.value) else 1e9),
                _cell(_between(each.downtime_s, 1e3, 0), each.downtime_s.value),
                _cell(_between(each.lost_guest_s, 1.0, 2), each.lost_guest_s.value),
                _cell(_sent(each), each.transferred_bytes.value),
                _cell(f"{each.throttle:.0%}" if each.throttle else "", each.throttle),
                _cell(str(each.postcopy) if each.postcopy else "", each.postcopy),
            )
        )
        for each in figures
    )
    return (
        f"<details><summary><b>{html.escape(case.name)}</b> {html.escape(case.about)} "
        f'<span class="dim">{wanted}; called off after {case.scenario.limit_s:g} s</span></summary>\n'
        f"{_table(headings, rows)}</details>"
    )


def _total(each: Figures) -> str:
    if math.isinf(each.total_s.value):
        return f'<span class="off">&gt; {each.limit_s:g}</span>'
    return _between(each.total_s)


def _sent(each: Figures) -> str:
    value = each.transferred_bytes.value
    return format_size(round(value)) if math.isfinite(value) else '<span class="dim">–</span>'
