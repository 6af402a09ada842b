"""Migrations whose manager was killed, and a QEMU with it or after it, settled by a new one."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from tests.support.guests import Guest, World, ask, is_there, lives, until
from tests.support.settling import (
    IN_PRECOPY,
    SLOWLY,
    at_command,
    destination_of,
    leave,
    rewrite,
    settle,
    with_host,
)
from tests.support.taps import FAILED, MOVED
from whimbrel.engine.states import Side


@pytest.mark.parametrize("death", [{**IN_PRECOPY, "bandwidth_bytes_per_s": SLOWLY}, at_command("quiesce")])
async def test_the_destination_died_meanwhile(world: World, death: dict[str, Any]) -> None:
    """Before the switchover is over the guest is the source's."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **death)
    await _kill(destination_of(log)["process"]["pid"])
    end = await settle(log)
    assert end.verdict == FAILED
    await world.check(source, end, before=before)


async def test_the_destination_died_before_it_was_told_to_run(world: World) -> None:
    """The source completed, and gets the guest back: nobody else can have it."""
    source = await world.boot()
    log = await leave(world, source, **at_command("claim"))
    await _kill(destination_of(log)["process"]["pid"])
    end = await settle(log)
    assert end.verdict == FAILED
    await world.check(source, end)


async def test_the_destination_died_after_it_was_told_to_run(world: World) -> None:
    """It may have run: the source's copy is not resumed."""
    source = await world.boot()
    log = await leave(world, source, **at_command("release-source"))
    await _kill(destination_of(log)["process"]["pid"])
    end = await settle(log)
    assert end.report.guest == "lost"
    assert source.status() in ("", "postmigrate")


@pytest.mark.parametrize(
    "death", [{"kind": "destination"}, {**IN_PRECOPY, "bandwidth_bytes_per_s": SLOWLY}, at_command("quiesce")]
)
async def test_the_source_died_meanwhile(world: World, death: dict[str, Any]) -> None:
    """The guest died with it, and the destination that had only a part of it is ended."""
    source = await world.boot()
    log = await leave(world, source, **death)
    await _end(source)
    end = await settle(log)
    assert end.verdict == ("failed", "source", "lost")
    assert not lives(destination_of(log)["process"]["pid"])
    assert not is_there(destination_of(log)["directory"])


async def test_the_source_died_after_it_had_said_completed(world: World) -> None:
    """It was out already: the destination gets the guest."""
    source = await world.boot()
    log = await leave(world, source, **at_command("claim"))
    await _end(source)
    end = await settle(log)
    assert end.verdict == MOVED
    await world.check_beats("destination")


async def test_the_source_died_in_limbo_with_nobody_listening(world: World) -> None:
    """It may have failed and run on before it died: what the destination has may be old, so it is held.

    A person who knows better says so.
    """
    source = await world.boot()
    log = await leave(world, source, kind="signal", fields={"signal": "source-device"})
    pid, qmp = destination_of(log)["process"]["pid"], destination_of(log)["address"]
    await until(lambda: source.status() == "postmigrate", "the source completes")
    await _end(source)
    end = await settle(log)
    assert end.verdict == ("failed", "limbo", "held")
    assert lives(pid)
    assert ask(qmp, "query-status")[0]["status"] == "paused"
    again = await settle(log, fenced=frozenset({Side.SOURCE}))
    assert again.verdict == MOVED
    await world.check_beats("destination")


@pytest.mark.parametrize("death", [{**IN_PRECOPY, "bandwidth_bytes_per_s": SLOWLY}, at_command("claim")])
async def test_both_died_meanwhile(world: World, death: dict[str, Any]) -> None:
    """There is nothing left but to say so, and to sweep up."""
    source = await world.boot()
    log = await leave(world, source, **death)
    await _kill(destination_of(log)["process"]["pid"])
    await _end(source)
    end = await settle(log)
    assert (end.report.outcome, end.report.guest) == ("failed", "lost")
    assert not is_there(destination_of(log)["directory"])


async def test_another_boot_has_ended_every_process_of_before(world: World) -> None:
    """Their pids may be anybody's by now: nobody is killed."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    pid = destination_of(log)["process"]["pid"]
    rewrite(log, lambda line: with_host(line, boot_id="00000000-0000-0000-0000-000000000000"))
    end = await settle(log)
    assert end.verdict == ("failed", "source", "lost")
    assert lives(pid)
    assert source.alive


async def test_a_log_of_another_host_says_nothing_of_processes_here(world: World) -> None:
    """The source is known by its badge; a destination at the same path may be anybody: it is left alone."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    rewrite(log, lambda line: with_host(line, boot_id="00000000-0000-0000-0000-000000000000", machine_id="other"))
    end = await settle(log)
    assert end.verdict == FAILED
    assert "discard-destination" in end.commands()
    await until(lambda: not lives(destination_of(log)["process"]["pid"]), "it ends by itself, its source called off")
    await world.check_beats("source")


async def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid), "the destination ends")


async def _end(source: Guest) -> None:
    source.process.kill()
    await asyncio.to_thread(source.process.wait)
