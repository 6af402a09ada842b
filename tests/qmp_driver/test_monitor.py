"""One QMP connection: what it promises on the default loop and on uvloop, scripted and on a real QEMU."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from tests.support.qmp_server import GREETING, Drop, Held, Preceded, QmpServer, Raw, Refusal, event_line
from whimbrel.engine.errors import BadInput, CannotConnect, OutcomeUnknown, QemuRefused, WhimbrelError
from whimbrel.qmp_driver.monitor import MAX_IN_FLIGHT, Monitor, QmpEvent
from whimbrel.qmp_driver.processes import QemuProcess
from whimbrel.qmp_driver.replies import RunStatus

RUNNING = {"status": "running", "running": True}
GREETING_LINE = json.dumps(GREETING).encode() + b"\n"
BOTH_LOOPS = True  # see conftest.py


class Ears:
    """Keeps what a monitor says, in order; ``lost`` is set when it says that the connection went."""

    def __init__(self) -> None:
        self.heard: list[QmpEvent] = []
        self.reasons: list[str] = []
        self.order: list[str] = []
        self.lost = asyncio.Event()
        self.news = asyncio.Event()

    def on_event(self, event: QmpEvent) -> None:
        self.heard.append(event)
        self.order.append(event.name)
        self.news.set()

    def on_lost(self, reason: str) -> None:
        self.reasons.append(reason)
        self.order.append("lost")
        self.lost.set()

    async def until_heard(self, name: str) -> None:
        while name not in self.order:
            self.news.clear()
            await self.news.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[QmpServer]:
    async with QmpServer(tmp_path / "q") as server:
        server.on("query-status", RUNNING)
        yield server


@pytest.fixture
async def ears() -> Ears:
    return Ears()


@pytest.fixture
async def monitor(server: QmpServer, ears: Ears) -> AsyncIterator[Monitor]:
    monitor = await Monitor.connect(server.address, side="source", on_event=ears.on_event, on_lost=ears.on_lost)
    async with monitor:
        yield monitor


async def test_connecting_reads_the_greeting(server: QmpServer, monitor: Monitor) -> None:
    """The version and the process at the other end are known once connected, and oob was asked for."""
    assert monitor.version == (7, 2, 22)
    assert monitor.package == "scripted"
    assert monitor.peer_pid == os.getpid()
    assert monitor.alive
    assert not monitor.read_to_end
    handshake = await server.until_received("qmp_capabilities")
    assert handshake.arguments == {"enable": ["oob"]}


async def test_tcp_works_too_and_knows_no_peer(ears: Ears) -> None:
    async with QmpServer(None) as server:
        server.on("query-status", RUNNING)
        async with await Monitor.connect(server.address, side="source") as monitor:
            assert await monitor.execute("query-status") == RUNNING
            assert monitor.peer_pid is None
            with pytest.raises(CannotConnect, match="only be passed over a UNIX socket"):
                await monitor.send_descriptor("x", 0)


async def test_an_answer_comes_back_as_it_is_or_as_a_record(monitor: Monitor) -> None:
    assert await monitor.execute("query-status") == RUNNING
    assert await monitor.call(RunStatus, "query-status") == RunStatus("running", True)


async def test_an_answer_that_does_not_fit_its_record_is_named(server: QmpServer, monitor: Monitor) -> None:
    server.on("query-status", {"status": 5})
    with pytest.raises(WhimbrelError, match="source: the answer to query-status is not what QEMU documents"):
        await monitor.call(RunStatus, "query-status")


async def test_a_refusal_carries_qemus_words(server: QmpServer, monitor: Monitor) -> None:
    server.on("migrate", Refusal("There's a migration process in progress"))
    with pytest.raises(QemuRefused) as refused:
        await monitor.execute("migrate", {"uri": "tcp:h:1"})
    assert refused.value.command == "migrate"
    assert refused.value.error_class == "GenericError"
    assert refused.value.description == "There's a migration process in progress"
    assert refused.value.side == "source"
    assert await monitor.execute("query-status") == RUNNING


@pytest.mark.parametrize("bad", [float("nan"), object(), "\udce9", {1, 2}])
async def test_what_json_cannot_say_is_refused_before_it_is_sent(
    server: QmpServer, monitor: Monitor, bad: object
) -> None:
    """QEMU would answer it with an error without an id, which ends a session."""
    with pytest.raises(BadInput, match="arguments of device_add"):
        await monitor.execute("device_add", {"driver": bad})
    assert await monitor.execute("query-status") == RUNNING
    assert [each.command for each in server.received] == ["qmp_capabilities", "query-status"]


async def test_events_arrive_in_order_and_are_not_kept(server: QmpServer, monitor: Monitor, ears: Ears) -> None:
    """The callback gets every event once, before the answer that was sent after it; the library stores none."""
    server.on("stop", Preceded(event_line("STOP"), {}))
    server.emit("MIGRATION", {"status": "active"})
    await monitor.execute("stop")
    assert ears.order == ["MIGRATION", "STOP"]
    first = ears.heard[0]
    assert (first.data, first.timestamp_s) == ({"status": "active"}, 1_700_000_000.25)
    assert ears.heard[1].data == {}
    assert 0 < first.received_ns <= ears.heard[1].received_ns
    listener = monitor._client.events  # pyright: ignore[reportPrivateUsage]
    assert listener.empty()
    assert listener.history == ()


async def test_an_event_within_the_handshake_is_heard(tmp_path: Path, ears: Ears) -> None:
    """QEMU may send an event between qmp_capabilities and its answer; the session begins all the same."""
    async with QmpServer(tmp_path / "q") as server:
        server.on("qmp_capabilities", Preceded(event_line("RESUME"), {}))
        async with await Monitor.connect(server.address, side="source", on_event=ears.on_event):
            assert ears.order == ["RESUME"]


async def test_a_callback_that_raises_harms_nothing(server: QmpServer) -> None:
    """What on_event raises goes to the loop's exception handler; the connection and later events go on."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    names: list[str] = []

    def clumsy(event: QmpEvent) -> None:
        names.append(event.name)
        raise ValueError(event.name)

    async with await Monitor.connect(server.address, side="source", on_event=clumsy) as monitor:
        server.send(event_line("A") + event_line("B") + b'{"event": 7}\r\n')
        assert await monitor.execute("query-status") == RUNNING
    assert names == ["A", "B"]
    assert [type(each["exception"]) for each in reported] == [ValueError, ValueError, WhimbrelError]


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


