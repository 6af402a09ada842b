"""A machine whose log is kept in memory, as the driver writes it: through JSON, each line before what it announces."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.driving import SECOND
from whimbrel.engine import records
from whimbrel.engine.machine import Event, Happened, Machine, Order
from whimbrel.engine.signals import Signal


@dataclass
class Scribe:
    """Feeds a machine and writes down what a driver would."""

    machine: Machine
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    now_ns: int = 0

    def __post_init__(self) -> None:
        self.write("header", {"format": 1})

    def write(self, kind: str, fields: dict[str, Any]) -> None:
        """Append a line."""
        line = {"n": len(self.lines) + 1, "t_ns": self.now_ns, "wall_s": 0.0, "kind": kind, **fields}
        self.lines.append(json.loads(json.dumps(line)))

    def take(self, event: Event | Signal, after_ns: int = 0) -> list[Order]:
        """Take one event and give the commands that went out."""
        self.now_ns += after_ns
        happened = Happened(event) if isinstance(event, Signal) else event
        self.machine.receive(happened, self.now_ns)
        record = records.of_event(happened)
        if record is not None:
            self.write(*record)
        return self._carry_out()

    def wait(self, seconds: float) -> list[Order]:
        """Let time pass."""
        self.now_ns += round(seconds * SECOND)
        self.machine.receive_time(self.now_ns)
        return self._carry_out()

    def take_over(self) -> list[Order]:
        """As a new manager does."""
        self.write("adopted", {})
        self.machine.take_over(self.now_ns)
        return self._carry_out()

    def reopen(self) -> list[Order]:
        """As one that looks at an unsettled end again."""
        self.write("reopened", {})
        self.machine.reopen(self.now_ns)
        return self._carry_out()

    def _carry_out(self) -> list[Order]:
        out: list[Order] = []
        self._write_taken()
        for order in self.machine.orders():
            for record in records.of_order(order, self.machine):
                self.write(*record)
            out += [order] if isinstance(order, Order) else []
        self._write_taken()
        return out

    def _write_taken(self) -> None:
        for taken in self.machine.taken():
            for record in records.of_taken(taken):
                self.write(*record)
