"""Probes of links, and the sink at their other end: on this host's own way to itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.qmp_driver.link_probe import (
    CHUNK_BYTES,
    HASTY_SPREAD,
    LEAST_SPREAD,
    Reading,
    Swallowed,
    found_of,
    probe,
    probe_here,
    sink,
)

BOTH_LOOPS = True
MIB = 1 << 20


# ---- what readings say


def readings(bytes_per_s: float, span_s: float, burst_bytes: float = 0.0) -> list[Reading]:
    """A link that first swallows a burst into its buffers and then carries so much; 200 kB are under way."""
    times = [at / 200 * span_s for at in range(201)]
    return [Reading(at_s, round(burst_bytes * min(1, 10 * at_s) + bytes_per_s * at_s), 200_000) for at_s in times]


def test_the_slope_counts_once_buffers_are_full() -> None:
    found = found_of(readings(1e8, 1.0, burst_bytes=4e6), "x:1")
    assert found.bandwidth_bytes_per_s.value == pytest.approx(1e8, rel=1e-6)
    assert found.bandwidth_bytes_per_s.spread == LEAST_SPREAD
    assert found.bandwidth_bytes_per_s.source == "probed"
    assert found.pipe_bytes.value == 200_000
    assert found.took_s == pytest.approx(1.0)
    assert found.sent_bytes == 104_000_000 + 200_000


def test_a_link_that_wavers_is_less_sure() -> None:
    steady = readings(1e8, 1.0)
    wavering = [
        each._replace(acknowledged_bytes=each.acknowledged_bytes + (3_000_000 if int(each.at_s * 16) % 2 else 0))
        for each in steady
    ]
    assert found_of(wavering, "x:1").bandwidth_bytes_per_s.spread > 2 * LEAST_SPREAD


def test_a_probe_that_was_over_at_once_has_one_slope_and_doubts_it() -> None:
    found = found_of([Reading(0.0, 0, 0), Reading(0.01, MIB, 0)], "x:1")
    assert found.bandwidth_bytes_per_s.value == pytest.approx(100 * MIB)
    assert found.bandwidth_bytes_per_s.spread == HASTY_SPREAD


@pytest.mark.parametrize("drops", [0, 1000])
def test_nothing_more_acknowledged_is_no_bandwidth(drops: int) -> None:
    """Nor is what drops into the receiver's buffers while they still grow."""
    stuck = [Reading(at / 100, 70_000 - drops * max(0, 60 - at), 300_000) for at in range(101)]
    with pytest.raises(WhimbrelError, match="what listens at x:1 took no more than 70000 bytes"):
        found_of(stuck, "x:1")


# ---- probes


async def test_a_probe_is_bounded_in_bytes() -> None:
    ended: asyncio.Queue[Swallowed] = asyncio.Queue()
    async with sink("127.0.0.1", 0, ended.put_nowait) as (host, port):
        found = await probe(host, port, span_s=5.0, limit_bytes=8 * MIB)
        swallowed = await ended.get()
    assert found.sent_bytes <= 8 * MIB + CHUNK_BYTES
    assert found.bandwidth_bytes_per_s.value > 10 * MIB
    assert found.took_s < 5.0
    assert swallowed.sender == "127.0.0.1"
    assert 0 < swallowed.taken_bytes <= 8 * MIB + CHUNK_BYTES


async def test_a_probe_is_bounded_in_time() -> None:
    async with sink("127.0.0.1", 0) as (host, port):
        found = await probe(host, port, span_s=0.05, limit_bytes=1 << 40)
    assert 0.04 < found.took_s < 1.0


async def test_this_hosts_way_to_itself() -> None:
    found = await probe_here()
    assert found.bandwidth_bytes_per_s.value > 10 * MIB


@contextmanager
def idle_listener() -> Generator[tuple[str, int]]:
    """It takes connections and reads nothing of them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "127.0.0.1", listener.getsockname()[1]


async def test_what_takes_nothing_is_no_sink() -> None:
    """The kernel fills its buffers, and that is all: no rate comes of it."""
    with idle_listener() as (host, port), pytest.raises(WhimbrelError, match="took no more than"):
        await probe(host, port, span_s=0.3)


async def test_what_hangs_up_is_no_sink() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.transport.abort(), "127.0.0.1", 0)
    async with server:
        with pytest.raises(WhimbrelError, match=r"broke off: (Connection reset by peer|Broken pipe)"):
            await probe("127.0.0.1", server.sockets[0].getsockname()[1], span_s=5.0)


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(CannotConnect, match="can't be reached"):
            await probe("127.0.0.1", taken.getsockname()[1])


async def test_a_probe_that_is_called_off_stops_sending() -> None:
    began, gone = asyncio.Event(), asyncio.Event()
    swallowed: list[Swallowed] = []

    def note(one: Swallowed) -> None:
        swallowed.append(one)
        gone.set()

    async def probing(host: str, port: int) -> None:
        asyncio.get_running_loop().call_later(0.05, began.set)
        await probe(host, port, span_s=30.0, limit_bytes=1 << 40)

    async with sink("127.0.0.1", 0, note) as (host, port), asyncio.timeout(5):
        task = asyncio.create_task(probing(host, port))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()  # long before the half minute that it was to send for
    assert [one.took_s < 5 for one in swallowed] == [True]


# ---- the sink


async def test_a_sink_that_can_not_listen_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotConnect, match=f"cannot listen at 127.0.0.1:{port}: Address already in use"):
            async with sink("127.0.0.1", port):
                pass
    with pytest.raises(CannotConnect, match="cannot listen at no such host:1"):
        async with sink("no such host", 1):
            pass


@pytest.mark.parametrize("name", ["a..b", "ä" * 70])
async def test_what_is_no_hosts_name_is_told_on_both_ends(name: str) -> None:
    with pytest.raises(CannotConnect, match="cannot listen at"):
        async with sink(name, 0):
            pass
    with pytest.raises(CannotConnect, match="can't be reached"):
        await probe(name, 7777)


async def test_a_sink_serves_several_and_ends_with_those_still_there() -> None:
    ended: list[Swallowed] = []
    async with sink("127.0.0.1", 0, ended.append) as (host, port):
        _, first = await asyncio.open_connection(host, port)
        _, second = await asyncio.open_connection(host, port)
        for writer in (first, second):
            writer.write(bytes(1000))
            await writer.drain()
        first.close()
        await first.wait_closed()
        while not ended:
            await asyncio.sleep(0)  # the sink is another task of this loop
    assert [each.taken_bytes for each in ended] == [1000]
    second.close()
