"""The socket under a QMP connection: connecting it, whose it is, and writing to it.

Nothing here blocks the event loop, and everything works on asyncio's own loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from whimbrel.engine.errors import CannotConnect

Address: TypeAlias = str | os.PathLike[str] | tuple[str, int]
"""A UNIX socket's path, or ``(host, port)``."""

UNIX_PATH_MAX_BYTES = 107
"""Longest path of a UNIX socket: ``sun_path`` in unix(7) holds 108 bytes, the last of them zero."""

_PEER_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def describe(address: Address) -> str:
    """Name an address in a sentence: its path, or ``host:port``."""
    if isinstance(address, tuple):
        host, port = address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fspath(address)


async def connect_socket(address: Address, *, side: str | None = None) -> socket.socket:
    """Connect a non-blocking stream socket.

    If cancelled, the socket is closed. There is no deadline here: that is the caller's.

    Args:
        address: where to.
        side: ``"source"`` or ``"destination"``, for the error.

    Raises:
        CannotConnect: with the reason in one sentence.
    """
    if isinstance(address, tuple):
        return await _connect_tcp(address, side)
    return _connect_unix(os.fspath(address), side)


def peer_pid(sock: socket.socket) -> int | None:
    """The process at the other end of a connected UNIX socket: the one that called ``listen``.

    Returns:
        Its pid; ``None`` for other sockets, and for a process that our pid namespace doesn't show.
    """
    if sock.family != socket.AF_UNIX:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid: int = _PEER_CREDENTIALS.unpack(raw)[0]
    return pid or None


class Outlet:
    """The writing end of a connection whose reading end belongs to somebody else.

    Writes at once where it can, keeps the rest in order, and passes file descriptors. Once a write has
    failed it swallows everything: that the connection is gone is for the *reader* to find out, after it
    has read what is left.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take over a non-blocking socket (a duplicate of the reader's), on the running loop."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._armed = False
        self._open = True

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send bytes, and descriptors along with the first of them.

        Args:
            data: at least one byte.
            descriptors: passed by SCM_RIGHTS; they stay the caller's, who may close them at once.
        """
        if not self._open:
            return
        self._waiting.append((memoryview(data), tuple(os.dup(each) for each in descriptors)))
        if not self._armed:
            self._flush()

    def close(self) -> None:
        """Drop what was not sent and close the socket; idempotent."""
        if self._open:
            self._give_up()
        self._sock.close()

    def _flush(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self._sock, [data], descriptors, socket.MSG_NOSIGNAL)
                else:
                    sent = self._sock.send(data, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                if not self._armed:
                    self._loop.add_writer(self._sock.fileno(), self._flush)
                    self._armed = True
                return
            except OSError:
                self._give_up()
                return
            for each in descriptors:
                os.close(each)
            if sent < len(data):
                self._waiting[0] = (data[sent:], ())
            else:
                self._waiting.popleft()
        self._disarm()

    def _give_up(self) -> None:
        self._open = False
        self._disarm()
        for _, descriptors in self._waiting:
            for each in descriptors:
                os.close(each)
        self._waiting.clear()

    def _disarm(self) -> None:
        if self._armed:
            self._loop.remove_writer(self._sock.fileno())
            self._armed = False


def _connect_unix(path: str, side: str | None) -> socket.socket:
    # A UNIX socket connects at once or not at all, so there is nothing to wait for.
    if len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
        raise CannotConnect(
            f"the socket's path is {len(os.fsencode(path))} bytes long, and {UNIX_PATH_MAX_BYTES} is the most: {path}",
            side=side,
        )
    if "\0" in path[1:]:  # at the beginning it means Linux's abstract names; elsewhere the kernel would stop reading
        raise CannotConnect(f"cannot connect to {path!r}: a path holds no zero bytes", side=side)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise _unix_failure(path, error, side) from error
    return sock


def _unix_failure(path: str, error: OSError, side: str | None) -> CannotConnect:
    advice = None
    if isinstance(error, FileNotFoundError):
        reason = "there is no such socket"
    elif isinstance(error, PermissionError):
        reason, advice = "no permission to connect", "run as the user that QEMU runs as, or as root"
    elif isinstance(error, BlockingIOError):
        # Unlike TCP: the queue of those who wait to be accepted is full (QEMU's has one place).
        reason, advice = "another client holds this monitor, and more are waiting", "give QEMU a second -qmp socket"
    elif isinstance(error, ConnectionRefusedError):
        if _is_socket(path):
            reason = "nobody listens at this socket: the process that made it has ended"
        else:
            reason = "this is not a socket"
    elif error.errno == errno.EPROTOTYPE:
        reason = "this is a socket of another kind (not a stream)"
    else:
        reason = error.strerror or str(error)
    return CannotConnect(f"cannot connect to {path}: {reason}", side=side, advice=advice)


def _is_socket(path: str) -> bool:
    try:
        return path.startswith("\0") or stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # it has gone meanwhile


async def _connect_tcp(address: tuple[str, int], side: str | None) -> socket.socket:
    loop = asyncio.get_running_loop()
    where = describe(address)
    host, port = address
    if not 0 < port < 65536:
        raise CannotConnect(f"cannot connect to {where}: ports go from 1 to 65535", side=side)
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CannotConnect(f"cannot connect to {where}: {error.strerror or error}", side=side) from error
    except UnicodeError as error:  # a name that cannot be a host's: "a..b", or 64 letters without a dot
        raise CannotConnect(f"cannot connect to {where}: this is no host name", side=side) from error
    failure: OSError | None = None
    for family, kind, protocol, _, target in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, target)
        except OSError as error:
            sock.close()
            failure = failure or error
        except BaseException:  # cancelled: nobody else knows of the socket
            sock.close()
            raise
        else:
            return sock
    reason = "the host has no address" if failure is None else os.strerror(failure.errno or 0)
    if isinstance(failure, ConnectionRefusedError):
        reason = "connection refused: nobody listens there"
    raise CannotConnect(f"cannot connect to {where}: {reason}", side=side) from failure
