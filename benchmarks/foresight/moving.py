"""One real migration of a case, with its prediction in its options; what came of it, out of its report and its log."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import whimbrel
from whimbrel.engine.aftermath import actual
from whimbrel.engine.prediction import COMPONENTS
from whimbrel.guest.timeline import Timeline
from whimbrel.laboratory.cutting_off import cut_off_after
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.moments import Moments
from whimbrel.laboratory.real import lost_guest_s
from whimbrel.laboratory.stage import BOOT_TIMEOUT_S, VERIFY_TIMEOUT_S, MemoryLost, Stage
from whimbrel.qmp_driver import journal

from .design import Case
from .records import Came

BEATS_AFTER = 20


async def move(stage: Stage, case: Case, options: whimbrel.Options, *, attempt: int, said: str) -> Came:
    """Move the guest of a stage; it is called off at the case's deadline.

    Args:
        stage: it runs there.
        case: what is asked for.
        options: with the policy and its prediction; the host and what else the stage needs is added. Its log is kept.
        attempt: as in `Came`.
        said: as in `Came`.

    Raises:
        WhimbrelError: it failed, otherwise than by being called off.
        MemoryLost: the guest is not whole on the destination.
    """
    log = options.log_path
    assert log is not None
    options = replace(options, host=stage.place.host, objectives=case.objectives)
    where = whimbrel.FromArgv(stage.destination_arguments(qmp=False), directory=stage.folder)
    migration = whimbrel.Migration(str(stage.source_qmp), where, options)
    stage.listen_to_destination()
    watch, began_ns = Stopwatch.start(stage.pids), time.monotonic_ns()
    try:
        async with cut_off_after(case.deadline_s, migration, "the deadline is over"):
            await migration.run()
    except whimbrel.MigrationCancelled:
        pass  # by us or by the policy: the verdict
    finally:
        stage.take_over(migration.started)
    others_cores = watch.others_cores(stage.pids)
    report = migration.report
    assert report is not None
    lines = list(journal.read(log))
    outage_s = await _judge(stage) if report.moved else None
    timeline = stage.monitor.timeline(since_ns=began_ns)
    if timeline.bad or timeline.continuity.went_back:
        raise MemoryLost(f"the guest {case.name!r} found its memory damaged: {timeline}")
    return came_of(
        case, report, lines, timeline, attempt=attempt, said=said, outage_s=outage_s, others_cores=others_cores
    )


def came_of(
    case: Case,
    report: whimbrel.CompletedReport,
    lines: list[dict[str, Any]],
    timeline: Timeline,
    *,
    attempt: int,
    said: str,
    outage_s: float | None,
    others_cores: float,
) -> Came:
    """What is kept of a migration.

    Args:
        case: it.
        report: its report.
        lines: its log.
        timeline: of the guest's heartbeats.
        attempt, said, outage_s, others_cores: as in `Came`.
    """
    moments, found = Moments(lines), actual(report)
    sent_s = moments.wall_s(moments.command_ns("migrate"))
    ended_s = moments.mark_s("destination-resume") if report.moved else _called_off_s(moments, sent_s)
    total_s = max(0.0, ended_s - sent_s)
    downtime = report.downtime if report.moved else None
    postcopy_s = _postcopy_s(moments, ended_s) if report.moved else 0.0
    in_time = total_s + postcopy_s <= case.deadline_s
    first_ns = report.iterations[0].started_ns if report.iterations else 0
    return Came(
        case=case.name,
        attempt=attempt,
        said=said,
        began=stamp(sent_s),
        moved=report.moved,
        met=downtime is not None and downtime.total_s <= case.objectives.downtime_s and in_time,
        total_s=total_s,
        downtime_s=downtime.total_s if downtime is not None else None,
        outage_s=outage_s,
        transferred_bytes=float(report.ram_transferred_bytes),
        iterations=round(found.get("iteration_count", 0.0)),
        throttle=_throttle(lines),
        lost_s=min(lost_guest_s(timeline, case.guest, report.moved), total_s),
        postcopy_s=postcopy_s,
        components={name: found[name] for name in COMPONENTS if name in found} if report.moved else {},
        items={}
        if downtime is None
        else {name[:-2]: value for name, value in asdict(downtime).items() if name[-2:] == "_s"},
        rows=tuple(
            ((row.ended_ns - first_ns) / 1e9, float(row.sent_bytes), float(row.dirtied_bytes))
            for row in report.iterations
        ),
        others_cores=others_cores,
        why=report.why,
    )


def stamp(wall_s: float) -> str:
    """A moment, UTC, to the millisecond."""
    return datetime.datetime.fromtimestamp(wall_s, datetime.UTC).isoformat(timespec="milliseconds")


def _called_off_s(moments: Moments, sent_s: float) -> float:
    """When it was called off, by us or by its policy; wall-clock seconds."""
    ended_ns = moments.last_signal_ns("cancel", "given-up")
    return sent_s if ended_ns is None else moments.wall_s(ended_ns)


def _postcopy_s(moments: Moments, ended_s: float) -> float:
    """From the guest's resumption until all of its memory was there; 0 without post-copy."""
    if not moments.had_signal("destination-postcopy"):
        return 0.0
    return max(0.0, moments.wall_s(moments.signal_ns("source-completed")) - ended_s)


def _throttle(lines: Sequence[dict[str, Any]]) -> float:
    """The most that was taken of the guest's time, by QEMU or from outside."""
    outside = [float(line["changes"].get("outside_throttle", 0.0)) for line in lines if line["kind"] == "decision"]
    qemus = [float(line["throttle"]) for line in lines if line["kind"] == "sample"]
    return max([*qemus, *outside], default=0.0)


async def _judge(stage: Stage) -> float:
    """Have the guest check every page on the destination; give the outage that it saw."""
    if stage.listening is not None:
        await stage.listening
    first = await stage.monitor.wait_first_beat("destination", timeout_s=BOOT_TIMEOUT_S)
    await stage.monitor.wait_beats(BEATS_AFTER, side="destination")
    verdict = await stage.monitor.verify("destination", timeout_s=VERIFY_TIMEOUT_S)
    if not verdict.passed:
        raise MemoryLost(f"the guest {stage.guest.name!r} is not whole on the destination: {verdict}")
    last = max(beat.received_ns for beat in stage.monitor.beats("source") if beat.received_ns < first.received_ns)
    return (first.received_ns - last) / 1e9
