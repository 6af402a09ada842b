"""Deliberately broken builds, each of which the swarm has to find out.

A canary is one mistake that somebody might well make: in the protocol's tables, in the verdicts over what both sides
are found to be, or in the driver. It is put in place in memory, for as long as a ``with`` lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random

from whimbrel.engine.protocol import DEFAULT_WAITS
from whimbrel.engine.resolve import VERDICTS, DestinationClass, Intent, SourceClass
from whimbrel.engine.rules import Rule, ignored
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Owner, Phase
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.tables import TABLE

from . import driver_ends, driver_replies
from .driver import Driver
from .driver_procedures import Procedures
from .driver_tasks import Work
from .explorer.world import Breach
from .faults import Fault, Kind, Moment
from .seeds import stream
from .trial import Trial

C, P, S, SC, DC = Command, Phase, Signal, SourceClass, DestinationClass
Entry = tuple[Phase, Signal]
Place = tuple[Intent, SourceClass, DestinationClass]


class _Trusting(Procedures):
    """Ends a destination without asking whether it holds the only copy."""

    def discard_destination(self) -> Work[None]:
        """As `Procedures` does, without the question."""
        if self.destination.handle is not None:
            yield from self.destination.handle.kill()


class _Cancelling(Procedures):
    """Ends a handover that hangs by ``migrate_cancel``."""

    def break_stream(self) -> Work[None]:
        """Cancel, and kill the destination."""
        line = yield from self.source.reach(within_s=self.reconnect_s)
        yield from line.call("migrate_cancel")
        if self.destination.handle is not None:
            yield from self.destination.handle.kill()


class _Hasty(Procedures):
    """Lets the destination run before its source is proven out."""

    def go_on(self) -> Work[None]:
        """``migrate-continue``, and ``cont`` as soon as the destination has something."""
        yield from Procedures.go_on(self)
        line = yield from self.destination.reach(within_s=self.reconnect_s)
        while (yield from driver_replies.query_migrate(line)).status != "completed":
            yield self.loop.sleep(0.001)
        yield from driver_replies.cont(line)


class _Impatient(Procedures):
    """Lets the source go without waiting until post-copy needs it no more."""

    def resume_destination(self) -> Work[None]:
        """``cont``, and ``quit`` for the source at once."""
        yield from Procedures.resume_destination(self)
        yield from driver_ends.quit_source(self.source, within_s=self.reconnect_s, look=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One mistake.

    Attributes:
        name: what it is called on the command line.
        mistake: in words.
        breaks: the invariants of which one has to be seen broken.
        table: entries in the place of the protocol's own.
        verdicts: verdicts in the place of the right ones.
        procedures: the driver's hands in the place of its own.
        provoke: makes the faults that give an occasion to it, instead of those that are drawn.
    """

    name: str
    mistake: str
    breaks: frozenset[Breach]
    table: Mapping[Entry, tuple[Rule, ...]] = field(default_factory=dict[Entry, tuple[Rule, ...]])
    verdicts: Mapping[Place, Signal] = field(default_factory=dict[Place, Signal])
    procedures: type[Procedures] = Procedures
    provoke: Callable[[Random], tuple[Fault, ...]] | None = None

    def provoked(self, trial: Trial) -> Trial:
        """A trial in which the mistake has an occasion to be made, if those that are drawn seldom give one."""
        if self.provoke is None:
            return trial
        random = stream(trial.seed, "canary")
        return replace(trial, faults=self.provoke(random), watched=True, waits=DEFAULT_WAITS)

    @contextmanager
    def in_place(self) -> Generator[type[Driver]]:
        """The broken build, in this process, until the end of the block; what managers are made with."""
        rules = {entry: TABLE[entry] for entry in self.table}
        verdicts = {place: VERDICTS[place[0]][place[1:]] for place in self.verdicts}

        class Broken(Driver):
            """A manager with the mistake."""

            procedures_of = self.procedures

        try:
            TABLE.update(self.table)
            for place, signal in self.verdicts.items():
                VERDICTS[place[0]][place[1:]] = signal
            yield Broken
        finally:
            TABLE.update(rules)
            for place, signal in verdicts.items():
                VERDICTS[place[0]][place[1:]] = signal


def _at(order: Command, *kinds: Kind, within_s: float) -> Callable[[Random], tuple[Fault, ...]]:
    """Faults that come within a time after an order, and last for long."""

    def provoke(random: Random) -> tuple[Fault, ...]:
        return tuple(
            Fault(
                kind=kind,
                moment=Moment(order=order, delay_s=random.uniform(0.0, within_s)),
                span_s=80.0,
                sent=True,
            )
            for kind in kinds
        )

    return provoke


