"""The real driver against a simulated QEMU and against the real one: one course after the other, and the same words.

Each course is played on both at the same time. What is compared does not depend on how fast either is: the order of
events on each side, the statuses, the names of the fields that were said in each, what the driver raised, and how it
ended.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.live_compare import differences, freshness
from tests.conformance.live_stage import MIB, RAM_BYTES, STANDARD, Kind, Load, Record, Stage, set_up
from tests.conformance.live_watch import Look
from tests.support.guests import BRISK
from tests.support.left_behind import postcopy_able
from tests.support.taps import CALLED_OFF, FAILED, LOST, MOVED, Verdict, both, on_signal
from whimbrel import Options
from whimbrel.engine.machine import Happened
from whimbrel.engine.policy import Objectives
from whimbrel.engine.protocol import Waits
from whimbrel.engine.signals import Signal
from whimbrel.qmp_driver.hooks import HookContext, Hooks
from whimbrel.qmp_driver.runner import Runner

_FOR_ALL = Path("/proc/sys/vm/unprivileged_userfaultfd")
FAULTS_ALLOWED = os.geteuid() == 0 or (_FOR_ALL.exists() and _FOR_ALL.read_text().strip() == "1")
SLOWLY = Objectives(bandwidth_bytes_per_s=MIB)
RESTLESS = Load(hot_bytes=12 * MIB, rate_bytes_per_s=64.0 * MIB, cold_bytes=4 * MIB)
"""Never over at less than 64 MiB/s: there is always something to send."""
MEASURED = Objectives(bandwidth_bytes_per_s=4 * MIB)
STILL_S = 0.8
STEADY_BYTES_PER_S = 8 * MIB

ENDED_BY_THE_SOURCE = "setup active( SHUTDOWN)?( failed)?"
WHO_IS_FIRST = ("destination", "errors")
"""The end of the stream, or the driver, which tells a destination to quit once the source said `cancelled`."""

Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Course:
    """What is done, and what each of both has to say."""

    name: str
    play: Play
    verdict: Verdict
    source: str
    """Pattern of the source's events."""
    destination: str
    error: str = ""
    """Pattern of what the driver raises."""
    objectives: Objectives = field(default_factory=Objectives)
    hooks: Callable[[Stage], Hooks] | None = None
    load: Load = STANDARD
    other: dict[str, Any] = field(default_factory=dict[str, Any])
    waits: Waits = BRISK
    needs_faults: bool = False
    """Needs userfaultfd, for post-copy."""
    chance: tuple[str, ...] = ()
    """What even the real QEMU alone does now so, now so: fields of `Record` that are not compared."""
    source_extra: tuple[str, ...] = ()
    """More of the source's arguments."""

    def __str__(self) -> str:
        return self.name


async def plain_move(stage: Stage) -> None:
    """Nothing is done besides."""
    await stage.run()


async def paused_move(stage: Stage) -> None:
    """The guest's user pauses it first."""
    stage.source.guest.stop()
    await stage.source.watch.until_event("STOP")
    await stage.run()


async def called_off(stage: Stage) -> None:
    """While RAM moves."""
    running = stage.begin()
    await stage.source.watch.until_status("active", 20)
    stage.migration.cancel()
    await running


async def destination_killed(stage: Stage) -> None:
    """While RAM moves."""
    running = stage.begin()
    await stage.source.watch.until_status("active", 20)
    os.kill(stage.destination.guest.pid, signal.SIGKILL)
    await running


async def destination_frozen(stage: Stage) -> None:
    """While RAM moves; it stands still, is noticed, and called off."""
    running = stage.begin()
    watch = stage.source.watch
    await watch.until_status("active", 20)
    os.kill(stage.destination.guest.pid, signal.SIGSTOP)
    seen = len(watch.looks)
    await watch.until(lambda: len(watch.looks) > seen + 60 and stalled(stage, 50), "nothing moves any more")
    assert watch.looks[-1].status == "active"
    stage.migration.cancel()
    await watch.until(lambda: watch.looks[-1].status in ("cancelled", "failed"), "it is called off")
    os.kill(stage.destination.guest.pid, signal.SIGKILL)  # the driver would first wait for it to quit
    await running


def stalled(stage: Stage, looks: int) -> bool:
    """Whether nothing was sent over so many looks."""
    last = stage.source.watch.looks[-looks:]
    return len({look.ram.get("transferred") for look in last}) == 1


async def source_killed(stage: Stage) -> None:
    """While RAM moves: the guest is gone."""
    running = stage.begin()
    await stage.source.watch.until_status("active", 20)
    os.kill(stage.source.guest.pid, signal.SIGKILL)
    await running


