"""What the link carries and what its pipe holds, by a TCP stream of our own that is made as the migration's is."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import statistics
import struct
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from whimbrel.laboratory.link import Link
from whimbrel.qmp_driver.stream import UNSENT_BYTES

SETTLE_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.005
_WRITE_BYTES: Final = 32 * (4096 + 8)
"""QEMU hands over 64 pieces at a time (``MAX_IOV_SIZE``, migration/qemu-file.c): 32 pages with their headers."""
_READ_BYTES: Final = 32768
"""``IO_BUF_SIZE``, migration/qemu-file.c: what the destination reads at a time."""
_SIOCOUTQ: Final = termios.TIOCOUTQ
"""Bytes that the other end has not acknowledged, tcp(7)."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found.

    Attributes:
        goodput_bytes_per_s: payload of one stream.
        pipe_bytes: handed to the kernel and not yet read at the other end, while the stream is full; the median.
    """

    goodput_bytes_per_s: float
    pipe_bytes: int


def probe(link: Link, seconds: float = 2.0) -> Probed:
    """Fill the link for a while.

    Args:
        link: the link.
        seconds: how long to measure, after a second of settling.
    """
    there = replace(link, source_namespace=link.destination_namespace)
    with there.at_source():
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with link.at_source():
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    over = threading.Event()
    with listener, sender, ThreadPoolExecutor(2) as pool:
        listener.bind((link.host, 0))
        listener.listen()
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        sender.connect(listener.getsockname())
        receiver, _peer = listener.accept()
        with receiver:
            received = [0]
            pool.submit(_send, sender, over)
            pool.submit(_receive, receiver, received)
            try:
                time.sleep(SETTLE_S)
                return _watch(sender, receiver, received, seconds)
            finally:
                over.set()
                sender.shutdown(socket.SHUT_RDWR)


def _watch(sender: socket.socket, receiver: socket.socket, received: list[int], seconds: float) -> Probed:
    began_s, began_bytes = time.monotonic(), received[0]
    waiting: list[int] = []
    while time.monotonic() < began_s + seconds:
        time.sleep(_LOOK_EVERY_S)
        waiting.append(_asked(sender, _SIOCOUTQ) + _asked(receiver, termios.FIONREAD))
    rate = (received[0] - began_bytes) / (time.monotonic() - began_s)
    return Probed(rate, int(statistics.median(waiting)))


def _asked(stream: socket.socket, request: int) -> int:
    (size,) = struct.unpack("i", fcntl.ioctl(stream.fileno(), request, bytes(4)))
    return int(size)


def _send(sender: socket.socket, over: threading.Event) -> None:
    block = bytes(_WRITE_BYTES)
    with contextlib.suppress(OSError):  # it is shut down under way: the measurement is over
        while not over.is_set():
            sender.sendall(block)


def _receive(receiver: socket.socket, received: list[int]) -> None:
    buffer = bytearray(_READ_BYTES)
    while size := receiver.recv_into(buffer):
        received[0] += size
