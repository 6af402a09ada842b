"""Constants of this machine and its QEMU: measured once, on other guests, sizes and links than those on record."""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from benchmarks.guests import MIB
from whimbrel.guest.spec import PAGE_BYTES
from whimbrel.laboratory.link import paced_link
from whimbrel.laboratory.load import until_quiet
from whimbrel.laboratory.place import Loopback, Place
from whimbrel.laboratory.stage import Guest

from . import traces
from .moving import Moved, move, traced_stage
from .plan import busy_guest, idle_guest
from .record import PATIENCE_S, qemu_version, switchover
from .records import FOLDER, Calibration, save_calibration

REPEATS: Final = 3
CALIBRATION_LINK: Final = "250mbit"
BUSY_BYTES_PER_S: Final = (8 * MIB, 16 * MIB)
RAM_SIZES: Final = (131008 << 10, 262080 << 10, 393152 << 10)
"""128, 256 and 384 MiB, less 64 KiB each."""


@dataclass(slots=True)
class _Found:
    """Single measurements by constant, and what the sync's cost is fitted to."""

    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    syncs: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])
    """Pages of RAM, expected pages in the log, seconds."""
    scans: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])
    """Pages sent in full, zero pages, seconds of the first iteration with no link to hold it."""

    def add(self, name: str, value: float | None) -> None:
        """Keep one measurement; ``None``: it could not be taken."""
        if value is not None:
            self.values.setdefault(name, []).append(value)


def calibrate(folder: Path = FOLDER, *, say: Callable[[str], None] = print) -> Calibration:
    """Measure all constants and write them.

    Raises:
        WhimbrelError: a migration failed; no paced link can be made.
    """
    found = _Found()
    for ram_bytes in RAM_SIZES:
        for filled in (8 * MIB, 96 * MIB):
            for _ in range(REPEATS if ram_bytes == RAM_SIZES[1] else 1):
                guest = idle_guest(filled, ram_bytes)
                _idle(found, guest, uvloop.run(_moved(Loopback(), guest)))
                say(f"{guest.name} of {ram_bytes // MIB} MiB")
    with paced_link(CALIBRATION_LINK) as link, link.at_source():
        for rate in BUSY_BYTES_PER_S:
            guest = busy_guest(rate)
            _busy(found, guest, uvloop.run(_moved(link, guest)))
            say(f"busy, {rate // MIB} MiB/s")
    for _ in range(REPEATS):
        found.add("device_state_bytes", uvloop.run(_device_state_bytes()))
    calibration = _settled(found)
    save_calibration(calibration, folder)
    return calibration


async def _moved(place: Place, guest: Guest) -> Moved:
    await until_quiet(PATIENCE_S)
    async with traced_stage(place, guest) as stage:
        return await move(stage, 0.1, 60.0)


def _idle(found: _Found, guest: Guest, moved: Moved) -> None:
    """What a guest shows that writes nothing, with no link between."""
    all_syncs = traces.syncs(moved.trace)
    active_s = traces.moment_s(moved.trace, "migration_thread_setup_complete")
    assert active_s is not None
    report = moved.report
    found.scans.append((report.normal_pages, report.duplicate_pages, all_syncs[1].at_s - active_s))
    pages = guest.ram_bytes / PAGE_BYTES
    found.syncs += [(pages, 0.0, sync.took_s) for sync in all_syncs[2:]]
    found.add("setup_sync_s_per_page", all_syncs[0].took_s / pages)
    found.add("setup_s", active_s - moved.sent_wall_s - all_syncs[0].took_s)
    found.add("extra_bytes", report.ram_total_bytes - guest.ram_bytes)
    found.add("own_pages", report.normal_pages - guest.spec.size_bytes / PAGE_BYTES)
    parts = switchover(moved.trace)
    found.add("stop_s", parts.get("stop"))
    found.add("devices_s", parts.get("devices"))
    found.add("answer_s", parts.get("answer"))
    found.add("resume_s", moved.downtime.get("resume"))
    found.add("drain_s", moved.downtime.get("drain"))
    found.add("pause_s", parts.get("pause"))
    found.add("confirm_s", moved.downtime.get("load"))
    found.add("start_stall_s", moved.start_stall_s)


def _busy(found: _Found, guest: Guest, moved: Moved) -> None:
    """What a sync costs where it finds pages: as many as the guest's exact curve says for the time since the last."""
    all_syncs = traces.syncs(moved.trace)
    pages = guest.ram_bytes / PAGE_BYTES
    for before, sync in itertools.pairwise(all_syncs[:-1]):
        found.syncs.append((pages, guest.spec.dirtied_bytes(sync.at_s - before.at_s) / PAGE_BYTES, sync.took_s))


async def _device_state_bytes() -> float:
    """The stream into a file, less what QEMU counts as RAM."""
    guest = idle_guest(8 * MIB)
    async with traced_stage(Loopback(), guest) as stage:
        stream = stage.folder / "stream"
        client = await stage.connect(stage.source_qmp)
        try:
            await client.execute("migrate", {"uri": f"exec:cat > {stream}"})
            info: dict[str, Any] = {}
            while info.get("status") not in ("completed", "failed") or not info.get("total-time"):
                await asyncio.sleep(0.02)
                info = cast(dict[str, Any], await client.execute("query-migrate"))
        finally:
            await client.disconnect()
        return float(stream.stat().st_size - info["ram"]["transferred"])


def _settled(found: _Found) -> Calibration:
    """The constants: medians, and least squares where several belong together."""
    middle = {name: statistics.median(values) for name, values in found.values.items()}
    per_page_s, per_dirty_s = two_costs(found.syncs)
    normal_s, zero_s = two_costs(found.scans)
    constants = {
        "cpu_bytes_per_s": PAGE_BYTES / normal_s,
        "zero_page_s": zero_s,
        "sync_s": 0.0,
        "sync_s_per_page": per_page_s,
        "sync_s_per_dirty_page": per_dirty_s,
        "setup_sync_s_per_page": middle["setup_sync_s_per_page"],
        "stop_s": middle["stop_s"],
        "device_state_bytes": middle["device_state_bytes"],
        "load_s": middle["devices_s"] + middle["answer_s"],
        "resume_s": middle["resume_s"],
        "setup_s": middle["setup_s"],
        "start_stall_s": middle["start_stall_s"],
    }
    return Calibration(
        constants=constants,
        extra_bytes=round(middle["extra_bytes"]),
        own_pages=round(middle["own_pages"]),
        measured=found.values | {"sync": [s[2] for s in found.syncs], "scan": [s[2] for s in found.scans]},
        about={"qemu": qemu_version(), "kernel": platform.release(), "cores": str(os.cpu_count())},
    )


def two_costs(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The least-squares costs (a, b) of ``seconds = a x + b y``, each row weighted as its own size.

    Relative errors are what is made small: a sync of a millisecond counts as much as one of twenty.
    """
    xx = xy = yy = xt = yt = 0.0
    for x, y, seconds in rows:
        weight = 1 / seconds**2
        xx, xy, yy = xx + weight * x * x, xy + weight * x * y, yy + weight * y * y
        xt, yt = xt + weight * x * seconds, yt + weight * y * seconds
    determinant = xx * yy - xy * xy
    return (xt * yy - yt * xy) / determinant, (yt * xx - xt * xy) / determinant
