"""The throttle from outside on real moves: it slows the guest, and whatever dies it is undone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.guests import End, Guest, Line, Tap, World, end_of, read_log, until
from tests.support.left_behind import Death, die
from tests.support.taps import CALLED_OFF, MOVED, call_off, on_command
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver import replies
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.outside_hold import DEADLINE, attributes_of, put_on
from whimbrel.qmp_driver.outside_means import NoMeans, find
from whimbrel.qmp_driver.runner import Runner
from whimbrel.qmp_driver.vcpus import VcpuThread, find_threads
from whimbrel.resolving import Resolution

MIB = 1 << 20
BUSY = WorkloadSpec.parse(("hot:size=2MiB,rate=3000MiB/s", "cold:size=6MiB"), beat_hz=200)
"""Needs more of a processor than there is."""
SHARE = 0.75


async def threads_of(guest: Guest) -> tuple[VcpuThread, ...]:
    """Its vCPU threads; skips where this host can't slow them."""
    monitor = await Monitor.connect(str(guest.spare), side="source")
    try:
        told = [cpu.thread_id for cpu in await replies.query_cpus_fast(monitor)]
    finally:
        await monitor.close()
    threads = find_threads(guest.pid, told)
    try:
        await find(threads, lambda hold: None)
    except NoMeans as error:
        pytest.skip(f"this host can't: {error.message}")
    return threads


def groups_of(threads: tuple[VcpuThread, ...]) -> list[str]:
    """The control groups of each."""
    return [Path(f"/proc/{each.pid}/task/{each.tid}/cgroup").read_text() for each in threads]


def slowed(threads: tuple[VcpuThread, ...]) -> bool:
    """Whether one of them is slowed, as the kernel says; none that has ended is."""
    for thread in threads:
        try:
            (groups,) = groups_of((thread,))
            if "/whimbrel-" in groups or attributes_of(thread.tid)[0] == DEADLINE:
                return True
        except OSError:
            continue
    return False


def nothing_left(threads: tuple[VcpuThread, ...]) -> bool:
    """Whether the tree of control groups is as before."""
    names = {f"whimbrel-{thread.tid}-{thread.start_ticks}" for thread in threads}
    return not any(names & {path.name for path in Path("/sys/fs/cgroup").glob(depth)} for depth in ("*/*", "*/*/*"))


def slowing(throughout_s: float, seen_shares: list[float] | None = None) -> Policy:
    """Slows the guest for a while, in which hardly anything is sent, then lets it go and move."""

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(outside_throttle=SHARE, bandwidth_bytes_per_s=MIB, wake_after_s=0.1)
        if seen.elapsed_s < throughout_s:
            if seen_shares is not None:
                seen_shares[:] = seen.vcpu_shares
            return Decision()
        return Decision(outside_throttle=0.0, bandwidth_bytes_per_s=0)

    return policy


def when_taken(action: Callable[[Runner], None]) -> Callable[[Runner], Tap]:
    """Act, once, when the throttle is on."""

    def make(runner: Runner) -> Tap:
        left = [action]

        def tap(kind: str, fields: Line) -> None:
            throttle = runner.procedures.helm.cpus.throttle
            if left and kind == "sample" and throttle is not None and throttle.taken:
                asyncio.get_running_loop().call_soon(left.pop(), runner)

        return tap

    return make


GOAL = Objectives(greatest_throttle=0.95, downtime_s=0.3)


async def test_the_guest_is_slowed_to_the_share_and_let_go(world: World) -> None:
    """The policy sees it in how much the vCPU ran; once it is lifted the guest moves, whole."""
    source = await world.boot(spec=BUSY)
    threads = await threads_of(source)
    shares: list[float] = []

    end = await world.migrate(source, policy=slowing(1.2, shares), objectives=GOAL)
    assert end.verdict == MOVED
    assert len(shares) == 1
    assert shares[0] < 1 - SHARE + 0.07, "the kernel's accounting is as fine as its tick"
    lines = read_log(end.log)
    assert [line["hold"] is None for line in lines if line["kind"] == "outside"] == [False, True, False, True]
    assert end.report.facts["no_outside_throttle"] == ""
    assert nothing_left(threads)
    await world.check(source, end)


