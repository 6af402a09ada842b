"""Sockets: addresses in words, and an outlet that keeps order, passes descriptors and never raises."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from whimbrel.qmp_driver.sockets import Outlet, connect_socket, describe, peer_pid

BOTH_LOOPS = True  # see conftest.py


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, the first for an outlet (which closes it), the second to read from."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_addresses_read_well() -> None:
    assert describe("/run/q") == "/run/q"
    assert describe(Path("/run/q")) == "/run/q"
    assert describe(("host", 4444)) == "host:4444"
    assert describe(("::1", 4444)) == "[::1]:4444"


async def test_the_peer_of_a_unix_socket_is_known(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        sock = await connect_socket(tmp_path / "s")
        assert peer_pid(sock) == os.getpid()
        assert not sock.getblocking()
        sock.close()


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await asyncio.get_running_loop().sock_recv(sock, size - len(received))
    return received


async def test_more_than_the_socket_holds_arrives_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    """What does not fit waits for room, and what is sent behind it waits its turn."""
    outlet = Outlet(pair[0])
    large = bytes(range(256)) * 8192  # 2 MiB, ten times a socket's buffer
    outlet.send(large)
    outlet.send(b"the end")
    assert await read_exactly(pair[1], len(large)) == large
    assert await read_exactly(pair[1], 7) == b"the end"
    outlet.close()


async def test_a_descriptor_waits_with_its_message(pair: tuple[socket.socket, socket.socket]) -> None:
    """Even when it has to wait, and though the sender closed its own copy meanwhile."""
    outlet = Outlet(pair[0])
    large = b"x" * 2_000_000
    reading, writing = os.pipe()
    outlet.send(large)
    outlet.send(b"take this", (writing,))
    os.close(writing)
    assert await read_exactly(pair[1], len(large)) == large
    data, descriptors = b"", list[int]()
    while not data:
        try:
            data, descriptors, _, _ = socket.recv_fds(pair[1], 100, 4)
        except BlockingIOError:
            await asyncio.sleep(0)  # the outlet's turn
    assert data == b"take this"
    os.write(descriptors[0], b"!")
    assert os.read(reading, 1) == b"!"
    os.close(descriptors[0])
    assert os.read(reading, 1) == b""  # the outlet kept no copy
    os.close(reading)
    outlet.close()


async def test_a_broken_connection_swallows_what_is_written(pair: tuple[socket.socket, socket.socket]) -> None:
    """That the peer has gone is for the reader to find out: what the peer said last can still be read."""
    outlet = Outlet(pair[0].dup())
    pair[1].send(b"last words")
    pair[1].close()
    outlet.send(b"anybody?")
    outlet.send(b"nobody")
    assert pair[0].recv(100) == b"last words"
    outlet.close()


async def test_closing_drops_what_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    """Waiting descriptors are closed with it; closing twice, and sending afterwards, do nothing."""
    outlet = Outlet(pair[0])
    reading, writing = os.pipe()
    outlet.send(b"x" * 2_000_000)
    outlet.send(b"never", (writing,))
    os.close(writing)
    outlet.close()
    outlet.close()
    outlet.send(b"late")
    assert os.read(reading, 1) == b""
    os.close(reading)
