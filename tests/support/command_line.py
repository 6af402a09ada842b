"""The installed ``whimbrel`` command, run as its users run it: a process with its own streams and signals."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.guests import PATIENCE_S, World, lives, read_log, until
from whimbrel.cli import main

PROGRAM = Path(sys.executable).with_name("whimbrel")

SMALL_DEMO = ("demo", "--class", "hot:size=2MiB,rate=2MiB/s", "--class", "cold:size=6MiB", "--ram", "24512KiB")
"""A demonstration that takes a second and a half, most of it to start."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """Standard output as exactly one JSON object."""
        return cast("dict[str, Any]", json.loads(self.out))

    @property
    def sentence(self) -> str:
        """The one line that was said on standard error, without the program's name."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("whimbrel: ")]
        assert "Traceback" not in self.out + self.err
        return line.removeprefix("whimbrel: ")


class Running:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen = ""

    async def until_it_says(self, words: str) -> None:
        """Wait until its output, on either stream, holds these words.

        Raises:
            AssertionError: it ended before it did.
        """
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.seen:
                data = await self.process.stdout.read(4096)
                assert data, f"it ended without saying {words!r}: {self.seen}"
                self.seen += data.decode()

    async def end(self) -> int:
        """Wait for its end; its exit code. All that it said is in ``seen``."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            self.seen += (await self.process.stdout.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncGenerator[Running]:
    """Start a command with both of its streams in one; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ran:
    """Run a command in this process, which is quicker where no signal matters.

    A command that ends ignores signals from then on, for its process is about to be gone; this one is not.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return Ran(ended.value.code, out, err)


async def whimbrel(*arguments: str | Path) -> Ran:
    """Run a command to its end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, arguments), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(PATIENCE_S * 2):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def transfers(log: Path) -> None:
    """Wait until the source of a migration says that it sends: the phase is entered before ``migrate`` is sent."""
    await until(lambda: log.exists() and '"signal":"source-active"' in log.read_text(), "the transfer")


def hear_log(world: World, log: Path) -> list[dict[str, Any]]:
    """The lines of a log; the destination that it names is listened to, and ends with the test."""
    lines = read_log(log)
    for line in lines:
        if line["kind"] == "learnt":
            world.hear(line["facts"])
    return lines


def destination_lives(world: World) -> bool:
    """Whether a destination that some log named still runs."""
    return any(lives(pid) for pid in world.pids)
