"""The relay that paces where there is no tc."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from whimbrel.laboratory.relay import BURST_BYTES, AddressProxy, Pacer, paced_relay


def test_a_full_bucket_lets_a_burst_through_and_then_paces() -> None:
    pacer = Pacer(1000, 500, now_s=0)
    assert pacer.delay_s(500, 0) == 0
    assert pacer.delay_s(100, 0) == pytest.approx(0.1)
    assert pacer.delay_s(100, 0.1) == pytest.approx(0.1)


def test_a_bucket_never_holds_more_than_a_burst() -> None:
    pacer = Pacer(1000, 500, now_s=0)
    assert pacer.delay_s(500, 1e6) == 0
    assert pacer.delay_s(1000, 1e6) == pytest.approx(1.0)


def test_over_any_time_no_more_goes_than_rate_and_burst_allow() -> None:
    """Whoever waits as told has sent at most burst + rate × time."""
    pacer, now_s, sent = Pacer(10_000, 2_000, now_s=0), 0.0, 0
    for size in [100, 4000, 1, 999, 2500, 5000] * 5:
        now_s += pacer.delay_s(size, now_s)
        sent += size
        assert sent <= 2_000 + 10_000 * now_s + 1e-6


async def test_the_relay_passes_everything_on_unchanged_and_no_faster_than_paced() -> None:
    data = bytes(range(256)) * (8 * BURST_BYTES // 256)
    rate = 16 << 20
    with paced_relay(rate) as relay, socket.create_server(("127.0.0.1", 0)) as far, ThreadPoolExecutor(1) as pool:
        near = await relay.reach(*far.getsockname())
        began_s = time.monotonic()

        def send() -> None:
            with socket.create_connection(near) as sender:
                sender.sendall(data)

        sending = pool.submit(send)
        connection, _peer = far.accept()
        received = bytearray()
        with connection:
            while piece := connection.recv(1 << 16):
                received += piece
        sending.result()
        assert time.monotonic() - began_s >= (len(data) - BURST_BYTES) / rate
    assert received == data


async def test_the_way_back_is_open() -> None:
    with (
        paced_relay(1 << 20) as relay,
        socket.create_server(("127.0.0.1", 0)) as far,
        socket.create_connection(await relay.reach(*far.getsockname())) as near,
    ):
        connection, _peer = far.accept()
        with connection:
            connection.sendall(b"pong")
            assert near.recv(4) == b"pong"


def test_the_calibration_finds_about_the_rate() -> None:
    """Never more than the rate and what its buffers held back before the measuring began."""
    with paced_relay(8 << 20) as relay:
        assert 0 < relay.goodput_bytes_per_s() < 1.5 * (8 << 20)


async def test_the_proxy_has_the_monitor_say_the_relays_address(short_folder: Path) -> None:
    """And passes everything else on as it is, for one client after the other."""
    answer = {"return": {"status": "setup", "socket-address": [{"type": "inet", "host": "127.0.0.1", "port": "4444"}]}}

    async def qemu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"QMP": {}}\r\n')
        asked = await reader.readline()
        writer.write(json.dumps(answer).encode() + b"\r\n" if b"query-migrate" in asked else asked)
        await writer.drain()
        writer.close()

    async def reach(host: str, port: int) -> tuple[str, int]:
        assert (host, port) == ("127.0.0.1", 4444)
        return "127.0.0.1", 5555

    server = await asyncio.start_unix_server(qemu, short_folder / "q")
    proxy = await AddressProxy.start(short_folder / "q", reach)
    try:
        for asked in (b'{"execute": "query-migrate"}\r\n', b'{"execute": "stop"}\r\n'):
            reader, writer = await asyncio.open_connection(*proxy.address)
            assert await reader.readline() == b'{"QMP": {}}\r\n'
            writer.write(asked)
            line = await reader.readline()
            writer.close()
            if b"query-migrate" in asked:
                assert json.loads(line)["return"]["socket-address"][0]["port"] == "5555"
            else:
                assert line == asked
    finally:
        await proxy.close()
        server.close()
