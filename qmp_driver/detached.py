"""A Python program of ours, started so that it outlives us: a session of its own, none of our streams, one line to us.

Both of those who must act when the manager dies are made in this way: the watchdog that takes a throttle off
(`outside`), and the guardian that has the migration settled (`whimbrel.guardian`). They are children that nobody
waits for until they have ended, so that their pids stay theirs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence


def start_detached(
    program: str, words: Sequence[str], *, line: int, line_fd: int, environment: Mapping[str, str]
) -> int:
    """Start a program in an isolated interpreter (``-I -S``: it sees neither our import path nor the site's); 1 ms.

    Args:
        program: its file.
        words: what it is told on its command line.
        line: our number of the descriptor that leads to us; it need not be inheritable.
        line_fd: the program's number of it, 3 or more: the first three lead nowhere.
        environment: all of its environment.

    Returns:
        Its pid.

    Raises:
        OSError: it can't be started: no interpreter, no such file, or a C library that has no sessions for it.
    """
    if not sys.executable or not os.path.isfile(program):
        raise OSError("there is no Python interpreter that could be started, or no file that it could run")
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", program, *words],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, line, line_fd),  # first: our own streams may be closed, and this one of them
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # what is sent to our process group, a ctrl-C, is not meant for it
            setsigmask=(),
            setsigdef=(signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD),
        )
    except NotImplementedError as error:  # glibc has had sessions for what it spawns since 2.26
        raise OSError(str(error)) from error
