"""Where simulated QEMUs of the same host, or of several, meet: real sockets, at the modelled link's speed.

The pipe is modelled in the process that sends: a message is written to the socket when the model says that it
arrives. What lies in the real socket is therefore a few lines at most, and never the RAM that they stand for.

A line is one JSON object, or a single ``?`` (are you there?) or ``!`` (I am). Without an answer for `SILENCE_S` the
other end is taken to be frozen, and the modelled pipe stops draining, as a full socket does. The first message of a
connection is waited for, so that a destination that refuses what comes does so while it comes, at any speed. Both ends
say first what they are: anything else that connects (a stray client, a real QEMU) is no migration stream.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Callable
from typing import Final, TypeAlias

from whimbrel.sim.link.contract import Channel
from whimbrel.sim.link.shared import LinkStream, SharedLink
from whimbrel.sim.scenario import LinkPlan

from .pace import Pace

ASK_EVERY_S: Final = 0.02
SILENCE_S: Final = 0.1
"""Seconds of the wall clock, whatever the speed."""
HELLO: Final = b'{"simulated-qemu": 1}\n'
GOODBYE: Final = b'{"goodbye": true}\n'
ENDED: Final = "end of file"
RESET: Final = "Connection reset by peer"
STRAY: Final = "Not a migration stream"
LOCAL_ONLY: Final = frozenset({"memory"})
"""Members of a message that only mean something inside one process."""
_LONGEST_LINE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 65536
_LOOK_EVERY_S: Final = 0.002

Message: TypeAlias = dict[str, object]
Accept: TypeAlias = Callable[[Channel], None]
Broke: TypeAlias = Callable[[str], None]


class SocketNetwork:
    """Listens and connects (`whimbrel.sim.link.contract.Network`): ``tcp:HOST:PORT``, ``unix:PATH``, ``fd:NUMBER``."""

    def __init__(self, pace: Pace, plan: LinkPlan, seed: int) -> None:
        """Lay this process's way out.

        Args:
            pace: everything that arrives happens through it.
            plan: what the link is like in this direction.
            seed: its noise is drawn from this.
        """
        self.pace = pace
        self.link = SharedLink(pace.clock, plan, seed)
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[str, socket.socket] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._channels: set[SocketChannel] = set()

    def listen(self, uri: str, accept: Accept) -> dict[str, object]:
        """See `whimbrel.sim.link.contract.Network`."""
        kind, _, place = uri.partition(":")
        try:
            if kind == "unix":
                listener, address = _listen_unix(place)
                name = uri
            elif kind == "tcp":
                listener, address = _listen_tcp(place)
                name = f"tcp:{place.rpartition(':')[0]}:{address['port']}"
            else:
                raise OSError(f"a simulated QEMU does not listen at {uri}")
        except OSError as error:
            raise OSError(_words(error)) from error
        listener.setblocking(False)
        self._listeners[uri] = self._listeners[name] = listener

        def ready() -> None:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # it has gone again
            channel = self._channel(sock)
            self.pace.happen(lambda: accept(channel))

        self._loop.add_reader(listener.fileno(), ready)
        return address

    def withdraw(self, uri: str) -> None:
        """See `whimbrel.sim.link.contract.Network`; as it was asked for, or as it came to be called."""
        listener = self._listeners.get(uri)
        if listener is None:
            return
        for name in [name for name, each in self._listeners.items() if each is listener]:
            del self._listeners[name]
        self._loop.remove_reader(listener.fileno())
        listener.close()

    def connect(self, uri: str, connected: Accept, failed: Broke) -> None:
        """See `whimbrel.sim.link.contract.Network`; the plan's steps and outages are counted from the first call."""
        self.link.begin(self.pace.clock.now_ns)
        task = self._loop.create_task(self._connect(uri, connected, failed))
        self._connecting.add(task)
        task.add_done_callback(self._made)

    async def part(self, longest_s: float) -> None:
        """Wait until what was closed in order has been carried to its end, as the kernel does for a process that ended.

        Args:
            longest_s: of the wall clock; then it is left.
        """
        deadline_s = self._loop.time() + longest_s
        while any(channel.parting for channel in self._channels) and self._loop.time() < deadline_s:
            await asyncio.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        """Everything ends as the kernel ends it with the process."""
        for uri in list(self._listeners):
            self.withdraw(uri)
        for task in self._connecting:
            task.cancel()
        for channel in list(self._channels):
            channel.drop()

    def forget(self, channel: SocketChannel) -> None:
        """It is over."""
        self._channels.discard(channel)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.result()  # a mistake of the model's must not pass unseen

    async def _connect(self, uri: str, connected: Accept, failed: Broke) -> None:
        try:
            sock = await self._reach(uri)
        except OSError as error:
            why = _words(error)
            self.pace.happen(lambda: failed(why))
            return
        channel = self._channel(sock)
        self.pace.happen(lambda: connected(channel))

    async def _reach(self, uri: str) -> socket.socket:
        kind, _, place = uri.partition(":")
        if kind == "fd":
            if not place.isdecimal():
                raise OSError(errno.EBADF, "")
            return socket.socket(fileno=int(place))
        if kind == "unix":
            sock = socket.socket(socket.AF_UNIX)
            target: str | tuple[str, int] = place
        elif kind == "tcp":
            host, port = _host_port(place)
            (family, form, _, _, found), *_ = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            sock = socket.socket(family, form)
            target = (str(found[0]), int(found[1]))
        else:
            raise OSError(f"a simulated QEMU does not connect to {uri}")
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, target)
        except BaseException:  # cancelled, too: nobody else knows of the socket
            sock.close()
            raise
        return sock

    def _channel(self, sock: socket.socket) -> SocketChannel:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = SocketChannel(self, sock, self.link.open())
        self._channels.add(channel)
        return channel


