"""A migration that transfers for too long is called off, and only such a one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from whimbrel.engine.report import OngoingReport
from whimbrel.laboratory.cutting_off import cut_off_after


def glance(phase: str, elapsed_s: float) -> OngoingReport:
    return OngoingReport(phase=phase, stage=2, stage_name="transfer", owner="source", elapsed_s=elapsed_s)


@dataclass
class Moving:
    """A migration that shows these glances, and then waits to be called off or ended by its runner.

    Attributes:
        breaks: the glances end with an error.
    """

    glances: list[OngoingReport]
    breaks: bool = False
    called_off: list[str] = field(default_factory=list[str])
    shown: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    async def progress(self) -> AsyncIterator[OngoingReport]:
        """What was given, one after the other; then nothing, for ever."""
        try:
            for each in self.glances:
                yield each
            if self.breaks:
                raise RuntimeError("no glance")
            self.shown.set()
            await asyncio.Event().wait()
        finally:
            self.shown.set()
            self.ended = True

    def cancel(self, why: str) -> None:
        """Note it."""
        self.called_off.append(why)


async def watched(migration: Moving, limit_s: float) -> list[str]:
    """What it is called off with, once all of its glances were seen, or no more are looked at."""
    async with cut_off_after(limit_s, migration, "too long"):
        await migration.shown.wait()
    assert migration.ended, "nobody looks on after the block"
    return migration.called_off


async def test_one_that_transfers_for_too_long_is_called_off_once() -> None:
    """Counted from the first glance of the transfer; preparing took its own time."""
    seen = [glance("preparing", 50.0), glance("precopy", 60.0), glance("precopy", 70.0), glance("precopy", 80.0)]
    assert await watched(Moving(seen), 10.0) == ["too long"]


@pytest.mark.parametrize(
    "seen",
    [
        [glance("precopy", 60.0), glance("precopy", 69.9)],
        [glance("preparing", 0.0), glance("preparing", 99.0)],
        [glance("precopy", 60.0), glance("switchover", 99.0)],
        [],
    ],
    ids=["in time", "still preparing", "past the transfer", "over at once"],
)
async def test_any_other_goes_on(seen: list[OngoingReport]) -> None:
    assert await watched(Moving(seen), 10.0) == []


async def test_what_ends_the_migration_ends_the_looking_on() -> None:
    """And is raised as it is."""
    migration = Moving([glance("precopy", 0.0)])

    async def fail() -> None:
        async with cut_off_after(10.0, migration, "too long"):
            await migration.shown.wait()
            raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        await fail()
    assert migration.ended


async def test_a_limit_that_nobody_kept_is_an_error() -> None:
    """Otherwise a run without one would count."""
    with pytest.raises(RuntimeError, match="no glance"):
        await watched(Moving([], breaks=True), 10.0)
