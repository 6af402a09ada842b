"""Commands that are given logs: of migrations that run, were left, or have ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import destination_lives, hear_log, here, running, transfers, whimbrel
from tests.support.guests import Guest, World, lives, until
from whimbrel.cli import BAD_INPUT, CANCELLED, FAILED, OK, UNSETTLED

DYING = Path(__file__).parents[2] / "support" / "dying_manager.py"


async def test_a_running_migration_is_cancelled_from_elsewhere(world: World, tmp_path: Path) -> None:
    """``cancel`` waits for its end; ``report`` says that there is none yet, and which phase it is in."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--bandwidth", "1MiB/s", "--log", log) as command:
        await command.until_it_says("2/5 transfer")
        early = await whimbrel("report", log)
        cancelled = await whimbrel("cancel", log, "--json")
        assert await command.end() == CANCELLED
    assert early.code == BAD_INPUT
    assert "still under way; last seen in precopy, owner source" in early.sentence
    assert cancelled.code == OK
    assert cancelled.object["outcome"] == "cancelled"
    hear_log(world, log)
    assert not destination_lives(world)
    await world.check_beats("source")
    late = await whimbrel("cancel", log)
    assert late.code == BAD_INPUT
    assert "(this one cancelled, and the guest belongs to: source)" in late.sentence


async def test_the_log_of_a_manager_that_died(world: World, tmp_path: Path) -> None:
    """``cancel`` and ``report`` say so, with where it was last seen."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--bandwidth", "1MiB/s", "--log", log, "--no-guardian") as command:
        await transfers(log)
        command.process.kill()
        await command.end()
    hear_log(world, log)
    for name in ("cancel", "report"):
        ran = await whimbrel(name, log)
        assert ran.code == BAD_INPUT
        assert "was left by a manager that died; last seen in precopy, owner source" in ran.sentence


# ---- resolve


async def leave(source: Guest, log: Path) -> None:
    """Have a manager die while the guest stands stopped, with nobody to take over."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", DYING, source.qmp, log)
    assert await process.wait() == -signal.SIGKILL


async def test_a_left_migration_is_settled(world: World, tmp_path: Path) -> None:
    """``resolve`` shows its progress, prints the report, and again: ``history`` tells of it before and after."""
    log = tmp_path / "log"
    source = await world.boot()
    await leave(source, log)
    assert source.status() != "running"
    before = await whimbrel("history", "--folder", tmp_path)
    settled = await whimbrel("resolve", log, "--json")
    hear_log(world, log)
    assert settled.code == OK, settled.err
    assert (settled.object["outcome"], settled.object["owner"]) == ("completed", "destination")
    assert settled.object["log"] == str(log)
    assert "3/5 stop the source" in settled.err
    await world.check_beats("destination")
    again = await whimbrel("resolve", log)
    assert (again.code, again.err) == (OK, "")
    assert "COMPLETED" in again.out
    assert f"log: {log}\n" in again.out
    after = await whimbrel("history", "--folder", tmp_path)
    assert "left in switchover  owner: source" in before.out
    assert f"→ whimbrel resolve {log}\n" in before.out
    assert "completed  owner: destination, running  downtime " in after.out


async def test_a_migration_that_is_looked_after_is_not_settled(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused in one sentence, and nothing happens to it; ``history`` says that it is under way."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--bandwidth", "3MiB/s", "--log", log) as command:
        await command.until_it_says("2/5 transfer")
        refused = await whimbrel("resolve", log)
        listed = await whimbrel("history", "--folder", tmp_path, "--json")
        assert await command.end() == OK
    assert refused.code == BAD_INPUT
    assert "a log that no manager writes to" in refused.sentence
    (entry,) = listed.object["migrations"]
    assert (entry["standing"], entry["phase"]) == ("under way", "precopy")
    assert entry["advice"] == f"whimbrel cancel {log}"
    hear_log(world, log)
    await world.check_beats("destination")
    _see_predictions(capsys, log)


