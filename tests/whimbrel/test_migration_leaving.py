"""Leaving a migration early, by whatever way, never strands its guest; the caller's own mistakes are named."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests import PATIENCE_S, Guest, World, ask, read_log, until
from whimbrel.engine.errors import MigrationCancelled, MigrationFailed, WhimbrelError
from whimbrel.engine.policy import Objectives, Observation
from whimbrel.migration import Migration
from whimbrel.qmp_driver.hooks import HookContext, Hooks
from whimbrel.qmp_driver.options import Options

BOTH_LOOPS = True

SLOW = Objectives(bandwidth_bytes_per_s=2_000_000)
"""Some seconds of pre-copy for the test's small guest."""

EXAMPLE = (Path(__file__).resolve().parents[2] / "README.md").read_text().split("```python\n")[1].split("```")[0]

LEAVES = """
import asyncio, sys
import {loop}
import whimbrel

async def main():
    options = whimbrel.Options(objectives=whimbrel.Objectives(bandwidth_bytes_per_s=2_000_000), log_path={log!r})
    migration = whimbrel.Migration(sys.argv[1], options=options)
    task = asyncio.create_task(migration.run())
    async for glance in migration.progress():
        if glance.transferred_bytes:
            print("moving", flush=True)
            {leave}

{loop}.run(main())
"""


def commands(log: Path) -> list[str]:
    return [line["command"] for line in read_log(log) if line["kind"] == "command"]


async def still_runs(world: World, source: Guest) -> None:
    """The guest runs on the source, as QEMU says and as its heartbeats show, and nothing of ours is left."""
    assert source.status() == "running"
    await world.check_beats("source")


async def test_leaving_the_block_by_an_error_calls_it_off(world: World, tmp_path: Path) -> None:
    source = await world.boot()
    options = Options(objectives=SLOW, log_path=tmp_path / "log")
    migration = Migration(source.qmp, options=options)

    async def leave() -> None:
        async with migration:
            async for glance in migration.progress():
                if glance.transferred_bytes:
                    raise KeyError("thing")

    with pytest.raises(KeyError):
        await leave()
    assert migration.report is not None
    assert (migration.report.outcome, migration.report.owner) == ("cancelled", "source")
    await still_runs(world, source)


async def test_leaving_the_block_at_its_end_waits_for_the_end(world: World, tmp_path: Path) -> None:
    source = await world.boot()
    async with Migration(source.qmp, options=Options(log_path=tmp_path / "log")) as migration:
        pass
    assert migration.report is not None
    assert migration.report.outcome == "completed"
    assert migration.started is not None
    await migration.started.discard()


async def test_a_migration_is_run_once(world: World, tmp_path: Path) -> None:
    migration = Migration(tmp_path / "nobody", options=Options(log_path=tmp_path / "log"))
    with pytest.raises(WhimbrelError):
        await migration.run()
    with pytest.raises(WhimbrelError, match="been run already"):
        await migration.run()


async def test_progress_ends_when_it_could_not_even_begin(tmp_path: Path) -> None:
    """A log on a full disk: nobody who follows hangs for ever."""
    migration = Migration(tmp_path / "nobody", options=Options(log_path=Path("/dev/full")))
    with pytest.raises(WhimbrelError):
        await migration.run()
    async with asyncio.timeout(PATIENCE_S):
        assert [glance async for glance in migration.progress()] == []


async def test_a_cancel_before_the_start_comes_after_the_header(world: World, tmp_path: Path) -> None:
    source = await world.boot()
    migration = Migration(source.qmp, options=Options(log_path=tmp_path / "log"))
    migration.cancel("changed my mind")
    with pytest.raises(MigrationCancelled, match="changed my mind"):
        await migration.run()
    kinds = [line["kind"] for line in read_log(tmp_path / "log")]
    assert (kinds[0], kinds[-1]) == ("header", "end")
    await still_runs(world, source)


