"""Ending a handover that hangs, without ``migrate_cancel``, which could leave two running guests there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from whimbrel.engine.driving import GLANCE_WITHIN_S
from whimbrel.engine.errors import WhimbrelError

from . import replies
from .side import Side


async def break_stream(
    source: Side, destination: Side, write: Callable[[str, dict[str, object]], None], *, within_s: float
) -> None:
    """Kill the destination, and cut the stream.

    Both, where both can be done: over a network that has gone dead the source never hears of the death.

    Args:
        source: it will be failed and run again, or completed.
        destination: killed where its process is known, and nobody vouches that it is off.
        write: puts a line into the log.
        within_s: how long a lost monitor of the source is tried again, seconds.

    Raises:
        WhimbrelError: the source's process has ended, so that the destination may hold the only copy; or the
            destination could neither be killed nor the stream be cut.
    """
    if await source.is_gone():
        raise WhimbrelError("the source process ended: what the destination has is looked at first", side="source")
    await _see_that_it_hangs(source, destination)
    process = destination.process
    if process is None or destination.fenced:
        await replies.yank_migration(await source.reach(within_s=within_s))
        return
    await process.kill()
    try:
        await replies.yank_migration(source.require())
    except WhimbrelError as error:
        write("note", {"text": f"the stream was not cut besides: {error}"})  # it may have noticed by itself


async def _see_that_it_hangs(source: Side, destination: Side) -> None:
    """A manager that was stopped for a while hears of its deadline before it hears what came meanwhile.

    Raises:
        WhimbrelError: the handover does not hang: the source is done, or the destination runs.
    """
    (status, _), (_, run_state) = await asyncio.gather(*(_glance(side) for side in (source, destination)))
    if status == "completed" or run_state == "running":
        raise WhimbrelError("the handover does not hang: both sides are asked what is true")


async def _glance(side: Side) -> tuple[str | None, str | None]:
    try:
        async with asyncio.timeout(GLANCE_WITHIN_S):
            return await side.look_around()
    except (WhimbrelError, TimeoutError):
        return None, None