async def knob_turned(stage: Stage) -> None:
    """Somebody else lets it send faster, so that it ends."""
    running = stage.begin()
    watch = stage.source.watch
    await watch.until_status("active", 20)
    before = watch.looks[-1].ram["transferred"]
    await watch.ask("migrate-set-parameters", {"max-bandwidth": 64 * MIB})
    await running
    assert watch.looks[-1].ram["transferred"] > before


def choose(runner: Runner) -> None:
    """Decide for post-copy, as a policy does."""
    asyncio.get_running_loop().call_soon(runner.deliver, Happened(Signal.POSTCOPY_CHOSEN))


async def by_postcopy(stage: Stage) -> None:
    """As soon as memory moves; what is left of it comes after the guest, and takes longer than to let that run."""
    await stage.source.watch.ask("migrate-set-parameters", {"max-postcopy-bandwidth": 16 * MIB})
    goal = Objectives(bandwidth_bytes_per_s=2 * MIB)
    await stage.run_with(on_signal("source-active", choose), policy=postcopy_able, objectives=goal)


async def by_postcopy_mended(stage: Stage) -> None:
    """The link is lost while what is left comes over, and comes back."""
    watch = stage.source.watch
    await watch.ask("migrate-set-parameters", {"max-postcopy-bandwidth": 4 * MIB})
    pausing: list[asyncio.Task[object]] = []

    def cut(_: Runner) -> None:
        pausing.append(asyncio.create_task(watch.ask("migrate-pause", oob=True)))

    goal = Objectives(bandwidth_bytes_per_s=2 * MIB)
    tap = both(on_signal("source-active", choose), on_signal("destination-running", cut))
    await stage.run_with(tap, policy=postcopy_able, objectives=goal)
    assert [task.result() for task in pausing] == [{}]


async def source_stood_still(stage: Stage) -> None:
    """For a while, while RAM moves; then it goes on."""
    running = stage.begin()
    watch = stage.source.watch
    await watch.until_status("active", 20)
    os.kill(stage.source.guest.pid, signal.SIGSTOP)
    before = watch.looks[-1].ram["transferred"]
    await asyncio.sleep(STILL_S)  # how long it stands still is what is tried here
    os.kill(stage.source.guest.pid, signal.SIGCONT)
    seen = len(watch.looks)
    await watch.until(lambda: len(watch.looks) > seen + 1, "it answers again")
    sent = watch.looks[seen + 1].ram["transferred"] - before
    assert sent < STEADY_BYTES_PER_S * STILL_S / 2, "it sent while it stood still"
    await running


def call_off_when_stopped(stage: Stage) -> Hooks:
    """Call it off while QEMU waits before the switchover."""

    async def hook(context: HookContext) -> None:
        await stage.source.watch.until_status("pre-switchover", 3)
        stage.migration.cancel()

    return Hooks(source_stopped=hook)


