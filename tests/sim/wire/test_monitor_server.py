"""QMP on a socket, against a backend of a few lines."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sim.wire.fakes import GREETING, FakeBackend
from whimbrel.sim.clock import Clock
from whimbrel.sim.wire.monitor_server import QUEUE, MonitorServer
from whimbrel.sim.wire.pace import Pace


@dataclass
class Serving:
    """A server and what is behind it."""

    path: Path
    server: MonitorServer
    backend: FakeBackend
    clients: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self.clients.append(writer)
        return reader, writer


@pytest.fixture
async def serving(short_folder: Path) -> AsyncGenerator[Serving, None]:
    """A server on a socket of the test's."""
    backend = FakeBackend()
    pace = Pace(Clock(), 1)
    server = MonitorServer(backend, pace, str(short_folder / "q"), 0)
    server.serve()
    it = Serving(short_folder / "q", server, backend)
    yield it
    for writer in it.clients:
        writer.close()
        await writer.wait_closed()
    it.server.close(remove=True)
    pace.close()


async def line(reader: asyncio.StreamReader) -> Any:
    """The next message; each ends as QEMU's do."""
    async with asyncio.timeout(5):
        text = await reader.readline()
    assert text.endswith(b"\r\n"), text
    return json.loads(text)


async def test_greeting_and_answers_in_order(serving: Serving) -> None:
    """Two commands in one write, the second one cut in two."""
    reader, writer = await serving.connect()
    assert await line(reader) == GREETING
    writer.write(b'{"execute":"a","id":1}{"execute":"b",')
    assert await line(reader) == {"return": {"said": "a"}, "id": 1}
    writer.write(b'"id":2}')
    assert await line(reader) == {"return": {"said": "b"}, "id": 2}


async def test_what_is_no_json_is_answered_in_its_turn(serving: Serving) -> None:
    """And the next command is carried out."""
    reader, writer = await serving.connect()
    await line(reader)
    writer.write(b'{"execute":"a","id":1} foo {"execute":"b","id":2}')
    answers = [await line(reader) for _ in range(3)]
    assert [each.get("id") for each in answers] == [1, None, 2]
    assert answers[1]["error"] == {"class": "GenericError", "desc": "JSON parse error, invalid keyword 'foo'"}


async def test_one_client_at_a_time(serving: Serving) -> None:
    """The second one is connected by the kernel, and greeted once the first has gone."""
    first, writer = await serving.connect()
    await line(first)
    second, _ = await serving.connect()
    writer.write(b'{"execute":"a","id":1}')
    await line(first)
    assert serving.backend.opened == 1
    writer.close()
    assert await line(second) == GREETING
    assert serving.backend.opened == 2


async def test_a_client_that_ends_its_writing_is_gone(serving: Serving) -> None:
    """QEMU takes an end of file for the end of the client."""
    reader, writer = await serving.connect()
    await line(reader)
    monitor = serving.backend.current
    writer.write_eof()
    assert await reader.read() == b""
    assert monitor is not None
    assert monitor.closed


async def test_so_many_commands_wait_and_no_more_are_read(serving: Serving) -> None:
    """The rest stays in the socket until some were answered."""
    serving.backend.silent = True
    reader, writer = await serving.connect()
    await line(reader)
    writer.write(b"".join(b'{"execute":"x","id":%d}' % number for number in range(QUEUE + 3)))
    while len(serving.backend.received) < QUEUE:
        await asyncio.sleep(0)
    held = list(serving.backend.owed)
    serving.backend.silent = False
    for monitor, message in held:
        monitor.answer(message)
    assert [(await line(reader))["id"] for _ in range(QUEUE + 3)] == list(range(QUEUE + 3))
    assert len(held) == QUEUE


async def test_a_descriptor_comes_with_getfd(serving: Serving) -> None:
    """It is handed on under its name, and leads where the client's did."""
    reader, writer = await serving.connect()
    await line(reader)
    ours, theirs = socket.socketpair()
    sock: socket.socket = writer.get_extra_info("socket")
    with ours, theirs:
        message = b'{"execute":"getfd","arguments":{"fdname":"m"}}'
        duplicate = socket.socket(fileno=os.dup(sock.fileno()))
        with duplicate:
            socket.send_fds(duplicate, [message], [theirs.fileno()])
        assert (await line(reader))["return"] == {"said": "getfd"}
        ((name, descriptor),) = serving.backend.given
        assert name == "m"
        os.write(descriptor, b"x")
        assert ours.recv(1) == b"x"
        os.close(descriptor)


async def test_at_the_end_everything_said_arrives(serving: Serving) -> None:
    """More than the socket holds; then the connection is closed, and the socket's file goes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(serving.path))
        while serving.backend.current is None:
            await asyncio.sleep(0)
        for number in range(100):
            serving.backend.current.deliver({"event": "E", "data": {"text": "x" * 10_000, "number": number}})
        with client.makefile("rb") as stream:
            reading = asyncio.create_task(asyncio.to_thread(stream.readlines))
            await asyncio.sleep(0)  # the thread begins
            serving.server.close(remove=True)
            greeting, *events = [json.loads(each) for each in await reading]
    assert greeting == GREETING
    assert [each["data"]["number"] for each in events] == list(range(100))
    assert not serving.path.exists()


async def test_a_path_that_cannot_be_listened_at(short_folder: Path) -> None:
    """The kernel's words."""
    with pytest.raises(OSError, match="No such file or directory"):
        MonitorServer(FakeBackend(), Pace(Clock(), 1), str(short_folder / "nowhere" / "q"), 0)


async def test_what_lay_at_the_path_is_taken_away(short_folder: Path) -> None:
    """QEMU unlinks it before it binds."""
    path = short_folder / "q"
    path.write_text("left over")
    server = MonitorServer(FakeBackend(), Pace(Clock(), 1), str(path), 0)
    server.serve()
    assert path.is_socket()
    server.close(remove=False)
    assert path.is_socket()


async def test_a_monitor_at_a_tcp_port() -> None:
    """The kernel chooses the port; the greeting is the same."""
    pace = Pace(Clock(), 1)
    server = MonitorServer(FakeBackend(), pace, "tcp:127.0.0.1:0", 0)
    server.serve()
    name: Any = server.name
    reader, writer = await asyncio.open_connection("127.0.0.1", name[1])
    assert await line(reader) == GREETING
    writer.close()
    await writer.wait_closed()
    server.close(remove=True)
    pace.close()
