"""The same move by `whimbrel.Migration`, with its default policy and all of its safety."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import whimbrel
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.moments import Moments
from whimbrel.laboratory.relay import AddressProxy
from whimbrel.laboratory.stage import Moved, Stage
from whimbrel.qmp_driver import journal


async def move(stage: Stage, *, ready: bool = False, options: whimbrel.Options | None = None) -> Moved:
    """Move the guest.

    Args:
        stage: the running source.
        ready: the destination process is up before the time begins to count.
        options: those of the migration; its host and its log are the stage's. ``None``: all as it comes.

    Raises:
        WhimbrelError: the migration failed.
    """
    proxy: AddressProxy | None = None
    if ready or stage.place.relayed:
        stage.spawn(stage.destination_arguments("-incoming", "defer", "-S"))
        await stage.until_up(stage.destination_qmp)
        where: whimbrel.Destination = whimbrel.Existing(str(stage.destination_qmp))
        if stage.place.relayed:
            proxy = await AddressProxy.start(stage.destination_qmp, stage.place.reach)
            where = whimbrel.Existing(proxy.address)
    else:
        where = whimbrel.FromArgv(stage.destination_arguments(qmp=False), directory=stage.folder)
    try:
        return await _move(stage, where, options or whimbrel.Options(), from_call=ready or stage.place.relayed)
    finally:
        if proxy is not None:
            await proxy.close()


async def _move(stage: Stage, where: whimbrel.Destination, options: whimbrel.Options, *, from_call: bool) -> Moved:
    log = stage.folder / "log.jsonl"
    options = replace(options, host=stage.place.host, log_path=log)
    migration = whimbrel.Migration(str(stage.source_qmp), where, options)
    stage.listen_to_destination()
    watch = Stopwatch.start(stage.pids)
    called_ns = time.monotonic_ns()
    try:
        report = await migration.run()
        ended_ns = time.monotonic_ns()
        cpu_s = watch.manager_cpu_s()
    finally:
        stage.take_over(migration.started)
    moments = Moments(list(journal.read(log)))
    assert report.downtime is not None
    return Moved(
        began_ns=called_ns if from_call else moments.command_ns("prepare"),
        known_ns=moments.signal_ns("destination-running"),
        ended_ns=ended_ns,
        stop_wall_s=moments.mark_s("source-stop"),
        resume_wall_s=moments.mark_s("destination-resume"),
        manager_cpu_s=cpu_s,
        items=items(moments, called_ns, ended_ns) | {f"downtime.{name}": value for name, value in downtime(report)},
    )


def downtime(report: whimbrel.CompletedReport) -> Iterator[tuple[str, float]]:
    """The report's itemised outage, seconds by name."""
    assert report.downtime is not None
    for name in ("stop_s", "drain_s", "last_ram_s", "device_state_s", "load_s", "resume_s"):
        yield name.removesuffix("_s"), getattr(report.downtime, name)


def items(moments: Moments, called_ns: int, ended_ns: int) -> dict[str, float]:
    """Where the time outside the transfer went, seconds by name."""
    active_s = moments.qmp_s("source", "MIGRATION", "active")
    resume_s, completed_s = moments.mark_s("destination-resume"), moments.mark_s("source-completed")
    call_s, end_s = moments.wall_s(called_ns), moments.wall_s(ended_ns)
    commands = ("inspect", "prepare", "arm", "migrate")
    at_s = [moments.wall_s(moments.command_ns(command)) for command in commands] + [active_s]
    spans = {f"before.{name}": after - begin for name, begin, after in zip(commands, at_s, at_s[1:], strict=False)}
    return spans | {
        "before": active_s - call_s,
        "before.open": at_s[0] - call_s,
        "after": resume_s - completed_s,
        "device to resume": resume_s - moments.mark_s("source-device"),
        "release": end_s - resume_s,
    }
