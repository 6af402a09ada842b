"""A scripted QMP server, for what no real QEMU can be made to do on demand.

It behaves as QEMU's monitor does: one client at a time (a second one connects and is never greeted),
in-band commands one after the other, out-of-band ones at once. What each command is answered is a script::

    async with QmpServer(tmp_path / "q") as server:
        server.on("query-status", {"status": "running", "running": True})
        server.on("migrate", Refusal("There's a migration process in progress"))
        server.on("cont", Held(gate, {}))       # answered once the asyncio.Event "gate" is set
        server.on("stop", Drop())               # the connection goes instead of an answer
        monitor = await Monitor.connect(server.address, side="source")
        await server.until_received("cont")

A command without a script is refused, as QEMU refuses one that it does not know.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, cast

GREETING: Mapping[str, object] = {
    "QMP": {
        "version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "scripted"},
        "capabilities": ["oob"],
    }
}
RUNNING: Mapping[str, object] = {"status": "running", "running": True}
"""What ``query-status`` answers."""


@dataclass(frozen=True)
class Refusal:
    """QEMU's "no"."""

    description: str
    error_class: str = "GenericError"


@dataclass(frozen=True)
class Held:
    """An answer that waits for ``gate``; so do, as in QEMU, the in-band commands behind it."""

    gate: asyncio.Event
    reply: Reply


@dataclass(frozen=True)
class Preceded:
    """An answer, and what comes just before it: ``Preceded(event_line("STOP"), {})``."""

    by: bytes
    reply: Reply


@dataclass(frozen=True)
class Drop:
    """No answer: the connection is closed, after these last bytes."""

    last_words: bytes = b""


@dataclass(frozen=True)
class Raw:
    """These bytes instead of an answer."""

    data: bytes


Reply: TypeAlias = "object | Refusal | Held | Preceded | Drop | Raw | Callable[[Mapping[str, object]], Reply]"


@dataclass(frozen=True)
class Received:
    """A command as it arrived."""

    command: str
    arguments: Mapping[str, object]
    oob: bool


