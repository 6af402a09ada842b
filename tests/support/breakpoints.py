"""Breakpoints in a running manager: code of ours that runs at exact moments of a migration, in its own process.

They are set with the interpreter's own profiling hook, as a debugger sets its: nothing in the code that is tested
knows of them or was made for them. What runs at a moment runs *in* it: the line is written and what it announces
is not done yet; the command is in QEMU's socket and no answer was read.

A moment is a text:

    before KIND NAME, after KIND NAME       a line of the log: ``after command continue``
    sending SIDE COMMAND                    a QMP command is about to be written to the monitor
    sent SIDE COMMAND                       it is in the monitor's socket; nothing of the answer was read
    answered SIDE COMMAND                   it was answered, refused, or the connection went
    spawned                                 a process was started; nobody has noted yet which
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, TypeAlias, cast

from whimbrel.qmp_driver import processes
from whimbrel.qmp_driver.client import Client
from whimbrel.qmp_driver.journal import Journal
from whimbrel.qmp_driver.monitor import Monitor

Stop: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Called with the moment and, for a line of the log, its fields."""

_SUSPENDED = dis.opmap["YIELD_VALUE"]
"""A coroutine that is left at this instruction waits; at any other it has ended."""


class Breakpoints:
    """Calls somebody at each moment. One for each process, on the thread of the event loop."""

    def __init__(self, stop: Stop) -> None:
        """Take whom to call."""
        self._stop = stop
        self._sides: dict[int, str] = {}
        self._watched: dict[CodeType, Callable[[FrameType, str], None]] = {
            _code(Journal, "write"): self._line,
            _code(Client, "_do_send"): self._send,
            _code(Monitor, "_exchange"): self._exchange,
            _code(Monitor, "__init__"): self._made,
            cast("CodeType", vars(processes)["_start"].__code__): self._spawn,
        }

    def set(self) -> None:
        """Stop at every moment from now on, on this thread and those that are started later."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    @contextmanager
    def within(self) -> Generator[None]:
        """Stop at every moment as long as the context lasts."""
        self.set()
        try:
            yield
        finally:
            threading.setprofile(None)
            sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "return") and (watch := self._watched.get(frame.f_code)) is not None:
            watch(frame, event)

    def _line(self, frame: FrameType, event: str) -> None:
        kind, fields = frame.f_locals["kind"], frame.f_locals["fields"]
        when = "before" if event == "call" else "after"
        self._stop(" ".join(filter(None, (when, kind, name_of(kind, fields)))), fields)

    def _send(self, frame: FrameType, event: str) -> None:
        name = _command(frame.f_locals["msg"])
        side = self._sides.get(id(frame.f_locals["self"]), "nobody")
        self._stop(f"{'sending' if event == 'call' else 'sent'} {side} {name}", {})

    def _exchange(self, frame: FrameType, event: str) -> None:
        if event == "return" and frame.f_code.co_code[frame.f_lasti] != _SUSPENDED:
            self._stop(f"answered {frame.f_locals['self'].side} {_command(frame.f_locals['message'])}", {})

    def _made(self, frame: FrameType, event: str) -> None:
        if event == "return":
            monitor: Monitor = frame.f_locals["self"]
            # A client's number may be given to a later one: that is then told here, too.
            self._sides[id(cast("object", vars(monitor)["_client"]))] = monitor.side

    def _spawn(self, _frame: FrameType, event: str) -> None:
        if event == "return":
            self._stop("spawned", {})


def name_of(kind: str, fields: Mapping[str, Any]) -> str:
    """What a line of the log is about, in a word or three."""
    match kind:
        case "command" | "signal" | "mark":
            return str(fields[kind])
        case "step":
            return str(fields["phase"])
        case "decision":
            return str(fields["asked"])
        case "qmp":
            return " ".join(filter(None, (fields["side"], fields["event"], str(fields["data"].get("status", "")))))
        case "learnt":
            keys = fields["facts"]
            marks = {"qemu_source": "source", "destination_pid": "destination", "uri": "uri", "qemu_total_ms": "total"}
            return next((name for key, name in marks.items() if key in keys), "more")
        case _:
            return ""


def _code(owner: type, name: str) -> CodeType:
    return cast("CodeType", vars(owner)[name].__code__)


def _command(message: Mapping[str, object]) -> str:
    return str(message.get("execute") or message.get("exec-oob"))