COURSES = (
    Course(
        "plain move",
        plain_move,
        MOVED,
        source=r"setup p1 active STOP pre-switchover device p\+ completed( SHUTDOWN)?",
        destination="setup active completed RESUME",
    ),
    Course(
        "paused before",
        paused_move,
        ("completed", "destination", "paused"),
        source=r"STOP setup p1 active pre-switchover device p\+ completed( SHUTDOWN)?",
        destination="setup active completed",
    ),
    Course(
        "called off while RAM moves",
        called_off,
        CALLED_OFF,
        source="setup p1 active cancelling cancelled",
        destination=ENDED_BY_THE_SOURCE,
        error="MigrationCancelled: .*called off by the user",
        objectives=SLOWLY,
        chance=WHO_IS_FIRST,
    ),
    Course(
        "called off before the switchover",
        plain_move,
        CALLED_OFF,
        source="setup p1 active STOP pre-switchover (device )?cancelling RESUME cancelled",
        destination=ENDED_BY_THE_SOURCE,
        error="MigrationCancelled: .*called off by the user",
        hooks=call_off_when_stopped,
        chance=("source", "phases", *WHO_IS_FIRST),  # 7.2 wakes its thread before it says that it cancels
    ),
    Course(
        "destination killed",
        destination_killed,
        FAILED,
        source="setup p1 active (cancelling cancelled|failed)",
        destination="setup active",
        error="MigrationFailed: .*the destination process ended",
        objectives=SLOWLY,
        chance=("source",),  # QEMU's next write, or the driver, which sees its end: whichever is first
    ),
    Course(
        "destination frozen",
        destination_frozen,
        CALLED_OFF,
        source="setup p1 active (cancelling cancelled|failed)",
        destination="setup active",
        error="MigrationCancelled: .*called off by the user",
        objectives=Objectives(bandwidth_bytes_per_s=16 * MIB),
        load=RESTLESS,
        chance=("source",),  # 7.2: the write that hangs fails, or is seen to have been called off, whichever is first
    ),
    Course(
        "source killed",
        source_killed,
        LOST,
        source="setup p1 active",
        destination="setup active failed",
        error="MigrationFailed: .*the (destination said failed|source process ended)",
        objectives=SLOWLY,
        chance=("error", "phases", "commands"),  # which of the two is heard first
    ),
    Course(
        "a knob turned by others",
        knob_turned,
        MOVED,
        source=r"setup p1 active STOP pre-switchover device p\+ completed( SHUTDOWN)?",
        destination="setup active completed RESUME",
        objectives=SLOWLY,
    ),
    Course(
        "by post-copy",
        by_postcopy,
        MOVED,
        source=r"setup p1 active STOP pre-switchover postcopy-active p\+ completed( SHUTDOWN)?",
        destination="setup active postcopy-active RESUME completed",
        needs_faults=True,
    ),
    Course(
        "by post-copy, over a link that is lost",
        by_postcopy_mended,
        MOVED,
        source=r"setup p1 active STOP pre-switchover postcopy-active p\+ postcopy-paused "
        r"postcopy-recover postcopy-active completed( SHUTDOWN)?",
        destination="setup active postcopy-active RESUME "
        "postcopy-paused setup postcopy-recover postcopy-active completed",
        needs_faults=True,
    ),
    Course(
        "source stood still",
        source_stood_still,
        MOVED,
        source=r"setup p1 active STOP pre-switchover device p\+ completed( SHUTDOWN)?",
        destination="setup active completed RESUME",
        objectives=Objectives(bandwidth_bytes_per_s=STEADY_BYTES_PER_S),
    ),
    Course(
        "a destination that does not fit",
        plain_move,
        FAILED,
        source="",
        destination="SHUTDOWN",
        error="PreflightFailed: .*virtio-rng-pci|PreflightFailed: .*pc.ram",
        other={"ram_bytes": RAM_BYTES + (64 << 10)},
        source_extra=("-device", "virtio-rng-pci"),
    ),
)


async def play(course: Course, kind: Kind, folder: Path) -> Record:
    """Play a course on QEMUs of one kind."""
    options = Options(objectives=course.objectives)
    async with set_up(
        folder,
        kind,
        load=course.load,
        options=options,
        waits=course.waits,
        other=course.other,
        source_extra=course.source_extra,
    ) as stage:
        if course.hooks is not None:
            stage.use(course.hooks(stage))
        await course.play(stage)
        return await stage.record()


@pytest.mark.parametrize("course", COURSES, ids=str)
async def test_both_go_the_same_way(course: Course, short_folder: Path) -> None:
    """Each says what it is expected to, and both say the same."""
    if course.needs_faults and not FAULTS_ALLOWED:
        pytest.skip("post-copy needs userfaultfd, which is for root alone here")
    folders = {kind: short_folder / kind for kind in Kind}
    for folder in folders.values():
        folder.mkdir()
    real, simulated = await asyncio.gather(*(play(course, kind, folder) for kind, folder in folders.items()))
    for record in (real, simulated):
        assert record.verdict == course.verdict, record
        assert re.fullmatch(course.source, record.source), record
        assert re.fullmatch(course.destination, record.destination), record
        assert re.match(course.error, record.error, re.DOTALL), record
        assert record.unannounced == [], record
    assert differences(real, simulated, course.chance) == []


async def figures(kind: Kind, folder: Path) -> list[Look]:
    """What was said of a move with passes of more than a second, while it was active."""
    async with set_up(folder, kind, options=Options(objectives=MEASURED)) as stage:
        await stage.run()
        return stage.source.watch.looks_at("active")


async def test_the_figures_are_as_stale(short_folder: Path) -> None:
    """What `query-migrate` shows is not what is, and in the same way; and both take as long."""
    folders = {kind: short_folder / kind for kind in Kind}
    for folder in folders.values():
        folder.mkdir()
    real, simulated = await asyncio.gather(*(figures(kind, folder) for kind, folder in folders.items()))
    for looks in (real, simulated):
        assert [fact for fact, holds in freshness(looks).items() if not holds] == []
    took_ms, took_simulated_ms = (looks[-1].time_ms for looks in (real, simulated))
    assert took_simulated_ms == pytest.approx(took_ms, rel=0.2)
