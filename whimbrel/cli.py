"""The command line. With `render` and `live` the only place that prints, parses people's units and owns the loop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from whimbrel import render
from whimbrel.doctor import check_qemu
from whimbrel.engine._version import __version__
from whimbrel.engine.errors import (
    BadInput,
    CannotConnect,
    MigrationCancelled,
    MigrationFailed,
    PreparationFailed,
    WhimbrelError,
)
from whimbrel.engine.report import CompletedReport
from whimbrel.given import address, check_text, destination, new_file, objectives
from whimbrel.live import Interrupted, ending, print_json, run, run_demo_shown, run_guest_shown, run_shown
from whimbrel.live import console as new_console
from whimbrel.migration import Migration
from whimbrel.policies import resolve
from whimbrel.qmp_driver.options import Options
from whimbrel.units import parse_duration, parse_size

OK, FAILED, BAD_INPUT, NOT_BEGUN, CANCELLED, UNSETTLED = 0, 1, 2, 3, 4, 5
BY_SIGNAL = 130
"""What typer makes of a ctrl-C."""

EPILOG = """\b
Exit codes:
  0  done
  1  failed: the message says where the guest is
  2  bad input
  3  not begun: refused by the preflight, or a side could not be reached or
     prepared
  4  cancelled
  5  who owns the guest could not be settled
"""

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

JSON_HELP = (
    "One JSON object on standard output, nothing else. An error without a report is "
    '{"error": {"kind": …, "message": …, "exit_code": …}}.'
)
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Downtime = Annotated[str, typer.Option(metavar="TIME", help="Greatest downtime allowed, such as 300ms.")]
Deadline = Annotated[str | None, typer.Option(metavar="TIME", help="When it should be over, such as 2m.")]
Bandwidth = Annotated[
    str | None, typer.Option(metavar="RATE", help="Send at most this much, such as 50MiB/s or 1Gbit/s.")
]
PolicyName = Annotated[str, typer.Option("--policy", metavar="POLICY", help="NAME, NAME:key=value,…, or FILE.py:NAME.")]
Log = Annotated[Path | None, typer.Option(metavar="PATH", help="Where the log goes: a new file.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the guest's choices and contents.")]
Beats = Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Heartbeats per second.")]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="CLASS", help="Pages of the guest, such as hot:size=64MiB,rate=20MiB/s; repeat."),
]
MemoryLoss = Annotated[
    bool, typer.Option("--accept-memory-loss", help="Go on where this QEMU is known to lose guest writes.")
]
SourceQmp = Annotated[
    str, typer.Argument(metavar="SOURCE_QMP", help="QMP monitor of the running guest: a socket's path or HOST:PORT.")
]
DestinationQmp = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="QMP",
        help="QMP of a destination that you started with -incoming defer; default: one is started on this host.",
    ),
]
DestinationQemu = Annotated[
    str | None, typer.Option(metavar="BINARY", help="QEMU of the destination; default: the source's.")
]
Replacements = Annotated[
    list[str] | None,
    typer.Option(
        "--replace", metavar="KEY=VALUE", help="Instead of an argument that can't be taken over, as KEY=VALUE; repeat."
    ),
]
DisksShared = Annotated[bool, typer.Option("--disks-shared", help="You vouch that both ends see the same disks.")]


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


def exit_code(report: CompletedReport) -> int:
    """The exit code that tells how a migration ended."""
    if report.outcome == "completed":
        return OK
    untouched = report.outcome == "cancelled" and all(each.stage == 1 for each in report.stages)
    if report.owner == "limbo" or (report.guest in ("held", "unconfirmed") and not untouched):
        return UNSETTLED
    return CANCELLED if report.outcome == "cancelled" else FAILED


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


@app.callback(invoke_without_command=True)
def everything(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Live migration for QEMU without libvirt."""
    if show_version:
        with ending(OK):
            new_console().print(__version__)


