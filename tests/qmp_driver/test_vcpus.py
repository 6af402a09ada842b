"""The threads that run a guest's CPUs: found, and how long each has run."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tests.support.guests import World
from tests.support.spinner import spinning
from whimbrel.qmp_driver import replies
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.vcpus import find_threads, run_times_s, shares


@pytest.mark.parametrize(("accelerator", "threads"), [("tcg,thread=single", 1), ("tcg,thread=multi", 2)])
async def test_the_threads_of_a_real_qemu_are_found_each_once(world: World, accelerator: str, threads: int) -> None:
    """Under TCG one thread may run all vCPUs."""
    source = await world.boot("-smp", "2", accel=accelerator, listen=False)
    monitor = await Monitor.connect(str(source.qmp), side="source")
    try:
        told = [cpu.thread_id for cpu in await replies.query_cpus_fast(monitor)]
    finally:
        await monitor.close()
    found = find_threads(source.pid, told)
    assert [thread.tid for thread in found] == list(dict.fromkeys(told))
    assert len(found) == threads
    assert len(run_times_s(found)) == threads


def test_threads_that_are_not_there_are_not_found() -> None:
    """A number of another process, and of none."""
    assert find_threads(os.getpid(), (1,)) == ()
    assert find_threads(os.getpid(), ()) == ()


def test_a_thread_of_this_process_is_found() -> None:
    """But never the first one: QEMU runs no CPU in it."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        (found,) = find_threads(os.getpid(), (thread.native_id, thread.native_id))
        assert found.tid == thread.native_id
        assert find_threads(os.getpid(), (os.getpid(),)) == ()
    finally:
        gate.set()
        thread.join()


def test_a_thread_that_runs_is_seen_to() -> None:
    """The kernel's count grows, and ends with the thread."""
    with spinning() as thread:
        (before,) = run_times_s((thread,))
        deadline_s = time.monotonic() + 10
        while run_times_s((thread,)) <= (before + 0.01,):
            assert time.monotonic() < deadline_s
    assert run_times_s((thread,)) == ()


@pytest.mark.parametrize(
    ("before", "after", "span_s", "wanted"),
    [
        ((1.0, 2.0), (1.5, 2.0), 1.0, (0.5, 0.0)),
        ((1.0,), (2.1,), 1.0, (1.0,)),
        ((1.0,), (0.9,), 1.0, (0.0,)),
        ((), (1.0,), 1.0, ()),
        ((1.0,), (), 1.0, ()),
        ((1.0,), (1.5,), 0.0, ()),
    ],
)
def test_a_share_is_from_nothing_to_the_whole(
    before: tuple[float, ...], after: tuple[float, ...], span_s: float, wanted: tuple[float, ...]
) -> None:
    """The kernel counts a running thread up to its last tick, so that it may seem to have run too long."""
    assert shares(before, after, span_s) == wanted
