"""A source that keeps its guest: it runs where it ran, stands where others stopped it, and has its own settings."""

from __future__ import annotations

import pytest

from tests.support.qmp_server import Refusal
from tests.support.scripted_sides import Scripted, scripted
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.machine import Learnt
from whimbrel.qmp_driver.restoring import await_final_status, put_back, see_as_it_is, see_running

RUNNING = {"status": "running", "running": True}
PAUSED = {"status": "paused", "running": False}
LEFT = {"status": "postmigrate", "running": False}
"""As QEMU leaves a guest that it does not resume by itself."""


def found_paused(source: Scripted) -> bool:
    """Whether the guest was told to stand by the will of others."""
    return any(isinstance(event, Learnt) and event.paused_before for event in source.events)


async def test_the_end_of_its_migration_is_waited_for() -> None:
    """Unless the guest runs already, and QEMU hangs in its cancel."""
    async with scripted() as source:
        source.server.on_next("query-migrate", {"status": "cancelling"}, {"status": "device"}, {"status": "failed"})
        source.server.on_next("query-status", PAUSED, RUNNING)
        await await_final_status(source.side.require(), source.events.append)
        assert source.notes == []
        source.server.on("query-migrate", {"status": "cancelling"})
        source.server.on("query-status", RUNNING)
        await await_final_status(source.side.require(), source.events.append)
        assert "busy with its old migration (cancelling)" in source.notes[0]


async def test_a_guest_that_its_migration_stopped_runs_again() -> None:
    """By itself, or by a ``cont``."""
    async with scripted() as source:
        source.server.on("query-migrate", {"status": "failed"})
        source.server.on("cont", {})
        source.server.on("query-status", RUNNING)
        await see_running(source.side.require(), source.events.append)
        assert source.asked() == []
        source.server.on_next("query-status", {"status": "finish-migrate", "running": False}, LEFT)
        await see_running(source.side.require(), source.events.append)
        assert source.asked() == ["cont"]
        assert not found_paused(source)


async def test_a_source_that_completed_is_refused() -> None:
    """Its copy may be old."""
    async with scripted() as source:
        source.server.on("query-migrate", {"status": "completed"})
        source.server.on("query-status", {"status": "postmigrate", "running": False})
        with pytest.raises(WhimbrelError, match="completed"):
            await see_running(source.side.require(), source.events.append)
        assert source.asked() == []


@pytest.mark.parametrize("state", ["paused", "io-error", "guest-panicked", "shutdown"])
async def test_a_guest_that_stopped_by_itself_is_not_resumed(state: str) -> None:
    """Its owner has to see to that; ``paused`` was its owner too."""
    async with scripted() as source:
        source.server.on("query-status", {"status": state, "running": False})
        await see_running(source.side.require(), source.events.append)
        assert source.asked() == []
        assert found_paused(source)
        assert state in source.notes[0]


@pytest.mark.parametrize("run", [RUNNING, PAUSED])
async def test_a_guest_that_was_not_migrated_is_as_it_is(run: dict[str, object]) -> None:
    """It is only looked at."""
    async with scripted() as source:
        source.server.on("query-status", run)
        await see_as_it_is(source.side.require(), source.events.append)
        assert source.asked() == []
        assert found_paused(source) is (run is PAUSED)


async def test_settings_are_put_back() -> None:
    """Where QEMU refuses, the report says that ours are still there."""
    async with scripted() as source:
        source.server.on("migrate-set-parameters", {})
        source.server.on("migrate-set-capabilities", {})
        await put_back(source.side.require(), {"downtime-limit": 3}, {"events": False}, source.events.append)
        assert [each.arguments for each in source.server.received[-2:]] == [
            {"downtime-limit": 3},
            {"capabilities": [{"capability": "events", "state": False}]},
        ]
        await put_back(source.side.require(), {}, None, source.events.append)
        assert source.asked()[-1] == "migrate-set-parameters"
        source.server.on("migrate-set-capabilities", Refusal("There's a migration process in progress"))
        await put_back(source.side.require(), {}, {"events": False}, source.events.append)
        assert "keeps this migration's settings" in source.notes[0]
