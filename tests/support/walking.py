"""Walks through the protocol by signals alone, and the ways to its phases."""

from __future__ import annotations

from collections.abc import Iterable

from whimbrel.engine.protocol import step
from whimbrel.engine.resolve import DestinationClass, SourceClass, learn, verdict
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, State

S = Signal

TO_PREPARING = (S.START, S.INSPECT_DONE)
TO_PRECOPY = (*TO_PREPARING, S.PREPARE_DONE, S.ARM_DONE, S.MIGRATE_DONE, S.SOURCE_ACTIVE)
TO_SWITCHOVER = (*TO_PRECOPY, S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER)
TO_HANDOVER = (*TO_SWITCHOVER, S.QUIESCE_DONE, S.CONTINUE_DONE, S.SOURCE_DEVICE)
TO_ACTIVATING = (*TO_HANDOVER, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)
TO_RELEASING = (*TO_ACTIVATING, S.CLAIM_DONE, S.DESTINATION_RUNNING)
TO_POSTCOPY = (*TO_PRECOPY, S.POSTCOPY_CHOSEN, S.START_POSTCOPY_DONE, S.SOURCE_POSTCOPY, S.DESTINATION_POSTCOPY)
TO_RECOVERING = (*TO_POSTCOPY, S.CLAIM_DONE, S.DESTINATION_RUNNING, S.SOURCE_POSTCOPY_PAUSED)


Found = tuple[SourceClass, DestinationClass]
"""An inspection of both sides."""


def walk(words: Iterable[Signal | Found], state: State | None = None) -> tuple[State, list[Command]]:
    """Where these signals and inspections lead, and the commands that go out on the way."""
    now, commands = state or State(), list[Command]()
    for word in words:
        if isinstance(word, Signal):
            taken = step(now, word, 0)
        else:
            follows = verdict(*word, now.facts)
            taken = step(learn(now, *word), follows, 0)
        now = taken.state
        commands += [taken.command] if taken.command is not None else []
    return now, commands


def knowing(*facts: Fact) -> State:
    """A migration that has not begun, of which this is known."""
    return State(facts=frozenset(facts))