@app.command(epilog=EPILOG, short_help="Move a guest between two QEMUs, and verify it.")
def demo(
    guest: Classes = None,
    ram: Annotated[
        str,
        typer.Option(metavar="SIZE", help="RAM; QEMU < 9.0 under TCG loses writes where it is a multiple of 256KiB."),
    ] = "524224KiB",
    beats: Beats = 200,
    seed: Seed = 1,
    downtime: Downtime = "300ms",
    deadline: Deadline = None,
    bandwidth: Bandwidth = "128MiB/s",
    policy: PolicyName = "least_downtime",
    source_qemu: Annotated[str, typer.Option(metavar="BINARY", help="QEMU of the source.")] = "qemu-system-x86_64",
    destination_qemu: DestinationQemu = None,
    machine: Annotated[str, typer.Option(metavar="TYPE", help="Machine type.")] = "q35",
    log: Log = None,
    keep_log: Annotated[
        bool, typer.Option("--keep-log", help="Keep the log and say where it is; --json and --log imply it.")
    ] = False,
    accept_memory_loss: MemoryLoss = False,
    as_json: Json = False,
) -> None:
    """Boot the built-in workload guest in a real QEMU, move it to another, verify its memory, report.

    \b
    Examples:
      whimbrel demo
      whimbrel demo --class hot:size=64MiB,rate=60MiB/s --bandwidth 100MiB/s
      whimbrel demo --downtime 100ms --log demo.jsonl --json
    """
    from whimbrel.demo import DEFAULT_CLASSES, DemoOptions

    wanted = DemoOptions(
        classes=tuple(guest or DEFAULT_CLASSES),
        ram_bytes=parse_size(ram, field="ram"),
        beat_hz=beats,
        seed=seed,
        source_binary=source_qemu,
        destination_binary=destination_qemu,
        machine=machine,
        options=Options(
            objectives=objectives(downtime, deadline, bandwidth),
            policy=resolve(policy),
            policy_name=policy,
            log_path=new_file(log),
            accept_memory_loss=accept_memory_loss,
        ),
    )
    console = new_console(stderr=as_json)

    result = run(run_demo_shown(wanted, console))
    code = exit_code(result.report)
    with ending(FAILED if code == OK and result.memory_verified is not True else code):
        kept = keep_log or as_json or log is not None or code != OK
        if not kept and result.log:
            Path(result.log).unlink(missing_ok=True)
        if as_json:
            print_json(result.as_dict())
        else:
            seen = render.guest_view(asdict(result))
            console.print(render.report(result.report, seen, destination_stays=False))
            if kept:
                console.print(f"log: {result.log}", soft_wrap=True)
        if result.error:
            new_console(stderr=True).print(f"whimbrel: {result.error}", soft_wrap=True)


@app.command(epilog=EPILOG, short_help="Move a running guest, given its QMP monitor.")
def migrate(
    source_qmp: SourceQmp,
    destination_qmp: DestinationQmp = None,
    destination_qemu: DestinationQemu = None,
    replace_: Replacements = None,
    disks_shared: DisksShared = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the destination listens for the stream.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Its port; 0: the kernel chooses.")] = 0,
    downtime: Downtime = "300ms",
    deadline: Deadline = None,
    bandwidth: Bandwidth = None,
    policy: PolicyName = "least_downtime",
    log: Log = None,
    keep_source: Annotated[
        bool, typer.Option("--keep-source", help="Leave the source process after a success.")
    ] = False,
    accept_memory_loss: MemoryLoss = False,
    as_json: Json = False,
) -> None:
    """Move a running guest, given nothing but its QMP monitor.

    ctrl-C and SIGTERM call it off where that is still safe: the guest then stays where it is.

    \b
    Examples:
      whimbrel migrate /run/vm/qmp.sock
      whimbrel migrate /run/vm/qmp.sock --downtime 100ms --bandwidth 1Gbit/s
      whimbrel migrate /run/vm/qmp.sock --to other:4444 --host 10.0.0.2
    """
    options = Options(
        objectives=objectives(downtime, deadline, bandwidth),
        policy=resolve(policy),
        policy_name=policy,
        log_path=new_file(log),
        host=host,
        port=port,
        keep_source=keep_source,
        accept_memory_loss=accept_memory_loss,
        disks_shared=disks_shared,
    )
    where_to = destination(destination_qmp, destination_qemu, replace_, disks_shared)
    migration = Migration(address("SOURCE_QMP", source_qmp), where_to, options)
    console = new_console(stderr=as_json)

    try:
        finished = run(run_shown(migration, console))
    except PreparationFailed:
        if destination_qemu is not None:
            run(check_qemu("destination-qemu", destination_qemu))  # a clearer word on the likeliest cause
        raise
    except (MigrationFailed, MigrationCancelled) as error:
        _tell(error.report, migration.log_path, as_json, console)
        raise
    with ending(OK):
        _tell(finished, migration.log_path, as_json, console)


