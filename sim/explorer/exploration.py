"""Breadth first through every world that faults, up to a bound, can lead to.

Every state is judged by invariants 1 to 6 as it is met; every end, once both QEMUs have come to rest, by 8. When
the whole space is known it is seen to have no cycle: with no cycle every course is finite, and what has no way
on is an end (7). A world in which more piles up than in any finite course counts as a cycle.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from .commands import ISSUED
from .controller import Controller
from .invariants import MEANING, breach, false_end
from .moves import Moves
from .protocol import Protocol
from .qemu import own_moves
from .scenarios import Scenario
from .world import Breach, Frozen, World

LOOK_AT_CLOCK_EVERY = 2048


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A way to something that must not be.

    Attributes:
        breach: which invariant.
        why: one sentence.
        trace: the shortest way there, a line for each step, with what the protocol made of it.
    """

    breach: Breach
    why: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class End:
    """A kind of end."""

    faults: int
    phase: str
    owner: str
    guest: str


@dataclass(slots=True)
class Found:
    """What an exploration met.

    Attributes:
        scenario: its name.
        faults: the bound.
        states: distinct worlds.
        transitions: distinct moves between them.
        longest: the steps of the longest course.
        seconds: how long it took.
        whole: whether the space was explored to its end; if not, 7 was not judged.
        ends: how many worlds of each kind of end.
        broken: one counterexample of each kind, the shortest.
    """

    scenario: str
    faults: int
    states: int = 0
    transitions: int = 0
    longest: int = 0
    seconds: float = 0.0
    whole: bool = True
    ends: Counter[End] = field(default_factory=Counter[End])
    broken: list[Counterexample] = field(default_factory=list[Counterexample])


Progress = Callable[[Found], None]


