"""The library's way in, on real QEMUs: what is returned, what is raised, and what the caller may do meanwhile."""

from __future__ import annotations

import asyncio
import fcntl
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests import BRISK, End, Guest, World, ask, read_log
from whimbrel import FromArgv, FromCallable, FromSource, Link, Migration, Options, migrate
from whimbrel.calibration import pasts
from whimbrel.engine.errors import (
    BadInput,
    CannotConnect,
    MigrationCancelled,
    MigrationFailed,
    PreflightFailed,
    PreparationFailed,
    WhimbrelError,
)
from whimbrel.engine.policy import Decision, Objectives, Observation
from whimbrel.engine.prediction import COMPONENTS
from whimbrel.engine.report import CompletedReport
from whimbrel.logbook import report_of
from whimbrel.qmp_driver.control import ask as ask_manager
from whimbrel.qmp_driver.control import control_path
from whimbrel.qmp_driver.destination import Existing
from whimbrel.qmp_driver.journal import is_held
from whimbrel.qmp_driver.truth import SourceTruth

MIB = 1 << 20
SLOWLY = Objectives(bandwidth_bytes_per_s=MIB)


def options(world: World, **wanted: Any) -> Options:
    """Options with short waits and a log of their own."""
    return replace(Options(waits=BRISK, reconnect_s=1.0, log_path=world.folder / "log"), **wanted)


async def reach(migration: Migration, *phases: str) -> str:
    """Wait until a migration is seen in one of the phases."""
    async for glance in migration.progress():
        if glance.phase in phases:
            return glance.phase
    raise AssertionError(f"it ended without having been seen in {phases}")


async def untouched(world: World, source: Guest, end: End, before: dict[str, Any]) -> None:
    """Demand that a migration was refused before any RAM moved, and changed nothing."""
    assert end.verdict == ("failed", "source", "running")
    assert "migrate" not in end.commands()
    await world.check(source, end, before=before)


async def test_a_guest_is_moved(world: World) -> None:
    """`migrate` returns the report; the log tells the same; nothing is held any more."""
    source = await world.boot()
    log = world.folder / "log"
    report = await migrate(source.qmp, log_path=log, downtime_s=0.2, policy="least_downtime")
    world.hear(report.facts)
    assert report.moved
    assert report_of(log) == report
    assert not is_held(log)
    assert not control_path(log).exists()
    header, *_, end = read_log(log)
    assert header["kind"] == "header"
    assert header["objectives"]["downtime_s"] == 0.2
    assert header["pid"] == os.getpid()
    assert end["kind"] == "end"
    assert [line["n"] for line in read_log(log)] == list(range(1, end["n"] + 1))
    await world.check_beats("destination")


async def test_with_an_objective_and_no_policy_a_plan_chooses_one(world: World) -> None:
    """And what it predicted of it stands in the report. (The link is said, so that nothing is probed.)"""
    source = await world.boot()
    log = world.folder / "log"
    link = Link(bytes_per_s=125e6)
    report = await migrate(source.qmp, log_path=log, downtime_s=0.5, deadline_s=30.0, link=link, span_s=0.3)
    world.hear(report.facts)
    assert report.moved
    policy = read_log(log)[0]["policy"]
    assert policy.startswith("predictive:")
    assert report.prediction is not None
    assert (report.prediction.basis, report.prediction.policy) == ("plan", policy)
    assert {"total", "downtime", "transferred", "iteration_count", *COMPONENTS} == {
        each.name for each in report.compared
    }
    assert report_of(log) == report
    (past,) = pasts(log.parent)
    assert (past.hosts.source, past.hosts.destination) == (os.uname().nodename, os.uname().nodename)
    await world.check_beats("destination")


