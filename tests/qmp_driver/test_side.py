"""One side's happenings in the engine's words, from a scripted monitor."""

from __future__ import annotations

from tests.support.ears import SideEar
from tests.support.qmp_server import Preceded, QmpServer, event_line
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.timeline import Mark

BOTH_LOOPS = True


async def test_events_become_signals_and_marks(remote: QmpServer) -> None:
    """In the order in which they came; a new iteration is told apart."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    remote.emit("MIGRATION", {"status": "setup"})
    remote.emit("MIGRATION", {"status": "active"})
    remote.emit("MIGRATION_PASS", {"pass": 2})
    remote.emit("STOP")
    remote.emit("MIGRATION", {"status": "pre-switchover"})
    remote.emit("MIGRATION", {"status": "device"})
    remote.emit("MIGRATION", {"status": "completed"})
    remote.emit("RESUME")
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


async def test_the_destination_has_words_of_its_own(remote: QmpServer) -> None:
    """Its STOP means nothing: it stands stopped from the beginning."""
    ear = SideEar(SideName.DESTINATION)
    await ear.side.connect(remote.address)
    remote.emit("STOP")
    remote.emit("MIGRATION", {"status": "active"})
    remote.emit("MIGRATION", {"status": "completed"})
    remote.emit("RESUME")
    await ear.until_heard(Signal.DESTINATION_RUNNING)
    assert ear.signals == [Signal.DESTINATION_ACTIVE, Signal.DESTINATION_COMPLETED, Signal.DESTINATION_RUNNING]
    assert ear.marks == [Mark.DESTINATION_COMPLETED, Mark.DESTINATION_RESUME]
    await ear.side.close()


async def test_a_polled_status_is_told_once() -> None:
    """Only what is news; words that nobody knows change nothing; none at all is a word too."""
    ear = SideEar()
    for status in ("active", "active", "something-new", "active", None, "none", "failed"):
        ear.side.see_status(status)
    assert ear.signals == [
        Signal.SOURCE_ACTIVE,
        Signal.SOURCE_ACTIVE,
        Signal.SOURCE_IDLE,
        Signal.SOURCE_IDLE,
        Signal.SOURCE_FAILED,
    ]


async def test_a_status_that_an_event_told_is_no_news_to_a_poll(remote: QmpServer) -> None:
    """Whichever comes first tells."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    remote.emit("MIGRATION", {"status": "completed"})
    await ear.until_heard(Signal.SOURCE_COMPLETED)
    ear.side.see_status("completed")
    assert ear.signals.count(Signal.SOURCE_COMPLETED) == 1
    await ear.side.close()


async def test_a_guest_that_powers_itself_off(remote: QmpServer) -> None:
    """Told apart from a QEMU that others end; at the destination it is nobody's concern any more."""
    ear, other = SideEar(), SideEar(SideName.DESTINATION)
    await ear.side.connect(remote.address)
    remote.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    remote.emit("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
    await ear.until_heard(Signal.SOURCE_SHUT_DOWN)
    assert ear.signals == [Signal.SOURCE_SHUT_DOWN]
    await ear.side.close()
    await other.side.connect(remote.address)
    remote.emit("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
    await other.until_heard("SHUTDOWN")
    assert other.signals == []
    await other.side.close()


async def test_post_copy_has_its_words(remote: QmpServer) -> None:
    """On both sides."""
    for name, begun, paused in (
        (SideName.SOURCE, Signal.SOURCE_POSTCOPY, Signal.SOURCE_POSTCOPY_PAUSED),
        (SideName.DESTINATION, Signal.DESTINATION_POSTCOPY, Signal.DESTINATION_POSTCOPY_PAUSED),
    ):
        ear = SideEar(name)
        await ear.side.connect(remote.address)
        remote.emit("MIGRATION", {"status": "postcopy-active"})
        remote.emit("MIGRATION", {"status": "postcopy-paused"})
        await ear.until_heard(paused)
        assert ear.signals == [begun, paused]
        await ear.side.close()


async def test_an_answer_that_an_event_overtook_is_not_heeded(remote: QmpServer) -> None:
    """It was put together before: what the event told is newer."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    device = event_line("MIGRATION", {"status": "device"})
    remote.on_next("query-migrate", Preceded(device, {"status": "pre-switchover"}), {"status": "completed"})
    remote.on("query-status", {"status": "postmigrate", "running": False})
    info = await ear.side.look()
    assert info.status == "pre-switchover"
    assert ear.signals == [Signal.SOURCE_DEVICE]
    await ear.side.look()
    assert ear.signals == [Signal.SOURCE_DEVICE, Signal.SOURCE_COMPLETED]
    await ear.side.close()


async def test_status_and_run_state_are_of_one_moment(remote: QmpServer) -> None:
    """An event between the two asks for another look."""
    ear = SideEar()
    await ear.side.connect(remote.address)
    completed = event_line("MIGRATION", {"status": "completed"})
    still = {"status": "postmigrate", "running": False}
    remote.on_next("query-migrate", {"status": "device"})
    remote.on("query-migrate", {"status": "completed"})
    remote.on_next("query-status", Preceded(completed, still))
    remote.on("query-status", still)
    assert await ear.side.look_around() == ("completed", "postmigrate")
    await ear.side.close()
