"""One move on stage: the source with its guest, room for a destination, and somebody who listens to both."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qemu.qmp import ConnectError, QMPClient

from whimbrel.engine.errors import WhimbrelError
from whimbrel.guest.boot import guest_arguments
from whimbrel.guest.monitor import GuestMonitor
from whimbrel.guest.spec import PAGE_BYTES, WorkloadSpec
from whimbrel.guest.timeline import Timeline
from whimbrel.qmp_driver.destination import StartedDestination

from .load import Stopwatch
from .place import Place

QEMU = "qemu-system-x86_64"
MACHINE = "q35"
BOOT_TIMEOUT_S = 60.0
VERIFY_TIMEOUT_S = 120.0
WARM_UP_S = 1.0
"""So long the guest runs before it is moved: its rate of writing is steady by then."""
BEATS_AFTER = 20
_LOOK_EVERY_S = 0.002


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest: what it does and how much memory it has."""

    name: str
    spec: WorkloadSpec
    ram_bytes: int
    """Not a multiple of 256 KiB (`whimbrel.guest.boot.DEFAULT_RAM_BYTES` says why)."""


class MemoryLost(WhimbrelError):
    """The guest found on the destination that its memory is not what it wrote: no figure of that run counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What one move came to; seconds unless named otherwise."""

    by: str
    """``bare`` or ``whimbrel``."""
    guest: str
    total_s: float
    """From the start of the destination process (or the call, where it was up already) until the client knew that
    the guest runs there."""
    call_s: float
    """From the call until it returned."""
    gap_s: float
    """Last heartbeat of the source to the first of the destination, as an outsider received them."""
    before_stop_s: float
    """Last heartbeat to the source's STOP."""
    stop_to_resume_s: float
    after_resume_s: float
    """The destination's RESUME to its first heartbeat."""
    stalls_s: float
    """Sum of all gaps above 30 ms between two heartbeats, the outage among them."""
    work: float
    """Part of its wanted writes that the guest got done during the move, 0 to 1."""
    lost_s: float = 0.0
    """Guest-seconds: the writes that it gave up, as time at its rate; 0.0 of one that writes nothing."""
    manager_cpu_s: float
    others_cores: float
    """Cores that neither we nor the QEMUs used, on average over the move."""
    items: Mapping[str, float] = field(default_factory=dict[str, float])
    """Where the time went, by name: what the moving side can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a mover tells: moments of the monotonic clock (ns), and of the wall clock (s) for QEMU's own stamps."""

    began_ns: int
    known_ns: int
    ended_ns: int
    stop_wall_s: float
    resume_wall_s: float
    manager_cpu_s: float
    items: Mapping[str, float] = field(default_factory=dict[str, float])


