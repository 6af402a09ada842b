"""ctrl-C, SIGTERM and a closed terminal, at every stage: a documented exit code, a whole log, nothing left running.

That nothing is left of a demonstration is seen by the fixture of every test, which looks for processes in its folders.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.command_line import SMALL_DEMO, Running, destination_lives, hear_log, running
from tests.support.guests import PATIENCE_S, World, read_log
from whimbrel.cli import CANCELLED, OK

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

SLOW = ("--bandwidth", "1MiB/s")
"""Eight seconds and more for the guests of these tests: what is sent to them is sent while they move."""


async def send(command: Running, numbers: tuple[signal.Signals, ...]) -> int:
    """Send signals, one after the other; the exit code."""
    for number in numbers:
        os.kill(command.process.pid, number)
    code = await command.end()
    assert "Traceback" not in command.seen, command.seen
    assert "Exception ignored" not in command.seen, command.seen
    return code


@pytest.mark.parametrize("numbers", [(INT,), (TERM,), (INT, INT, TERM)], ids=str)
async def test_a_demo_that_boots_is_called_off(numbers: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    """No migration began, so there is no log, and no QEMU is left, however often it was told."""
    log = tmp_path / "log"
    async with running(*SMALL_DEMO, "--log", log) as command:
        await command.until_it_says("booting")
        assert await send(command, numbers) == CANCELLED
    assert "whimbrel: stopped before anything was begun" in command.seen
    assert not log.exists()


@pytest.mark.parametrize(
    ("words", "numbers"),
    [("1/5 prepare", (INT,)), ("2/5 transfer", (INT,)), ("2/5 transfer", (TERM,)), ("2/5 transfer", (INT, INT, HUP))],
    ids=str,
)
async def test_a_demo_that_moves_is_called_off(words: str, numbers: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    """The guest stays with the source, its memory is verified, and the log tells the end."""
    log = tmp_path / "log"
    async with running(*SMALL_DEMO, *SLOW, "--log", log) as command:
        await command.until_it_says(words)
        assert await send(command, numbers) == CANCELLED
    end = read_log(log)[-1]
    assert end["kind"] == "end"
    assert (end["report"]["outcome"], end["report"]["owner"]) == ("cancelled", "source")
    assert command.seen.count("calling it off") == 1
    assert "CANCELLED" in command.seen


async def test_a_demo_past_the_switchover_goes_on_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with running(*SMALL_DEMO, "--log", log) as command:
        await command.until_it_says("asking the guest")
        assert await send(command, (INT, TERM)) == OK
    assert read_log(log)[-1]["report"]["outcome"] == "completed"


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("1/5 prepare", (INT,)),
        ("1/5 prepare", (TERM, TERM)),
        ("2/5 transfer", (INT,)),
        ("2/5 transfer", (TERM, INT)),
        ("2/5 transfer", (HUP,)),
    ],
    ids=str,
)
async def test_a_migration_is_called_off(
    world: World, tmp_path: Path, words: str, numbers: tuple[signal.Signals, ...]
) -> None:
    """The guest beats on at the source with its settings as they were, and the destination is gone."""
    log = tmp_path / "log"
    source = await world.boot()
    before = source.settings()
    async with running("migrate", source.qmp, *SLOW, "--log", log) as command:
        await command.until_it_says(words)
        assert await send(command, numbers) == CANCELLED
    assert hear_log(world, log)[-1]["report"]["outcome"] == "cancelled"
    assert source.status() == "running"
    assert source.settings() == before
    assert not destination_lives(world)
    await world.check_beats("source")


@pytest.mark.parametrize("number", [INT, TERM, HUP], ids=str)
async def test_a_migration_past_the_switchover_ends_first(world: World, tmp_path: Path, number: signal.Signals) -> None:
    """From here on it can't be called off: the guest is the destination's, and the code says so."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--log", log) as command:
        await command.until_it_says("5/5 continue")
        assert await send(command, (number,)) == OK
    assert hear_log(world, log)[-1]["report"]["owner"] == "destination"
    assert "COMPLETED" in command.seen
    await world.check_beats("destination")


async def test_a_guest_alone_ends_early_with_a_summary() -> None:
    async with running("guest", "--class", "hot:size=2MiB,rate=2MiB/s", "--ram", "24512KiB", "--seconds", "10m") as it:
        await it.until_it_says("booting")
        assert await send(it, (INT,)) == OK
    assert "none lost, none torn" in it.seen


async def test_a_preflight_is_stopped_while_it_waits(short_folder: Path) -> None:
    """A ctrl-C while a monitor that somebody else holds keeps it waiting: a plain end."""
    connected = asyncio.Event()
    held = short_folder / "held"

    async def never_greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(never_greet, held)
    async with server, running("preflight", held) as command:
        await asyncio.wait_for(connected.wait(), PATIENCE_S)
        assert await send(command, (INT,)) == CANCELLED
    assert command.seen == "whimbrel: stopped before anything was begun\n"
