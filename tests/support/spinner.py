"""A process with a thread that never sleeps: what a throttle is tried on where no QEMU is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from whimbrel.qmp_driver.vcpus import VcpuThread, find_threads

PROGRAM = """
import threading
def spin():
    print(threading.get_native_id(), flush=True)
    while True:
        pass
threading.Thread(target=spin).start()
"""


@contextmanager
def spinning() -> Generator[VcpuThread]:
    """The thread, which as with a QEMU's vCPU is not its process's first; the process ends with the block."""
    process = subprocess.Popen((sys.executable, "-I", "-S", "-c", PROGRAM), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        (thread,) = find_threads(process.pid, (int(process.stdout.readline()),))
        yield thread
    finally:
        process.kill()
        process.communicate()
