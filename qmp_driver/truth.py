"""The running source, as it is and as it was started: all that a destination has to be made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whimbrel.engine.errors import QemuRefused, WhimbrelError

from . import replies
from .facts import SideFacts, read_facts
from .monitor import Monitor
from .processes import ProcessIdentity, binary_of, identify_peer, is_alive, read_argv, read_cwd, split_launcher
from .vcpus import by_inner_number


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a QMP connection.

    The kernel names the process that made the listening socket. That is the QEMU, or a relay (``ssh -L``,
    ``socat``, a proxy), or a manager that passed the socket on. Only the QEMU has the threads that run the
    guest's CPUs, so a process that does not have them is nobody whose end would mean anything.

    Attributes:
        process: the QEMU's process, where that is proven; ``None`` otherwise, as for a QEMU without a CPU.
        cpu_threads: ids of the threads that run the guest's CPUs, as QEMU's own pid namespace numbers them;
            ``None`` where it does not say.
    """

    process: ProcessIdentity | None
    cpu_threads: tuple[int, ...] | None

    @classmethod
    async def read(cls, monitor: Monitor) -> Peer:
        """Ask QEMU for its threads (one command), and look whose they are.

        Raises:
            OutcomeUnknown, CannotConnect: as ``Monitor.execute``.
            WhimbrelError: the answer is not what QEMU documents.
        """
        identity: ProcessIdentity | None = None
        if monitor.peer_pid is not None:
            try:
                identity = identify_peer(monitor.peer_pid)
            except WhimbrelError:
                pass  # hidden from us, or gone: then nothing is proven
        try:
            threads = tuple(cpu.thread_id for cpu in await replies.query_cpus_fast(monitor))
        except QemuRefused:
            return cls(None, None)
        if identity is None or not owns_threads(identity.pid, threads) or not is_alive(identity):
            identity = None
        return cls(identity, threads)


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
        peer = await Peer.read(monitor)
        pid = None if peer.process is None else peer.process.pid
        facts = await read_facts(monitor, pid=pid)
        if monitor.peer_pid is None:
            return cls(facts=facts, process=None, no_process_because="its monitor is not a UNIX socket of this host")
        if pid is None:
            because = f"its monitor's socket was made by another process ({monitor.peer_pid})"
            if not peer.cpu_threads:
                because = f"that process {monitor.peer_pid} is the QEMU can't be shown: it names no CPU threads"
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


def owns_threads(pid: int, threads: Sequence[int]) -> bool:
    """Whether these are threads of the process that run a guest's CPUs; no threads prove nothing.

    QEMU never runs a CPU in its first thread, so a number that happens to be a relay's own pid is no match.

    Args:
        pid: the process, in our pid namespace.
        threads: their ids as QEMU told them: those of our pid namespace, or of its own.
    """
    if not threads:
        return False
    tasks = f"/proc/{pid}/task"
    if pid not in threads and all(os.path.exists(f"{tasks}/{thread}") for thread in threads):
        return True
    # In a namespace of its own numbers are small, and a proxy of many threads in another one has the same.
    return _is_named_as_qemu(pid) and by_inner_number(pid).keys() >= set(threads)


def _is_named_as_qemu(pid: int) -> bool:
    try:
        name = binary_of(pid).name
    except WhimbrelError:
        return False
    return "qemu" in name or "kvm" in name


def _link(pid: int, name: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return None
