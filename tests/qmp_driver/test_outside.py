"""The throttle from outside as the manager handles it: what is wanted is taken, and nothing is ever left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from tests.support.guests import lives, until
from tests.support.spinner import spinning
from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver.outside import OutsideThrottle
from whimbrel.qmp_driver.outside_hold import DEADLINE, Hold, Thread, attributes_of, take_off
from whimbrel.qmp_driver.outside_means import NoMeans, by_deadline, find
from whimbrel.qmp_driver.vcpus import VcpuThread


@dataclass
class Bench:
    """A throttle on a spinning thread, and what it says."""

    thread: VcpuThread
    hold: Hold
    lines: list[Hold | None] = field(default_factory=list[Hold | None])
    failures: list[str] = field(default_factory=list[str])

    def throttle(self, lease_s: float = 30.0) -> OutsideThrottle:
        """A new one."""
        return OutsideThrottle(self.hold, write=self.lines.append, failed=self.failures.append, lease_s=lease_s)

    @property
    def touched(self) -> bool:
        """Whether the thread is otherwise than it was, as the kernel says."""
        try:
            policy = attributes_of(self.thread.tid)[0]
        except OSError:
            return False
        return policy == DEADLINE or any(held.group and os.path.exists(held.group) for held in self.hold.threads)


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    """By whatever means this host has."""
    with spinning() as thread:
        try:
            hold = await find((thread,), lambda hold: None)
        except NoMeans as error:
            pytest.skip(f"this host can't: {error.message}")
        yield Bench(thread, hold)


async def until_taken(throttle: OutsideThrottle, share: float | None) -> None:
    """Wait until the watchdog has said that this share is taken."""
    await until(lambda: throttle.taken == share, f"{share} is taken")


async def test_what_is_wanted_is_taken_and_given_back(bench: Bench) -> None:
    """The line that says what is done is written before it is done, and the one that says it is undone after."""
    throttle = bench.throttle()
    throttle.want(0.5)
    assert not bench.touched, "it is done by the watchdog, which is not there yet"
    await until_taken(throttle, 0.5)
    assert bench.touched
    assert bench.lines == [bench.hold]
    throttle.want(None)
    await until_taken(throttle, None)
    assert not bench.touched
    throttle.want(0.9)
    await until_taken(throttle, 0.9)
    watchdog = throttle.watchdog_pid
    assert watchdog is not None
    await throttle.close()
    assert not bench.touched
    assert not lives(watchdog)
    assert (bench.lines, bench.failures) == ([bench.hold, None], [])


async def test_a_share_of_nothing_makes_ready_for_another_one(bench: Bench) -> None:
    """The slow part is done: the thread is in its group, without a limit."""
    throttle = bench.throttle()
    throttle.want(0.0)
    await until_taken(throttle, 0.0)
    assert bench.lines == [bench.hold]
    for share in (0.9, 0.0, 0.5):
        throttle.want(share)
        await until_taken(throttle, share)
    await throttle.close()
    assert not bench.touched


async def test_by_deadline_too(bench: Bench) -> None:
    """Where a host has no control groups."""
    bench.hold = by_deadline((bench.thread,))
    throttle = bench.throttle()
    throttle.want(0.5)
    await until_taken(throttle, 0.5)
    assert attributes_of(bench.thread.tid)[0] == DEADLINE
    await throttle.close()
    assert attributes_of(bench.thread.tid)[0] != DEADLINE


async def test_where_nothing_is_wanted_nothing_is_done(bench: Bench) -> None:
    """No process, and no line."""
    throttle = bench.throttle()
    throttle.want(None)
    await throttle.close()
    assert (throttle.watchdog_pid, bench.lines) == (None, [])


async def test_a_watchdog_that_is_killed_is_undone_by_the_manager(bench: Bench) -> None:
    """At once, and it is told; nothing is taken any more."""
    throttle = bench.throttle()
    throttle.want(0.5)
    await until_taken(throttle, 0.5)
    assert throttle.watchdog_pid is not None
    os.kill(throttle.watchdog_pid, signal.SIGKILL)
    await until(lambda: bench.failures != [], "it is told")
    assert bench.failures == ["its watchdog has ended"]
    assert not bench.touched
    assert bench.lines == [bench.hold, None]
    throttle.want(0.9)
    await throttle.close()
    assert not bench.touched


async def test_the_lease_is_renewed_for_as_long_as_the_manager_lives(bench: Bench) -> None:
    """Many times over."""
    throttle = bench.throttle(lease_s=0.1)
    throttle.want(0.5)
    await until_taken(throttle, 0.5)
    await asyncio.sleep(0.5)  # five leases
    assert bench.touched
    assert bench.failures == []
    await throttle.close()


async def test_a_manager_that_was_held_up_has_lost_it(bench: Bench) -> None:
    """The watchdog has undone it by itself meanwhile, and says so."""
    throttle = bench.throttle(lease_s=0.2)
    throttle.want(0.5)
    await until_taken(throttle, 0.5)
    while bench.touched:  # our loop stands still
        pass
    await until(lambda: bench.failures != [], "it is told")
    assert bench.failures == ["its lease ran out: this process was held up for too long"]
    assert throttle.watchdog_pid is None
    await throttle.close()


async def test_what_the_kernel_refuses_is_told(bench: Bench) -> None:
    """And nothing is left of it."""
    held = Thread(bench.thread.pid, bench.thread.tid, bench.thread.start_ticks, home="/proc", group="/proc/whimbrel")
    bench.hold = Hold("cgroup-v1", (held,))
    throttle = bench.throttle()
    throttle.want(0.5)
    await until(lambda: bench.failures != [], "it is told")
    assert throttle.watchdog_pid is None
    await throttle.close()


async def test_what_can_not_be_written_down_is_not_done(bench: Bench) -> None:
    """Otherwise nobody after us could undo it."""

    def full(hold: Hold | None) -> None:
        raise WhimbrelError("the log can't be written: No space left on device")

    throttle = OutsideThrottle(bench.hold, write=full, failed=bench.failures.append)
    throttle.want(0.5)
    await until(lambda: bench.failures != [], "it is told")
    assert bench.failures == ["the log can't be written: No space left on device"]
    assert (throttle.watchdog_pid, bench.touched) == (None, False)
    await throttle.close()


async def test_what_can_not_be_undone_at_the_end_is_told(bench: Bench) -> None:
    """It is the last chance to say so: the report has it, and the log."""
    throttle = bench.throttle()
    throttle.want(0.5)
    await until_taken(throttle, 0.5)
    (held,) = bench.hold.threads
    if not held.group:
        pytest.skip("only a group can be kept from being removed")
    kept = f"{held.group}/somebody-else"
    os.mkdir(kept)
    try:
        await throttle.close()
        assert bench.failures == [f"{held.group} is still slowed (Device or resource busy)"]
        assert bench.lines == [bench.hold]
    finally:
        os.rmdir(kept)
        assert take_off(bench.hold) == []


async def test_closed_in_the_middle_of_it_nothing_is_left(bench: Bench) -> None:
    """At any moment between the wish and its fulfilment."""
    for moment_s in (0.0, 0.001, 0.02, 0.04):
        throttle = bench.throttle()
        throttle.want(0.5)
        await asyncio.sleep(moment_s)
        await throttle.close()
        assert not bench.touched, moment_s
    assert bench.failures == []
