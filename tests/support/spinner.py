"""A process with one thread that never sleeps: what a throttle is tried on where no QEMU is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from whimbrel.qmp_driver.outside_hold import start_of
from whimbrel.qmp_driver.vcpus import VcpuThread


@contextmanager
def spinning() -> Generator[VcpuThread]:
    """Its only thread; the process ends with the block."""
    words = (sys.executable, "-I", "-S", "-c", "print(flush=True)\nwhile True: pass")
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        start = start_of(process.pid, process.pid)
        assert start is not None
        yield VcpuThread(process.pid, process.pid, start)
    finally:
        process.kill()
        process.communicate()
