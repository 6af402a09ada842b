"""Two ends of a real connection, each with a clock of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.link.contract import Channel
from whimbrel.sim.scenario import LinkPlan
from whimbrel.sim.wire.network import ENDED, HELLO, RESET, STRAY, SocketNetwork
from whimbrel.sim.wire.pace import Pace

FAST = LinkPlan(bandwidth_bytes_per_s=1e9, latency_s=0.0, pipe_bytes=1_000_000)


@dataclass
class End:
    """What one side heard."""

    network: SocketNetwork
    channel: Channel | None = None
    heard: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    broken: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, channel: Channel) -> None:
        """It is connected."""
        self.channel = channel
        channel.on_message(self._hear)
        channel.on_broken(self._break)
        self.news.set()

    def fail(self, why: str) -> None:
        """It was not."""
        self.failed.append(why)
        self.news.set()

    def send(self, message: dict[str, object], size_bytes: int = 0) -> None:
        """Say something, from inside the model."""
        channel = self.channel
        assert channel is not None
        self.network.pace.happen(lambda: channel.send(message, size_bytes))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for news until something holds."""
        async with asyncio.timeout(5):
            while not holds():
                self.news.clear()
                await self.news.wait()

    def _hear(self, message: dict[str, object]) -> None:
        self.heard.append(message)
        self.news.set()

    def _break(self, why: str) -> None:
        self.broken.append(why)
        self.news.set()


def end(plan: LinkPlan = FAST, speed: float = 1) -> End:
    """A side that is connected to nothing."""
    return End(SocketNetwork(Pace(Clock(), speed), plan, 1))


@pytest.fixture
async def sides() -> AsyncGenerator[tuple[End, End], None]:
    """Two sides."""
    both = end(), end()
    yield both
    for each in both:
        each.network.close()
        each.network.pace.close()


async def meet(near: End, far: End, uri: str = "tcp:127.0.0.1:0") -> None:
    """Connect them."""
    address = far.network.listen(uri, far.take)
    where = uri if uri.startswith("unix") else f"tcp:127.0.0.1:{address['port']}"
    near.network.connect(where, near.take, near.fail)
    await near.until(lambda: near.channel is not None)
    await far.until(lambda: far.channel is not None)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_messages_go_both_ways_in_order(sides: tuple[End, End], kind: str, short_folder: Path) -> None:
    """What means something in one process only stays there."""
    near, far = sides
    await meet(near, far, "tcp:127.0.0.1:0" if kind == "tcp" else f"unix:{short_folder}/m")
    for number in range(20):
        near.send({"number": number, "memory": object()}, 1000)
    far.send({"answer": [1, "é", None]})
    await far.until(lambda: len(far.heard) == 20)
    await near.until(lambda: bool(near.heard))
    assert far.heard == [{"number": number} for number in range(20)]
    assert near.heard == [{"answer": [1, "é", None]}]


async def test_a_message_waits_for_the_modelled_pipe() -> None:
    """10 MB at 100 MB/s are 100 ms of virtual time, here a hundredth of that; the socket itself carries a line."""
    plan = LinkPlan(bandwidth_bytes_per_s=1e8, latency_s=0.01, pipe_bytes=1_000_000)
    near, far = end(plan, speed=100), end(plan, speed=100)
    await meet(near, far)
    clock = near.network.pace.clock
    began_ns = 0

    def put() -> None:
        nonlocal began_ns
        began_ns = clock.now_ns
        assert near.channel is not None
        near.channel.stream.push(clock.now_ns, 10_000_000, 1e10)
        near.channel.send({"last": True}, 1000)

    near.network.pace.happen(put)
    await far.until(lambda: bool(far.heard))
    assert clock.now_ns - began_ns >= 0.11 * SECOND_NS
    for each in (near, far):
        each.network.close()
        each.network.pace.close()


async def test_an_end_in_order_is_told_as_such(sides: tuple[End, End]) -> None:
    """Behind everything that was said."""
    near, far = sides
    await meet(near, far)
    near.send({"number": 1})
    channel = near.channel
    assert channel is not None
    near.network.pace.happen(channel.close)
    await far.until(lambda: bool(far.broken))
    assert far.heard == [{"number": 1}]
    assert far.broken == [ENDED]
    assert near.broken == []


@pytest.mark.parametrize("how", ["reset", "killed"])
async def test_an_end_in_disorder_is_a_reset(sides: tuple[End, End], how: str) -> None:
    """A killed process says no goodbye."""
    near, far = sides
    await meet(near, far)
    near.send({"number": 1})
    await far.until(lambda: bool(far.heard))
    channel = near.channel
    assert channel is not None
    if how == "reset":
        near.network.pace.happen(channel.reset)
    else:
        near.network.close()
    await far.until(lambda: bool(far.broken))
    assert far.broken == [RESET]
    assert channel.stream.broken is (how == "reset")


