"""The demonstration, in process: the guest is booted, moved, asked, and all is taken down again."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.guests import BRISK
from whimbrel.demo import DemoOptions, DemoResult, run_demo
from whimbrel.engine.errors import BadInput, PreflightFailed, WhimbrelError
from whimbrel.engine.policy import Objectives
from whimbrel.migration import Migration
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.probe import probe_binary

MIB = 1 << 20


def small(tmp_path: Path, **wanted: Any) -> DemoOptions:
    """A demonstration of a second."""
    options = replace(Options(waits=BRISK, log_path=tmp_path / "log"), **wanted.pop("options", {}))
    classes = ("hot:size=2MiB,rate=2MiB/s", "cold:size=6MiB")
    return replace(DemoOptions(classes=classes, ram_bytes=24512 << 10, options=options), **wanted)


def nothing_left() -> bool:
    """Whether the folders for temporary and runtime files are empty again."""
    return not list(Path(tempfile.gettempdir()).iterdir())


async def test_the_guest_is_moved_and_asked(tmp_path: Path) -> None:
    """Its own check of each page passes; both sides' figures are there; nothing is left."""
    said: list[str] = []
    result = await run_demo(small(tmp_path), say=said.append)
    assert result.report.moved
    assert result.memory_verified is True
    assert result.pages_checked == 8 * MIB // 4096
    assert result.downtime_guest_s is not None
    assert result.report.downtime is not None
    # Heartbeats come every 5 ms: what the guest saw is the outage and at most a few of them.
    assert result.downtime_guest_s > result.report.downtime.total_s - 0.005
    assert result.largest_gap_s is not None
    assert result.largest_gap_s >= result.downtime_guest_s
    assert result.work is not None
    assert 0 < result.work <= 1
    assert result.error == ""
    assert said[0] == "booting the workload guest"
    assert nothing_left()


async def test_the_result_as_one_object(tmp_path: Path) -> None:
    """Flat, of stable keys, and nothing that JSON can't say."""
    result = await run_demo(small(tmp_path))
    told = json.loads(msgspec.json.encode(result.as_dict()))
    assert {
        "outcome", "owner", "guest", "why", "total_s", "stages", "iterations", "downtime_s", "downtime_guest_s",
        "memory_verified", "pages_checked", "ram_transferred_bytes", "ram_total_bytes", "qemu_source",
        "qemu_destination", "facts", "notes", "log", "error",
    } <= set(told)  # fmt: skip
    assert told["outcome"] == "completed"


async def test_called_off_while_it_runs(tmp_path: Path) -> None:
    """The guest is asked on the source, where it stayed."""
    begun: list[Migration] = []

    async def watch(migration: Migration) -> None:
        async for glance in migration.progress():
            if glance.phase == "precopy":
                migration.cancel()

    slowly = {"objectives": Objectives(bandwidth_bytes_per_s=MIB)}
    result = await run_demo(small(tmp_path, options=slowly), watch=watch, on_migration=begun.append)
    assert len(begun) == 1
    assert result.report.outcome == "cancelled"
    assert result.memory_verified is True
    assert "called off" in result.error
    assert nothing_left()


@pytest.mark.parametrize("stage", ["boot", "precopy"])
async def test_its_task_is_cancelled(tmp_path: Path, stage: str) -> None:
    """While it boots or while RAM moves: nothing is left, whichever it was."""
    reached = asyncio.Event()

    async def watch(migration: Migration) -> None:
        async for glance in migration.progress():
            if glance.phase == stage:
                reached.set()

    def say(text: str) -> None:
        if stage == "boot" and "booting" in text:
            reached.set()

    slowly = {"objectives": Objectives(bandwidth_bytes_per_s=MIB)}
    task: asyncio.Task[DemoResult] = asyncio.create_task(
        run_demo(small(tmp_path, options=slowly), say=say, watch=watch)
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_left()


async def test_a_binary_that_is_no_qemu(tmp_path: Path) -> None:
    """Said soon, with what it said itself; nothing is left."""
    broken = tmp_path / "qemu"
    broken.write_text("#!/bin/sh\necho 'I am no QEMU' >&2\n")
    broken.chmod(0o755)
    async with asyncio.timeout(10):
        with pytest.raises(WhimbrelError, match="I am no QEMU"):
            await run_demo(small(tmp_path, source_binary=str(broken)))
    assert nothing_left()


async def test_input_that_cannot_be_used(tmp_path: Path) -> None:
    """Refused by name before anything is started."""
    with pytest.raises(BadInput, match="source-qemu"):
        await run_demo(small(tmp_path, source_binary="no-such-qemu"))
    with pytest.raises(BadInput):
        await run_demo(small(tmp_path, classes=("hot:size=large",)))
    with pytest.raises(BadInput, match="ram"):
        await run_demo(small(tmp_path, ram_bytes=MIB))
    assert nothing_left()


async def test_ram_at_which_writes_are_lost_is_refused(tmp_path: Path) -> None:
    """The demonstration is no exception, and cleans up after itself all the same."""
    wanted = small(tmp_path, ram_bytes=24576 << 10)
    if (await probe_binary(("qemu-system-x86_64",))).version < (9, 0, 0):
        with pytest.raises(PreflightFailed, match="loses guest writes"):
            await run_demo(wanted)
    else:
        assert (await run_demo(wanted)).memory_verified is True
    assert nothing_left()
