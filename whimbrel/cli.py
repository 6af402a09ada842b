"""The command line. The only place that prints, parses people's units and owns the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import typer
import uvloop
from rich.console import Console

from whimbrel import render
from whimbrel.engine._version import __version__
from whimbrel.engine.errors import (
    BadInput,
    CannotConnect,
    MigrationCancelled,
    MigrationFailed,
    PreflightFailed,
    PreparationFailed,
    WhimbrelError,
)
from whimbrel.engine.policy import Objectives
from whimbrel.engine.report import CompletedReport
from whimbrel.live import show
from whimbrel.migration import Migration
from whimbrel.policies import resolve
from whimbrel.qmp_driver.options import Options
from whimbrel.units import parse_duration, parse_rate, parse_size

T = TypeVar("T")

OK, FAILED, BAD_INPUT, NOT_BEGUN, CANCELLED, UNSETTLED = 0, 1, 2, 3, 4, 5

EPILOG = """
Exit codes: 0 done · 1 failed, the guest is where the message says · 2 bad input · 3 not begun: refused by the
preflight, or a side could not be reached or prepared · 4 cancelled · 5 the owner of the guest could not be settled.
"""

app = typer.Typer(
    name="whimbrel",
    help="Live migration for QEMU without libvirt.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]
Downtime = Annotated[str, typer.Option(help="Greatest downtime allowed, such as 300ms.")]
Deadline = Annotated[str | None, typer.Option(help="When it should be over, such as 2m.")]
Bandwidth = Annotated[str | None, typer.Option(help="Send at most this much, such as 50MiB/s or 1Gbit/s.")]
PolicyName = Annotated[str, typer.Option("--policy", help="NAME, NAME:key=value,…, or FILE.py:NAME.")]
Log = Annotated[Path | None, typer.Option(help="Where the log goes: a new file.")]
Seed = Annotated[int, typer.Option(help="Of the guest's choices and contents.")]


def main() -> None:
    """Run the command line; never shows a traceback for what a user did."""
    try:
        app(standalone_mode=True)
    except BadInput as error:
        _fail(BAD_INPUT, error)
    except (CannotConnect, PreflightFailed, PreparationFailed) as error:
        _fail(NOT_BEGUN, error)
    except MigrationCancelled as error:
        _fail(CANCELLED, error)
    except MigrationFailed as error:
        _fail(exit_code(error.report), error)
    except WhimbrelError as error:
        _fail(FAILED, error)
    except KeyboardInterrupt:
        _fail(CANCELLED, WhimbrelError("stopped before anything was begun"))


def exit_code(report: CompletedReport) -> int:
    """The exit code that tells how a migration ended."""
    if report.outcome == "completed":
        return OK
    if report.guest in ("held", "unconfirmed") or report.owner == "limbo":
        return UNSETTLED
    return CANCELLED if report.outcome == "cancelled" else FAILED


def _fail(code: int, error: WhimbrelError) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"whimbrel: {error}", markup=False)
    raise SystemExit(code)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode() + "\n")


def _objectives(downtime: str, deadline: str | None, bandwidth: str | None) -> Objectives:
    return Objectives(
        downtime_s=parse_duration(downtime, field="downtime"),
        deadline_s=None if deadline is None else parse_duration(deadline, field="deadline"),
        bandwidth_bytes_per_s=None if bandwidth is None else round(parse_rate(bandwidth, field="bandwidth")),
    )


@contextlib.contextmanager
def _interruptible(call_off: Callable[[], None], console: Console) -> Generator[None]:
    """ctrl-C and SIGTERM call the migration off; it is seen to its end either way."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        console.print("calling it off; where that is too late, it ends first", style="yellow")
        call_off()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@app.command(epilog=EPILOG)
