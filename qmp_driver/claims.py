"""The last step of a move: the caller's last veto, then the guest's lock. And the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.engine.errors import WhimbrelError

from .hooks import HookCaller
from .locks import LockKeeper, LockRefused
from .parties import Party


@dataclass(slots=True)
class Claims:
    """Claims the guest for one side.

    While a claim waits for its hook the engine may inspect both sides and claim again: that is one claim with two
    who wait for it. It may also take the guest back, which ends a claim that still waits.

    Attributes:
        hooks: whose `before_resume` is asked.
        keeper: of the lock.
        source: names the source; asked for only where there is a lock.
        destination: names the destination, likewise.
    """

    hooks: HookCaller
    keeper: LockKeeper
    source: Callable[[], Party]
    destination: Callable[[], Party]
    _claiming: asyncio.Task[WhimbrelError | None] | None = field(default=None)
    _claimed: bool = False

    async def hold(self) -> None:
        """See the lock with the source, before anything is begun; where it is free, take it.

        Raises:
            LockRefused: somebody else holds it.
            OutcomeUnknown: nobody can tell.

        If cancelled: passed on to the lock.
        """
        if self.keeper.provider is not None:
            await self.keeper.acquire(self.source())

    async def claim(self) -> None:
        """Ask for the last time, then hand the lock to the destination. With neither hook nor lock, done at once.

        Raises:
            HookRefused: vetoed; the lock was not touched.
            LockRefused: the lock was not moved.
            OutcomeUnknown: nobody can tell who holds the lock.

        If cancelled: passed on to hook and lock.
        """
        if self.hooks.hooks.before_resume is None and self.keeper.provider is None:
            return
        task = self._claiming
        if task is None or task.done():
            task = self._claiming = asyncio.get_running_loop().create_task(self._claim())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.cancelled():
            raise LockRefused("the guest was taken back before the destination could claim it")
        if (error := task.result()) is not None:
            raise error

    async def reclaim(self) -> None:
        """Hand the lock back to the source; a claim that still waits is ended first.

        Raises:
            LockRefused: the lock was not moved.
            OutcomeUnknown: nobody can tell who holds the lock.

        If cancelled: passed on to the lock.
        """
        self._claimed = False
        if self._claiming is not None:
            self._claiming.cancel()
        if self.keeper.provider is not None:
            await self.keeper.hand_over(self.destination(), self.source())

    async def settle(self) -> str | None:
        """The guest was moved: see the lock with it, by whatever way it got to run there.

        Somebody else may have told the destination to run while the last hook was still being asked.

        Returns:
            What went wrong, one sentence; ``None``: nothing.

        If cancelled: passed on to the lock, and returns all the same, for the migration is over.
        """
        if self._claiming is not None:
            self._claiming.cancel()
        if self.keeper.provider is None or self._claimed:
            return None
        try:
            await self.keeper.hand_over(self.source(), self.destination())
        except WhimbrelError as error:
            return f"the guest's lock is not with the destination: {error}"
        except asyncio.CancelledError:
            return "whether the guest's lock is with the destination is not known: asking was cut short"
        return None

    async def _claim(self) -> WhimbrelError | None:
        try:
            await self.hooks.before_resume()
            if self.keeper.provider is not None:
                await self.keeper.hand_over(self.source(), self.destination())
        except WhimbrelError as error:
            return error
        self._claimed = True
        return None
