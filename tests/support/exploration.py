"""The states that any order of signals can lead the protocol to, late answers included.

What can happen next depends on two things: the protocol's state, and which commands are out unanswered.
The steps depend on the state alone, so they are computed once per state; the walk over (state, commands
out) is then one over small integers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.engine.protocol import Step, step
from whimbrel.engine.resolve import ALL_PAIRS, learn, verdict
from whimbrel.engine.rules import Table
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Fact, Owner, Phase, State
from whimbrel.engine.tables import ANSWERS, VERDICTS

Taken = tuple[State, Signal, Step]

MOST_STEPS = 400_000
"""All of them are over three million, of which most differ in what counts tries. The whole of what can really come
about is walked through in the world of ``whimbrel.sim.explorer``; here anything may come at any time."""

HERE_NOT = (Signal.DISK_COPY_FAILED, Signal.SOURCE_SHUT_DOWN, Signal.SOURCE_PAUSED, Signal.ADOPTED)
ELSEWHERE = frozenset(signal for signal in Signal if "postcopy" in signal.value or signal in HERE_NOT)
"""Left out of this walk, which would grow beyond all bounds; the world of ``whimbrel.sim.explorer`` has them."""

UNASKED = tuple(signal for signal in Signal if signal not in ANSWERS | VERDICTS | ELSEWHERE)
"""What may come at any time, in any phase, any number of times."""

ABANDONED = (Command.INSPECT, Command.PREPARE, Command.ARM, Command.QUIESCE)
"""Work that discarding the destination cuts short: its late answers never come."""

# Commands that are out, as one number: two bits for each command, set one after the other, so that up to two
# unanswered ones are told apart and "at least these are out" is "these bits are set".
FIRST = {command: 1 << (2 * place) for place, command in enumerate(Command)}
SECOND = {command: 2 << (2 * place) for place, command in enumerate(Command)}
ABANDONED_BITS = sum(FIRST[command] | SECOND[command] for command in ABANDONED)

# What a signal leads to, as the walk sees it: (number of the next state, the command that goes out).
Edge = tuple[int, Command | None]


@dataclass(slots=True)
class Explored:
    """What was reached."""

    steps: list[Taken] = field(default_factory=list[Taken])
    """Every distinct (state, signal) that can come about, with what followed."""


@dataclass(slots=True)
class _Walk:
    """The states met so far, each with its steps, computed once."""

    table: Table
    until: Callable[[State, Signal, Step], bool] | None
    found: Explored = field(default_factory=Explored)
    stopped: bool = False
    states: list[State] = field(default_factory=list[State])
    numbers: dict[State, int] = field(default_factory=dict[State, int])
    unasked: dict[int, tuple[Edge, ...]] = field(default_factory=dict[int, tuple[Edge, ...]])
    answered: dict[tuple[int, Command], tuple[Edge, ...]] = field(
        default_factory=dict[tuple[int, Command], tuple[Edge, ...]]
    )

    def number(self, state: State) -> int:
        """A small integer that stands for a state."""
        number = self.numbers.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    def edges(self, number: int, command: Command | None) -> tuple[Edge, ...]:
        """Where the unasked signals lead (``None``), or the answers to one command."""
        known = self.unasked.get(number) if command is None else self.answered.get((number, command))
        if known is not None:
            return known
        state = self.states[number]
        signals = dict.fromkeys((state, signal) for signal in UNASKED) if command is None else answers(state, command)
        # In an order of its own, not of hashes: a bounded walk is the same every time.
        edges = tuple(dict.fromkeys(self._take(told, signal) for told, signal in signals))
        if command is None:
            self.unasked[number] = edges
        else:
            self.answered[number, command] = edges
        return edges

    def _take(self, state: State, signal: Signal) -> Edge:
        taken = step(state, signal, 0, table=self.table)
        self.found.steps.append((state, signal, taken))
        if self.until is not None and self.until(state, signal, taken):
            self.stopped = True
        return self.number(taken.state), taken.command


def answers(state: State, command: Command) -> dict[tuple[State, Signal], None]:
    """What may come as the answer to a command, with the state as it is then: an inspection teaches something.

    Verdicts come only as the verdict table gives them.
    """
    if command is Command.INSPECT_BOTH:
        return dict.fromkeys(
            (learn(state, source, destination), verdict(source, destination, state.facts))
            for source, destination in ALL_PAIRS
            if "postcopy" not in (source.value, destination.value)
        )
    return dict.fromkeys((state, answer(command, outcome)) for outcome in Outcome)


def out_after(out: int, answered: Command | None, issued: Command | None) -> int:
    """The commands that are out after a step."""
    if answered is not None:
        out &= ~(SECOND[answered] if out & SECOND[answered] else FIRST[answered])
    if issued is not None:
        if issued is Command.DISCARD_DESTINATION:
            out &= ~ABANDONED_BITS
        out |= SECOND[issued] if out & FIRST[issued] else FIRST[issued]
    return out


def explore(
    table: Table, *, until: Callable[[State, Signal, Step], bool] | None = None, most: int = MOST_STEPS
) -> Explored:
    """Walk what can be reached, breadth first: whatever the shortest ways lead to.

    A state that was met with more commands out is not walked again with fewer: whatever can follow then has
    followed already.

    Args:
        table: the protocol.
        until: stop as soon as this holds of a step.
        most: stop after so many distinct steps.
    """
    walk = _Walk(table, until)
    queue = deque([(walk.number(State()), 0)])
    met: dict[int, list[int]] = {number: [out] for number, out in queue}
    while queue and not walk.stopped and len(walk.found.steps) < most:
        number, out = queue.popleft()
        if out not in met[number]:
            continue  # met since with more out
        unanswered = (command for command in Command if out & FIRST[command])
        for answered in (None, *unanswered):
            for following, issued in walk.edges(number, answered):
                reached = out_after(out, answered, issued)
                before = met.setdefault(following, [])
                if walk.states[following].phase.is_end or any(reached & more == reached for more in before):
                    continue
                met[following] = [fewer for fewer in before if fewer & reached != fewer] + [reached]
                queue.append((following, reached))
    return walk.found


def breach(state: State, signal: Signal, taken: Step) -> str | None:
    """The rule of ownership that a step breaks, in words; ``None``: none."""
    known, command = taken.state.facts, taken.command
    out = {Fact.SOURCE_COMPLETED, Fact.SOURCE_ENDED} & known
    after_cont = (Command.DISCARD_DESTINATION, Command.RESUME_SOURCE, Command.RESTORE_SOURCE, Command.BREAK)
    if command is Command.CANCEL_MIGRATION and Fact.CONTINUED in known:
        return "migrate_cancel after migrate-continue"
    if command is Command.RESUME_DESTINATION and (not out or Fact.DISCARDING in known):
        return "cont on a destination whose source is not proven out"
    if command in after_cont and Fact.CONT_SENT in known:
        return "back to the source though the destination may have run"
    if command is Command.RESUME_SOURCE and not {Fact.DISCARDING, Fact.DISCARDED} <= known:
        return "cont on a completed source whose destination is not known to be dead"
    if command is Command.RELEASE_SOURCE and (taken.state.owner.value != "destination" or Fact.DISCARDING in known):
        return "quit on a source that may own the guest"
    if taken.state.phase.is_end and (taken.state.guest is None or taken.state.deadline_ns is not None):
        return "an end that does not say what became of the guest"
    return None


LEGAL_OWNERS: dict[Phase, frozenset[Owner]] = {
    Phase.PREFLIGHT: frozenset({Owner.SOURCE}),
    Phase.PREPARING: frozenset({Owner.SOURCE}),
    Phase.MIRRORING: frozenset({Owner.SOURCE}),
    Phase.PRECOPY: frozenset({Owner.SOURCE}),
    Phase.SWITCHOVER: frozenset({Owner.SOURCE}),
    Phase.HANDOVER: frozenset({Owner.LIMBO, Owner.DESTINATION}),
    Phase.ACTIVATING: frozenset({Owner.DESTINATION}),
    Phase.POSTCOPY: frozenset({Owner.DESTINATION}),
    Phase.RECOVERING: frozenset({Owner.DESTINATION}),
    Phase.RELEASING: frozenset({Owner.DESTINATION}),
    Phase.CANCELLING: frozenset(Owner),
    Phase.RESOLVING: frozenset(Owner),
    Phase.COMPLETED: frozenset({Owner.DESTINATION}),
    Phase.CANCELLED: frozenset({Owner.SOURCE}),
    Phase.FAILED: frozenset(Owner),
}
"""Where the token can be in each phase."""
