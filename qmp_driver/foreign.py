"""The caller's own code (hooks, locks), run where it can neither hold a migration up nor bring it down.

It may hang, raise anything at all, or pay no heed to being cancelled. So it runs in a task of its own, which is
waited for until a deadline and no longer, and nothing that it raises leaves that task: a ``SystemExit`` that did
would end the event loop, with a guest between two hosts.

Code that blocks the loop (``time.sleep``, a synchronous client) stops everything, us too: no deadline helps there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LET_GO_S = 1.0
"""Work that we cancel along with ourselves has so long to let go of what it holds."""

MOST_WORDS = 400
"""Characters: what is said of an error goes into one line of the log and one sentence of the report."""

_running: set[asyncio.Task[BaseException | None]] = set()
"""The loop itself refers to its tasks only weakly."""


async def run_within(work: Callable[[], Awaitable[object]], within_s: float) -> BaseException | None:
    """Run the caller's code to its end, or to a deadline.

    Args:
        work: what to run; it is called and awaited in a task of its own.
        within_s: the deadline, seconds. Work that is not over then is cancelled, and not waited for.

    Returns:
        ``None`` where it ended well, else what it raised. ``TimeoutError`` of our own words where the deadline
        passed. ``asyncio.CancelledError`` where it was cancelled by somebody else than us.

    Raises:
        asyncio.CancelledError: we were cancelled. The work was too, and had `LET_GO_S` to end.
    """
    task = asyncio.get_running_loop().create_task(_contain(work))
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        await asyncio.wait([task], timeout=within_s)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task], timeout=LET_GO_S)
        raise
    if not task.done():
        task.cancel()
        return TimeoutError(f"no answer within {within_s:g} s")
    if task.cancelled():
        return asyncio.CancelledError()
    return task.result()


def words_of(error: BaseException) -> str:
    """What an error says, on one line, whatever is wrong with the error itself."""
    if isinstance(error, asyncio.CancelledError):
        return "it was cut short"
    try:
        text = " ".join(str(error).split())
    except Exception:  # the caller's class may be broken in this too
        text = ""
    if isinstance(error, TimeoutError) and text:
        return text
    name = type(error).__name__
    said = f"{name}: {text}" if text else name
    return said if len(said) <= MOST_WORDS else said[: MOST_WORDS - 1] + "…"


async def _contain(work: Callable[[], Awaitable[object]]) -> BaseException | None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # the caller's code may raise anything, also what would end the loop
        return error
    return None