async def test_progress_goes_through_the_stages(world: World) -> None:
    """The stages rise, the end is seen, and watching does not disturb."""
    source = await world.boot()
    migration = Migration(source.qmp, options=options(world), labels={"ticket": "A-7"})
    phases: list[str] = []
    stages: list[int] = []

    async def watch() -> None:
        async for glance in migration.progress():
            phases.append(glance.phase)
            if glance.stage is not None:
                stages.append(glance.stage)

    watching = asyncio.create_task(watch())
    end = await world.run(migration)
    await watching
    assert stages == sorted(stages)
    assert stages[0] == 1
    assert phases[-1] == "completed"
    assert read_log(end.log)[0]["labels"] == {"ticket": "A-7"}


async def test_called_off_before_it_was_run(world: World) -> None:
    """Nothing is begun."""
    source = await world.boot()
    before = source.settings()
    migration = Migration(source.qmp, options=options(world))
    migration.cancel("changed my mind")
    end = await world.run(migration)
    assert isinstance(end.error, MigrationCancelled)
    assert "changed my mind" in str(end.error)
    await world.check(source, end, before=before)


async def test_the_awaiting_task_is_cancelled_while_ram_moves(world: World) -> None:
    """The migration is called off first; only then the cancellation is let through."""
    source = await world.boot()
    before = source.settings()
    migration = Migration(source.qmp, options=options(world, objectives=SLOWLY))
    task = asyncio.create_task(migration.run())
    await reach(migration, "precopy")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert migration.report is not None
    assert migration.report.outcome == "cancelled"
    assert "the task that awaited it was cancelled" in migration.report.why
    assert source.status() == "running"
    assert source.settings() == before
    await world.check_beats("source")


async def test_the_awaiting_task_is_cancelled_after_the_hand_over_began(world: World) -> None:
    """The move ends first: the guest runs on the destination, and the report says so."""
    source = await world.boot()
    migration = Migration(source.qmp, options=options(world))
    task = asyncio.create_task(world.run(migration))
    await reach(migration, "handover", "activating", "releasing")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert migration.report is not None
    assert migration.report.moved
    await world.check_beats("destination")


async def test_the_manager_can_be_asked_and_told(world: World) -> None:
    """Through the socket beside the log: how it stands, and that it be called off."""
    source = await world.boot()
    before = source.settings()
    migration = Migration(source.qmp, options=options(world, objectives=SLOWLY))
    task = asyncio.create_task(world.run(migration))
    await reach(migration, "precopy")
    log = world.folder / "log"
    assert is_held(log)
    assert (await ask_manager(log, "status", timeout_s=5))["phase"] == "precopy"
    said = await ask_manager(log, "cancel", timeout_s=20)
    end = await task
    assert (said["outcome"], said["owner"], said["guest"]) == end.verdict == ("cancelled", "source", "running")
    with pytest.raises(CannotConnect, match="no running migration"):
        await ask_manager(log, "status", timeout_s=5)
    await world.check(source, end, before=before)


async def test_a_second_migration_of_the_same_source_is_refused(world: World) -> None:
    """By the same monitor, which is held, and by another; the first goes on undisturbed."""
    source = await world.boot()
    first = Migration(source.qmp, options=options(world, objectives=SLOWLY))
    task = asyncio.create_task(world.run(first))
    await reach(first, "precopy")
    while ask(source.spare, "query-migrate")[0].get("status") != "active":
        await asyncio.sleep(0.01)  # between looks at a condition; the test itself has a deadline
    held = Migration(source.qmp, options=options(world, log_path=world.folder / "log2"))
    with pytest.raises(CannotConnect, match="another client holds this monitor"):
        await held.run()
    busy = Migration(source.spare, options=options(world, log_path=world.folder / "log3"))
    with pytest.raises(WhimbrelError, match=rf"another manager \(process {os.getpid()}\) is moving this guest"):
        await busy.run()
    assert busy.report is not None
    first.cancel()
    end = await task
    assert end.verdict == ("cancelled", "source", "running")
    await world.check(source, end)


