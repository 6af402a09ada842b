"""Mending a post-copy migration that lost its link: both sides give it up, one listens again, the other comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from whimbrel.engine.driving import LOOK_EVERY_S, PAUSED_WITHIN_S
from whimbrel.engine.errors import QemuRefused, WhimbrelError

from . import replies
from .side import Side

PAUSED = "postcopy-paused"


async def pause(sides: Sequence[Side], *, within_s: float, paused_within_s: float = PAUSED_WITHIN_S) -> None:
    """Have all sides give the link up, and see that they have. Whoever noticed by itself refuses, which is as good.

    Args:
        sides: the source and the destination.
        within_s: how long a lost monitor is tried again, seconds.
        paused_within_s: how long it may take until a side says that it is paused, seconds.

    Raises:
        QemuRefused: a side refused, and is not paused either.
        WhimbrelError: a side took it, and does not pause.
        OutcomeUnknown, CannotConnect: one could not be told; the others were.
    """
    said = await asyncio.gather(*(_pause(side, within_s, paused_within_s) for side in sides), return_exceptions=True)
    for error in said:
        if error is not None:
            raise error


async def _pause(side: Side, within_s: float, paused_within_s: float) -> None:
    refusal: QemuRefused | None = None
    try:
        await replies.migrate_pause(await side.reach(within_s=within_s))
    except QemuRefused as error:
        refusal = error
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + paused_within_s
    while (await side.look()).status != PAUSED:
        if loop.time() > deadline_s:
            raise refusal or WhimbrelError("it does not give its link up", side=side.name.value)
        await asyncio.sleep(LOOK_EVERY_S)


async def listen(destination: Side, uri: str, *, within_s: float) -> str:
    """Let the destination listen for its source to come back.

    Args:
        destination: in ``postcopy-paused``.
        uri: where; with port 0 the kernel chooses anew.
        within_s: how long a lost monitor is tried again, seconds.

    Returns:
        Where it listens.

    Raises:
        QemuRefused: it is not paused.
        OutcomeUnknown, CannotConnect: it can't be told, or asked.
        WhimbrelError: it does not say where it listens.
    """
    monitor = await destination.reach(within_s=within_s)
    await replies.migrate_recover(monitor, uri)
    listening = await replies.query_migrate(monitor)
    if not listening.socket_address:
        raise WhimbrelError("it does not say where it listens", side="destination")
    return listening.socket_address[-1].uri  # the newest; those of before are listed too
