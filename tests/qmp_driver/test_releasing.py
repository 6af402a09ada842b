"""What is left to do once the guest runs elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.qmp_server import Drop, Held, Refusal
from tests.support.scripted_sides import WITHIN_S, scripted
from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.engine.machine import Learnt, Sampled
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.processes import QemuProcess
from whimbrel.qmp_driver.releasing import leave_no_settings, quit_source, take_final_figures


async def test_a_source_that_closes_before_it_answers_has_quit() -> None:
    """QEMU does that."""
    async with scripted() as source:
        source.server.on("quit", Drop())
        await quit_source(source.side, within_s=WITHIN_S)
        assert source.asked() == ["quit"]


async def test_a_source_whose_guest_was_brought_back_is_not_ended() -> None:
    """Somebody did that while no manager lived."""
    async with scripted() as source:
        source.server.on("query-status", {"status": "running", "running": True})
        with pytest.raises(WhimbrelError, match="runs again"):
            await quit_source(source.side, within_s=WITHIN_S, look=True)
        assert source.asked() == []


async def test_a_source_that_is_out_of_reach_may_still_be_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Unless its process is known to have ended."""
    async with scripted() as source:
        await source.side.close()
        source.side.monitor = source.side.address = None
        with pytest.raises(CannotConnect, match="does not answer"):
            await quit_source(source.side, within_s=WITHIN_S)
        errors = tmp_path_factory.mktemp("process") / "stderr"
        source.side.process = await QemuProcess.spawn(["true"], stderr_path=errors)
        await source.side.process.wait_exit(10)
        await quit_source(source.side, within_s=WITHIN_S)


async def test_settings_go_back_where_they_can() -> None:
    """Nothing is asked of a side that was not changed; a refusal is noted."""
    async with scripted(SideName.DESTINATION) as destination:
        await leave_no_settings([destination.side], {"source": {"events": False}}, destination.events.append)
        assert destination.asked() == []
        destination.server.on("migrate-set-capabilities", Refusal("no"))
        await leave_no_settings([destination.side], {"destination": {"events": False}}, destination.events.append)
        assert destination.asked() == ["migrate-set-capabilities"]
        assert "the destination keeps this migration's settings" in destination.notes[0]


async def test_a_side_without_an_answer_keeps_ours() -> None:
    """The source is let go all the same, in a moment."""
    async with scripted(SideName.DESTINATION) as destination:
        destination.server.on("migrate-set-capabilities", Held(asyncio.Event(), {}))
        before = {"destination": {"events": False}}
        await leave_no_settings([destination.side], before, destination.events.append, within_s=0.05)
        assert "no answer within 0.05 s" in destination.notes[0]


async def test_figures_are_only_figures() -> None:
    """They are waited for a little, and a source without an answer is let go all the same."""
    async with scripted() as source:
        source.server.on_next("query-migrate", {"status": "completed"})
        source.server.on("query-migrate", {"status": "completed", "total-time": 12, "downtime": 3})
        await take_final_figures(source.side, lambda: 5, source.events.append)
        assert isinstance(source.events[0], Sampled)
        assert source.events[1] == Learnt({"qemu_total_ms": 12, "qemu_downtime_ms": 3})
        source.server.on("query-migrate", Drop())
        await take_final_figures(source.side, lambda: 5, source.events.append)
        assert len([event for event in source.events if isinstance(event, Sampled | Learnt)]) == 2
