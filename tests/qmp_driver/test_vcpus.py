"""The threads that run a guest's CPUs: found, and how long each has run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.guests import World
from tests.support.spinner import PROGRAM, spinning
from whimbrel.qmp_driver import replies
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.vcpus import by_inner_number, find_threads, run_times_s, shares, sleeps


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


def test_a_thread_that_waits_goes_to_sleep_each_time() -> None:
    """Ten times here, and once for the end; of one that has ended nobody can tell."""
    go_on, done = threading.Semaphore(0), threading.Semaphore(0)

    def waits() -> None:
        for _ in range(11):
            go_on.acquire()
            done.release()

    thread = threading.Thread(target=waits)
    thread.start()
    assert thread.native_id is not None
    found = find_threads(os.getpid(), (thread.native_id,))
    before = sleeps(found)
    for _ in range(10):
        go_on.release()
        done.acquire()
    after = sleeps(found)
    go_on.release()
    thread.join()
    assert 1 <= after[0] - before[0] <= 50
    assert sleeps(found) == ()
    assert sleeps(()) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="making a pid namespace takes root")
def test_threads_in_a_pid_namespace_of_their_own_are_found_by_their_numbers_there() -> None:
    """A QEMU in a container names its threads so; its first thread, of which the number is 1, is none of them."""
    words = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-I", "-S", "-c", PROGRAM)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as outer:
        try:
            assert outer.stdout is not None
            number = int(outer.stdout.readline())
            pid = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
            (ours,) = {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()} - {pid}
            assert by_inner_number(pid) == {number: ours}
            (found,) = find_threads(pid, (number,))
            assert (found.pid, found.tid) == (pid, ours)
            assert find_threads(pid, (1,)) == ()
        finally:
            outer.kill()
    assert by_inner_number(os.getpid()) == {}


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
