"""The keeper of the guest's lock: what is known of an operation, and that a late one overtakes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.parties import DESTINATION, SOURCE, STRANGER, MemoryLock
from whimbrel.engine.errors import OutcomeUnknown, WhimbrelError
from whimbrel.qmp_driver.locks import LockKeeper, LockRefused

PATIENCE_S = 60.0


def raising(error: BaseException) -> Callable[[str], Awaitable[None]]:
    """What an operation does first."""

    async def first(what: str) -> None:
        raise error

    return first


async def test_without_a_lock_everything_is_done_at_once() -> None:
    """Not even the event loop gets a turn."""
    keeper = LockKeeper(None, PATIENCE_S)
    for work in (keeper.acquire(SOURCE), keeper.hand_over(SOURCE, DESTINATION)):
        with pytest.raises(StopIteration):
            work.send(None)


async def test_the_lock_goes_with_the_guest() -> None:
    """And back."""
    lock = MemoryLock()
    keeper = LockKeeper(lock, PATIENCE_S)
    await keeper.acquire(SOURCE)
    assert lock.by == SOURCE.name
    await keeper.hand_over(SOURCE, DESTINATION)
    assert lock.by == DESTINATION.name
    await keeper.hand_over(DESTINATION, SOURCE)
    assert lock.by == SOURCE.name


async def test_a_refusal_is_known() -> None:
    """It comes through as it is."""
    keeper = LockKeeper(MemoryLock(by=STRANGER.name), PATIENCE_S)
    for work in (keeper.acquire(SOURCE), keeper.hand_over(SOURCE, DESTINATION)):
        with pytest.raises(LockRefused, match="held by host3"):
            await work


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        WhimbrelError("a no of another kind"),
        SystemExit(1),
        asyncio.CancelledError(),
        OutcomeUnknown("the change", "connection lost"),
    ],
)
async def test_anything_else_is_unknown(error: BaseException) -> None:
    """Only `LockRefused` says that nothing was moved."""
    keeper = LockKeeper(MemoryLock(by=SOURCE.name, first=raising(error)), PATIENCE_S)
    with pytest.raises(OutcomeUnknown):
        await keeper.hand_over(SOURCE, DESTINATION)


async def test_an_operation_that_hangs_is_unknown_at_its_deadline() -> None:
    """It is cancelled then, and says which it was."""
    hangs = asyncio.Event()
    keeper = LockKeeper(MemoryLock(first=lambda what: _wait(hangs)), 0.01)
    with pytest.raises(OutcomeUnknown, match=r"lock to the destination .*: no answer within 0\.01 s"):
        await keeper.hand_over(SOURCE, DESTINATION)


async def test_a_late_hand_over_never_overtakes_the_one_that_took_it_back() -> None:
    """One that can't be cancelled is waited for by the next, which then sees what it did."""
    goes_on = asyncio.Event()

    async def deaf(what: str) -> None:
        if what == "hand over to destination":
            while not goes_on.is_set():
                try:
                    await goes_on.wait()
                except asyncio.CancelledError:
                    pass

    lock = MemoryLock(by=SOURCE.name, first=deaf)
    keeper = LockKeeper(lock, 0.05)
    with pytest.raises(OutcomeUnknown):
        await keeper.hand_over(SOURCE, DESTINATION)
    with pytest.raises(OutcomeUnknown):
        await keeper.hand_over(DESTINATION, SOURCE)
    assert lock.asked == ["hand over to destination"], "the way back was begun before the way there had ended"
    back = asyncio.create_task(LockKeeper.hand_over(keeper, DESTINATION, SOURCE))
    goes_on.set()
    await back
    assert lock.asked == ["hand over to destination", "hand over to source"]
    assert lock.by == SOURCE.name


async def test_a_cancellation_is_passed_on() -> None:
    """And the lock is free for the next operation."""
    begun = asyncio.Event()

    async def first(what: str) -> None:
        if not begun.is_set():
            begun.set()
            await _wait(asyncio.Event())

    lock = MemoryLock(by=SOURCE.name, first=first)
    keeper = LockKeeper(lock, PATIENCE_S)
    task = asyncio.create_task(keeper.hand_over(SOURCE, DESTINATION))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lock.by == SOURCE.name
    await keeper.hand_over(SOURCE, DESTINATION)
    assert lock.by == DESTINATION.name


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
