"""The migration's own TCP connection, made by us and handed to the source's QEMU.

QEMU's own socket lets the kernel buffer up to 4 MiB that has not been sent yet, and sends the last piece of the device
state late: it waits for an acknowledgement that the other end holds back for 40 ms (Nagle's algorithm against delayed
acknowledgements). Both are outage. With our own socket the kernel holds what is in flight and little more, and
nothing waits. It also means that a host that does not answer is noticed here, with a deadline, and not by a QEMU
that hangs in its connect for two minutes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from whimbrel.engine.errors import CannotConnect

UNSENT_BYTES = 128 << 10
"""Bytes that may wait unsent in the kernel (``TCP_NOTSENT_LOWAT``, see tcp(7)): at 10 Gbit/s that is 0.1 ms, and QEMU's
thread wakes in time to refill it."""

CONNECT_TIMEOUT_S = 10.0

NAME = "whimbrel-migration"
"""What QEMU calls the descriptor."""


def in_our_network(pid: int) -> bool:
    """Whether a process of this host is in our network namespace, so that our connections are its own.

    ``False`` where that can't be told.
    """
    try:
        ours = Path("/proc/thread-self/ns/net").stat()
        theirs = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return False
    return os.path.samestat(ours, theirs)


async def connect(host: str, port: int, *, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
    """Connect to a destination that listens; it serves this one connection.

    Args:
        host: name or address.
        port: where it listens.
        timeout_s: longest wait, seconds.

    Raises:
        CannotConnect: nobody answers there.

    If cancelled: the socket is closed, and the destination has been used up.
    """
    loop = asyncio.get_running_loop()
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            (family, kind, protocol, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            stream = socket.socket(family, kind, protocol)
            try:
                stream.setblocking(False)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
                await loop.sock_connect(stream, address)
            except BaseException:  # cancelled, too: nobody else knows of the socket
                stream.close()
                raise
    except TimeoutError as error:
        raise CannotConnect(f"{where} does not answer within {timeout_s:g} s", side="destination") from error
    except OSError as error:
        raise CannotConnect(f"{where} can't be reached: {error.strerror or error}", side="destination") from error
    except UnicodeError as error:  # "a..b", or 64 letters without a dot
        raise CannotConnect(f"{where} can't be reached: this is no host name", side="destination") from error
    return stream
