"""Where simulated QEMUs listen and connect: two directions of one link, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.scenario import LinkPlan

from .contract import Channel
from .rate import Bandwidth
from .shared import LinkStream, SharedLink

FIRST_PORT = 40_001
REFUSED = "Connection refused"
TIMED_OUT = "Connection timed out"
RESET = "Connection reset by peer"
ENDED = "end of file"
CONNECT_NS = 127 * SECOND_NS
"""After so long Linux gives a connection up that nobody answers (six retries, ``tcp_syn_retries``)."""


class LocalChannel:
    """One end of a connection (`contract.Channel`)."""

    def __init__(self, network: LocalNetwork, stream: LinkStream) -> None:
        """Made by `LocalNetwork`, in pairs."""
        self._network = network
        self._stream = stream
        self._peer: LocalChannel | None = None
        self._take: Callable[[dict[str, object]], None] | None = None
        self._told: Callable[[str], None] | None = None
        self._early: deque[dict[str, object]] = deque()
        self._ended: str | None = None
        """Why it is over, once it is."""

    def join(self, peer: LocalChannel) -> None:
        """This is the other end."""
        self._peer = peer

    @property
    def stream(self) -> LinkStream:
        """The way out."""
        return self._stream

    def send(self, message: dict[str, object], size_bytes: int = 0) -> None:
        """See `contract.Channel`."""
        peer = self._peer
        if peer is not None and self._ended is None:
            self._stream.message(self._network.clock.now_ns, size_bytes, lambda: peer._arrive(message))

    def on_message(self, arrived: Callable[[dict[str, object]], None]) -> None:
        """See `contract.Channel`; what came before is handed over at once."""
        self._take = arrived
        while self._early:
            arrived(self._early.popleft())

    def on_broken(self, broke: Callable[[str], None]) -> None:
        """See `contract.Channel`."""
        self._told = broke

    def hold(self, held: bool) -> None:
        """See `contract.Channel`."""
        if self._peer is not None:
            self._peer.stream.clog(held)

    def close(self) -> None:
        """See `contract.Channel`."""
        peer = self._peer
        if self._ended is not None or peer is None:
            return
        now_ns = self._network.clock.now_ns
        self._stream.message(now_ns, 0, lambda: peer._end(ENDED))
        self._stream.close(now_ns)
        self._ended = ENDED
        peer.stream.reset()  # what comes here is not read any more
        self._network.forget(self)

    def reset(self) -> None:
        """See `contract.Channel`."""
        peer = self._peer
        if self._ended is not None or peer is None:
            return
        self._ended = RESET
        self._stream.reset()
        peer.stream.clog(True)  # it fills, until the other end hears of it
        self._network.forget(self)
        self._network.tell(lambda: peer._end(RESET))

    def broken_by_link(self) -> None:
        """Both directions are lost, and this end is told."""
        self._stream.reset()
        self._end(RESET)

    def _arrive(self, message: dict[str, object]) -> None:
        if self._ended is not None:
            return
        if self._take is None:
            self._early.append(message)
        else:
            self._take(message)

    def _end(self, why: str) -> None:
        if self._ended is not None:
            return
        self._ended = why
        self._stream.reset()
        self._network.forget(self)
        if self._told is not None:
            self._told(why)


class LocalNetwork:
    """The only network there is (`contract.Network`).

    Both directions have the same bandwidth process, and outages hit both; each carries its own streams.

    Attributes:
        forth: from those who connect to those who listen: what a migration sends.
        back: the other direction: what the return path says.
    """

    def __init__(self, clock: Clock, plan: LinkPlan, seed: int) -> None:
        """Lay it; see `SharedLink`."""
        self.clock = clock
        bandwidth = Bandwidth(plan, seed)
        self.forth = SharedLink(clock, plan, bandwidth=bandwidth)
        self.back = SharedLink(clock, plan, bandwidth=bandwidth)
        self._listeners: dict[str, Callable[[Channel], None]] = {}
        self._next_port = FIRST_PORT
        self._channels: list[LocalChannel] = []
        self._untold: list[Callable[[], None]] = []

    def begin(self) -> None:
        """The migration begins: the plan's steps and outages are counted from now."""
        now_ns = self.clock.now_ns
        self.forth.begin(now_ns)
        self.back.begin(now_ns)

    # ---- contract.Network

    def listen(self, uri: str, accept: Callable[[Channel], None]) -> dict[str, object]:
        """See `contract.Network`. With port 0 there is a new port each time."""
        kind, _, place = uri.partition(":")
        if kind == "unix":
            if uri in self._listeners:
                raise OSError("Address already in use")
            self._listeners[uri] = accept
            return {"type": "unix", "path": place}
        host, _, port = place.rpartition(":")
        if kind != "tcp" or not host or not port.isdigit():
            raise OSError(f"cannot listen at {uri}")
        if port == "0":
            port, self._next_port = str(self._next_port), self._next_port + 1
        name = f"tcp:{host}:{port}"
        if name in self._listeners:
            raise OSError("Address already in use")
        self._listeners[name] = accept
        version = "ipv6" if host.startswith("[") else "ipv4"
        return {"port": port, version: True, "host": host.strip("[]"), "type": "inet"}

    def connect(self, uri: str, connected: Callable[[Channel], None], failed: Callable[[str], None]) -> None:
        """See `contract.Network`. It takes a round trip; in an outage it waits, as long as the kernel does."""
        given_up = self.clock.after(CONNECT_NS, lambda: failed(TIMED_OUT))

        def reached() -> None:
            if given_up.pending:
                given_up.cancel()
                self.clock.after(self.forth.latency_ns, lambda: self._meet(uri, connected, failed))

        self.tell(reached)

    def withdraw(self, uri: str) -> None:
        """See `contract.Network`."""
        self._listeners.pop(uri, None)

    # ---- for the world

    @property
    def carried_bytes(self) -> int:
        """What was carried forth since the beginning, over all connections."""
        return self.forth.carried_bytes

    def set_down(self, down: bool) -> None:
        """An outage begins, whose end nobody foresees, or ends."""
        self.forth.set_down(down)
        self.back.set_down(down)
        if not down:
            untold, self._untold = self._untold, []
            for each in untold:
                each()

    def reset_all(self) -> None:
        """Every connection is reset by the network: both ends are told."""
        for channel in list(self._channels):
            channel.broken_by_link()

    def clog(self, clogged: bool) -> None:
        """Nobody reads what is sent forth, though every connection stands."""
        for channel in list(self._channels):
            channel.stream.clog(clogged)

    def tell(self, what: Callable[[], None]) -> None:
        """Have something told over the link: after its latency, and not before an outage is over."""
        if self.forth.down:
            self._untold.append(lambda: self.tell(what))
            return
        rate, until_ns = self.forth.bandwidth.at(self.clock.now_ns)
        if rate == 0 and until_ns is not None:
            self.clock.at(until_ns, lambda: self.tell(what))
        else:
            self.clock.after(self.forth.latency_ns, what)

    def forget(self, channel: LocalChannel) -> None:
        """It is over."""
        if channel in self._channels:
            self._channels.remove(channel)

    def _meet(self, uri: str, connected: Callable[[Channel], None], failed: Callable[[str], None]) -> None:
        accept = self._listeners.get(uri)
        if accept is None:
            failed(REFUSED)
            return
        near = LocalChannel(self, self.forth.open())
        far = LocalChannel(self, self.back.open())
        near.join(far)
        far.join(near)
        self._channels += [near, far]
        accept(far)
        connected(near)
