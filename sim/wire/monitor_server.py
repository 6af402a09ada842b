"""QMP on a socket, as QEMU serves it: one client at a time, any number of messages in one write, descriptors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

from whimbrel.sim.qemu.contract import Monitor, QmpMessage

from .json_stream import Fault, JsonStream
from .pace import Pace

QUEUE: Final = 8
"""So many commands wait in a monitor; then QEMU stops reading (its ``QMP_REQ_QUEUE_LEN_MAX``)."""
MOST_DESCRIPTORS: Final = 16
_READ_BYTES: Final = 65536
_LAST_WORDS_S: Final = 1.0

Deliver: TypeAlias = Callable[[QmpMessage], None]
Closed: TypeAlias = Callable[[], None]


class Backend(Protocol):
    """Whose monitor it is."""

    def open(self, deliver: Deliver, closed: Closed, index: int) -> Monitor | None:
        """As `whimbrel.sim.qemu.contract.QemuProcess.connect`."""
        ...

    def give(self, monitor: Monitor, name: str, descriptor: int) -> None:
        """A descriptor came along with ``getfd``; it belongs to whoever is told."""
        ...


class MonitorServer:
    """One ``-qmp unix:PATH,server=on,wait=off`` or ``-qmp tcp:HOST:PORT,server=on,wait=off``."""

    def __init__(self, backend: Backend, pace: Pace, address: str, index: int) -> None:
        """Listen; whatever lies at a path is taken away first, as QEMU does.

        Args:
            backend: the QEMU behind it.
            pace: everything that a client says happens through it.
            address: the path of a socket, or ``tcp:HOST:PORT``.
            index: which of the QEMU's monitors this is.

        Raises:
            OSError: it can't be listened there.
        """
        self._backend = backend
        self._pace = pace
        self._index = index
        self._path = None if address.startswith("tcp:") else Path(address)
        self._loop = asyncio.get_running_loop()
        self._client: _Client | None = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._listener = _bound(address)
        self._listener.setblocking(False)
        self._listener.listen(1)

    @property
    def name(self) -> object:
        """Where it listens, as the kernel says."""
        return self._listener.getsockname()

    def serve(self) -> None:
        """Take the next client."""
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self, *, remove: bool) -> None:
        """Send what is to be sent yet, and end; idempotent.

        Args:
            remove: take the socket's file away, as QEMU does when it ends in order.
        """
        if self._listener.fileno() < 0:
            return
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        if remove and self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._client is not None:
            self._client.finish()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # whoever it was has gone again
        self._loop.remove_reader(self._listener.fileno())
        self._client = _Client(sock, self._backend, self._pace, self._index, self._left)
        self._client.begin()

    def _left(self) -> None:
        self._client = None
        if self._listener.fileno() >= 0:
            self.serve()


class _Client:
    """Whoever is connected."""

    def __init__(self, sock: socket.socket, backend: Backend, pace: Pace, index: int, left: Closed) -> None:
        self._sock = sock
        self._backend = backend
        self._pace = pace
        self._index = index
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._stream = JsonStream()
        self._monitor: Monitor | None = None
        self._waiting: deque[dict[str, object] | Fault] = deque()
        self._unanswered = 0
        self._descriptors: deque[int] = deque()
        self._out = bytearray()
        self._reading = False
        self._gone = False

    def begin(self) -> None:
        """Greet it."""
        self._sock.setblocking(False)
        self._pace.happen(self._open)

    def finish(self) -> None:
        """The QEMU ends: what it said is still sent."""
        if self._gone:
            return
        self._gone = True
        self._stop()
        self._loop.remove_writer(self._sock.fileno())
        self._sock.settimeout(_LAST_WORDS_S)
        try:
            self._sock.sendall(self._out)
        except OSError:
            pass  # nobody reads it
        self._sock.close()

    def _open(self) -> None:
        self._monitor = self._backend.open(self._deliver, self._ended, self._index)
        if self._monitor is None:
            self._drop()
        else:
            self._read_on()

    def _ended(self) -> None:
        """The process is over; whoever ends it closes the sockets."""
        self._monitor = None

    def _deliver(self, message: QmpMessage) -> None:
        if self._gone:
            return
        self._write(message)
        if "return" in message or "error" in message:
            self._unanswered -= 1
            if self._waiting:
                self._loop.call_soon(self._pass_on)

    def _write(self, message: QmpMessage) -> None:
        self._out += json.dumps(message).encode() + b"\r\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock.fileno(), self._flush)
            return
        except OSError:
            self._out.clear()  # that it is gone is found out by reading
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, _READ_BYTES, MOST_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self._pace.happen(self._drop)
            return
        self._waiting += self._stream.feed(data)
        self._pass_on()

    def _pass_on(self) -> None:
        """Hand on what was read, as far as the queue takes it."""
        if self._gone:
            return
        self._pace.happen(self._hand_over)
        if self._gone:
            return
        if self._waiting:
            self._stop()
        else:
            self._read_on()

    def _hand_over(self) -> None:
        while self._waiting and self._unanswered < QUEUE and self._monitor is not None:
            message = self._waiting.popleft()
            if isinstance(message, Fault):
                self._write({"error": {"class": "GenericError", "desc": message.description}})
                continue
            self._unanswered += 1
            self._pass_descriptor(message)
            self._monitor.send(message)

    def _pass_descriptor(self, message: dict[str, object]) -> None:
        arguments = message.get("arguments")
        if message.get("execute") != "getfd" or not isinstance(arguments, dict) or not self._descriptors:
            return
        name = cast("dict[str, object]", arguments).get("fdname")
        if isinstance(name, str) and self._monitor is not None:
            self._backend.give(self._monitor, name, self._descriptors.popleft())

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _drop(self) -> None:
        """The client went, or there is nobody to serve it."""
        if self._gone:
            return
        self._gone = True
        self._stop()
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for each in self._descriptors:
            os.close(each)
        if self._monitor is not None:
            self._monitor.close()
        self._left()


def _bound(address: str) -> socket.socket:
    """A socket that has its name."""
    place: str | tuple[str, int] = address
    family = socket.AF_UNIX
    if address.startswith("tcp:"):
        host, _, port = address.removeprefix("tcp:").rpartition(":")
        if not port.isdecimal():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        place = (host.strip("[]") or "0.0.0.0", int(port))
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock
