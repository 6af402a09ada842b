"""The guest alone, in a real QEMU."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.guest.run import run_alone
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.guest.timeline import Beat

MIB = 1 << 20
SPEC = WorkloadSpec.uniform(16 * MIB, 8 * MIB, 4 * MIB)


def children() -> set[str]:
    """Process ids of our children."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


async def test_a_run_is_summed_up() -> None:
    """Beats are handed on, the rate is as told, the memory verifies, QEMU is gone."""
    before, heard = children(), list[Beat]()
    summary = await run_alone(SPEC, seconds=1, on_beat=heard.append)
    assert summary.ran_s >= 1
    assert summary.verification.passed
    assert summary.banner.pages == SPEC.size_bytes // 4096
    assert [c.name for c in summary.classes] == ["hot", "cold"]
    wanted = SPEC.rate_bytes_per_s * summary.timeline.work
    assert summary.written_bytes_per_s == pytest.approx(wanted, rel=0.05)
    assert len(heard) >= summary.timeline.beats - 5
    assert children() == before
    print(f"first heartbeat after {summary.boot_s:.3f} s")


async def test_a_run_ends_when_told() -> None:
    """Without a time it runs until the event is set, and sums up as ever."""
    stop = asyncio.Event()

    def end_after_20(beat: Beat) -> None:
        if beat.heartbeat.sequence > 20:
            stop.set()

    summary = await run_alone(SPEC, on_beat=end_after_20, stop=stop)
    assert summary.verification.passed
    assert summary.timeline.beats > 20


async def test_a_cancelled_run_leaves_nothing() -> None:
    """QEMU is killed and waited for."""
    before, beating = children(), asyncio.Event()
    run = asyncio.ensure_future(run_alone(SPEC, on_beat=lambda _beat: beating.set()))
    await beating.wait()
    assert children() != before
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert children() == before


async def test_what_qemu_says_is_passed_on(tmp_path: Path) -> None:
    """A QEMU that does not start, ends at once, or says why."""
    with pytest.raises(WhimbrelError, match=r"cannot start .*no-such-qemu: No such file"):
        await run_alone(SPEC, qemu_binary=str(tmp_path / "no-such-qemu"), seconds=1)
    with pytest.raises(WhimbrelError, match="QEMU ended by itself: exit code 1"):
        await run_alone(SPEC, qemu_binary="/bin/false", seconds=1)
    script = tmp_path / "qemu"
    script.write_text("#!/bin/sh\necho 'no accelerator found' >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(WhimbrelError, match="QEMU ended by itself: no accelerator found"):
        await run_alone(SPEC, qemu_binary=str(script), seconds=1)


async def test_too_little_memory_is_refused_at_once() -> None:
    """Before anything is started."""
    with pytest.raises(BadInput):
        await run_alone(SPEC, ram_bytes=10 * MIB)
