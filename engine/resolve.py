"""What to make of two QEMUs when an outcome is unknown: classes, and the verdict over them.

Raw run states and migration statuses are open-ended (newer QEMUs add some); `classify_source` and
`classify_destination` are total: a word that is not known becomes ``UNCLEAR``.
"""

from __future__ import annotations

import enum
from itertools import product

from .signals import Signal
from .states import Fact


class SourceClass(enum.Enum):
    """What the source is found to be."""

    RUNNING = "running"
    """The guest runs and no migration is under way."""
    MOVING = "moving"
    """A migration is under way."""
    COMPLETED = "completed"
    """It said completed and stands still."""
    STOPPED = "stopped"
    """No migration is under way (any more) and the guest stands paused."""
    ENDED = "ended"
    """The process ended and its events were read to the end."""
    UNREACHABLE = "unreachable"
    """The process lives, or may live, and its monitor cannot be reached."""
    UNCLEAR = "unclear"


class DestinationClass(enum.Enum):
    """What the destination is found to be."""

    RUNNING = "running"
    READY = "ready"
    """It has everything and stands paused."""
    LOADING = "loading"
    ENDED = "ended"
    """The process ended, or its migration failed."""
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


MOVING_STATUSES = frozenset({"setup", "wait-unplug", "active", "pre-switchover", "device", "cancelling", "failing"})
OVER_STATUSES = frozenset({"", "none", "failed", "cancelled"})
RUNNING_STATES = frozenset({"running"})
STILL_STATES = frozenset({"paused", "prelaunch", "suspended", "io-error", "watchdog", "guest-panicked", "shutdown"})


def classify_source(status: str | None, run_state: str | None) -> SourceClass:
    """Class of a source that answered.

    Args:
        status: ``query-migrate``'s status; ``None`` or ``""`` where there is none.
        run_state: ``query-status``'s status.
    """
    status = status or ""
    if status == "completed" and run_state not in RUNNING_STATES:
        return SourceClass.COMPLETED
    if status in MOVING_STATUSES or (status in OVER_STATUSES and run_state == "finish-migrate"):
        return SourceClass.MOVING
    if status in OVER_STATUSES or status == "completed":
        if run_state in RUNNING_STATES:
            return SourceClass.RUNNING
        if run_state in STILL_STATES or run_state == "postmigrate":
            return SourceClass.STOPPED
    return SourceClass.UNCLEAR


def classify_destination(status: str | None, run_state: str | None) -> DestinationClass:
    """Class of a destination that answered; arguments as for `classify_source`."""
    status = status or ""
    if status == "failed":
        return DestinationClass.ENDED
    if run_state in RUNNING_STATES:
        return DestinationClass.RUNNING
    if run_state == "inmigrate" and status in {"", "none", "setup", "active"}:
        return DestinationClass.LOADING
    if status == "completed":
        return DestinationClass.READY if run_state in STILL_STATES else DestinationClass.LOADING
    return DestinationClass.UNCLEAR


S, SC, DC = Signal, SourceClass, DestinationClass
Verdicts = dict[tuple[SourceClass, DestinationClass], Signal]

BEFORE_CONTINUE: Verdicts = {
    **{(SC.RUNNING, d): S.VERDICT_SOURCE for d in DC},
    **{(SC.STOPPED, d): S.VERDICT_SOURCE for d in DC},
    **{(SC.MOVING, d): S.VERDICT_SOURCE for d in DC},
    (SC.MOVING, DC.LOADING): S.VERDICT_GOES_ON,
    (SC.MOVING, DC.READY): S.VERDICT_GOES_ON,
    # It pauses before the switchover and was never told to go on: whoever continued it, it is out now.
    (SC.COMPLETED, DC.RUNNING): S.VERDICT_DESTINATION_RUNS,
    (SC.COMPLETED, DC.READY): S.VERDICT_ACTIVATE,
    (SC.COMPLETED, DC.LOADING): S.VERDICT_HOLD,
    (SC.COMPLETED, DC.ENDED): S.VERDICT_HAND_BACK,
    (SC.COMPLETED, DC.UNREACHABLE): S.VERDICT_HOLD,
    (SC.COMPLETED, DC.UNCLEAR): S.VERDICT_HOLD,
    # Dead before the destination can have had everything.
    **{(SC.ENDED, d): S.VERDICT_LOST for d in DC},
    (SC.ENDED, DC.READY): S.VERDICT_HOLD,
    # It cannot complete without a migrate-continue, so ending the destination is safe and frees it.
    **{(SC.UNREACHABLE, d): S.VERDICT_SOURCE for d in DC},
    (SC.UNREACHABLE, DC.READY): S.VERDICT_HOLD,
    **{(SC.UNCLEAR, d): S.VERDICT_HOLD for d in DC},
    # A destination that runs though nobody told it to is held up to a person in every case but one.
    **{(s, DC.RUNNING): S.VERDICT_HOLD for s in SC if s is not SC.COMPLETED},
}