@pytest.mark.parametrize("leave", ["return", "raise SystemExit(3)"])
async def test_a_loop_that_is_torn_down_around_it_sees_it_to_its_end(
    world: World, tmp_path: Path, leave: str, request: pytest.FixtureRequest
) -> None:
    """``asyncio.run`` cancels every task at once, the monitors' own too: connected anew, called off, ended."""
    source = await world.boot()
    log = tmp_path / "log"
    loop = "uvloop" if "uvloop" in request.node.name else "asyncio"
    script = tmp_path / "leaves.py"
    script.write_text(
        LEAVES.format(loop=loop, log=str(log), leave=leave)
        .replace(str(log), str(log))
        .replace(f"log_path='{log}'", f"log_path=__import__('pathlib').Path('{log}')")
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(source.qmp), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S * 2):
        _, errors = await process.communicate()
    assert process.returncode == (3 if "SystemExit" in leave else 0), errors.decode()
    last = read_log(log)[-1]
    assert last["kind"] == "end"
    assert (last["report"]["outcome"], last["report"]["owner"]) == ("cancelled", "source")
    await still_runs(world, source)


async def test_ctrl_c_in_the_readmes_example(world: World, tmp_path: Path) -> None:
    source = await world.boot()
    slow = EXAMPLE.replace("downtime_s=0.1", "downtime_s=0.1, bandwidth_bytes_per_s=2_000_000")
    assert slow != EXAMPLE
    script = tmp_path / "example.py"
    script.write_text(slow)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        str(script),
        str(source.qmp),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S * 2):
        while b"transfer: " not in await process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        await process.communicate()
    (log,) = (Path(os.environ["XDG_STATE_HOME"]) / "whimbrel" / "log").glob("*.jsonl")
    assert read_log(log)[-1]["report"]["outcome"] == "cancelled"
    await still_runs(world, source)


@pytest.mark.parametrize("answer", [None, "nonsense"])
async def test_a_policy_that_answers_nonsense_is_named_at_once(world: World, tmp_path: Path, answer: Any) -> None:
    def policy(seen: Observation) -> Any:
        return answer

    source = await world.boot()
    options = Options(log_path=tmp_path / "log", objectives=Objectives(abort_on_fault=True))
    migration = Migration(source.qmp, options=options, policy=policy)
    with pytest.raises(MigrationFailed, match=r"the policy policy failed when it was asked .* which is no Decision"):
        await migration.run()
    await still_runs(world, source)


async def test_a_hook_that_raises_a_cancellation_of_its_own_is_a_no(world: World, tmp_path: Path) -> None:
    """It awaited something that was cancelled: the guest does not stand stopped until a deadline passes."""

    async def hook(_: HookContext) -> None:
        raise asyncio.CancelledError

    source = await world.boot()
    options = Options(log_path=tmp_path / "log", hooks=Hooks(source_stopped=hook))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(MigrationFailed, match="cut short"):
            await Migration(source.qmp, options=options).run()
    await still_runs(world, source)


async def test_the_destination_is_left_with_its_own_settings(world: World, tmp_path: Path) -> None:
    """``pause-before-switchover`` left on would stop the guest for good in somebody else's next migration."""
    source = await world.boot()
    before = {each["capability"]: each["state"] for each in ask(source.spare, "query-migrate-capabilities")[0]}
    migration = Migration(source.qmp, options=Options(log_path=tmp_path / "log"))
    await migration.run()
    assert migration.started is not None
    (found,) = ask(migration.started.relocalised["qmp-human"], "query-migrate-capabilities")
    await migration.started.discard()
    assert {each["capability"]: each["state"] for each in found} == before


async def test_without_a_control_socket_it_goes_on_and_says_so(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "log.control").mkdir()
    source = await world.boot()
    migration = Migration(source.qmp, options=Options(log_path=log))
    report = await migration.run()
    assert migration.started is not None
    await migration.started.discard()
    assert any("control socket" in note for note in report.notes)


async def test_the_log_tells_of_deadlines_too(world: World, tmp_path: Path) -> None:
    """A frozen destination stalls the stream: that it was noticed is a line of the log."""
    source = await world.boot()
    migration = Migration(source.qmp, options=Options(objectives=SLOW, log_path=tmp_path / "log", stall_s=0.5))
    task = asyncio.create_task(migration.run())
    async for glance in migration.progress():
        if glance.transferred_bytes:
            os.kill(migration.facts["destination_pid"], signal.SIGSTOP)
            break
    with pytest.raises(MigrationFailed, match="nothing was sent"):
        await task
    assert "stalled" in [line.get("signal") for line in read_log(tmp_path / "log")]
    assert commands(tmp_path / "log")[-3:] == ["cancel-migration", "discard-destination", "restore-source"]
    await until(lambda: source.status() == "running", "the source runs")
