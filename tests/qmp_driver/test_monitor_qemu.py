"""One QMP connection to a real QEMU."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.ears import Ears
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, QemuRefused
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess
from whimbrel.qmp_driver.replies import RunStatus

BOTH_LOOPS = True  # see conftest.py


async def boot(tmp_path: Path, *arguments: str) -> QemuProcess:
    """Start a QEMU without a machine, and wait until its monitor's socket is there."""
    path = tmp_path / "qmp"
    argv = ["qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults"]
    argv += ["-qmp", f"unix:{path},server=on,wait=off", *arguments]
    process = await QemuProcess.spawn(argv, stderr_path=tmp_path / "stderr")
    while not process.exited:
        try:
            async with await Monitor.connect(path, side="source"):
                return process
        except CannotConnect:
            await asyncio.sleep(0)  # not listening yet
    raise AssertionError(process.stderr_tail())


async def test_real_qemu_from_greeting_to_quit(tmp_path: Path, ears: Ears) -> None:
    """Version, peer, an answer, a refusal, a descriptor, and events up to the very end of a real QEMU."""
    process = await boot(tmp_path)
    try:
        path = tmp_path / "qmp"
        monitor = await Monitor.connect(path, side="source", on_event=ears.on_event, on_lost=ears.on_lost)
        assert monitor.version >= (6, 2, 0)
        assert monitor.peer_pid == process.pid
        assert await monitor.call(RunStatus, "query-status") == RunStatus("running", True)
        with pytest.raises(QemuRefused) as refused:
            await monitor.execute("no-such-command")
        assert refused.value.error_class == "CommandNotFound"
        reading, writing = os.pipe()
        await monitor.send_descriptor("pipe", writing)
        os.close(writing)
        await monitor.execute("closefd", {"fdname": "pipe"})
        assert await asyncio.to_thread(os.read, reading, 1) == b""  # QEMU held the only other end, and closed it
        os.close(reading)
        await monitor.execute("quit")
        await ears.lost.wait()
        assert ears.order == ["SHUTDOWN", "lost"]
        assert monitor.read_to_end
        assert await process.wait_exit(10) == 0
        await monitor.close()
    finally:
        await process.kill()


async def test_a_real_qemu_that_is_killed_mid_command(tmp_path: Path, ears: Ears) -> None:
    """Killed with commands in flight: every outcome is known or unknown, never wrong, and the loss is told."""
    process = await boot(tmp_path)
    try:
        monitor = await Monitor.connect(tmp_path / "qmp", side="source", on_lost=ears.on_lost)
        calls = [asyncio.create_task(monitor.execute("query-qmp-schema")) for _ in range(12)]
        await calls[0]
        await process.kill()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ends} <= {list, OutcomeUnknown, CannotConnect}
        assert type(ends[-1]) is not list
        await ears.lost.wait()
        await monitor.close()
    finally:
        await process.kill()


async def test_a_second_client_of_a_real_monitor(tmp_path: Path) -> None:
    """QEMU greets the first only; when that one leaves, a new one is served."""
    process = await boot(tmp_path)
    try:
        async with await Monitor.connect(tmp_path / "qmp", side="source"):
            with pytest.raises(CannotConnect, match="another client holds this monitor"):
                await Monitor.connect(tmp_path / "qmp", side="source", timeout_s=0.2)
        async with await Monitor.connect(tmp_path / "qmp", side="source") as monitor:
            assert (await monitor.call(RunStatus, "query-status")).running
    finally:
        await process.kill()
