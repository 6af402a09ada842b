"""One end of a connection between two QEMUs, as a process sees it: what arrives waits while the process is frozen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from whimbrel.sim.link.contract import Channel, Stream

from .own_time import Time

Message = dict[str, object]

CONNECTED = "connected"
"""The kind of the message that a process gets first on each connection: its kernel has made it, now it is seen."""


class Line:
    """A channel whose messages and end come in the process's own time, in order."""

    def __init__(
        self, channel: Channel, time: Time, arrived: Callable[[Message], None], broke: Callable[[str], None]
    ) -> None:
        """Take over a channel.

        Args:
            channel: its end here.
            time: the process's own.
            arrived: takes each message, the first one of the kind `CONNECTED`.
            broke: told, in the kernel's words, that the other end went; not after `close` or `reset`.
        """
        self._channel = channel
        self._time = time
        self._arrived = arrived
        self._broke = broke
        self._inbox: deque[Message | str] = deque()
        self.open = True
        self._take({"kind": CONNECTED})
        channel.on_message(self._take)
        channel.on_broken(self._take)

    @property
    def stream(self) -> Stream:
        """The way out."""
        return self._channel.stream

    def send(self, message: Message, size_bytes: int = 0) -> None:
        """Put a message into the stream, behind all that is in it."""
        if self.open and not self._channel.stream.broken:
            self._channel.send(message, size_bytes)

    def hold(self, held: bool) -> None:
        """The process reads nothing, or reads again."""
        if self.open:
            self._channel.hold(held)

    def close(self) -> None:
        """Close it behind all that was sent."""
        if self.open:
            self.open = False
            self._channel.close()

    def reset(self) -> None:
        """Close it at once; what is in the pipe is lost."""
        if self.open:
            self.open = False
            self._channel.reset()

    def _take(self, thing: Message | str) -> None:
        self._inbox.append(thing)
        self._time.after(0, self._next)

    def _next(self) -> None:
        thing = self._inbox.popleft()
        if not self.open:
            return
        if isinstance(thing, str):
            self.open = False
            self._channel.close()
            self._broke(thing)
        else:
            self._arrived(thing)
