"""Two QEMUs to try the driver on, real or simulated, and what is kept of one run."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.conformance.live_watch import Watch
from tests.support.guests import BRISK, End, Guest, Tap, World, ask, end_of, read_log, until
from whimbrel import Migration, Options
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.protocol import Waits
from whimbrel.guest.boot import guest_arguments
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.destination import Existing
from whimbrel.qmp_driver.hooks import Hooks
from whimbrel.qmp_driver.runner import Runner
from whimbrel.sim.wire.loader import MODULE, by_loader

MIB = 1 << 20
RAM_BYTES = 24512 << 10
"""No multiple of 256 KiB, at which QEMU 7.2 under TCG loses writes."""
MACHINE = "pc-i440fx-7.2"


LOOPBACK = {"bandwidth_bytes_per_s": 1.5e9, "latency_s": 0.00003, "pipe_bytes": 2_500_000}
"""What TCP on one host comes to."""


ENOUGH_LOOKS = 3
"""So often a status has to have been looked at for its fields to be compared: what lasts a moment is chance."""


class Kind(StrEnum):
    """What is looked at."""

    REAL = "real"
    SIMULATED = "simulated"


@dataclass(frozen=True)
class Load:
    """What the guest does, in the words of both: a hot range, rewritten uniformly, and a cold one that stands."""

    hot_bytes: int = 2 * MIB
    rate_bytes_per_s: float = 2.0 * MIB
    cold_bytes: int = 6 * MIB

    @property
    def spec(self) -> WorkloadSpec:
        """For the workload guest in a real QEMU."""
        hot = f"hot:size={self.hot_bytes >> 10}KiB,rate={self.rate_bytes_per_s / 1024:.0f}KiB/s"
        return WorkloadSpec.parse((hot, f"cold:size={self.cold_bytes >> 10}KiB"), beat_hz=200)

    @property
    def guest(self) -> dict[str, Any]:
        """For the model. Firmware, boot code and the guest's program are some 0.7 MiB that nobody writes to."""
        hot = {"name": "hot", "size_bytes": self.hot_bytes, "rate_bytes_per_s": self.rate_bytes_per_s}
        filled = self.hot_bytes + self.cold_bytes + 700 * 1024
        return {"writers": [hot], "zero_bytes": (RAM_BYTES - filled) // 4096 * 4096}


STANDARD = Load()
DEFAULTS = Options()


@dataclass
class Side:
    """One QEMU on the stage."""

    guest: Guest
    watch: Watch
    errors: Path

    @property
    def stderr(self) -> list[str]:
        """What it wrote to its standard error."""
        return self.errors.read_text().splitlines()

    async def exit_code(self) -> int:
        """How it ended; waits for that."""
        await until(lambda: not self.guest.alive, "it ends")
        return int(self.guest.process.returncode)


@dataclass
class Stage:
    """A source with a guest that runs, and a destination that waits."""

    kind: Kind
    world: World
    source: Side
    destination: Side
    log: Path
    migration: Migration
    end: End | None = None

    async def run(self) -> End:
        """Run the migration to its end, however it ends."""
        error: WhimbrelError | None = None
        try:
            async with asyncio.timeout(40):
                await self.migration.run()
        except WhimbrelError as said:
            error = said
        report = self.migration.report
        assert report is not None, error
        self.end = end_of(report, self.log, error)
        return self.end

    async def run_with(self, tap: Callable[[Runner], Tap], **options: Any) -> End:
        """As `run`, by the driver's `Runner` itself, with somebody who reads its log along.

        Args:
            tap: as for `World.migrate`.
            options: fields of `Options`.
        """
        where = Existing(self.destination.guest.qmp)
        self.end = await self.world.migrate(self.source.guest, where, tap=tap, **options)
        self.log = self.end.log
        return self.end

    def begin(self) -> asyncio.Task[End]:
        """As `run`, beside whatever else the test does."""
        return asyncio.create_task(self.run())

    def use(self, hooks: Hooks) -> None:
        """Have the migration, which has not begun, ask these hooks."""
        made = self.migration
        self.migration = Migration(made.source, made.destination, replace(made.options, hooks=hooks))

    async def record(self) -> Record:
        """What is compared; a side that was told to end has ended by then."""
        assert self.end is not None
        ended = self.source if self.end.report.moved else self.destination
        await ended.exit_code()
        await ended.watch.until(lambda: ended.watch.ended, "all that it said is read")
        return Record.of(self)


@dataclass(frozen=True)
class Record:
    """One run in words that do not depend on times, places and numbers of processes."""

    kind: Kind
    verdict: tuple[str, str, str]
    error: str
    """Class and words of what the driver raised; empty: nothing."""
    phases: list[str]
    commands: list[str]
    signals: list[str]
    source: str
    """The source's events."""
    destination: str
    constants: dict[str, int]
    """What does not depend on what the guest does."""
    looks: dict[str, Counter[str]]
    """By side: how often each status was seen."""
    unannounced: list[str]
    """Statuses that were seen, and of which no event told."""
    fields: dict[str, frozenset[str]]
    """By side and status, where it was looked at often enough: the names of what was said."""
    run_states: dict[str, str]
    """By side: the run state at the end; empty: it has ended."""
    errors: list[str] = field(default_factory=list[str])
    """What the destination wrote to its standard error."""

    @classmethod
    def of(cls, stage: Stage) -> Record:
        """Put a run into words."""
        end = stage.end
        assert end is not None
        sides = {"source": stage.source, "destination": stage.destination}
        fields: dict[str, frozenset[str]] = {}
        for name, side in sides.items():
            for status in filter(None, set(side.watch.statuses)):
                looks = side.watch.looks_at(status)
                if len(looks) >= ENOUGH_LOOKS:
                    fields[f"{name} {status}"] = frozenset[str]().union(*(look.fields for look in looks))
        figures = [look.ram for look in stage.source.watch.looks if look.ram]
        error = "" if end.error is None else f"{type(end.error).__name__}: {plain(str(end.error), stage)}"
        lines = read_log(stage.log)
        return cls(
            kind=stage.kind,
            verdict=end.verdict,
            error=error,
            phases=end.phases(),
            commands=end.commands(),
            signals=[str(line["signal"]) for line in lines if line["kind"] == "signal"],
            source=stage.source.watch.course,
            destination=stage.destination.watch.course,
            constants={name: ram[name] for ram in figures[-1:] for name in ("total", "page-size")},
            looks={name: Counter(look.status for look in side.watch.looks) for name, side in sides.items()},
            unannounced=[
                f"{name}: {status}"
                for name, side in sides.items()
                for status in dict.fromkeys(side.watch.statuses)
                if status and status not in side.watch.words
            ],
            fields=fields,
            run_states={name: side.guest.status() for name, side in sides.items()},
            errors=[plain(line, stage) for line in stage.destination.stderr],
        )


def plain(text: str, stage: Stage) -> str:
    """Words without what is different in every run: paths, ports, numbers of processes."""
    text = text.replace(str(stage.world.folder), "FOLDER")
    return re.sub(r"\d+(\.\d+)?", "#", text)


@asynccontextmanager
async def set_up(
    folder: Path,
    kind: Kind,
    *,
    load: Load = STANDARD,
    options: Options = DEFAULTS,
    policy: Any = None,
    waits: Waits = BRISK,
    simulation: Mapping[str, Any] | None = None,
    other: Mapping[str, Any] | None = None,
    source_extra: tuple[str, ...] = (),
) -> AsyncGenerator[Stage, None]:
    """Start both sides and watch them; everything ends with the block.

    Args:
        folder: exists, with a short path.
        kind: real or simulated.
        load: what the guest does.
        options: of the migration, but for its waits.
        waits: how long the driver waits for what.
        policy: of the migration.
        simulation: more of what is simulated (``link``, ``speed``, ...).
        other: arguments of `guest_arguments` for the destination, that make it another one.
        source_extra: more of QEMU's arguments, for the source.
    """
    world = World(folder)
    try:
        booting = _Booting(world, kind, load, simulation or {})
        source = await booting.boot(*source_extra)
        destination = await booting.boot(listen=False, incoming="defer", paused=True, **(other or {}))
        log = folder / "log"
        wanted = replace(options, waits=waits, reconnect_s=1.0, log_path=log)
        migration = Migration(source.guest.qmp, Existing(destination.guest.qmp), wanted, policy=policy)
        async with source.watch, destination.watch:
            yield Stage(kind, world, source, destination, log, migration)
    finally:
        world.end()


@dataclass
class _Booting:
    """Starts QEMUs of one kind, with the same arguments as those of the other."""

    world: World
    kind: Kind
    load: Load
    simulation: Mapping[str, Any]

    async def boot(self, *extra: str, listen: bool = True, **options: Any) -> Side:
        """Start one; with ``listen``, wait until its guest runs."""
        name = f"{len(self.world.guests)}"
        watched = self.world.folder / f"w{name}"
        words = ("-qmp", f"unix:{watched},server=on,wait=off", *extra)
        settings: dict[str, Any] = {"ram_bytes": RAM_BYTES, "machine": MACHINE, **options}
        if self.kind is Kind.REAL:
            guest = await self.world.boot(*words, spec=self.load.spec, listen=listen, **settings)
        else:
            guest = await self._simulate(name, words, settings)
        return Side(guest, Watch(watched), self.world.folder / f"e{name}")

    async def _simulate(self, name: str, extra: tuple[str, ...], settings: dict[str, Any]) -> Guest:
        folder = self.world.folder
        serial, qmp, spare = (folder / f"{letter}{name}" for letter in "sqr")
        arguments = guest_arguments(self.load.spec, serial_path=serial, qmp_paths=[qmp, spare], extra=extra, **settings)
        plan = json.dumps({"guest": self.load.guest, "link": LOOPBACK, **self.simulation}).replace(",", ",,")
        words = [*arguments[1:], "-fw_cfg", f"name=opt/whimbrel.sim,string={plan}"]
        # As it would call itself anyway, which takes as long as to start it.
        argv = by_loader(words) or [sys.executable, "-m", MODULE, *words]
        with (folder / f"e{name}").open("wb") as errors:
            process = await asyncio.to_thread(
                subprocess.Popen, argv, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        guest = Guest(process, argv, qmp, spare, serial)
        self.world.guests.append(guest)
        await until(lambda: _answers(spare) or not guest.alive, f"{spare} answers")
        assert guest.alive, (folder / f"e{name}").read_text()
        return guest


def _answers(path: Path) -> bool:
    try:
        ask(path)
    except OSError:
        return False
    return True
