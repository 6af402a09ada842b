"""A scripted monitor, and who listens to it, for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.ears import Ears
from tests.support.qmp_server import RUNNING, QmpServer
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[QmpServer]:
    """A monitor on a UNIX socket; its process is this one."""
    async with QmpServer(tmp_path / "q") as server:
        server.on("query-status", RUNNING)
        yield server


@pytest.fixture
async def ears() -> Ears:
    """Made on the test's own loop."""
    return Ears()


@pytest.fixture
async def monitor(server: QmpServer, ears: Ears) -> AsyncGenerator[Monitor]:
    """Connected to the scripted one."""
    monitor = await Monitor.connect(server.address, side="source", on_event=ears.on_event, on_lost=ears.on_lost)
    async with monitor:
        yield monitor


@pytest.fixture
async def remote() -> AsyncGenerator[QmpServer]:
    """A monitor on TCP, which does not tell whose process it is."""
    async with QmpServer() as listening:
        yield listening


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncGenerator[QemuProcess]:
    """A process that can be killed in the place of a QEMU."""
    process = await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")
    try:
        yield process
    finally:
        await process.kill()