def demo(
    guest: Annotated[
        list[str] | None,
        typer.Option("--class", help="A page class of the guest, such as hot:size=64MiB,rate=20MiB/s; repeat."),
    ] = None,
    ram: Annotated[str, typer.Option(help="RAM of the guest; QEMU < 9.0 under TCG loses writes at multiples of 256KiB.")] = "524224KiB",
    beats: Annotated[int, typer.Option(help="Heartbeats per second.")] = 200,
    seed: Seed = 1,
    downtime: Downtime = "300ms",
    deadline: Deadline = None,
    bandwidth: Bandwidth = "128MiB/s",
    policy: PolicyName = "least_downtime",
    source_qemu: Annotated[str, typer.Option(help="QEMU binary of the source.")] = "qemu-system-x86_64",
    destination_qemu: Annotated[str | None, typer.Option(help="QEMU binary of the destination; default: the source's.")] = None,
    machine: Annotated[str, typer.Option(help="Machine type.")] = "q35",
    log: Log = None,
    keep_log: Annotated[bool, typer.Option(help="Keep the log and say where it is; --json and --log imply it.")] = False,
    accept_memory_loss: Annotated[bool, typer.Option(help="Go on where this QEMU is known to lose guest writes.")] = False,
    as_json: Json = False,
) -> None:
    """Boot the built-in workload guest in a real QEMU, move it to another, verify its memory, report.

    Examples:

      whimbrel demo

      whimbrel demo --class hot:size=64MiB,rate=60MiB/s --bandwidth 100MiB/s --downtime 100ms --json
    """
    from whimbrel.demo import DEFAULT_CLASSES, DemoOptions, run_demo

    options = Options(
        objectives=_objectives(downtime, deadline, bandwidth),
        policy=resolve(policy),
        policy_name=policy,
        log_path=log,
        accept_memory_loss=accept_memory_loss,
    )
    wanted = DemoOptions(
        classes=tuple(guest or DEFAULT_CLASSES),
        ram_bytes=parse_size(ram, field="ram"),
        beat_hz=beats,
        seed=seed,
        source_binary=source_qemu,
        destination_binary=destination_qemu,
        machine=machine,
        options=options,
    )
    console = Console(stderr=as_json, highlight=False)

    async def go() -> Any:
        task = asyncio.current_task()
        begun: list[Migration] = []

        def call_off() -> None:
            if begun:
                begun[0].cancel()
            elif task is not None:
                task.cancel()

        async def watch(migration: Migration) -> None:
            await show(migration.progress(), console)

        with _interruptible(call_off, console):
            return await run_demo(
                wanted,
                say=lambda text: console.print(text, style="dim"),
                watch=watch,
                on_migration=begun.append,
            )

    try:
        result = _run(go())
    except asyncio.CancelledError:
        _fail(CANCELLED, MigrationCancelled("called off before the migration began", report=None, owner="source"))
    kept = keep_log or as_json or log is not None or result.report.outcome != "completed"
    if not kept and result.log:
        Path(result.log).unlink(missing_ok=True)
    if as_json:
        _print_json(result.as_dict())
    else:
        console.print(render.report(result.report, render.guest_view(asdict(result))))
        if result.error:
            console.print(f"\n{result.error}", style="red", markup=False)
        if kept:
            console.print(f"log: {result.log}", soft_wrap=True)
    code = exit_code(result.report)
    raise typer.Exit(FAILED if code == OK and result.memory_verified is not True else code)


