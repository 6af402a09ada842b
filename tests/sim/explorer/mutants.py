"""Deliberately broken protocols, each with the invariant that has to catch it.

A mutant is a table, or a verdict, with one mistake that somebody might well make. It is explored in a small space
that is known to hold the way to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from whimbrel.engine.resolve import DestinationClass, SourceClass, verdict
from whimbrel.engine.rules import Rule, Table, facts, ignored
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase
from whimbrel.engine.tables import TABLE
from whimbrel.sim.explorer.protocol import Protocol, Verdict
from whimbrel.sim.explorer.scenarios import BY_NAME, Fault, Scenario
from whimbrel.sim.explorer.world import Breach

C, P, S = Command, Phase, Signal
Entry = tuple[Phase, Signal]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake.

    Attributes:
        mistake: in words.
        caught_by: the invariant.
        scenario: where.
        faults: of which kinds.
        bound: how many.
        table: the broken table.
        verdict_of: the broken verdict.
        wishes: cancels.
        also: what else it breaks there.
    """

    mistake: str
    caught_by: Breach
    scenario: str
    faults: frozenset[Fault]
    bound: int
    table: Callable[[], Table] = lambda: TABLE
    verdict_of: Verdict = verdict
    wishes: int = 0
    also: frozenset[Breach] = frozenset()

    def space(self) -> Scenario:
        """Where it is looked for."""
        return replace(BY_NAME[self.scenario], faults=self.faults, wishes=self.wishes)

    def protocol(self) -> Protocol:
        """The broken protocol."""
        return Protocol(self.table(), self.verdict_of)


def instead(entries: dict[Entry, tuple[Rule, ...]]) -> Callable[[], Table]:
    """The table with these entries in the place of its own."""
    return lambda: TABLE | entries


def first(rule: Rule, at: Entry) -> Callable[[], Table]:
    """The table with one more rule at this entry, before all others."""
    return lambda: TABLE | {at: (rule, *TABLE[at])}


def without(command: Command, then: Command, at: Entry) -> Callable[[], Table]:
    """The table that at this entry orders the next command at once, leaving one out."""
    return lambda: TABLE | {at: tuple(replace(r, do=then) if r.do is command else r for r in TABLE[at])}


def everywhere(change: Callable[[Rule], Rule]) -> Callable[[], Table]:
    """The table with every rule changed."""
    return lambda: {entry: tuple(change(rule) for rule in rules) for entry, rules in TABLE.items()}


def no_claim(rule: Rule) -> Rule:
    """CLAIM left out: the guest is told to run without asking for the lock."""
    return replace(rule, do=C.RESUME_DESTINATION) if rule.do is C.CLAIM else rule


def resume_on_gone(source: SourceClass, destination: DestinationClass, facts: frozenset[Fact]) -> Signal:
    """A source whose last words were not heard, taken for one that was heard out."""
    if (source, destination) == (SourceClass.GONE, DestinationClass.READY):
        return S.VERDICT_ACTIVATE
    return verdict(source, destination, facts)


def resume_out_of_sight(source: SourceClass, destination: DestinationClass, facts: frozenset[Fact]) -> Signal:
    """A source that cannot be reached, taken for one that is out."""
    if (source, destination) == (SourceClass.UNREACHABLE, DestinationClass.READY):
        return S.VERDICT_ACTIVATE
    return verdict(source, destination, facts)


