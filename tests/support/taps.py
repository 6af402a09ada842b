"""What a test does to a migration at a certain line of its log, and the ends that it may come to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import TypeAlias

from tests.support.guests import Guest, Line, Tap, at
from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver.runner import Runner

Verdict: TypeAlias = tuple[str, str, str]
MOVED: Verdict = ("completed", "destination", "running")
CALLED_OFF: Verdict = ("cancelled", "source", "running")
FAILED: Verdict = ("failed", "source", "running")
LOST: Verdict = ("failed", "source", "lost")


def kill_destination(runner: Runner) -> None:
    """SIGKILL to the destination."""
    os.kill(runner.machine.facts["destination_pid"], signal.SIGKILL)


def freeze_destination(runner: Runner) -> None:
    """SIGSTOP to the destination: alive, connected, and silent."""
    os.kill(runner.machine.facts["destination_pid"], signal.SIGSTOP)


def call_off(runner: Runner) -> None:
    """Cancel; not at once, for the line that is read is written while the machine is in the middle of a step."""
    asyncio.get_running_loop().call_soon(runner.cancel)


def on_command(command: str, action: Callable[[Runner], None]) -> Callable[[Runner], Tap]:
    """Act when a command is announced in the log, which is before it is carried out."""
    return lambda runner: at("command", lambda: action(runner), command=command)


def on_signal(name: str, action: Callable[[Runner], None]) -> Callable[[Runner], Tap]:
    """Act when a signal is noted."""
    return lambda runner: at("signal", lambda: action(runner), signal=name)


def both(*makers: Callable[[Runner], Tap]) -> Callable[[Runner], Tap]:
    """Several taps as one."""

    def make(runner: Runner) -> Tap:
        taps = [maker(runner) for maker in makers]

        def tell(kind: str, fields: Line) -> None:
            for tap in taps:
                tap(kind, fields)

        return tell

    return make


def kill(source: Guest) -> Callable[[Runner], None]:
    """SIGKILL to the source."""
    return lambda runner: os.kill(source.pid, signal.SIGKILL)


def fail_at(kind: str, **wanted: object) -> Callable[[Runner], Tap]:
    """The log takes no line any more from this one on."""

    def full() -> None:
        raise WhimbrelError("the log can't be written: No space left on device")

    return lambda runner: at(kind, full, **wanted)


def at_probe(action: Callable[[Runner], None]) -> Callable[[Runner], Tap]:
    """Act when the guest is about to be measured."""
    return lambda runner: at("probe", lambda: action(runner))
