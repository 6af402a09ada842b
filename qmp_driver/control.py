"""The socket beside the log, through which a running migration can be called off or asked how it stands.

A QEMU monitor serves one client only, so nobody else can reach the guest's QEMU while a manager holds it.
One request per connection: a line, ``cancel`` or ``status``; the answer is one JSON line. ``cancel``
answers when the migration has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from whimbrel.engine.errors import CannotConnect

LONGEST_SOCKET_PATH_BYTES = 107
"""``sun_path`` less its final zero, see ``unix(7)``."""

REQUEST_TIMEOUT_S = 5.0


def control_path(log: Path) -> Path:
    """Where the control socket of a log is: beside it, or for a long path in a folder of short ones."""
    beside = log.absolute().with_name(log.name + ".control")
    if len(os.fsencode(beside)) <= LONGEST_SOCKET_PATH_BYTES:
        return beside
    digest = hashlib.sha256(os.fsencode(log.absolute())).hexdigest()[:16]
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"whimbrel-{os.getuid()}-{digest}.control"


class ControlServer:
    """Listens for one migration; an asynchronous context manager."""

    def __init__(self, log: Path, *, cancel: Callable[[], None], status: Callable[[], Any], ended: asyncio.Event):
        """
        Args:
            log: the log beside which to listen.
            cancel: calls the migration off.
            status: gives what can be said of it, of any type that goes into JSON.
            ended: set when it has ended and ``status`` tells its end.
        """
        self.path = control_path(log)
        self._cancel = cancel
        self._status = status
        self._ended = ended
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ControlServer:
        # The log is locked by us, so whatever still lies here was left by a manager that died.
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        self.path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        # A client that waits for the end gets its answer before the socket goes.
        if self._serving:
            await asyncio.wait(self._serving, timeout=1.0)
        self.path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request = (await reader.readline()).strip()
            if request == b"cancel":
                self._cancel()
                await self._ended.wait()
            if request in (b"cancel", b"status"):
                writer.write(msgspec.json.encode(self._status()) + b"\n")
            else:
                writer.write(b'{"error":"a request is cancel or status"}\n')
            await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # a client that went away or said nothing is no concern of the migration
        finally:
            writer.close()


async def ask(log: Path, request: str, *, timeout_s: float | None = None) -> dict[str, Any]:
    """Ask the manager that writes a log.

    Args:
        log: the log's path.
        request: ``cancel`` or ``status``.
        timeout_s: how long the answer may take; ``None``: as long as the migration does.

    Raises:
        CannotConnect: no running migration writes to this log, or it ended without an answer.
    """
    path = control_path(log)
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise CannotConnect(
            f"no running migration answers for the log {log} ({error.strerror or error})",
            advice="give the log of a migration that is under way",
        ) from error
    try:
        writer.write(request.encode() + b"\n")
        async with asyncio.timeout(timeout_s):
            line = await reader.readline()
    except (OSError, TimeoutError) as error:
        raise CannotConnect(f"the manager of {log} gave no answer") from error
    finally:
        writer.close()
    if not line:
        raise CannotConnect(f"the manager of {log} ended without an answer")
    return msgspec.json.decode(line, type=dict[str, Any])