@app.command(epilog=EPILOG)
def migrate(
    source_qmp: Annotated[str, typer.Argument(help="QMP monitor of the running guest: a socket's path or HOST:PORT.")],
    destination_qmp: Annotated[
        str | None,
        typer.Option("--to", help="QMP of a destination that you started with -incoming defer; default: we start one."),
    ] = None,
    destination_qemu: Annotated[str | None, typer.Option(help="QEMU binary for the destination that we start.")] = None,
    replace_: Annotated[
        list[str] | None,
        typer.Option("--replace", help="Replacement for an argument that can't be taken over, as KEY=VALUE; repeat."),
    ] = None,
    disks_shared: Annotated[bool, typer.Option(help="You vouch that both ends see the same disks.")] = False,
    host: Annotated[str, typer.Option(help="Address at which the destination listens for the stream.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0: the kernel chooses.")] = 0,
    downtime: Downtime = "300ms",
    deadline: Deadline = None,
    bandwidth: Bandwidth = None,
    policy: PolicyName = "least_downtime",
    log: Log = None,
    keep_source: Annotated[bool, typer.Option(help="Leave the source process after a success.")] = False,
    accept_memory_loss: Annotated[bool, typer.Option(help="Go on where this QEMU is known to lose guest writes.")] = False,
    as_json: Json = False,
) -> None:
    """Move a running guest, given nothing but its QMP monitor.

    Examples:

      whimbrel migrate /run/vm/qmp.sock

      whimbrel migrate /run/vm/qmp.sock --downtime 100ms --bandwidth 1Gbit/s --log move.jsonl
    """
    from whimbrel.qmp_driver.destination import Existing, FromSource

    options = Options(
        objectives=_objectives(downtime, deadline, bandwidth),
        policy=resolve(policy),
        policy_name=policy,
        log_path=log,
        host=host,
        port=port,
        keep_source=keep_source,
        accept_memory_loss=accept_memory_loss,
        disks_shared=disks_shared,
    )
    destination = (
        Existing(_address(destination_qmp))
        if destination_qmp is not None
        else FromSource(binary=destination_qemu, replacements=_replacements(replace_), disks_shared=disks_shared or None)
    )
    migration = Migration(_address(source_qmp), destination, options)
    console = Console(stderr=as_json, highlight=False)

    async def go() -> CompletedReport:
        with _interruptible(migration.cancel, console):
            shown = asyncio.ensure_future(show(migration.progress(), console))
            try:
                return await migration.run()
            finally:
                await asyncio.gather(shown, return_exceptions=True)

    try:
        finished = _run(go())
    except (MigrationFailed, MigrationCancelled) as error:
        _tell(error.report, migration, as_json, console)
        _fail(exit_code(error.report), error)
    _tell(finished, migration, as_json, console)


@app.command(epilog=EPILOG)
def preflight(
    source_qmp: Annotated[str, typer.Argument(help="QMP monitor of the running guest.")],
    destination_qmp: Annotated[str | None, typer.Option("--to", help="QMP of a destination that is there already.")] = None,
    destination_qemu: Annotated[str | None, typer.Option(help="QEMU binary that the destination would be.")] = None,
    replace_: Annotated[list[str] | None, typer.Option("--replace", help="KEY=VALUE, as for migrate; repeat.")] = None,
    disks_shared: Annotated[bool, typer.Option(help="You vouch that both ends see the same disks.")] = False,
    accept_memory_loss: Annotated[bool, typer.Option(help="As for migrate.")] = False,
    as_json: Json = False,
) -> None:
    """Say everything that would stop a migration, before anything is touched.

    Example: whimbrel preflight /run/vm/qmp.sock --destination-qemu /usr/bin/qemu-system-x86_64
    """
    from whimbrel.qmp_driver.destination import Existing, FromSource
    from whimbrel.qmp_driver.findings import refused
    from whimbrel.qmp_driver.preflight import inspect as look

    strategy = (
        Existing(_address(destination_qmp))
        if destination_qmp is not None
        else FromSource(binary=destination_qemu, replacements=_replacements(replace_), disks_shared=disks_shared or None)
    )
    found = _run(look(_address(source_qmp), strategy, accept_memory_loss=accept_memory_loss))
    if as_json:
        _print_json({"findings": [asdict(each) for each in found], "refused": bool(refused(found))})
    else:
        Console(highlight=False).print(render.findings(found))
    raise typer.Exit(NOT_BEGUN if refused(found) else OK)


