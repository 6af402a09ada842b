"""One side's happenings in the engine's words, from a scripted monitor and a process that dies on demand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.bare_qemu import BARE, ODD_RAM, bare_qemu
from tests.support.qmp_server import Preceded, QmpServer, event_line
from tests.support.relay import relay
from whimbrel.engine.errors import CannotConnect
from whimbrel.engine.machine import Event, Happened, Marked
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.timeline import Mark
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess, identify_peer, is_alive
from whimbrel.qmp_driver.replies import query_status
from whimbrel.qmp_driver.side import Side

BOTH_LOOPS = True

MACHINE = (*BARE, "-machine", "q35", "-m", ODD_RAM, "-S")


def cpus(*threads: int) -> list[dict[str, object]]:
    """What ``query-cpus-fast`` answers."""
    return [
        {"cpu-index": index, "qom-path": f"/cpu[{index}]", "thread-id": thread, "target": "x86_64"}
        for index, thread in enumerate(threads)
    ]


@dataclass
class Ear:
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


@pytest.fixture
async def server() -> AsyncGenerator[QmpServer, None]:
    """A monitor on TCP, which does not tell whose process it is."""
    async with QmpServer() as listening:
        yield listening


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncGenerator[QemuProcess, None]:
    """A process that can be killed in the place of a QEMU."""
    process = await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")
    try:
        yield process
    finally:
        await process.kill()


async def test_events_become_signals_and_marks(server: QmpServer) -> None:
    """In the order in which they came; a new iteration is told apart."""
    ear = Ear()
    await ear.side.connect(server.address)
    server.emit("MIGRATION", {"status": "setup"})
    server.emit("MIGRATION", {"status": "active"})
    server.emit("MIGRATION_PASS", {"pass": 2})
    server.emit("STOP")
    server.emit("MIGRATION", {"status": "pre-switchover"})
    server.emit("MIGRATION", {"status": "device"})
    server.emit("MIGRATION", {"status": "completed"})
    server.emit("RESUME")
    await ear.until_heard("RESUME")
    assert ear.signals == [
        Signal.SOURCE_ACTIVE,
        Signal.SOURCE_STOPPED,
        Signal.SOURCE_PRE_SWITCHOVER,
        Signal.SOURCE_DEVICE,
        Signal.SOURCE_COMPLETED,
        Signal.SOURCE_RUNNING,
    ]
    assert ear.marks == [
        Mark.SOURCE_STOP,
        Mark.SOURCE_PRE_SWITCHOVER,
        Mark.SOURCE_DEVICE,
        Mark.SOURCE_COMPLETED,
    ]
    assert ear.passes == 1
    await ear.side.close()


async def test_the_destination_has_words_of_its_own(server: QmpServer) -> None:
    """Its STOP means nothing: it stands stopped from the beginning."""
    ear = Ear(SideName.DESTINATION)
    await ear.side.connect(server.address)
    server.emit("STOP")
    server.emit("MIGRATION", {"status": "active"})
    server.emit("MIGRATION", {"status": "completed"})
    server.emit("RESUME")
    await ear.until_heard(Signal.DESTINATION_RUNNING)
    assert ear.signals == [Signal.DESTINATION_ACTIVE, Signal.DESTINATION_COMPLETED, Signal.DESTINATION_RUNNING]
    assert ear.marks == [Mark.DESTINATION_COMPLETED, Mark.DESTINATION_RESUME]
    await ear.side.close()


async def test_a_polled_status_is_told_once() -> None:
    """Only what is news; words that nobody knows change nothing; none at all is a word too."""
    ear = Ear()
    for status in ("active", "active", "something-new", "active", None, "none", "failed"):
        ear.side.see_status(status)
    assert ear.signals == [
        Signal.SOURCE_ACTIVE,
        Signal.SOURCE_ACTIVE,
        Signal.SOURCE_IDLE,
        Signal.SOURCE_IDLE,
        Signal.SOURCE_FAILED,
    ]


async def test_a_status_that_an_event_told_is_no_news_to_a_poll(server: QmpServer) -> None:
    """Whichever comes first tells."""
    ear = Ear()
    await ear.side.connect(server.address)
    server.emit("MIGRATION", {"status": "completed"})
    await ear.until_heard(Signal.SOURCE_COMPLETED)
    ear.side.see_status("completed")
    assert ear.signals.count(Signal.SOURCE_COMPLETED) == 1
    await ear.side.close()


async def test_a_connection_without_a_process_is_lost(server: QmpServer) -> None:
    """Nobody can say that the process ended, so it counts as lost, never as ended."""
    ear = Ear()
    await ear.side.connect(server.address)
    assert ear.side.process is None
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert not ear.side.alive
    assert not ear.side.ended
    assert not await ear.side.is_gone()
    with pytest.raises(CannotConnect):
        ear.side.require()
    await ear.side.close()


async def test_a_process_that_ended_is_ended_not_lost(server: QmpServer, sleeper: QemuProcess) -> None:
    """Its last event comes first; then its end, with the code."""
    ear = Ear(SideName.DESTINATION)
    ear.side.process = sleeper
    await ear.side.connect(server.address)
    server.vanish(event_line("MIGRATION", {"status": "failed"}))
    await sleeper.kill()
    await ear.until_heard(Signal.DESTINATION_ENDED)
    assert ear.signals == [Signal.DESTINATION_FAILED, Signal.DESTINATION_ENDED]
    last = ear.events[-1]
    assert isinstance(last, Happened)
    assert "ended with code -9" in last.detail
    assert await ear.side.has_ended()
    await ear.side.close()


async def test_a_dying_process_is_heard_out(server: QmpServer, sleeper: QemuProcess) -> None:
    """Its monitor goes first: who looks in between waits for the process instead of calling it out of sight."""
    ear = Ear()
    ear.side.process = sleeper
    await ear.side.connect(server.address)
    server.vanish()
    async with asyncio.timeout(10):
        while ear.side.alive:
            await asyncio.sleep(0)
    looking = asyncio.create_task(ear.side.has_ended())
    await asyncio.sleep(0)
    await sleeper.kill()
    assert await looking
    assert ear.signals == [Signal.SOURCE_ENDED]
    await ear.side.close()


async def test_a_torn_message_means_that_the_end_was_not_read(server: QmpServer, sleeper: QemuProcess) -> None:
    """What the process said last is not known: it stays lost for ever, though it is dead."""
    ear = Ear()
    ear.side.process = sleeper
    await ear.side.connect(server.address)
    server.vanish(b'{"event": "MIGRA')
    await sleeper.kill()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.is_gone()
    assert not await ear.side.has_ended()
    assert Signal.SOURCE_ENDED not in ear.signals
    await ear.side.close()


async def test_a_lost_monitor_is_tried_again(server: QmpServer) -> None:
    """What the new connection says is heard."""
    ear = Ear()
    await ear.side.connect(server.address)
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    assert await ear.side.reconnect(within_s=0)  # it is there: no time is needed
    server.emit("STOP")
    await ear.until_heard("STOP")
    await ear.side.close()


async def test_nobody_listens_any_more(tmp_path: Path) -> None:
    """The time is up at last; a side that was never connected is not tried at all."""
    ear = Ear()
    assert not await ear.side.reconnect(within_s=60)
    ear.side.address = str(tmp_path / "nowhere")
    assert not await ear.side.reconnect(within_s=0.1)
    await ear.side.close()


async def test_a_dead_process_is_not_waited_for(tmp_path: Path, sleeper: QemuProcess) -> None:
    """There is nothing to reconnect to."""
    ear = Ear()
    ear.side.address, ear.side.process = str(tmp_path / "nowhere"), sleeper
    await sleeper.kill()
    async with asyncio.timeout(5):
        assert not await ear.side.reconnect(within_s=60)
    await ear.side.close()


async def test_nothing_is_told_after_the_closing(server: QmpServer) -> None:
    """Neither what comes late nor the end of the connection that was closed."""
    ear = Ear()
    await ear.side.connect(server.address)
    await ear.side.close()
    server.vanish()
    await server.until_disconnected()
    assert ear.signals == []


async def test_the_death_of_a_relay_is_not_the_death_of_the_qemu(short_folder: Path) -> None:
    """The relay is the peer and dies; the QEMU behind it lives. It is lost, and never counts as ended."""
    ear = Ear()
    path = short_folder / "relay"
    async with bare_qemu(short_folder, *MACHINE) as qemu:
        async with relay(path, qemu.socket) as between:
            monitor = await ear.side.connect(path)
            assert monitor.peer_pid == between.pid
            assert ear.side.process is None
            await between.kill()
            await ear.until_heard(Signal.SOURCE_LOST)
        assert not await ear.side.has_ended()
        assert Signal.SOURCE_ENDED not in ear.signals
        assert is_alive(qemu.process.identity)
        await ear.side.close()


async def test_a_relay_that_comes_back_leads_to_the_same_qemu(short_folder: Path) -> None:
    """Another relay is no other QEMU: it is recognised by its CPU threads."""
    ear = Ear()
    path = short_folder / "relay"
    async with bare_qemu(short_folder, *MACHINE) as qemu:
        async with relay(path, qemu.socket):
            await ear.side.connect(path)
        await ear.until_heard(Signal.SOURCE_LOST)
        path.unlink()
        async with relay(path, qemu.socket):
            assert await ear.side.reconnect(within_s=10)
            assert not (await query_status(ear.side.require())).running
            await ear.side.close()


async def test_the_qemu_itself_is_held_by_its_process(short_folder: Path) -> None:
    """Nothing between us: its threads prove it, its end is seen, and whoever takes its place is not it."""
    ear = Ear()
    async with bare_qemu(short_folder, *MACHINE) as qemu:
        await ear.side.connect(qemu.socket)
        assert ear.side.process is not None
        assert ear.side.process.identity == qemu.process.identity
        await qemu.process.kill()
        await ear.until_heard(Signal.SOURCE_ENDED)
        assert Signal.SOURCE_LOST not in ear.signals
    await ear.side.close()


async def test_a_qemu_without_a_cpu_proves_nothing(short_folder: Path) -> None:
    """There are no threads to know it by, so its process is not taken for proven."""
    ear = Ear()
    async with bare_qemu(short_folder, *BARE, "-machine", "none") as qemu:
        await ear.side.connect(qemu.socket)
        assert ear.side.process is None
        await ear.side.close()


async def test_a_process_that_is_held_is_recognised_without_a_command(short_folder: Path) -> None:
    """Neither the first connection nor a later one costs anything then."""
    ear = Ear()
    async with QmpServer(short_folder / "q") as server:
        ear.side.process = QemuProcess.attach(identify_peer(os.getpid()))
        await ear.side.connect(server.address)
        server.vanish()
        await ear.until_heard(Signal.SOURCE_LOST)
        assert await ear.side.reconnect(within_s=5)
        assert {each.command for each in server.received} == {"qmp_capabilities"}
        ear.side.process.close()
        await ear.side.close()


async def test_another_process_on_the_socket_is_a_stranger(short_folder: Path) -> None:
    """A supervisor's new QEMU has the old one's path; the old one may live on. Nothing of it is heard."""
    ear = Ear()
    async with QmpServer(short_folder / "q") as server, bare_qemu(short_folder, *MACHINE) as other:
        ear.side.process = QemuProcess.attach(identify_peer(os.getpid()))
        await ear.side.connect(server.address)
        (short_folder / "a.qmp").replace(short_folder / "q")
        server.vanish()
        await ear.until_heard(Signal.SOURCE_LOST)
        async with asyncio.timeout(10):
            assert not await ear.side.reconnect(within_s=60)
        assert not ear.side.alive
        assert not await ear.side.has_ended()
        async with await Monitor.connect(other.second_socket, side="source") as monitor:
            assert (await query_status(monitor)).status == "prelaunch"  # nobody told it anything
        ear.side.process.close()
        await ear.side.close()


async def test_other_cpu_threads_are_a_stranger(server: QmpServer) -> None:
    """Over TCP no process tells. What it says is not heard, it is not ended, and not tried again."""
    ear = Ear()
    server.on_next("query-cpus-fast", cpus(11, 12), Preceded(event_line("RESUME"), cpus(21, 22)))
    await ear.side.connect(server.address)
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    async with asyncio.timeout(10):
        assert not await ear.side.reconnect(within_s=60)
    assert Signal.SOURCE_RUNNING not in ear.signals
    assert "RESUME" not in ear.noted
    assert not ear.side.alive
    assert not ear.side.ended
    assert not await ear.side.is_gone()
    tried = server.connections
    assert not await ear.side.reconnect(within_s=60)
    assert server.connections == tried
    with pytest.raises(CannotConnect):
        ear.side.require()
    await ear.side.close()


@pytest.mark.parametrize("by_event", [True, False])
async def test_a_migration_that_was_forgotten_is_a_stranger(server: QmpServer, by_event: bool) -> None:
    """Restarted in a container it has the same thread ids; but a QEMU never forgets that it migrated."""
    ear = Ear()
    server.on("query-cpus-fast", cpus(3))
    server.on("query-migrate", {})
    await ear.side.connect(server.address)
    if by_event:
        server.emit("MIGRATION", {"status": "setup"})
        await ear.until_heard("MIGRATION")
    else:
        ear.side.see_status("active")
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    async with asyncio.timeout(10):
        assert not await ear.side.reconnect(within_s=60)
    await ear.side.close()


async def test_what_is_said_while_it_is_recognised_is_heard_afterwards(server: QmpServer) -> None:
    """In order, once it is known to be the same."""
    ear = Ear()
    server.on_next("query-cpus-fast", cpus(3), Preceded(event_line("STOP") + event_line("RESUME"), cpus(3)))
    server.on("query-migrate", {"status": "failed"})
    await ear.side.connect(server.address)
    ear.side.see_status("active")
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    await ear.until_heard("RESUME")
    assert ear.signals[-2:] == [Signal.SOURCE_STOPPED, Signal.SOURCE_RUNNING]
    await ear.side.close()


async def test_a_guest_that_powers_itself_off(server: QmpServer) -> None:
    """Told apart from a QEMU that others end; at the destination it is nobody's concern any more."""
    ear, other = Ear(), Ear(SideName.DESTINATION)
    await ear.side.connect(server.address)
    server.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    server.emit("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
    await ear.until_heard(Signal.SOURCE_SHUT_DOWN)
    assert ear.signals == [Signal.SOURCE_SHUT_DOWN]
    await ear.side.close()
    await other.side.connect(server.address)
    server.emit("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
    await other.until_heard("SHUTDOWN")
    assert other.signals == []
    await other.side.close()


async def test_post_copy_has_its_words(server: QmpServer) -> None:
    """On both sides."""
    for name, begun, paused in (
        (SideName.SOURCE, Signal.SOURCE_POSTCOPY, Signal.SOURCE_POSTCOPY_PAUSED),
        (SideName.DESTINATION, Signal.DESTINATION_POSTCOPY, Signal.DESTINATION_POSTCOPY_PAUSED),
    ):
        ear = Ear(name)
        await ear.side.connect(server.address)
        server.emit("MIGRATION", {"status": "postcopy-active"})
        server.emit("MIGRATION", {"status": "postcopy-paused"})
        await ear.until_heard(paused)
        assert ear.signals == [begun, paused]
        await ear.side.close()


@pytest.mark.parametrize("status_seen", [False, True])
async def test_the_last_words_after_a_new_connection(
    server: QmpServer, sleeper: QemuProcess, status_seen: bool
) -> None:
    """What it said in between is not known: its end counts as heard only where its status was seen since."""
    ear = Ear()
    ear.side.process = sleeper
    await ear.side.connect(server.address)
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    if status_seen:
        ear.side.see_status("device")
    await sleeper.kill()
    server.vanish()
    if status_seen:
        await ear.until_heard(Signal.SOURCE_ENDED)
    else:
        async with asyncio.timeout(10):
            while ear.signals.count(Signal.SOURCE_LOST) < 2:
                await asyncio.sleep(0.002)
    assert await ear.side.has_ended() is status_seen
    assert await ear.side.is_gone()
    await ear.side.close()


async def test_who_it_is_is_written_down_once(server: QmpServer) -> None:
    """For a manager after us; a second connection to the same one says nothing new."""
    ear = Ear()
    server.on("query-cpus-fast", cpus(7))
    assert ear.side.known is None
    await ear.side.connect(server.address)
    known = ear.side.known
    assert known is not None
    assert known.address == server.address
    assert known.likeness is not None
    assert known.likeness.cpu_threads == (7,)
    server.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    assert ear.noted.count("side") == 1
    await ear.side.close()


async def test_what_another_manager_knew_is_recognised(server: QmpServer) -> None:
    """The first connection of a new manager is a later one to the QEMU: a stranger in its place is refused."""
    server.on("query-cpus-fast", cpus(7))
    first, second, third = Ear(), Ear(), Ear()
    await first.side.connect(server.address)
    known = first.side.known
    assert known is not None
    await first.side.close()
    second.side.remember(known, None)
    assert await second.side.reconnect(within_s=5)
    assert "side" not in second.noted
    await second.side.close()
    server.on("query-cpus-fast", cpus(8))
    third.side.remember(known, None)
    with pytest.raises(CannotConnect, match="does not answer"):
        await third.side.reach(within_s=5)
    assert third.noted == ["note"]
    await third.side.close()


async def test_a_side_that_is_fenced_is_not_tried(server: QmpServer) -> None:
    """A person vouches that its machine is off."""
    ear = Ear()
    ear.side.address = server.address
    ear.side.fenced = True
    assert not await ear.side.reconnect(within_s=5)
    assert server.connections == 0


async def test_an_answer_that_an_event_overtook_is_not_heeded(server: QmpServer) -> None:
    """It was put together before: what the event told is newer."""
    ear = Ear()
    await ear.side.connect(server.address)
    device = event_line("MIGRATION", {"status": "device"})
    server.on_next("query-migrate", Preceded(device, {"status": "pre-switchover"}), {"status": "completed"})
    server.on("query-status", {"status": "postmigrate", "running": False})
    info = await ear.side.look()
    assert info.status == "pre-switchover"
    assert ear.signals == [Signal.SOURCE_DEVICE]
    await ear.side.look()
    assert ear.signals == [Signal.SOURCE_DEVICE, Signal.SOURCE_COMPLETED]
    await ear.side.close()


async def test_status_and_run_state_are_of_one_moment(server: QmpServer) -> None:
    """An event between the two asks for another look."""
    ear = Ear()
    await ear.side.connect(server.address)
    completed = event_line("MIGRATION", {"status": "completed"})
    still = {"status": "postmigrate", "running": False}
    server.on_next("query-migrate", {"status": "device"})
    server.on("query-migrate", {"status": "completed"})
    server.on_next("query-status", Preceded(completed, still))
    server.on("query-status", still)
    assert await ear.side.look_around() == ("completed", "postmigrate")
    await ear.side.close()


async def test_a_loss_that_was_mended_before_it_is_told(server: QmpServer, sleeper: QemuProcess) -> None:
    """Told late, it would be taken for the loss of the new connection."""
    ear = Ear()
    ear.side.process = sleeper
    await ear.side.connect(server.address)
    server.vanish()
    async with asyncio.timeout(10):
        while ear.side.alive:
            await asyncio.sleep(0.001)
    assert await ear.side.reconnect(within_s=5)
    await ear.until_heard("note")
    assert ear.signals == []
    assert ear.passes == 1
    await ear.side.close()
