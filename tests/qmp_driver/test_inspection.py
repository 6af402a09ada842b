"""Each side is asked what is true, and what it does not say is not guessed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.qmp_server import Drop
from tests.support.scripted_sides import WITHIN_S, scripted
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.inspection import look_at_destination, look_at_source
from whimbrel.qmp_driver.known import Known
from whimbrel.qmp_driver.processes import QemuProcess


@pytest.mark.parametrize(
    ("status", "run_state", "found", "signals"),
    [
        ("active", "running", SourceClass.MOVING, [Signal.SOURCE_ACTIVE]),
        ("active", "paused", SourceClass.MOVING, [Signal.SOURCE_ACTIVE, Signal.SOURCE_PAUSED]),
        ("active", "io-error", SourceClass.MOVING, [Signal.SOURCE_ACTIVE, Signal.SOURCE_PAUSED]),
        ("pre-switchover", "finish-migrate", SourceClass.MOVING, [Signal.SOURCE_PRE_SWITCHOVER]),
        ("completed", "postmigrate", SourceClass.COMPLETED, [Signal.SOURCE_COMPLETED]),
        ("failed", "paused", SourceClass.HOLDING, [Signal.SOURCE_FAILED]),
        ("new-word", "running", SourceClass.UNCLEAR, []),
    ],
)
async def test_a_source_that_answers(status: str, run_state: str, found: SourceClass, signals: list[Signal]) -> None:
    """By status and run state; a guest that others stopped in pre-copy is told of."""
    async with scripted() as source:
        source.server.on("query-migrate", {"status": status})
        source.server.on("query-status", {"status": run_state, "running": run_state == "running"})
        assert await look_at_source(source.side, within_s=WITHIN_S, deliver=source.events.append) is found
        assert source.signals == signals


async def test_a_destination_that_answers() -> None:
    """It has everything, and stands."""
    async with scripted(SideName.DESTINATION) as destination:
        destination.server.on("query-migrate", {"status": "completed"})
        destination.server.on("query-status", {"status": "paused", "running": False})
        assert await look_at_destination(destination.side, within_s=WITHIN_S) is DestinationClass.READY


async def test_who_does_not_answer_may_live() -> None:
    """Without a process that is known nobody can say more."""
    async with scripted() as source:
        source.server.on("query-migrate", Drop())
        found = await look_at_source(source.side, within_s=WITHIN_S, deliver=source.events.append)
        assert found is SourceClass.UNREACHABLE
        assert await look_at_destination(source.side, within_s=WITHIN_S) is DestinationClass.UNREACHABLE


async def test_a_source_whose_last_words_nobody_heard_is_gone(tmp_path: Path) -> None:
    """It ended while no manager was there; for a destination its end is all that matters."""
    process = await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")
    async with scripted() as source:
        await source.side.close()
        source.side.monitor = None
        source.side.remember(Known(address=source.server.address, process=process.identity), process)
        await process.kill()
        found = await look_at_source(source.side, within_s=WITHIN_S, deliver=source.events.append)
        assert found is SourceClass.GONE
        assert await look_at_destination(source.side, within_s=WITHIN_S) is DestinationClass.ENDED


async def test_who_is_fenced_has_ended() -> None:
    """Nobody is asked."""
    async with scripted() as source:
        source.side.fenced = True
        async with asyncio.timeout(1):
            found = await look_at_source(source.side, within_s=60, deliver=source.events.append)
            assert found is SourceClass.ENDED
            assert await look_at_destination(source.side, within_s=60) is DestinationClass.ENDED
        assert source.events == []
