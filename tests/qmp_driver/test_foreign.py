"""The caller's code under a deadline: whatever it does, we go on, and we know how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from whimbrel.qmp_driver.foreign import MOST_WORDS, run_within, words_of

LONG_S = 60.0


async def test_work_that_ends_well() -> None:
    """Says nothing."""

    async def work() -> str:
        return "its answer is its own affair"

    assert await run_within(work, LONG_S) is None


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
async def test_whatever_it_raises_is_given_back(error: BaseException) -> None:
    """Even what would end the event loop, if it left a task."""

    async def work() -> None:
        raise error

    assert await run_within(work, LONG_S) is error


@pytest.mark.parametrize("work", [lambda: None, lambda: 1 / 0])
async def test_a_function_that_is_no_coroutine_function_is_an_error(work: Callable[[], Any]) -> None:
    """The caller's mistake, in Python's words."""
    error = await run_within(cast("Callable[[], Awaitable[object]]", work), LONG_S)
    assert isinstance(error, (TypeError, ZeroDivisionError))


async def test_work_that_hangs_is_cancelled_at_its_deadline() -> None:
    """And can clean up after itself, which nobody waits for."""
    let_go = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            let_go.set()

    error = await run_within(work, 0.01)
    assert isinstance(error, TimeoutError)
    assert words_of(error) == "no answer within 0.01 s"
    async with asyncio.timeout(LONG_S):
        await let_go.wait()


async def test_work_that_pays_no_heed_to_its_cancellation_is_left_behind() -> None:
    """The deadline holds all the same, and what it raises later disturbs nobody."""
    go, gone = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                pass
        gone.set()
        raise RuntimeError("too late to matter")

    async with asyncio.timeout(LONG_S):
        assert isinstance(await run_within(work, 0.01), TimeoutError)
        go.set()
        await gone.wait()


async def test_a_cancellation_of_its_own_is_no_cancellation_of_ours() -> None:
    """It awaited something that was cancelled."""

    async def work() -> None:
        raise asyncio.CancelledError

    error = await run_within(work, LONG_S)
    assert isinstance(error, asyncio.CancelledError)
    assert words_of(error) == "it was cut short"


async def test_our_cancellation_is_passed_on() -> None:
    """And the work has let go before we raise."""
    begun = asyncio.Event()
    let_go: list[str] = []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            let_go.append("cleaned up")
            raise

    task = asyncio.create_task(run_within(work, LONG_S))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert let_go == ["cleaned up"]


class Broken(Exception):
    """An error that can't even say what it is."""

    def __str__(self) -> str:
        raise ValueError("not even this")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("the database\nis   not ready"), "RuntimeError: the database is not ready"),
        (KeyError("disk"), "KeyError: 'disk'"),
        (RuntimeError(), "RuntimeError"),
        (TimeoutError(), "TimeoutError"),
        (Broken(), "Broken"),
        (SystemExit(2), "SystemExit: 2"),
    ],
)
def test_the_words_of_an_error(error: BaseException, words: str) -> None:
    """One line, with the name of its class."""
    assert words_of(error) == words


def test_a_novel_is_cut() -> None:
    """It goes into one line of the log."""
    words = words_of(RuntimeError("x" * 10_000))
    assert len(words) == MOST_WORDS
    assert words.endswith("x…")
