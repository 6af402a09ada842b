"""Real guests in real QEMUs: started here, ended here by pid."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from qemu.qmp import EventListener, QMPClient

from whimbrel.guest.boot import guest_arguments, ram_for
from whimbrel.guest.monitor import GuestMonitor
from whimbrel.guest.spec import WorkloadSpec


@dataclass
class Machine:
    """A QEMU with its QMP session, seen through the tests' own eyes (bare QMP, no driver)."""

    process: subprocess.Popen[bytes]
    qmp: QMPClient
    statuses: EventListener = field(default_factory=lambda: EventListener("MIGRATION"))

    async def until_migration(self, *wanted: str) -> str:
        """Waits for one of the wanted migration statuses to be announced."""
        async with asyncio.timeout(60):
            while True:
                event = await self.statuses.get()
                status = event["data"]["status"]
                if status in wanted:
                    return str(status)


@dataclass
class Laboratory:
    """Starts machines that end with the test."""

    folder: Path
    monitor: GuestMonitor
    machines: list[Machine] = field(default_factory=list)

    async def start(self, spec: WorkloadSpec, side: str = "source", **options: object) -> Machine:
        """Starts a QEMU and attaches the monitor and a QMP session to it."""
        name = f"{side[0]}{len(self.machines)}"
        serial, qmp_path = self.folder / name, self.folder / f"{name}q"
        options.setdefault("ram_bytes", ram_for(spec))
        argv = guest_arguments(spec, serial_path=serial, qmp_paths=[qmp_path], **options)  # type: ignore[arg-type]
        process = await asyncio.to_thread(subprocess.Popen, argv)
        machine = Machine(process, QMPClient(name))
        self.machines.append(machine)
        await self.monitor.attach(side, serial)
        machine.qmp.register_listener(machine.statuses)
        await machine.qmp.connect(str(qmp_path))
        return machine

    async def end(self) -> None:
        """Kills what was started, by pid, and waits for it."""
        self.monitor.close()
        for machine in self.machines:
            machine.process.kill()
            await asyncio.to_thread(machine.process.wait)
            with contextlib.suppress(EOFError, ConnectionError):  # the process is gone, as meant
                await machine.qmp.disconnect()


@pytest.fixture
async def laboratory(tmp_path: Path) -> AsyncGenerator[Laboratory, None]:
    """A place to start guests in, with a monitor that listens to them."""
    place = Laboratory(tmp_path, GuestMonitor())
    try:
        yield place
    finally:
        await place.end()


Migrate = Callable[..., Awaitable[Machine]]


@pytest.fixture
def migrate_bare(laboratory: Laboratory) -> Migrate:
    """A migration by bare QMP, with QEMU's defaults but for bandwidth and downtime."""

    async def migrate(source: Machine, spec: WorkloadSpec, *, bandwidth_bytes_per_s: int, **options: object) -> Machine:
        destination = await laboratory.start(spec, "destination", incoming="defer", **options)
        events = {"capabilities": [{"capability": "events", "state": True}]}
        for machine in (source, destination):
            await machine.qmp.execute("migrate-set-capabilities", events)
        uri = {"uri": f"unix:{laboratory.folder / 'm'}"}
        await destination.qmp.execute("migrate-incoming", uri)
        limits = {"max-bandwidth": bandwidth_bytes_per_s, "downtime-limit": 100}
        await source.qmp.execute("migrate-set-parameters", limits)
        await source.qmp.execute("migrate", uri)
        assert await source.until_migration("completed", "failed") == "completed"
        return destination

    return migrate
