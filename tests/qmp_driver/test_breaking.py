"""A handover that hangs is ended from both ends, and never where that could end the only copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.qmp_server import Refusal
from tests.support.scripted_sides import WITHIN_S, scripted
from whimbrel.engine.errors import QemuRefused, WhimbrelError
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.breaking import break_stream
from whimbrel.qmp_driver.processes import QemuProcess


def unheard(kind: str, fields: dict[str, object]) -> None:
    """A log that nobody reads."""


@pytest.fixture
async def process(tmp_path: Path) -> QemuProcess:
    """In the place of a QEMU; the tests end it."""
    return await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")


async def test_the_destination_is_killed_and_the_stream_cut(process: QemuProcess) -> None:
    """A source that has noticed by itself refuses; that is noted."""
    written: list[str] = []
    async with scripted() as source, scripted(SideName.DESTINATION) as destination:
        destination.side.process = process
        source.server.on("yank", {})
        await break_stream(source.side, destination.side, lambda kind, _: written.append(kind), within_s=WITHIN_S)
        assert process.exited
        assert source.asked() == ["yank"]
        assert written == []
        source.server.on("yank", Refusal("Instance not found"))
        await break_stream(source.side, destination.side, lambda kind, _: written.append(kind), within_s=WITHIN_S)
        assert written == ["note"]


async def test_a_destination_that_nobody_can_kill_is_cut_off(process: QemuProcess) -> None:
    """Out of band; a refusal leaves it hanging, and is told."""
    async with scripted() as source, scripted(SideName.DESTINATION) as destination:
        destination.side.process, destination.side.fenced = process, True
        source.server.on("yank", {})
        await break_stream(source.side, destination.side, unheard, within_s=WITHIN_S)
        assert (await source.server.until_received("yank")).oob
        assert not process.exited
        await process.kill()
        destination.side.process = None
        source.server.on("yank", Refusal("no"))
        with pytest.raises(QemuRefused):
            await break_stream(source.side, destination.side, unheard, within_s=WITHIN_S)


async def test_nothing_is_broken_once_the_source_has_ended(process: QemuProcess) -> None:
    """What the destination has may be all there is."""
    async with scripted() as source, scripted(SideName.DESTINATION) as destination:
        source.side.process = process
        await process.kill()
        with pytest.raises(WhimbrelError, match="the source process ended"):
            await break_stream(source.side, destination.side, unheard, within_s=WITHIN_S)
        assert source.asked() == []
