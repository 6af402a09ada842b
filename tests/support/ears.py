"""Those who listen to a monitor, or to a side of a migration, and keep what it says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from whimbrel.engine.machine import Event, Happened, Marked
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.timeline import Mark
from whimbrel.qmp_driver.monitor import QmpEvent
from whimbrel.qmp_driver.side import Side


class Ears:
    """Keeps what a monitor says, in order; ``lost`` is set when it says that the connection went."""

    def __init__(self) -> None:
        self.heard: list[QmpEvent] = []
        self.reasons: list[str] = []
        self.order: list[str] = []
        self.lost = asyncio.Event()
        self.news = asyncio.Event()

    def on_event(self, event: QmpEvent) -> None:
        """Keep it."""
        self.heard.append(event)
        self.order.append(event.name)
        self.news.set()

    def on_lost(self, reason: str) -> None:
        """Keep the reason."""
        self.reasons.append(reason)
        self.order.append("lost")
        self.lost.set()

    async def until_heard(self, name: str) -> None:
        """Wait for an event."""
        while name not in self.order:
            self.news.clear()
            await self.news.wait()


@dataclass
class SideEar:
    """A side, and all that it told."""

    name: SideName = SideName.SOURCE
    events: list[Event] = field(default_factory=list[Event])
    noted: list[str] = field(default_factory=list[str])
    passes: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.side = Side(self.name, self._deliver, self._note, self._pass)

    def _deliver(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def _note(self, kind: str, fields: dict[str, object]) -> None:
        self.noted.append(str(fields.get("event", kind)))
        self._news.set()

    def _pass(self) -> None:
        self.passes += 1

    @property
    def signals(self) -> list[Signal]:
        """The signals so far."""
        return [event.signal for event in self.events if isinstance(event, Happened)]

    @property
    def marks(self) -> list[Mark]:
        """The marks so far."""
        return [event.mark for event in self.events if isinstance(event, Marked)]

    async def until_heard(self, what: Signal | str) -> None:
        """Wait for a signal, or for an event of QMP."""
        async with asyncio.timeout(10):
            while what not in self.signals and what not in self.noted:
                self._news.clear()
                await self._news.wait()
