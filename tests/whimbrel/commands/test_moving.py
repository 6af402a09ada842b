"""The guest's lock on the command line; what else moves a guest is tested with the command line as a whole."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.support.command_line import hear_log, running, transfers, whimbrel
from tests.support.guests import World, lives, until
from whimbrel.cli import NOT_BEGUN, OK


def holder(lock: Path) -> str:
    """Who holds the guest's lock."""
    return str(json.loads(lock.read_text())["holder"])


async def test_the_lock_goes_over_with_the_guest(world: World, tmp_path: Path) -> None:
    """And is given by its name relative to the folder in which the command was run; the log has it whole."""
    lock, log = tmp_path / "vm.lock", tmp_path / "log"
    source = await world.boot()
    moved = await whimbrel("migrate", source.qmp, "--lock-file", lock, "--log", log)
    assert moved.code == OK, moved.err
    lines = hear_log(world, log)
    facts = lines[-1]["report"]["facts"]
    assert lines[0]["lock"] == {"path": str(lock), "source": None, "destination": None}
    assert holder(lock) == facts["destination_name"] != facts["source_name"]


async def test_a_lock_of_somebody_else_forbids_it(world: World, tmp_path: Path) -> None:
    """Before anything was touched; the lock stays theirs."""
    lock = tmp_path / "vm.lock"
    lock.write_text(json.dumps({"whimbrel_lock": 1, "holder": "another"}))
    source = await world.boot()
    before = source.settings()
    refused = await whimbrel("migrate", source.qmp, "--lock-file", lock)
    assert refused.code == NOT_BEGUN
    assert "another" in refused.sentence
    assert holder(lock) == "another"
    assert source.settings() == before
    await world.check_beats("source")


async def test_the_lock_is_seen_to_by_whoever_settles_it(world: World, tmp_path: Path) -> None:
    """The manager is killed; its guardian knows the lock from the log."""
    lock, log = tmp_path / "vm.lock", tmp_path / "log"
    source = await world.boot()
    slow = ("--bandwidth", "3MiB/s")
    async with running("migrate", source.qmp, "--lock-file", lock, "--log", log, *slow) as command:
        await transfers(log)
        command.process.send_signal(signal.SIGKILL)
        await command.end()
    guardian_pid = hear_log(world, log)[0]["guardian_pid"]
    await until(lambda: not lives(guardian_pid), "the guardian ends")
    report = hear_log(world, log)[-1]["report"]
    assert (report["outcome"], holder(lock)) == ("completed", report["facts"]["destination_name"])
    await world.check_beats("destination")