@app.command(epilog=EPILOG, short_help="Say everything that would stop a migration.")
def preflight(
    source_qmp: SourceQmp,
    destination_qmp: DestinationQmp = None,
    destination_qemu: DestinationQemu = None,
    replace_: Replacements = None,
    disks_shared: DisksShared = False,
    accept_memory_loss: MemoryLoss = False,
    as_json: Json = False,
) -> None:
    """Say everything that would stop a migration, before anything is touched.

    \b
    Examples:
      whimbrel preflight /run/vm/qmp.sock
      whimbrel preflight /run/vm/qmp.sock --to /run/vm/destination.sock
      whimbrel preflight /run/vm/qmp.sock --destination-qemu /opt/qemu/bin/qemu
    """
    from whimbrel.qmp_driver.findings import refused
    from whimbrel.qmp_driver.preflight import inspect as look

    strategy = destination(destination_qmp, destination_qemu, replace_, disks_shared)
    found = run(look(address("SOURCE_QMP", source_qmp), strategy, accept_memory_loss=accept_memory_loss))
    with ending(NOT_BEGUN if refused(found) else OK):
        if as_json:
            print_json({"findings": [asdict(each) for each in found], "refused": bool(refused(found))})
        else:
            new_console().print(render.findings(found))


@app.command(epilog=EPILOG, short_help="Call a running migration off.")
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


@app.command(epilog=EPILOG, short_help="List the policies and their parameters.")
def policies(as_json: Json = False) -> None:
    """List the policies that can be named, with their parameters.

    \b
    Examples:
      whimbrel policies
      whimbrel demo --policy fixed:downtime_limit=50ms
    """
    from whimbrel.policies import available, describe, parameters_of

    known = {name: (describe(made), parameters_of(made)) for name, made in available().items()}
    with ending(OK):
        if as_json:
            print_json({name: {"about": about, "parameters": given} for name, (about, given) in known.items()})
        else:
            new_console().print(render.policies(known))


@app.command(epilog=EPILOG, short_help="Print the report of a migration again.")
def report(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="The log of a migration.")], as_json: Json = False
) -> None:
    """Print the report of a migration again, from its log.

    \b
    Examples:
      whimbrel report move.jsonl
      whimbrel report move.jsonl --json
    """
    from whimbrel.logbook import report_of

    finished = report_of(log)
    with ending(OK):
        _tell(finished, log, as_json, new_console())


@app.command(epilog=EPILOG, short_help="Run the workload guest alone.")
def guest(
    classes: Classes = None,
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="RAM; default: what the classes need.")] = None,
    beats: Beats = 200,
    seed: Seed = 1,
    seconds: Annotated[str, typer.Option(metavar="TIME", help="How long it runs.")] = "5s",
    qemu: Annotated[str, typer.Option(metavar="BINARY", help="QEMU.")] = "qemu-system-x86_64",
    as_json: Json = False,
) -> None:
    """Run the workload guest alone, and verify its memory at the end; ctrl-C ends it early, with a summary.

    \b
    Examples:
      whimbrel guest --seconds 2s
      whimbrel guest --class hot:size=64MiB,rate=40MiB/s,pattern=zipf
    """
    from whimbrel.demo import DEFAULT_CLASSES
    from whimbrel.guest.spec import WorkloadSpec

    spec = WorkloadSpec.parse(classes or DEFAULT_CLASSES, beat_hz=beats, seed=seed)
    span_s = parse_duration(seconds, field="seconds")
    ram_bytes = None if ram is None else parse_size(ram, field="ram")
    console = new_console(stderr=as_json)

    summary = run(run_guest_shown(spec, console, binary=qemu, ram_bytes=ram_bytes, span_s=span_s))
    with ending(OK if summary.verification.passed else FAILED):
        if as_json:
            print_json(asdict(summary))
        else:
            console.print(render.guest_summary(summary))


@app.command(epilog=EPILOG, short_help="Say what this host can do.")
def doctor(as_json: Json = False) -> None:
    """Say what this host can do: QEMUs, KVM, userfaultfd, folders, versions.

    \b
    Example:
      whimbrel doctor
    """
    from whimbrel.doctor import examine

    found = run(examine())
    with ending(OK):
        if as_json:
            print_json(found)
        else:
            new_console().print(render.pairs(found))


@app.command(epilog=EPILOG, short_help="Print the version.")
def version() -> None:
    """Print the version, as --version does.

    \b
    Example:
      whimbrel version
    """
    with ending(OK):
        new_console().print(__version__)


def _tell(finished: CompletedReport, log: Path | None, as_json: bool, console: Console) -> None:
    if as_json:
        print_json(asdict(finished) | {"log": str(log or "")})
    else:
        console.print(render.report(finished))
        console.print(f"log: {log}", soft_wrap=True)
