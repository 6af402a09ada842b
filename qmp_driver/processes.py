"""QEMU processes: who they are, what started them, and when they end.

A pid alone names nobody: pids are used again. A process is therefore named by its pid and the moment at
which it started, and is held by a *pidfd*, which stays bound to one process for ever. The event loop watches
that descriptor, so nobody polls, no child watcher and no SIGCHLD is needed, and it works on every loop
and in every thread. ``/proc`` is read directly; each read takes microseconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whimbrel.engine.errors import PreparationFailed, WhimbrelError

KILL_TIMEOUT_S = 30.0
"""How long a killed process may take to go. Freeing tens of GiB takes seconds; stuck storage, longer."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, and no later one that happens to get the same pid.

    Attributes:
        pid: the process id.
        start_ticks: when it started, in clock ticks since boot (field 22 of ``/proc/PID/stat``). Together
            with the boot id this names a process for ever.
    """

    pid: int
    start_ticks: int


def identify_peer(pid: int) -> ProcessIdentity:
    """Name the process that has this pid now (``Monitor.peer_pid`` gives that of a QMP server).

    Raises:
        WhimbrelError: there is no such process, or it is hidden from us.
    """
    found = _read_stat(pid)
    if found is None:
        raise WhimbrelError(f"there is no process {pid}")
    return ProcessIdentity(pid, found[1])


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs. One that ended and was not yet reaped does not.

    Raises:
        WhimbrelError: it is hidden from us, so nobody can tell.
    """
    found = _read_stat(identity.pid)
    return found is not None and found[1] == identity.start_ticks and found[0] not in "ZX"


def read_argv(pid: int) -> tuple[str, ...]:
    """Read the argument vector that a process was started with.

    Bytes that are not UTF-8 come through as surrogate escapes, as in ``os.fsdecode``.

    Raises:
        WhimbrelError: no such process, none of ours to look at, or one that has ended or has no arguments.
    """
    raw = _read_proc(pid, "cmdline")
    if not raw:
        raise WhimbrelError(f"process {pid} has no argument vector: it has ended, or belongs to the kernel")
    return tuple(os.fsdecode(part) for part in raw.removesuffix(b"\0").split(b"\0"))


