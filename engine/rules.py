"""The form of a table entry, and the few rules that several phases share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .signals import Command, Signal
from .states import Fact, Guest, Owner, Phase

Table = dict[tuple[Phase, Signal], tuple["Rule", ...]]

NO_FACTS: frozenset[Fact] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table: under which facts it holds, and what follows.

    Of the rules of an entry the first whose guard holds is taken; the last one has no guard.
    """

    to: Phase | None = None
    """The phase that follows; ``None``: it stays."""
    do: Command | None = None
    """The command that goes out."""
    when: frozenset[Fact] = NO_FACTS
    """All of these must be known."""
    unless: frozenset[Fact] = NO_FACTS
    """None of these may be known."""
    owner: Owner | None = None
    """Where the token goes; ``None``: it stays."""
    learn: frozenset[Fact] = NO_FACTS
    """Facts added by this rule."""
    forget: frozenset[Fact] = NO_FACTS
    """Facts that no longer hold."""
    guest: Guest | None = None
    """What has become of the guest; set by rules that lead to an end."""
    rest: bool = False
    """The running deadline is lifted: what it guarded has happened."""
    because: str = ""
    """Why, where it does not speak for itself; always given where an event is ignored."""

    def holds(self, facts: frozenset[Fact]) -> bool:
        """Whether the guard holds under what is known."""
        return self.when <= facts and not (self.unless & facts)

    @property
    def is_ignored(self) -> bool:
        """Whether nothing follows but that the event is noted."""
        return (
            self.to is None
            and self.do is None
            and self.owner is None
            and not self.learn | self.forget
            and not self.rest
        )


def facts(*members: Fact) -> frozenset[Fact]:
    """A guard, written short."""
    return frozenset(members)


def only_when(rules: tuple[Rule, ...], *members: Fact) -> tuple[Rule, ...]:
    """The same rules with more to their guards."""
    return tuple(replace(rule, when=rule.when | frozenset(members)) for rule in rules)


def only_unless(rules: tuple[Rule, ...], *members: Fact) -> tuple[Rule, ...]:
    """The same rules with more that must not be known."""
    return tuple(replace(rule, unless=rule.unless | frozenset(members)) for rule in rules)


BACK_OUT = (Rule(Phase.CANCELLING, Command.DISCARD_DESTINATION),)
"""No migration runs on the source (any more): end the destination, see the source right."""

BACK_OUT_MOVING = (Rule(Phase.CANCELLING, Command.CANCEL_MIGRATION),)
"""A migration runs and ``migrate-continue`` was never sent: stop it first."""

CALLED_OFF = (Rule(Phase.CANCELLING, Command.DISCARD_DESTINATION, learn=facts(Fact.CANCEL_WANTED)),)
CALLED_OFF_MOVING = (Rule(Phase.CANCELLING, Command.CANCEL_MIGRATION, learn=facts(Fact.CANCEL_WANTED)),)


def forgetting(rules: tuple[Rule, ...], *members: Fact) -> tuple[Rule, ...]:
    """The same rules, after which these facts no longer hold."""
    return tuple(replace(rule, forget=rule.forget | frozenset(members)) for rule in rules)


def learning(rules: tuple[Rule, ...], *members: Fact) -> tuple[Rule, ...]:
    """The same rules, after which these facts hold."""
    return tuple(replace(rule, learn=rule.learn | frozenset(members)) for rule in rules)


ASK = (Rule(Phase.RESOLVING, Command.INSPECT_BOTH),)
"""What is true is not known: ask both sides."""

ASK_IN_TIME = (
    Rule(Phase.RESOLVING, Command.INSPECT_BOTH, when=facts(Fact.ASKED), learn=facts(Fact.WAITED_OUT)),
    Rule(Phase.RESOLVING, Command.INSPECT_BOTH, learn=facts(Fact.ASKED)),
)
"""A deadline passed: the second time is the last."""

TRIES = facts(
    *(Fact.ASKED, Fact.WAITED_OUT, Fact.RETRIED, Fact.RETOLD, Fact.RECALLED, Fact.LOOKED, Fact.LOST_AGAIN),
    *(Fact.BROKEN, Fact.CUT),
)
"""What was tried, and waited for: a manager that begins afresh begins this afresh. Whatever a dead one was at has
been done or will not be."""

ACTIVATE = (Rule(Phase.ACTIVATING, Command.CLAIM, owner=Owner.DESTINATION, learn=facts(Fact.CONTINUED)),)
"""The source is proven out, whoever told it to go on, and the destination has everything: it is given the guest."""

GIVE_BACK = (
    Rule(
        Phase.CANCELLING,
        Command.DISCARD_DESTINATION,
        when=facts(Fact.SOURCE_COMPLETED, Fact.SOURCE_STANDS),
        unless=facts(Fact.POSTCOPY, Fact.POSTCOPY_ASKED),
        because="the destination did not and will not run it: the source, which stands there, can have the guest back",
    ),
    Rule(
        Phase.FAILED,
        owner=Owner.DESTINATION,
        guest=Guest.HELD,
        because="the destination did not run it, and the source is not there to have it back: it stands paused",
    ),
)
"""Only behind a source that was just seen: otherwise the destination may hold the only copy."""

LET_GO = (Rule(Phase.RELEASING, Command.RELEASE_SOURCE, owner=Owner.DESTINATION),)
"""The destination said completed and runs (or has come through resolving): the source may go."""

