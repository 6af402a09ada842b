"""A side of a simulated migration, with a QEMU that says what a test tells it to say."""

from __future__ import annotations

from typing import Any

from tests.sim.small_qemu import SmallQemu, started, wire_to
from whimbrel.engine.machine import Event, Happened
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver_side import Handle, Side
from whimbrel.sim.driver_tasks import Loop, Task, Work


class Bench:
    """A side, its QEMU, and all that was delivered and noted."""

    def __init__(
        self,
        name: SideName = SideName.SOURCE,
        *,
        watched: bool = True,
        connected: bool = True,
        loop: Loop | None = None,
    ) -> None:
        self.loop = loop if loop is not None else Loop(Clock())
        self.clock = self.loop.world
        self.qemu = SmallQemu(self.clock)
        self.qemu.runs("running")
        self.delivered: list[Event] = []
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.passes = 0
        self.side = Side(name, self.loop, self.delivered.append, self._noted, self._passed)
        self.side.wire = wire_to(self.qemu)
        if watched:
            self.side.handle = Handle(self.loop, self.qemu)
        if connected:
            self.do(self.side.connect()).result()

    def _noted(self, kind: str, fields: dict[str, object]) -> None:
        self.notes.append((kind, fields))

    def _passed(self) -> None:
        self.passes += 1

    def do(self, work: Work[Any], wait_s: float = 30.0) -> Task[Any]:
        """Carry something out."""
        task = started(self.loop, work)
        self.wait(wait_s)
        return task

    def wait(self, span_s: float = 5.0) -> None:
        """Let time pass."""
        self.clock.advance_to(self.clock.now_ns + round(span_s * SECOND_NS))

    @property
    def signals(self) -> list[Signal]:
        """What was told, in order, once all has arrived that was said."""
        self.wait(0.001)
        return [each.signal for each in self.delivered if isinstance(each, Happened)]
