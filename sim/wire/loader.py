"""A command line that starts the same program again, whoever reads it from ``/proc``.

A manager that makes a destination from the source's command line starts the file behind ``/proc/PID/exe`` with the
same arguments. For Python in a virtual environment that is the interpreter outside of it, which does not find the
package. QEMUs that live in a folder of their own have the same trouble, and are started by naming the dynamic loader:
``ld-linux-x86-64.so.2 ... PROGRAM ARGUMENTS``. So does this process, by calling itself once more.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

MODULE: Final = "whimbrel.sim.wire"
_PT_INTERP: Final = 3


def interpreter_of(program: Path) -> str | None:
    """The dynamic loader that an ELF program of 64 bits asks for; ``None``: it asks for none, or is none."""
    data = program.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return None
    (table_at,) = struct.unpack_from("<Q", data, 32)
    entry_bytes, entries = struct.unpack_from("<HH", data, 54)
    for number in range(entries):
        at = table_at + number * entry_bytes
        (kind,) = struct.unpack_from("<I", data, at)
        if kind == _PT_INTERP:
            (begins,) = struct.unpack_from("<Q", data, at + 8)
            (length,) = struct.unpack_from("<Q", data, at + 32)
            return os.fsdecode(data[begins : begins + length].rstrip(b"\0"))
    return None


def by_loader(arguments: Sequence[str]) -> list[str] | None:
    """The vector that starts this program through the dynamic loader.

    Args:
        arguments: of the program, after its name.

    Returns:
        ``None`` where there is no need: no virtual environment, or it has been started so; or no way.
    """
    program = Path(os.path.realpath(sys.executable))
    if sys.prefix == sys.base_prefix or Path(os.readlink("/proc/self/exe")) != program:
        return None
    loader = interpreter_of(program)
    if loader is None:
        return None
    # Told its name inside the environment, the interpreter finds it, and the package.
    return [loader, "--argv0", sys.executable, str(program), "-m", MODULE, *arguments]


def call_again(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become the same program with a command line that starts it again; returns where that is so already."""
    vector = by_loader(arguments)
    if vector is not None:
        os.execve(vector[0], vector, dict(environment))
