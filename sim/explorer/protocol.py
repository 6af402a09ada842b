"""The real protocol with its states as numbers, each step computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from whimbrel.engine.protocol import Waits, step
from whimbrel.engine.resolve import DestinationClass, SourceClass, learn, verdict
from whimbrel.engine.rules import Table
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Phase, State
from whimbrel.engine.tables import TABLE

from .world import NUMBER_OF, SIGNALS

COMMANDS: Final = tuple(Command)
COMMAND: Final = {command: number for number, command in enumerate(COMMANDS)}
SOURCE_CLASSES: Final = tuple(SourceClass)
DESTINATION_CLASSES: Final = tuple(DestinationClass)

SOURCE_POLLED: Final = frozenset(
    {Phase.PRECOPY, Phase.SWITCHOVER, Phase.HANDOVER, Phase.CANCELLING, Phase.POSTCOPY, Phase.RECOVERING}
)
DESTINATION_POLLED: Final = frozenset({Phase.HANDOVER, Phase.ACTIVATING, Phase.POSTCOPY, Phase.RECOVERING})

NO_COMMAND: Final = -1
WAITS: Final = Waits(*([1] * len(Waits.__dataclass_fields__)))
"""A deadline is armed or it is not: when it fires is the explorer's to say."""

Verdict = Callable[[SourceClass, DestinationClass, frozenset[Fact]], Signal]


class Protocol:
    """`step`, `verdict` and `learn` over numbered states.

    Attributes:
        states: by number; 0 is the state before the start.
        phases: of each state.
        source_polled: whether the driver asks the source for its status in it.
        destination_polled: likewise.
        waiting: whether a deadline runs in it.
        ended: whether nothing follows.
        paused: whether the guest is meant to stand.
    """

    def __init__(self, table: Table = TABLE, verdict_of: Verdict = verdict) -> None:
        self.states: list[State] = []
        self.phases: list[Phase] = []
        self.source_polled: list[bool] = []
        self.destination_polled: list[bool] = []
        self.waiting: list[bool] = []
        self.ended: list[bool] = []
        self.paused: list[bool] = []
        self._table = table
        self._verdict = verdict_of
        self._numbers: dict[State, int] = {}
        self._steps: dict[tuple[int, int], tuple[int, int]] = {}
        self._inspections: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        self._number(State())

    def _number(self, state: State) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self.states)
            self.states.append(state)
            self.phases.append(state.phase)
            self.source_polled.append(state.phase in SOURCE_POLLED)
            self.destination_polled.append(state.phase in DESTINATION_POLLED)
            self.waiting.append(state.deadline_ns is not None)
            self.ended.append(state.phase.is_end)
            self.paused.append(Fact.PAUSED_BEFORE in state.facts)
        return number

    def step(self, number: int, signal: int) -> tuple[int, int]:
        """The state's number and the command's number (`NO_COMMAND`: none) after a signal."""
        key = number, signal
        after = self._steps.get(key)
        if after is None:
            state = self.states[number]
            if SIGNALS[signal] is Signal.DEADLINE:
                state = replace(state, deadline_ns=None)
            taken = step(state, SIGNALS[signal], 0, WAITS, self._table)
            command = NO_COMMAND if taken.command is None else COMMAND[taken.command]
            after = self._steps[key] = self._number(taken.state), command
        return after

    def inspected(self, number: int, source: int, destination: int) -> tuple[int, int, int]:
        """As `step`, for what an inspection found; the third number is the verdict's signal."""
        key = number, source, destination
        after = self._inspections.get(key)
        if after is None:
            state = self.states[number]
            found = SOURCE_CLASSES[source], DESTINATION_CLASSES[destination]
            signal = NUMBER_OF[self._verdict(*found, state.facts)]
            taught = self._number(learn(state, *found))
            after = self._inspections[key] = *self.step(taught, signal), signal
        return after

    def with_facts(self, number: int, facts: Iterable[Fact]) -> int:
        """The state that also knows these: what the inspection of the source teaches the machine."""
        state = self.states[number]
        return self._number(replace(state, facts=state.facts | frozenset(facts)))
