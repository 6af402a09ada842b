"""The stage of one move."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bare
from benchmarks.guests import MIB, small
from whimbrel.engine.errors import WhimbrelError
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.place import Loopback
from whimbrel.laboratory.stage import Guest, MemoryLost, stage


async def test_everything_ends_with_it() -> None:
    async with stage(Loopback(), small()) as standing:
        folder, pids = standing.folder, standing.pids
        assert all(_runs(pid) for pid in pids)
    assert pids
    assert not any(_runs(pid) for pid in pids)
    assert not _exists(folder)


async def test_a_qemu_that_does_not_start_is_quoted() -> None:
    place = Loopback()
    place.source_prefix = ("/bin/sh", "-c", "echo no such luck >&2; exit 3")
    with pytest.raises(WhimbrelError, match="no such luck"):
        async with stage(place, small()):
            pytest.fail("it started all the same")


async def test_a_destination_that_ends_is_quoted() -> None:
    async with stage(Loopback(), small()) as standing:
        standing.spawn(["/bin/sh", "-c", "echo no such luck >&2"])
        with pytest.raises(WhimbrelError, match="no such luck"):
            await standing.connect(standing.destination_qmp)


async def test_a_guest_whose_memory_was_damaged_stops_the_benchmark() -> None:
    """The guest damages a page of its own on request: its check must be believed, whatever the figures say."""
    hot = Guest("hot", WorkloadSpec.uniform(16 * MIB, 4 * MIB, 100 * 4096), small().ram_bytes)
    async with stage(Loopback(), hot) as standing:
        watch = Stopwatch.start(standing.pids)
        moved = await bare.move(standing)
        await standing.monitor.wait_first_beat("destination")
        standing.monitor.send("destination", b"xt")
        with pytest.raises(MemoryLost, match="lost memory"):
            await standing.judge("bare", moved, watch)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _exists(folder: Path) -> bool:
    return folder.exists()
