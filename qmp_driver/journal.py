"""The log of one migration: journal, trace and input for replay in one append-only file of JSON lines.

Each line is one unbuffered ``write()`` made *before* the command that it announces is sent, so it survives
the death of the manager. Only a host's death needs ``fsync``: that is done once, off the event loop, at
arming, on a file whose blocks are reserved, so that the switchover can't meet a full disk. The writer holds
an exclusive lock. docs/log.md documents the lines.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import json
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from whimbrel.engine.errors import BadInput, WhimbrelError

FORMAT = 1
RESERVED_BYTES = 1 << 20
"""Reserved at arming, and anew whenever half of it is written: several times what a switchover and its aftermath
write."""

LOCK_TRIES = 5
LOCK_PAUSE_S = 0.01

FALLOC_FL_KEEP_SIZE = 1
"""``fallocate(2)``: reserve blocks without changing the file's length."""


def default_directory() -> Path:
    """Where logs go that nobody named a path for: ``$XDG_STATE_HOME/whimbrel/log``."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "whimbrel" / "log"


_open: weakref.WeakSet[Journal] = weakref.WeakSet()


def _close_in_child() -> None:
    """A child that was forked would hold the lock beyond our death, and nobody could take over."""
    for journal in list(_open):
        journal.close()


os.register_at_fork(after_in_child=_close_in_child)


class Journal:
    """The writer. One per migration; `close` releases the lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """For `create`."""
        self.path = path
        self._fd = descriptor
        self._lines = 0
        self._written_bytes = 0
        self._muted = False
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        _open.add(self)

    @classmethod
    def create(cls, path: Path, *, field: str = "log") -> Self:
        """Create the log and lock it.

        Args:
            path: a file that does not exist yet, or is empty; missing folders are made.
            field: the name of the option, for the error.

        Raises:
            BadInput: it can't be written, already holds a log, or is in use.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadInput(field, str(path), f"a path that can be written ({error.strerror})") from error
        if not _lock(descriptor):
            os.close(descriptor)
            raise BadInput(field, str(path), "a log that no running migration writes to")
        if os.fstat(descriptor).st_size:
            os.close(descriptor)
            raise BadInput(field, str(path), "a new file, or an empty one: this one holds something already")
        return cls(path, descriptor)

    @classmethod
    def reopen(cls, path: Path, *, field: str = "log") -> Self:
        """Take over a log that an earlier manager left, lock it and go on at its end.

        A torn last line is cut off: what it announced was never begun.

        Args:
            path: the log.
            field: the name of the option, for the error.

        Raises:
            BadInput: there is no such log, it can't be written, it is no log, or a manager writes to it.
            WhimbrelError: a line is damaged; its number is named.
        """
        if os.path.exists(path) and not os.path.isfile(path):
            raise BadInput(field, str(path), "a file")  # a pipe would keep us waiting
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(field, str(path), f"a log that can be written ({error.strerror})") from error
        try:
            if not _lock(descriptor):
                raise BadInput(
                    field, str(path), "a log that no manager writes to: this migration is being looked after"
                )
            journal = cls(path, descriptor)
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            journal._lines = sum(1 for _ in _records(data, path))
            os.ftruncate(descriptor, data.rfind(b"\n") + 1)
        except BaseException:  # whatever it is: the lock on the file goes with the descriptor
            os.close(descriptor)
            raise
        return journal

    def write(self, kind: str, now_ns: int, wall_s: float, **fields: Any) -> None:
        """Append one line.

        Args:
            kind: what the line is (see docs/log.md).
            now_ns: the migration's clock.
            wall_s: the wall clock, seconds.
            fields: the rest of the line.

        Raises:
            WhimbrelError: the line could not be written whole.
        """
        if self._muted:
            return
        self._lines += 1
        line = {"n": self._lines, "t_ns": now_ns, "wall_s": round(wall_s, 6), "kind": kind, **fields}
        try:
            data = self._encoder.encode(line) + b"\n"
        except UnicodeEncodeError:
            # A path that is no UTF-8 (from a command line, say): what can't be written is replaced, not lost.
            data = json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise WhimbrelError(f"the log {self.path} can't be written: {error.strerror}") from error
        self._written_bytes += written
        if written != len(data):
            raise WhimbrelError(f"the log {self.path} took only {written} of {len(data)} bytes: disk full?")

    def mute(self) -> None:
        """Write nothing more: the log has failed, and what it misses can't be mended."""
        self._muted = True

    async def arm(self) -> None:
        """Make what is written safe against the host's death and reserve room for the rest.

        Raises:
            WhimbrelError: the disk is full, or does not take it.
        """
        try:
            await asyncio.to_thread(self._arm)
        except OSError as error:
            raise WhimbrelError(f"the log {self.path} can't be made safe: {error.strerror}") from error

    @property
    def is_short_of_room(self) -> bool:
        """Whether half of what was reserved is used up: a long transfer writes 10 KB/s."""
        return self._written_bytes > RESERVED_BYTES // 2

    async def make_room(self) -> None:
        """Reserve as much again as at arming, off the loop; nothing is synced.

        Raises:
            WhimbrelError: the disk is full.
        """
        self._written_bytes = 0
        descriptor = os.dup(self._fd)
        try:
            await asyncio.to_thread(_reserve, descriptor)
        except OSError as error:
            raise WhimbrelError(f"the log {self.path} has no room left: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _arm(self) -> None:
        # A descriptor of our own: this runs in a thread, and the log may be closed before it is done.
        descriptor = os.dup(self._fd)
        try:
            _reserve(descriptor)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        # The file is new: without its folder's entry it would not be found after the host's death.
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Release the lock and the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _reserve(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    end = ctypes.c_long(os.fstat(descriptor).st_size)
    if libc.fallocate(descriptor, FALLOC_FL_KEEP_SIZE, end, ctypes.c_long(RESERVED_BYTES)):
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS):  # some file systems can't reserve: then they can't
            raise OSError(code, os.strerror(code))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, in order. A torn last line is passed over.

    Raises:
        BadInput: there is no such file, or it is no log.
        WhimbrelError: a line other than the last is damaged; its number is named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput("log", str(path), f"a log that can be read ({error.strerror})") from error
    yield from _records(data, path)


def _records(data: bytes, path: Path) -> Iterator[dict[str, Any]]:
    lines = data.split(b"\n")
    torn = lines.pop() if lines else b""
    for number, line in enumerate(lines, 1):
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            if number == 1:
                raise BadInput("log", str(path), "a log of a migration") from error
            raise WhimbrelError(f"line {number} of {path} is damaged: {error}") from error
        if number == 1 and (record.get("kind") != "header" or record.get("format") != FORMAT):
            raise BadInput("log", str(path), f"a log of a migration, of format {FORMAT}")
        yield record
    if not lines:
        raise BadInput("log", str(path), "a log of a migration" + (" (this one is cut short)" if torn else ""))


def _lock(descriptor: int) -> bool:
    """Lock a log for writing. Whoever only asks whether it is held (`is_held`) holds it for an instant."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def is_held(path: Path) -> bool:
    """Whether a running migration writes to this log."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
