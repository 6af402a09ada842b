"""Whether it is still the same QEMU that a new connection leads to."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.bare_qemu import BARE, ODD_RAM, bare_qemu
from tests.support.ears import SideEar
from tests.support.qmp_server import Preceded, QmpServer, event_line
from tests.support.relay import relay
from whimbrel.engine.errors import CannotConnect
from whimbrel.engine.signals import Signal
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess, identify_peer, is_alive
from whimbrel.qmp_driver.replies import query_status

BOTH_LOOPS = True

MACHINE = (*BARE, "-machine", "q35", "-m", ODD_RAM, "-S")


def cpus(*threads: int) -> list[dict[str, object]]:
    """What ``query-cpus-fast`` answers."""
    return [
        {"cpu-index": index, "qom-path": f"/cpu[{index}]", "thread-id": thread, "target": "x86_64"}
        for index, thread in enumerate(threads)
    ]


async def test_the_death_of_a_relay_is_not_the_death_of_the_qemu(short_folder: Path) -> None:
    """The relay is the peer and dies; the QEMU behind it lives. It is lost, and never counts as ended."""
    ear = SideEar()
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
    ear = SideEar()
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
    ear = SideEar()
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
    ear = SideEar()
    async with bare_qemu(short_folder, *BARE, "-machine", "none") as qemu:
        await ear.side.connect(qemu.socket)
        assert ear.side.process is None
        await ear.side.close()


async def test_a_process_that_is_held_is_recognised_without_a_command(short_folder: Path) -> None:
    """Neither the first connection nor a later one costs anything then."""
    ear = SideEar()
    async with QmpServer(short_folder / "q") as remote:
        ear.side.process = QemuProcess.attach(identify_peer(os.getpid()))
        await ear.side.connect(remote.address)
        remote.vanish()
        await ear.until_heard(Signal.SOURCE_LOST)
        assert await ear.side.reconnect(within_s=5)
        assert {each.command for each in remote.received} == {"qmp_capabilities"}
        ear.side.process.close()
        await ear.side.close()


async def test_another_process_on_the_socket_is_a_stranger(short_folder: Path) -> None:
    """A supervisor's new QEMU has the old one's path; the old one may live on. Nothing of it is heard."""
    ear = SideEar()
    async with QmpServer(short_folder / "q") as remote, bare_qemu(short_folder, *MACHINE) as other:
        ear.side.process = QemuProcess.attach(identify_peer(os.getpid()))
        await ear.side.connect(remote.address)
        (short_folder / "a.qmp").replace(short_folder / "q")
        remote.vanish()
        await ear.until_heard(Signal.SOURCE_LOST)
        async with asyncio.timeout(10):
            assert not await ear.side.reconnect(within_s=60)
        assert not ear.side.alive
        assert not await ear.side.has_ended()
        async with await Monitor.connect(other.second_socket, side="source") as monitor:
            assert (await query_status(monitor)).status == "prelaunch"  # nobody told it anything
        ear.side.process.close()
        await ear.side.close()


async def test_other_cpu_threads_are_a_stranger(remote: QmpServer) -> None:
    """Over TCP no process tells. What it says is not heard, it is not ended, and not tried again."""
    ear = SideEar()
    remote.on_next("query-cpus-fast", cpus(11, 12), Preceded(event_line("RESUME"), cpus(21, 22)))
    await ear.side.connect(remote.address)
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    async with asyncio.timeout(10):
        assert not await ear.side.reconnect(within_s=60)
    assert Signal.SOURCE_RUNNING not in ear.signals
    assert "RESUME" not in ear.noted
    assert not ear.side.alive
    assert not ear.side.ended
    assert not await ear.side.is_gone()
    tried = remote.connections
    assert not await ear.side.reconnect(within_s=60)
    assert remote.connections == tried
    with pytest.raises(CannotConnect):
        ear.side.require()
    await ear.side.close()


@pytest.mark.parametrize("by_event", [True, False])
async def test_a_migration_that_was_forgotten_is_a_stranger(remote: QmpServer, by_event: bool) -> None:
    """Restarted in a container it has the same thread ids; but a QEMU never forgets that it migrated."""
    ear = SideEar()
    remote.on("query-cpus-fast", cpus(3))
    remote.on("query-migrate", {})
    await ear.side.connect(remote.address)
    if by_event:
        remote.emit("MIGRATION", {"status": "setup"})
        await ear.until_heard("MIGRATION")
    else:
        ear.side.see_status("active")
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    async with asyncio.timeout(10):
        assert not await ear.side.reconnect(within_s=60)
    await ear.side.close()


async def test_what_is_said_while_it_is_recognised_is_heard_afterwards(remote: QmpServer) -> None:
    """In order, once it is known to be the same."""
    ear = SideEar()
    remote.on_next("query-cpus-fast", cpus(3), Preceded(event_line("STOP") + event_line("RESUME"), cpus(3)))
    remote.on("query-migrate", {"status": "failed"})
    await ear.side.connect(remote.address)
    ear.side.see_status("active")
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    await ear.until_heard("RESUME")
    assert ear.signals[-2:] == [Signal.SOURCE_STOPPED, Signal.SOURCE_RUNNING]
    await ear.side.close()


async def test_who_it_is_is_written_down_once(remote: QmpServer) -> None:
    """For a manager after us; a second connection to the same one says nothing new."""
    ear = SideEar()
    remote.on("query-cpus-fast", cpus(7))
    assert ear.side.known is None
    await ear.side.connect(remote.address)
    known = ear.side.known
    assert known is not None
    assert known.address == remote.address
    assert known.likeness is not None
    assert known.likeness.cpu_threads == (7,)
    remote.vanish()
    await ear.until_heard(Signal.SOURCE_LOST)
    assert await ear.side.reconnect(within_s=5)
    assert ear.noted.count("side") == 1
    await ear.side.close()


async def test_what_another_manager_knew_is_recognised(remote: QmpServer) -> None:
    """The first connection of a new manager is a later one to the QEMU: a stranger in its place is refused."""
    remote.on("query-cpus-fast", cpus(7))
    first, second, third = SideEar(), SideEar(), SideEar()
    await first.side.connect(remote.address)
    known = first.side.known
    assert known is not None
    await first.side.close()
    second.side.remember(known, None)
    assert await second.side.reconnect(within_s=5)
    assert "side" not in second.noted
    await second.side.close()
    remote.on("query-cpus-fast", cpus(8))
    third.side.remember(known, None)
    with pytest.raises(CannotConnect, match="does not answer"):
        await third.side.reach(within_s=5)
    assert third.noted == ["note"]
    await third.side.close()
