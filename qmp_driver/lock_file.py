"""A guest's lock in a file: a lease that names its holder, on storage that both hosts see.

The lease is changed only by who holds an exclusive ``flock`` on a second file beside it (``NAME.lock``), and is
written whole: to a third (``NAME.new``), which is synced and takes the lease's place by ``rename``, after which the
folder is synced. So it is never half written, and what a killed process leaves is either the old holder or the new
one. ``flock`` dies with its process, the lease does not. On NFS ``flock`` reaches the other hosts unless the mount
says ``local_lock``; the file system must be one where ``rename`` replaces a file at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from whimbrel.engine.errors import BadInput, OutcomeUnknown
from whimbrel.engine.states import Side as SideName

from .locks import LockRefused
from .parties import Party

FORMAT = 1
MOST_BYTES = 1 << 16
"""No lease is longer: what is, is not ours."""
LOOK_EVERY_S = 0.001

_Result = TypeVar("_Result")


class _Lease(msgspec.Struct, forbid_unknown_fields=True):
    whimbrel_lock: int
    holder: str


class _GivenUp(Exception):
    """The operation was cancelled before it changed anything."""


@dataclass(frozen=True, slots=True)
class FileLock:
    """A `LockProvider`: a file that names who may run the guest. A file that is not there: nobody holds it.

    Every operation runs in a thread, and ends only when nothing can move any more, even where it was cancelled.

    Attributes:
        path: the lease; made absolute. Its folder must exist.
        source: the name of the source's QEMU, as the lease has it; ``None``: the party's own (`Party.name`), which
            serves a guest that moves again and again as long as each of its QEMUs is seen in the same way.
        destination: likewise.
        wait_s: how long somebody else may be in the middle of a change, seconds.

    Raises:
        BadInput: names that are empty or the same, by field.
    """

    path: Path
    source: str | None = None
    destination: str | None = None
    wait_s: float = 2.0

    def __post_init__(self) -> None:
        for field, name in (("source", self.source), ("destination", self.destination)):
            if name is not None and not name.strip():
                raise BadInput(field, name, "a name that tells this QEMU from all others")
        if self.source is not None and self.source == self.destination:
            raise BadInput("destination", self.destination, "another name than the source's")
        # A change of the working directory must not change which guest this is about.
        object.__setattr__(self, "path", Path(os.path.abspath(self.path)))

    async def acquire(self, holder: Party) -> None:
        """Take the lock that is free, or is this holder's already.

        Raises:
            LockRefused: somebody else holds it, or it can't be read or written.
            OutcomeUnknown: it was written, and may not have reached the disk.
        """
        name = self._name(holder)
        await self._change((None, name), name)

    async def hand_over(self, from_: Party, to: Party) -> None:
        """Pass the lock on from who holds it; done where ``to`` holds it already.

        Raises:
            LockRefused: neither of the two holds it (nobody does, even), or it can't be read or written.
            OutcomeUnknown: it was written, and may not have reached the disk.
        """
        old, new = self._name(from_), self._name(to)
        if old == new:
            raise LockRefused(f"source and destination have the same name in the guest's lock {self.path}: {old}")
        await self._change((old, new), new)

    async def release(self, holder: Party) -> None:
        """Free the lock; done where it is free already.

        Raises:
            LockRefused: somebody else holds it, or it can't be read or written.
            OutcomeUnknown: it was removed, and that may not have reached the disk.
        """
        await self._change((None, self._name(holder)), None)

    async def holder(self) -> str | None:
        """The name of the holder; ``None``: it is free.

        Raises:
            LockRefused: the file can't be read, or is no lease.
        """
        return await _in_thread(lambda given_up: _read(self._real_path()))

    def _name(self, party: Party) -> str:
        given = self.source if party.side is SideName.SOURCE else self.destination
        return given if given is not None else party.name

    def _real_path(self) -> Path:
        """Where the lease really is: ``rename`` would put a file in the place of a link to it."""
        return Path(os.path.realpath(self.path))

    async def _change(self, allowed: tuple[str | None, str], to: str | None) -> None:
        await _in_thread(lambda given_up: self._change_now(allowed, to, given_up))

    def _change_now(self, allowed: tuple[str | None, str], to: str | None, given_up: threading.Event) -> None:
        path = self._real_path()
        try:
            with _alone(path, self.wait_s, given_up):
                now = _read(path)
                if now not in allowed:
                    raise LockRefused(_not_theirs(path, now, allowed))
                if given_up.is_set():
                    raise _GivenUp
                if now != to and to is not None:
                    _write_beside(path, to)
                _put_in_place(path, now, to)
        except OSError as error:
            raise LockRefused(f"the guest's lock {path} can't be changed: {error.strerror}") from error


async def _in_thread(work: Callable[[threading.Event], _Result]) -> _Result:
    """Run work in a thread; if cancelled, it is told so, and waited for all the same."""
    given_up = threading.Event()
    # No task: whoever tears the loop down cancels all tasks, and this one must be seen to its end.
    future = asyncio.get_running_loop().run_in_executor(None, work, given_up)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        given_up.set()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                pass  # once is enough
        future.exception()  # seen
        raise


@contextmanager
def _alone(path: Path, wait_s: float, given_up: threading.Event) -> Generator[None, None, None]:
    """Hold the lock of the lease, which lasts for one change."""
    beside = path.with_name(f"{path.name}.lock")
    deadline_s = time.monotonic() + wait_s
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed it ("a stale lock"): then another one may be held by others.
            if os.path.samestat(os.fstat(descriptor), os.stat(beside)):
                break
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:  # whatever it is: the lock goes with the descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline_s:
            raise LockRefused(f"somebody else has been changing the guest's lock {path} for {wait_s:g} s")
        if given_up.wait(LOOK_EVERY_S):
            raise _GivenUp
    try:
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> str | None:
    """The holder that a lease names.

    Raises:
        LockRefused: it can't be read, or is no lease.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockRefused(f"the guest's lock {path} can't be read: {error.strerror}") from error
    try:
        if len(data) > MOST_BYTES:
            raise msgspec.ValidationError(f"it is longer than {MOST_BYTES} bytes")
        lease = msgspec.json.decode(data, type=_Lease)
        if lease.whimbrel_lock != FORMAT:
            raise msgspec.ValidationError(f"its format is {lease.whimbrel_lock}, not {FORMAT}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = "it is empty" if not data else str(error)
        raise LockRefused(
            f"the file {path} is not the lock of a guest: {text}",
            advice="name another file, or remove this one once it is certain that the guest runs nowhere else",
        ) from error
    return lease.holder


def _write_beside(path: Path, holder: str) -> None:
    data = json.dumps({"whimbrel_lock": FORMAT, "holder": holder}).encode() + b"\n"
    descriptor = os.open(_new(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(path: Path, now: str | None, to: str | None) -> None:
    """Make the change, and see it on the disk.

    Where nothing is left to change the folder is synced too: who made the change may have died before it did so.
    """
    try:
        if now != to:
            if to is None:
                path.unlink()
            else:
                os.rename(_new(path), path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutcomeUnknown(f"changing the guest's lock {path}", str(error.strerror)) from error


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _not_theirs(path: Path, now: str | None, allowed: tuple[str | None, str]) -> str:
    if now is None:
        return f"nobody holds the guest's lock {path}: it should be held by {allowed[0]}"
    wanted = " or ".join(name for name in allowed if name is not None)
    return f"the guest's lock {path} is held by {now}, not by {wanted}"
