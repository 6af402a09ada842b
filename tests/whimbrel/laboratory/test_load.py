"""What is used of the machine, and by whom."""

from __future__ import annotations

import threading
import time

from whimbrel.laboratory.load import LISTENER_PREFIX, Stopwatch, manager_cpu_s, until_quiet


def _burn(seconds: float) -> None:
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        pass


def test_work_of_ours_is_counted() -> None:
    before = manager_cpu_s()
    _burn(0.05)
    assert manager_cpu_s() - before >= 0.05


def test_listening_to_the_guest_is_no_management() -> None:
    done, leave = threading.Event(), threading.Event()

    def listen() -> None:
        _burn(0.2)
        done.set()
        leave.wait()

    watch = Stopwatch.start(())
    thread = threading.Thread(target=listen, name=f"{LISTENER_PREFIX}source")
    thread.start()
    done.wait()
    used_s = watch.manager_cpu_s()
    leave.set()
    thread.join()
    assert used_s < 0.15


def test_our_own_work_is_not_that_of_others() -> None:
    watch = Stopwatch.start(())
    alone = Stopwatch.start(())
    _burn(0.5)
    assert alone.others_cores(()) <= watch.others_cores(()) + 0.2
    assert watch.manager_cpu_s() >= 0.5


async def test_waiting_for_quiet_ends_when_patience_does() -> None:
    assert await until_quiet(0) >= 0
