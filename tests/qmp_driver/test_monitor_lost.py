"""A QMP connection that is lost, at any moment and in any way: what was in flight is unknown, and it is told once."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.support.ears import Ears
from tests.support.qmp_server import GREETING, RUNNING, Drop, Held, QmpServer, Raw, event_line
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown
from whimbrel.qmp_driver.monitor import MAX_IN_FLIGHT, Monitor

GREETING_LINE = json.dumps(GREETING).encode() + b"\n"

BOTH_LOOPS = True  # see conftest.py


async def test_events_are_read_to_the_last_before_the_loss_is_told(
    server: QmpServer, monitor: Monitor, ears: Ears
) -> None:
    """QEMU dies with events unread, and we write before we read: they are delivered, and only then the loss.

    The write fails at once. On a plain asyncio transport that would throw the unread events away.
    """
    server.vanish(event_line("RESUME") + event_line("MIGRATION", {"status": "failed"}))
    with pytest.raises(OutcomeUnknown) as unknown:
        await monitor.execute("query-status")
    assert unknown.value.because == "connection lost"
    await ears.lost.wait()
    assert ears.order == ["RESUME", "MIGRATION", "lost"]
    assert monitor.read_to_end
    assert not monitor.alive


async def test_loss_is_told_exactly_once(server: QmpServer, monitor: Monitor, ears: Ears) -> None:
    server.vanish()
    await ears.lost.wait()
    await monitor.close()
    await monitor.close()
    assert ears.reasons == ["QEMU closed the connection"]


async def test_a_torn_last_message_is_not_the_end(server: QmpServer, monitor: Monitor, ears: Ears) -> None:
    """Half an event may have been the one that matters, so the stream does not count as read to its end."""
    server.vanish(event_line("STOP") + b'{"event": "RES')
    await ears.lost.wait()
    assert ears.order == ["STOP", "lost"]
    assert not monitor.read_to_end


async def test_a_closed_monitor_tells_nothing_any_more(server: QmpServer, monitor: Monitor, ears: Ears) -> None:
    """close() ends what is in flight as unknown, calls nobody back, and can be called again, even at once."""
    server.on("stop", Held(asyncio.Event(), {}))
    in_flight = asyncio.create_task(monitor.execute("stop"))
    await server.until_received("stop")
    server.emit("STOP")
    await asyncio.gather(monitor.close(), monitor.close())
    with pytest.raises(OutcomeUnknown, match="whether stop was carried out is unknown: connection lost"):
        await in_flight
    with pytest.raises(CannotConnect, match="cont was not sent: the connection has ended"):
        await monitor.execute("cont")
    assert ears.order == []
    assert not monitor.alive
    assert not monitor.read_to_end


@pytest.mark.parametrize("last_words", [b"", event_line("SHUTDOWN")], ids=["silent", "event"])
async def test_a_connection_that_drops_instead_of_an_answer(
    server: QmpServer, monitor: Monitor, ears: Ears, last_words: bytes
) -> None:
    """The outcome is unknown, and what was said before is known by the time that this is."""
    server.on("quit", Drop(last_words))
    with pytest.raises(OutcomeUnknown) as unknown:
        await monitor.execute("quit")
    assert (unknown.value.command, unknown.value.because) == ("quit", "connection lost")
    assert len(ears.heard) == (1 if last_words else 0)
    with pytest.raises(CannotConnect, match="query-status was not sent"):
        await monitor.execute("query-status")


async def test_waiting_for_a_place_ends_with_the_connection(server: QmpServer, monitor: Monitor) -> None:
    """Commands that were still waiting when QEMU went are known not to have been sent."""
    server.on("query-status", Held(asyncio.Event(), RUNNING))
    calls = [asyncio.create_task(monitor.execute("query-status")) for _ in range(MAX_IN_FLIGHT + 2)]
    await server.until_received("query-status", MAX_IN_FLIGHT)
    server.vanish()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in ends] == [OutcomeUnknown] * MAX_IN_FLIGHT + [CannotConnect] * 2


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        (Raw(b"\xff\xfe nonsense\n"), "connection lost"),
        (Raw(b"[1, 2]\n"), "connection lost"),
        (Raw(b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n'), "connection lost"),
        (Raw(b'{"id": "__qmp#00000"}\n'), "its answer is no QMP"),
        (Raw(b'{"id": "__qmp#00000", "error": 5}\n'), "its answer is no QMP"),
    ],
)
async def test_garbage_leaves_the_outcome_unknown(
    server: QmpServer, monitor: Monitor, answer: Raw, because: str
) -> None:
    """Whatever comes instead of an answer, the caller learns that nobody knows."""
    server.on("cont", answer)
    with pytest.raises(OutcomeUnknown) as unknown:
        await monitor.execute("cont")
    assert unknown.value.because == because


async def test_garbage_ends_the_connection_with_a_reason(server: QmpServer, monitor: Monitor, ears: Ears) -> None:
    server.send(event_line("STOP") + b"what?\n" + event_line("RESUME"))
    await ears.lost.wait()
    assert ears.order == ["STOP", "lost"]
    assert "something that is no QMP" in ears.reasons[0]
    assert not monitor.read_to_end


@pytest.mark.parametrize("turns", range(8))
async def test_a_loss_at_any_moment_is_one_of_two_errors(server: QmpServer, monitor: Monitor, turns: int) -> None:
    """Sent and unanswered, or known not to be sent: whichever turn of the loop the connection goes in."""
    server.vanish()
    for _ in range(turns):
        await asyncio.sleep(0)
    with pytest.raises((OutcomeUnknown, CannotConnect)) as ended:
        await monitor.execute("cont")
    if isinstance(ended.value, CannotConnect):
        assert str(ended.value) == "source: cont was not sent: the connection has ended"
    assert [each.command for each in server.received] == ["qmp_capabilities"]


async def test_a_loss_callback_that_raises_harms_nothing(server: QmpServer) -> None:
    """What on_lost raises goes to the loop's exception handler, and the monitor can still be closed."""
    reported: list[dict[str, object]] = []
    told = asyncio.Event()

    def keep(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        reported.append(context)
        told.set()

    def clumsy(reason: str) -> None:
        raise ValueError(reason)

    asyncio.get_running_loop().set_exception_handler(keep)
    async with await Monitor.connect(server.address, side="source", on_lost=clumsy):
        server.vanish()
        await told.wait()
    assert [str(each["exception"]) for each in reported] == ["QEMU closed the connection"]


async def accept_by_hand(listener: socket.socket) -> socket.socket:
    """Serve a client up to the end of the handshake, on a bare socket that a test can end as it likes."""
    loop = asyncio.get_running_loop()
    client, _ = await loop.sock_accept(listener)
    client.setblocking(False)
    await loop.sock_sendall(client, GREETING_LINE)
    assert b"qmp_capabilities" in await loop.sock_recv(client, 4096)
    await loop.sock_sendall(client, b'{"return": {}, "id": "__qmp#00000"}\n')
    return client


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
async def test_a_reset_of_the_connection(tmp_path: Path, ears: Ears, family: socket.AddressFamily) -> None:
    """QEMU dies with a command of ours unread, which is a reset and no end of file.

    A UNIX socket hands out first what it holds, so everything was read. TCP may have thrown it away.
    """
    with socket.socket(family) as listener:
        listener.bind(str(tmp_path / "q") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        connecting = asyncio.create_task(
            Monitor.connect(listener.getsockname(), side="source", on_event=ears.on_event, on_lost=ears.on_lost)
        )
        client = await accept_by_hand(listener)
        monitor = await connecting
        lost = asyncio.create_task(monitor.execute("cont"))
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b"{"  # and the rest stays unread
        client.send(event_line("STOP"))
        client.close()
        with pytest.raises(OutcomeUnknown):
            await lost
        await ears.lost.wait()
        assert ears.reasons == ["the connection broke: Connection reset by peer"]
        assert monitor.read_to_end == (family == socket.AF_UNIX)
        assert family == socket.AF_INET or ears.order == ["STOP", "lost"]


async def test_tasks_that_are_cancelled_from_outside_end_the_connection(server: QmpServer, ears: Ears) -> None:
    """The client's reader too, so nothing would ever be heard again: that is told, once."""
    before = asyncio.all_tasks()
    monitor = await Monitor.connect(server.address, side="source", on_event=ears.on_event, on_lost=ears.on_lost)
    await server.until_connected()
    for task in asyncio.all_tasks() - before:
        if "Monitor." in repr(task) or "AsyncProtocol." in repr(task):  # and none of the server's
            task.cancel()
    async with asyncio.timeout(5):
        await ears.lost.wait()
    assert not monitor.alive
    assert not monitor.read_to_end
    await monitor.close()
    assert ears.reasons == ["the event loop's tasks were cancelled"]


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_torn_down_tells_of_the_loss(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """``asyncio.run`` cancels all tasks at its end: whoever still waits for the connection is told in time."""
    path = tmp_path / "q"
    reasons: list[str] = []
    told: list[bool] = []

    async def outlast(monitor: Monitor, lost: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            async with asyncio.timeout(5):
                await lost.wait()
            told.append(not monitor.alive)
            await monitor.close()

    async def main() -> None:
        lost = asyncio.Event()

        def on_lost(reason: str) -> None:
            reasons.append(reason)
            lost.set()

        async with QmpServer(path) as server:
            monitor = await Monitor.connect(server.address, side="source", on_lost=on_lost)
            waiting = asyncio.create_task(outlast(monitor, lost))
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()  # as asyncio.run() does, but while the server's socket is still open
            await waiting

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert reasons == ["the event loop's tasks were cancelled"]
    assert told == [True]


async def test_the_end_of_a_connection_can_be_waited_for(server: QmpServer, monitor: Monitor) -> None:
    """It says whether QEMU's end was closed; a deadline that passes is an error."""
    with pytest.raises(TimeoutError):
        await monitor.wait_end(0.01)
    await server.until_connected()
    server.vanish()
    assert await monitor.wait_end(5)


async def test_a_connection_that_we_closed_was_not_read_to_its_end(monitor: Monitor) -> None:
    await monitor.close()
    assert not await monitor.wait_end(5)
