"""What the way to the destination carries: a short TCP probe against a sink, and the sink.

The probe sends for a second at most, and no more than so many bytes, over a connection like the migration's own
(`whimbrel.qmp_driver.stream`). The kernel says how much the other end has acknowledged (``TCP_INFO``): once the buffers
on the way are full that rises as the link carries it. What it says is still on its way (``SIOCOUTQ``) is the depth of
the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import select
import socket
import struct
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Final, NamedTuple

from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.engine.estimate import Estimate

from . import stream

SPAN_S: Final = 1.0
LIMIT_BYTES: Final = 128 << 20
CHUNK_BYTES: Final = 64 << 10
SINK_CHUNK_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 0.002
WARM_UP: Final = 0.35
"""By this part of the probe the buffers are full and the sender's window is open; nothing before it counts."""
PARTS: Final = 8
LEAST_SPREAD: Final = 0.01
HASTY_SPREAD: Final = 0.3
"""Of a bandwidth that is a single slope."""
PIPE_SPREAD: Final = 0.25
"""The kernel goes on to resize its buffers long after a second."""
CONNECT_WITHIN_S: Final = 3.0
ACCEPT_AGAIN_S: Final = 0.05
_SIOCOUTQ: Final = 0x5411
"""``SIOCOUTQ`` in linux/sockios.h: bytes that were not acknowledged yet."""
_INFO: Final = struct.Struct("=8B24I2QQ")
"""``struct tcp_info`` of linux/tcp.h up to ``tcpi_bytes_acked`` (Linux 4.1 and later)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFound:
    """What a probe found.

    Attributes:
        bandwidth_bytes_per_s: what one TCP connection gets through.
        pipe_bytes: what was on its way all the time.
        sent_bytes: what the probe cost the link.
        took_s: how long it took.
    """

    bandwidth_bytes_per_s: Estimate
    pipe_bytes: Estimate
    sent_bytes: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Swallowed:
    """What one sender sent to a sink.

    Attributes:
        sender: its address.
        taken_bytes: what came of it.
        took_s: from its first bytes to its last.
    """

    sender: str
    taken_bytes: int
    took_s: float


class Reading(NamedTuple):
    """What the kernel says of the probe's connection at one moment."""

    at_s: float
    acknowledged_bytes: int
    waiting_bytes: int


async def probe(host: str, port: int, *, span_s: float = SPAN_S, limit_bytes: int = LIMIT_BYTES) -> LinkFound:
    """Send to a sink for a short while.

    Args:
        host: where it listens, name or address.
        port: its port.
        span_s: the longest that it sends, seconds.
        limit_bytes: the most that it sends.

    Raises:
        CannotConnect: nobody listens there.
        WhimbrelError: what listens there takes nothing, or hangs up.

    If cancelled: the connection is reset at once.
    """
    # Connected here and not in the thread: threads may live in another network namespace.
    sock = await stream.connect(host, port, timeout_s=CONNECT_WITHIN_S)
    stop: list[bool] = []
    try:
        # What the probe leaves unsent is dropped, not delivered for minutes by a slow link.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sending = asyncio.ensure_future(asyncio.to_thread(_send, sock, span_s, limit_bytes, stop))
        try:
            readings = await asyncio.shield(sending)
        except asyncio.CancelledError:
            stop.append(True)
            await asyncio.wait((sending,))
            sending.exception()  # seen: nobody asks any more how it went
            raise
        except OSError as error:
            raise WhimbrelError(f"the probe of {host}:{port} broke off: {error.strerror}") from error
    finally:
        sock.close()
    return found_of(readings, f"{host}:{port}")


async def probe_here() -> LinkFound:
    """Probe this host's own way to itself, against a sink of our own; for a destination on the same host.

    Raises:
        CannotConnect, WhimbrelError: as `probe`.
    """
    async with sink("127.0.0.1", 0) as (host, port):
        return await probe(host, port)


