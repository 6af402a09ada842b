"""What must be seen to its end though whoever awaits it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from whimbrel.engine.errors import WhimbrelError

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T], call_off: Callable[[str], None]) -> T:
    """Run it to its end.

    Args:
        work: what is to be run.
        call_off: told, as often as the awaiting task is cancelled, that it is not wanted any more.

    Returns:
        What it returned.

    Raises:
        Exception: what it raised.

    If cancelled: it is called off, and ``CancelledError`` is raised once it has ended.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
            call_off("the task that awaited it was cancelled")
        except WhimbrelError:
            break
    if cancelled is not None:
        task.exception()  # seen: the report tells the same
        raise cancelled
    return task.result()