async def test_no_answer_in_time_is_an_unknown_outcome(server: QmpServer, monitor: Monitor) -> None:
    """The deadline passes, the connection stays usable, and the late answer goes to nobody else."""
    gate = asyncio.Event()
    server.on("cont", Held(gate, {"late": True}))
    with pytest.raises(OutcomeUnknown) as unknown:
        await monitor.execute("cont", timeout_s=0.05)
    assert (unknown.value.command, unknown.value.because) == ("cont", "no answer within 0.05 s")
    gate.set()
    assert await monitor.execute("query-status") == RUNNING


async def test_a_cancelled_call_leaves_the_connection_usable(server: QmpServer, monitor: Monitor) -> None:
    gate = asyncio.Event()
    server.on("cont", Held(gate, Refusal("late, and a refusal")))
    call = asyncio.create_task(monitor.execute("cont"))
    await server.until_received("cont")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    assert await monitor.execute("query-status") == RUNNING


async def test_abandoned_commands_keep_their_place(server: QmpServer, monitor: Monitor) -> None:
    """A QEMU that hangs gets MAX_IN_FLIGHT commands and no more; the next is known not to have been sent.

    An out-of-band command overtakes them all.
    """
    gate = asyncio.Event()
    server.on("query-status", Held(gate, RUNNING))
    server.on("yank", {})
    hung = await asyncio.gather(
        *(monitor.execute("query-status", timeout_s=0.05) for _ in range(MAX_IN_FLIGHT)), return_exceptions=True
    )
    assert [type(each) for each in hung] == [OutcomeUnknown] * MAX_IN_FLIGHT
    with pytest.raises(CannotConnect, match="migrate-continue was not sent: the monitor left every earlier"):
        await monitor.execute("migrate-continue", timeout_s=0.05)
    assert await monitor.execute("yank", {"instances": []}, oob=True) == {}
    gate.set()
    assert await monitor.execute("query-status") == RUNNING
    assert "migrate-continue" not in {each.command for each in server.received}
    assert [each.command for each in server.received if each.oob] == ["yank"]


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