@app.command(epilog=EPILOG)
def cancel(
    log: Annotated[Path, typer.Argument(help="The log of the migration that is under way.")],
    as_json: Json = False,
) -> None:
    """Call a running migration off, where that is still safe, and wait for its end.

    Example: whimbrel cancel move.jsonl
    """
    from whimbrel.qmp_driver.control import ask

    said = _run(ask(log, "cancel"))
    if as_json:
        _print_json(said)
    else:
        Console(highlight=False).print(f"{said.get('outcome')}: the guest is {said.get('guest')}, owner: {said.get('owner')}")
    raise typer.Exit(OK if said.get("outcome") == "cancelled" else FAILED)


@app.command()
def policies(as_json: Json = False) -> None:
    """List the policies that can be named, with their parameters."""
    from whimbrel.policies import available, describe, parameters_of

    known = available()
    if as_json:
        about = {name: {"about": describe(made), "parameters": parameters_of(made)} for name, made in known.items()}
        _print_json(about)
        return
    console = Console(highlight=False)
    for name, made in known.items():
        console.print(f"[bold]{name}[/bold]  {describe(made)}")
        for key, default in parameters_of(made).items():
            console.print(f"    {key} = {default}", style="dim", markup=False)


@app.command()
def report(
    log: Annotated[Path, typer.Argument(help="The log of a migration.")],
    as_json: Json = False,
) -> None:
    """Print the report of a migration again, from its log.

    Example: whimbrel report move.jsonl
    """
    from whimbrel.logbook import report_of

    finished = report_of(log)
    if as_json:
        _print_json(asdict(finished))
    else:
        Console(highlight=False).print(render.report(finished))


@app.command()
def guest(
    classes: Annotated[list[str] | None, typer.Option("--class", help="A page class; repeat.")] = None,
    ram: Annotated[str | None, typer.Option(help="RAM; default: what the classes need.")] = None,
    beats: Annotated[int, typer.Option(help="Heartbeats per second.")] = 200,
    seed: Seed = 1,
    seconds: Annotated[str, typer.Option(help="How long it runs.")] = "5s",
    qemu: Annotated[str, typer.Option(help="QEMU binary.")] = "qemu-system-x86_64",
    as_json: Json = False,
) -> None:
    """Run the workload guest alone, and verify its memory at the end.

    Example: whimbrel guest --class hot:size=64MiB,rate=40MiB/s,pattern=zipf --seconds 10s
    """
    from whimbrel.demo import DEFAULT_CLASSES
    from whimbrel.guest.run import run_alone
    from whimbrel.guest.spec import WorkloadSpec

    spec = WorkloadSpec.parse(classes or DEFAULT_CLASSES, beat_hz=beats, seed=seed)
    span_s = parse_duration(seconds, field="seconds")
    ram_bytes = None if ram is None else parse_size(ram, field="ram")
    console = Console(stderr=as_json, highlight=False)

    async def go() -> Any:
        stop = asyncio.Event()
        with _interruptible(stop.set, console):
            return await run_alone(spec, qemu_binary=qemu, ram_bytes=ram_bytes, seconds=span_s, stop=stop)

    summary = _run(go())
    if as_json:
        _print_json(asdict(summary))
    else:
        console.print(render.guest_summary(summary))
    raise typer.Exit(OK if summary.verification.passed else FAILED)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this host can do: QEMUs, KVM, userfaultfd, folders, versions."""
    from whimbrel.doctor import examine

    found = _run(examine())
    if as_json:
        _print_json(found)
        return
    console = Console(highlight=False)
    for name, value in found.items():
        console.print(f"{name:<22} {value}", soft_wrap=True, markup=False)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _tell(finished: CompletedReport, migration: Migration, as_json: bool, console: Console) -> None:
    if as_json:
        _print_json(asdict(finished) | {"log": str(migration.log_path or "")})
    else:
        console.print(render.report(finished))
        console.print(f"log: {migration.log_path}", soft_wrap=True)


def _address(text: str) -> str | tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if separator and port.isdigit() and "/" not in text:
        return host.strip("[]"), int(port)
    return text


def _replacements(given: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or ():
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise BadInput("replace", text, "KEY=VALUE")
        pairs[key] = value
    return pairs
