"""What to make of two QEMUs when an outcome is unknown: classes, intents, and the verdict over them.

Raw run states and migration statuses are open-ended (newer QEMUs add some); `classify_source` and
`classify_destination` are total: a word that is not known becomes ``UNCLEAR``. What the log says of this
migration becomes one of six intents (`intent_of`, total over all sets of facts), and for each intent there
is one table over the two classes.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from itertools import product

from .signals import Signal
from .states import Fact, State


class SourceClass(enum.Enum):
    """What the source is found to be."""

    HOLDING = "holding"
    """No migration is under way (any more): the guest is here, running or stopped."""
    MOVING = "moving"
    """A migration is under way."""
    POSTCOPY = "postcopy"
    """Its guest is gone to the destination, memory follows."""
    COMPLETED = "completed"
    """It said completed and stands still."""
    ENDED = "ended"
    """The process ended and its events were read to the end."""
    GONE = "gone"
    """The process ended, and what it said last was not heard."""
    UNREACHABLE = "unreachable"
    """The process lives, or may live, and its monitor cannot be reached."""
    UNCLEAR = "unclear"


class DestinationClass(enum.Enum):
    """What the destination is found to be."""

    RUNNING = "running"
    READY = "ready"
    """It has everything and stands paused."""
    LOADING = "loading"
    POSTCOPY = "postcopy"
    """It has the guest, running or about to, and memory is still to come."""
    ENDED = "ended"
    """The process ended, or its migration failed."""
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


class Intent(enum.Enum):
    """How far this migration was meant to have gone, by its log."""

    BEFORE = "before"
    """``migrate-continue`` was never sent."""
    CONTINUED = "continued"
    """It was sent, and nothing is proven since."""
    PROVEN = "proven"
    """The source said completed."""
    TOLD = "told"
    """The destination was told to run."""
    SET_BACK = "set-back"
    """After ``migrate-continue`` the source was seen running, failed or cancelled."""
    POSTCOPY = "postcopy"
    """Post-copy began: the source can never run again."""


POSTCOPY_STATUSES = frozenset({"postcopy-active", "postcopy-paused", "postcopy-recover", "postcopy-recover-setup"})
MOVING_STATUSES = frozenset(
    {"setup", "wait-unplug", "active", "pre-switchover", "device", "postcopy-device", "cancelling", "failing"}
)
"""From ``postcopy-device`` QEMU 11.1 may fail yet, and run the guest again."""
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
    if status in POSTCOPY_STATUSES:
        return SourceClass.POSTCOPY
    if status == "completed" and run_state not in RUNNING_STATES:
        return SourceClass.COMPLETED
    if status in MOVING_STATUSES or (status in OVER_STATUSES and run_state == "finish-migrate"):
        return SourceClass.MOVING
    here = RUNNING_STATES | STILL_STATES | {"postmigrate"}
    if (status in OVER_STATUSES or status == "completed") and run_state in here:
        return SourceClass.HOLDING
    return SourceClass.UNCLEAR


def classify_destination(status: str | None, run_state: str | None) -> DestinationClass:
    """Class of a destination that answered; arguments as for `classify_source`."""
    status = status or ""
    if status in POSTCOPY_STATUSES:
        return DestinationClass.POSTCOPY
    if run_state in RUNNING_STATES:
        return DestinationClass.RUNNING
    if status == "failed":
        # One that holds a guest was sent on since, and that failed: it is no failure of ours.
        return DestinationClass.ENDED if run_state in {None, "inmigrate"} else DestinationClass.UNCLEAR
    if run_state == "inmigrate" and status in {"", "none", "setup", "active", "postcopy-device"}:
        return DestinationClass.LOADING
    if status == "completed":
        if run_state in STILL_STATES:
            return DestinationClass.READY
        # In postmigrate it was sent on since.
        return DestinationClass.LOADING if run_state == "inmigrate" else DestinationClass.UNCLEAR
    return DestinationClass.UNCLEAR


def intent_of(facts: frozenset[Fact]) -> Intent:
    """The intent of a migration of which this is known; total."""
    order = (
        (frozenset({Fact.POSTCOPY}), Intent.POSTCOPY),
        (frozenset({Fact.CONT_SENT}), Intent.TOLD),
        (frozenset({Fact.SETBACK}), Intent.SET_BACK),
        # Without a migrate-continue it may be another migration that completed.
        (frozenset({Fact.CONTINUED, Fact.SOURCE_COMPLETED}), Intent.PROVEN),
        (frozenset({Fact.CONTINUED}), Intent.CONTINUED),
    )
    return next((intent for known, intent in order if known <= facts), Intent.BEFORE)


S, SC, DC = Signal, SourceClass, DestinationClass
Verdicts = dict[tuple[SourceClass, DestinationClass], Signal]


def _table(default: Signal, *parts: Verdicts) -> Verdicts:
    """A whole table: later parts win, and what no part names has the default."""
    table = dict.fromkeys(product(SC, DC), default)
    for part in parts:
        table.update(part)
    return table


def _row(source: SourceClass, default: Signal, **others: Signal) -> Verdicts:
    """One source class against every destination class; exceptions by the destination's name."""
    return {(source, d): others.get(d.value, default) for d in DC}