async def test_no_such_socket(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match=r"^destination: cannot connect to .*/q: there is no such socket$"):
        await Monitor.connect(tmp_path / "q", side="destination")


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match=r"path is 108 bytes long, and 107 is the most"):
        await Monitor.connect("/" + "x" * 107, side="source")


async def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("")
    with pytest.raises(CannotConnect, match="this is not a socket"):
        await Monitor.connect(tmp_path / "q", side="source")


async def test_a_socket_that_was_left_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "q"))
        left.listen()
    with pytest.raises(CannotConnect, match="nobody listens at this socket: the process that made it has ended"):
        await Monitor.connect(tmp_path / "q", side="source")


async def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotConnect, match="Not a directory"):
        await Monitor.connect(tmp_path / "file" / "q", side="source")


async def test_a_path_with_a_zero_byte() -> None:
    with pytest.raises(CannotConnect, match="a path holds no zero bytes"):
        await Monitor.connect("/tmp/a\0b", side="source")


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [("a..b", 4444, "this is no host name"), ("127.0.0.1", 0, "ports go from"), ("127.0.0.1", 65536, "ports go from")],
)
async def test_what_is_no_tcp_address(host: str, port: int, reason: str) -> None:
    with pytest.raises(CannotConnect, match=reason):
        await Monitor.connect((host, port), side="source")


async def test_a_host_that_does_not_answer() -> None:
    """The kernel drops what does not fit into a listener's queue, as a dead host would: the deadline ends it."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        with pytest.raises(CannotConnect, match=r"cannot connect to 127\.0\.0\.1:\d+: no answer within 0\.05 s"):
            await Monitor.connect(listener.getsockname(), side="source", timeout_s=0.05)


async def test_a_datagram_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "q"))
        with pytest.raises(CannotConnect, match="a socket of another kind"):
            await Monitor.connect(tmp_path / "q", side="source")


async def test_a_refused_tcp_connection() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(CannotConnect, match=r"connect to 127\.0\.0\.1:\d+: connection refused"):
            await Monitor.connect(unheard.getsockname(), side="source")


@pytest.mark.parametrize(
    "greeting",
    [
        b"QEMU 7.2.22 monitor - type 'help' for more information\r\n",
        b"\x00\xff\x00\n",
        b"{}\n",
        b'{"QMP": 7}\n',
        b"[]\n",
    ],
)
async def test_what_is_no_qmp_monitor_is_told_as_such(tmp_path: Path, greeting: bytes) -> None:
    async with QmpServer(tmp_path / "q", greeting=greeting) as server:
        with pytest.raises(CannotConnect, match="what answers there is not a QMP monitor"):
            await Monitor.connect(server.address, side="source")


async def test_a_greeting_without_a_version(tmp_path: Path) -> None:
    greeting = b'{"QMP": {"version": {}, "capabilities": []}}\n'
    async with QmpServer(tmp_path / "q", greeting=greeting) as server:
        with pytest.raises(CannotConnect, match="names no QEMU version"):
            await Monitor.connect(server.address, side="source")


async def test_a_handshake_that_is_refused(tmp_path: Path) -> None:
    async with QmpServer(tmp_path / "q") as server:
        server.on("qmp_capabilities", Refusal("no"))
        with pytest.raises(CannotConnect, match="the handshake failed"):
            await Monitor.connect(server.address, side="source")


async def test_a_monitor_that_dies_while_we_connect(tmp_path: Path) -> None:
    async with QmpServer(tmp_path / "q") as server:
        server.on("qmp_capabilities", Drop())
        with pytest.raises(CannotConnect, match="the connection ended before the QMP session began"):
            await Monitor.connect(server.address, side="source")


async def test_a_monitor_that_another_client_holds(server: QmpServer, monitor: Monitor) -> None:
    """The kernel connects us, QEMU does not greet: the error says who is to blame. The holder is not disturbed."""
    with pytest.raises(CannotConnect, match=r"sent no QMP greeting within 0\.05 s: another client holds this monitor"):
        await Monitor.connect(server.address, side="source", timeout_s=0.05)
    assert await monitor.execute("query-status") == RUNNING


async def test_a_queue_of_clients_that_is_full_is_told_at_once(tmp_path: Path) -> None:
    """Nobody accepts, and those who may wait already do: connecting fails without waiting."""
    waiting: list[socket.socket] = []
    async with QmpServer(tmp_path / "q", serve=False):
        try:
            for _ in range(2):  # listen(1) lets two wait
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].connect(str(tmp_path / "q"))
            with pytest.raises(CannotConnect, match="another client holds this monitor, and more are waiting"):
                await Monitor.connect(tmp_path / "q", side="source")
        finally:
            for each in waiting:
                each.close()


async def test_connecting_can_be_cancelled(tmp_path: Path) -> None:
    """Nothing is left open: the server sees the end of the connection, and the next client is served."""
    async with QmpServer(tmp_path / "q", greeting=b" ") as server:
        connecting = asyncio.create_task(Monitor.connect(server.address, side="source"))
        await server.until_connected()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await server.until_disconnected()


async def test_a_descriptor_is_passed_along(server: QmpServer, monitor: Monitor) -> None:
    """The caller may close its copy at once; the name reaches QEMU with it."""
    server.on("getfd", {})
    reading, writing = os.pipe()
    sending = asyncio.create_task(monitor.send_descriptor("migration", writing))
    await sending
    os.close(writing)
    assert (await server.until_received("getfd")).arguments == {"fdname": "migration"}
    os.close(reading)


async def boot(tmp_path: Path, *arguments: str) -> QemuProcess:
    """Start a QEMU without a machine, and wait until its monitor's socket is there."""
    path = tmp_path / "qmp"
    argv = ["qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults"]
    argv += ["-qmp", f"unix:{path},server=on,wait=off", *arguments]
    process = await QemuProcess.spawn(argv, stderr_path=tmp_path / "stderr")
    while not process.exited:
        try:
            async with await Monitor.connect(path, side="source"):
                return process
        except CannotConnect:
            await asyncio.sleep(0)  # not listening yet
    raise AssertionError(process.stderr_tail())


