"""Record the grid: real migrations over a paced link, each with what was known before it."""

from __future__ import annotations

import functools
import platform
import subprocess
import time
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import Final

import uvloop

from whimbrel.laboratory.link import Link, paced_link
from whimbrel.laboratory.load import until_quiet
from whimbrel.laboratory.stage import QEMU

from . import traces
from .moving import Moved, move, traced_stage
from .plan import CUT_OFF_S, LINK_RATE, Case, cases
from .probe import probe
from .records import FOLDER, RUNS, Known, Outcome, Run, load_runs, save_runs
from .traces import Traced

BUSY_CORES: Final = 0.5
"""A run during which others used more than this is done again."""
GREATEST_REPEATS: Final = 2
PATIENCE_S: Final = 60.0


def record(
    folder: Path = FOLDER,
    name: str = RUNS,
    *,
    only: str = "",
    anew: bool = False,
    say: Callable[[str], None] = print,
) -> list[Run]:
    """Record what is not on record yet; after each run everything is saved, so that it can be called off.

    Args:
        folder: where the records are.
        name: of the file: `RUNS` or `AGAIN`.
        only: cells whose name contains this.
        anew: record also what is there already.
        say: told of every run.

    Raises:
        WhimbrelError: a migration failed otherwise than by not converging; no paced link can be made.
    """
    done = {run.known.case: run for run in load_runs(folder, name)} if (folder / name).exists() else {}
    with paced_link(LINK_RATE) as link, link.at_source():
        nominal = probe(link).goodput_bytes_per_s
        for case in wanted(done, only=only, anew=anew):
            once = functools.partial(_once, link, case, nominal)
            done[case.name] = uvloop.run(undisturbed(once, say))
            save_runs(done.values(), folder, name)
    return list(done.values())


def wanted(done: Container[str], *, only: str = "", anew: bool = False) -> list[Case]:
    """The cells that are to be recorded; arguments as those of `record`."""
    return [case for case in cases() if only in case.name and (anew or case.name not in done)]


def qemu_version() -> str:
    """The first line of what QEMU says of itself."""
    return subprocess.run((QEMU, "--version"), capture_output=True, text=True, check=True).stdout.split("\n")[0]


async def undisturbed(once: Callable[[int], Awaitable[Run]], say: Callable[[str], None] = print) -> Run:
    """Record one cell, again while others disturb it.

    Args:
        once: records it; takes how often that was done already.
        say: told of each time.

    Returns:
        The first that was not disturbed, or the least disturbed one of `GREATEST_REPEATS` more.
    """
    runs: list[Run] = []
    while not runs or (runs[-1].outcome.others_cores > BUSY_CORES and len(runs) <= GREATEST_REPEATS):
        runs.append(await once(len(runs)))
        say(_sentence(runs[-1]))
    return min(runs, key=lambda run: run.outcome.others_cores)


def _sentence(run: Run) -> str:
    outcome = run.outcome
    return (
        f"{time.strftime('%H:%M:%S')} {run.known.case}: {outcome.verdict}, {outcome.iterations} iterations, "
        f"{outcome.total_s:.2f} s, {outcome.bytes / 2**20:.0f} MiB, "
        f"down {outcome.downtime.get('total', 0) * 1e3:.0f} ms, others {outcome.others_cores:.2f} cores"
    )


async def _once(link: Link, case: Case, nominal: float, attempt: int) -> Run:
    guest = case.guest(nominal)
    load_cores = await until_quiet(PATIENCE_S)
    probed = probe(link)
    async with traced_stage(link, guest) as stage:
        known = Known(
            case=case.name,
            pattern=case.pattern,
            ratio=case.ratio,
            limit_s=case.limit_s,
            cut_off_s=CUT_OFF_S,
            classes=tuple(str(page_class) for page_class in guest.spec.classes),
            ram_bytes=guest.ram_bytes,
            beat_hz=guest.spec.beat_hz,
            guest_seed=guest.spec.seed,
            link_rate=LINK_RATE,
            goodput_bytes_per_s=probed.goodput_bytes_per_s,
            pipe_bytes=probed.pipe_bytes,
            qemu=qemu_version(),
            accelerator="tcg",
            policy=f"fixed:downtime_limit={case.limit_s}s",
            kernel=platform.release(),
            load_cores=load_cores,
        )
        moved = await move(stage, case.limit_s, CUT_OFF_S)
        return Run(known=known, outcome=outcome_of(moved, attempt))


def outcome_of(moved: Moved, repeated: int) -> Outcome:
    """What is kept of a migration."""
    found = traces.syncs(moved.trace)
    zero_s = moved.sent_wall_s
    report, timeline = moved.report, moved.timeline
    return Outcome(
        verdict="converged" if moved.converged else "cut off",
        iterations=len(found),
        total_s=moved.ended_wall_s - zero_s,
        migrated_s=None if moved.completed_wall_s is None else moved.completed_wall_s - zero_s,
        bytes=report.ram_transferred_bytes,
        normal_pages=report.normal_pages,
        duplicate_pages=report.duplicate_pages,
        downtime=moved.downtime,
        traced=switchover(moved.trace) if moved.converged else {},
        outage_s=moved.outage_s,
        work=timeline.work,
        longest_stall_s=timeline.largest_gap_s,
        others_cores=moved.others_cores,
        repeated=repeated,
        rows=tuple((sync.at_s - zero_s, sync.took_s, sync.pending_bytes) for sync in found),
    )


def switchover(trace: list[Traced]) -> dict[str, float]:
    """The switchover's parts as QEMU's own source sees them, seconds by name; a part whose events lack is left out.

    ``stop``: from the decision to the stopped guest; ``pause``: in ``pre-switchover``; ``sync``: the last one, and
    ``last_ram``: until the last page was handed over; ``devices``: until their state was; ``answer``: until the
    destination's word was in.
    """
    last = {
        "decided": traces.moment_s(trace, "migration_thread_low_pending", last=True),
        "stopped": traces.moment_s(trace, "migration_completion_vm_stop", last=True),
        "device": traces.moment_s(trace, "migrate_set_state", "device", last=True),
        "ram_sent": traces.moment_s(trace, "savevm_section_end", "ram,", last=True),
        "all_sent": traces.moment_s(trace, "migration_return_path_end_before", last=True),
        "answered": traces.moment_s(trace, "migration_return_path_end_after", last=True),
    }
    names = ("stop", "pause", "last_ram", "devices", "answer")
    moments = list(last.values())
    return {
        name: after - before
        for name, before, after in zip(names, moments, moments[1:], strict=False)
        if before is not None and after is not None
    }