async def test_a_destination_that_waits_is_taken(world: World) -> None:
    """One that others started with -incoming defer; that it would start by itself is cleared."""
    source = await world.boot()
    waiting = await world.boot(listen=False, incoming="defer")
    await world.monitor.attach("destination", waiting.serial)
    end = await world.run(Migration(source.qmp, Existing(waiting.qmp), options(world)))
    assert end.verdict == ("completed", "destination", "running")
    assert end.destination_pid == waiting.pid
    await world.check(source, end)


async def test_a_destination_that_listens_already_is_refused(world: World) -> None:
    """Its capabilities can't be set any more; neither side is touched."""
    source = await world.boot()
    before = source.settings()
    waiting = await world.boot(listen=False, incoming="tcp:127.0.0.1:0")
    migration = Migration(source.qmp, Existing(waiting.qmp), options(world))
    with pytest.raises(PreflightFailed, match="already listens"):
        await migration.run()
    assert waiting.status() == "inmigrate"
    assert source.settings() == before
    await world.check_beats("source")


@pytest.mark.parametrize(
    ("other", "word"), [({"machine": "q35"}, "machine"), ({"ram_bytes": 24576 << 10}, "RAM|memory|ram")]
)
async def test_a_destination_that_does_not_fit_is_refused(world: World, other: dict[str, Any], word: str) -> None:
    """Machine type and RAM size are compared before any RAM moves."""
    source = await world.boot()
    before = source.settings()
    waiting = await world.boot(listen=False, incoming="defer", **other)
    end = await world.run(Migration(source.qmp, Existing(waiting.qmp), options(world)))
    assert isinstance(end.error, PreflightFailed)
    assert any(name in str(end.error) for name in word.split("|")), str(end.error)
    assert "migrate" not in end.commands()
    assert source.settings() == before
    await world.check_beats("source")


async def test_a_command_line_of_the_callers(world: World) -> None:
    """What a destination needs is added to it."""
    source = await world.boot()
    serial = world.folder / "there"
    argv = [word.replace(str(source.serial), str(serial)) for word in source.argv]
    at = argv.index("-qmp")
    del argv[at : at + 4]  # both monitors of the source
    migration = Migration(source.qmp, FromArgv(argv), options(world))
    task = asyncio.create_task(world.run(migration))
    await reach(migration, "precopy", "switchover", "handover", "activating", "releasing", "completed")
    await world.monitor.attach("destination", serial)
    end = await task
    assert end.verdict == ("completed", "destination", "running")
    await world.check(source, end)


async def test_a_coroutine_of_the_callers(world: World) -> None:
    """It is given the truth about the source, and returns a monitor's address."""
    source = await world.boot()
    started: list[Guest] = []

    async def start(truth: SourceTruth) -> Path:
        assert truth.facts.run_state == "running"
        started.append(await world.boot(listen=False, incoming="defer", paused=True))
        await world.monitor.attach("destination", started[0].serial)
        return started[0].qmp

    end = await world.run(Migration(source.qmp, FromCallable(start), options(world)))
    assert end.verdict == ("completed", "destination", "running")
    await world.check(source, end)


async def test_a_coroutine_that_fails_is_the_cause(world: World) -> None:
    """Its exception is chained; the guest runs on."""
    source = await world.boot()
    before = source.settings()
    fault = RuntimeError("no capacity")

    async def start(truth: SourceTruth) -> Path:
        raise fault

    end = await world.run(Migration(source.qmp, FromCallable(start), options(world)))
    assert isinstance(end.error, PreparationFailed)
    assert end.error.__cause__ is fault
    assert end.error.owner == "source"
    await untouched(world, source, end, before)


