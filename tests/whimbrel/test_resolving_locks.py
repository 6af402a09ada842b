"""A manager that dies at its last step: whoever settles the migration leaves the guest's lock where the guest is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support import dying_claimant
from tests.support.guests import PATIENCE_S, Guest, World, end_of, lives, read_log, until
from tests.support.taps import FAILED, MOVED
from whimbrel.engine.states import Side
from whimbrel.qmp_driver.parties import party
from whimbrel.qmp_driver.processes import identify_peer
from whimbrel.resolving import resolve


async def die_at_the_last_step(world: World, source: Guest, when: str) -> tuple[Path, Path, int]:
    """A log that has no end, the lock, and the destination."""
    log, lock = world.folder / "log", world.folder / "lock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, dying_claimant.__file__, str(source.qmp), str(log), str(lock), when
    )
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == -signal.SIGKILL
    facts = {key: value for line in read_log(log) if line["kind"] == "learnt" for key, value in line["facts"].items()}
    world.hear(facts)
    return log, lock, facts["destination_pid"]


def holder(lock: Path) -> str:
    """Who holds it, read with nothing but a JSON decoder."""
    return str(json.loads(lock.read_text())["holder"])


def name_of(pid: int) -> str:
    """What the lock calls a QEMU."""
    return party(Side.SOURCE, "", identify_peer(pid)).name


@pytest.mark.parametrize("when", ["asked", "moved"])
async def test_the_guest_and_its_lock_arrive(world: World, when: str) -> None:
    """Whether the lock was moved already, nobody knows: it is handed over again, which changes nothing where it was."""
    source = await world.boot()
    log, lock, destination = await die_at_the_last_step(world, source, when)
    assert holder(lock) == name_of(source.pid if when == "asked" else destination)
    end = end_of(await resolve(log), log)
    assert end.verdict == MOVED
    assert holder(lock) == name_of(destination)
    await world.check(source, end)


@pytest.mark.parametrize("when", ["asked", "moved"])
async def test_the_lock_comes_back_from_a_destination_that_died_too(world: World, when: str) -> None:
    """By the name that the log has for it: its process is gone."""
    source = await world.boot()
    log, lock, destination = await die_at_the_last_step(world, source, when)
    os.kill(destination, signal.SIGKILL)
    await until(lambda: not lives(destination), "the destination ends")
    end = end_of(await resolve(log), log)
    assert end.verdict == FAILED
    assert holder(lock) == name_of(source.pid)
    await world.check(source, end)
