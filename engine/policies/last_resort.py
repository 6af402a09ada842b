"""What is done with a migration that did not converge in time: it is called off, or made to end."""

from __future__ import annotations

from whimbrel.engine.pilot import POSTCOPY
from whimbrel.engine.policy import Decision, Observation

from .permits import stop_now, why_no_postcopy

ABORT, PAUSE, START_POSTCOPY = "abort", "pause", "postcopy"
ACTIONS = (ABORT, PAUSE, START_POSTCOPY)
"""Give up; let the guest stand still until the rest has gone over; post-copy, or a pause where that can't be had."""


def capabilities(action: str, seen: Observation) -> dict[str, bool]:
    """What has to be asked for at the start, so that one of `ACTIONS` can be taken later."""
    return {POSTCOPY: True} if action == START_POSTCOPY and not why_no_postcopy(seen) else {}


def last_resort(action: str, seen: Observation, because: str) -> Decision:
    """One of `ACTIONS`, or the nearest to it that is allowed; giving up is asked for in any case.

    Where the objectives do not allow giving up, the engine drops that and says so.
    """
    if action == ABORT:
        return Decision(abort=True, because=f"{because}: give up")
    if action == PAUSE:
        return stop_now(seen, f"{because}: the guest stands still for the rest")
    if refused := why_no_postcopy(seen):
        return stop_now(seen, f"{because}: the guest stands still for the rest, for {refused}")
    return Decision(start_postcopy=True, because=f"{because}: post-copy")
