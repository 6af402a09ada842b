"""A QEMU that says what a test tells it to say: for the parts of the driver that speak to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from whimbrel.sim.clock import Clock
from whimbrel.sim.driver_line import Line, Wire
from whimbrel.sim.driver_tasks import Loop, Task, Work

T = TypeVar("T")
Answer = Callable[[dict[str, Any]], Any]
SILENT: Any = object()
"""No answer comes."""
GREETING: dict[str, Any] = {
    "QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "small"}, "capabilities": []}
}


class Refused(Exception):
    """Raised by an answer: QEMU says no, with these words."""


@dataclass
class SmallMonitor:
    """A client's connection."""

    qemu: SmallQemu
    deliver: Callable[[dict[str, Any]], None]
    closed: Callable[[], None]

    def send(self, message: dict[str, Any]) -> None:
        """Answer at once."""
        name = message.get("execute") or message["exec-oob"]
        self.qemu.heard.append(name)
        try:
            said = self.qemu.answers.get(name, {})
            said = said(message.get("arguments", {})) if callable(said) else said
        except Refused as refused:
            self.deliver({"error": {"class": "GenericError", "desc": str(refused)}, "id": message["id"]})
            return
        if said is not SILENT:
            self.deliver({"return": said, "id": message["id"]})

    def close(self) -> None:
        """The client goes."""
        if self.qemu.client is self:
            self.qemu.client = None


@dataclass
class SmallQemu:
    """The process."""

    clock: Clock
    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    pid: int = 7
    alive: bool = True
    exit_code: int | None = None
    stderr: list[str] = field(default_factory=list[str])
    heard: list[str] = field(default_factory=list[str])
    client: SmallMonitor | None = None
    greets: bool = True
    _told: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def connect(
        self, deliver: Callable[[dict[str, Any]], None], closed: Callable[[], None], monitor: int = 0
    ) -> SmallMonitor | None:
        """One client at a time."""
        if self.client is not None or not self.alive:
            return None
        self.client = SmallMonitor(self, deliver, closed)
        if self.greets:
            deliver(GREETING)
        return self.client

    def says(self, event: str, **data: Any) -> None:
        """An event."""
        if self.client is not None:
            seconds, rest_ns = divmod(self.clock.now_ns, 10**9)
            stamp = {"seconds": seconds, "microseconds": rest_ns // 1000}
            self.client.deliver({"event": event, "data": data, "timestamp": stamp})

    def becomes(self, status: str) -> None:
        """A migration status, by event and for queries."""
        self.answers["query-migrate"] = {"status": status}
        self.says("MIGRATION", status=status)

    def runs(self, state: str) -> None:
        """A run state, for queries."""
        self.answers["query-status"] = {"status": state, "running": state == "running"}

    def on_exit(self, call: Callable[[], None]) -> None:
        """Be told of its end."""
        self._told.append(call)

    def kill(self) -> None:
        """SIGKILL."""
        self.ends(-9)

    def ends(self, code: int) -> None:
        """It ends, after all that it said."""
        self.alive, self.exit_code = False, code
        client, self.client = self.client, None
        if client is not None:
            client.closed()
        for call in self._told:
            self.clock.after(0, call)


def started(loop: Loop, work: Work[T]) -> Task[T]:
    """A procedure whose error, if it ends in one, the test looks at."""
    tasks: list[Task[T]] = []

    def start() -> None:
        tasks.append(loop.start(work))
        tasks[0].then(lambda: None)

    loop.run(start)
    return tasks[0]


def wire_to(qemu: SmallQemu, latency_ns: int = 0) -> Wire:
    """The way to its monitor, without any delay unless one is asked for."""
    return Wire(qemu, Random(1), latency_ns)


def ignored(*_: object) -> None:
    """Nobody listens."""


def refusing(*_: object) -> None:
    """QEMU says no."""
    raise Refused("no")


def line_to(loop: Loop, wire: Wire, **more: Any) -> Work[Line]:
    """A connection."""
    values: dict[str, Any] = {"side": "source", "within_s": 1.0, "on_event": ignored, "on_lost": ignored}
    return Line.connect(loop, wire, **(values | more))