BACKED_OUT = (
    Rule(
        Phase.CANCELLED,
        when=facts(Fact.CANCEL_WANTED, Fact.PAUSED_BEFORE),
        owner=Owner.SOURCE,
        guest=Guest.PAUSED,
    ),
    Rule(Phase.CANCELLED, when=facts(Fact.CANCEL_WANTED), owner=Owner.SOURCE, guest=Guest.RUNNING),
    Rule(Phase.FAILED, when=facts(Fact.PAUSED_BEFORE), owner=Owner.SOURCE, guest=Guest.PAUSED),
    Rule(Phase.FAILED, owner=Owner.SOURCE, guest=Guest.RUNNING),
)
"""The source is seen in the run state that it had."""

LATE_CLAIM = Rule(when=facts(Fact.CONT_SENT), because="the answer to an earlier claim: the guest was told to run since")

RAN_AGAIN = Rule(
    Phase.CANCELLING,
    Command.DISCARD_DESTINATION,
    when=facts(Fact.SETBACK),
    unless=facts(Fact.CONT_SENT),
    owner=Owner.SOURCE,
    forget=facts(Fact.POSTCOPY),
    because="the source was seen to run again after it was looked at: the destination's copy is old",
)

TAKE_GUEST = (
    LATE_CLAIM,
    RAN_AGAIN,
    Rule(
        Phase.RELEASING,
        Command.RELEASE_SOURCE,
        when=facts(Fact.PAUSED_BEFORE),
        because="the guest stood paused and stays so: there is nothing to resume",
    ),
    Rule(do=Command.RESUME_DESTINATION),
)
"""The destination holds the guest's lock."""

MOVED = (
    Rule(Phase.COMPLETED, when=facts(Fact.PAUSED_BEFORE), owner=Owner.DESTINATION, guest=Guest.PAUSED),
    Rule(Phase.COMPLETED, owner=Owner.DESTINATION, guest=Guest.RUNNING),
)

LOST_WITH_SOURCE = (
    Rule(
        Phase.FAILED,
        when=facts(Fact.SOURCE_ENDED, Fact.SHUT_DOWN),
        owner=Owner.SOURCE,
        guest=Guest.SHUT_DOWN,
        because="the guest powered itself off before the destination had everything",
    ),
    Rule(
        Phase.FAILED,
        when=facts(Fact.SOURCE_ENDED),
        owner=Owner.SOURCE,
        guest=Guest.LOST,
        because="the source process ended before the destination had everything",
    ),
)

LOST_IN_POSTCOPY = (
    Rule(
        Phase.FAILED,
        owner=Owner.DESTINATION,
        guest=Guest.LOST,
        because="in post-copy each side holds a part of the guest's memory: with either process it is lost",
    ),
)

HELD = (
    Rule(
        Phase.FAILED,
        when=facts(Fact.DESTINATION_RAN),
        unless=facts(Fact.CONT_SENT),
        owner=Owner.LIMBO,
        guest=Guest.UNCONFIRMED,
        because="the destination runs, though nobody told it to",
    ),
    Rule(
        Phase.FAILED,
        when=facts(Fact.CONT_SENT),
        guest=Guest.UNCONFIRMED,
        because="the destination was told to run, and whether it does could not be seen",
    ),
    Rule(Phase.FAILED, guest=Guest.HELD),
)


def ignored(because: str) -> tuple[Rule, ...]:
    """The event is noted in the log and nothing else."""
    return (Rule(because=because),)


RUNS_AGAIN: tuple[Rule, ...] = (
    Rule(when=facts(Fact.PAUSED_BEFORE), forget=facts(Fact.PAUSED_BEFORE), because="its owner resumed it meanwhile"),
    Rule(because="it was running already"),
)
STANDS: tuple[Rule, ...] = (
    Rule(when=facts(Fact.PAUSED_BEFORE), because="it stood already"),
    Rule(
        learn=facts(Fact.PAUSED_BEFORE), because="its owner stopped it, or an error did: it stays so where it arrives"
    ),
)

WENT_ON_BY_ITSELF = "somebody else sent migrate-continue, or QEMU did not pause: the token follows what is true"

IN_POSTCOPY: tuple[Rule, ...] = (
    Rule(
        Phase.POSTCOPY,
        Command.CLAIM,
        when=facts(Fact.DESTINATION_POSTCOPY),
        unless=facts(Fact.CLAIMED),
        owner=Owner.DESTINATION,
        learn=facts(Fact.CONTINUED, Fact.POSTCOPY),
    ),
    Rule(Phase.POSTCOPY, owner=Owner.DESTINATION, learn=facts(Fact.CONTINUED, Fact.POSTCOPY)),
)
"""The source is out for ever; the destination is told to run at *its* ``postcopy-active``."""

OUT_IN_LIMBO: tuple[Rule, ...] = (
    Rule(Phase.HANDOVER, owner=Owner.LIMBO, learn=facts(Fact.CONTINUED), because=WENT_ON_BY_ITSELF),
)

SETBACK = (
    Rule(
        Phase.CANCELLING,
        Command.DISCARD_DESTINATION,
        owner=Owner.SOURCE,
        learn=facts(Fact.SETBACK),
        forget=facts(Fact.POSTCOPY),
    ),
)
"""The source runs again by itself, or is about to: the token is back with it, and post-copy never began."""

GONE_IN_POSTCOPY = only_when(LOST_IN_POSTCOPY, Fact.POSTCOPY) + only_when(LOST_IN_POSTCOPY, Fact.DESTINATION_POSTCOPY)
