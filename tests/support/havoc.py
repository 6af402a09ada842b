"""What can be done to processes and to the connection between two QEMUs, from outside and at once.

The connection is reached in the QEMUs themselves: `pidfd_getfd(2)` gives a copy of a descriptor of another process.
So nothing stands between the two, and neither they nor the manager can tell that anybody is looking.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

_PIDFD_GETFD = 438
"""The same number on every architecture (Linux 5.6)."""
_SO_ATTACH_FILTER = 26
_DROP_EVERYTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of classic BPF: ``ret 0``, keep nothing of the packet (see socket(7) and filter.txt)."""


def black_hole(*pids: int) -> int:
    """Let nothing arrive any more at the TCP sockets of these processes, in silence; how many there were.

    What they send is acknowledged by nobody, as if the link had gone: it is sent again and again. A socket that
    listens is deaf afterwards, too.

    Raises:
        PermissionError: this process may not look into those.
    """
    count = 0
    program = ctypes.create_string_buffer(_DROP_EVERYTHING)
    for stream in _tcp_sockets(*pids):
        stream.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
        count += 1
    return count


def cut(*pids: int) -> int:
    """End the TCP connections of these processes, as a reset on the way would; how many there were.

    Raises:
        PermissionError: this process may not look into those.
    """
    count = 0
    for stream in _tcp_sockets(*pids):
        try:
            stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # it is not connected any more
        count += 1
    return count


def sever(path: str) -> int:
    """End every connection of this process to a UNIX socket; how many there were."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            connection = socket.socket(fileno=os.dup(int(number)))
        except OSError:
            continue  # no socket, or gone
        with connection:
            if connection.family == socket.AF_UNIX and _peer(connection) == path:
                connection.shutdown(socket.SHUT_RDWR)
                count += 1
    return count


def may_reach_into(pid: int) -> bool:
    """Whether this process may copy the descriptors of that one."""
    try:
        with _copied(pid, 0):
            return True
    except OSError:
        return False


def _peer(connection: socket.socket) -> object:
    try:
        return connection.getpeername()
    except OSError:
        return None  # it listens, or the other end is gone


def _tcp_sockets(*pids: int) -> Iterator[socket.socket]:
    for pid in pids:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it has ended
        for number in numbers:
            stream = _socket_of(pid, number)
            if stream is None:
                continue
            with stream:
                if stream.family in (socket.AF_INET, socket.AF_INET6):
                    yield stream


def _socket_of(pid: int, number: str) -> socket.socket | None:
    """A copy of a descriptor of another process, if it is a socket and both are still there."""
    if not _link(Path(f"/proc/{pid}/fd/{number}")).startswith("socket:"):
        return None
    try:
        with _copied(pid, int(number)) as descriptor:
            return socket.socket(fileno=os.dup(descriptor))
    except PermissionError:
        raise
    except OSError:
        return None  # closed, or its process has ended


@contextmanager
def _copied(pid: int, number: int) -> Generator[int, None, None]:
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.syscall(_PIDFD_GETFD, process, number, 0)
        if descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), f"descriptor {number} of process {pid}")
    finally:
        os.close(process)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
