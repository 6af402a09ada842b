"""What is started to outlive us: what it has of ours, and what it has not."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from whimbrel.qmp_driver.detached import start_detached

LINE_FD = 5

TELLING = f"""
import json, os, signal, socket, sys
line = socket.socket(fileno={LINE_FD})
told = {{
    "words": sys.argv[1:],
    "isolated": [sys.flags.isolated, sys.flags.no_site],
    "environment": dict(os.environ),
    "session": os.getsid(0),
    "streams": [os.readlink(f"/proc/self/fd/{{number}}") for number in range(3)],
    "term_is_default": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
}}
line.sendall(json.dumps(told).encode())
line.shutdown(socket.SHUT_WR)
line.recv(1)
"""
"""Tells what it has, and ends with its line."""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program that tells what it was given."""
    path = tmp_path / "telling.py"
    path.write_text(TELLING)
    return str(path)


@contextmanager
def started(program: str, *words: str, **environment: str) -> Generator[tuple[int, dict[str, Any]]]:
    """Start it; its pid and what it tells. It has ended with the block."""
    ours, its = socket.socketpair()
    with ours:
        with its:
            pid = start_detached(program, words, line=its.fileno(), line_fd=LINE_FD, environment=environment)
        ours.settimeout(10)
        try:
            with ours.makefile("rb") as told:
                yield pid, json.loads(told.read())
        finally:
            ours.close()
            os.waitpid(pid, 0)


def test_it_has_its_words_its_environment_and_the_line_and_nothing_else_of_ours(program: str) -> None:
    with started(program, "one", "two words", NAME="value") as (pid, told):
        assert told["words"] == ["one", "two words"]
        # The interpreter itself may say which locale it took (PEP 538).
        assert {name: value for name, value in told["environment"].items() if name != "LC_CTYPE"} == {"NAME": "value"}
        assert told["isolated"] == [1, 1]
        assert told["streams"] == ["/dev/null"] * 3
        assert told["session"] == pid


def test_signals_that_we_ignore_or_hold_back_reach_it(program: str) -> None:
    """It must end when it is asked to, whatever the program that embeds us does with its own signals."""
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with started(program) as (_, told):
            assert (told["term_is_default"], told["blocked"]) == (True, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        signal.signal(signal.SIGTERM, handler)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Before a process is started that could not say so."""
    with pytest.raises(OSError, match="no file that it could run"):
        start_detached(str(tmp_path / "none.py"), (), line=0, line_fd=LINE_FD, environment={})


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_without_an_interpreter_it_is_an_os_error(
    executable: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen programs have none."""
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(OSError, match=r"no Python interpreter|No such file"):
        start_detached(program, (), line=0, line_fd=LINE_FD, environment={})
