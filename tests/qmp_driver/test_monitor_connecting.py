"""What is no monitor, or can't be reached: each is told for what it is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.support.qmp_server import RUNNING, Drop, QmpServer, Refusal
from whimbrel.engine.errors import CannotConnect
from whimbrel.qmp_driver.monitor import Monitor

BOTH_LOOPS = True  # see conftest.py


async def test_no_such_socket(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match=r"^destination: cannot connect to .*/q: there is no such socket$"):
        await Monitor.connect(tmp_path / "q", side="destination")


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match=r"path is 108 bytes long, and 107 is the most"):
        await Monitor.connect("/" + "x" * 107, side="source")


async def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("")
    with pytest.raises(CannotConnect, match="this is not a socket"):
        await Monitor.connect(tmp_path / "q", side="source")


async def test_a_socket_that_was_left_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "q"))
        left.listen()
    with pytest.raises(CannotConnect, match="nobody listens at this socket: the process that made it has ended"):
        await Monitor.connect(tmp_path / "q", side="source")


async def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotConnect, match="Not a directory"):
        await Monitor.connect(tmp_path / "file" / "q", side="source")


async def test_a_path_with_a_zero_byte() -> None:
    with pytest.raises(CannotConnect, match="a path holds no zero bytes"):
        await Monitor.connect("/tmp/a\0b", side="source")


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [("a..b", 4444, "this is no host name"), ("127.0.0.1", 0, "ports go from"), ("127.0.0.1", 65536, "ports go from")],
)
async def test_what_is_no_tcp_address(host: str, port: int, reason: str) -> None:
    with pytest.raises(CannotConnect, match=reason):
        await Monitor.connect((host, port), side="source")


async def test_a_host_that_does_not_answer() -> None:
    """The kernel drops what does not fit into a listener's queue, as a dead host would: the deadline ends it."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        with pytest.raises(CannotConnect, match=r"cannot connect to 127\.0\.0\.1:\d+: no answer within 0\.05 s"):
            await Monitor.connect(listener.getsockname(), side="source", timeout_s=0.05)


async def test_a_datagram_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "q"))
        with pytest.raises(CannotConnect, match="a socket of another kind"):
            await Monitor.connect(tmp_path / "q", side="source")


async def test_a_refused_tcp_connection() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(CannotConnect, match=r"connect to 127\.0\.0\.1:\d+: connection refused"):
            await Monitor.connect(unheard.getsockname(), side="source")


@pytest.mark.parametrize(
    "greeting",
    [
        b"QEMU 7.2.22 monitor - type 'help' for more information\r\n",
        b"\x00\xff\x00\n",
        b"{}\n",
        b'{"QMP": 7}\n',
        b"[]\n",
    ],
)
async def test_what_is_no_qmp_monitor_is_told_as_such(tmp_path: Path, greeting: bytes) -> None:
    async with QmpServer(tmp_path / "q", greeting=greeting) as server:
        with pytest.raises(CannotConnect, match="what answers there is not a QMP monitor"):
            await Monitor.connect(server.address, side="source")


async def test_a_greeting_without_a_version(tmp_path: Path) -> None:
    greeting = b'{"QMP": {"version": {}, "capabilities": []}}\n'
    async with QmpServer(tmp_path / "q", greeting=greeting) as server:
        with pytest.raises(CannotConnect, match="names no QEMU version"):
            await Monitor.connect(server.address, side="source")


async def test_a_handshake_that_is_refused(tmp_path: Path) -> None:
    async with QmpServer(tmp_path / "q") as server:
        server.on("qmp_capabilities", Refusal("no"))
        with pytest.raises(CannotConnect, match="the handshake failed"):
            await Monitor.connect(server.address, side="source")


async def test_a_monitor_that_dies_while_we_connect(tmp_path: Path) -> None:
    async with QmpServer(tmp_path / "q") as server:
        server.on("qmp_capabilities", Drop())
        with pytest.raises(CannotConnect, match="the connection ended before the QMP session began"):
            await Monitor.connect(server.address, side="source")


async def test_a_monitor_that_another_client_holds(server: QmpServer, monitor: Monitor) -> None:
    """The kernel connects us, QEMU does not greet: the error says who is to blame. The holder is not disturbed."""
    with pytest.raises(CannotConnect, match=r"sent no QMP greeting within 0\.05 s: another client holds this monitor"):
        await Monitor.connect(server.address, side="source", timeout_s=0.05)
    assert await monitor.execute("query-status") == RUNNING


async def test_a_queue_of_clients_that_is_full_is_told_at_once(tmp_path: Path) -> None:
    """Nobody accepts, and those who may wait already do: connecting fails without waiting."""
    waiting: list[socket.socket] = []
    async with QmpServer(tmp_path / "q", serve=False):
        try:
            for _ in range(2):  # listen(1) lets two wait
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].connect(str(tmp_path / "q"))
            with pytest.raises(CannotConnect, match="another client holds this monitor, and more are waiting"):
                await Monitor.connect(tmp_path / "q", side="source")
        finally:
            for each in waiting:
                each.close()


async def test_connecting_can_be_cancelled(tmp_path: Path) -> None:
    """Nothing is left open: the server sees the end of the connection, and the next client is served."""
    async with QmpServer(tmp_path / "q", greeting=b" ") as server:
        connecting = asyncio.create_task(Monitor.connect(server.address, side="source"))
        await server.until_connected()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await server.until_disconnected()
