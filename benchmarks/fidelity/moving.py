"""One real migration with QEMU's trace on, by `whimbrel.Migration` with the policy ``fixed``."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import whimbrel
from benchmarks.ours import downtime
from whimbrel.guest.timeline import Timeline, gaps_s
from whimbrel.laboratory.cutting_off import cut_off_after
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.moments import Moments
from whimbrel.laboratory.place import Place
from whimbrel.laboratory.stage import BOOT_TIMEOUT_S, VERIFY_TIMEOUT_S, Guest, MemoryLost, Stage
from whimbrel.qmp_driver import journal

from . import traces
from .traces import Traced

BEATS_AFTER = 20
START_NS = 500_000_000
"""The stall at the start is looked for in so long a time."""


class TracedStage(Stage):
    """A stage whose source writes trace events."""

    @property
    def trace_path(self) -> Path:
        """Where they are."""
        return self.folder / "trace"

    def _arguments(self, letter: str, qmp: bool) -> list[str]:
        more = traces.options(str(self.trace_path)) if letter == "s" else []
        return [*super()._arguments(letter, qmp), *more]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What is known after a migration; wall-clock seconds, where a moment is meant."""

    converged: bool
    report: whimbrel.CompletedReport
    sent_wall_s: float
    """The driver sent ``migrate``."""
    ended_wall_s: float
    """The guest ran on the destination, or the migration was called off."""
    completed_wall_s: float | None
    downtime: dict[str, float]
    outage_s: float | None
    timeline: Timeline
    start_stall_s: float
    """The longest gap between two heartbeats in the first half second, less one period."""
    trace: list[Traced]
    others_cores: float


@contextlib.asynccontextmanager
async def traced_stage(place: Place, guest: Guest) -> AsyncGenerator[TracedStage, None]:
    """A running guest on a source that traces; everything ends with the context."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="wf-"))
    standing = TracedStage(place, guest, folder)
    try:
        await standing.boot()
        yield standing
    finally:
        await standing.end()
        await asyncio.to_thread(shutil.rmtree, folder, True)


async def move(stage: TracedStage, limit_s: float, cut_off_s: float) -> Moved:
    """Move the guest of a stage.

    Args:
        stage: it runs there.
        limit_s: downtime limit for QEMU.
        cut_off_s: after so long it is called off.

    Raises:
        WhimbrelError: it failed, otherwise than by being called off.
        MemoryLost: the guest is not whole on the destination.
    """
    log = stage.folder / "log.jsonl"
    objectives = whimbrel.Objectives(downtime_s=max(limit_s, 0.001))
    options = whimbrel.Options(host=stage.place.host, log_path=log, objectives=objectives)
    where = whimbrel.FromArgv(stage.destination_arguments(qmp=False), directory=stage.folder)
    migration = whimbrel.Migration(str(stage.source_qmp), where, options, policy=f"fixed:downtime_limit={limit_s}s")
    stage.listen_to_destination()
    watch, began_ns = Stopwatch.start(stage.pids), time.monotonic_ns()
    try:
        async with cut_off_after(cut_off_s, migration, "it did not converge in the time given"):
            await migration.run()
    except whimbrel.MigrationCancelled:
        pass  # by us: the verdict
    finally:
        stage.take_over(migration.started)
    others_cores = watch.others_cores(stage.pids)
    report = migration.report
    assert report is not None
    moments = Moments(list(journal.read(log)))
    outage_s = await _judge(stage) if report.moved else None
    timeline = stage.monitor.timeline(since_ns=began_ns)
    if timeline.bad or timeline.continuity.went_back:
        raise MemoryLost(f"the guest {stage.guest.name!r} found its memory damaged: {timeline}")
    ended_s = moments.mark_s("destination-resume") if report.moved else moments.wall_s(moments.signal_ns("cancel"))
    return Moved(
        converged=report.moved,
        report=report,
        sent_wall_s=moments.wall_s(moments.command_ns("migrate")),
        ended_wall_s=ended_s,
        completed_wall_s=moments.mark_s("source-completed") if report.moved else None,
        downtime={"total": report.downtime.total_s, **dict(downtime(report))} if report.downtime else {},
        outage_s=outage_s,
        timeline=timeline,
        start_stall_s=_start_stall_s(stage, moments.command_ns("migrate")),
        trace=list(traces.read(stage.trace_path.read_text(errors="replace").splitlines())),
        others_cores=others_cores,
    )


def _start_stall_s(stage: TracedStage, sent_ns: int) -> float:
    beats = stage.monitor.beats("source", since_ns=sent_ns - START_NS // 10)
    early = [beat for beat in beats if beat.received_ns <= sent_ns + START_NS]
    return max(gaps_s(early), default=0.0) - 1 / stage.guest.spec.beat_hz


async def _judge(stage: TracedStage) -> float:
    """Have the guest check every page on the destination; give the outage that it saw."""
    first = await stage.monitor.wait_first_beat("destination", timeout_s=BOOT_TIMEOUT_S)
    await stage.monitor.wait_beats(BEATS_AFTER, side="destination")
    verdict = await stage.monitor.verify("destination", timeout_s=VERIFY_TIMEOUT_S)
    if not verdict.passed:
        raise MemoryLost(f"the guest {stage.guest.name!r} is not whole on the destination: {verdict}")
    last = max(beat.received_ns for beat in stage.monitor.beats("source") if beat.received_ns < first.received_ns)
    return (first.received_ns - last) / 1e9
