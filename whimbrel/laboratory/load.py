"""What else the machine does, and what we ourselves use of it. Linux's /proc, all figures in seconds of CPU."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

QUIET_CORES = 0.25
"""Others that use less than a quarter of a core are taken for quiet."""
LOOK_S = 0.7
LISTENER_PREFIX = "guest-"
"""How the threads are called that listen to the guest (`whimbrel.guest.monitor`): they measure, they do not manage."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """CPU used since a moment: by everybody, by the two QEMUs and us, and by the managing part of us."""

    began_s: float
    busy_s: float
    family_s: float
    manager_s: float

    @classmethod
    def start(cls, pids: Iterable[int]) -> Stopwatch:
        """Begin now; `pids` are the children that already run."""
        return cls(time.monotonic(), _busy_s(), _family_s(pids), manager_cpu_s())

    def manager_cpu_s(self) -> float:
        """What this process used since, without the threads that listen to the guest."""
        return manager_cpu_s() - self.manager_s

    def others_cores(self, pids: Iterable[int]) -> float:
        """Cores that others used since, on average; `pids` are the children that run now."""
        passed_s = max(time.monotonic() - self.began_s, 1e-3)
        return max(0.0, (_busy_s() - self.busy_s - (_family_s(pids) - self.family_s)) / passed_s)


def manager_cpu_s() -> float:
    """CPU that this process has used so far, without the threads that listen to the guest."""
    listeners = (thread.ident for thread in threading.enumerate() if thread.name.startswith(LISTENER_PREFIX))
    heard_s = sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in listeners if ident is not None)
    return time.process_time() - heard_s


async def until_quiet(patience_s: float) -> float:
    """Wait until the machine is quiet, at most `patience_s`; give the cores in use when the waiting ended."""
    deadline_s = time.monotonic() + patience_s
    while True:
        watch = Stopwatch.start(())
        await asyncio.sleep(LOOK_S)
        cores = watch.others_cores(())
        if cores < QUIET_CORES or time.monotonic() >= deadline_s:
            return cores


def _busy_s() -> float:
    """CPU used by everybody since boot: user, nice, system and soft interrupts, as /proc/stat counts them."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[6]) / _TICKS_PER_S


def _family_s(pids: Iterable[int]) -> float:
    """CPU used by us, by our children that have ended, and by those that run."""
    total_s = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total_s += usage.ru_utime + usage.ru_stime
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue  # it has ended and is counted among the children
        total_s += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return total_s
