"""A side whose monitor or process goes: lost, ended, or back again, each told as what it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.ears import SideEar
from tests.support.qmp_server import QmpServer, event_line
from whimbrel.engine.errors import CannotConnect
from whimbrel.engine.machine import Happened
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.processes import QemuProcess

BOTH_LOOPS = True


async def test_a_connection_without_a_process_is_lost(remote: QmpServer) -> None:
    """Nobody can say that the process ended, so it counts as lost, never as ended."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    assert ear.side.process is None
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert not ear.side.alive
    assert not ear.side.ended
    assert not await ear.side.is_gone()
    with pytest.raises(CannotConnect):
        ear.side.require()
    await ear.side.close()


async def test_a_process_that_ended_is_ended_not_lost(remote: QmpServer, sleeper: QemuProcess) -> None:
    """Its last event comes first; then its end, with the code."""
    ear = SideEar(SideName.DESTINATION)
    ear.side.process = sleeper
    await ear.side.connect(remote.address)
    remote.vanish(event_line("MIGRATION", {"status": "failed"}))
    await sleeper.kill()
    await ear.until_heard(Signal.DESTINATION_ENDED)
    assert ear.signals == [Signal.DESTINATION_FAILED, Signal.DESTINATION_ENDED]
    last = ear.events[-1]
    assert isinstance(last, Happened)
    assert "ended with code -9" in last.detail
    assert await ear.side.has_ended()
    await ear.side.close()


async def test_a_dying_process_is_heard_out(remote: QmpServer, sleeper: QemuProcess) -> None:
    """Its monitor goes first: who looks in between waits for the process instead of calling it out of sight."""
    ear = SideEar()
    ear.side.process = sleeper
    await ear.side.connect(remote.address)
    remote.vanish()
    async with asyncio.timeout(10):
        while ear.side.alive:
            await asyncio.sleep(0)
    looking = asyncio.create_task(ear.side.has_ended())
    await asyncio.sleep(0)
    await sleeper.kill()
    assert await looking
    assert ear.signals == [Signal.SOURCE_ENDED]
    await ear.side.close()


async def test_a_torn_message_means_that_the_end_was_not_read(remote: QmpServer, sleeper: QemuProcess) -> None:
    """What the process said last is not known: it stays lost for ever, though it is dead."""
    ear = SideEar()
    ear.side.process = sleeper
    await ear.side.connect(remote.address)
    remote.vanish(b'{"event": "MIGRA')
    await sleeper.kill()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.is_gone()
    assert not await ear.side.has_ended()
    assert Signal.SOURCE_ENDED not in ear.signals
    await ear.side.close()


async def test_a_lost_monitor_is_tried_again(remote: QmpServer) -> None:
    """What the new connection says is heard."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    assert await ear.side.reconnect(within_s=0)  # it is there: no time is needed
    remote.emit("STOP")
    await ear.until_heard("STOP")
    await ear.side.close()


async def test_nobody_listens_any_more(tmp_path: Path) -> None:
    """The time is up at last; a side that was never connected is not tried at all."""
    ear = SideEar()
    assert not await ear.side.reconnect(within_s=60)
    ear.side.address = str(tmp_path / "nowhere")
    assert not await ear.side.reconnect(within_s=0.1)
    await ear.side.close()


async def test_a_dead_process_is_not_waited_for(tmp_path: Path, sleeper: QemuProcess) -> None:
    """There is nothing to reconnect to."""
    ear = SideEar()
    ear.side.address, ear.side.process = str(tmp_path / "nowhere"), sleeper
    await sleeper.kill()
    async with asyncio.timeout(5):
        assert not await ear.side.reconnect(within_s=60)
    await ear.side.close()


async def test_nothing_is_told_after_the_closing(remote: QmpServer) -> None:
    """Neither what comes late nor the end of the connection that was closed."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    await ear.side.close()
    remote.vanish()
    await remote.until_disconnected()
    assert ear.signals == []


@pytest.mark.parametrize("status_seen", [False, True])
async def test_the_last_words_after_a_new_connection(
    remote: QmpServer, sleeper: QemuProcess, status_seen: bool
) -> None:
    """What it said in between is not known: its end counts as heard only where its status was seen since."""
    ear = SideEar()
    ear.side.process = sleeper
    await ear.side.connect(remote.address)
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    if status_seen:
        ear.side.see_status("device")
    await sleeper.kill()
    remote.vanish()
    if status_seen:
        await ear.until_heard(Signal.SOURCE_ENDED)
    else:
        async with asyncio.timeout(10):
            while ear.signals.count(Signal.SOURCE_LOST) < 2:
                await asyncio.sleep(0.002)
    assert await ear.side.has_ended() is status_seen
    assert await ear.side.is_gone()
    await ear.side.close()


async def test_a_side_that_is_fenced_is_not_tried(remote: QmpServer) -> None:
    """A person vouches that its machine is off."""
    ear = SideEar()
    ear.side.address = remote.address
    ear.side.fenced = True
    assert not await ear.side.reconnect(within_s=5)
    assert remote.connections == 0


async def test_a_loss_that_was_mended_before_it_is_told(remote: QmpServer, sleeper: QemuProcess) -> None:
    """Told late, it would be taken for the loss of the new connection."""
    ear = SideEar()
    ear.side.process = sleeper
    await ear.side.connect(remote.address)
    remote.vanish()
    async with asyncio.timeout(10):
        while ear.side.alive:
            await asyncio.sleep(0.001)
    assert await ear.side.reconnect(within_s=5)
    await ear.until_heard("note")
    assert ear.signals == []
    assert ear.passes == 1
    await ear.side.close()
