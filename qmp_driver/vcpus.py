"""The threads that run a guest's CPUs, where they are on this host: which they are, and how long each has run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .outside_hold import start_of

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class VcpuThread:
    """A thread, as this host numbers it.

    Attributes:
        pid: its process.
        tid: its id.
        start_ticks: when it started, in clock ticks since boot: with its id that names it for ever.
    """

    pid: int
    tid: int
    start_ticks: int


def find_threads(pid: int, told: Sequence[int]) -> tuple[VcpuThread, ...]:
    """Find the threads that QEMU named, each once: under TCG one thread may run all vCPUs.

    Args:
        pid: QEMU's process, proven to be it (``truth.Peer``).
        told: their ids as ``query-cpus-fast`` tells them, in our pid namespace or in QEMU's own.

    Returns:
        In the order of the vCPUs; nothing where one of them can't be found.
    """
    ids = tuple(dict.fromkeys(told))
    if not all(os.path.exists(f"/proc/{pid}/task/{tid}") for tid in ids) or pid in ids:
        inner = by_inner_number(pid)
        if not all(tid in inner for tid in ids):
            return ()
        ids = tuple(inner[tid] for tid in ids)
    starts = [(tid, start_of(pid, tid)) for tid in ids]
    return tuple(VcpuThread(pid, tid, start) for tid, start in starts if start is not None)


def by_inner_number(pid: int) -> dict[int, int]:
    """Find a process's threads by the numbers that its own pid namespace has for them.

    Args:
        pid: the process, in our pid namespace.

    Returns:
        Our number of each thread but the first, in which QEMU runs no CPU; nothing if its namespace is ours.
    """
    found: dict[int, int] = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            lines = status.read_text(errors="replace").splitlines()
        except OSError:
            continue  # a thread that has just ended
        numbers = [number for line in lines if line.startswith("NSpid:") for number in line.split()[1:]]
        if len(numbers) > 1 and status.parent.name != str(pid):
            found[int(numbers[-1])] = int(status.parent.name)
    return found


def run_times_s(threads: Sequence[VcpuThread]) -> tuple[float, ...]:
    """How long each has run so far, seconds; 10 µs for each of them.

    The kernel counts a thread that runs just now up to its last timer tick, a few milliseconds ago.

    Returns:
        In their order; nothing if one of them has ended, or the kernel keeps no such counts.
    """
    times: list[float] = []
    for thread in threads:
        try:
            descriptor = os.open(f"/proc/{thread.pid}/task/{thread.tid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Documentation/scheduler/sched-stats.rst: time on the processor, time waiting for it, how often.
                times.append(int(os.read(descriptor, 128).split()[0]) / NS_PER_S)
            finally:
                os.close(descriptor)
        except (OSError, IndexError, ValueError):
            return ()
    return tuple(times)


def sleeps(threads: Sequence[VcpuThread]) -> tuple[int, ...]:
    """How often each has gone to sleep of its own accord so far (``voluntary_ctxt_switches`` in proc(5)).

    Returns:
        In their order; nothing if one of them has ended.
    """
    counts: list[int] = []
    for thread in threads:
        try:
            status = Path(f"/proc/{thread.pid}/task/{thread.tid}/status").read_text(errors="replace")
        except OSError:
            return ()
        counts += [int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches:")]
    return tuple(counts)


def shares(before: Sequence[float], after: Sequence[float], span_s: float) -> tuple[float, ...]:
    """How much of a span each ran, 0 to 1.

    Args:
        before: `run_times_s` at its beginning.
        after: at its end.
        span_s: its length, seconds.

    Returns:
        Nothing where that can't be told.
    """
    if not before or len(before) != len(after) or span_s <= 0:
        return ()
    return tuple(min(1.0, max(0.0, (last - first) / span_s)) for first, last in zip(before, after, strict=True))