async def test_a_second_hop(world: World) -> None:
    """A guest that was moved is moved again, whole."""
    first = await world.boot()
    end = await world.run(Migration(first.qmp, options=options(world)))
    await world.check(first, end)
    again = Migration(end.report.facts["destination_qmp"], options=options(world, log_path=world.folder / "log2"))
    second = await world.run(again)
    assert second.verdict == ("completed", "destination", "running")
    assert second.destination_pid != end.destination_pid
    assert end.destination_status() == ""
    await world.check_beats("destination")


async def test_a_binary_that_does_not_start(world: World, tmp_path: Path) -> None:
    """What it said is quoted, the guest runs on, nothing is left."""
    source = await world.boot()
    before = source.settings()
    broken = tmp_path / "qemu"
    broken.write_text("#!/bin/sh\necho 'I am no QEMU' >&2\nexit 3\n")
    broken.chmod(0o755)
    end = await world.run(Migration(source.qmp, FromSource(binary=str(broken)), options(world)))
    assert isinstance(end.error, PreparationFailed)
    assert "I am no QEMU" in str(end.error)
    assert "exit code 3" in str(end.error)
    await untouched(world, source, end, before)


async def test_ram_at_which_this_qemu_loses_writes(world: World) -> None:
    """QEMU before 9.0 under TCG and a multiple of 256 KiB: refused, unless it is accepted in so many words."""
    source = await world.boot(ram_bytes=24576 << 10)
    version = ask(source.spare, "query-version")[0]["qemu"]["major"]
    if version < 9:
        migration = Migration(source.qmp, options=options(world))
        with pytest.raises(PreflightFailed, match="loses guest writes"):
            await migration.run()
        assert source.status() == "running"
    end = await world.run(
        Migration(source.qmp, options=options(world, log_path=world.folder / "log2", accept_memory_loss=True))
    )
    assert end.verdict == ("completed", "destination", "running")
    assert any("memory-loss" in note or "loses guest writes" in note for note in end.report.notes) == (version < 9)


async def test_a_policy_that_gives_up(world: World) -> None:
    """Where the objectives allow it; its words are the reason."""
    source = await world.boot()
    before = source.settings()

    def hopeless(seen: Observation) -> Decision:
        return Decision(wake_after_s=0.02, abort=seen.elapsed_s > 0, because="it never converges")

    goal = Objectives(bandwidth_bytes_per_s=MIB, may_abort=True)
    end = await world.run(Migration(source.qmp, options=options(world, objectives=goal), policy=hopeless))
    assert isinstance(end.error, MigrationFailed)
    assert end.error.report is end.report
    assert end.report.why == "it never converges"
    assert "the guest runs on" in str(end.error)
    await world.check(source, end, before=before)


async def test_no_such_source(world: World) -> None:
    """A sentence, and no guest that would have been touched."""
    migration = Migration(world.folder / "nowhere", options=options(world))
    with pytest.raises(CannotConnect, match=r"nowhere"):
        await migration.run()


@pytest.mark.parametrize("kind", ["below a file", "not empty", "in use"])
async def test_a_log_that_cannot_be_taken(world: World, tmp_path: Path, kind: str) -> None:
    """Said before anything else is looked at: the source need not even exist."""
    path = tmp_path / "log"
    path.write_text("something\n" if kind == "not empty" else "")
    held = os.open(path, os.O_RDWR)
    if kind == "in use":
        fcntl.flock(held, fcntl.LOCK_EX)
    wanted = path / "log" if kind == "below a file" else path
    try:
        with pytest.raises(BadInput) as caught:
            await Migration(world.folder / "nowhere", options=options(world, log_path=wanted)).run()
    finally:
        os.close(held)
    assert caught.value.field == "log"
    assert caught.value.given == str(wanted)


async def test_the_reports_type(world: World) -> None:
    """A report from a log is the very type, with its nested parts."""
    source = await world.boot()
    end = await world.run(Migration(source.qmp, options=options(world)))
    again = report_of(end.log)
    assert isinstance(again, CompletedReport)
    assert again.downtime == end.report.downtime
    assert again.iterations == end.report.iterations