SOURCE, GOES_ON, ACTIVATE = S.VERDICT_SOURCE, S.VERDICT_GOES_ON, S.VERDICT_ACTIVATE
RUNS, HAND_BACK, HOLD, LOST = S.VERDICT_DESTINATION_RUNS, S.VERDICT_HAND_BACK, S.VERDICT_HOLD, S.VERDICT_LOST
FOLLOWS = S.VERDICT_POSTCOPY

UNTOLD_RUNNER: Verdicts = {(s, DC.RUNNING): HOLD for s in SC if s is not SC.COMPLETED}
"""A destination that runs though nobody told it to is held up to a person in every case but one."""

IN_POSTCOPY: Verdicts = _row(
    SC.POSTCOPY, HOLD, running=FOLLOWS, ready=FOLLOWS, loading=FOLLOWS, postcopy=FOLLOWS, ended=LOST
)
"""Whoever began it: the source is out, and its memory is on the way."""

OUT: Verdicts = _row(
    SC.COMPLETED, HOLD, running=RUNS, ready=ACTIVATE, loading=GOES_ON, ended=HAND_BACK, postcopy=FOLLOWS
)
"""The source said completed: it can only come back by a ``cont`` of ours, and has sent everything."""

VERDICTS: dict[Intent, Verdicts] = {
    Intent.BEFORE: _table(
        HOLD,
        _row(SC.HOLDING, SOURCE),
        # In pre-switchover it would stand for ever: a dead destination does not wake it.
        _row(SC.MOVING, S.VERDICT_CALL_OFF, loading=GOES_ON, ready=GOES_ON),
        IN_POSTCOPY,
        # It pauses before the switchover and was never told to go on: whoever continued it, it is out now.
        OUT,
        {(SC.COMPLETED, DC.LOADING): HOLD},
        # It may have completed a later migration, to another host.
        {(SC.COMPLETED, DC.ENDED): HOLD},
        # Dead before the destination can have had everything.
        _row(SC.ENDED, LOST, ready=HOLD, postcopy=HOLD),
        _row(SC.GONE, LOST, ready=HOLD, postcopy=HOLD),
        # It cannot complete without a migrate-continue, so ending the destination is safe and frees it.
        _row(SC.UNREACHABLE, SOURCE, ready=HOLD, postcopy=HOLD),
        UNTOLD_RUNNER,
    ),
    Intent.CONTINUED: _table(
        HOLD,
        _row(SC.HOLDING, SOURCE),
        _row(SC.MOVING, GOES_ON),
        IN_POSTCOPY,
        OUT,
        # In post-copy by the destination's word alone: its memory went with the source.
        _row(SC.ENDED, HOLD, ready=ACTIVATE, loading=GOES_ON, postcopy=LOST, ended=LOST),
        # It may have failed, run on, and ended after that: what the destination has may be old.
        _row(SC.GONE, HOLD, postcopy=LOST, ended=LOST),
        # In limbo and out of sight: it may have failed and be running. A destination that ended without ever
        # running leaves the source as the only copy; everything else is held.
        _row(SC.UNREACHABLE, HOLD, ended=SOURCE),
        UNTOLD_RUNNER,
        {(SC.ENDED, DC.RUNNING): RUNS},
    ),
    Intent.PROVEN: _table(
        HOLD,
        # Somebody else resumed it.
        _row(SC.HOLDING, SOURCE, running=HOLD),
        OUT,
        # One found moving was looked at before it said so.
        {(s, d): v for (_, d), v in OUT.items() for s in (SC.MOVING, SC.UNREACHABLE, SC.UNCLEAR)},
        {(s, d): LOST if d is DC.ENDED else v for (_, d), v in OUT.items() for s in (SC.ENDED, SC.GONE)},
    ),
    Intent.TOLD: _table(
        HOLD,
        *(
            _row(s, HOLD, running=RUNS, ready=ACTIVATE, ended=HAND_BACK)
            for s in (SC.COMPLETED, SC.ENDED, SC.GONE, SC.UNREACHABLE)
        ),
    ),
    Intent.SET_BACK: _table(
        HOLD,
        # It ran again: the destination's copy is old, whatever became of the source since.
        *(_row(s, SOURCE, running=HOLD) for s in (SC.HOLDING, SC.MOVING, SC.UNREACHABLE)),
        *(_row(s, LOST, running=HOLD) for s in (SC.ENDED, SC.GONE)),
    ),
    Intent.POSTCOPY: _table(
        HOLD,
        IN_POSTCOPY,
        # It failed before the package was on its way, and runs again by itself.
        _row(SC.HOLDING, HOLD, ended=SOURCE, loading=SOURCE),
        _row(SC.MOVING, HOLD, running=FOLLOWS, ready=FOLLOWS, loading=FOLLOWS, postcopy=FOLLOWS, ended=LOST),
        _row(SC.COMPLETED, HOLD, running=RUNS, ready=ACTIVATE, loading=FOLLOWS, postcopy=FOLLOWS, ended=LOST),
        # Without the source, what is not on its way never will be; all of it may be, behind what is being loaded.
        *(
            _row(s, HOLD, running=RUNS, ready=ACTIVATE, postcopy=LOST, loading=GOES_ON, ended=LOST)
            for s in (SC.ENDED, SC.GONE)
        ),
        _row(SC.UNREACHABLE, HOLD, running=RUNS, ready=ACTIVATE, postcopy=FOLLOWS, ended=LOST),
    ),
}
"""What follows, for each intent and each pair of classes; docs/protocol.md is made from it."""


