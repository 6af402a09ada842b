"""What happens to whom, as the operator's page has it: events in the middle of a transfer, and what they lead to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command_line import destination_lives, hear_log, running, transfers, whimbrel
from tests.support.guests import Guest, World, ask, read_log, state_of, until
from whimbrel.cli import BAD_INPUT, FAILED, OK


def destination_of(log: Path) -> int:
    """The pid of the destination that a log names."""
    (pid,) = (line["process"]["pid"] for line in read_log(log) if line["kind"] == "destination")
    return int(pid)


@dataclass(frozen=True)
class Event:
    """Something that happens in the middle of the transfer."""

    does: Callable[[Guest, Path], object]
    code: int
    verdict: tuple[str, str, str]
    """Outcome, owner, guest."""
    arguments: tuple[str, ...] = ()
    """Of the source's QEMU, besides the usual ones."""


EVENTS = {
    "the source dies": Event(lambda guest, _: guest.process.kill(), FAILED, ("failed", "source", "lost")),
    "the destination dies": Event(
        lambda _, log: os.kill(destination_of(log), signal.SIGKILL), FAILED, ("failed", "source", "running")
    ),
    "somebody pauses the guest": Event(lambda guest, _: guest.stop(), OK, ("completed", "destination", "paused")),
    "the guest resets": Event(
        lambda guest, _: ask(guest.spare, "system_reset"), OK, ("completed", "destination", "running")
    ),
    "the guest stops for good": Event(
        lambda guest, _: ask(guest.spare, "system_reset"),
        OK,
        ("completed", "destination", "paused"),
        ("-no-reboot", "-no-shutdown"),
    ),
    "somebody else calls it off": Event(
        lambda guest, _: ask(guest.spare, "migrate_cancel"), FAILED, ("failed", "source", "running")
    ),
}


@pytest.mark.parametrize("name", EVENTS)
async def test_an_event_in_the_transfer(world: World, tmp_path: Path, name: str) -> None:
    """The exit code and the report are those of the page, the world agrees, and nothing is left of it."""
    event, log = EVENTS[name], tmp_path / "logs" / "log"
    source = await world.boot(*event.arguments)
    async with running("migrate", source.qmp, "--bandwidth", "6MiB/s", "--log", log) as command:
        await transfers(log)
        event.does(source, log)
        assert await command.end() == event.code
    lines = hear_log(world, log)
    report = lines[-1]["report"]
    assert (report["outcome"], report["owner"], report["guest"]) == event.verdict
    assert [each.name for each in log.parent.iterdir()] == ["log"]
    assert state_of(lines[0]["guardian_pid"]) == ""
    if report["owner"] == "destination":
        await until(lambda: not source.alive, "the source process ends")
        arrived = ask(report["facts"]["destination_qmp"], "query-status")[0]
        assert arrived["running"] is (report["guest"] == "running")
    else:
        assert not destination_lives(world)
        assert source.status() == ("running" if report["guest"] == "running" else "")


async def test_a_manager_that_stands_is_not_replaced(world: World, tmp_path: Path) -> None:
    """SIGSTOP: it holds its log, so `resolve` is refused, its guardian sleeps, and it goes on where it stood."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--bandwidth", "3MiB/s", "--log", log) as command:
        await transfers(log)
        pid = command.process.pid
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: state_of(pid) == "T", "it stands")
        before = log.stat().st_size
        refused = await whimbrel("resolve", log)
        guardian_pid = hear_log(world, log)[0]["guardian_pid"]
        assert (refused.code, state_of(guardian_pid), log.stat().st_size) == (BAD_INPUT, "S", before)
        os.kill(pid, signal.SIGCONT)
        assert await command.end() == OK
    assert read_log(log)[-1]["report"]["outcome"] == "completed"
    await world.check_beats("destination")
