"""The monitor, against a scripted guest on a socket pair: stamps, waits, failures, ends."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.guest.monitor import GuestMonitor
from whimbrel.guest.protocol import TAUS_S, checksum
from whimbrel.guest.timeline import Beat


class ScriptedGuest:
    """The other end of a serial line."""

    def __init__(self) -> None:
        self.socket, self.client = socket.socketpair()
        self.socket.settimeout(10)

    def say(self, body: str) -> None:
        """Sends a line with its checksum."""
        self.socket.sendall(b"%s*%04x\n" % (body.encode(), checksum(body.encode())))

    def beat(self, sequence: int, *, bad: int = 0) -> None:
        """Sends a heartbeat."""
        self.say(f"H {sequence:x} {sequence * 5000:x} {sequence * 8:x} 0 0 0 {bad:x}")

    def introduce(self) -> None:
        """Sends a banner with one class."""
        self.say("B 1 1ffd0 200 10 1 c8 1 7d0 1 279d51 5")
        self.say("C 0 hot 200 10 3e8 r fd 0 0 0 1 7 0")

    async def until_asked(self, command: bytes) -> None:
        """Waits until the monitor has sent the command."""
        got = await asyncio.to_thread(self.socket.recv, len(command))
        assert got == command


@pytest.fixture
def guest() -> Iterator[ScriptedGuest]:
    """A guest that says what the test makes it say."""
    scripted = ScriptedGuest()
    yield scripted
    scripted.socket.close()
    scripted.client.close()


@pytest.fixture
def monitor() -> Iterator[GuestMonitor]:
    """A monitor, closed in the end."""
    with GuestMonitor() as listening:
        yield listening


async def test_beats_are_stamped_and_kept(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """In order, with the side and the monotonic clock of their arrival; listeners see each."""
    heard: list[Beat] = []
    monitor.on_beat(heard.append)
    monitor.adopt("destination", guest.client)
    before_ns = time.monotonic_ns()
    guest.beat(1)
    first = await monitor.wait_first_beat("destination")
    next_beat = asyncio.ensure_future(monitor.wait_beats(1))
    await asyncio.sleep(0)  # lets it begin to count
    guest.beat(2)
    last = await next_beat
    assert before_ns <= first.received_ns <= last.received_ns <= time.monotonic_ns()
    assert monitor.beats() == [first, last] == heard
    assert monitor.beats(since_ns=last.received_ns) == [last]
    assert monitor.last_beat() == monitor.last_beat("destination") == last
    assert monitor.beats("source") == []
    assert monitor.last_beat("source") is None
    assert await monitor.wait_first_beat("destination") == first
    assert monitor.timeline().beats == 2


async def test_only_the_source_is_asked_for_its_banner(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """A destination is yet to be loaded: nothing may be sent to it."""
    monitor.adopt("source", guest.client)
    await guest.until_asked(b"i")
    other = ScriptedGuest()
    monitor.adopt("destination", other.client)
    monitor.send("destination", b"v")
    await other.until_asked(b"v")
    other.socket.close()


async def test_the_banner_is_complete_with_its_classes(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """Asked again, it is that of now."""
    monitor.adopt("source", guest.client)
    guest.introduce()
    banner = await monitor.wait_banner()
    assert banner.classes == 1
    assert [c.writes for c in monitor.classes] == [7]
    await guest.until_asked(b"i")
    again = asyncio.ensure_future(monitor.wait_banner(refresh=True))
    await guest.until_asked(b"i")
    guest.say("B 1 1ffd0 200 10 1 c8 1 7d0 1 279d51 5")
    guest.say("C 0 hot 200 10 3e8 r fd 0 0 0 1 9 0")
    await again
    assert [c.writes for c in monitor.classes] == [9]


async def test_verification_is_asked_for_and_returned(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """The answer of the side that was asked."""
    monitor.adopt("destination", guest.client)
    asked = asyncio.ensure_future(monitor.verify("destination"))
    await guest.until_asked(b"v")
    guest.beat(1)
    guest.say("V 1 10 0 0 0 0 0 0 7 64")
    result = await asked
    assert result.passed
    assert result.pages == 16


async def test_a_dirty_report_is_whole(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """One row for each class and one for the accumulators, whatever comes in between."""
    monitor.adopt("destination", guest.client)
    guest.introduce()
    await monitor.wait_banner("destination")
    asked = asyncio.ensure_future(monitor.survey("destination"))
    await guest.until_asked(b"d")
    guest.say("D 1 ff 0" + " 3" * len(TAUS_S))
    guest.beat(1)
    guest.say("D 1 ff 1" + " 1" * len(TAUS_S))
    rows = await asked
    assert [row.pages[0] for row in rows] == [3, 1]


async def test_a_silent_guest_is_named(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """Each wait ends with a sentence that says what did not come."""
    monitor.adopt("source", guest.client)
    with pytest.raises(WhimbrelError, match=r"no heartbeat on the source within 0\.01 s"):
        await monitor.wait_first_beat("source", timeout_s=0.01)
    with pytest.raises(WhimbrelError, match="did not send 3 heartbeats"):
        await monitor.wait_beats(3, timeout_s=0.01)
    with pytest.raises(WhimbrelError, match="what it runs"):
        await monitor.wait_banner(timeout_s=0.01)
    with pytest.raises(WhimbrelError, match="did not verify"):
        await monitor.verify("source", timeout_s=0.01)
    with pytest.raises(WhimbrelError, match="no heartbeat"):
        monitor.timeline()
    guest.introduce()
    with pytest.raises(WhimbrelError, match="what it dirtied"):
        await monitor.survey("source", timeout_s=0.1)


async def test_a_guest_that_refuses_ends_every_wait(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """Waits under way and later ones fail with its own words."""
    monitor.adopt("source", guest.client)
    waiting = asyncio.ensure_future(monitor.wait_first_beat("source"))
    await guest.until_asked(b"i")
    guest.say("E too large for this memory")
    with pytest.raises(WhimbrelError, match="refuses to run: too large for this memory"):
        await waiting
    with pytest.raises(WhimbrelError, match="refuses to run"):
        await monitor.wait_banner()
    assert monitor.failure is not None


async def test_a_cancelled_wait_leaves_nothing(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """The next one works, and the late record disturbs nobody."""
    monitor.adopt("destination", guest.client)
    waiting = asyncio.ensure_future(monitor.verify("destination"))
    await guest.until_asked(b"v")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    guest.say("V 1 10 0 0 0 0 0 0 7 64")
    guest.beat(1)
    assert (await monitor.wait_first_beat("destination")).heartbeat.sequence == 1


async def test_damage_on_the_line_is_counted(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """A torn first line costs itself and no other."""
    monitor.adopt("destination", guest.client)
    guest.socket.sendall(b"00 3 0*1234\n")
    guest.beat(5)
    assert (await monitor.wait_first_beat("destination")).heartbeat.sequence == 5
    assert monitor.damaged_lines("destination") == 1
    assert monitor.damaged_lines("source") == 0


async def test_only_the_newest_beats_are_kept(guest: ScriptedGuest) -> None:
    """Memory stays bounded; the first beat is remembered all the same."""
    with GuestMonitor(keep_beats=3) as monitor:
        monitor.adopt("destination", guest.client)
        last = asyncio.ensure_future(monitor.wait_beats(10))
        await asyncio.sleep(0)  # lets it begin to count
        for sequence in range(1, 11):
            guest.beat(sequence)
        await last
        assert [beat.heartbeat.sequence for beat in monitor.beats()] == [8, 9, 10]
        assert (await monitor.wait_first_beat("destination")).heartbeat.sequence == 1


async def test_a_gone_guest_is_an_error_to_speak_to(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """Not attached, or at its end: one sentence, with the side."""
    with pytest.raises(CannotConnect, match="source: the guest's serial line is not attached"):
        monitor.send("source", b"v")
    monitor.adopt("destination", guest.client)
    guest.socket.close()
    with pytest.raises(CannotConnect, match="destination: the guest's serial line is gone"):
        await monitor.verify("destination")


async def test_attach_waits_for_the_socket(tmp_path: Path, monitor: GuestMonitor) -> None:
    """A QEMU that is only starting is waited for; the loop stays free meanwhile."""
    path = tmp_path / "serial"
    attaching = asyncio.ensure_future(monitor.attach("destination", path, timeout_s=10))
    await asyncio.sleep(0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        await attaching
        accepted, _ = server.accept()
        accepted.close()


async def test_attach_gives_up_by_name(tmp_path: Path, monitor: GuestMonitor) -> None:
    """No socket; a path that is none."""
    with pytest.raises(CannotConnect, match=r"source: no guest on .*nobody within"):
        await monitor.attach("source", tmp_path / "nobody", timeout_s=0.02)
    with pytest.raises(CannotConnect, match="cannot connect"):
        await monitor.attach("source", tmp_path / ("x" * 200), timeout_s=0.02)


async def test_a_cancelled_attach_ends_at_once(tmp_path: Path, monitor: GuestMonitor) -> None:
    """And connects to nobody who begins to listen later."""
    path = tmp_path / "serial"
    attaching = asyncio.ensure_future(monitor.attach("source", path, timeout_s=1000))
    await asyncio.sleep(0)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    with pytest.raises(CannotConnect, match="not attached"):
        monitor.send("source", b"v")


async def test_attaching_again_replaces_the_line(guest: ScriptedGuest, monitor: GuestMonitor) -> None:
    """The old connection is closed and its thread ends."""
    monitor.adopt("destination", guest.client)
    other = ScriptedGuest()
    monitor.adopt("destination", other.client)
    assert await asyncio.to_thread(guest.socket.recv, 1) == b""
    other.beat(3)
    assert (await monitor.wait_first_beat("destination")).heartbeat.sequence == 3
    other.socket.close()


def test_closing_twice_ends_the_threads(guest: ScriptedGuest) -> None:
    """No thread and no socket is left; what was collected stays."""
    before = threading.active_count()
    monitor = GuestMonitor()
    monitor.adopt("destination", guest.client)
    assert threading.active_count() == before + 1
    monitor.close()
    monitor.close()
    assert threading.active_count() == before
    assert guest.client.fileno() == -1
    assert monitor.beats() == []


def test_a_monitor_outlives_its_loop(guest: ScriptedGuest) -> None:
    """A record that comes when the loop of a waiter is closed harms nobody."""
    with GuestMonitor() as monitor:
        monitor.adopt("destination", guest.client)

        async def give_up() -> None:
            with pytest.raises(WhimbrelError):
                await monitor.wait_first_beat("destination", timeout_s=0.01)

        asyncio.run(give_up())
        guest.beat(1)
        assert asyncio.run(monitor.wait_first_beat("destination")).heartbeat.sequence == 1
