"""What a migration needs of the link that it goes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Stream(Protocol):
    """One direction of one connection: what was put in and has not arrived lies in its pipe.

    The pipe (socket buffers and the queue of the link) has a size. A sender fills it as fast as it can, and then
    gets on at the rate of the link; whatever is put in last has to wait behind all of it.
    """

    @property
    def broken(self) -> bool:
        """Whether it was reset: nothing more arrives, and whoever writes to it is told."""
        ...

    def level_bytes(self, now_ns: int) -> int:
        """What lies in the pipe."""
        ...

    def rate_bytes_per_s(self, now_ns: int) -> float:
        """At what rate it drains now; 0.0 in an outage."""
        ...

    def room_bytes(self, now_ns: int, until_ns: int, fastest_bytes_per_s: float) -> int:
        """How much could be put in between two times by a writer of that speed, as far as can be known now."""
        ...

    def push(self, now_ns: int, size_bytes: int, fastest_bytes_per_s: float) -> int:
        """Put bytes in.

        Returns:
            When the last of them is in (and the writer goes on), as far as can be known now; at least ``now_ns``.
        """
        ...

    def waiting_bytes(self, now_ns: int) -> int:
        """What was pushed and is not in yet: 0 once the writer could go on; rounded up."""
        ...

    def message(self, now_ns: int, size_bytes: int, arrived: Callable[[], None]) -> None:
        """Put something in that is told when it has arrived: after everything before it, plus the link's latency.

        Never, if the stream breaks first.
        """
        ...

    def on_change(self, changed: Callable[[], None]) -> None:
        """Be told when the rate changes, when an outage begins or ends, and when it breaks."""
        ...

    def close(self, now_ns: int) -> None:
        """Nothing more is put in; what is in it still arrives. Once empty its share of the link goes to others."""
        ...


class Channel(Protocol):
    """One end of a connection between two QEMUs.

    Messages of one direction arrive in order. `stream` is the way out, with its pipe.
    """

    @property
    def stream(self) -> Stream:
        """The way out."""
        ...

    def send(self, message: dict[str, object], size_bytes: int = 0) -> None:
        """Put a message into the stream, behind all that is in it."""
        ...

    def on_message(self, arrived: Callable[[dict[str, object]], None]) -> None:
        """Who takes what arrives."""
        ...

    def on_broken(self, broke: Callable[[str], None]) -> None:
        """Who is told, in the kernel's words, that the other end went or the link was reset."""
        ...

    def hold(self, held: bool) -> None:
        """This end reads nothing (a process that is stopped), or reads again: the pipe towards it fills and stays."""
        ...

    def close(self) -> None:
        """Close this end; the other is told, after everything that was sent before."""
        ...

    def reset(self) -> None:
        """Close this end at once (a killed process, ``yank``): what is in the pipe is lost; the other is told."""
        ...


class Network(Protocol):
    """Where QEMUs listen and connect."""

    def listen(self, uri: str, accept: Callable[[Channel], None]) -> dict[str, object]:
        """Listen once.

        Returns:
            The address as ``query-migrate`` gives it in ``socket-address``.

        Raises:
            OSError: it can't be listened at, with the kernel's words.
        """
        ...

    def connect(self, uri: str, connected: Callable[[Channel], None], failed: Callable[[str], None]) -> None:
        """Connect; one of the two is called later, ``failed`` with the kernel's words (``Connection refused``)."""
        ...

    def withdraw(self, uri: str) -> None:
        """Nobody listens there any more."""
        ...
