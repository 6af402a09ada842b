"""The migration's own connection: where it can be made, how it is set, and what a host that is not there gives."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from contextlib import ExitStack

import pytest

from whimbrel.engine.errors import CannotConnect
from whimbrel.qmp_driver.stream import UNSENT_BYTES, connect, in_our_network

BOTH_LOOPS = True


async def test_it_sends_at_once_and_holds_little_back() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        with await connect("127.0.0.1", server.sockets[0].getsockname()[1]) as stream:
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


async def test_nobody_there_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(CannotConnect, match="can't be reached"):
            await connect("127.0.0.1", taken.getsockname()[1])


async def test_a_host_that_does_not_answer_is_given_up_after_the_deadline() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]

        async def crowd() -> None:
            with ExitStack() as held:
                for _ in range(4):  # the kernel takes one or two more than the queue's length
                    held.enter_context(await connect("127.0.0.1", port, timeout_s=0.2))

        with pytest.raises(CannotConnect, match="does not answer"):
            await crowd()


def test_our_own_network_is_recognised() -> None:
    assert in_our_network(os.getpid())
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not in_our_network(ended.pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a network namespace takes root")
def test_another_network_is_recognised() -> None:
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"up\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"up\n"
        assert not in_our_network(process.pid)
        process.stdin.close()
