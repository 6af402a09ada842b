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

LAST_ANSWERS_S = 1.0
"""How long clients that are being served may hold up the end of a migration."""


def control_path(log: Path) -> Path:
    """Where the control socket of a log is: beside it, or for a long path in a folder of short ones."""
    beside = log.absolute().with_name(log.name + ".control")
    if len(os.fsencode(beside)) <= LONGEST_SOCKET_PATH_BYTES:
        return beside
    digest = hashlib.sha256(os.fsencode(log.absolute())).hexdigest()[:16]
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"whimbrel-{os.getuid()}-{digest}.control"


class ControlServer:
    """Listens for one migration; an asynchronous context manager.

    It is a convenience: where no socket can be made (a folder in its place, a file system without sockets, a
    runtime folder that is missing), entering succeeds all the same and ``problem`` says why nobody listens.
    """

    def __init__(self, log: Path, *, cancel: Callable[[], None], status: Callable[[], Any], ended: asyncio.Event):
        """
        Args:
            log: the log beside which to listen.
            cancel: calls the migration off.
            status: gives what can be said of it, of any type that goes into JSON.
            ended: set when it has ended and ``status`` tells its end.
        """
        self.path = control_path(log)
        self.problem: str | None = None
        """Why nobody listens, as a sentence; ``None`` if all is well."""
        self._cancel = cancel
        self._status = status
        self._ended = ended
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ControlServer:
        try:
            # The log is locked by us, so whatever still lies here was left by a manager that died.
            self.path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self.path)
            self.path.chmod(0o600)
        except (OSError, ValueError) as error:
            self._shut()
            reason = getattr(error, "strerror", None) or error
            self.problem = f"it can't be called off or asked through {self.path}: {reason}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        # A client that waits for the end gets its answer before the socket goes.
        if self._serving:
            _answered, late = await asyncio.wait(self._serving, timeout=LAST_ANSWERS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._shut()

    def _shut(self) -> None:
        """Stop listening, and remove the socket if it is ours."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # it is left behind, and replaced by whoever needs the place next

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