KILL = frozenset({Fault.KILL_DESTINATION})
SLOW = frozenset({Fault.EARLY})
NO_FAULT: frozenset[Fault] = frozenset()

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "cont because the destination said postcopy-active, which 11.1's source may not have heard",
        Breach.NOT_WHOLE,
        "postcopy-11.1",
        frozenset({Fault.CUT}),
        1,
        first(
            Rule(P.POSTCOPY, C.CLAIM, owner=Owner.DESTINATION, learn=facts(Fact.POSTCOPY)),
            (P.HANDOVER, S.DESTINATION_POSTCOPY),
        ),
        also=frozenset({Breach.TWO_RUNNING}),
    ),
    Mutant(
        "cont because the destination said completed",
        Breach.TWO_RUNNING,
        "plain",
        frozenset({Fault.CUT}),
        1,
        instead({(P.HANDOVER, S.DESTINATION_COMPLETED): (Rule(P.ACTIVATING, C.CLAIM, owner=Owner.DESTINATION),)}),
    ),
    Mutant(
        "migrate_cancel after migrate-continue",
        Breach.CANCEL_AFTER_CONTINUE,
        "plain",
        NO_FAULT,
        0,
        instead({(P.HANDOVER, S.CANCEL): (Rule(P.CANCELLING, C.CANCEL_MIGRATION),)}),
        wishes=1,
    ),
    Mutant(
        "the source resumed without discarding the destination",
        Breach.TWO_RUNNING,
        "plain",
        SLOW,
        1,
        instead({(P.ACTIVATING, S.DEADLINE): (Rule(P.CANCELLING, C.RESUME_SOURCE, owner=Owner.SOURCE),)}),
    ),
    Mutant(
        "handed back after cont was sent",
        Breach.NOT_WHOLE,
        "plain",
        frozenset({Fault.DROP_DESTINATION, Fault.KILL_DESTINATION}),
        2,
        instead({(P.RESOLVING, S.VERDICT_HAND_BACK): (Rule(P.CANCELLING, C.DISCARD_DESTINATION),)}),
    ),
    Mutant(
        "the source let go before the destination runs",
        Breach.WRONG_END,
        "plain",
        NO_FAULT,
        0,
        instead({(P.HANDOVER, S.SOURCE_COMPLETED): (Rule(P.RELEASING, C.RELEASE_SOURCE, owner=Owner.DESTINATION),)}),
    ),
    Mutant(
        "the source let go while post-copy still needs it",
        Breach.NOT_WHOLE,
        "postcopy",
        NO_FAULT,
        0,
        instead({(P.POSTCOPY, S.DESTINATION_RUNNING): (Rule(P.RELEASING, C.RELEASE_SOURCE),)}),
    ),
    Mutant(
        "resumed at the destination though the source's last words were not heard",
        Breach.NOT_WHOLE,
        "off",
        frozenset({Fault.CUT, Fault.CRASH}),
        2,
        verdict_of=resume_on_gone,
    ),
    Mutant(
        "resumed at the destination though the source is out of sight",
        Breach.TWO_RUNNING,
        "plain",
        frozenset({Fault.CUT, Fault.BLOCK_SOURCE}),
        2,
        verdict_of=resume_out_of_sight,
    ),
    Mutant(
        "no way out of a handover that hangs",
        Breach.NO_END,
        "plain",
        frozenset({Fault.HANG}),
        1,
        instead({(P.HANDOVER, S.DEADLINE): ignored("it will come")}),
    ),
    Mutant(
        "a new manager that does not ask anew",
        Breach.WRONG_END,
        "plain",
        frozenset({Fault.CRASH}),
        2,
        instead({(P.RESOLVING, S.ADOPTED): ignored("somebody has asked")}),
    ),
    Mutant(
        "the destination discarded in post-copy",
        Breach.OWNER_KILLED,
        "postcopy",
        NO_FAULT,
        0,
        instead({(P.POSTCOPY, S.DESTINATION_RUNNING): (Rule(P.CANCELLING, C.DISCARD_DESTINATION),)}),
    ),
    Mutant(
        "the source resumed after post-copy",
        Breach.SOURCE_AFTER_POSTCOPY,
        "postcopy",
        KILL,
        1,
        first(Rule(P.CANCELLING, C.RESUME_SOURCE, when=frozenset({Fact.POSTCOPY})), (P.RELEASING, S.DESTINATION_ENDED)),
    ),
    Mutant("told to run without the lock", Breach.WITHOUT_LOCK, "lock", NO_FAULT, 0, everywhere(no_claim)),
    Mutant(
        "the lock not had back before the source is resumed",
        Breach.WITHOUT_LOCK,
        "lock",
        KILL,
        1,
        without(C.RECLAIM, C.RESUME_SOURCE, (P.CANCELLING, S.DISCARD_DESTINATION_DONE)),
    ),
    Mutant(
        "continued before the disks were drained",
        Breach.NOT_WHOLE,
        "disks",
        NO_FAULT,
        0,
        instead({(P.SWITCHOVER, S.QUIESCE_DONE): (Rule(P.HANDOVER, C.CONTINUE, owner=Owner.LIMBO),)}),
    ),
    Mutant(
        "taken for running because cont was sent",
        Breach.WRONG_END,
        "plain",
        frozenset({Fault.DROP_DESTINATION}),
        1,
        instead({(P.ACTIVATING, S.RESUME_DESTINATION_UNKNOWN): (Rule(P.COMPLETED, guest=Guest.RUNNING),)}),
    ),
)
