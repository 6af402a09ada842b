"""Hooks and the guest's lock on real QEMUs: a veto gives the guest back, and the lock is where the guest is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.guests import BRISK, PATIENCE_S, World, ask, read_log
from tests.support.taps import FAILED, MOVED, kill_destination, on_command
from whimbrel.engine.protocol import SECOND_NS
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.states import Side as SideName
from whimbrel.migration import Migration
from whimbrel.qmp_driver.hooks import HookContext, HookRefused, Hooks
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.locks import LockRefused
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.parties import Party, party
from whimbrel.qmp_driver.processes import identify_peer

BOTH_LOOPS = True

WAITS = replace(BRISK, activating_ns=10 * SECOND_NS)
"""Time for a hook and a lock before the destination is resumed."""


async def no(_: HookContext) -> None:
    """Refuses."""
    raise RuntimeError("the storage is not there")


async def never(_: HookContext) -> None:
    """Hangs."""
    await asyncio.Event().wait()


def name_of(pid: int) -> str:
    """What the lock calls a QEMU."""
    return party(SideName.SOURCE, "", identify_peer(pid)).name


def holder(path: Path) -> str:
    """Who holds the lock, read with nothing but a JSON decoder."""
    return str(json.loads(path.read_text())["holder"])


async def test_the_hooks_of_a_move(world: World) -> None:
    """In their order, each with the guest as it was promised; at the end both monitors are free."""
    source = await world.boot()
    told: list[tuple[str, str, str, str]] = []
    reports: list[CompletedReport] = []
    contexts: list[HookContext] = []

    async def hook(context: HookContext) -> None:
        destination = context.facts.get("destination_pid")
        told.append((context.hook, context.phase, context.owner, await asyncio.to_thread(source.status)))
        contexts.append(context)
        assert (context.destination is None) is (destination is None)

    async def done(context: HookContext, report: CompletedReport) -> None:
        assert context.destination is not None
        (status,) = await asyncio.to_thread(ask, context.destination.address, "query-status")
        told.append((context.hook, context.phase, context.owner, status["status"]))
        reports.append(report)

    hooks = Hooks(before_start=hook, source_stopped=hook, before_resume=hook, done=done)
    end = await world.migrate(source, hooks=hooks, waits=replace(WAITS, activating_ns=20 * SECOND_NS))
    assert end.verdict == MOVED
    assert told == [
        ("before_start", "preflight", "source", "running"),
        ("source_stopped", "switchover", "source", "finish-migrate"),
        ("before_resume", "activating", "destination", "postmigrate"),
        ("done", "completed", "destination", "running"),
    ]
    assert contexts[0].source.pid == source.pid
    assert contexts[0].source.address == str(source.qmp)
    assert contexts[2].destination is not None
    assert contexts[2].destination.pid == end.destination_pid
    assert contexts[2].log_path == end.log
    assert reports == [end.report]
    await world.check(source, end)


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        (Hooks(before_resume=no), "the hook before_resume refused: RuntimeError: the storage is not there"),
        (
            Hooks(before_resume=never, before_resume_within_s=0.2),
            "the hook before_resume refused: no answer within 0.2 s",
        ),
    ],
    ids=["refuses", "hangs"],
)
async def test_a_veto_before_the_resumption_gives_the_guest_back(world: World, hooks: Hooks, words: str) -> None:
    """The source is out already and the destination has everything: it beats on the source again, whole."""
    source = await world.boot()
    before = source.settings()
    lock = world.folder / "lock"
    end = await world.migrate(
        source, hooks=hooks, locks=FileLock(lock), waits=replace(WAITS, activating_ns=20 * SECOND_NS)
    )
    assert end.verdict == FAILED
    assert words in end.report.why
    commands = end.commands()
    assert "resume-destination" not in commands
    assert commands[-5:] == ["claim", "inspect-both", "discard-destination", "reclaim", "resume-source"]
    assert holder(lock) == name_of(source.pid)
    await world.check(source, end, before=before)


async def test_a_hook_that_hangs_in_the_switchover_ends_by_its_own_deadline(world: World) -> None:
    """Well before the wait for the switchover."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(source, hooks=Hooks(source_stopped=never, source_stopped_within_s=0.1))
    assert end.verdict == FAILED
    assert end.report.why == "the hook source_stopped refused: no answer within 0.1 s"
    await world.check(source, end, before=before)