class SocketChannel:
    """One end of a connection (`whimbrel.sim.link.contract.Channel`)."""

    def __init__(self, network: SocketNetwork, sock: socket.socket, stream: LinkStream) -> None:
        """Made by `SocketNetwork`."""
        self._network = network
        self._pace = network.pace
        self._sock = sock
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._take: Callable[[Message], None] | None = None
        self._broke: Broke | None = None
        self._early: list[Message] = []
        self._why: str | None = None
        """Why it is over, once it is."""
        self._greeted = False
        self._goodbye = False
        self._in = b""
        self._out = bytearray(HELLO)
        self._open = True
        self._begun = False
        self._questions = self._answers = self._awaited = 0
        self._answered_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock.fileno(), self._readable)
        self._flush()
        self._ask()

    # ---- whimbrel.sim.link.contract.Channel

    @property
    def stream(self) -> LinkStream:
        """See `whimbrel.sim.link.contract.Channel`."""
        return self._stream

    def send(self, message: Message, size_bytes: int = 0) -> None:
        """See `whimbrel.sim.link.contract.Channel`; what only this process knows is left out."""
        if self._why is not None:
            return
        told = {name: value for name, value in message.items() if name not in LOCAL_ONLY}
        line = json.dumps(told).encode() + b"\n"
        self._stream.message(self._pace.clock.now_ns, size_bytes, lambda: self._deliver(line))

    def on_message(self, arrived: Callable[[Message], None]) -> None:
        """See `whimbrel.sim.link.contract.Channel`; what came before is handed over at once."""
        self._take = arrived
        early, self._early = self._early, []
        for message in early:
            arrived(message)

    def on_broken(self, broke: Broke) -> None:
        """See `whimbrel.sim.link.contract.Channel`."""
        self._broke = broke

    def hold(self, held: bool) -> None:
        """See `whimbrel.sim.link.contract.Channel`. For an end that holds itself back: one that is stopped by a
        signal can't say so, and is noticed by its silence."""
        if not self._open:
            return
        if held:
            self._loop.remove_reader(self._sock.fileno())
        else:
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """See `whimbrel.sim.link.contract.Channel`."""
        if self._why is not None:
            return
        self._why = ENDED
        now_ns = self._pace.clock.now_ns
        self._stream.message(now_ns, 0, self._part)
        self._stream.close(now_ns)

    def reset(self) -> None:
        """See `whimbrel.sim.link.contract.Channel`."""
        if self._why is None:
            self._why = RESET
            self._stream.reset()
        if self._open:
            # Without lingering the kernel tells the other end of a reset, and not of an end.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._shut()

    # ---- for the network

    @property
    def parting(self) -> bool:
        """Whether it was closed in order, and that has not reached the other end."""
        return self._open and self._why == ENDED

    def drop(self) -> None:
        """The process ends: nothing is said any more."""
        self._why = self._why or RESET
        self._shut()

    # ---- inside

    def _part(self) -> None:
        self._write(GOODBYE)
        self._shut()

    def _deliver(self, line: bytes) -> None:
        """Say what has arrived by the model's reckoning; what is behind the first waits until that was read."""
        if self._begun:
            self._write(line)
            return
        self._begun = True
        self._questions += 1
        self._awaited = self._questions
        self._write(line + b"?\n")
        self._judge()

    def _judge(self) -> None:
        """See whether the other end takes anything."""
        silent = self._loop.time() - self._answered_s > SILENCE_S
        self._stream.clog(silent or self._answers < self._awaited)

    def _write(self, line: bytes) -> None:
        if self._open:
            self._out += line
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out, socket.MSG_NOSIGNAL)]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock.fileno(), self._flush)
            return
        except OSError:
            self._out.clear()  # that it is gone is found out by reading
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._over(_words(error))
            return
        if not data:
            # A process that was killed says no goodbye; with a real stream its kernel answers with a reset.
            self._over(ENDED if self._goodbye or not self._greeted else RESET)
            return
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            if self._open:
                self._hear(line)
        if len(self._in) > _LONGEST_LINE_BYTES or (not self._greeted and not HELLO.startswith(self._in)):
            self._over(STRAY)

    def _hear(self, line: bytes) -> None:
        if not self._greeted:
            self._greeted = line + b"\n" == HELLO
            if not self._greeted:
                self._over(STRAY)
        elif line == b"?":
            self._write(b"!\n")
        elif line == b"!":
            self._answered_s = self._loop.time()
            self._answers += 1
            self._pace.happen(self._judge)
        elif line == GOODBYE.rstrip():
            self._goodbye = True
        else:
            try:
                message = json.loads(line)
            except ValueError:
                self._over(STRAY)
                return
            self._pace.happen(lambda: self._arrive(message))

    def _arrive(self, message: Message) -> None:
        if self._why is not None:
            return
        if self._take is None:
            self._early.append(message)
        else:
            self._take(message)

    def _over(self, why: str) -> None:
        """The other end went."""
        self._shut()
        self._pace.happen(lambda: self._tell(why))

    def _tell(self, why: str) -> None:
        if self._why is not None:
            return
        self._why = why
        self._stream.reset()
        if self._broke is not None:
            self._broke(why)

    def _ask(self) -> None:
        """Ask whether the other end still reads."""
        self._timer = None
        if not self._open:
            return
        if not self._out:
            self._questions += 1
            self._write(b"?\n")
        self._pace.happen(self._judge)
        self._timer = self._loop.call_later(ASK_EVERY_S, self._ask)

    def _shut(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._network.forget(self)


def _words(error: OSError) -> str:
    """The kernel's words; asyncio has some of its own."""
    if error.errno is None or error.errno <= 0:
        return error.strerror or str(error)  # a name that can't be resolved, or ours
    return os.strerror(error.errno)


def _host_port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise OSError(f"no address: {place}")
    return host.strip("[]"), int(port)


def _listen_tcp(place: str) -> tuple[socket.socket, Message]:
    host, port = _host_port(place)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    version = "ipv6" if family == socket.AF_INET6 else "ipv4"
    return listener, {"port": str(listener.getsockname()[1]), version: True, "host": host, "type": "inet"}


def _listen_unix(path: str) -> tuple[socket.socket, Message]:
    listener = socket.socket(socket.AF_UNIX)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener, {"path": path, "type": "unix"}
