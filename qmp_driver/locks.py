"""The guest's lock: who may run it, kept outside of every manager, so that it outlives them.

The lock has one holder. It is the source's before a migration starts, is handed to the destination after the
source is out and before the destination runs, and is handed back before the source may run again. Whoever
starts a guest by other means (a supervisor after a host's death) takes the lock first, and so never starts a second
copy of one that runs.

    LockProvider   what a migration asks for; a lease in etcd or Consul is a few lines
    FileLock       a file that names the holder, on storage that both hosts see
    LockKeeper     one operation at a time, each under a deadline
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from whimbrel.engine.errors import OutcomeUnknown, WhimbrelError

from .foreign import run_within, words_of
from .parties import Party


class LockRefused(WhimbrelError):
    """The lock was not moved, and that is known: somebody else holds it, or it can't be changed."""


class LockProvider(Protocol):
    """A lock that has one holder at most.

    Every operation compares and swaps as one step, and is idempotent: what is so already is done. An operation
    raises `LockRefused` where it is *known* that nothing was moved. Whatever else it raises counts as not known, as
    does an operation that has not ended by its deadline: that one is cancelled, and should end (it may take its
    time) only once it can't move the lock any more; the next operation waits for that.

    A holder is a `Party`; its ``name`` is the same in every migration, and what is stored.
    """

    async def acquire(self, holder: Party) -> None:
        """Take the lock that is free, or is this holder's already.

        Raises:
            LockRefused: somebody else holds it.
        """
        ...

    async def hand_over(self, from_: Party, to: Party) -> None:
        """Pass the lock on from who holds it; done where ``to`` holds it already.

        Raises:
            LockRefused: neither of the two holds it.
        """
        ...

    async def release(self, holder: Party) -> None:
        """Free the lock; done where it is free already.

        Raises:
            LockRefused: somebody else holds it.
        """
        ...

    async def holder(self) -> str | None:
        """The name of the holder; ``None``: it is free.

        Raises:
            LockRefused: nobody can tell.
        """
        ...


@dataclass(slots=True)
class LockKeeper:
    """Asks the provider for one migration: in turn, each time under a deadline.

    In turn, because a hand-over that is late must not overtake the one that took it back.

    Attributes:
        provider: whom to ask; ``None``: there is no lock, and every operation is done at once.
        within_s: the deadline of each operation, seconds.
    """

    provider: LockProvider | None
    within_s: float
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def acquire(self, holder: Party) -> None:
        """Make sure that a party holds the lock before anything begins.

        Raises:
            LockRefused: it does not.
            OutcomeUnknown: nobody can tell.

        If cancelled: passed on to the provider.
        """
        if (provider := self.provider) is not None:
            await self._do(f"taking the guest's lock for {holder}", lambda: provider.acquire(holder))

    async def hand_over(self, from_: Party, to: Party) -> None:
        """Pass the lock on.

        Raises:
            LockRefused: it was not moved.
            OutcomeUnknown: nobody can tell.

        If cancelled: passed on to the provider.
        """
        if (provider := self.provider) is not None:
            await self._do(f"handing the guest's lock to {to}", lambda: provider.hand_over(from_, to))

    async def _do(self, what: str, operation: Callable[[], Awaitable[object]]) -> None:
        async def in_turn() -> None:
            async with self._turn:
                await operation()

        error = await run_within(in_turn, self.within_s)
        if isinstance(error, (LockRefused, OutcomeUnknown)):
            raise error
        if error is not None:
            raise OutcomeUnknown(what, words_of(error)) from error
