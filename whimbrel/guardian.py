"""The guardian: a tiny process that waits for its manager's death, and then has the migration settled.

Manager and guardian hold the two ends of a line (a pair of sockets), and nobody else does: they are close-on-exec. A
byte on it is a farewell: the migration has ended, and so does the guardian. Its end without one means that the
manager died, however it died. A copy of the manager's end that a forked child holds would hide that, so a pidfd of
the manager is watched as well.

The guardian then runs ``whimbrel resolve LOG``, with the import path that the manager had. The log's lock sees to
it that only one settles a migration: where a person was quicker, the guardian waits and finds it settled. What
could not be settled is tried again after each of `PAUSES_S`, and then left to a person, with what was said last in
``LOG.guardian``. After a success nothing is left behind.

It has a session of its own, so that a signal to the manager's whole process group does not reach it, and leaves
the folder and the streams of the manager. SIGINT and SIGHUP do nothing to it, SIGTERM ends it. A manager that is
merely stopped (SIGSTOP) is alive. What kills by control group (systemd's default) kills both.

This file is run by its path in an isolated interpreter, and imports nothing of ours: 10 MiB, of which 4 MiB are
its own, and 15 ms of a processor to start (Python 3.11).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

PAUSES_S = (5.0, 20.0, 60.0, 300.0)
"""Between the attempts at a migration that can't be settled: a host's monitor may be back after a moment, a
machine after minutes; what then still can't be settled needs a person."""

FAREWELL = b"."

LINE_FD = 3
"""Where the guardian finds its end of the line."""


class Guardian:
    """The manager's side: starts one, and says farewell to it."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        """For `start`."""
        self.pid = pid
        self._line = line

    @classmethod
    def start(cls, log: str | os.PathLike[str], pauses_s: tuple[float, ...] = PAUSES_S) -> Guardian:
        """Start a guardian for the migration that this process runs; takes about a millisecond.

        Args:
            log: the migration's log.
            pauses_s: between its attempts, seconds.

        Raises:
            OSError: it can't be started.
        """
        ours, its = socket.socketpair()  # no pipe: writing to one without a reader can kill who embeds us (SIGPIPE)
        with its:
            try:
                return cls(_spawn(its.fileno(), os.path.abspath(log), pauses_s), ours)
            except BaseException:  # whatever it is: nobody is at the other end
                ours.close()
                raise

    def farewell(self) -> None:
        """End it: the migration has ended. Idempotent."""
        if self._line.fileno() < 0:
            return
        try:
            self._line.send(FAREWELL, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it was ended by somebody else
        self.abandon()
        try:
            # It ends by itself within a millisecond, unless somebody stopped it; it is a child of ours that nobody
            # has waited for, so that its number is still its own.
            if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # whoever embeds us waits for every child, or for none

    def abandon(self) -> None:
        """Leave the migration to it: this process lives, but has lost it. Idempotent."""
        self._line.close()


def _spawn(line: int, log: str, pauses_s: tuple[float, ...]) -> int:
    """Start the process; its pid."""
    from whimbrel.qmp_driver.detached import start_detached  # not above: the guardian itself imports nothing of ours

    # The import path is for when it acts: it must find the very modules that we run, from another folder.
    paths = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    return start_detached(
        os.path.abspath(__file__),
        [str(os.getpid()), log, *map(str, pauses_s)],
        line=line,
        line_fd=LINE_FD,
        environment={**os.environ, "PYTHONPATH": paths},
    )


# ---- the process


def main(words: list[str]) -> int:
    """Wait for the manager's death, then see the migration settled.

    Args:
        words: the manager's pid, the log, and the pauses between the attempts in seconds.

    Returns:
        0: the migration has ended, or was settled; 1: it is left to a person.
    """
    manager_pid, log, pauses_s = int(words[0]), words[1], [float(each) for each in words[2:]]
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    _let_go()
    if not _died(manager_pid):
        return 0
    for pause_s in (0.0, *pauses_s):
        time.sleep(pause_s)
        if not os.path.exists(log) or _settle(log):
            return 0
    return 1


def _let_go() -> None:
    """Close whatever else the manager let its children inherit: a pipe that we hold open never comes to its end."""
    with os.scandir("/proc/self/fd") as entries:
        inherited = [int(entry.name) for entry in entries]
    for descriptor in inherited:
        if descriptor > LINE_FD:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the one that looked


def _died(manager_pid: int) -> bool:
    """Wait until the manager has died (true) or said farewell (false)."""
    poller = select.poll()
    poller.register(LINE_FD, select.POLLIN)
    try:
        pidfd = os.pidfd_open(manager_pid)
        if os.getppid() == manager_pid:  # else it died before, and the number may be somebody else's by now
            poller.register(pidfd, select.POLLIN)
    except OSError:
        pass  # an old kernel, or another process namespace: the line says it alone
    if LINE_FD not in dict(poller.poll()):  # the farewell may have come just before the end
        farewell = select.poll()
        farewell.register(LINE_FD, select.POLLIN)
        if not farewell.poll(0):
            return True
    return os.read(LINE_FD, 1) != FAREWELL


def _nothing_was_begun(log: str) -> bool:
    """Whether there is nothing in the log: its first line is written before anything is done."""
    try:
        return os.stat(log).st_size == 0
    except OSError:
        return False


def _settle(log: str) -> bool:
    """Run ``whimbrel resolve`` once; whether that settled it."""
    import subprocess

    told = log + ".guardian"
    try:
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        command = [sys.executable, "-P", "-m", "whimbrel", "resolve", log]
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor)
    except OSError as error:
        os.write(descriptor, f"resolve can't be started: {error}\n".encode())
        return False
    finally:
        os.close(descriptor)
    # 0, 1 and 4 are what a migration ends with; 1 is also what an interpreter says that broke.
    guest = _guest_at_the_end(log)
    ended = guest is not None and (code in (0, 4) or (code == 1 and guest not in ("held", "unconfirmed")))
    settled = ended or _nothing_was_begun(log)
    if settled:
        try:
            os.unlink(told)
        except OSError:
            pass  # it was never made
    return settled


def _guest_at_the_end(log: str) -> str | None:
    """What the log's last line says of the guest; ``None``: it is not the line that all logs end with."""
    import json

    try:
        with open(log, "rb") as file:
            line = json.loads(file.read().rstrip(b"\n").rpartition(b"\n")[2])
        return str(line["report"]["guest"]) if line["kind"] == "end" else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
