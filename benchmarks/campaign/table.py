"""The results as a table of phases and faults: text, and one self-contained HTML page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from .judge import ENDED, MOVED, STAYED, VIOLATION
from .store import Result

LETTERS: Final = {MOVED: "M", STAYED: "S", ENDED: "E", VIOLATION: "!"}
LEGEND: Final = (
    "M the guest moved, S it stayed, E its only holder was killed (ended by the fault itself), "
    "! a violation; r of them settled by resolve, n there was nothing left to strike"
)
_GREEN, _YELLOW, _RED = "#cfe8cf", "#f3ecc8", "#e8a0a0"


def cell(results: Sequence[Result]) -> str:
    """What came of one fault in one phase: ``M3 S1 r2``."""
    counts = Counter(LETTERS[result.verdict] for result in results)
    words = [f"{letter}{counts[letter]}" for letter in LETTERS.values() if counts[letter]]
    resolved = sum(bool(result.evidence.resolved) for result in results)
    vain = sum(not result.struck for result in results)
    return " ".join([*words, *([f"r{resolved}"] if resolved else []), *([f"n{vain}"] if vain else [])])


def as_text(results: Sequence[Result]) -> str:
    """Faults down, phases across, as Markdown; below it every violation."""
    phases, faults, cells = _grid(results)
    lines = [_row(["fault", *phases]), _row(["---"] * (len(phases) + 1))]
    lines += [_row([fault, *(cell(cells.get((phase, fault), [])) for phase in phases)]) for fault in faults]
    bad = [f"VIOLATION {each.run.key} at {_where(each)}: {'; '.join(each.violations)}" for each in results if each.bad]
    return "\n".join([*lines, "", LEGEND, *bad])


def as_html(results: Sequence[Result], about: dict[str, Any]) -> str:
    """The same as a page."""
    phases, faults, cells = _grid(results)
    rows = [f"<tr><th></th>{''.join(f'<th>{html.escape(phase)}</th>' for phase in phases)}</tr>"]
    for fault in faults:
        row = "".join(_html_cell(cells.get((phase, fault), [])) for phase in phases)
        rows.append(f"<tr><th>{html.escape(fault)}</th>{row}</tr>")
    facts = "".join(f"<li>{html.escape(str(key))}: {html.escape(str(value))}</li>" for key, value in about.items())
    style = "body{font:14px sans-serif}td,th{padding:4px 8px;text-align:left}td{border:1px solid #fff}"
    return (
        f"<!doctype html><meta charset=utf-8><title>Fault campaign</title><style>{style}</style>"
        f"<h1>Fault campaign</h1><table>{''.join(rows)}</table><p>{html.escape(LEGEND)}</p><ul>{facts}</ul>\n"
    )


def _grid(results: Sequence[Result]) -> tuple[list[str], list[str], dict[tuple[str, str], list[Result]]]:
    cells: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        cells.setdefault((result.run.phase, result.run.fault), []).append(result)
    phases = list(dict.fromkeys(phase for phase, _ in cells))
    faults = list(dict.fromkeys(fault for _, fault in cells))
    return phases, faults, cells


def _html_cell(results: Sequence[Result]) -> str:
    colour = _RED if any(result.bad for result in results) else _GREEN if results else "#fff"
    if colour == _GREEN and any(result.verdict == ENDED for result in results):
        colour = _YELLOW
    told = "\n".join(f"{_where(result)}: {result.verdict} ({result.evidence.why})" for result in results)
    return f'<td style="background:{colour}" title="{html.escape(told, quote=True)}">{cell(results)}</td>'


def _where(result: Result) -> str:
    return next((str(hit["at"]) for hit in result.evidence.hits), result.run.moment)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
