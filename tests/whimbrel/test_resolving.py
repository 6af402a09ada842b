"""Migrations whose manager is killed at every stage, settled by a new one on real QEMUs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from typing import Any

import pytest

from tests.support import mortal_manager
from tests.support.guests import World, end_of, is_there, read_log, until
from tests.support.settling import (
    IN_PRECOPY,
    SLOWLY,
    at_command,
    commands_of,
    destination_of,
    leave,
    settle,
)
from tests.support.taps import CALLED_OFF, FAILED, MOVED
from whimbrel.qmp_driver.control import control_path
from whimbrel.resolving import Resolution


@pytest.mark.parametrize(
    "death",
    [
        pytest.param({"kind": "signal", "fields": {"signal": "start"}}, id="before-anything"),
        pytest.param({"kind": "side", "fields": {"side": "source"}}, id="source-known"),
        pytest.param({"kind": "starting"}, id="destination-about-to-be-started"),
        pytest.param({"kind": "destination"}, id="destination-started"),
        pytest.param({"kind": "settings", "fields": {"side": "destination"}}, id="settings-about-to-change"),
        pytest.param(at_command("migrate"), id="migrate-about-to-be-sent"),
    ],
)
async def test_what_had_not_begun_is_backed_out_of(world: World, death: dict[str, Any]) -> None:
    """The guest runs on, the destination and its folder are gone, the source's settings are as they were."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **death)
    end = await settle(log)
    assert end.verdict == FAILED
    assert end.report.why == "the manager died"
    await world.check(source, end, before=before)
    for line in read_log(log):
        if line["kind"] == "starting":
            assert not is_there(line["directory"])
    assert not control_path(log).exists()


@pytest.mark.parametrize(
    "death",
    [
        pytest.param({**IN_PRECOPY, "bandwidth_bytes_per_s": 4 * SLOWLY}, id="in-pre-copy"),
        pytest.param(at_command("quiesce"), id="in-pre-switchover"),
        pytest.param(at_command("continue"), id="continue-about-to-be-sent"),
        pytest.param({"kind": "signal", "fields": {"signal": "continue-done"}}, id="continued"),
        pytest.param(at_command("claim"), id="source-out"),
        pytest.param(at_command("resume-destination"), id="cont-about-to-be-sent"),
        pytest.param({"kind": "signal", "fields": {"signal": "destination-running"}}, id="running"),
        pytest.param(at_command("release-source"), id="releasing"),
        pytest.param({"kind": "step", "fields": {"phase": "completed"}}, id="over-and-not-said"),
    ],
)
async def test_what_was_under_way_is_carried_on(world: World, death: dict[str, Any]) -> None:
    """The same migration goes on to its end: ``migrate`` is sent once, and the guest's memory is whole."""
    source = await world.boot()
    log = await leave(world, source, **death)
    end = await settle(log)
    assert end.verdict == MOVED
    await world.check(source, end)
    assert commands_of(log).count("migrate") == 1
    lines = read_log(log)
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    times = [line["t_ns"] for line in lines]
    assert times == sorted(times), "the clock went back"


@pytest.mark.parametrize("command", ["cancel-migration", "discard-destination", "restore-source"])
async def test_what_was_being_called_off_stays_called_off(world: World, command: str) -> None:
    """Whatever of it was done already is done again, which does no harm."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **at_command(command), cancel_at="source-active", bandwidth_bytes_per_s=SLOWLY)
    end = await settle(log)
    assert end.verdict == CALLED_OFF
    await world.check(source, end, before=before)


async def test_a_resolution_that_is_killed_too(world: World) -> None:
    """A log may see any number of managers."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    for moment in ("after signal source-device", "after command release-source"):
        act = mortal_manager.Act(at=moment, what="kill-manager")
        words = mortal_manager.command_for(mortal_manager.Orders(log=str(log), acts=(act,)))
        process = await asyncio.create_subprocess_exec(*words, cwd=mortal_manager.ROOT, stdout=subprocess.DEVNULL)
        assert await process.wait() == -signal.SIGKILL
    end = await settle(log)
    assert end.verdict == MOVED
    await world.check(source, end)
    assert sum(line["kind"] == "adopted" for line in read_log(log)) == 3


async def test_a_resolution_that_is_cancelled_ends_first(world: World) -> None:
    """After ``migrate-continue`` nothing can be called off any more."""
    source = await world.boot()
    log = await leave(world, source, **at_command("continue"))
    resolution = Resolution(log)
    work = asyncio.create_task(resolution.run())
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert resolution.report is not None
    await world.check(source, end_of(resolution.report, log))


async def test_a_destination_of_others_is_carried_on_to(world: World) -> None:
    """It is found by its monitor, and proven by its process."""
    source = await world.boot()
    waiting = await world.boot("-S", "-incoming", "defer", listen=False)
    await world.monitor.attach("destination", waiting.serial)
    log = await leave(world, source, **at_command("quiesce"), to=str(waiting.qmp))
    end = await settle(log)
    assert end.verdict == MOVED
    assert destination_of(log)["owned"] is False
    await until(lambda: not source.alive, "the source process ends")
    assert waiting.status() == "running"
    await world.check_beats("destination")


async def test_it_can_be_called_off(world: World) -> None:
    """As any migration that is before its switchover; and it is seen to its end."""
    source = await world.boot()
    log = await leave(world, source, **IN_PRECOPY, bandwidth_bytes_per_s=SLOWLY)
    resolution = Resolution(log)
    work = asyncio.create_task(resolution.run())
    async for glance in resolution.progress():
        if glance.phase == "precopy":
            resolution.cancel()
    report = await work
    assert (report.outcome, report.owner, report.guest) == CALLED_OFF
    assert resolution.report == report
    await world.check(source, end_of(report, log))


async def test_a_guest_that_its_owner_paused_meanwhile_arrives_paused(world: World) -> None:
    """Nobody heard the STOP; its standing still in pre-copy says enough."""
    source = await world.boot()
    log = await leave(world, source, **IN_PRECOPY, bandwidth_bytes_per_s=4 * SLOWLY)
    source.stop()
    end = await settle(log)
    assert end.verdict == ("completed", "destination", "paused")
    assert end.destination_status() == "paused"
