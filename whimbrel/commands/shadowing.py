"""The command that says what other policies would have done."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from whimbrel.engine.errors import BadInput
from whimbrel.engine.shadows import ACTUAL, Shadow, shadows
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json
from whimbrel.policies import named
from whimbrel.qmp_driver.journal import read
from whimbrel.qmp_driver.supervision import Supervised
from whimbrel.units import format_duration

from .codes import OK
from .words import Json, OldLog

Others = Annotated[
    list[str] | None,
    typer.Option(
        "--policy", metavar="POLICY", help="Show the log to this policy, too; NAME, NAME:key=value, FILE.py:NAME."
    ),
]
MOST_WISHES = 12
"""Of each policy, unless all are asked for."""


def shadow(
    log: OldLog,
    policy: Others = None,
    all_: Annotated[bool, typer.Option("--all", help="Every decision, not the first dozen of each policy.")] = False,
    as_json: Json = False,
) -> None:
    """Say what policies that only watched a migration would have done, and what others would do on its log.

    Those that watched while it ran were given as migrate --shadow. None of them steered: each saw what came of the
    settings of the one that did. When pre-copy would have ended is the first sync whose rest fits into its limit.

    \b
    Examples:
      whimbrel shadow move.jsonl
      whimbrel shadow move.jsonl --policy fixed:downtime_limit=50ms --policy mine.py:Patient
    """
    others = {name: Supervised(each) for name, each in named(policy).items()}
    try:
        told = shadows(read(log), others)
    except ValueError as error:
        raise BadInput("log", str(log), f"the log of a migration ({error})") from error
    with ending(OK):
        if as_json:
            print_json({"log": str(log), "shadows": [_as_dict(each) for each in told]})
            return
        console = new_console()
        console.print(_summary(told))
        for each in told:
            _print_wishes(console, each, len(each.wishes) if all_ else MOST_WISHES)


def _as_dict(each: Shadow) -> dict[str, Any]:
    return asdict(each) | {"steered": each.policy == ACTUAL}


def _summary(told: tuple[Shadow, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("policy", "asked", "decided", "pre-copy would end", "with"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("asked", "decided") else "left")
    for each in told:
        if each.ends_at_s is None:
            end, rest = "not while it watched", ""
        else:
            how = {"fits": "the rest fits", "switchover": "it did"}.get(each.ends_by, each.ends_by)
            end = f"at {format_duration(each.ends_at_s)}: {how}"
            rest = "" if each.outage_s is None else f"{format_duration(each.outage_s)} to send"
        # Of the one that steered the log has what it changed, not how often it was asked.
        asked = "" if each.policy == ACTUAL else str(each.asked)
        table.add_row(each.policy, asked, str(len(each.wishes)), end, rest)
    return table


def _print_wishes(console: Any, told: Shadow, most: int) -> None:
    console.print(f"\n{told.policy}:", markup=False)
    for wish in told.wishes[:most]:
        what = ", ".join([*(f"{name} {value:g}" for name, value in wish.changes.items()), *wish.wishes]) or "failed"
        why = wish.fault or wish.because
        console.print(f"  {wish.at_s:8.2f} s  {what}{': ' if why else ''}{why}", markup=False, highlight=False)
    if len(told.wishes) > most:
        console.print(f"  and {len(told.wishes) - most} more (--all)", markup=False)
    if not told.wishes:
        console.print("  nothing", markup=False)
