"""The command that says what other policies would have done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.table import Table

from whimbrel.engine.errors import BadInput
from whimbrel.engine.shadows import ACTUAL, Shadow, Wish, shadows
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json
from whimbrel.policies import named
from whimbrel.qmp_driver.journal import read
from whimbrel.qmp_driver.supervision import Supervised
from whimbrel.units import format_duration

from .codes import OK
from .simulation_text import changes_text
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
      whimbrel shadow move.jsonl --policy fixed --policy mine.py:Patient
    """
    others = {name: Supervised(each) for name, each in named(policy).items()}
    try:
        told = shadows(read(log), others)
    except BadInput:
        raise
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
    for heading in ("policy", "asked", "decided", "pre-copy would end", "left to send"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("asked", "decided") else "left")
    for each in told:
        if each.ends_at_s is None:
            end, rest = "not while it watched", ""
        else:
            how = {"fits": "the rest fits", "switchover": "it did"}.get(each.ends_by, each.ends_by)
            end = f"{format_duration(each.ends_at_s)}: {how}"
            rest = "" if each.outage_s is None else format_duration(each.outage_s)
        # Of the one that steered the log has what it changed, not how often it was asked.
        asked = "" if each.policy == ACTUAL else str(each.asked)
        table.add_row(each.policy, asked, str(len(each.wishes)), end, rest)
    return table


def _print_wishes(console: Any, told: Shadow, most: int) -> None:
    console.print(f"\n{told.policy}:", markup=False)
    lines = list(_lines(told.wishes))
    for line in lines[:most]:
        console.print(f"  {line}", markup=False, highlight=False)
    if len(lines) > most:
        console.print(f"  and {len(lines) - most} more (--all)", markup=False)
    if not lines:
        console.print("  nothing", markup=False)


def _lines(wishes: Sequence[Wish]) -> Iterator[str]:
    """A line on each wish; one that is only repeated is told once."""
    for (what, why), alike in groupby(wishes, _in_words):
        first, *again = alike
        until = f" (again {len(again)} times, until {again[-1].at_s:.2f} s)" if again else ""
        yield f"{first.at_s:8.2f} s  {what}{': ' if why else ''}{why}{until}"


def _in_words(wish: Wish) -> tuple[str, str]:
    """What it would have done, and why."""
    wishes = [each.replace("_", " ") for each in wish.wishes]
    changes = [changes_text(wish.changes)] if wish.changes else []
    return ", ".join([*changes, *wishes]) or "failed", wish.fault or wish.because
