"""Whether a destination may be ended: never one that holds the only copy of the guest, or that may run it."""

from __future__ import annotations

from whimbrel.engine.driving import holds_the_only_copy
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, WhimbrelError
from whimbrel.engine.states import Fact

from .side import Side


async def see_that_it_may_end(
    source: Side, destination: Side, known: frozenset[Fact], *, adopted: bool, within_s: float
) -> None:
    """Refuse where ending it could end the guest.

    Args:
        source: which is to have the guest.
        destination: which is to be ended.
        known: what is known of the migration.
        adopted: another manager began it: what became of the destination since is not known, and it is asked.
        within_s: how long a lost monitor is tried again, seconds.

    Raises:
        WhimbrelError: it holds, or may hold, the only copy, or runs.
    """
    if holds_the_only_copy(known) and await source.is_gone():
        await source.has_ended()
        raise WhimbrelError("the source process ended: the destination holds the only copy", side="destination")
    if not adopted or destination.fenced or destination.address is None or await destination.is_gone():
        return
    try:
        await destination.reach(within_s=within_s)
        status, run_state = await destination.look_around()
    except (OutcomeUnknown, CannotConnect) as error:
        if Fact.MIGRATE_SENT in known and not source.alive:
            raise WhimbrelError("it does not answer, and may hold the guest by now", side="destination") from error
        return
    if run_state == "running":
        raise WhimbrelError("it runs a guest", side="destination")
    if run_state == "postmigrate":
        raise WhimbrelError("it had a guest, and has sent it on", side="destination")
    if status == "completed" and Fact.MIGRATE_SENT not in known:
        raise WhimbrelError("it holds a guest that another migration brought there", side="destination")
