"""What is known of a QEMU: enough to find it again, and to tell it from another one in its place."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .processes import ProcessIdentity
from .sockets import Address


@dataclass(frozen=True, slots=True)
class Likeness:
    """What tells a QEMU from another one where its process can't be seen.

    Attributes:
        version: from its greeting, with the distribution's addition.
        cpu_threads: as in ``Peer``. They stay the same while a guest moves: QEMU refuses to plug CPUs then.
    """

    version: tuple[tuple[int, int, int], str]
    cpu_threads: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one side's QEMU: enough to find it again, and to tell it from another one.

    Attributes:
        address: its monitor.
        process: its process, where it is on this host and proven.
        likeness: what tells it from others otherwise.
        had_status: whether it ever had a migration status.
    """

    address: Address
    process: ProcessIdentity | None = None
    likeness: Likeness | None = None
    had_status: bool = False


def recorded_address(address: Address) -> str | list[object]:
    """An address as it is written down: a socket's path in full, for the next manager may live elsewhere."""
    if isinstance(address, tuple):
        return list(address)
    path = os.fspath(address)
    return path if path.startswith("\0") else os.path.abspath(path)
