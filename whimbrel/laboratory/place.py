"""Where the two QEMUs run, and what lies between them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Place(Protocol):
    """Two ends. The same place serves bare moves and ours, one after the other."""

    @property
    def source_prefix(self) -> tuple[str, ...]:
        """Words before the source's command line."""
        ...

    @property
    def destination_prefix(self) -> tuple[str, ...]:
        """Words before the destination's command line."""
        ...

    @property
    def host(self) -> str:
        """The address at which the destination listens."""
        ...

    @property
    def relayed(self) -> bool:
        """Whether the source must be sent elsewhere than to where the destination listens (`reach`)."""
        ...

    async def reach(self, host: str, port: int) -> tuple[str, int]:
        """Where the source has to connect to in order to reach a destination that listens there."""
        ...

    def at_source(self) -> AbstractContextManager[None]:
        """Have this thread, and those that it starts, live on the source's host: there a manager has its place."""
        ...


class Loopback:
    """Both ends on this host, with nothing between them."""

    source_prefix: tuple[str, ...] = ()
    destination_prefix: tuple[str, ...] = ()
    host = "127.0.0.1"
    relayed = False

    async def reach(self, host: str, port: int) -> tuple[str, int]:
        """See `Place`."""
        return host, port

    def at_source(self) -> AbstractContextManager[None]:
        """See `Place`."""
        return nullcontext()