class Exploration:
    """One scenario's space under one protocol.

    Attributes:
        found: what was met so far.
    """

    def __init__(self, scenario: Scenario, protocol: Protocol, faults: int, *, most: int = 5) -> None:
        """Prepare.

        Args:
            scenario: which space.
            protocol: whose steps; a broken one in the tests.
            faults: at most so many in one course.
            most: at most so many counterexamples are kept, one of each kind.
        """
        self.scenario = scenario
        self.protocol = protocol
        self.faults = faults
        self.most = most
        self.found = Found(scenario.name, faults)
        self._moves = Moves(scenario, Controller(protocol, scenario.quirks))
        self._kinds: set[Hashable] = set()
        # For each world: from which it was first met, by which move; the moves, as pairs of worlds.
        self._parents = array("i")
        self._labels = array("i")
        self._from = array("i")
        self._to = array("i")
        self._label_numbers: dict[str, int] = {}
        self._label_texts: list[str] = []
        self._example_of: dict[End, int] = {}

    def run(self, seconds: float = float("inf"), progress: Progress | None = None) -> Found:
        """Explore until nothing is left, or the time is up.

        Args:
            seconds: how long at most; what is left then makes the result not `Found.whole`.
            progress: told now and then how far it is.
        """
        began = time.monotonic()
        found = self.found
        start = self._moves.start().freeze()
        seen: dict[Frozen, int] = {start: self._meet(-1, "the start")}
        frontier = [(0, start)]
        while frontier and found.whole:
            following: list[tuple[int, Frozen]] = []
            for number, frozen in frontier:
                if number % LOOK_AT_CLOCK_EVERY == 0:
                    self._count(began)
                    if progress is not None:
                        progress(found)
                    if found.seconds > seconds:
                        found.whole = False
                        break
                self._expand(number, World(*frozen), seen, following)
            frontier = following
        if found.whole:
            self._see_that_it_ends()
        self._count(began)
        return found

    def trace_to(self, end: End) -> tuple[str, ...]:
        """The shortest way to an end of this kind."""
        return self._trace(self._example_of[end])

    # ---- inside

    def _count(self, began: float) -> None:
        self.found.states, self.found.transitions = len(self._parents), len(self._from)
        self.found.seconds = time.monotonic() - began

    def _meet(self, parent: int, label: str) -> int:
        number = self._label_numbers.setdefault(label, len(self._label_texts))
        if number == len(self._label_texts):
            self._label_texts.append(label)
        self._parents.append(parent)
        self._labels.append(number)
        return len(self._parents) - 1

    def _expand(self, number: int, world: World, seen: dict[Frozen, int], following: list[tuple[int, Frozen]]) -> None:
        moves = self._moves.of(world, self.faults)
        if self.protocol.ended[world.protocol]:
            self._judge_end(number, world)
        elif not moves:
            self._report(Breach.NO_END, "nothing can happen any more", number, self.protocol.phases[world.protocol])
        for label, after in moves:
            value = after.freeze()
            known = seen.get(value)
            if known is None:
                known = seen[value] = self._meet(number, label)
                if self._judge(known, after):
                    following.append((known, value))
            self._from.append(number)
            self._to.append(known)

    def _judge(self, number: int, world: World) -> bool:
        """Whether it is worth going on from this world."""
        wrong = breach(world, self.scenario.quirks)
        if wrong:
            self._report(wrong, MEANING[wrong], number, self.protocol.phases[world.protocol])
            return False
        if self._moves.grows(world):
            self._report(Breach.NO_END, "commands or news pile up without end", number, "growth")
            return False
        return True

    def _judge_end(self, number: int, world: World) -> None:
        if own_moves(world, self.scenario.quirks):
            return
        state = self.protocol.states[world.protocol]
        guest = state.guest.value if state.guest is not None else "not said"
        end = End(world.faults, state.phase.value, state.owner.value, guest)
        self.found.ends[end] += 1
        self._example_of.setdefault(end, number)
        wrong = false_end(world, state, self.scenario.quirks)
        if wrong is not None:
            self._report(Breach.WRONG_END, wrong, number, (wrong, end.phase, end.owner))

    def _report(self, what: Breach, why: str, number: int, kind: Hashable) -> None:
        """Keep the first counterexample of each kind: breadth first makes it the shortest."""
        if (what, kind) in self._kinds or len(self.found.broken) >= self.most:
            return
        self._kinds.add((what, kind))
        self.found.broken.append(Counterexample(what, why, self._trace(number)))

    def _trace(self, number: int) -> tuple[str, ...]:
        """The steps to a world, walked once more to see what the protocol made of each."""
        labels: list[str] = []
        while number > 0:
            labels.append(self._label_texts[self._labels[number]])
            number = self._parents[number]
        world = self._moves.start()
        lines: list[str] = []
        for label in reversed(labels):
            before = world
            world = next(after for text, after in self._moves.of(before, self.faults) if text == label)
            lines.append(f"{label:<60} {self._made_of(before, world)}".rstrip())
        return tuple(lines)

    def _made_of(self, before: World, after: World) -> str:
        state = self.protocol.states[after.protocol]
        new = list(after.orders)
        for order in before.orders:
            if order in new:
                new.remove(order)
        words: list[str] = []
        if after.protocol != before.protocol:
            words.append(f"{state.phase.value}/{state.owner.value}")
            if state.guest is not None:
                words.append(f"the guest: {state.guest.value}")
        ordered = [Moves.name(order) for order in new if order % 4 == ISSUED]
        if ordered:
            words.append(f"-> {', '.join(ordered)}")
        return " ".join(words)

    def _see_that_it_ends(self) -> None:
        """Take away worlds that nothing leads to, again and again: what is left is on a cycle, or behind one."""
        count = len(self._parents)
        leads = array("i", bytes(4 * count))
        for to in self._to:
            leads[to] += 1
        # The moves stand in the order of the worlds that they start from.
        first = array("i", bytes(4 * (count + 1)))
        for start in self._from:
            first[start + 1] += 1
        for number in range(count):
            first[number + 1] += first[number]
        ready = [number for number in range(count) if leads[number] == 0]
        depth = array("i", bytes(4 * count))
        left = count
        while ready:
            at = ready.pop()
            left -= 1
            for move in range(first[at], first[at + 1]):
                to = self._to[move]
                depth[to] = max(depth[to], depth[at] + 1)
                leads[to] -= 1
                if leads[to] == 0:
                    ready.append(to)
        self.found.longest = max(depth, default=0)
        if left:
            self._report(Breach.NO_END, "it goes round in a circle", self._on_a_cycle(leads), "cycle")

    def _on_a_cycle(self, leads: array[int]) -> int:
        """A world that comes again when one walks backwards among those that are left."""
        before: dict[int, int] = {}
        for start, to in zip(self._from, self._to, strict=True):
            if leads[start] > 0 and leads[to] > 0:
                before.setdefault(to, start)
        walked: set[int] = set()
        at = next(iter(before))
        while at not in walked:
            walked.add(at)
            at = before[at]
        return at


def explore(
    scenario: Scenario,
    protocol: Protocol | None = None,
    faults: int = 2,
    *,
    seconds: float = float("inf"),
    most: int = 5,
    progress: Progress | None = None,
) -> Found:
    """Explore one scenario.

    Args:
        scenario: which space.
        protocol: whose steps; the real one if none is given.
        faults: at most so many in one course.
        seconds: how long at most.
        most: at most so many counterexamples.
        progress: told now and then how far it is.
    """
    return Exploration(scenario, protocol or Protocol(), faults, most=most).run(seconds, progress)
