"""Runs the workload guest alone, in a real QEMU: what ``whimbrel guest`` does."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from whimbrel.engine.errors import WhimbrelError

from .boot import DEFAULT_RAM_BYTES, guest_arguments, ram_for
from .monitor import GuestMonitor
from .protocol import Banner, ClassState, Verification
from .spec import PAGE_BYTES, WorkloadSpec
from .timeline import Beat, Timeline

__all__ = ["GuestSummary", "run_alone"]

_T = TypeVar("_T")
_BOOT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class GuestSummary:
    """What a run came to.

    Attributes:
        boot_s: from the start of QEMU to the first heartbeat (with the fill, see ``banner.started_us``).
        ran_s: from the first heartbeat to the last, on the host's clock.
        banner: what the guest ran.
        classes: each class as the guest had it, with its writes.
        timeline: summary of the heartbeats (of the last 200000).
        written_bytes_per_s: page writes, in bytes per second of the guest's clock.
        verification: of all pages, at the end.
    """

    boot_s: float
    ran_s: float
    banner: Banner
    classes: tuple[ClassState, ...]
    timeline: Timeline
    written_bytes_per_s: float
    verification: Verification


async def run_alone(
    spec: WorkloadSpec,
    *,
    qemu_binary: str = "qemu-system-x86_64",
    ram_bytes: int | None = None,
    seconds: float | None = None,
    on_beat: Callable[[Beat], None] | None = None,
    stop: asyncio.Event | None = None,
) -> GuestSummary:
    """Boots the guest, lets it run, verifies its memory and ends it.

    Args:
        spec: the workload.
        qemu_binary: QEMU.
        ram_bytes: its memory; None: 524224 KiB, or more where the workload needs it.
        seconds: how long it runs after the first heartbeat; None: until ``stop`` is set.
        on_beat: called on the event loop for each heartbeat.
        stop: ends the run early, with a summary like any other.

    Returns:
        What it came to; a failed verification is a result, too.

    If cancelled: QEMU is killed and waited for, nothing is left behind.

    Raises:
        BadInput: the workload does not fit into the memory.
        WhimbrelError: QEMU did not start or ended by itself (with its own words), or the guest refuses to run.
    """
    ram_bytes = ram_bytes or max(DEFAULT_RAM_BYTES, ram_for(spec))
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="whimbrel-guest-"))
    try:
        argv = guest_arguments(spec, serial_path=folder / "serial", binary=qemu_binary, ram_bytes=ram_bytes)
        started_s = time.monotonic()
        async with _qemu(argv, folder / "stderr") as until_exit:
            with GuestMonitor() as monitor:
                await until_exit(monitor.attach("source", folder / "serial", timeout_s=_BOOT_TIMEOUT_S))
                first = await until_exit(monitor.wait_first_beat("source", timeout_s=_BOOT_TIMEOUT_S))
                if on_beat is not None:
                    monitor.on_beat(_on_loop(on_beat))
                await until_exit(_pause(seconds, stop))
                return await until_exit(_summarise(monitor, first, started_s))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _on_loop(listener: Callable[[Beat], None]) -> Callable[[Beat], None]:
    """The same listener, called on the running loop instead of on the reader's thread."""
    loop = asyncio.get_running_loop()

    def relay(beat: Beat) -> None:
        loop.call_soon_threadsafe(listener, beat)

    return relay


async def _pause(seconds: float | None, stop: asyncio.Event | None) -> None:
    """Waits for so long, or until told; without either, for ever."""
    try:
        async with asyncio.timeout(seconds):
            await (stop or asyncio.Event()).wait()
    except TimeoutError:
        pass  # the time was up: the ordinary end


async def _summarise(monitor: GuestMonitor, first: Beat, started_s: float) -> GuestSummary:
    verification = await monitor.verify("source")
    banner = await monitor.wait_banner(refresh=True)
    last = await monitor.wait_beats(1)
    guest_s = (last.heartbeat.guest_us - first.heartbeat.guest_us) / 1e6
    written_bytes = (last.heartbeat.writes - first.heartbeat.writes) * PAGE_BYTES
    return GuestSummary(
        boot_s=first.received_ns / 1e9 - started_s,
        ran_s=(last.received_ns - first.received_ns) / 1e9,
        banner=banner,
        classes=monitor.classes,
        timeline=monitor.timeline(),
        written_bytes_per_s=written_bytes / guest_s if guest_s else 0.0,
        verification=verification,
    )


class _UntilExit:
    """Awaits something, unless QEMU ends first."""

    def __init__(self, process: asyncio.subprocess.Process, stderr_path: Path) -> None:
        self._process = process
        self._stderr_path = stderr_path

    async def __call__(self, wanted: Coroutine[Any, Any, _T]) -> _T:
        work, exited = asyncio.ensure_future(wanted), asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((work, exited), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                said = await asyncio.to_thread(self._stderr_path.read_text, errors="replace")
                because = said.strip() or f"exit code {self._process.returncode}"
                raise WhimbrelError(f"QEMU ended by itself: {because}")
            return work.result()
        finally:
            work.cancel()
            exited.cancel()
            await asyncio.gather(work, exited, return_exceptions=True)


@contextlib.asynccontextmanager
async def _qemu(argv: list[str], stderr_path: Path) -> AsyncGenerator[_UntilExit, None]:
    """A QEMU in a session of its own (ctrl-C does not reach it), killed and waited for in the end."""
    with await asyncio.to_thread(stderr_path.open, "wb") as stderr:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
            )
        except OSError as error:
            raise WhimbrelError(f"cannot start {argv[0]}: {error.strerror}") from None
    try:
        yield _UntilExit(process, stderr_path)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