@contextlib.asynccontextmanager
async def sink(
    host: str, port: int, on_end: Callable[[Swallowed], None] = lambda _: None
) -> AsyncGenerator[tuple[str, int], None]:
    """Listen and swallow whatever comes, of any number of senders.

    Args:
        host: the address to listen at.
        port: 0: the kernel chooses.
        on_end: called when a sender has gone.

    Yields:
        Where it listens.

    Raises:
        CannotConnect: it can't listen there.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server((host, port), family=found[0][0])
    except OSError as error:
        raise CannotConnect(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
    except UnicodeError as error:  # "a..b", or 64 letters without a dot
        raise CannotConnect(f"cannot listen at {host}:{port}: this is no host name") from error
    listener.setblocking(False)

    async def serve() -> None:
        while True:
            try:
                sender, peer = await loop.sock_accept(listener)
            except OSError:  # no descriptors left, or the sender has gone already: the next one may have more luck
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            task = loop.create_task(_swallow(sender, str(peer[0]), on_end))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    serving = loop.create_task(serve())
    try:
        yield host, listener.getsockname()[1]
    finally:
        for task in (serving, *tasks):
            task.cancel()
        await asyncio.gather(serving, *tasks, return_exceptions=True)
        listener.close()


async def _swallow(sender: socket.socket, peer: str, on_end: Callable[[Swallowed], None]) -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(SINK_CHUNK_BYTES)
    taken, first_s, last_s = 0, 0.0, 0.0
    try:
        while count := await loop.sock_recv_into(sender, buffer):
            last_s = loop.time()
            first_s = first_s or last_s
            taken += count
    except OSError:
        pass  # a probe ends with a reset, so that nothing of it goes on to be sent
    finally:
        sender.close()
    on_end(Swallowed(sender=peer, taken_bytes=taken, took_s=last_s - first_s))


def _send(sock: socket.socket, span_s: float, limit_bytes: int, stop: Sequence[bool]) -> list[Reading]:
    """Send as fast as it goes; how far it has come every few milliseconds."""
    chunk = bytes(CHUNK_BYTES)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    readings: list[Reading] = []
    sent, due_s = 0, 0.0
    ends_s = time.monotonic() + span_s
    while not stop and sent < limit_bytes and (now_s := time.monotonic()) < ends_s:
        if now_s >= due_s:
            readings.append(_read(sock))
            due_s = now_s + LOOK_EVERY_S
        if poll.poll(LOOK_EVERY_S * 1000):
            try:
                sent += sock.send(chunk)
            except BlockingIOError:
                pass  # it was writable a moment ago
    last = _read(sock)
    if len(readings) > 1 and last.at_s - readings[-1].at_s < LOOK_EVERY_S / 2:
        readings.pop()  # next to nothing divided by next to nothing is no rate
    return [*readings, last]


def _read(sock: socket.socket) -> Reading:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    waiting: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), _SIOCOUTQ, bytes(4)))[0]
    return Reading(time.monotonic(), _INFO.unpack(info)[-1], waiting)


def found_of(readings: Sequence[Reading], where: str) -> LinkFound:
    """Bandwidth and depth of the pipe, once both have settled.

    Args:
        readings: of a probe, from its first byte on, at least two.
        where: its other end, for the error.

    Raises:
        WhimbrelError: nothing got through after the buffers were full.
    """
    first, last = readings[0], readings[-1]
    took_s = last.at_s - first.at_s
    settled = [each for each in readings if each.at_s >= first.at_s + WARM_UP * took_s]
    if len(settled) < 3:  # over in a few milliseconds: nothing but all of it tells anything
        settled = list(readings)
    slopes = _slopes(settled)
    if 2 * sum(slope > 0 for slope in slopes) <= len(slopes):  # buffers that still fill take a little now and then
        raise WhimbrelError(f"what listens at {where} took no more than {last.acknowledged_bytes} bytes of the probe")
    mean = (settled[-1].acknowledged_bytes - settled[0].acknowledged_bytes) / (settled[-1].at_s - settled[0].at_s)
    scatter = stdev(slopes) / mean / math.sqrt(len(slopes)) if len(slopes) > 1 else HASTY_SPREAD
    return LinkFound(
        bandwidth_bytes_per_s=Estimate(mean, max(LEAST_SPREAD, scatter), "probed"),
        pipe_bytes=Estimate(fmean(each.waiting_bytes for each in settled), PIPE_SPREAD, "probed"),
        sent_bytes=last.acknowledged_bytes + last.waiting_bytes,
        took_s=took_s,
    )


def _slopes(settled: Sequence[Reading]) -> list[float]:
    """Bytes per second in so many parts."""
    count = min(PARTS, len(settled) - 1)
    ends = [settled[part * (len(settled) - 1) // count] for part in range(count + 1)]
    return [(b.acknowledged_bytes - a.acknowledged_bytes) / (b.at_s - a.at_s) for a, b in pairwise(ends)]