AFTER_CONTINUE: Verdicts = {
    **{(SC.RUNNING, d): S.VERDICT_SOURCE for d in DC},
    **{(SC.STOPPED, d): S.VERDICT_SOURCE for d in DC},
    **{(SC.MOVING, d): S.VERDICT_GOES_ON for d in DC},
    (SC.COMPLETED, DC.RUNNING): S.VERDICT_DESTINATION_RUNS,
    (SC.COMPLETED, DC.READY): S.VERDICT_ACTIVATE,
    (SC.COMPLETED, DC.LOADING): S.VERDICT_GOES_ON,
    (SC.COMPLETED, DC.ENDED): S.VERDICT_HAND_BACK,
    (SC.COMPLETED, DC.UNREACHABLE): S.VERDICT_HOLD,
    (SC.COMPLETED, DC.UNCLEAR): S.VERDICT_HOLD,
    (SC.ENDED, DC.RUNNING): S.VERDICT_DESTINATION_RUNS,
    (SC.ENDED, DC.READY): S.VERDICT_ACTIVATE,
    (SC.ENDED, DC.LOADING): S.VERDICT_GOES_ON,
    (SC.ENDED, DC.ENDED): S.VERDICT_LOST,
    (SC.ENDED, DC.UNREACHABLE): S.VERDICT_HOLD,
    (SC.ENDED, DC.UNCLEAR): S.VERDICT_HOLD,
    # In limbo and out of sight: it may have failed and be running. A destination that ended without ever
    # running leaves the source as the only copy; everything else is held.
    **{(SC.UNREACHABLE, d): S.VERDICT_HOLD for d in DC},
    (SC.UNREACHABLE, DC.ENDED): S.VERDICT_SOURCE,
    **{(SC.UNCLEAR, d): S.VERDICT_HOLD for d in DC},
    **{(s, DC.RUNNING): S.VERDICT_HOLD for s in (SC.RUNNING, SC.STOPPED, SC.MOVING)},
}


def verdict(source: SourceClass, destination: DestinationClass, facts: frozenset[Fact]) -> Signal:
    """What follows from the two classes and from what is known of this migration.

    Returns:
        One of the ``VERDICT_*`` signals.
    """
    if Fact.SOURCE_COMPLETED in facts and source in (SC.ENDED, SC.UNREACHABLE, SC.UNCLEAR):
        source = SC.COMPLETED  # it can only come back from there by a cont of ours, and none was sent
    if Fact.SETBACK in facts and source is SC.ENDED:
        return S.VERDICT_LOST  # it ran again before it died: the destination's copy is old
    if Fact.CONT_SENT in facts:
        if source in (SC.COMPLETED, SC.ENDED, SC.UNREACHABLE):
            known: Verdicts = {
                (source, DC.RUNNING): S.VERDICT_DESTINATION_RUNS,
                (source, DC.READY): S.VERDICT_ACTIVATE,
                (source, DC.ENDED): S.VERDICT_HAND_BACK,
            }
            return known.get((source, destination), S.VERDICT_HOLD)
        return S.VERDICT_HOLD
    table = AFTER_CONTINUE if Fact.CONTINUED in facts else BEFORE_CONTINUE
    return table[source, destination]


ALL_PAIRS = tuple(product(SourceClass, DestinationClass))