def split_launcher(argv: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split an argument vector into what starts the program, and the program's own arguments.

    That is one word, except where the dynamic loader was called by name to run a QEMU out of a directory
    of its own (``ld-linux-x86-64.so.2 --library-path DIR qemu-system-x86_64 ...``): then the launcher
    reaches up to the program.

    Raises:
        WhimbrelError: the vector is empty, or the loader was given no program.
    """
    position = 0
    if argv and _is_loader(argv[0]):
        position = 1
        while position < len(argv) and argv[position].startswith("-"):
            position += 2 if argv[position] in _LOADER_OPTIONS_WITH_VALUE else 1
    if position >= len(argv):
        raise WhimbrelError(f"no program in the argument vector {list(argv)}")
    return tuple(argv[: position + 1]), tuple(argv[position + 1 :])


def binary_of(pid: int) -> Path:
    """Find the program file that a process runs.

    Where the dynamic loader was called by name, this is the program that it loaded. Where the file has
    been replaced since (a package upgrade), the path names the *new* file: compare versions.

    Raises:
        WhimbrelError: no such process, or none of ours to look at.
    """
    try:
        target = os.readlink(f"/proc/{pid}/exe")
    except OSError as error:
        raise _unreadable(pid, error) from error
    if not _is_loader(target):
        return Path(target.removesuffix(" (deleted)"))
    return read_cwd(pid) / split_launcher(read_argv(pid))[0][-1]


def read_cwd(pid: int) -> Path:
    """Read a process's working directory, against which its relative paths are meant.

    Raises:
        WhimbrelError: no such process, or none of ours to look at.
    """
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError as error:
        raise _unreadable(pid, error) from error


def find_waiting_in(directory: str | os.PathLike[str]) -> tuple[ProcessIdentity, ...]:
    """Find the QEMUs that were started to wait for a migration with their things in a private directory.

    Not everything that names the directory: somebody may be reading the log that lies there.

    Args:
        directory: the private directory, absolute; its name is used once only.

    Returns:
        Those that live; what is hidden from us is passed over.
    """
    inside = os.path.join(os.fsencode(directory), b"")
    found: list[ProcessIdentity] = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            identity = identify_peer(int(name))
            words = _read_proc(identity.pid, "cmdline").split(b"\0")
            if b"-incoming" in words and any(inside in word for word in words) and is_alive(identity):
                found.append(identity)
        except WhimbrelError:
            continue  # it has just ended, or is none of ours to look at
    return tuple(found)


class QemuProcess:
    """A process that is watched, and may be killed: a child of ours, or one that others started.

    Bound to the event loop on which it was made. ``close()`` ends the watching and leaves the process
    alone. A child is reaped as soon as it ends, while it is watched and after, so no zombie is left.
    """

    def __init__(self, identity: ProcessIdentity, pidfd: int, *, child: bool, stderr_path: Path | None) -> None:
        """For ``spawn`` and ``attach``; a ``pidfd`` of -1 stands for a process that has already ended."""
        self.identity = identity
        self.stderr_path = stderr_path
        self._child = child
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._exit_code: int | None = None
        self._exited = asyncio.Event()
        if pidfd < 0:
            self._exited.set()
        else:
            self._loop.add_reader(pidfd, self._on_exit)

    @classmethod
    async def spawn(
        cls, argv: Sequence[str], *, stderr_path: str | os.PathLike[str], cwd: str | os.PathLike[str] | None = None
    ) -> QemuProcess:
        """Start a program in a session of its own, with its standard error in a file.

        It inherits no descriptors; standard input and output are ``/dev/null``. It survives ctrl-C and our
        own end. If the awaiting task is cancelled, a process that was born meanwhile is killed.

        Args:
            argv: the program and its arguments; a program without a slash is looked for in ``PATH``.
            stderr_path: created if it is missing, mode 0600; what it holds is kept.
            cwd: working directory; ours if not given.

        Raises:
            PreparationFailed: there is no such program, it cannot be run, or the file cannot be opened.
        """
        path = Path(stderr_path)
        starting = asyncio.ensure_future(asyncio.to_thread(_start, tuple(argv), path, cwd))
        try:
            identity, pidfd = await asyncio.shield(starting)
        except asyncio.CancelledError:
            ending = asyncio.ensure_future(_end_unwanted(starting))
            while not ending.done():
                try:
                    await asyncio.wait((ending,))
                except asyncio.CancelledError:
                    pass  # once more: it takes a moment only, and whoever stops waiting leaves a stray process
            raise
        except (OSError, ValueError) as error:
            raise PreparationFailed(_start_failure(argv, error), side="destination") from error
        return cls(identity, pidfd, child=True, stderr_path=path)

    @classmethod
    def attach(cls, identity: ProcessIdentity, *, stderr_path: str | os.PathLike[str] | None = None) -> QemuProcess:
        """Watch a process that others started. It is never reaped here, so they still get its exit code.

        A process that has ended gives an object that says so. Call it on a running event loop.

        Raises:
            WhimbrelError: it is hidden from us, or there are no descriptors left to watch it by.
        """
        path = None if stderr_path is None else Path(stderr_path)
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return cls(identity, -1, child=False, stderr_path=path)
        except OSError as error:
            raise WhimbrelError(f"process {identity.pid} can't be watched: {error.strerror}") from error
        # Looked at again only now: from here the pidfd and the identity can't mean different processes.
        try:
            alive = is_alive(identity)
        except WhimbrelError:
            os.close(pidfd)
            raise
        if not alive:
            os.close(pidfd)
            pidfd = -1
        return cls(identity, pidfd, child=False, stderr_path=path)

    @classmethod
    def ended(cls, identity: ProcessIdentity, *, stderr_path: str | os.PathLike[str] | None = None) -> QemuProcess:
        """A process that is known to have ended, because its host has been booted since."""
        return cls(identity, -1, child=False, stderr_path=None if stderr_path is None else Path(stderr_path))

    @property
    def pid(self) -> int:
        """The process id. It may belong to somebody else once the process has ended."""
        return self.identity.pid

    @property
    def exited(self) -> bool:
        """Whether the process is known to have ended."""
        return self._exited.is_set()

    @property
    def exit_code(self) -> int | None:
        """Exit code, or minus the signal that ended it; ``None`` while it runs, and if it was no child of ours."""
        return self._exit_code

    async def wait_exit(self, timeout_s: float | None) -> int | None:
        """Wait until the process has ended.

        Args:
            timeout_s: longest wait in seconds; ``None``: no limit.

        Returns:
            The exit code, or minus the number of the signal that ended it. ``None`` if nobody can tell: the
            process is not a child of ours, or others reaped it.

        Raises:
            TimeoutError: it still runs after ``timeout_s``.
        """
        async with asyncio.timeout(timeout_s):
            await self._exited.wait()
        return self._exit_code

    async def kill(self, timeout_s: float = KILL_TIMEOUT_S) -> int | None:
        """Kill the process (SIGKILL) and wait for its end; nothing happens to one that has ended.

        Returns:
            As ``wait_exit``.

        Raises:
            TimeoutError: it still exists after ``timeout_s`` seconds, so it must not be taken for dead.
            WhimbrelError: we may not kill it.
        """
        if not self.exited:
            if self._pidfd < 0:
                raise WhimbrelError(f"process {self.pid} is not watched any more")
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has just ended: the descriptor tells that too
            except PermissionError as error:
                raise WhimbrelError(f"no permission to kill process {self.pid}") from error
        return await self.wait_exit(timeout_s)

    def close(self) -> None:
        """Stop watching and leave the process alone; idempotent. Waits that are under way go on for ever.

        Call it in the loop's thread, or once the loop is closed. A child that still runs is reaped when it ends.
        """
        pidfd = self._let_go()
        if pidfd < 0:
            return
        if self._child:
            # A thread, for it needs no loop: there may never be one again while the process lives.
            name = f"whimbrel-reaper-{self.pid}"
            threading.Thread(target=_reap_when_it_ends, args=(pidfd,), name=name, daemon=True).start()
        else:
            os.close(pidfd)

    def stderr_tail(self, max_bytes: int = 4000) -> str:
        """Read the end of what the process wrote to its standard error.

        Args:
            max_bytes: at most this much, from the end; a line that was cut is left out.

        Returns:
            The text, without white space at its end; empty if there is none or no file is known.
        """
        if self.stderr_path is None:
            return ""
        try:
            with self.stderr_path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - max_bytes))
                text = file.read(max_bytes)
        except FileNotFoundError:
            return ""
        if size > max_bytes:
            text = text.partition(b"\n")[2] or text
        return text.decode(errors="replace").rstrip()

    def _on_exit(self) -> None:
        if self._child:
            self._exit_code = _reap(self._pidfd)
        os.close(self._let_go())
        self._exited.set()

    def _let_go(self) -> int:
        """Take the pidfd away from the loop; -1 if that was done before."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(pidfd)
        return pidfd


# Options of ld.so(8) whose value is the next word.
_LOADER_OPTIONS_WITH_VALUE = frozenset(
    {"--library-path", "--inhibit-rpath", "--audit", "--preload", "--argv0", "--glibc-hwcaps-prepend",
     "--glibc-hwcaps-mask"}
)  # fmt: skip


def _start(argv: tuple[str, ...], stderr_path: Path, cwd: str | os.PathLike[str] | None) -> tuple[ProcessIdentity, int]:
    """Start a program (in a worker thread) and give its identity and a pidfd."""
    if not argv:
        raise ValueError("no program was given")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    stderr = os.open(stderr_path, flags, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        os.close(stderr)
    # Popen has done its part, the fork: from here the pidfd waits and reaps. A return code keeps Popen's
    # destructor from doing so too, and from complaining about a process that is meant to outlive it.
    process.returncode = 0
    # Nobody else reaps our child, so even one that ended at once still has its pid.
    return identify_peer(process.pid), os.pidfd_open(process.pid)


def _start_failure(argv: Sequence[str], error: OSError | ValueError) -> str:
    program = argv[0] if argv else "a process"
    if isinstance(error, ValueError):
        return f"cannot start {program}: {error}"
    what = "" if error.filename in (None, program) else f"{os.fsdecode(error.filename)}: "
    return f"cannot start {program}: {what}{error.strerror}"


def _is_loader(program: str) -> bool:
    return Path(program).name.startswith(("ld-linux", "ld-musl", "ld.so", "ld64.so"))


async def _end_unwanted(starting: asyncio.Future[tuple[ProcessIdentity, int]]) -> None:
    """Wait for a start that nobody wants any more, and end what was born."""
    try:
        identity, pidfd = await starting
    except (OSError, ValueError):
        return  # nothing was
    await QemuProcess(identity, pidfd, child=True, stderr_path=None).kill()


def _reap(pidfd: int) -> int | None:
    """Collect the exit code of a child that has ended; ``None`` if somebody else has."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _reap_when_it_ends(pidfd: int) -> None:
    """Wait for a child's end, collect it, and close the descriptor; blocks for as long as the child lives."""
    try:
        os.set_blocking(pidfd, True)  # uvloop makes what it watches non-blocking
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        pass  # others reaped it
    finally:
        os.close(pidfd)


def _read_stat(pid: int) -> tuple[str, int] | None:
    """Read a process's state letter and start time from ``/proc/PID/stat``; ``None`` if it is gone."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as error:
        if _is_hidden(pid):
            raise WhimbrelError(f"process {pid} is hidden from us", advice="run as its user, or as root") from error
        return None
    except OSError as error:
        raise _unreadable(pid, error) from error
    # The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def _is_hidden(pid: int) -> bool:
    """Whether a process that ``/proc`` does not show exists all the same (``hidepid``, see proc(5))."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.path.exists(f"/proc/{pid}/stat")
    except (OSError, OverflowError):
        return False
    return not os.path.exists(f"/proc/{pid}/stat")


def _read_proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError as error:
        raise _unreadable(pid, error) from error


def _unreadable(pid: int, error: OSError) -> WhimbrelError:
    if isinstance(error, (FileNotFoundError, ProcessLookupError)):
        return WhimbrelError(f"there is no process {pid}")
    return WhimbrelError(f"process {pid} cannot be inspected: {error.strerror}", advice="run as its user, or as root")