def _losing_the_answer_to_cont(_: Random) -> tuple[Fault, ...]:
    """The destination runs, and its answer is lost."""
    return (Fault(kind=Kind.LOSE_ANSWER, moment=Moment(), command=(SideName.DESTINATION, "cont")),)


UNSAFE = frozenset({Breach.TWO_RUNNING, Breach.NOT_WHOLE})

CANARIES: tuple[Canary, ...] = (
    Canary(
        name="unproven",
        mistake="cont because the destination said completed",
        breaks=UNSAFE,
        table={(P.HANDOVER, S.DESTINATION_COMPLETED): (Rule(P.ACTIVATING, C.CLAIM, owner=Owner.DESTINATION),)},
        provoke=_at(Command.CONTINUE, Kind.RESET, within_s=0.3),
    ),
    Canary(
        name="cancel-after-continue",
        mistake="migrate_cancel after migrate-continue, when the user asks for it",
        breaks=frozenset({Breach.CANCEL_AFTER_CONTINUE}),
        table={(P.HANDOVER, S.CANCEL): (Rule(P.CANCELLING, C.CANCEL_MIGRATION),)},
    ),
    Canary(
        name="cancel-a-hang",
        mistake="a handover that hangs is ended by migrate_cancel",
        breaks=frozenset({Breach.CANCEL_AFTER_CONTINUE}),
        procedures=_Cancelling,
        provoke=_at(Command.CONTINUE, Kind.FREEZE_DESTINATION, within_s=0.05),
    ),
    Canary(
        name="revive",
        mistake="a source that completed gets its guest back though the destination was told to run",
        breaks=UNSAFE,
        table={
            (P.ACTIVATING, S.RESUME_DESTINATION_UNKNOWN): (Rule(P.CANCELLING, C.RESUME_SOURCE, owner=Owner.SOURCE),)
        },
        provoke=_losing_the_answer_to_cont,
    ),
    Canary(
        name="hasty",
        mistake="the destination is told to run before the source is proven out",
        breaks=UNSAFE,
        procedures=_Hasty,
        provoke=_at(Command.CONTINUE, Kind.RESET, within_s=0.2),
    ),
    Canary(
        name="out-of-sight",
        mistake="a source that can't be reached is taken for one that is out",
        breaks=UNSAFE,
        verdicts={
            (Intent.CONTINUED, SC.UNREACHABLE, DC.READY): S.VERDICT_ACTIVATE,
            (Intent.CONTINUED, SC.GONE, DC.READY): S.VERDICT_ACTIVATE,
        },
        provoke=_at(Command.CONTINUE, Kind.BLOCK_SOURCE, Kind.RESET, within_s=0.3),
    ),
    Canary(
        name="only-copy",
        mistake="a destination that holds the only copy is ended",
        breaks=frozenset({Breach.OWNER_KILLED}),
        table={(P.ACTIVATING, S.RESUME_DESTINATION_UNKNOWN): (Rule(P.CANCELLING, C.DISCARD_DESTINATION),)},
        procedures=_Trusting,
        provoke=_losing_the_answer_to_cont,
    ),
    Canary(
        name="needed",
        mistake="the source is let go while post-copy still needs it",
        breaks=frozenset({Breach.OWNER_KILLED}),
        procedures=_Impatient,
    ),
    Canary(
        name="endless",
        mistake="no way out of a handover that hangs",
        breaks=frozenset({Breach.NO_END}),
        table={
            (P.HANDOVER, S.DEADLINE): ignored("it will come"),
            (P.HANDOVER, S.SOURCE_LOST): ignored("it will come back"),
            (P.HANDOVER, S.DESTINATION_LOST): ignored("it will come back"),
        },
    ),
    Canary(
        name="believed",
        mistake="a guest is taken for running because its cont was sent",
        breaks=frozenset({Breach.WRONG_END, Breach.OWNER_KILLED}),
        table={
            (P.ACTIVATING, S.RESUME_DESTINATION_UNKNOWN): (Rule(P.RELEASING, C.RELEASE_SOURCE),),
            (P.ACTIVATING, S.RESUME_DESTINATION_REFUSED): (Rule(P.RELEASING, C.RELEASE_SOURCE),),
        },
    ),
)

BY_NAME: dict[str, Canary] = {canary.name: canary for canary in CANARIES}
