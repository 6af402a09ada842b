"""Ends of a migration that are neither a plain success nor a death, on real QEMUs: the log, the paused, the kept."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from tests.support.guests import BRISK, World
from tests.support.taps import CALLED_OFF, MOVED, call_off, fail_at, on_command
from whimbrel.engine.protocol import SECOND_NS

BOTH_LOOPS = True


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("signal", {"signal": "start"}),
        ("command", {"command": "prepare"}),
        ("step", {"phase": "precopy"}),
        ("command", {"command": "migrate"}),
        ("qmp", {"event": "MIGRATION_PASS"}),
        ("signal", {"signal": "source-pre-switchover"}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value.values())),
)
async def test_a_log_that_fails_calls_the_move_off(world: World, kind: str, wanted: dict[str, str]) -> None:
    """Up to the switchover; a guest is not handed over without a witness."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(source, tap=fail_at(kind, **wanted))
    assert end.report.outcome == "cancelled"
    assert end.report.owner == "source"
    assert "No space left" in end.report.why
    assert any("the log is not whole" in note for note in end.report.notes)
    await world.check(source, end, before=before)


async def test_a_log_that_fails_in_the_handover_does_not_stop_it(world: World) -> None:
    """Stopping there is what could double a guest: it goes on, and the report says what is missing."""
    source = await world.boot()
    end = await world.migrate(source, tap=fail_at("command", command="continue"))
    assert end.verdict == MOVED
    assert any("No space left" in note for note in end.report.notes)
    await world.check(source, end)


async def test_a_paused_guest_stays_paused(world: World) -> None:
    """It arrives paused, and beats when it is told to, whole."""
    source = await world.boot()
    source.stop()
    end = await world.migrate(source)
    assert end.verdict == ("completed", "destination", "paused")
    assert end.destination_status() == "paused"
    assert not source.alive
    end.resume()
    await world.check_beats("destination")


async def test_a_paused_guest_stays_paused_when_called_off(world: World) -> None:
    """And on the source too."""
    source = await world.boot()
    source.stop()
    end = await world.migrate(source, tap=on_command("quiesce", call_off))
    assert end.verdict == ("cancelled", "source", "paused")
    # Cancelled in pre-switchover, QEMU 7.2 calls a guest that was paused "postmigrate": it stands still all the same.
    assert source.status() in ("paused", "postmigrate")
    source.resume()
    await world.check_beats("source")


async def test_the_source_can_be_kept(world: World) -> None:
    """Stopped, its copy out of date."""
    source = await world.boot()
    end = await world.migrate(source, keep_source=True)
    assert end.verdict == MOVED
    assert source.status() == "postmigrate"
    await world.check_beats("destination")


async def test_a_source_that_does_not_quit_is_left(world: World) -> None:
    """The guest runs already: a source that hangs is no reason to say otherwise."""
    source = await world.boot()
    end = await world.migrate(
        source,
        tap=on_command("release-source", lambda runner: os.kill(source.pid, signal.SIGSTOP)),
        waits=replace(BRISK, releasing_ns=SECOND_NS // 2),
    )
    assert end.verdict == MOVED
    await world.check_beats("destination")


@pytest.mark.parametrize("failing", ["prepare", "arm"])
async def test_it_can_be_tried_again(world: World, failing: str) -> None:
    """A failed attempt leaves nothing that stands in the way of the next."""
    source = await world.boot()
    first = await world.migrate(source, tap=on_command(failing, call_off))
    assert first.verdict == CALLED_OFF
    second = await world.migrate(source)
    assert second.verdict == MOVED
    await world.check(source, second)
