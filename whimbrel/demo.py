"""``whimbrel demo``: a real guest in a real QEMU, moved to another one, and asked what it noticed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from whimbrel.engine.errors import BadInput, CannotConnect, MigrationCancelled, MigrationFailed, WhimbrelError
from whimbrel.engine.report import CompletedReport
from whimbrel.guest.boot import DEFAULT_RAM_BYTES, guest_arguments
from whimbrel.guest.monitor import GuestMonitor
from whimbrel.guest.protocol import Verification
from whimbrel.guest.spec import PageClass, WorkloadSpec
from whimbrel.migration import Migration
from whimbrel.qmp_driver.destination import Destination, FromSource
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.processes import QemuProcess

BOOT_TIMEOUT_S = 30.0
ATTEMPT_S = 0.2
VERIFY_TIMEOUT_S = 60.0
WARM_UP_BEATS = 100
"""Half a second at 200 Hz: the guest is seen to run steadily before it is moved."""

Chooser = Callable[[Path, Destination, Options], Awaitable[Options]]

DEFAULT_CLASSES = ("hot:size=32MiB,rate=20MiB/s", "warm:size=96MiB,rate=2MiB/s,pattern=zipf", "cold:size=320MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to show."""

    classes: tuple[str, ...] = DEFAULT_CLASSES
    ram_bytes: int = DEFAULT_RAM_BYTES
    beat_hz: int = 200
    seed: int = 1
    source_binary: str = "qemu-system-x86_64"
    destination_binary: str | None = None
    machine: str = "q35"
    options: Options = field(default_factory=Options)

    def workload(self) -> WorkloadSpec:
        """The guest's workload.

        Raises:
            BadInput: a class that can't be read.
        """
        classes = tuple(PageClass.parse(text) for text in self.classes)
        return WorkloadSpec(classes=classes, beat_hz=self.beat_hz, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What came of it; `as_dict` is what ``--json`` prints."""

    report: CompletedReport
    downtime_guest_s: float | None = None
    """Last heartbeat from the source to the first from the destination."""
    stalls_s: float | None = None
    """Sum of all gaps over 30 ms during the whole move."""
    largest_gap_s: float | None = None
    memory_verified: bool | None = None
    """By the guest itself, on the side that owns it; ``None`` where it could not be asked."""
    pages_checked: int = 0
    memory_detail: str = ""
    dirtied_bytes_per_s: float | None = None
    """Page writes that the guest really made during the move, bytes per second."""
    work: float | None = None
    """Part of its wanted writes that the guest got done during the move, 0 to 1."""
    log: str = ""
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """One flat object with stable keys."""
        report = asdict(self.report)
        facts = report.pop("facts")
        downtime = report.pop("downtime")
        mine = asdict(self)
        mine.pop("report")
        return {
            **report,
            "downtime_s": downtime,
            "qemu_source": facts.get("qemu_source", ""),
            "qemu_destination": facts.get("qemu_destination", ""),
            "facts": facts,
            **mine,
        }


async def run_demo(
    demo: DemoOptions,
    *,
    say: Callable[[str], None] = lambda text: None,
    watch: Callable[[Migration], Awaitable[None]] | None = None,
    on_migration: Callable[[Migration], None] | None = None,
    choose: Chooser | None = None,
) -> DemoResult:
    """Boot the guest, move it, verify it, take everything down again.

    Args:
        demo: what to show.
        say: told what is going on, a sentence at a time.
        watch: runs beside the migration and shows it.
        on_migration: given the migration as soon as it exists, so that it can be called off.
        choose: given the running guest's monitor, where it will go, and the options so far; gives those to move it
            with. It may look at the guest as long as it wants. ``None``: the options stay.

    Raises:
        BadInput: an option that can't be used.
        WhimbrelError: the guest could not be started.

    If cancelled: the migration is called off or seen to its end first; no QEMU is left behind.
    """
    spec = demo.workload()
    if shutil.which(demo.source_binary) is None:
        raise BadInput("source-qemu", demo.source_binary, "a QEMU that can be run (apt-get install qemu-system-x86)")
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="whimbrel-demo-"))
    source: QemuProcess | None = None
    stage = _Stage(demo, spec, folder, say)
    try:
        source = await stage.boot()
        return await stage.move(watch, on_migration, choose)
    finally:
        stage.monitor.close()
        if source is not None:
            await source.kill()
        await stage.end_destination()
        await asyncio.to_thread(shutil.rmtree, folder, True)


class _Stage:
    """The two QEMUs of one demonstration and the guest between them."""

    def __init__(self, demo: DemoOptions, spec: WorkloadSpec, folder: Path, say: Callable[[str], None]) -> None:
        self.demo = demo
        self.spec = spec
        self.folder = folder
        self.say = say
        self.monitor = GuestMonitor()
        self.migration: Migration | None = None

    async def boot(self) -> QemuProcess:
        arguments = guest_arguments(
            self.spec,
            serial_path=self.folder / "serial.sock",
            qmp_paths=[self.folder / "qmp.sock"],
            binary=self.demo.source_binary,
            ram_bytes=self.demo.ram_bytes,
            machine=self.demo.machine,
        )
        self.say("booting the workload guest")
        process = await QemuProcess.spawn(arguments, stderr_path=self.folder / "source.stderr")
        try:
            await self._until_it_beats(process)
        except BaseException as error:  # cancelled, too: a QEMU that nobody knows of must not stay
            tail = process.stderr_tail()
            await process.kill()
            if isinstance(error, WhimbrelError) and tail:
                raise WhimbrelError(f"the guest did not start: {error}; QEMU said: {tail}", side="source") from error
            raise
        self.say("the guest beats")
        return process

    async def _until_it_beats(self, process: QemuProcess) -> None:
        """Wait until the guest runs steadily; a QEMU that ends before is not waited for."""

        async def listen() -> None:
            deadline_s = time.monotonic() + BOOT_TIMEOUT_S
            while True:
                try:
                    # In short attempts: one that is abandoned goes on in its thread, and the loop's end waits for it.
                    await self.monitor.attach("source", self.folder / "serial.sock", timeout_s=ATTEMPT_S)
                    break
                except CannotConnect:
                    if time.monotonic() >= deadline_s:
                        raise
            await self.monitor.wait_first_beat("source", timeout_s=BOOT_TIMEOUT_S)
            await self.monitor.wait_beats(WARM_UP_BEATS, side="source", timeout_s=BOOT_TIMEOUT_S)

        beating, ended = asyncio.ensure_future(listen()), asyncio.ensure_future(process.wait_exit(None))
        try:
            await asyncio.wait((beating, ended), return_when=asyncio.FIRST_COMPLETED)
            if not beating.done():
                raise WhimbrelError(f"it ended with code {ended.result()}")
            await beating
        finally:
            beating.cancel()
            ended.cancel()
            await asyncio.gather(beating, ended, return_exceptions=True)

    async def move(
        self,
        watch: Callable[[Migration], Awaitable[None]] | None,
        on_migration: Callable[[Migration], None] | None,
        choose: Chooser | None,
    ) -> DemoResult:
        source, destination = self.folder / "qmp.sock", FromSource(binary=self.demo.destination_binary)
        options = self.demo.options
        if choose is not None:
            options = await choose(source, destination, options)
        self.say("starting the migration")
        migration = Migration(source, destination, options)
        self.migration = migration
        if on_migration is not None:
            on_migration(migration)
        began_ns = time.monotonic_ns()
        follow = asyncio.ensure_future(self._follow(migration))
        shown = asyncio.ensure_future(watch(migration)) if watch is not None else None
        error = ""
        try:
            await migration.run()
        except (MigrationFailed, MigrationCancelled) as end:
            error = str(end)
        except WhimbrelError:
            follow.cancel()
            raise
        finally:
            await asyncio.gather(*(task for task in (follow, shown) if task is not None), return_exceptions=True)
        assert migration.report is not None
        return await self._ask_guest(migration, migration.report, began_ns, error)

    async def _follow(self, migration: Migration) -> None:
        """Listen to the destination's serial line as soon as there is one."""
        async for _ in migration.progress():
            paths = migration.facts.get("relocalised", {})
            if "serial0" in paths:
                await self.monitor.attach("destination", Path(paths["serial0"]))
                return

    async def _ask_guest(self, migration: Migration, report: CompletedReport, began_ns: int, error: str) -> DemoResult:
        side = "destination" if report.owner == "destination" else "source"
        log = str(migration.log_path or "")
        if report.guest != "running":
            return DemoResult(report=report, log=log, error=error)
        try:
            if side == "destination":
                await self.monitor.wait_first_beat("destination", timeout_s=BOOT_TIMEOUT_S)
                await self.monitor.wait_beats(20, side="destination", timeout_s=BOOT_TIMEOUT_S)
            timeline = self.monitor.timeline(since_ns=began_ns)
            self.say("asking the guest to verify its memory")
            verdict: Verification | None = await self.monitor.verify(side, timeout_s=VERIFY_TIMEOUT_S)
        except WhimbrelError as silent:
            return DemoResult(
                report=report, log=log, error=error or str(silent), memory_verified=False, memory_detail=str(silent)
            )
        assert verdict is not None
        whole = verdict.passed and timeline.continuity.went_back == 0 and timeline.bad == 0
        detail = str(verdict)
        if timeline.continuity.went_back:
            detail += f"; its counters went back {timeline.continuity.went_back} times"
        return DemoResult(
            report=report,
            downtime_guest_s=timeline.switchover_gap_s,
            stalls_s=timeline.stalls_s,
            largest_gap_s=timeline.largest_gap_s,
            memory_verified=whole,
            pages_checked=verdict.pages,
            memory_detail=detail,
            dirtied_bytes_per_s=timeline.writes * 4096 / max(report.total_s, 1e-9),
            work=timeline.work,
            log=log,
            error=error,
        )

    async def end_destination(self) -> None:
        """The demonstration is over: the destination, which outlives a migration, goes too."""
        if self.migration is not None and self.migration.started is not None:
            await self.migration.started.discard(None)
