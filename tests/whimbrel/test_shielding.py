"""Cancelled or not, it is seen to its end first."""

from __future__ import annotations

import asyncio

import pytest

from whimbrel.engine.errors import WhimbrelError
from whimbrel.shielding import to_its_end


async def test_what_it_returns_or_raises_is_passed_on() -> None:
    async def fine() -> int:
        return 7

    async def wrong() -> int:
        raise WhimbrelError("no")

    said: list[str] = []
    assert await to_its_end(fine(), said.append) == 7
    with pytest.raises(WhimbrelError, match="no"):
        await to_its_end(wrong(), said.append)
    assert said == []


@pytest.mark.parametrize("error", [None, WhimbrelError("late")])
async def test_one_that_is_cancelled_ends_first_and_then_says_so(error: WhimbrelError | None) -> None:
    """As often as it is cancelled it is called off; its own error is not what the canceller waits for."""
    wanted, begun, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def work() -> None:
        begun.set()
        await wanted.wait()
        ended.append("ended")
        if error is not None:
            raise error

    said: list[str] = []
    task = asyncio.ensure_future(to_its_end(work(), said.append))
    await begun.wait()
    for times in (1, 2):
        task.cancel()
        while len(said) < times:
            await asyncio.sleep(0)
    assert (task.done(), ended) == (False, [])
    wanted.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_work_that_is_cancelled_itself_says_so() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await to_its_end(work(), list[str]().append)