class QmpServer:
    """A QMP server on a UNIX socket (``path``), or on a TCP port of the kernel's choice (``path=None``)."""

    def __init__(self, path: Path | None = None, *, greeting: bytes | None = None, serve: bool = True) -> None:
        """Prepare a server; it listens from ``async with`` on.

        Args:
            path: of the UNIX socket; ``None``: TCP on 127.0.0.1.
            greeting: sent instead of QEMU's.
            serve: False: connections are made by the kernel, but nobody accepts them.
        """
        self.received: list[Received] = []
        self.connections = 0
        """Connections accepted so far."""
        self._greeting = greeting or _line(GREETING)
        self._serve = serve
        self._once: dict[str, deque[Reply]] = defaultdict(deque)
        self._always: dict[str, Reply] = {"qmp_capabilities": {}}
        self._news = asyncio.Event()
        self._client: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._path = path
        self._listener = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)

    @property
    def address(self) -> str | tuple[str, int]:
        """What a client connects to."""
        name = self._listener.getsockname()
        return cast(str, name) if self._path is not None else (cast(str, name[0]), cast(int, name[1]))

    def on(self, command: str, reply: Reply) -> None:
        """Answer this command so, every time."""
        self._always[command] = reply

    def on_next(self, command: str, *replies: Reply) -> None:
        """Answer the next such commands so, one each, before what ``on`` said applies (again)."""
        self._once[command].extend(replies)

    def emit(self, name: str, data: Mapping[str, object] | None = None) -> None:
        """Send an event to the client, at once."""
        self.send(event_line(name, data))

    def send(self, data: bytes) -> None:
        """Send bytes to the client, at once (they have to fit into the socket's buffer)."""
        assert self._client is not None, "no client is connected"
        assert self._client.send(data) == len(data)

    def vanish(self, last_words: bytes = b"") -> None:
        """Send these bytes and be gone, both ways, before anybody else gets to run."""
        assert self._client is not None, "no client is connected"
        self.send(last_words)
        self._client.shutdown(socket.SHUT_RDWR)

    async def until_received(self, command: str, count: int = 1) -> Received:
        """Wait until this command has arrived ``count`` times; gives the last of them."""
        await self._until(lambda: sum(each.command == command for each in self.received) >= count)
        return [each for each in self.received if each.command == command][count - 1]

    async def until_connected(self) -> None:
        """Wait until a client is connected."""
        await self._until(lambda: self._client is not None)

    async def until_disconnected(self) -> None:
        """Wait until no client is connected."""
        await self._until(lambda: self._client is None)

    async def __aenter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0) if self._path is None else str(self._path))
        self._listener.listen(1)
        if self._serve:
            self._serving = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._serving is not None:
                self._serving.cancel()
                await self._serving  # raises what went wrong in a script: a mistake must not pass unseen
        except asyncio.CancelledError:
            pass
        finally:
            self._listener.close()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            client.setblocking(False)
            self._client = client
            self.connections += 1
            self._news.set()
            try:
                await self._talk(client)
            finally:
                self._client = None
                self._news.set()
                client.close()

    async def _talk(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[Received, object]] = asyncio.Queue()
        worker = asyncio.create_task(self._work(client, queue))
        try:
            await loop.sock_sendall(client, self._greeting)
            text = ""
            while data := await loop.sock_recv(client, 65536):
                messages, text = _split(text + data.decode())
                for message in messages:
                    self._take(client, queue, message)
        except ConnectionError:
            pass  # the client went: the next one, please
        finally:
            worker.cancel()
            await asyncio.wait((worker,))
        try:
            worker.result()
        except (ConnectionError, asyncio.CancelledError):
            pass  # as above; any other mistake of a script is raised

    def _take(
        self, client: socket.socket, queue: asyncio.Queue[tuple[Received, object]], message: Mapping[str, object]
    ) -> None:
        oob = "exec-oob" in message
        command = cast(str, message["exec-oob" if oob else "execute"])
        arguments = cast(Mapping[str, object], message.get("arguments", {}))
        received = Received(command, arguments, oob)
        self.received.append(received)
        self._news.set()
        if oob:
            reply = self._scripted(received)
            assert not isinstance(reply, Held), "out-of-band commands are answered at once"
            _answer(client, reply, message.get("id"))
        else:
            queue.put_nowait((received, message.get("id")))

    async def _work(self, client: socket.socket, queue: asyncio.Queue[tuple[Received, object]]) -> None:
        while True:
            received, message_id = await queue.get()
            reply = self._scripted(received)
            while isinstance(reply, Held):
                await reply.gate.wait()
                reply = reply.reply
            _answer(client, reply, message_id)

    def _scripted(self, received: Received) -> Reply:
        unknown = Refusal(f"The command {received.command} has not been found", "CommandNotFound")
        once = self._once[received.command]
        reply = once.popleft() if once else self._always.get(received.command, unknown)
        while callable(reply):
            reply = cast("Callable[[Mapping[str, object]], Reply]", reply)(received.arguments)
        return reply


def event_line(name: str, data: Mapping[str, object] | None = None) -> bytes:
    """An event as QEMU sends it, with a timestamp of 1700000000.25 s."""
    stamp = {"seconds": 1_700_000_000, "microseconds": 250_000}
    body = {} if data is None else {"data": dict(data)}
    return _line({"timestamp": stamp, "event": name, **body})


def _answer(client: socket.socket, reply: Reply, message_id: object) -> None:
    match reply:
        case Drop(last_words):
            client.send(last_words)
            client.shutdown(socket.SHUT_RDWR)
        case Raw(data):
            client.send(data)
        case Preceded(by, then):
            client.send(by)
            _answer(client, then, message_id)
        case Refusal(description, error_class):
            client.send(_line({"error": {"class": error_class, "desc": description}, "id": message_id}))
        case _:
            client.send(_line({"return": reply, "id": message_id}))


def _line(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def _split(text: str) -> tuple[list[Mapping[str, object]], str]:
    """Take the whole JSON objects off the front of a stream; QMP clients need not send line ends."""
    messages: list[Mapping[str, object]] = []
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        try:
            message, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            break  # the rest is still under way
        messages.append(message)
        text = text[end:]
    return messages, text
