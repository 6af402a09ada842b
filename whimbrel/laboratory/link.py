"""A paced link: two network namespaces, a veth pair between them, ``tc tbf`` on both ends.

Nothing of it is visible outside the two namespaces, so any number of these can stand side by side. QEMU's own
``max-bandwidth`` is no substitute: QEMU lifts it at the switchover, which is the very moment to be measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from whimbrel.engine.errors import WhimbrelError

BURST: Final = "256kb"
"""At 1 Gbit/s what 2 ms send; with less, tbf cannot keep the rate at a kernel clock of 250 Hz (tc-tbf(8))."""
LATENCY: Final = "50ms"
"""How much may wait in the queue before it drops: a switch port's worth of buffer."""
CALIBRATION_S: Final = 2.0
_SETTLE_S: Final = 0.5
_SOURCE_ADDRESS: Final = "10.99.0.1"
_DESTINATION_ADDRESS: Final = "10.99.0.2"
_PREFIX: Final = "whimbrel-bench-"
_NAMESPACES: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
"""``setns(2)``: the descriptor must be of a network namespace."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link that stands; a `Place`."""

    source_namespace: str
    destination_namespace: str
    rate: str
    host: str = _DESTINATION_ADDRESS
    relayed: bool = False

    @property
    def source_prefix(self) -> tuple[str, ...]:
        """See `Place`."""
        return ("ip", "netns", "exec", self.source_namespace)

    @property
    def destination_prefix(self) -> tuple[str, ...]:
        """See `Place`."""
        return ("ip", "netns", "exec", self.destination_namespace)

    async def reach(self, host: str, port: int) -> tuple[str, int]:
        """See `Place`."""
        return host, port

    @contextlib.contextmanager
    def at_source(self) -> Generator[None, None, None]:
        """See `Place`."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(_NAMESPACES / self.source_namespace)
            try:
                yield
            finally:
                _set_namespace(home)
        finally:
            os.close(home)

    def goodput_bytes_per_s(self, seconds: float = CALIBRATION_S) -> float:
        """What one TCP stream gets through, bytes per second, measured at the receiver.

        Args:
            seconds: how long to measure, after half a second of settling.
        """
        listener = _socket_in(self.destination_namespace)
        sender = _socket_in(self.source_namespace)
        with listener, sender, ThreadPoolExecutor(1) as pool:
            listener.bind((self.host, 0))
            listener.listen()
            counted = pool.submit(_count, listener, seconds)
            sender.connect(listener.getsockname())
            block = bytes(1 << 18)
            with contextlib.suppress(ConnectionError):  # the receiver has seen enough
                while not counted.done():
                    sender.sendall(block)
            return counted.result()


def can_link() -> str:
    """Why a link can't be made here; empty if it can."""
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not found (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with paced_link("1gbit"):
            return ""
    except WhimbrelError as error:
        return str(error)


@contextlib.contextmanager
def paced_link(rate: str) -> Generator[Link, None, None]:
    """A link of this rate, taken down again whatever happens.

    What a killed run of this program left behind is swept away first.

    Args:
        rate: as ``tc`` has it, for instance ``200mbit``.

    Raises:
        WhimbrelError: ``ip`` or ``tc`` refused, in its own words.
    """
    _sweep()
    stem = f"{_PREFIX}{os.getpid()}-{time.monotonic_ns() % 10**6}"
    link = Link(f"{stem}-a", f"{stem}-b", rate)
    ends = ((link.source_namespace, _SOURCE_ADDRESS, "va"), (link.destination_namespace, _DESTINATION_ADDRESS, "vb"))
    try:
        for namespace, _address, _device in ends:
            _run("ip", "netns", "add", namespace)
        _run("ip", "link", "add", "va", "netns", ends[0][0], "type", "veth", "peer", "name", "vb", "netns", ends[1][0])
        for namespace, address, device in ends:
            _run("ip", "-n", namespace, "addr", "add", f"{address}/30", "dev", device)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
            _run("ip", "-n", namespace, "link", "set", device, "up")
            pace = ("root", "tbf", "rate", rate, "burst", BURST, "latency", LATENCY)
            _run("tc", "-n", namespace, "qdisc", "add", "dev", device, *pace)
        yield link
    finally:
        for namespace, _address, _device in ends:
            if (_NAMESPACES / namespace).exists():
                _run("ip", "netns", "del", namespace)


def namespaces_of(pid: int) -> list[str]:
    """The namespaces that the process with this pid made and has not taken down."""
    if not _NAMESPACES.is_dir():
        return []
    return sorted(path.name for path in _NAMESPACES.glob(f"{_PREFIX}{pid}-*"))


def _sweep() -> None:
    """Remove namespaces whose maker is gone."""
    for path in _NAMESPACES.glob(f"{_PREFIX}*") if _NAMESPACES.is_dir() else ():
        maker = path.name.removeprefix(_PREFIX).partition("-")[0]
        if maker.isdigit() and not Path(f"/proc/{maker}").exists():
            _run("ip", "netns", "del", path.name)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WhimbrelError(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def _socket_in(namespace: str) -> socket.socket:
    """A TCP socket of another network namespace.

    A socket stays in the namespace of the thread that made it, and a thread can change its own alone.
    """

    def make() -> socket.socket:
        _enter(_NAMESPACES / namespace)
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def _enter(namespace: Path) -> None:
    """Have this thread live in a network namespace."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace(descriptor)
    finally:
        os.close(descriptor)


def _set_namespace(descriptor: int) -> None:
    """``setns(2)``, which Python has from 3.12 on only."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise WhimbrelError(f"the network namespace can't be entered: {os.strerror(code)}")


def _count(listener: socket.socket, seconds: float) -> float:
    """Receive for a while, and give the bytes per second after the settling."""
    connection, _peer = listener.accept()
    buffer = bytearray(1 << 20)
    with connection:
        settled_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < settled_s:
            connection.recv_into(buffer)
        began_s, received = time.monotonic(), 0
        while time.monotonic() < began_s + seconds:
            received += connection.recv_into(buffer)
        return received / (time.monotonic() - began_s)
