"""Simulated QEMUs as processes, for tests; each is ended by its test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.guests import ask, until

PLAIN = ("-nodefaults", "-display", "none", "-machine", "pc-i440fx-7.2", "-accel", "tcg", "-m", "24512K")


@dataclass
class Simulated:
    """One process."""

    process: subprocess.Popen[bytes]
    monitors: list[Path]
    errors: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What it wrote."""
        return self.errors.read_text()

    async def ended(self) -> int:
        """Its exit code; waits for its end."""
        await until(lambda: self.process.poll() is not None, "it ends")
        return int(self.process.returncode)

    async def up(self) -> None:
        """Wait until it answers."""
        await until(lambda: _answers(self.monitors[-1]) or self.process.poll() is not None, "it answers")
        assert self.process.poll() is None, self.stderr


@dataclass
class Herd:
    """All that a test started."""

    folder: Path
    all: list[Simulated] = field(default_factory=list[Simulated])

    def start(self, *arguments: str, monitors: int = 2, plan: str | None = None) -> Simulated:
        """Start one.

        Args:
            arguments: QEMU's, besides the machine and the monitors.
            monitors: how many.
            plan: ``WHIMBREL_SIM``.
        """
        number = len(self.all)
        paths = [self.folder / f"q{number}{each}" for each in range(monitors)]
        words = [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]
        environment = {**os.environ, **({} if plan is None else {"WHIMBREL_SIM": plan})}
        errors = self.folder / f"e{number}"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "whimbrel.sim.wire", *PLAIN, *words, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
            )
        it = Simulated(process, paths, errors)
        self.all.append(it)
        return it

    async def started(self, *arguments: str, monitors: int = 2, plan: str | None = None) -> Simulated:
        """As `start`, and wait until it answers."""
        it = self.start(*arguments, monitors=monitors, plan=plan)
        await it.up()
        return it


@contextmanager
def herd(folder: Path) -> Generator[Herd]:
    """Whatever is started ends with the block."""
    it = Herd(folder)
    try:
        yield it
    finally:
        for each in it.all:
            each.process.kill()
            each.process.wait()


async def say(it: Simulated, *commands: str) -> list[object]:
    """Carry out commands on its last monitor."""
    return await asyncio.to_thread(ask, it.monitors[-1], *commands)


def _answers(path: Path) -> bool:
    try:
        ask(path)
    except OSError:
        return False
    return True
