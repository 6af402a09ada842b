"""Who takes part in a migration, as hooks and locks are told of it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from whimbrel.engine.states import Side as SideName

from .processes import ProcessIdentity
from .sockets import Address, describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One of the two QEMUs.

    Attributes:
        side: which of the two it is in this migration.
        name: one name for this QEMU on every host and in every migration: a destination is the source of the next.
            Its host, pid and start time (clock ticks since boot) where its process can be seen, else the address
            of its monitor.
        address: its monitor: a socket's path, or ``host:port``.
        pid: its process, where that is on this host and proven to be it.
    """

    side: SideName
    name: str
    address: str
    pid: int | None = None

    def __str__(self) -> str:
        return f"the {self.side.value} ({self.name})"


def party(side: SideName, address: Address, process: ProcessIdentity | None) -> Party:
    """Name a QEMU by what is known of it."""
    where = describe(address).encode(errors="backslashreplace").decode()  # a path may hold bytes that are no text
    if process is not None:
        name = f"{socket.gethostname()}:{process.pid}@{process.start_ticks}"
        return Party(side=side, name=name, address=where, pid=process.pid)
    # A socket's path means something on this host only.
    name = where if isinstance(address, tuple) else f"{socket.gethostname()}:{where}"
    return Party(side=side, name=name, address=where)
