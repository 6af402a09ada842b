"""The bare script that is compared with: what one writes in an afternoon with nothing but ``qemu.qmp``.

QEMU's defaults (a downtime limit of 300 ms, no capabilities), a destination that starts by itself when the guest has
arrived, and a look every 20 ms. It knows nothing of who owns the guest.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from qemu.qmp import EventListener, QMPClient

from whimbrel.engine.errors import WhimbrelError
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.stage import Moved, Stage

POLL_S = 0.02
DOWNTIME_LIMIT_MS = 300
"""QEMU's own default (DEFAULT_MIGRATE_SET_DOWNTIME, migration/migration.c)."""


async def move(stage: Stage, *, ready: bool = False) -> Moved:
    """Move the guest.

    Args:
        stage: the running source.
        ready: the destination process is up before the time begins to count.

    Raises:
        WhimbrelError: the migration failed.
    """
    argv = stage.destination_arguments("-incoming", f"tcp:{stage.place.host}:0")
    if ready:
        stage.spawn(argv)
        stage.listen_to_destination()
        await stage.until_up(stage.destination_qmp)
    watch = Stopwatch.start(stage.pids)
    began_ns = time.monotonic_ns()
    if not ready:
        stage.spawn(argv)
        stage.listen_to_destination()
    source, destination = await stage.connect(stage.source_qmp), await stage.connect(stage.destination_qmp)
    stopped, resumed = EventListener("STOP"), EventListener("RESUME")
    source.register_listener(stopped)
    destination.register_listener(resumed)
    try:
        started_ns = await _start(stage, source, destination)
        await _until_completed(source)
        while not (await _ask(destination, "query-status"))["running"]:
            await asyncio.sleep(POLL_S)
        known_ns = time.monotonic_ns()
        stop, resume = await stopped.get(), await resumed.get()
    finally:
        for client in (source, destination):
            await client.disconnect()
    return Moved(
        began_ns=began_ns,
        known_ns=known_ns,
        ended_ns=time.monotonic_ns(),
        stop_wall_s=_stamp_s(stop),
        resume_wall_s=_stamp_s(resume),
        manager_cpu_s=watch.manager_cpu_s(),
        items={"before": (started_ns - began_ns) / 1e9},
    )


async def _start(stage: Stage, source: QMPClient, destination: QMPClient) -> int:
    """Send ``migrate``; gives the moment at which QEMU said that it was at it."""
    listening = (await _ask(destination, "query-migrate"))["socket-address"][0]
    host, port = await stage.place.reach(listening["host"], int(listening["port"]))
    await source.execute("migrate-set-parameters", {"downtime-limit": DOWNTIME_LIMIT_MS})
    await source.execute("migrate", {"uri": f"tcp:{host}:{port}"})
    return time.monotonic_ns()


async def _until_completed(source: QMPClient) -> None:
    while True:
        info = await _ask(source, "query-migrate")
        if info["status"] == "completed":
            return
        if info["status"] in ("failed", "cancelled"):
            because = info.get("error-desc", "QEMU gives no reason")
            raise WhimbrelError(f"the bare migration {info['status']}: {because}")
        await asyncio.sleep(POLL_S)


async def _ask(client: QMPClient, command: str) -> dict[str, Any]:
    return cast(dict[str, Any], await client.execute(command))


def _stamp_s(event: Any) -> float:
    """When QEMU says that an event happened, wall-clock seconds."""
    stamp = cast(dict[str, int], event["timestamp"])
    return stamp["seconds"] + stamp["microseconds"] / 1e6