@pytest.mark.parametrize("name", ["source_stopped", "before_resume"])
async def test_a_loop_that_is_torn_down_while_a_hook_is_asked(world: World, name: str) -> None:
    """``asyncio.run`` cancels every task, the hook's too: that is a no, and the guest and its lock go back."""
    source = await world.boot()
    before = source.settings()
    log, lock = world.folder / "log", world.folder / "lock"

    async def main() -> None:
        begun = asyncio.Event()

        async def hook(_: HookContext) -> None:
            begun.set()
            await asyncio.Event().wait()

        options = Options(log_path=log, hooks=Hooks(**{name: hook}), locks=FileLock(lock))  # type: ignore[arg-type]
        task = asyncio.create_task(Migration(source.qmp, options=options).run())
        await begun.wait()
        assert not task.done()

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(asyncio.run, main())
    report = read_log(log)[-1]["report"]
    assert (report["owner"], report["guest"]) == ("source", "running")
    assert holder(lock) == name_of(source.pid)
    assert source.settings() == before
    await world.check_beats("source")


async def test_a_hook_that_refuses_the_start(world: World) -> None:
    """Nothing was started and nothing changed; the hook of the failure is told so."""
    source = await world.boot()
    before = source.settings()
    reports: list[CompletedReport] = []

    async def failed(_: HookContext, report: CompletedReport) -> None:
        reports.append(report)
        raise RuntimeError("the pager is out of order")

    lock = world.folder / "lock"
    end = await world.migrate(source, hooks=Hooks(before_start=no, failed=failed), locks=FileLock(lock), waits=WAITS)
    assert end.report.outcome == "failed"
    assert end.report.why == "the hook before_start refused: RuntimeError: the storage is not there"
    assert "prepare" not in end.commands()
    assert end.destination_pid is None
    (report,) = reports
    note = "the hook failed failed: RuntimeError: the pager is out of order"
    assert end.report == replace(report, notes=(*report.notes, note))
    assert note in read_log(end.log)[-1]["report"]["notes"]
    assert not lock.exists(), "the lock was taken for a migration that was refused"
    assert source.settings() == before
    assert source.status() == "running"


async def test_the_lock_ends_at_the_destination(world: World) -> None:
    """Under the name by which that QEMU is the source of the next migration."""
    source = await world.boot()
    path = world.folder / "lock"
    end = await world.migrate(source, locks=FileLock(path), waits=WAITS)
    assert end.verdict == MOVED
    assert end.destination_pid is not None
    assert holder(path) == name_of(end.destination_pid)
    learnt = [line["facts"] for line in read_log(end.log) if line["kind"] == "learnt"]
    assert {"destination_name": holder(path)} in learnt, "the log knows whom the lock was handed to"
    await world.check(source, end)


@pytest.mark.parametrize("command", ["migrate", "continue"])
async def test_the_lock_stays_with_the_source_where_the_destination_died(world: World, command: str) -> None:
    """It never had the lock."""
    source = await world.boot()
    before = source.settings()
    path = world.folder / "lock"
    end = await world.migrate(source, tap=on_command(command, kill_destination), locks=FileLock(path), waits=WAITS)
    assert end.verdict == FAILED
    assert holder(path) == name_of(source.pid)
    await world.check(source, end, before=before)


@dataclass(frozen=True)
class LastAct(FileLock):
    """A lock whose destination dies with it in its hands."""

    async def hand_over(self, from_: Party, to: Party) -> None:
        """Hand it over, kill who has it now, and leave it to the engine to find that out."""
        await super().hand_over(from_, to)
        if to.side is SideName.DESTINATION:
            assert to.pid is not None
            os.kill(to.pid, signal.SIGKILL)
            await asyncio.Event().wait()


async def test_the_lock_is_taken_back_from_a_destination_that_died_with_it(world: World) -> None:
    """The guest goes on at the source, which completed already."""
    source = await world.boot()
    before = source.settings()
    path = world.folder / "lock"
    end = await world.migrate(source, locks=LastAct(path), waits=WAITS)
    assert end.verdict == FAILED
    assert end.commands()[-4:] == ["claim", "discard-destination", "reclaim", "resume-source"]
    assert holder(path) == name_of(source.pid)
    await world.check(source, end, before=before)


