"""Commands that are given logs: of migrations that are under way, were left, or have ended."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from whimbrel import render
from whimbrel.engine.errors import BadInput, CannotConnect
from whimbrel.engine.states import Side
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json, run, run_shown

from . import prediction_text
from .codes import FAILED, OK, exit_code
from .telling import tell
from .words import Json, OldLog


def cancel(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="The log of the migration that is under way.")],
    as_json: Json = False,
) -> None:
    """Call a running migration off, where that is still safe, and wait for its end.

    Exits with 0 if it was called off, and with 1 if it was too late: the guest was moved, or the migration failed.

    \b
    Example:
      whimbrel cancel move.jsonl
    """
    from whimbrel.logbook import check_running
    from whimbrel.qmp_driver.control import ask

    check_running(log)
    try:
        said = run(ask(log, "cancel"))
    except CannotConnect:
        check_running(log)  # it may have ended meanwhile
        raise
    outcome = str(said.get("outcome", "it ended before it began"))
    with ending(OK if outcome == "cancelled" else FAILED):
        if as_json:
            print_json(said)
        elif "outcome" in said:
            new_console().print(f"{outcome}: the guest is {said.get('guest')}, owner: {said.get('owner')}")
        else:
            new_console().print(f"{outcome}, owner: {said.get('owner')}")


class Machine(StrEnum):
    """What a person may vouch for."""

    SOURCE = "source"
    DESTINATION = "destination"


Fenced = Annotated[
    list[Machine] | None,
    typer.Option(
        "--i-fenced",
        metavar="SIDE",
        help="source or destination: you vouch that its QEMU has ended for good, its host being off, say; repeat.",
    ),
]


def resolve(log: OldLog, i_fenced: Fenced = None, as_json: Json = False) -> None:
    """Settle a migration whose manager died: take it over, and see it to its end.

    The log says how far it was. Both QEMUs are asked; what can be carried on is carried on, what can't is backed
    out of, and the guest runs on one side. What can't be shown to be safe is left paused, and can be tried again.
    The exit codes are those of migrate. ctrl-C and SIGTERM call it off where that is still safe.

    \b
    Examples:
      whimbrel resolve move.jsonl
      whimbrel resolve move.jsonl --i-fenced source
    """
    from whimbrel.migration import advice
    from whimbrel.resolving import Resolution

    console = new_console(stderr=as_json)
    resolution = Resolution(log, fenced=frozenset(Side(each.value) for each in i_fenced or ()))
    finished = run(run_shown(resolution, console))
    with ending(exit_code(finished)):
        tell(finished, log, as_json, console)
        if finished.outcome != "completed":
            said = f"whimbrel: {finished.outcome}: {finished.why}; {advice(finished, log)}"
            new_console(stderr=True).print(said, soft_wrap=True)


def history(
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the logs are; default: where they go by default.")
    ] = None,
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="At most so many, the newest.")] = 20,
    predictions: Annotated[
        bool,
        typer.Option("--predictions", help="What they teach the next one, and how good predictions have been."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List past migrations from their logs, the newest first, with those under way and those left behind.

    With --predictions: for each kind of guest between each two hosts what a switchover costs, what the link carries,
    and how good the predictions have been. The newest 1000 logs are looked at.

    \b
    Examples:
      whimbrel history
      whimbrel history --predictions
      whimbrel history -n 100 --folder /var/log/moves --json
    """
    from whimbrel.calibration import calibrations
    from whimbrel.history import entries
    from whimbrel.qmp_driver.journal import default_directory

    if folder is not None and not folder.is_dir():
        raise BadInput("folder", str(folder), "a folder with logs")
    place = folder or default_directory()
    if predictions:
        learnt = calibrations(place)
        with ending(OK):
            if as_json:
                print_json({"calibrations": learnt})
            else:
                new_console().print(prediction_text.calibrations(learnt))
    found = entries(place, number)
    with ending(OK):
        if as_json:
            print_json({"migrations": found})
        else:
            new_console().print(render.history(found), soft_wrap=True)


def report(log: OldLog, as_json: Json = False) -> None:
    """Print the report of a migration again, from its log.

    \b
    Examples:
      whimbrel report move.jsonl
      whimbrel report move.jsonl --json
    """
    from whimbrel.logbook import report_of

    finished = report_of(log)
    with ending(OK):
        tell(finished, log, as_json, new_console())
