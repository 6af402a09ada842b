"""The protocol client: what it changes in ``qemu.qmp``'s, and why that matters."""

from __future__ import annotations

import logging
import socket

import pytest
from qemu.qmp import Message, Runstate

from tests.support.qmp_server import event_line
from whimbrel.engine.errors import BadInput
from whimbrel.qmp_driver.client import DESCRIPTOR, Client, encode
from whimbrel.qmp_driver.sockets import Outlet

BOTH_LOOPS = True  # see conftest.py


async def connected(heard: list[str]) -> tuple[Client, socket.socket]:
    """Connect a client to a socket of ours, handshake done; ``heard`` gets the names of its events."""

    def hear(event: Message) -> bool:
        heard.append(str(event["event"]))
        return False

    client = Client(hear)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    client.outlet = Outlet(ours.dup())
    theirs.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n{"return": {}}\n')
    await client.connect(ours)
    return client, theirs


async def test_a_failed_write_does_not_cost_the_unread_events() -> None:
    """QEMU dies with events unread and we write before we read: every event is heard, then comes the end.

    This is what the outlet is for. On the library's own transport the write's failure discards them.
    """
    heard: list[str] = []
    client, theirs = await connected(heard)
    theirs.sendall(event_line("RESUME") + event_line("MIGRATION"))
    theirs.close()
    client._do_send(Message({"execute": "query-status"}))  # pyright: ignore[reportPrivateUsage]
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()
    with pytest.raises((EOFError, ConnectionResetError)):
        await client.disconnect()
    assert heard == ["RESUME", "MIGRATION"]
    assert client.outlet is not None
    client.outlet.close()


async def test_a_descriptor_is_not_written_out() -> None:
    """It rides on the message as far as the socket, beside the text and not in it."""
    client, theirs = await connected([])
    assert theirs.recv(4096).startswith(b'{"execute":"qmp_capabilities"')
    message = Message({"execute": "getfd"})
    message[DESCRIPTOR] = theirs.fileno()
    client._do_send(message)  # pyright: ignore[reportPrivateUsage]
    data, descriptors, _, _ = socket.recv_fds(theirs, 4096, 1)
    assert data == b'{"execute":"getfd"}'
    assert len(descriptors) == 1
    socket.close(descriptors[0])
    await client.disconnect()
    assert client.outlet is not None
    client.outlet.close()
    theirs.close()


async def test_the_library_logs_nothing_that_a_caller_gets_as_an_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection that ends is told by exceptions, once, and not in the log of an application too."""
    client, theirs = await connected([])
    theirs.close()
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()
    with pytest.raises((EOFError, ConnectionResetError)):
        await client.disconnect()
    assert client.outlet is not None
    client.outlet.close()
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


def test_a_command_is_encoded_as_qmp_has_it() -> None:
    assert dict(encode("stop", None, oob=False)) == {"execute": "stop"}
    assert dict(encode("cont", {}, oob=False)) == {"execute": "cont", "arguments": {}}
    assert dict(encode("yank", {"instances": []}, oob=True)) == {"exec-oob": "yank", "arguments": {"instances": []}}


def test_arguments_are_copied() -> None:
    """A caller may change its own after the call, while the message still waits to be written."""
    arguments = {"uri": "tcp:a:1"}
    message = encode("migrate", arguments, oob=False)
    arguments["uri"] = "tcp:b:2"
    assert message["arguments"] == {"uri": "tcp:a:1"}


@pytest.mark.parametrize("bad", [float("inf"), b"bytes", "\ud800"])
def test_what_json_cannot_say_names_the_command(bad: object) -> None:
    with pytest.raises(BadInput, match="arguments of x"):
        encode("x", {"y": [bad]}, oob=False)
