"""Commands that move a guest, or look whether it could be moved."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from whimbrel import render
from whimbrel.doctor import check_qemu
from whimbrel.engine.errors import MigrationCancelled, MigrationFailed, PreparationFailed
from whimbrel.given import Allowed, address, destination, new_file, objectives
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json, run, run_demo_shown, run_shown
from whimbrel.migration import Migration
from whimbrel.policies import named, resolve
from whimbrel.qmp_driver.destination import Destination
from whimbrel.qmp_driver.findings import refused
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.preflight import inspect as look
from whimbrel.units import parse_size

from .codes import FAILED, NOT_BEGUN, OK, exit_code
from .planning import choosing, interrupted
from .telling import tell
from .words import (
    AbortOnFault,
    Bandwidth,
    Beats,
    BestEffort,
    Classes,
    Deadline,
    DestinationQemu,
    DestinationQmp,
    DisksShared,
    Downtime,
    Json,
    LinkRate,
    LockFile,
    MayAbort,
    MayPause,
    MayPostcopy,
    Measure,
    MemoryLoss,
    NewLog,
    NoGuardian,
    NoProbe,
    PolicyName,
    Probe,
    Replacements,
    Seed,
    Shadows,
    SourceQmp,
    Throttle,
)

DEFAULT_POLICY = "least_downtime"
"""Where nothing was asked for."""


def demo(
    guest: Classes = None,
    ram: Annotated[
        str,
        typer.Option(metavar="SIZE", help="RAM; QEMU < 9.0 under TCG loses writes where it is a multiple of 256KiB."),
    ] = "524224KiB",
    beats: Beats = 200,
    seed: Seed = 1,
    downtime: Downtime = None,
    deadline: Deadline = None,
    bandwidth: Bandwidth = "128MiB/s",
    throttle: Throttle = None,
    may_abort: MayAbort = False,
    may_pause: MayPause = False,
    may_postcopy: MayPostcopy = False,
    abort_on_fault: AbortOnFault = False,
    policy: PolicyName = None,
    link: LinkRate = None,
    probe: Probe = None,
    no_probe: NoProbe = False,
    measure: Measure = None,
    best_effort: BestEffort = False,
    shadow: Shadows = None,
    source_qemu: Annotated[str, typer.Option(metavar="BINARY", help="QEMU of the source.")] = "qemu-system-x86_64",
    destination_qemu: DestinationQemu = None,
    machine: Annotated[str, typer.Option(metavar="TYPE", help="Machine type.")] = "q35",
    log: NewLog = None,
    keep_log: Annotated[
        bool, typer.Option("--keep-log", help="Keep the log and say where it is; --json and --log imply it.")
    ] = False,
    accept_memory_loss: MemoryLoss = False,
    no_guardian: NoGuardian = False,
    as_json: Json = False,
) -> None:
    """Boot the built-in workload guest in a real QEMU, move it to another, verify its memory, report.

    With objectives and no --policy a plan chooses the policy, as for migrate.

    \b
    Examples:
      whimbrel demo
      whimbrel demo --class hot:size=64MiB,rate=60MiB/s --bandwidth 100MiB/s
      whimbrel demo --downtime 100ms --log demo.jsonl --json
    """
    from whimbrel.demo import DEFAULT_CLASSES, DemoOptions

    allowed = Allowed(
        throttle=throttle,
        may_abort=may_abort,
        may_pause=may_pause,
        may_postcopy=may_postcopy,
        abort_on_fault=abort_on_fault,
    )
    chooser = choosing(
        policy,
        downtime is not None or deadline is not None or allowed.stated,
        link=link,
        probe=probe,
        no_probe=no_probe,
        measure=measure,
        best_effort=best_effort,
    )
    named_policy = policy or DEFAULT_POLICY
    wanted = DemoOptions(
        classes=tuple(guest or DEFAULT_CLASSES),
        ram_bytes=parse_size(ram, field="ram"),
        beat_hz=beats,
        seed=seed,
        source_binary=source_qemu,
        destination_binary=destination_qemu,
        machine=machine,
        options=Options(
            objectives=objectives(downtime, deadline, bandwidth, allowed),
            policy=resolve(named_policy),
            policy_name=named_policy,
            shadows=named(shadow),
            log_path=new_file(log),
            accept_memory_loss=accept_memory_loss,
            guardian=not no_guardian,
        ),
    )
    console = new_console(stderr=as_json)

    async def choose(source: Path, destination: Destination, options: Options) -> Options:
        assert chooser is not None
        return await chooser.options(console, source, destination, options)

    result = run(run_demo_shown(wanted, console, None if chooser is None else choose))
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
    downtime: Downtime = None,
    deadline: Deadline = None,
    bandwidth: Bandwidth = None,
    throttle: Throttle = None,
    may_abort: MayAbort = False,
    may_pause: MayPause = False,
    may_postcopy: MayPostcopy = False,
    abort_on_fault: AbortOnFault = False,
    policy: PolicyName = None,
    link: LinkRate = None,
    probe: Probe = None,
    no_probe: NoProbe = False,
    measure: Measure = None,
    best_effort: BestEffort = False,
    shadow: Shadows = None,
    log: NewLog = None,
    keep_source: Annotated[
        bool, typer.Option("--keep-source", help="Leave the source process after a success.")
    ] = False,
    lock_file: LockFile = None,
    accept_memory_loss: MemoryLoss = False,
    no_guardian: NoGuardian = False,
    as_json: Json = False,
) -> None:
    """Move a running guest, given nothing but its QMP monitor.

    With objectives (--downtime, --deadline, --throttle, --may-…) and no --policy the guest is measured first, and the
    policy chosen by a plan, as whimbrel plan does; where nothing can meet them nothing is begun. With neither,
    least_downtime moves it. A policy that is given is taken as it is.

    ctrl-C and SIGTERM call it off where that is still safe: the guest then stays where it is. Should this process
    be killed, a small helper settles the migration as whimbrel resolve does.

    \b
    Examples:
      whimbrel migrate /run/vm/qmp.sock
      whimbrel migrate /run/vm/qmp.sock --downtime 100ms --bandwidth 1Gbit/s
      whimbrel migrate /run/vm/qmp.sock --policy auto_converge --throttle 80%
      whimbrel migrate /run/vm/qmp.sock --to other:4444 --host 10.0.0.2
    """
    allowed = Allowed(
        throttle=throttle,
        may_abort=may_abort,
        may_pause=may_pause,
        may_postcopy=may_postcopy,
        abort_on_fault=abort_on_fault,
    )
    chooser = choosing(
        policy,
        downtime is not None or deadline is not None or allowed.stated,
        link=link,
        probe=probe,
        no_probe=no_probe,
        measure=measure,
        best_effort=best_effort,
    )
    named_policy = policy or DEFAULT_POLICY
    options = Options(
        objectives=objectives(downtime, deadline, bandwidth, allowed),
        policy=resolve(named_policy),
        policy_name=named_policy,
        shadows=named(shadow),
        log_path=new_file(log),
        host=host,
        port=port,
        keep_source=keep_source,
        accept_memory_loss=accept_memory_loss,
        disks_shared=disks_shared,
        guardian=not no_guardian,
        locks=None if lock_file is None else FileLock(lock_file.absolute()),
    )
    where_to = destination(destination_qmp, destination_qemu, replace_, disks_shared)
    source = address("SOURCE_QMP", source_qmp)
    console = new_console(stderr=as_json)
    if chooser is not None:
        options = run(interrupted(chooser.options(console, source, where_to, options), console))
    migration = Migration(source, where_to, options)

    try:
        finished = run(run_shown(migration, console))
    except PreparationFailed:
        if destination_qemu is not None:
            run(check_qemu("destination-qemu", destination_qemu))  # a clearer word on the likeliest cause
        raise
    except (MigrationFailed, MigrationCancelled) as error:
        tell(error.report, migration.log_path, as_json, console)
        raise
    with ending(OK):
        tell(finished, migration.log_path, as_json, console)


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
    strategy = destination(destination_qmp, destination_qemu, replace_, disks_shared)
    found = run(look(address("SOURCE_QMP", source_qmp), strategy, accept_memory_loss=accept_memory_loss))
    with ending(NOT_BEGUN if refused(found) else OK):
        if as_json:
            print_json({"findings": [asdict(each) for each in found], "refused": bool(refused(found))})
        else:
            new_console().print(render.findings(found))
