"""Both sides of a migration, each with a scripted monitor on TCP: nobody knows their processes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.qmp_server import QmpServer
from whimbrel.engine.machine import Event, Happened, Learnt
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.side import Side

WITHIN_S = 1.0
"""How long a monitor is tried again."""


@dataclass
class Scripted:
    """One side, its server, and what it told."""

    server: QmpServer
    side: Side
    events: list[Event] = field(default_factory=list[Event])

    @property
    def signals(self) -> list[Signal]:
        """The signals so far."""
        return [event.signal for event in self.events if isinstance(event, Happened)]

    @property
    def notes(self) -> list[str]:
        """The sentences for the report."""
        return [event.note for event in self.events if isinstance(event, Learnt) and event.note]

    def asked(self) -> list[str]:
        """What its monitor was asked, without the handshake and without mere questions."""
        commands = [each.command for each in self.server.received]
        return [name for name in commands if name != "qmp_capabilities" and not name.startswith("query-")]


@asynccontextmanager
async def scripted(name: SideName = SideName.SOURCE) -> AsyncGenerator[Scripted, None]:
    """One connected side."""
    async with QmpServer() as server:
        events: list[Event] = []
        side = Side(name, events.append, lambda kind, fields: None, lambda: None)
        await side.connect(server.address)
        try:
            yield Scripted(server, side, events)
        finally:
            await side.close()
