"""One QMP connection in use: what it promises on the default loop and on uvloop, on a scripted QEMU."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.ears import Ears
from tests.support.qmp_server import RUNNING, Held, Preceded, QmpServer, Refusal, event_line
from whimbrel.engine.errors import BadInput, CannotConnect, OutcomeUnknown, QemuRefused, WhimbrelError
from whimbrel.qmp_driver.monitor import MAX_IN_FLIGHT, Monitor, QmpEvent
from whimbrel.qmp_driver.replies import RunStatus

BOTH_LOOPS = True  # see conftest.py


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


async def test_a_descriptor_is_passed_along(server: QmpServer, monitor: Monitor) -> None:
    """The caller may close its copy at once; the name reaches QEMU with it."""
    server.on("getfd", {})
    reading, writing = os.pipe()
    sending = asyncio.create_task(monitor.send_descriptor("migration", writing))
    await sending
    os.close(writing)
    assert (await server.until_received("getfd")).arguments == {"fdname": "migration"}
    os.close(reading)