class Stage:
    """The source runs and beats; a mover is called with it. Made by `stage`."""

    def __init__(self, place: Place, guest: Guest, folder: Path) -> None:
        """For `stage`."""
        self.place = place
        self.guest = guest
        self.folder = folder
        self.monitor = GuestMonitor()
        self._children: list[subprocess.Popen[bytes]] = []
        self._taken_over: StartedDestination | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def source_qmp(self) -> Path:
        """The source's QMP socket."""
        return self.folder / "s.qmp"

    @property
    def destination_qmp(self) -> Path:
        """The destination's QMP socket, where its command line names one."""
        return self.folder / "d.qmp"

    @property
    def listening(self) -> asyncio.Task[None] | None:
        """Done when the destination's serial line is listened to; ``None``: nobody was asked to."""
        return self._listening

    @property
    def pids(self) -> tuple[int, ...]:
        """The QEMUs."""
        ours = self._taken_over.process if self._taken_over is not None else None
        return (*(child.pid for child in self._children), *((ours.pid,) if ours is not None else ()))

    def take_over(self, started: StartedDestination | None) -> None:
        """Have a destination that whimbrel started end with the stage; one of `spawn` does so anyway."""
        if started is not None and started.owned:
            self._taken_over = started

    def destination_arguments(self, *more: str, qmp: bool = True) -> list[str]:
        """The destination's command line: the source's, on other sockets, and what a mover adds."""
        return [*self.place.destination_prefix, *self._arguments("d", qmp), *more]

    def spawn(self, argv: list[str]) -> int:
        """Start a process that ends with the stage; give its pid."""
        with (self.folder / "stderr").open("ab") as stderr:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
        self._children.append(child)
        return child.pid

    def listen_to_destination(self) -> None:
        """Attach to the destination's serial line as soon as it is there."""
        attach = self.monitor.attach("destination", self.folder / "d.serial", timeout_s=BOOT_TIMEOUT_S)
        self._listening = asyncio.get_running_loop().create_task(attach)

    async def connect(self, monitor: Path) -> QMPClient:
        """Connect to a monitor, also to that of a QEMU that is only just starting.

        Raises:
            WhimbrelError: none within a minute, or a process has ended; with what it said.
        """
        deadline_s = time.monotonic() + BOOT_TIMEOUT_S
        while True:
            if _is_there(monitor):
                client = QMPClient(monitor.stem)
                try:
                    await client.connect(str(monitor))
                    return client
                except ConnectError:
                    pass  # the socket is there a moment before anybody listens at it
            if time.monotonic() > deadline_s or any(child.poll() is not None for child in self._children):
                said = (self.folder / "stderr").read_text(errors="replace").strip()
                raise WhimbrelError(f"no QEMU answers at {monitor.name}: {said or 'it said nothing'}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def until_up(self, monitor: Path) -> None:
        """Wait until a QEMU has greeted, and leave its monitor free."""
        await (await self.connect(monitor)).disconnect()

    async def boot(self) -> None:
        """Start the source and let its guest run for a while."""
        self.spawn([*self.place.source_prefix, *self._arguments("s", True)])
        await self.until_up(self.source_qmp)
        await self.monitor.attach("source", self.folder / "s.serial", timeout_s=BOOT_TIMEOUT_S)
        await self.monitor.wait_first_beat("source", timeout_s=BOOT_TIMEOUT_S)
        await self.monitor.wait_beats(round(WARM_UP_S * self.guest.spec.beat_hz), side="source")

    async def judge(self, by: str, moved: Moved, watch: Stopwatch) -> Move:
        """Have the guest verify its memory on the destination and put the figures together.

        Raises:
            MemoryLost: the memory is not what the guest wrote, or its counters went back.
            WhimbrelError: no heartbeat from the destination.
        """
        others_cores = watch.others_cores(self.pids)
        if self._listening is not None:
            await self._listening
        first = await self.monitor.wait_first_beat("destination", timeout_s=BOOT_TIMEOUT_S)
        await self.monitor.wait_beats(BEATS_AFTER, side="destination")
        timeline = self.monitor.timeline(since_ns=moved.began_ns)
        verdict = await self.monitor.verify("destination", timeout_s=VERIFY_TIMEOUT_S)
        if not verdict.passed or timeline.continuity.went_back or timeline.bad:
            raise MemoryLost(f"a {by} move of the guest {self.guest.name!r} lost memory: {verdict}; {timeline}")
        assert timeline.switchover_gap_s is not None
        last_ns = first.received_ns - round(timeline.switchover_gap_s * 1e9)
        wall_less_monotonic_s = (time.time_ns() - time.monotonic_ns()) / 1e9
        last_wall_s, first_wall_s = (ns / 1e9 + wall_less_monotonic_s for ns in (last_ns, first.received_ns))
        return self._move(by, moved, timeline, (last_wall_s, first_wall_s), others_cores)

    def _move(
        self, by: str, moved: Moved, timeline: Timeline, beats_wall_s: tuple[float, float], others_cores: float
    ) -> Move:
        assert timeline.switchover_gap_s is not None
        return Move(
            by=by,
            guest=self.guest.name,
            total_s=(moved.known_ns - moved.began_ns) / 1e9,
            call_s=(moved.ended_ns - moved.began_ns) / 1e9,
            gap_s=timeline.switchover_gap_s,
            before_stop_s=moved.stop_wall_s - beats_wall_s[0],
            stop_to_resume_s=moved.resume_wall_s - moved.stop_wall_s,
            after_resume_s=beats_wall_s[1] - moved.resume_wall_s,
            stalls_s=timeline.stalls_s,
            work=timeline.work,
            lost_s=self._lost_s(timeline.dropped),
            manager_cpu_s=moved.manager_cpu_s,
            others_cores=others_cores,
            items=moved.items,
        )

    def _lost_s(self, dropped_writes: int) -> float:
        per_s = sum(each.mean_rate_bytes_per_s for each in self.guest.spec.classes) / PAGE_BYTES
        return dropped_writes / per_s if per_s else 0.0

    async def end(self) -> None:
        """End what was started, by pid, and wait for it."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        self.monitor.close()
        for child in self._children:
            child.kill()
            await asyncio.to_thread(child.wait)
        if self._taken_over is not None:
            await self._taken_over.discard()

    def _arguments(self, letter: str, qmp: bool) -> list[str]:
        return guest_arguments(
            self.guest.spec,
            serial_path=self.folder / f"{letter}.serial",
            qmp_paths=[self.folder / f"{letter}.qmp"] if qmp else [],
            binary=QEMU,
            ram_bytes=self.guest.ram_bytes,
            machine=MACHINE,
        )


def _is_there(path: Path) -> bool:
    return path.exists()


@contextlib.asynccontextmanager
async def stage(place: Place, guest: Guest) -> AsyncGenerator[Stage, None]:
    """A running guest on its source; everything ends with the context.

    Raises:
        WhimbrelError: the guest did not start.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="wb-"))
    standing = Stage(place, guest, folder)
    try:
        await standing.boot()
        yield standing
    finally:
        await standing.end()
        await asyncio.to_thread(shutil.rmtree, folder, True)