async def test_the_lock_follows_a_guest_that_somebody_else_let_run(world: World) -> None:
    """Its owner told the destination to run while the last hook was being asked: the guest is there, so the lock is."""
    source = await world.boot()
    path = world.folder / "lock"

    async def hook(context: HookContext) -> None:
        await asyncio.to_thread(ask, context.facts["relocalised"]["qmp-human"], "cont")
        await never(context)

    end = await world.migrate(
        source, hooks=Hooks(before_resume=hook, before_resume_within_s=4.0), locks=FileLock(path), waits=WAITS
    )
    assert end.verdict == MOVED
    assert end.destination_pid is not None
    assert holder(path) == name_of(end.destination_pid)
    await world.check(source, end)


async def test_a_guest_that_somebody_else_holds_is_not_touched(world: World) -> None:
    """Somebody was promised it."""
    source = await world.boot()
    before = source.settings()
    path = world.folder / "lock"
    path.write_text(json.dumps({"whimbrel_lock": 1, "holder": "host9:9@9"}))
    end = await world.migrate(source, locks=FileLock(path), waits=WAITS)
    assert end.report.outcome == "failed"
    assert f"{path} is held by host9:9@9, not by {name_of(source.pid)}" in end.report.why
    assert "prepare" not in end.commands()
    assert holder(path) == "host9:9@9"
    assert source.settings() == before
    assert source.status() == "running"


async def test_a_lock_that_is_taken_away_on_the_way_holds_the_guest(world: World) -> None:
    """Who took it may run the guest from its disks: neither side may run it any more."""
    source = await world.boot()
    path = world.folder / "lock"

    async def steal(_: HookContext) -> None:
        path.write_text(json.dumps({"whimbrel_lock": 1, "holder": "host9:9@9"}))

    end = await world.migrate(source, hooks=Hooks(source_stopped=steal), locks=FileLock(path), waits=WAITS)
    assert (end.report.outcome, end.report.guest) == ("failed", "held")
    assert world.running(source, end) == set()
    assert holder(path) == "host9:9@9"
    assert "resume-destination" not in end.commands()
    assert "resume-source" not in end.commands()


async def test_a_paused_guest_takes_its_lock_along(world: World) -> None:
    """Whoever resumes it later finds the lock where it is; a veto counts for it too."""
    source = await world.boot()
    source.stop()
    path = world.folder / "lock"
    waits = replace(WAITS, activating_ns=20 * SECOND_NS)
    end = await world.migrate(source, hooks=Hooks(before_resume=no), locks=FileLock(path), waits=waits)
    assert end.verdict == ("failed", "source", "paused")
    assert holder(path) == name_of(source.pid)
    source.resume()  # QEMU says "postmigrate" of a guest that came back, until it ran again
    source.stop()
    end = await world.migrate(source, locks=FileLock(path), waits=waits)
    assert end.verdict == ("completed", "destination", "paused")
    assert end.destination_pid is not None
    assert holder(path) == name_of(end.destination_pid)
    end.resume()
    await world.check_beats("destination")


async def test_a_refused_start_is_raised_as_what_it_is(world: World) -> None:
    """A caller can tell a hook's no, and a lock's, from a failure."""
    source = await world.boot()
    path = world.folder / "lock"
    path.write_text(json.dumps({"whimbrel_lock": 1, "holder": "host9:9@9"}))
    options = Options(log_path=world.folder / "log1", hooks=Hooks(before_start=no))
    with pytest.raises(HookRefused) as caught:
        await Migration(source.qmp, options=options).run()
    assert caught.value.hook == "before_start"
    options = Options(log_path=world.folder / "log2", locks=FileLock(path))
    with pytest.raises(LockRefused, match="held by host9"):
        await Migration(source.qmp, options=options).run()
    assert source.status() == "running"


async def test_without_hooks_and_locks_the_last_step_takes_no_time(world: World) -> None:
    """It is inside the outage: the order to resume follows at once."""
    source = await world.boot()
    end = await world.migrate(source)
    at_s = {line["command"]: line["t_ns"] / SECOND_NS for line in read_log(end.log) if line["kind"] == "command"}
    assert 0 <= at_s["resume-destination"] - at_s["claim"] < 0.05
    await world.check(source, end)
