"""Asking one side what is true, when an outcome is not known or a new manager takes over."""

from __future__ import annotations

from collections.abc import Callable

from whimbrel.engine.driving import BEFORE_THE_STOP
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown
from whimbrel.engine.machine import Event, Happened
from whimbrel.engine.resolve import (
    STILL_STATES,
    DestinationClass,
    SourceClass,
    classify_destination,
    classify_source,
)
from whimbrel.engine.signals import Signal

from .side import Side


async def look_at_source(side: Side, *, within_s: float, deliver: Callable[[Event], None]) -> SourceClass:
    """The source's class.

    Args:
        side: the source.
        within_s: how long a lost connection is tried again, seconds.
        deliver: takes what is learnt on the way.
    """
    if side.fenced:
        return SourceClass.ENDED
    words = await _ask(side, within_s)
    if words is None:
        if not await side.is_gone():
            return SourceClass.UNREACHABLE
        return SourceClass.ENDED if await side.has_ended() else SourceClass.GONE
    status, run_state = words
    if status in BEFORE_THE_STOP and run_state in STILL_STATES:
        deliver(Happened(Signal.SOURCE_PAUSED, f"the guest stands still: {run_state}"))
    return classify_source(status, run_state)


async def look_at_destination(side: Side, *, within_s: float) -> DestinationClass:
    """The destination's class; arguments as for `look_at_source`."""
    if side.fenced:
        return DestinationClass.ENDED
    words = await _ask(side, within_s)
    if words is None:
        return DestinationClass.ENDED if await side.is_gone() else DestinationClass.UNREACHABLE
    return classify_destination(*words)


async def _ask(side: Side, within_s: float) -> tuple[str | None, str | None] | None:
    """Migration status and run state; ``None``: it does not answer."""
    try:
        await side.reach(within_s=within_s)
        return await side.look_around()
    except (OutcomeUnknown, CannotConnect):
        return None