async def test_real_qemu_from_greeting_to_quit(tmp_path: Path, ears: Ears) -> None:
    """Version, peer, an answer, a refusal, a descriptor, and events up to the very end of a real QEMU."""
    process = await boot(tmp_path)
    try:
        path = tmp_path / "qmp"
        monitor = await Monitor.connect(path, side="source", on_event=ears.on_event, on_lost=ears.on_lost)
        assert monitor.version >= (6, 2, 0)
        assert monitor.peer_pid == process.pid
        assert await monitor.call(RunStatus, "query-status") == RunStatus("running", True)
        with pytest.raises(QemuRefused) as refused:
            await monitor.execute("no-such-command")
        assert refused.value.error_class == "CommandNotFound"
        reading, writing = os.pipe()
        await monitor.send_descriptor("pipe", writing)
        os.close(writing)
        await monitor.execute("closefd", {"fdname": "pipe"})
        assert await asyncio.to_thread(os.read, reading, 1) == b""  # QEMU held the only other end, and closed it
        os.close(reading)
        await monitor.execute("quit")
        await ears.lost.wait()
        assert ears.order == ["SHUTDOWN", "lost"]
        assert monitor.read_to_end
        assert await process.wait_exit(10) == 0
        await monitor.close()
    finally:
        await process.kill()


async def test_a_real_qemu_that_is_killed_mid_command(tmp_path: Path, ears: Ears) -> None:
    """Killed with commands in flight: every outcome is known or unknown, never wrong, and the loss is told."""
    process = await boot(tmp_path)
    try:
        monitor = await Monitor.connect(tmp_path / "qmp", side="source", on_lost=ears.on_lost)
        calls = [asyncio.create_task(monitor.execute("query-qmp-schema")) for _ in range(12)]
        await calls[0]
        await process.kill()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ends} <= {list, OutcomeUnknown, CannotConnect}
        assert type(ends[-1]) is not list
        await ears.lost.wait()
        await monitor.close()
    finally:
        await process.kill()


async def test_a_second_client_of_a_real_monitor(tmp_path: Path) -> None:
    """QEMU greets the first only; when that one leaves, a new one is served."""
    process = await boot(tmp_path)
    try:
        async with await Monitor.connect(tmp_path / "qmp", side="source"):
            with pytest.raises(CannotConnect, match="another client holds this monitor"):
                await Monitor.connect(tmp_path / "qmp", side="source", timeout_s=0.2)
        async with await Monitor.connect(tmp_path / "qmp", side="source") as monitor:
            assert (await monitor.call(RunStatus, "query-status")).running
    finally:
        await process.kill()


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
