"""Listens to the guest, on both sides of a move.

One thread for each serial socket does nothing but read, stamp and keep: the stamps do not depend on what the event
loop waits for. (A thread that computes without a break can delay them by the interpreter's switch interval, 5 ms;
who measures beside such work lowers it with ``sys.setswitchinterval``.) Everything that waits comes as a coroutine
that leaves the loop free.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar

from whimbrel.engine.errors import CannotConnect, WhimbrelError

from .protocol import Banner, ClassState, DirtyRow, GuestFailure, Heartbeat, LineParser, Record, Verification
from .timeline import Beat, Timeline, summarise

__all__ = ["GuestMonitor"]

_T = TypeVar("_T")
_RETRY_S: Final = 0.005


async def _connect(path: Path, side: str, timeout_s: float) -> socket.socket:
    """Connects, also to a QEMU that is only just starting; a unix socket answers at once, one way or the other."""
    deadline = time.monotonic() + timeout_s
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            client.close()
            if time.monotonic() >= deadline:
                raise CannotConnect(f"no guest on {path} within {timeout_s:g} s: {error.strerror}", side=side) from None
            await asyncio.sleep(_RETRY_S)
        except OSError as error:
            client.close()
            raise CannotConnect(f"cannot connect to {path}: {error.strerror or error}", side=side) from None
        else:
            return client


class _Line:
    """One serial connection and the thread that reads it."""

    def __init__(self, side: str, client: socket.socket, deliver: Callable[[str, int, Record], None]) -> None:
        self.side = side
        self.parser = LineParser()
        self._client = client
        self._deliver = deliver
        self._thread = threading.Thread(target=self._read, name=f"guest-{side}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = self._client.recv(65536)
            except OSError:  # QEMU was killed: the same end as an orderly one
                return
            received_ns = time.monotonic_ns()
            if not data:
                return
            for record in self.parser.feed(data):
                self._deliver(self.side, received_ns, record)

    def send(self, command: bytes) -> None:
        try:
            self._client.sendall(command)
        except OSError as error:
            raise CannotConnect(f"the guest's serial line is gone: {error.strerror}", side=self.side) from None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # not connected any more
            self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._client.close()


#: Offered every record by a reader thread, under the monitor's lock; true once it has what it waited for.
_Waiter: TypeAlias = Callable[[str, Record], bool]


class GuestMonitor:
    """Collects what the guest says; may be used from any thread, its coroutines from one loop at a time.

    Use it as a context manager, or call :meth:`close`::

        with GuestMonitor() as monitor:
            await monitor.attach("source", serial_path)
            await monitor.wait_first_beat("source")
            ...
            print(await monitor.verify("destination"))
    """

    def __init__(self, *, keep_beats: int = 200_000) -> None:
        """Keeps the newest ``keep_beats`` beats: by default a quarter of an hour at 200 a second, about 60 MB."""
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._beats: deque[Beat] = deque(maxlen=keep_beats)
        self._first: dict[str, Beat] = {}
        self._last: dict[str | None, Beat] = {}  # None: of any side
        self._banner: Banner | None = None
        self._classes: dict[int, ClassState] = {}
        self._failure: GuestFailure | None = None
        self._waiters: list[_Waiter] = []
        self._listeners: list[Callable[[Beat], None]] = []

    def __enter__(self) -> Self:
        """Returns the monitor itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    # --- connecting ---

    async def attach(self, side: str, path: Path, *, timeout_s: float = 5.0) -> None:
        """Connects to a guest's serial socket; retries while it does not exist yet.

        If cancelled: nothing was connected.

        Raises:
            CannotConnect: nobody listened there within ``timeout_s``.
        """
        self.adopt(side, await _connect(path, side, timeout_s))

    def adopt(self, side: str, client: socket.socket) -> None:
        """Reads from a connected stream socket, which the monitor closes in the end; one for each side.

        On the source asks for the banner. Nothing is sent to a destination, whose serial port is yet to be loaded.
        """
        client.settimeout(None)
        previous = self._lines.pop(side, None)
        if previous is not None:
            previous.close()
        self._lines[side] = line = _Line(side, client, self._deliver)
        if side == "source":
            line.send(b"i")

    def close(self) -> None:
        """Ends the threads and closes the sockets; what was collected stays. May be called twice."""
        while self._lines:
            _side, line = self._lines.popitem()
            line.close()

    # --- what came in ---

    @property
    def banner(self) -> Banner | None:
        """What the guest said that it runs; None until it did."""
        return self._banner

    @property
    def classes(self) -> tuple[ClassState, ...]:
        """The classes as last reported, in order."""
        with self._lock:
            return tuple(self._classes[index] for index in sorted(self._classes))

    @property
    def failure(self) -> GuestFailure | None:
        """Why the guest refuses to run, if it does."""
        return self._failure

    def beats(self, side: str | None = None, since_ns: int = 0) -> list[Beat]:
        """The beats that are kept, of one side or of all, received from ``since_ns`` on (host's monotonic clock)."""
        with self._lock:
            beats = list(self._beats)
        return [beat for beat in beats if side in (None, beat.side) and beat.received_ns >= since_ns]

    def last_beat(self, side: str | None = None) -> Beat | None:
        """The newest beat of a side, or of both."""
        with self._lock:
            return self._last.get(side)

    def timeline(self, since_ns: int = 0) -> Timeline:
        """Summary of the beats received at or after ``since_ns``.

        Raises:
            WhimbrelError: there is none.
        """
        beats = self.beats(since_ns=since_ns)
        if not beats:
            raise WhimbrelError("the guest sent no heartbeat")
        return summarise(beats)

    def damaged_lines(self, side: str) -> int:
        """Lines of this side that could not be read; a few are normal where a side begins or ends in mid-line."""
        line = self._lines.get(side)
        return line.parser.damaged if line else 0

    def on_beat(self, listener: Callable[[Beat], None]) -> None:
        """Has ``listener`` called for every beat, on the reader's thread: it must be quick and must not raise."""
        with self._lock:
            self._listeners.append(listener)

    # --- waiting ---

    async def wait_first_beat(self, side: str, *, timeout_s: float = 10.0) -> Beat:
        """Waits until a side has sent a beat, and returns its first one.

        Raises:
            WhimbrelError: none came within ``timeout_s``, or the guest refuses to run; says why.
        """

        def first() -> Beat | None:
            return self._first.get(side)

        message = f"the guest sent no heartbeat on the {side} within {timeout_s:g} s"
        with self._waiting(lambda _side, _record: first(), already=first) as future:
            return await self._within(future, timeout_s, message)

    async def wait_beats(self, count: int, *, side: str | None = None, timeout_s: float = 10.0) -> Beat:
        """Waits until ``count`` more beats came (of a side, or of any), and returns the last of them.

        Raises:
            WhimbrelError: they did not come within ``timeout_s``, or the guest refuses to run.
        """
        left = count

        def last(record_side: str, record: Record) -> Beat | None:
            nonlocal left
            left -= isinstance(record, Heartbeat) and side in (None, record_side)
            return self._last[side] if left == 0 else None

        with self._waiting(last) as future:
            return await self._within(
                future, timeout_s, f"the guest did not send {count} heartbeats within {timeout_s:g} s"
            )

    async def wait_banner(self, side: str = "source", *, refresh: bool = False, timeout_s: float = 10.0) -> Banner:
        """Waits until the guest has said what it runs, with all classes.

        Args:
            side: whom to ask.
            refresh: ask again, so that the classes' counters are those of now.
            timeout_s: how long to wait, seconds.

        Raises:
            WhimbrelError: it did not within ``timeout_s``, or it refuses to run.
            CannotConnect: it must be asked, and the serial line is gone.
        """

        def complete() -> Banner | None:
            banner = self._banner
            return banner if banner is not None and len(self._classes) == banner.classes else None

        def completed(_side: str, record: Record) -> Banner | None:
            return complete() if isinstance(record, Banner | ClassState) else None

        with self._waiting(completed, already=None if refresh else complete) as future:
            if refresh:
                self.send(side, b"i")
            return await self._within(future, timeout_s, f"the guest did not say within {timeout_s:g} s what it runs")

    async def verify(self, side: str, *, timeout_s: float = 30.0) -> Verification:
        """Has every page checked now, while the guest goes on, and returns the result.

        Raises:
            WhimbrelError: no result within ``timeout_s``.
            CannotConnect: the serial line is gone.
        """

        def result(record_side: str, record: Record) -> Verification | None:
            return record if record_side == side and isinstance(record, Verification) else None

        with self._waiting(result) as future:
            self.send(side, b"v")
            return await self._within(future, timeout_s, f"the guest did not verify its memory within {timeout_s:g} s")

    async def survey(self, side: str, *, timeout_s: float = 10.0) -> tuple[DirtyRow, ...]:
        """Has the guest count the distinct pages that it wrote of late.

        Returns:
            A row for each class in order, then one for the accumulators' own pages, all for the same instant.

        Raises:
            WhimbrelError: no report within ``timeout_s``.
            CannotConnect: the serial line is gone.
        """
        banner = await self.wait_banner(side, timeout_s=timeout_s)
        rows: dict[int, DirtyRow] = {}

        def all_rows(record_side: str, record: Record) -> tuple[DirtyRow, ...] | None:
            if record_side == side and isinstance(record, DirtyRow):
                rows[record.row] = record
            return tuple(rows[index] for index in sorted(rows)) if len(rows) == banner.classes + 1 else None

        with self._waiting(all_rows) as future:
            self.send(side, b"d")
            return await self._within(
                future, timeout_s, f"the guest did not report what it dirtied within {timeout_s:g} s"
            )

    def send(self, side: str, command: bytes) -> None:
        """Sends a command to the guest: ``v``, ``d``, ``i``, or a self-test ``xt``, ``xs``, ``xa``, ``xg``.

        Raises:
            CannotConnect: this side is not attached, or its line is gone.
        """
        line = self._lines.get(side)
        if line is None:
            raise CannotConnect("the guest's serial line is not attached", side=side)
        line.send(command)

    # --- inside ---

    def _deliver(self, side: str, received_ns: int, record: Record) -> None:
        """Takes a record from a reader thread."""
        listeners: list[Callable[[Beat], None]] = []
        beat = None
        with self._lock:
            match record:
                case Heartbeat():
                    beat = Beat(side, received_ns, record)
                    self._beats.append(beat)
                    self._first.setdefault(side, beat)
                    self._last[side] = self._last[None] = beat
                    listeners = list(self._listeners)
                case Banner():
                    self._banner = record
                    self._classes.clear()  # they follow
                case ClassState():
                    self._classes[record.index] = record
                case GuestFailure():
                    self._failure = record
                case Verification() | DirtyRow():
                    pass
            self._waiters = [waiter for waiter in self._waiters if not waiter(side, record)]
        if beat is not None:
            for listener in listeners:
                listener(beat)

    @contextlib.contextmanager
    def _waiting(
        self,
        select: Callable[[str, Record], _T | None],
        *,
        already: Callable[[], _T | None] | None = None,
    ) -> Generator[asyncio.Future[_T], None, None]:
        """A future for the first result of ``select`` from now on (or for that of ``already``, now).

        Both are called under the lock. The guest's refusal to run settles the future, too.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def refuse(failure: GuestFailure) -> None:
            if not future.done():
                future.set_exception(WhimbrelError(f"the guest refuses to run: {failure.message}"))

        def settle(result: _T) -> None:
            if not future.done():
                future.set_result(result)

        def waiter(side: str, record: Record) -> bool:
            if isinstance(record, GuestFailure):
                _call_soon(loop, refuse, record)
                return True
            result = select(side, record)
            if result is not None:
                _call_soon(loop, settle, result)
            return result is not None

        with self._lock:
            failure, known = self._failure, already() if already else None
            if failure is not None:
                refuse(failure)
            elif known is not None:
                settle(known)
            else:
                self._waiters.append(waiter)
        try:
            yield future
        finally:
            with self._lock:
                self._waiters = [other for other in self._waiters if other is not waiter]
            future.cancel()

    async def _within(self, future: asyncio.Future[_T], timeout_s: float, message: str) -> _T:
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise WhimbrelError(message) from None


def _call_soon(loop: asyncio.AbstractEventLoop, settle: Callable[[_T], None], result: _T) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(settle, result)