async def test_nobody_listens(sides: tuple[End, End]) -> None:
    """In the kernel's words."""
    near, far = sides
    port = far.network.listen("tcp:127.0.0.1:0", far.take)["port"]
    far.network.withdraw(f"tcp:127.0.0.1:{port}")
    near.network.connect(f"tcp:127.0.0.1:{port}", near.take, near.fail)
    await near.until(lambda: bool(near.failed))
    assert near.failed == ["Connection refused"]


async def test_a_place_that_is_taken(sides: tuple[End, End]) -> None:
    """In the kernel's words."""
    near, far = sides
    port = far.network.listen("tcp:127.0.0.1:0", far.take)["port"]
    with pytest.raises(OSError, match=r"^Address already in use$"):
        near.network.listen(f"tcp:127.0.0.1:{port}", near.take)


async def test_a_stranger_is_no_migration(sides: tuple[End, End]) -> None:
    """QEMU's destination is used up by it."""
    _, far = sides
    port = far.network.listen("tcp:127.0.0.1:0", far.take)["port"]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(str(port)))
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await far.until(lambda: bool(far.broken))
    assert far.broken == [STRAY]
    writer.close()
    await reader.read()


async def test_a_connected_descriptor_is_taken(sides: tuple[End, End]) -> None:
    """As the manager passes one to the source."""
    near, far = sides
    port = far.network.listen("tcp:127.0.0.1:0", far.take)["port"]
    with socket.create_connection(("127.0.0.1", int(str(port)))) as ours:
        near.network.connect(f"fd:{os.dup(ours.fileno())}", near.take, near.fail)
    await near.until(lambda: near.channel is not None)
    near.send({"number": 1})
    await far.until(lambda: bool(far.heard))
    assert far.heard == [{"number": 1}]


async def test_a_frozen_peer_clogs_the_pipe_and_a_thawed_one_frees_it(sides: tuple[End, End]) -> None:
    """A process that is stopped answers nobody; its socket stands."""
    near, far = sides
    port = far.network.listen("tcp:127.0.0.1:0", far.take)["port"]
    near.network.connect(f"tcp:127.0.0.1:{port}", near.take, near.fail)
    await near.until(lambda: near.channel is not None)
    await far.until(lambda: far.channel is not None)
    assert near.channel is not None
    assert far.channel is not None
    near.send({"number": 0}, 1000)
    await far.until(lambda: bool(far.heard))
    changed = asyncio.Event()
    near.channel.stream.on_change(changed.set)
    far.channel.hold(True)
    async with asyncio.timeout(5):
        while near.channel.stream.rate_bytes_per_s(near.network.pace.clock.now_ns) > 0:
            changed.clear()
            await changed.wait()
    near.send({"number": 1}, 1000)
    far.channel.hold(False)
    await far.until(lambda: len(far.heard) == 2)
    assert near.channel.stream.rate_bytes_per_s(near.network.pace.clock.now_ns) > 0


async def test_the_first_message_is_waited_for(sides: tuple[End, End]) -> None:
    """What is behind it does not move before it was read: whoever refuses it does so in time."""
    near, far = sides
    await meet(near, far)
    assert near.channel is not None
    rates: list[float] = []
    stream, clock = near.channel.stream, near.network.pace.clock
    stream.on_change(lambda: rates.append(stream.rate_bytes_per_s(clock.now_ns)))
    near.send({"number": 1}, 1000)
    near.send({"number": 2}, 1000)
    await far.until(lambda: len(far.heard) == 2)
    assert rates[:2] == [0.0, FAST.bandwidth_bytes_per_s]


async def test_what_arrives_before_anybody_listens_is_kept(sides: tuple[End, End]) -> None:
    """Both ends of a connection are not made at one moment."""
    near, far = sides
    taken: list[Channel] = []
    port = far.network.listen("tcp:127.0.0.1:0", taken.append)["port"]
    near.network.connect(f"tcp:127.0.0.1:{port}", near.take, near.fail)
    await near.until(lambda: near.channel is not None)
    near.send({"number": 1})
    assert near.channel is not None
    near.network.pace.happen(near.channel.close)
    while not taken:
        await asyncio.sleep(0)
    far.take(taken[0])
    await far.until(lambda: bool(far.heard))
    assert far.heard == [{"number": 1}]


def test_what_both_say_first() -> None:
    """One line, so that it comes whole or not at all."""
    assert HELLO.count(b"\n") == 1
