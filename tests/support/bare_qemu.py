"""Real QEMUs without a guest in them, for tests: started, greeted, and ended by their own pid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from whimbrel.engine.errors import CannotConnect
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess

QEMU = "/usr/bin/qemu-system-x86_64"
ODD_RAM = "20000K"
"""No multiple of 256 KiB, so that nothing here is about lost guest writes unless a test says so."""

BARE = ("-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none")


@dataclass
class BareQemu:
    """A running QEMU: its process, and where its two monitors are. ``socket`` has been held by nobody yet."""

    process: QemuProcess
    socket: str
    second_socket: str


@asynccontextmanager
async def bare_qemu(folder: Path, *arguments: str, binary: str = QEMU) -> AsyncGenerator[BareQemu]:
    """Start a QEMU with these arguments and two monitors, wait until it answers, and kill it in the end.

    ``folder`` is its working directory too.
    """
    sockets = [str(folder / f"{name}.qmp") for name in ("a", "b")]
    monitors = [word for path in sockets for word in ("-qmp", f"unix:{path},server=on,wait=off")]
    argv = [binary, *arguments, *monitors]
    process = await QemuProcess.spawn(argv, stderr_path=folder / "bare.stderr", cwd=folder)
    try:
        await until_it_answers(process, sockets[1])
        yield BareQemu(process, *sockets)
    finally:
        await process.kill()


def left_in(folder: Path, pattern: str = "*") -> list[str]:
    """The names in a folder that match a pattern."""
    return sorted(path.name for path in folder.glob(pattern))


async def until_it_answers(process: QemuProcess, socket: str) -> None:
    """Wait for the greeting of a QEMU that is starting; a bounded wait, for there is no event to wait for."""
    async with asyncio.timeout(20):
        while True:
            assert not process.exited, process.stderr_tail()
            try:
                monitor = await Monitor.connect(socket, side="source")
            except CannotConnect:
                await asyncio.sleep(0.005)
            else:
                await monitor.close()
                return
