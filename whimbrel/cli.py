"""The command line. With `commands`, `render` and `live` the only place that prints and parses people's units."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from whimbrel.commands import comparing, logs, moving, others, planning, shadowing, simulating, sink, sweeping
from whimbrel.commands.codes import (
    BAD_INPUT,
    CANCELLED,
    EPILOG,
    FAILED,
    NOT_BEGUN,
    OK,
    UNSETTLED,
    exit_code,
)
from whimbrel.engine._version import __version__
from whimbrel.engine.errors import BadInput, MigrationCancelled, MigrationFailed, WhimbrelError
from whimbrel.given import check_text
from whimbrel.live import Interrupted, ending, print_json
from whimbrel.live import console as new_console

__all__ = ["BAD_INPUT", "CANCELLED", "FAILED", "NOT_BEGUN", "OK", "UNSETTLED", "exit_code", "main"]

BY_SIGNAL = 130
"""What typer makes of a ctrl-C."""

UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises for an unknown option and the like; it exports only this heir of it."""

app = typer.Typer(
    name="whimbrel",
    help="Live migration for QEMU without libvirt.",
    epilog=EPILOG + "\nwhimbrel COMMAND --help shows examples.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (moving.demo, "Move a guest between two QEMUs, and verify it."),
    (moving.migrate, "Move a running guest, given its QMP monitor."),
    (planning.plan, "Say what moving a guest would come to."),
    (sink.sink, "Swallow a probe of the link, at the destination."),
    (moving.preflight, "Say everything that would stop a migration."),
    (logs.cancel, "Call a running migration off."),
    (logs.resolve, "Settle a migration whose manager died."),
    (logs.history, "List past migrations."),
    (others.policies, "List the policies and their parameters."),
    (simulating.simulate, "Simulate a migration."),
    (comparing.compare, "Compare policies, and with the best possible."),
    (sweeping.sweep, "Compare policies on a Dask cluster."),
    (logs.report, "Print the report of a migration again."),
    (shadowing.shadow, "Say what other policies would have done."),
    (others.guest, "Run the workload guest alone."),
    (others.doctor, "Say what this host can do."),
    (others.version, "Print the version."),
)
"""Each with its line in the list of all, in that order."""

for _command, _summary in COMMANDS:
    app.command(epilog=EPILOG, short_help=_summary)(_command)


@app.callback(invoke_without_command=True)
def everything(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Live migration for QEMU without libvirt."""
    if show_version:
        with ending(OK):
            new_console().print(__version__)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; never shows a traceback for what a user did.

    Args:
        arguments: without the program's name; ``None``: those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        check_text(words)
        returned = app(words, prog_name="whimbrel", standalone_mode=False)
        code = returned if isinstance(returned, int) else OK
    except UsageError as error:
        error.show()
        code = BAD_INPUT
        _tell_error(error, error.format_message(), code, words)
    except WhimbrelError as error:
        code = _code_of(error)
        new_console(stderr=True).print(f"whimbrel: {error}", soft_wrap=True)
        if getattr(error, "report", None) is None:
            _tell_error(error, str(error), code, words)
    except OSError as error:  # a full disk, a folder for temporary files that is not there
        code = NOT_BEGUN
        new_console(stderr=True).print(f"whimbrel: {error}", soft_wrap=True)
        _tell_error(error, str(error), code, words)
    except (KeyboardInterrupt, typer.Abort):
        code = BY_SIGNAL
    if code == BY_SIGNAL:
        code = CANCELLED
        new_console(stderr=True).print("whimbrel: stopped before anything was begun")
    raise SystemExit(code)


def _code_of(error: WhimbrelError) -> int:
    """Whatever ends without a report ended before anything was begun."""
    if isinstance(error, MigrationFailed | MigrationCancelled):
        return CANCELLED if error.report is None else exit_code(error.report)
    if isinstance(error, Interrupted):
        return CANCELLED
    return BAD_INPUT if isinstance(error, BadInput) else NOT_BEGUN


def _tell_error(error: Exception, message: str, code: int, words: Sequence[str]) -> None:
    if "--json" in words:
        print_json({"error": {"kind": type(error).__name__, "message": message, "exit_code": code}})
