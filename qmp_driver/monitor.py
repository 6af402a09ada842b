"""One QMP connection to one QEMU.

``qemu.qmp`` speaks the protocol; this module adds what a migration needs beyond it:

- All that QEMU wrote before it died is read, whatever became of our writes (see ``client.Client``).
- Every command has a deadline, and an answer that never came is an error of its own: ``OutcomeUnknown``.
- An abandoned command (deadline passed, caller cancelled) keeps its place in the queue until its answer
  comes or the connection ends. So no answer is ever without an owner, and a QEMU that hangs is not
  flooded: beyond 8 commands it would stop reading, and out-of-band commands could not overtake any more.
- Events go straight to a callback, in the order of the stream; nothing is stored.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, Message, Runstate, StateError
from qemu.qmp.error import ProtocolError

from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, QemuRefused

from .client import DESCRIPTOR, Client, encode
from .replies import DEFAULT_TIMEOUT_S, VersionInfo, fit
from .sockets import Address, Outlet, connect_socket, describe, peer_pid

__all__ = ["MAX_IN_FLIGHT", "MAX_OUT_OF_BAND_IN_FLIGHT", "Address", "Monitor", "QmpEvent"]

T = TypeVar("T")

MAX_IN_FLIGHT = 6
"""Commands sent and not yet answered, out-of-band ones aside. QEMU queues 8 and then stops reading."""

MAX_OUT_OF_BAND_IN_FLIGHT = 4
"""The same for out-of-band commands, which QEMU answers at once from a thread of their own."""


class _Stamp(msgspec.Struct, frozen=True):
    seconds: int = -1
    microseconds: int = 0


class _RawEvent(msgspec.Struct, frozen=True):
    event: str
    data: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    timestamp: _Stamp = _Stamp()


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """Something that QEMU said unasked.

    Attributes:
        name: ``STOP``, ``MIGRATION``, ...
        data: the event's members; empty for an event without any.
        timestamp_s: when it happened, in seconds since 1970 by the clock of QEMU's host; microseconds
            count. ``-1.0`` where that host could not tell.
        received_ns: when we read it, in nanoseconds of our monotonic clock.
    """

    name: str
    data: dict[str, object]
    timestamp_s: float
    received_ns: int


class Monitor:
    """One QMP connection to one QEMU, for as long as it lasts. A new connection is a new ``Monitor``.

    Bound to the event loop on which it was made. Also an asynchronous context manager that closes.
    """

    def __init__(
        self,
        address: Address,
        side: str,
        on_event: Callable[[QmpEvent], None] | None,
        on_lost: Callable[[str], None] | None,
    ) -> None:
        """Use ``Monitor.connect``."""
        self.address = address
        self.side = side
        self.peer_pid: int | None = None
        """The process that QMP was connected to, where its socket tells (a UNIX socket, same pid namespace)."""
        self._on_event = on_event
        self._on_lost = on_lost
        self._client = Client(self._hear)
        self._version: VersionInfo | None = None
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._oob_slots = asyncio.Semaphore(MAX_OUT_OF_BAND_IN_FLIGHT)
        self._exchanges: set[asyncio.Task[object]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closing = False
        self._over = asyncio.Event()
        self._read_to_end = False

    @classmethod
    async def connect(
        cls,
        address: Address,
        *,
        side: str,
        timeout_s: float = 5.0,
        on_event: Callable[[QmpEvent], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> Monitor:
        """Open a session with a QEMU monitor.

        Args:
            address: a UNIX socket's path, or ``(host, port)``.
            side: ``"source"`` or ``"destination"``; every error names it.
            timeout_s: for everything together: connecting, greeting, handshake.
            on_event: called with each event, in the order of the stream, from within the event loop; it
                must not block. May be called before this returns. What it raises goes to the loop's
                exception handler and does no harm to the connection.
            on_lost: called once, with the reason, when the connection ends other than by ``close()``, and
                after the last event. Nothing is called after it, nor after ``close()``.

        Raises:
            CannotConnect: no session came about, and why, in one sentence. Nothing was changed.

        If cancelled: the socket is closed.
        """
        monitor = cls(address, side, on_event, on_lost)
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(timeout_s):
                sock = await connect_socket(address, side=side)
                await monitor._open(sock)
        except TimeoutError:
            raise monitor._no_greeting(connected=sock is not None, timeout_s=timeout_s) from None
        except ConnectError as error:
            raise monitor._no_session(error.exc) from error
        return monitor

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version from its greeting: ``(7, 2, 22)``."""
        return self._version.triple if self._version else (0, 0, 0)

    @property
    def package(self) -> str:
        """What the distribution adds to the version, or the empty string."""
        return self._version.package if self._version else ""

    @property
    def alive(self) -> bool:
        """Whether commands can be sent."""
        return not self._closing and self._client.runstate is Runstate.RUNNING

    @property
    def read_to_end(self) -> bool:
        """Whether all that QEMU ever wrote here was read, and its events handed on.

        True from ``on_lost`` on, if QEMU's end was closed. False as long as the connection stands, and if
        it was cut: by ``close()``, by a reset of TCP, or because of a message that was torn or no QMP.
        """
        return self._read_to_end

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        oob: bool = False,
    ) -> object:
        """Carry out one command.

        Args:
            command: QMP's name of it.
            arguments: must be representable in JSON.
            timeout_s: how long the answer may take. Commands are carried out in order, so this includes
                those before it.
            oob: out of band: overtakes the others (``yank``, ``migrate-pause``, ``migrate-recover``).

        Returns:
            What QEMU answered.

        Raises:
            QemuRefused: QEMU answered with an error.
            OutcomeUnknown: the connection ended, or the deadline passed, before an answer came.
            CannotConnect: it was **not sent**: the connection had ended before, or earlier commands kept
                the queue full up to the deadline.
            BadInput: the arguments cannot be sent.

        If cancelled: as with a deadline, the command may still be carried out. The connection stays usable.
        """
        message = encode(command, arguments, oob=oob)
        return await self._execute(command, message, timeout_s, oob=oob)

    async def call(
        self,
        reply_type: type[T],
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> T:
        """Carry out one command and convert its answer to a typed record; unknown fields are ignored.

        Raises:
            WhimbrelError: the answer does not fit the record.
            QemuRefused, OutcomeUnknown, CannotConnect, BadInput: as ``execute``.
        """
        reply = await self.execute(command, arguments, timeout_s=timeout_s)
        return fit(reply_type, command, reply, side=self.side)

    async def send_descriptor(self, name: str, descriptor: int, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Give QEMU a file descriptor under a name (``getfd``), for ``migrate`` to ``fd:NAME``.

        It belongs to this connection and is gone with it. The caller keeps its own copy, and closes it.

        Raises:
            CannotConnect: this connection is not a UNIX socket, or has ended.
            QemuRefused, OutcomeUnknown, BadInput: as ``execute``.
        """
        if isinstance(self.address, tuple):
            raise CannotConnect("a file descriptor can only be passed over a UNIX socket", side=self.side)
        message = encode("getfd", {"fdname": name}, oob=False)
        await self._execute("getfd", message, timeout_s, descriptor=descriptor)

    async def close(self) -> None:
        """End the connection; idempotent. Commands in flight end with ``OutcomeUnknown``.

        What the closing itself meets (an end of file, a reset) is what was asked for, and is not reported.
        """
        self._closing = True
        await asyncio.shield(self._end())

    async def wait_end(self, timeout_s: float) -> bool:
        """Wait until the connection has ended.

        Args:
            timeout_s: longest wait in seconds.

        Returns:
            ``read_to_end``: whether it was QEMU's end that was closed, with all that it wrote read.

        Raises:
            TimeoutError: it still stands.
        """
        async with asyncio.timeout(timeout_s):
            await self._over.wait()
        return self._read_to_end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self, sock: socket.socket) -> None:
        """Hold the QMP session on a connected socket, which belongs to this monitor from here on."""
        outlet = Outlet(sock.dup())
        self._client.outlet = outlet
        try:
            self.peer_pid = peer_pid(sock)
            await self._client.connect(sock)
            self._version = self._read_greeting()
        except BaseException:  # cancelled, too: a monitor serves one client, and this one would keep it
            self._closing = True
            if self._client.runstate is Runstate.RUNNING:
                await self._client.disconnect()
            sock.close()
            outlet.close()
            raise
        self._watching = asyncio.create_task(self._watch())
        self._watching.add_done_callback(self._watched)

    def _read_greeting(self) -> VersionInfo:
        greeting = self._client.greeting
        try:
            return msgspec.convert(greeting and greeting.QMP.version, VersionInfo)
        except msgspec.ValidationError as error:
            where = describe(self.address)
            reason = "what answers there greets as QMP does but names no QEMU version"
            raise CannotConnect(f"cannot connect to {where}: {reason}", side=self.side) from error

    async def _execute(
        self,
        command: str,
        message: Message,
        timeout_s: float,
        *,
        oob: bool = False,
        descriptor: int | None = None,
    ) -> object:
        slots = self._oob_slots if oob else self._slots
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await slots.acquire()
        except TimeoutError:
            because = f"the monitor left every earlier command without an answer for {timeout_s:g} s"
            raise self._not_sent(command, because) from None
        if not self.alive:
            slots.release()
            raise self._not_sent(command, "the connection has ended")
        exchange = asyncio.create_task(self._exchange(message, descriptor))
        self._exchanges.add(exchange)
        exchange.add_done_callback(lambda ended: self._finish(ended, slots))
        # Not wait_for, and no cancellation: it is the exchange that receives an answer that comes too late.
        await asyncio.wait((exchange,), timeout=max(0.0, deadline_s - asyncio.get_running_loop().time()))
        if not exchange.done():
            raise OutcomeUnknown(command, f"no answer within {timeout_s:g} s", side=self.side)
        try:
            return exchange.result()
        except ExecuteError as error:
            raise QemuRefused(command, error.error_class, str(error), side=self.side) from None
        except StateError:
            raise self._not_sent(command, "the connection has ended") from None
        except (ExecInterruptedError, asyncio.CancelledError):
            raise OutcomeUnknown(command, "connection lost", side=self.side) from None
        except ProtocolError as error:
            raise OutcomeUnknown(command, "its answer is no QMP", side=self.side) from error

    async def _exchange(self, message: Message, descriptor: int | None) -> object:
        if descriptor is None:
            return await self._client.execute_msg(message)
        # A copy, for the caller may close its own while the message still waits to be written.
        copy = os.dup(descriptor)
        try:
            message[DESCRIPTOR] = copy
            return await self._client.execute_msg(message)
        finally:
            os.close(copy)

    def _finish(self, exchange: asyncio.Task[object], slots: asyncio.Semaphore) -> None:
        self._exchanges.discard(exchange)
        slots.release()
        if not exchange.cancelled():
            exchange.exception()  # looked at, so that nobody is told of one that was abandoned

    def _hear(self, message: Message) -> bool:
        """Hand an event on. False, always: the client must not store it."""
        if self._on_event is not None and not self._closing:
            try:
                self._on_event(_decode_event(message))
            except Exception as error:
                # An exception here would end the reading, and with it the connection.
                self._report(error, "on_event")
        return False

    def _report(self, error: Exception, callback: str) -> None:
        context = {"message": f"{callback} of the {self.side}'s monitor raised", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)

    async def _watch(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    def _watched(self, watching: asyncio.Task[None]) -> None:
        """End it; a callback, for a task that is cancelled before its first step runs nothing of its own."""
        if watching.cancelled():
            # From outside: asyncio.run() ends by cancelling every task, the client's reader too, which then
            # says nothing any more. Told at once, for the loop may not turn often enough to disconnect first.
            self._tell_lost("the event loop's tasks were cancelled")
        self._end()

    def _end(self) -> asyncio.Task[None]:
        """Begin to disconnect; once, whoever asks first."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._disconnect())
        return self._ending

    async def _disconnect(self) -> None:
        reason = "the connection was closed"
        try:
            await self._client.disconnect()
        except EOFError:
            self._read_to_end = not self._closing  # events that came after the closing were dropped
            reason = "QEMU closed the connection"
        except OSError as error:
            # The kernel hands out what a UNIX socket still holds before it reports the reset (QEMU ended
            # with a command of ours unread). TCP throws it away.
            whole = isinstance(error, ConnectionResetError) and not isinstance(self.address, tuple)
            self._read_to_end = whole and not self._closing
            reason = f"the connection broke: {error.strerror or error}"
        except (ProtocolError, ValueError) as error:
            reason = f"QEMU's side said something that is no QMP: {_first_line(error)}"
        except asyncio.CancelledError:
            reason = "the event loop's tasks were cancelled"  # the client's too; this one ends here anyway
        if self._client.outlet is not None:
            self._client.outlet.close()
        if self._watching is not None:
            self._watching.cancel()
        self._tell_lost(reason)
        self._over.set()

    def _tell_lost(self, reason: str) -> None:
        """Tell that the connection ended; once, and not if that was asked for."""
        if self._closing:
            return
        self._closing = True
        if self._on_lost is not None:
            try:
                self._on_lost(reason)
            except Exception as error:  # the connection is lost all the same, and has to be taken down
                self._report(error, "on_lost")

    def _not_sent(self, command: str, because: str) -> CannotConnect:
        return CannotConnect(f"{command} was not sent: {because}", side=self.side)

    def _no_greeting(self, *, connected: bool, timeout_s: float) -> CannotConnect:
        where = describe(self.address)
        if not connected:
            return CannotConnect(f"cannot connect to {where}: no answer within {timeout_s:g} s", side=self.side)
        return CannotConnect(
            f"{where} accepts connections but sent no QMP greeting within {timeout_s:g} s: another client "
            "holds this monitor (QEMU serves one at a time), or QEMU hangs",
            side=self.side,
            advice="end the other client, or give QEMU a second -qmp socket",
        )

    def _no_session(self, cause: Exception) -> CannotConnect:
        where = describe(self.address)
        if isinstance(cause, (EOFError, ConnectionError)):
            reason = "the connection ended before the QMP session began: QEMU is ending, or turned us away"
        elif self._client.greeting is not None:
            reason = "it greeted as QMP does, but the handshake failed"
        elif isinstance(cause, (ProtocolError, ValueError)):
            reason = "what answers there is not a QMP monitor"
        else:
            reason = f"no session came about: {_first_line(cause)}"
        return CannotConnect(f"cannot connect to {where}: {reason}", side=self.side)


def _decode_event(message: Message) -> QmpEvent:
    received_ns = time.monotonic_ns()
    event = fit(_RawEvent, "an event", dict(message))
    stamp = event.timestamp
    timestamp_s = -1.0 if stamp.seconds < 0 else stamp.seconds + stamp.microseconds / 1e6
    return QmpEvent(event.event, event.data, timestamp_s, received_ns)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
