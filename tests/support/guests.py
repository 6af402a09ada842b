"""Real guests for the tests of whole migrations: booted, listened to, moved, and ended by pid.

The tests look at a QEMU with eyes of their own (a second monitor, the guest's heartbeats, ``/proc``), never
through the driver that is being tested.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.protocol import SECOND_NS, Waits
from whimbrel.engine.report import CompletedReport
from whimbrel.guest.boot import guest_arguments
from whimbrel.guest.monitor import GuestMonitor
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.migration import Migration
from whimbrel.qmp_driver.destination import Destination, FromSource
from whimbrel.qmp_driver.journal import Journal
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.runner import Runner

SMALL = WorkloadSpec.parse(("hot:size=2MiB,rate=2MiB/s", "cold:size=6MiB"), beat_hz=200)
"""Boots in a quarter of a second and moves in about as long."""

RAM_BYTES = 24512 << 10
"""24 MiB less 64 KiB: no multiple of 256 KiB, at which QEMU 7.2 under TCG would lose writes."""

PATIENCE_S = 20.0
"""The longest that any wait of a test may take; nothing waits that long unless something is broken."""

BRISK = Waits(
    preflight_ns=10 * SECOND_NS,
    preparing_ns=10 * SECOND_NS,
    connect_ns=5 * SECOND_NS,
    switchover_ns=5 * SECOND_NS,
    handover_ns=SECOND_NS,
    activating_ns=SECOND_NS,
    releasing_ns=2 * SECOND_NS,
    cancelling_ns=5 * SECOND_NS,
    resolving_ns=3 * SECOND_NS,
)
"""Waits short enough to be waited out in a test."""

Line: TypeAlias = Mapping[str, Any]
Tap: TypeAlias = Callable[[str, Line], None]


def ask(path: Path | str, *commands: str) -> list[Any]:
    """Carry out QMP commands without arguments on a monitor that nobody holds; the answers, in order.

    Raises:
        OSError: nobody listens there, or no answer came in time.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        stream = client.makefile("rwb")
        answers: list[Any] = []
        if not stream.readline():
            raise ConnectionResetError("no greeting")
        for number, command in enumerate(("qmp_capabilities", *commands)):
            stream.write(json.dumps({"execute": command, "id": number}).encode() + b"\n")
            stream.flush()
            # Between them come events, and what QEMU still owed to the client before us.
            while (answer := json.loads(stream.readline())).get("id") != number:
                pass
            answers.append(answer["return"])
        return answers[1:]


def state_of(pid: int) -> str:
    """A process's state letter (``R``, ``S``, ``T``, ``Z``...), or the empty string if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    """Whether a process runs (a zombie, which only waits for its parent, does not)."""
    return state_of(pid) not in ("", "Z", "X")


def run_state(pid: int, monitor: Path) -> str:
    """A QEMU's run state, as it says; the empty string if its process has ended.

    Raises:
        AssertionError: it lives and does not answer.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while lives(pid):
        try:
            return str(ask(monitor, "query-status")[0]["status"])
        except (ConnectionError, FileNotFoundError):
            # It is ending just now: its monitor goes before its process does.
            assert time.monotonic() < deadline_s, f"process {pid} lives and its monitor {monitor} does not answer"
    return ""


def is_there(path: str) -> bool:
    """Whether a file or folder exists."""
    return Path(path).exists()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, read with nothing but a JSON decoder."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class TappedJournal(Journal):
    """The real log, with somebody who reads along: called with each line when it is written.

    A line stands in the log *before* what it announces is done, so a tap that kills a process at
    ``command: continue`` does so before ``migrate-continue`` is sent, every time.
    """

    tap: Tap | None = None

    def write(self, kind: str, now_ns: int, wall_s: float, **fields: Any) -> None:
        """Write, then tell."""
        super().write(kind, now_ns, wall_s, **fields)
        if self.tap is not None:
            self.tap(kind, fields)


@dataclass
class Guest:
    """A QEMU with the workload guest, started by a test."""

    process: subprocess.Popen[bytes]
    argv: list[str]
    qmp: Path
    """For what is tested."""
    spare: Path
    """For the test's own questions."""
    serial: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def status(self) -> str:
        """QEMU's run state, as it says; the empty string if it has ended."""
        return run_state(self.pid, self.spare)

    def stop(self) -> None:
        """Pause the guest, as its user does."""
        ask(self.spare, "stop")

    def resume(self) -> None:
        """Let the guest go on, as its user does."""
        ask(self.spare, "cont")

    def settings(self) -> dict[str, Any]:
        """Every migration parameter and capability."""
        parameters, capabilities = ask(self.spare, "query-migrate-parameters", "query-migrate-capabilities")
        return {**parameters, **{each["capability"]: each["state"] for each in capabilities}}


