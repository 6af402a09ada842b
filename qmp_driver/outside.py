"""The throttle from outside of QEMU, as the manager handles it: a share is wanted, and a watchdog holds it.

The manager never slows a thread itself. It tells a watchdog (`outside_hold`), whose lease it renews; so the guest is
back at full speed within the lease whatever becomes of the manager. Should the watchdog be the one that dies, the
manager undoes it at once; and what both leave behind stands in the log, in a line that was written before anything was
done, for `resolve` to undo.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
from collections.abc import Callable

from whimbrel.engine.errors import WhimbrelError

from . import outside_hold
from .detached import start_detached
from .outside_hold import LEASE_S, LINE_FD, Hold

ANSWER_WITHIN_S = 5.0
"""Moving one thread to another control group takes the kernel 8 ms (it waits for every processor to notice)."""
ENDS_WITHIN_S = 1.0
"""The watchdog, killed in the middle of such a move."""
RENEWALS = 4
"""So often a lease is renewed in its time."""


class OutsideThrottle:
    """Sees to it that the share that is wanted is the share that is taken, until `close`."""

    def __init__(
        self,
        hold: Hold,
        *,
        write: Callable[[Hold | None], None],
        failed: Callable[[str], None],
        lease_s: float = LEASE_S,
    ) -> None:
        """
        Args:
            hold: which threads, and how.
            write: puts into the log what is about to be done; ``None``: it is undone. What it raises is as good as a
                kernel that refuses.
            failed: told, once, why nothing is taken any more from here on; everything is undone by then, but for what
                the words name.
            lease_s: how long the watchdog waits for a sign of life, seconds.
        """
        self._hold = hold
        self._write = write
        self._failed = failed
        self._lease_s = lease_s
        self._wanted: float | None = None
        self._taken: float | None = None
        self._written = False
        self._wake = asyncio.Event()
        self._over = False
        self._watchdog: _Watchdog | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def taken(self) -> float | None:
        """The share that is taken now, as far as the watchdog has said; ``None``: the threads are as they were."""
        return self._taken

    @property
    def watchdog_pid(self) -> int | None:
        """The watchdog's process; ``None``: there is none."""
        return self._watchdog.pid if self._watchdog is not None else None

    def want(self, share: float | None) -> None:
        """From now on this share of the threads' time is to be taken; returns at once.

        Without effect after a failure, or `close`.

        Args:
            share: 0 to 0.99. With 0 nothing is taken, but all is made ready, so that another share is taken within
                milliseconds. ``None``: the threads are to be as they were.
        """
        if share == self._wanted or self._over:
            return
        self._wanted = share
        self._wake.set()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Take everything off and end the watchdog; idempotent.

        If cancelled: it is undone all the same, before this returns.
        """
        self._over = True
        self._wanted = None
        worker, self._worker = self._worker, None
        try:
            if worker is not None:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)
        finally:
            left = self._undo()
            if left:
                self._failed("; ".join(left))

    async def _work(self) -> None:
        try:
            while not self._over:
                self._wake.clear()
                await self._converge()
                try:
                    async with asyncio.timeout(self._lease_s / RENEWALS if self._taken is not None else None):
                        await self._attend()
                except TimeoutError:
                    pass  # time to renew
        except (WhimbrelError, OSError, TimeoutError) as error:
            self._over = True
            left = self._undo()
            self._failed("; ".join([str(error) or "the watchdog does not answer", *left]))

    async def _converge(self) -> None:
        wanted = self._wanted
        if wanted != self._taken:
            if wanted is not None and not self._written:
                self._write(self._hold)
                self._written = True
            if self._watchdog is None:
                self._watchdog = await _Watchdog.start(self._hold, self._lease_s)
            await self._watchdog.say("off" if wanted is None else f"take {wanted}")
            self._taken = wanted
        elif wanted is not None and self._watchdog is not None:
            await self._watchdog.say("stay")

    async def _attend(self) -> None:
        """Wait until something else is wanted; raises when the watchdog is gone."""
        if self._watchdog is None:
            await self._wake.wait()
            return
        wake = asyncio.ensure_future(self._wake.wait())
        gone = asyncio.ensure_future(self._watchdog.gone.wait())
        try:
            await asyncio.wait((wake, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
            gone.cancel()
        if self._watchdog.gone.is_set():
            raise WhimbrelError(self._watchdog.last_words or "its watchdog has ended")

    def _undo(self) -> list[str]:
        """End the watchdog, and see that nothing is left of what it did."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.kill()  # first: it must not put anything on after us
        if not self._written:
            return []
        left = outside_hold.take_off(self._hold)
        self._taken = None
        if not left:
            self._written = False
            try:
                self._write(None)
            except WhimbrelError:
                pass  # whoever reads the log undoes what is undone, which does no harm
        return left


class _Watchdog:
    """The process, and our end of the line to it."""

    def __init__(self, pid: int, pidfd: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `start`."""
        self.pid = pid
        self._pidfd = pidfd
        self.gone = asyncio.Event()
        self.last_words = ""
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._reader = reader
        self._writer = writer
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, hold: Hold, lease_s: float) -> _Watchdog:
        """Start one.

        Raises:
            OSError: it can't be started.
        """
        ours, its = socket.socketpair()
        pidfd = -1
        try:
            with its:
                pid = spawn_watchdog(its.fileno(), hold, lease_s)
            pidfd = os.pidfd_open(pid)  # a child that nobody has waited for: the number is its own
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:  # cancelled, too
            ours.close()
            if pidfd >= 0:
                _end(pidfd)
            raise
        return cls(pid, pidfd, reader, writer)

    async def say(self, words: str) -> None:
        """Tell it something, and wait until it has done it.

        Raises:
            WhimbrelError: it can't, or is gone.
            TimeoutError: it does not answer.
        """
        try:
            self._writer.write(words.encode() + b"\n")
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._writer.drain()
                answer = await self._answers.get()
        except ConnectionError as error:
            raise WhimbrelError("its watchdog has ended") from error
        if answer != "done":
            raise WhimbrelError(answer)

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                word, _, rest = line.decode().strip().partition(" ")
                if word == "lapsed":
                    self.last_words = "its lease ran out: this process was held up for too long"
                    break
                self._answers.put_nowait(rest if word == "failed" else word)
        except ConnectionError:
            pass
        self._answers.put_nowait(self.last_words or "its watchdog has ended")
        self.gone.set()

    def kill(self) -> None:
        """End it, and see it ended; once."""
        self._listening.cancel()
        self._writer.close()
        _end(self._pidfd)


def _end(pidfd: int) -> None:
    """Kill a child, see it ended, and let go of it."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(ENDS_WITHIN_S * 1000)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except (ChildProcessError, ProcessLookupError):
        pass  # whoever embeds us waits for every child, or for none
    finally:
        os.close(pidfd)


def spawn_watchdog(line: int, hold: Hold, lease_s: float) -> int:
    """Start the process; its pid.

    Raises:
        OSError: it can't be started.
    """
    words = (str(os.getpid()), str(lease_s), json.dumps(hold.as_written()))
    return start_detached(outside_hold.__file__, words, line=line, line_fd=LINE_FD, environment={})
