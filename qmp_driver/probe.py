"""What the host has to offer: a QEMU binary's lists, and free memory. Only reads, and never on the fast path."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROBE_TIMEOUT_S = 10.0
"""For one list. QEMU prints one in about 50 ms."""

_VERSION = re.compile(r"QEMU emulator version (\d+)\.(\d+)\.(\d+)")
_MEMINFO = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryFacts:
    """What a QEMU binary says of itself.

    Attributes:
        path: as it was asked for.
        version: ``(7, 2, 22)``; zeros with a problem.
        machines: the machine types that it knows.
        cpus: the CPU models that it knows.
        problem: why it can't be used, as one clause, or ``None``.
    """

    path: str
    version: tuple[int, int, int] = (0, 0, 0)
    machines: frozenset[str] = frozenset()
    cpus: frozenset[str] = frozenset()
    problem: str | None = None


async def probe_binary(launcher: Sequence[str], *, timeout_s: float = PROBE_TIMEOUT_S) -> BinaryFacts:
    """Let a binary print its version, its machine types and its CPU models.

    Args:
        launcher: the program, found through ``PATH`` if it has no slash, with what may have to stand before
            it (``processes.split_launcher``).
        timeout_s: for each of the three runs.

    Returns:
        What it says; for a file that is missing, that can't be run or that is no QEMU, the ``problem``.

    The loop is not blocked. If cancelled: a run that is under way ends by itself, within its deadline.
    """
    return await asyncio.to_thread(_probe, tuple(launcher), timeout_s)


def available_bytes() -> int | None:
    """Memory that this host could give to a new process without swapping, in bytes; ``None`` if it doesn't say.

    The kernel's own estimate (``MemAvailable`` in proc(5)), and no more than the own control group may take.
    """
    match = _MEMINFO.search(_read("/proc/meminfo"))
    if match is None:
        return None
    free = int(match[1]) * 1024
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    return min(free, max(0, int(limit) - int(used))) if limit.isdigit() and used.isdigit() else free


def resident_bytes(pid: int) -> int | None:
    """Memory that a process occupies now, in bytes (``VmRSS`` in proc(5)); ``None`` if nobody can tell."""
    match = _RESIDENT.search(_read(f"/proc/{pid}/status"))
    return int(match[1]) * 1024 if match else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _probe(launcher: tuple[str, ...], timeout_s: float) -> BinaryFacts:
    program = launcher[-1]
    found = shutil.which(program)
    if found is None:
        problem = "is not executable" if os.path.exists(program) else "does not exist"
        return BinaryFacts(path=program, problem=f"the destination's binary {program} {problem}")
    try:
        match = _VERSION.search(_run(launcher, "-version", timeout_s))
        if match is None:
            return BinaryFacts(path=program, problem=f"{program} is not a QEMU: it does not print QEMU's version")
        machines = _run(launcher, "-machine help", timeout_s)
        cpus = _run(launcher, "-cpu help", timeout_s)
    except subprocess.TimeoutExpired:
        return BinaryFacts(path=program, problem=f"{program} does not end when asked for its version and lists")
    except OSError as error:
        return BinaryFacts(path=program, problem=f"{program} cannot be run: {error.strerror}")
    return BinaryFacts(
        path=program,
        version=(int(match[1]), int(match[2]), int(match[3])),
        machines=frozenset(line.split()[0] for line in machines.splitlines()[1:] if line.strip()),
        cpus=_cpu_models(cpus),
    )


def _run(launcher: tuple[str, ...], arguments: str, timeout_s: float) -> str:
    done = subprocess.run(
        (*launcher, *arguments.split()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def _cpu_models(text: str) -> frozenset[str]:
    """The names in ``-cpu help``: after ``x86`` on each line up to 10.x, alone on it from 11 on."""
    models: set[str] = set()
    for line in text.partition("Recognized CPUID")[0].splitlines():
        words = line.removeprefix("x86 ").split()
        if words and not line.startswith("Available CPUs"):
            models.add(words[0])
    return frozenset(models)
