"""Parties, contexts and locks that remember, for tests without a QEMU."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.hooks import HookContext
from whimbrel.qmp_driver.locks import LockRefused
from whimbrel.qmp_driver.parties import Party

SOURCE = Party(side=SideName.SOURCE, name="host1:1@1", address="/run/1", pid=1)
DESTINATION = Party(side=SideName.DESTINATION, name="host2:2@2", address="/run/2", pid=2)
STRANGER = Party(side=SideName.SOURCE, name="host3:3@3", address="/run/3", pid=3)

PROGRESS = OngoingReport(phase="switchover", stage=3, stage_name="stop the source", owner="source", elapsed_s=1.0)
MOVED = CompletedReport(outcome="completed", owner="destination", guest="running", why="moved", total_s=2.0)
NOT_MOVED = CompletedReport(outcome="failed", owner="source", guest="running", why="refused", total_s=2.0)


def about(hook: str) -> HookContext:
    """The context of a hook."""
    return HookContext(
        hook=hook,
        source=SOURCE,
        destination=DESTINATION,
        progress=PROGRESS,
        facts={"uri": "tcp:127.0.0.1:1"},
        log_path=Path("/log"),
    )


async def nothing() -> None:
    """Takes no time."""


@dataclass
class MemoryLock:
    """A `LockProvider` that does what a test says before it does what it should.

    Attributes:
        by: the name of its holder.
        first: awaited at the begin of each operation, given its name.
        asked: the operations that were begun, in order.
    """

    by: str | None = None
    first: Callable[[str], Awaitable[None]] = lambda what: nothing()
    asked: list[str] = field(default_factory=list[str])

    async def acquire(self, holder: Party) -> None:
        """See `LockProvider`."""
        await self._change("acquire", (None, holder.name), holder.name)

    async def hand_over(self, from_: Party, to: Party) -> None:
        """See `LockProvider`."""
        await self._change(f"hand over to {to.side.value}", (from_.name, to.name), to.name)

    async def release(self, holder: Party) -> None:
        """See `LockProvider`."""
        await self._change("release", (None, holder.name), None)

    async def holder(self) -> str | None:
        """See `LockProvider`."""
        return self.by

    async def _change(self, what: str, allowed: tuple[str | None, str], to: str | None) -> None:
        self.asked.append(what)
        await self.first(what)
        if self.by not in allowed:
            raise LockRefused(f"held by {self.by}")
        self.by = to
