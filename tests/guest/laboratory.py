"""Real guests in real QEMUs, by bare QMP: what the tests of the guest look through, with no driver of ours."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

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

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> Any:
        """Executes a QMP command and returns its answer."""
        return await self.qmp.execute(command, arguments)

    async def save_memory(self, begin: int, size_bytes: int, target: Path) -> bytes:
        """The guest's memory from physical address ``begin`` on, as QEMU sees it."""
        await self.execute("pmemsave", {"val": begin, "size": size_bytes, "filename": str(target)})
        return await asyncio.to_thread(target.read_bytes)

    async def until_migration(self, *wanted: str) -> str:
        """Waits for one of the wanted migration statuses to be announced."""
        async with asyncio.timeout(60):
            while True:
                event = await self.statuses.get()
                status = cast(dict[str, str], event["data"])["status"]
                if status in wanted:
                    return status


@dataclass
class Laboratory:
    """Starts machines that end with the test."""

    folder: Path
    monitor: GuestMonitor
    machines: list[Machine] = field(default_factory=lambda: list[Machine]())

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

    async def migrate(
        self, source: Machine, spec: WorkloadSpec, *, bandwidth_bytes_per_s: int, **options: object
    ) -> Machine:
        """Migrates to a new machine with QEMU's defaults but for bandwidth and a downtime limit of 100 ms."""
        destination = await self.start(spec, "destination", incoming="defer", **options)
        for machine in (source, destination):
            events = {"capability": "events", "state": True}
            await machine.execute("migrate-set-capabilities", {"capabilities": [events]})
        uri: dict[str, object] = {"uri": f"unix:{self.folder / 'm'}"}
        await destination.execute("migrate-incoming", uri)
        limits: dict[str, object] = {"max-bandwidth": bandwidth_bytes_per_s, "downtime-limit": 100}
        await source.execute("migrate-set-parameters", limits)
        await source.execute("migrate", uri)
        assert await source.until_migration("completed", "failed") == "completed"
        return destination