@dataclass
class End:
    """How a migration ended, with what the test saw of it."""

    report: CompletedReport
    log: Path
    destination_pid: int | None
    destination_qmp: Path | None
    error: WhimbrelError | None = None

    @property
    def verdict(self) -> tuple[str, str, str]:
        """Outcome, owner and guest."""
        return self.report.outcome, self.report.owner, self.report.guest

    def destination_status(self) -> str:
        """The destination's run state, as it says; the empty string if it has ended, or never was."""
        if self.destination_pid is None or self.destination_qmp is None:
            return ""
        return run_state(self.destination_pid, self.destination_qmp)

    def resume(self) -> None:
        """Let a guest go on that stands paused at the destination, as its user does."""
        assert self.destination_qmp is not None
        ask(self.destination_qmp, "cont")

    def commands(self) -> list[str]:
        """The commands that were carried out, in order."""
        return [line["command"] for line in read_log(self.log) if line["kind"] == "command"]

    def phases(self) -> list[str]:
        """The phases that it went through, in order."""
        steps = [line["phase"] for line in read_log(self.log) if line["kind"] == "step"]
        return [phase for number, phase in enumerate(steps) if number == 0 or phase != steps[number - 1]]


@dataclass
class World:
    """Everything that a test starts; all of it ends with the test."""

    folder: Path
    monitor: GuestMonitor = field(default_factory=GuestMonitor)
    guests: list[Guest] = field(default_factory=list[Guest])
    pids: set[int] = field(default_factory=set[int])
    """Processes that the tested code started, as its log names them."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def boot(
        self, *extra: str, spec: WorkloadSpec = SMALL, ram_bytes: int = RAM_BYTES, listen: bool = True, **options: Any
    ) -> Guest:
        """Start a QEMU; with ``listen``, wait until its guest beats steadily."""
        name = f"{len(self.guests)}"
        serial, qmp, spare = (self.folder / f"{letter}{name}" for letter in "sqr")
        argv = guest_arguments(
            spec, serial_path=serial, qmp_paths=[qmp, spare], ram_bytes=ram_bytes, extra=extra, **options
        )
        with (self.folder / f"e{name}").open("wb") as errors:
            process = await asyncio.to_thread(
                subprocess.Popen, argv, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        guest = Guest(process, argv, qmp, spare, serial)
        self.guests.append(guest)
        if listen:
            await self.monitor.attach("source", serial, timeout_s=PATIENCE_S)
            await self.monitor.wait_beats(20, side="source", timeout_s=PATIENCE_S)
        else:
            await until(lambda: _answers(spare), f"{spare} answers")
        return guest

    def hear(self, facts: Line) -> None:
        """Listen to a destination, once the facts of a migration say where it is."""
        if "destination_pid" in facts:
            self.pids.add(int(facts["destination_pid"]))
        serial = dict(facts.get("relocalised", {})).get("serial0")
        if serial:
            task = asyncio.get_running_loop().create_task(self._attach(Path(serial)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attach(self, serial: Path) -> None:
        try:
            await self.monitor.attach("destination", serial)
        except WhimbrelError:
            pass  # it was killed meanwhile: then there is nothing to hear

    async def migrate(
        self,
        source: Guest,
        destination: Destination | None = None,
        *,
        tap: Callable[[Runner], Tap] | None = None,
        **options: Any,
    ) -> End:
        """Run a migration by the driver's `Runner` to its end, however it ends.

        Args:
            source: the guest to move.
            destination: where to; `None`: a QEMU from the source's own command line.
            tap: given the runner, makes what reads the log along.
            options: fields of `Options`.
        """
        log = self.folder / f"log{len(list(self.folder.glob('log*')))}"
        journal = TappedJournal.create(log)
        wanted = replace(Options(waits=BRISK, reconnect_s=1.0), **options)
        runner = Runner(source.qmp, destination or FromSource(), wanted, journal, {})
        taps: list[Tap] = [self._on_line, *([tap(runner)] if tap is not None else [])]

        def tell(kind: str, fields: Line) -> None:
            for each in taps:
                each(kind, fields)

        journal.tap = tell
        try:
            async with asyncio.timeout(PATIENCE_S * 2):
                report = await runner.run()
        finally:
            journal.close()
        return end_of(report, log)

    async def run(self, migration: Migration) -> End:
        """Run a whole `Migration` to its end, however it ends, and listen to its destination.

        What it raised stands in `End.error`; without a report (it was not begun) it is raised.
        """
        follow = asyncio.get_running_loop().create_task(self._follow(migration))
        error: WhimbrelError | None = None
        try:
            async with asyncio.timeout(PATIENCE_S * 2):
                await migration.run()
        except WhimbrelError as said:
            error = said
            if migration.report is None:
                raise
        finally:
            await follow
        assert migration.report is not None
        assert migration.log_path is not None
        return end_of(migration.report, migration.log_path, error)

    async def _follow(self, migration: Migration) -> None:
        async for _ in migration.progress():
            if "destination_pid" in migration.facts:
                self.hear(migration.facts)
                return

    def _on_line(self, kind: str, fields: Line) -> None:
        if kind == "learnt":
            self.hear(fields["facts"])

    def running(self, source: Guest, end: End) -> set[str]:
        """On which sides the guest runs, as the QEMUs that are left say themselves."""
        states = {"source": source.status(), "destination": end.destination_status()}
        return {side for side, state in states.items() if state == "running"}

    async def check(self, source: Guest, end: End, *, before: Mapping[str, Any] | None = None) -> None:
        """Demand that the report agrees with the world.

        Args:
            source: the guest as it was started.
            end: what is said of it.
            before: the source's settings before the migration, which must be back where it keeps the guest.
        """
        outcome, owner, guest = end.verdict
        destination = end.destination_pid
        source_lives = source.status() != ""
        if owner == "source" and destination is not None:
            assert not lives(destination), "the destination was left running"
            assert not is_there(end.report.facts["destination_directory"]), "its directory was left"
        if owner == "source":
            assert not self.monitor.beats("destination"), "the guest beat on the destination"
        if outcome == "completed":
            await until(lambda: not source.alive, "the source process ends")
        if guest == "lost":
            assert not self.running(source, end)
        elif source_lives or owner == "destination":
            assert self.running(source, end) == {owner}
            await self.check_beats(owner)
        if owner == "source" and source_lives and before is not None:
            assert source.settings() == before

    async def check_beats(self, side: str) -> None:
        """Demand that the guest beats on one side, that it never beat on two, and that its memory is whole.

        Whole: the guest itself has looked at each of its pages, its counters never went back, and its own
        checks on the way found nothing.
        """
        await self.monitor.wait_beats(5, side=side, timeout_s=PATIENCE_S)
        verdict = await self.monitor.verify(side, timeout_s=PATIENCE_S)
        timeline = self.monitor.timeline()
        sides = [beat.side for beat in self.monitor.beats()]
        assert sides == sorted(sides, reverse=True), "beats of the source came after one of the destination"
        assert sides[-1] == side, f"the newest beat came from the {sides[-1]}"
        assert verdict.passed, verdict
        assert timeline.continuity.went_back == 0, "the guest's counters went back"
        assert timeline.bad == 0, "the guest found its memory damaged on the way"

    def end(self) -> list[int]:
        """Kill what was started, by pid; the pids that the tested code had left are given back."""
        self.monitor.close()
        for task in self._tasks:
            task.cancel()
        for guest in self.guests:
            guest.process.kill()
            guest.process.wait()
        left = [pid for pid in self.pids if lives(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + PATIENCE_S
        while any(map(lives, left)) and time.monotonic() < deadline_s:
            time.sleep(0.001)  # nobody else is left whom that could hold up
        return left


def end_of(report: CompletedReport, log: Path, error: WhimbrelError | None = None) -> End:
    """How a migration ended, from its report."""
    facts = report.facts
    monitor = facts.get("destination_qmp")
    return End(report, log, facts.get("destination_pid"), Path(monitor) if monitor else None, error)


async def until(holds: Callable[[], bool], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that no event tells of, looking often.

    Raises:
        AssertionError: it did not come about in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.002)  # between looks at a condition, under a deadline
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


def _answers(path: Path) -> bool:
    try:
        ask(path)
    except OSError:
        return False
    return True


def at(kind: str, action: Callable[[], None], **wanted: object) -> Tap:
    """A tap that acts once, at the first line of a kind with the fields that are given."""
    left = [action]

    def tap(seen: str, fields: Line) -> None:
        if left and seen == kind and all(fields.get(name) == value for name, value in wanted.items()):
            left.pop()()

    return tap


@asynccontextmanager
async def a_world(folder: Path) -> AsyncGenerator[World, None]:
    """A world that ends with the block."""
    world = World(folder)
    try:
        yield world
    finally:
        world.end()