async def test_called_off_the_guest_has_all_its_time_again(world: World) -> None:
    """Its processor time, and its control group as it was."""
    source = await world.boot()
    threads = await threads_of(source)
    before = groups_of(threads)
    seen: list[bool] = []

    def look(runner: Runner) -> None:
        seen.append(slowed(threads))
        runner.cancel()

    end = await world.migrate(source, tap=when_taken(look), policy=slowing(60), objectives=GOAL)
    assert end.verdict == CALLED_OFF
    assert seen == [True]
    assert groups_of(threads) == before
    assert not slowed(threads)
    assert nothing_left(threads)
    await world.check(source, end)


async def test_a_watchdog_that_is_killed_is_undone_and_the_policy_told(world: World) -> None:
    """It goes on with a guest at full speed, and what the policy asks for then is refused, in a sentence."""
    source = await world.boot()
    threads = await threads_of(source)
    killed: list[int] = []

    def kill(runner: Runner) -> None:
        throttle = runner.procedures.helm.cpus.throttle
        assert throttle is not None
        assert throttle.watchdog_pid is not None
        killed.append(throttle.watchdog_pid)
        os.kill(killed[0], signal.SIGKILL)

    told: list[tuple[bool, float]] = []

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(outside_throttle=SHARE, bandwidth_bytes_per_s=MIB, wake_after_s=0.05)
        if seen.abilities.outside_throttle:
            return Decision()
        told.append((slowed(threads), seen.knobs.outside_throttle))
        return Decision(outside_throttle=0.5, bandwidth_bytes_per_s=0)

    end = await world.migrate(source, tap=when_taken(kill), policy=policy, objectives=GOAL)
    assert end.verdict == MOVED
    assert len(killed) == 1
    assert told[0] == (False, 0.0)
    assert "no throttle from outside any more: its watchdog has ended" in end.report.notes
    assert any("can't slow the source's vCPUs" in note for note in end.report.notes)
    assert nothing_left(threads)
    await world.check(source, end)


async def settled(world: World, source: Guest, log: Path) -> End:
    """Have it settled, and called off: over this link it would take long."""
    for each in read_log(log):
        if each["kind"] == "learnt":
            world.hear(each["facts"])
    resolution = Resolution(log)
    resolution.cancel()
    end = end_of(await resolution.run(), log)
    assert end.verdict == CALLED_OFF
    await world.check(source, end)
    return end


def death(source: Guest, log: Path, *, kill_watchdog: bool = False) -> Death:
    """Of a manager that has slowed its guest."""
    return Death(
        source=str(source.qmp),
        log=str(log),
        kind="sample",
        slowed=SHARE,
        kill_watchdog=kill_watchdog,
        bandwidth_bytes_per_s=MIB,
    )


async def test_a_manager_that_is_killed_is_outlived_by_its_watchdog(world: World) -> None:
    """The guest is at full speed at once, long before somebody settles the migration."""
    source = await world.boot()
    threads = await threads_of(source)
    log = world.folder / "left"
    await die(death(source, log))
    await until(lambda: not slowed(threads), "the guest is at full speed", timeout_s=4)
    assert nothing_left(threads)
    await settled(world, source, log)


async def test_where_both_are_killed_it_is_undone_when_the_migration_is_settled(world: World) -> None:
    """From the line that was written before anything was done."""
    source = await world.boot()
    threads = await threads_of(source)
    log = world.folder / "left"
    await die(death(source, log, kill_watchdog=True))
    assert slowed(threads)
    end = await settled(world, source, log)
    assert not slowed(threads)
    assert nothing_left(threads)
    outside = [line["hold"] for line in read_log(log) if line["kind"] == "outside"]
    assert outside[-1] is None
    assert not any("slowed" in note for note in end.report.notes)


async def test_what_stands_in_a_settled_log_is_undone_all_the_same(world: World) -> None:
    """Its manager could not undo it, and said so in its report; it is tried again, and nothing else is done."""
    source = await world.boot()
    threads = await threads_of(source)
    hold = await find(threads, lambda hold: None)
    end = await world.migrate(source, tap=on_command("prepare", call_off))
    assert end.verdict == CALLED_OFF
    header, *between, last = read_log(end.log)
    left = {**last, "kind": "outside", "hold": hold.as_written()}
    lines: list[Line] = [{**header, "objectives": {}}, *between, left, last]
    end.log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    put_on(hold, SHARE)
    assert slowed(threads)
    again = await Resolution(end.log).run()
    assert again == end.report
    assert not slowed(threads)
    assert nothing_left(threads)
