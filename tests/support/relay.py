"""A relay before a monitor, as ``ssh -L`` or ``socat`` is one: the kernel names it as the peer, not QEMU."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from whimbrel.qmp_driver.processes import QemuProcess

PROGRAM = """
import os, socket, sys, threading
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen(8)
os.rename(sys.argv[1] + ".new", sys.argv[1])
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
while True:
    client = listener.accept()[0]
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[2])
    for pair in ((client, server), (server, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


@asynccontextmanager
async def relay(path: Path, target: str) -> AsyncGenerator[QemuProcess]:
    """Start a relay that listens at ``path`` and leads to ``target``; it is killed in the end."""
    argv = [sys.executable, "-c", PROGRAM, str(path), target]
    process = await QemuProcess.spawn(argv, stderr_path=path.with_suffix(".stderr"))
    try:
        async with asyncio.timeout(20):
            while not _is_there(path):  # there is no event to wait for
                assert not process.exited, process.stderr_tail()
                await asyncio.sleep(0.005)
        yield process
    finally:
        await process.kill()


def _is_there(path: Path) -> bool:
    return path.exists()