def _see_predictions(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    """Without a plan it was predicted after its first iteration: ``report`` compares, ``history`` learns from it."""
    assert "Predicted after the first iteration (" in here(capsys, "report", log).out
    (entry,) = here(capsys, "history", "--folder", log.parent, "--json").object["migrations"]
    assert abs(entry["bytes_off"]) < 0.5
    told = here(capsys, "history", "--folder", log.parent, "--predictions", "--json")
    (learnt,) = told.object["calibrations"]
    name = os.uname().nodename
    assert learnt["hosts"] == {"source": name, "destination": name, "stream": "127.0.0.1"}
    assert (learnt["kind"]["accelerator"], learnt["kind"]["vcpus"], learnt["migrations"]) == ("tcg", 1, 1)
    assert learnt["typical"]["preparation_s"]["source"] == "from 1 migration"
    assert {each["basis"] for each in learnt["quality"]} == {"first iteration"}


async def test_what_cannot_be_settled_yet_says_what_would(world: World, tmp_path: Path) -> None:
    """Exit code 5 and the commands; and when the source can be reached again, the first of them does it."""
    log = tmp_path / "log"
    source = await world.boot()
    await leave(source, log)
    with socket.socket(socket.AF_UNIX) as holder:
        holder.connect(str(source.qmp))
        unsettled = await whimbrel("resolve", log)
    assert unsettled.code == UNSETTLED
    assert "when the source can be reached again: whimbrel resolve " in unsettled.sentence
    assert f"certain that it has ended for good: whimbrel resolve {log} --i-fenced source" in unsettled.sentence
    (entry,) = (await whimbrel("history", "--folder", tmp_path, "--json")).object["migrations"]
    assert (entry["guest"], entry["advice"]) == ("unconfirmed", f"whimbrel resolve {log}")
    settled = await whimbrel("resolve", log)
    assert settled.code in (FAILED, CANCELLED)
    assert "the guest runs on" in settled.sentence
    hear_log(world, log)
    assert source.status() == "running"
    assert not destination_lives(world)
    await world.check_beats("source")


async def test_a_side_that_is_fenced_is_not_asked(world: World, tmp_path: Path) -> None:
    """The destination of a migration that was left ends where it can't be reached: a person vouches for that."""
    log = tmp_path / "log"
    source = await world.boot()
    await leave(source, log)
    (pid,) = {line["facts"]["destination_pid"] for line in hear_log(world, log) if _names_destination(line)}
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid), "the destination ends")
    settled = await whimbrel("resolve", log, "--i-fenced", "destination")
    assert settled.code == FAILED
    assert source.status() == "running"
    await world.check_beats("source")


async def test_settling_is_called_off_where_that_is_safe(world: World, tmp_path: Path) -> None:
    """By a signal, as a migration is; the guest stays where it is."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--bandwidth", "1MiB/s", "--log", log, "--no-guardian") as command:
        await transfers(log)
        command.process.kill()
        await command.end()
    async with running("resolve", log) as command:
        await command.until_it_says("2/5 transfer")
        command.process.terminate()
        assert await command.end() == CANCELLED
    hear_log(world, log)
    assert not destination_lives(world)
    await world.check_beats("source")


# ---- history


def test_without_any_logs_there_is_no_history(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither in the default folder, which may not even be there, nor in another."""
    assert here(capsys, "history").out == "no migrations yet\n"
    assert here(capsys, "history", "--folder", tmp_path, "--json").object == {"migrations": []}
    assert here(capsys, "history", "--predictions").out == "no migration that could teach anything yet\n"
    assert here(capsys, "history", "--folder", tmp_path, "--predictions", "--json").object == {"calibrations": []}


async def test_history_is_of_the_default_folder(world: World) -> None:
    """Where ``migrate`` puts its log unless it is told to."""
    source = await world.boot()
    moved = await whimbrel("migrate", source.qmp, "--json")
    hear_log(world, Path(moved.object["log"]))
    (entry,) = (await whimbrel("history", "--json")).object["migrations"]
    assert entry["log"] == moved.object["log"]
    assert (entry["outcome"], entry["source"]) == ("completed", str(source.qmp))
    assert entry["downtime_s"] == moved.object["downtime"]["total_s"]


def _names_destination(line: dict[str, Any]) -> bool:
    return line["kind"] == "learnt" and "destination_pid" in line["facts"]


# ---- report


async def test_the_report_can_be_had_again(world: World, tmp_path: Path) -> None:
    """``report`` prints, character by character, what ``migrate`` ended with; as an object, too."""
    log = tmp_path / "log"
    source = await world.boot()
    moved = await whimbrel("migrate", source.qmp, "--log", log)
    assert (moved.code, moved.err) == (OK, "")
    again, as_object = await asyncio.gather(whimbrel("report", log), whimbrel("report", log, "--json"))
    assert again.out == moved.out[moved.out.index("COMPLETED") :]
    assert as_object.object["outcome"] == "completed"
    assert as_object.object["log"] == str(log)
    hear_log(world, log)
    await world.check_beats("destination")
    await until(lambda: not source.alive, "the source process ends")
