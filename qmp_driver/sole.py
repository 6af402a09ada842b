"""One manager per guest: two of them on two monitors of the same QEMU would both be right, and both be wrong.

A manager binds a name in Linux's abstract socket space (unix(7)) that says which process it manages. The kernel
gives a name to one socket only and takes it back when its holder dies, however it dies; no file is left. The names
are those of one network namespace: a manager in another one, or on another host, is not seen. Where that is
possible, a `LockProvider` on common storage is what keeps managers apart.
"""

from __future__ import annotations

import os
import socket
import struct
import time
import weakref
from typing import Self

from whimbrel.engine.errors import WhimbrelError

from .processes import ProcessIdentity, QemuProcess

TRIES = 10
PAUSE_S = 0.001
_PEER_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


_open: weakref.WeakSet[SoleManager] = weakref.WeakSet()


def _close_in_child() -> None:
    """A child that was forked would hold the name beyond our death."""
    for right in list(_open):
        right.close()


os.register_at_fork(after_in_child=_close_in_child)


class SoleManager:
    """The right to manage one guest, for as long as this object is open, or its process lives."""

    def __init__(self, name: socket.socket | None) -> None:
        """For `of`."""
        self._name = name
        _open.add(self)

    @classmethod
    def of(cls, guest: ProcessIdentity) -> Self:
        """Take the right, or be refused; at once.

        A name that somebody else holds who may not touch this QEMU at all (neither its user, nor ours, nor root)
        stops nobody: any user of the host may bind any name.

        Raises:
            WhimbrelError: another manager has it; its pid is named.
        """
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        address = f"\0whimbrel-manages-{guest.pid}-{guest.start_ticks}"
        try:
            try:
                name.bind(address)
                name.listen(1)
            except OSError:
                holder = _holder(address)
                for _ in range(TRIES):
                    if holder is not None:
                        break
                    time.sleep(PAUSE_S)  # it may be between its bind and its listen
                    holder = _holder(address)
                if holder is None or holder[1] not in _who_may_manage(guest):
                    name.close()
                    return cls(None)
                raise WhimbrelError(
                    f"another manager (process {holder[0]}) is moving this guest",
                    side="source",
                    advice="wait for its end, or call that migration off",
                ) from None
        except BaseException:  # interrupted, too: the name is held for as long as the socket lives
            name.close()
            raise
        return cls(name)

    def close(self) -> None:
        """Give the right back; idempotent."""
        if self._name is not None:
            self._name.close()
            self._name = None


class SoleManagers:
    """The rights to manage all guests' processes of one migration."""

    def __init__(self) -> None:
        self._held: dict[ProcessIdentity, SoleManager] = {}

    def take(self, *processes: QemuProcess | None) -> None:
        """Take the right to each that lives and is not held yet.

        Raises:
            WhimbrelError: another manager has one of them.
        """
        for process in processes:
            if process is not None and not process.exited and process.identity not in self._held:
                self._held[process.identity] = SoleManager.of(process.identity)

    def close(self) -> None:
        """Give them all back; idempotent."""
        while self._held:
            self._held.popitem()[1].close()


def _holder(address: str) -> tuple[int, int] | None:
    """Pid and user of whoever holds a name; ``None``: nobody any more, or it does not say."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(address)
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        except BlockingIOError:
            return 0, os.geteuid()  # others are asking too: somebody listens
        except OSError:
            return None
    pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return pid, uid


def _who_may_manage(guest: ProcessIdentity) -> set[int]:
    users = {0, os.geteuid()}
    try:
        users.add(os.stat(f"/proc/{guest.pid}").st_uid)
    except OSError:
        pass  # it has just ended
    return users