def verdict(source: SourceClass, destination: DestinationClass, facts: frozenset[Fact]) -> Signal:
    """What follows from the two classes and from what is known of this migration.

    Returns:
        One of the ``VERDICT_*`` signals.
    """
    return VERDICTS[intent_of(facts)][source, destination]


FACT_OF_CLASS: dict[SourceClass | DestinationClass, Fact] = {
    SC.COMPLETED: Fact.SOURCE_COMPLETED,
    SC.ENDED: Fact.SOURCE_ENDED,
    DC.RUNNING: Fact.DESTINATION_RAN,
    DC.READY: Fact.DESTINATION_COMPLETED,
    DC.POSTCOPY: Fact.DESTINATION_POSTCOPY,
    DC.ENDED: Fact.DESTINATION_ENDED,
}
"""What being found in a class teaches."""


def learn(state: State, source: SourceClass, destination: DestinationClass) -> State:
    """What an inspection teaches, whatever its verdict; to be taken before the verdict's step."""
    if state.phase.is_end:
        return state
    known = state.facts
    taught = {FACT_OF_CLASS[found] for found in (source, destination) if found in FACT_OF_CLASS}
    if source is SC.COMPLETED:
        taught.add(Fact.SOURCE_STANDS)
    if source is SC.GONE and Fact.SOURCE_COMPLETED in known:
        taught.add(Fact.SOURCE_ENDED)  # nothing that it can have said after that matters
    if source is SC.HOLDING and Fact.CONTINUED in known and Fact.CONT_SENT not in known:
        taught.add(Fact.SETBACK)
    return replace(state, facts=(known - {Fact.SOURCE_STANDS}) | taught)


ALL_PAIRS = tuple(product(SourceClass, DestinationClass))
