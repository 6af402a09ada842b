"""Where there is no root or no ``tc``: a relay of ours between source and destination that lets so much through.

It costs CPU on the same cores, and its buffers are not those of a network card: a makeshift, and what uses it says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, Final

BURST_BYTES: Final = 256 << 10
"""As much as `link.BURST`."""
BUFFER_BYTES: Final = 512 << 10
"""Asked of the kernel for each socket: about what a tbf queue of 50 ms holds at 100 Mbit/s."""
CALIBRATION_BYTES_SHARE: Final = 1.5
"""Seconds' worth of bytes that the calibration sends."""
_CHUNK_BYTES: Final = 64 << 10
_LINE_BYTES: Final = 1 << 20
"""The longest line of a QMP monitor that is passed on; QEMU's longest answers are some 200 KiB."""


class Pacer:
    """A token bucket. Pure: it is told the time."""

    def __init__(self, rate_bytes_per_s: float, burst_bytes: float, now_s: float) -> None:
        """Start with a full bucket.

        Args:
            rate_bytes_per_s: the rate in the long run, above 0.
            burst_bytes: what may go at once.
            now_s: any clock that only goes forward.
        """
        self._rate = rate_bytes_per_s
        self._burst = burst_bytes
        self._tokens = burst_bytes
        self._at_s = now_s

    def delay_s(self, size_bytes: int, now_s: float) -> float:
        """Take so many bytes, and say how long they have to wait before they may go."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate) - size_bytes
        self._at_s = now_s
        return max(0.0, -self._tokens / self._rate)


class Relay:
    """A paced way to the destination; a `Place`. Made by `paced_relay`."""

    source_prefix: tuple[str, ...] = ()
    destination_prefix: tuple[str, ...] = ()
    host = "127.0.0.1"
    relayed = True

    def __init__(self, rate_bytes_per_s: float) -> None:
        """For `paced_relay`."""
        self.rate_bytes_per_s = rate_bytes_per_s
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    async def reach(self, host: str, port: int) -> tuple[str, int]:
        """See `Place`: a new way through, for one connection."""
        listener = socket.create_server((self.host, 0))
        self._keep(listener)
        self._thread(self._serve, listener, (host, port))
        address: tuple[str, int] = listener.getsockname()
        return address

    def at_source(self) -> contextlib.AbstractContextManager[None]:
        """See `Place`."""
        return contextlib.nullcontext()

    def goodput_bytes_per_s(self) -> float:
        """What one stream gets through, bytes per second, by what leaves the relay at its far end."""
        with socket.create_server((self.host, 0)) as far:
            near = asyncio.run(self.reach(*far.getsockname()))
            with socket.create_connection(near) as sender, far.accept()[0] as receiver:
                size = round(self.rate_bytes_per_s * CALIBRATION_BYTES_SHARE)
                self._thread(sender.sendall, bytes(size))
                left = size - _receive(receiver, 2 * BURST_BYTES)  # the first burst is not paced
                began_s = time.monotonic()
                return _receive(receiver, left) / (time.monotonic() - began_s)

    def close(self) -> None:
        """End all ways through."""
        for each in self._sockets:
            with contextlib.suppress(OSError):  # not connected, or not any more
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _keep(self, each: socket.socket) -> None:
        self._sockets.append(each)

    def _thread(self, work: Callable[..., object], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, listener: socket.socket, target: tuple[str, int]) -> None:
        try:
            near, _peer = listener.accept()
        except OSError:
            return  # closed before anybody came
        self._keep(near)
        far = socket.create_connection(target)
        self._keep(far)
        for each in (near, far):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread(self._pass_on, far, near, None)  # the return path carries a few bytes: not paced
        self._pass_on(near, far, Pacer(self.rate_bytes_per_s, BURST_BYTES, time.monotonic()))

    @staticmethod
    def _pass_on(begin: socket.socket, end: socket.socket, pacer: Pacer | None) -> None:
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        try:
            while size := begin.recv_into(buffer):
                if pacer is not None:
                    time.sleep(pacer.delay_s(size, time.monotonic()))
                end.sendall(buffer[:size])
            end.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one of the two has gone, and with it the connection


@contextlib.contextmanager
def paced_relay(rate_bytes_per_s: float) -> Generator[Relay, None, None]:
    """A relay of this rate, ended whatever happens.

    Args:
        rate_bytes_per_s: payload bytes per second, above 0.
    """
    relay = Relay(rate_bytes_per_s)
    try:
        yield relay
    finally:
        relay.close()


class AddressProxy:
    """Stands before a destination's monitor and has it say the relay's address instead of its own.

    Whimbrel sends the source to where the destination says that it listens.
    """

    def __init__(self, monitor: Path, reach: Callable[[str, int], Awaitable[tuple[str, int]]]) -> None:
        """For `start`."""
        self._monitor = monitor
        self._reach = reach
        self._known: dict[str, tuple[str, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, monitor: Path, reach: Callable[[str, int], Awaitable[tuple[str, int]]]) -> AddressProxy:
        """Listen at a port that the kernel chooses."""
        proxy = cls(monitor, reach)
        proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, limit=_LINE_BYTES)
        return proxy

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._server is not None
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address

    async def close(self) -> None:
        """End it, and every connection through it."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            from_qemu, to_qemu = await asyncio.open_unix_connection(self._monitor, limit=_LINE_BYTES)
            there, back = self._copy(reader, to_qemu), self._answer(from_qemu, writer)
            both = {asyncio.ensure_future(there), asyncio.ensure_future(back)}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in both:
                    each.cancel()
                await asyncio.gather(*both, return_exceptions=True)
                to_qemu.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(await self._rewritten(line) if b'"socket-address"' in line else line)
            await writer.drain()

    async def _rewritten(self, line: bytes) -> bytes:
        answer: dict[str, Any] = json.loads(line)
        for address in answer["return"]["socket-address"]:
            there = (address["host"], int(address["port"]))
            key = f"{there[0]}:{there[1]}"
            if key not in self._known:  # it may be asked more than once, and serves one connection
                self._known[key] = await self._reach(*there)
            host, port = self._known[key]
            address |= {"host": host, "port": str(port)}
        return json.dumps(answer).encode() + b"\r\n"


def _receive(connection: socket.socket, size: int) -> int:
    """Receive so many bytes at least, or up to the end; give how many came."""
    received = 0
    while received < size:
        data = connection.recv(_CHUNK_BYTES)
        if not data:
            break
        received += len(data)
    return received
