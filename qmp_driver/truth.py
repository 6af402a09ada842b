"""The running source, as it is and as it was started: all that a destination has to be made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whimbrel.engine.errors import WhimbrelError

from .facts import SideFacts, read_facts
from .monitor import Monitor
from .processes import ProcessIdentity, binary_of, identify_peer, read_argv, read_cwd, split_launcher


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceProcess:
    """The source's process, on this host.

    Attributes:
        identity: which process it is.
        argv: what it was started with.
        launcher: what starts the same program again.
        cwd: its working directory, or ``None`` if that has been removed.
        same_files: a path means the same file to it and to us (same mount namespace, same root).
        environment: settings (``NAME=VALUE``) that the same program needs to find its modules and libraries,
            where they differ from ours.
    """

    identity: ProcessIdentity
    argv: tuple[str, ...]
    launcher: tuple[str, ...]
    cwd: str | None
    same_files: bool
    environment: tuple[str, ...] = ()

    @classmethod
    def read(cls, pid: int) -> SourceProcess:
        """Read it from ``/proc``; microseconds.

        Raises:
            WhimbrelError: it has ended, or belongs to another user.
        """
        identity = identify_peer(pid)
        argv = read_argv(pid)
        launcher = split_launcher(argv)[0]
        if len(launcher) == 1:
            # The first word may be a name to be found in a PATH that is not ours, or relative to who knows what.
            launcher = (str(binary_of(pid)),)
        cwd = str(read_cwd(pid))
        return cls(
            identity=identity,
            argv=argv,
            launcher=launcher,
            cwd=None if cwd.endswith(" (deleted)") else cwd,
            environment=tuple(setting for setting in read_environment(pid) if not _is_ours(setting)),
            same_files=all(_link(pid, name) == _link(os.getpid(), name) for name in ("ns/mnt", "root")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTruth:
    """What is true of the source.

    Attributes:
        facts: what QEMU says.
        process: its process, or ``None`` where that can't be looked at.
        no_process_because: then why, as a clause.
    """

    facts: SideFacts
    process: SourceProcess | None
    no_process_because: str = ""

    @classmethod
    async def read(cls, monitor: Monitor) -> SourceTruth:
        """Ask QEMU, and look at its process if it is on this host and a UNIX socket leads to it.

        Raises:
            QemuRefused, OutcomeUnknown, CannotConnect, WhimbrelError: as ``read_facts``.
        """
        pid = monitor.peer_pid
        facts = await read_facts(monitor, pid=pid)
        if pid is None:
            return cls(facts=facts, process=None, no_process_because="its monitor is not a UNIX socket of this host")
        if not _runs(pid, facts.cpu_threads):
            # Whoever made the listening socket for QEMU (a manager that passed it on) counts as the peer.
            because = f"its monitor's socket was made by another process ({pid})"
            return cls(facts=facts, process=None, no_process_because=because)
        try:
            return cls(facts=facts, process=SourceProcess.read(pid))
        except WhimbrelError as error:
            return cls(facts=facts, process=None, no_process_because=error.message)


def read_environment(pid: int) -> tuple[str, ...]:
    """Read those environment variables of a process that say where QEMU finds its modules and libraries.

    Returns:
        ``NAME=VALUE`` for each; nothing for a process that may not be looked at.
    """
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ()
    settings = [os.fsdecode(part) for part in raw.split(b"\0")]
    return tuple(setting for setting in settings if setting.partition("=")[0] in _PLACES)


_PLACES = frozenset({"QEMU_MODULE_DIR", "LD_LIBRARY_PATH"})


def _is_ours(setting: str) -> bool:
    name, _, value = setting.partition("=")
    return os.environ.get(name) == value


def _runs(pid: int, threads: Sequence[int]) -> bool:
    """Whether these are threads of the process, by its own numbers or by those of its pid namespace."""
    tasks = Path(f"/proc/{pid}/task")
    if all((tasks / str(thread)).exists() for thread in threads):
        return True
    inner: set[int] = set()
    for status in tasks.glob("*/status"):
        try:
            lines = status.read_text(errors="replace").splitlines()
        except OSError:
            continue  # a thread that has just ended
        inner.update(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))
    return inner.issuperset(threads)


def _link(pid: int, name: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return None
