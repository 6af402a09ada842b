"""The protocol: every phase × every signal has an entry.

Read a line as: *in this phase, when this happens, then* the first rule whose guard holds. The rules that
QEMU's behaviour dictates are marked where they stand; docs/protocol.md draws the picture from this file.

- The destination never autostarts; it gets ``cont`` only once the source is proven out.
- ``migrate_cancel`` goes out only where ``migrate-continue`` never did: after it, a cancel can leave the
  guest running on both sides (QEMU 7.2), or completed on one and running on the other.
- A destination process serves one attempt: every way back ends in its being discarded.
- ``failed`` on the source means that the source runs again, by itself.
- A slow answer proves nothing: only the end of a process, or of a connection, does.
"""

from __future__ import annotations

from .rules import (
    ACTIVATE,
    ASK,
    BACK_OUT,
    BACK_OUT_MOVING,
    BACKED_OUT,
    CALLED_OFF,
    CALLED_OFF_MOVING,
    HELD,
    LET_GO,
    LOST_WITH_SOURCE,
    MOVED,
    Rule,
    facts,
    ignored,
    only_when,
)
from .signals import Command, Signal
from .states import ENDS, Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal

Table = dict[tuple[Phase, Signal], tuple[Rule, ...]]

PREFLIGHT: Table = {
    (P.PREFLIGHT, S.START): (Rule(do=C.INSPECT),),
    (P.PREFLIGHT, S.INSPECT_DONE): (Rule(P.PREPARING, C.PREPARE),),
    (P.PREFLIGHT, S.INSPECT_REFUSED): BACK_OUT,
    (P.PREFLIGHT, S.CANCEL): CALLED_OFF,
    (P.PREFLIGHT, S.DEADLINE): BACK_OUT,
    (P.PREFLIGHT, S.SOURCE_LOST): BACK_OUT,
    (P.PREFLIGHT, S.SOURCE_ENDED): BACK_OUT,
}

PREPARING: Table = {
    (P.PREPARING, S.PREPARE_DONE): (Rule(do=C.ARM),),
    (P.PREPARING, S.PREPARE_REFUSED): BACK_OUT,
    (P.PREPARING, S.ARM_DONE): (Rule(P.PRECOPY, C.MIGRATE),),
    (P.PREPARING, S.ARM_REFUSED): BACK_OUT,
    (P.PREPARING, S.GIVEN_UP): BACK_OUT,
    (P.PREPARING, S.CANCEL): CALLED_OFF,
    (P.PREPARING, S.DEADLINE): BACK_OUT,
    (P.PREPARING, S.SOURCE_LOST): BACK_OUT,
    (P.PREPARING, S.SOURCE_ENDED): BACK_OUT,
    (P.PREPARING, S.DESTINATION_LOST): BACK_OUT,
    (P.PREPARING, S.DESTINATION_FAILED): BACK_OUT,
    (P.PREPARING, S.DESTINATION_ENDED): BACK_OUT,
}

RUNS_AGAIN: tuple[Rule, ...] = (
    Rule(when=facts(F.PAUSED_BEFORE), forget=facts(F.PAUSED_BEFORE), because="its owner resumed it meanwhile"),
    Rule(because="it was running already"),
)
PREPARING[P.PREPARING, S.SOURCE_RUNNING] = RUNS_AGAIN

WENT_ON_BY_ITSELF = "somebody else sent migrate-continue, or QEMU did not pause: the token follows what is true"
BY_ITSELF: tuple[Rule, ...] = (
    *only_when(ACTIVATE, F.DESTINATION_COMPLETED),
    Rule(P.HANDOVER, owner=Owner.DESTINATION, learn=facts(F.CONTINUED), because=WENT_ON_BY_ITSELF),
)

PRECOPY: Table = {
    (P.PRECOPY, S.MIGRATE_DONE): ignored("the answer only means that QEMU will try; its status tells"),
    (P.PRECOPY, S.MIGRATE_REFUSED): BACK_OUT,
    (P.PRECOPY, S.MIGRATE_UNKNOWN): ASK,
    (P.PRECOPY, S.SOURCE_ACTIVE): (Rule(rest=True, because="connected: from now on the stall detector watches"),),
    (P.PRECOPY, S.SOURCE_PRE_SWITCHOVER): (Rule(P.SWITCHOVER, C.QUIESCE),),
    (P.PRECOPY, S.SOURCE_DEVICE): (
        Rule(P.HANDOVER, owner=Owner.LIMBO, learn=facts(F.CONTINUED), because=WENT_ON_BY_ITSELF),
    ),
    (P.PRECOPY, S.SOURCE_COMPLETED): BY_ITSELF,
    (P.PRECOPY, S.SOURCE_FAILED): BACK_OUT,
    (P.PRECOPY, S.SOURCE_CANCELLED): BACK_OUT,
    (P.PRECOPY, S.SOURCE_IDLE): BACK_OUT,
    (P.PRECOPY, S.SOURCE_LOST): ASK,
    (P.PRECOPY, S.SOURCE_RUNNING): RUNS_AGAIN,
    (P.PRECOPY, S.SOURCE_ENDED): BACK_OUT,
    (P.PRECOPY, S.DESTINATION_LOST): BACK_OUT_MOVING,
    (P.PRECOPY, S.DESTINATION_FAILED): BACK_OUT_MOVING,
    (P.PRECOPY, S.DESTINATION_ENDED): BACK_OUT_MOVING,
    (P.PRECOPY, S.CANCEL): CALLED_OFF_MOVING,
    (P.PRECOPY, S.GIVEN_UP): BACK_OUT_MOVING,
    (P.PRECOPY, S.STALLED): BACK_OUT_MOVING,
    (P.PRECOPY, S.DEADLINE): BACK_OUT_MOVING,
}

SWITCHOVER: Table = {
    (P.SWITCHOVER, S.QUIESCE_DONE): (Rule(P.HANDOVER, C.CONTINUE, owner=Owner.LIMBO),),
    (P.SWITCHOVER, S.QUIESCE_REFUSED): BACK_OUT_MOVING,
    (P.SWITCHOVER, S.SOURCE_DEVICE): (
        Rule(P.HANDOVER, owner=Owner.LIMBO, learn=facts(F.CONTINUED), because=WENT_ON_BY_ITSELF),
    ),
    (P.SWITCHOVER, S.SOURCE_COMPLETED): BY_ITSELF,
    (P.SWITCHOVER, S.SOURCE_FAILED): BACK_OUT,
    (P.SWITCHOVER, S.SOURCE_CANCELLED): BACK_OUT,
    (P.SWITCHOVER, S.SOURCE_IDLE): BACK_OUT,
    (P.SWITCHOVER, S.SOURCE_LOST): ASK,
    (P.SWITCHOVER, S.SOURCE_ENDED): BACK_OUT,
    (P.SWITCHOVER, S.DESTINATION_LOST): BACK_OUT_MOVING,
    (P.SWITCHOVER, S.DESTINATION_FAILED): BACK_OUT_MOVING,
    (P.SWITCHOVER, S.DESTINATION_ENDED): BACK_OUT_MOVING,
    (P.SWITCHOVER, S.CANCEL): CALLED_OFF_MOVING,
    (P.SWITCHOVER, S.DEADLINE): BACK_OUT_MOVING,
}

SETBACK = (Rule(P.CANCELLING, C.DISCARD_DESTINATION, owner=Owner.SOURCE),)
"""The source runs again by itself, or is about to: the token is back with it."""

NEVER_RAN = Rule(
    P.CANCELLING,
    C.DISCARD_DESTINATION,
    when=facts(F.SOURCE_COMPLETED),
    unless=facts(F.CONT_SENT),
    because="the source completed, but its destination is gone and never ran: the source can have the guest back",
)

BREAKING: tuple[Rule, ...] = (
    *only_when(ASK, F.BROKEN, F.CUT),
    Rule(
        when=facts(F.BROKEN),
        because="the destination is being killed, or the stream cut: it gets no cont before that is done and looked at",
    ),
)

HANDOVER: Table = {
    (P.HANDOVER, S.CONTINUE_DONE): ignored("QEMU took it; its status tells the rest"),
    (P.HANDOVER, S.CONTINUE_REFUSED): ASK,
    (P.HANDOVER, S.CONTINUE_UNKNOWN): ASK,
    (P.HANDOVER, S.SOURCE_COMPLETED): (
        Rule(
            P.CANCELLING,
            C.DISCARD_DESTINATION,
            when=facts(F.DESTINATION_ENDED),
            because="the destination ended before it was resumed: the source can have the guest back",
        ),
        *BREAKING,
        *only_when(ACTIVATE, F.DESTINATION_COMPLETED),
        Rule(owner=Owner.DESTINATION, because="proven out; the destination has yet to say completed"),
    ),
    (P.HANDOVER, S.DESTINATION_COMPLETED): (
        Rule(when=facts(F.BROKEN), because="it is being killed, or the stream cut: what is left then decides"),
        *only_when(ACTIVATE, F.SOURCE_COMPLETED),
        *only_when(ACTIVATE, F.SOURCE_ENDED),
        Rule(because="proves nothing alone: the source may have failed and be running"),
    ),
    (P.HANDOVER, S.SOURCE_ENDED): (
        Rule(
            P.CANCELLING,
            C.DISCARD_DESTINATION,
            when=facts(F.DESTINATION_ENDED),
            because="both ended: there is nothing left but to say so",
        ),
        *BREAKING,
        *only_when(ACTIVATE, F.DESTINATION_COMPLETED),
        Rule(because="its last events held no setback: the destination has all of it or dies"),
    ),
    (P.HANDOVER, S.SOURCE_FAILED): SETBACK,
    (P.HANDOVER, S.SOURCE_CANCELLED): SETBACK,
    (P.HANDOVER, S.SOURCE_RUNNING): SETBACK,
    (P.HANDOVER, S.SOURCE_IDLE): ASK,
    (P.HANDOVER, S.SOURCE_LOST): ASK,
    (P.HANDOVER, S.DESTINATION_LOST): ASK,
    (P.HANDOVER, S.DESTINATION_FAILED): (
        NEVER_RAN,
        Rule(
            P.CANCELLING,
            C.DISCARD_DESTINATION,
            when=facts(F.SOURCE_ENDED),
            because="the source ended and the destination failed: there is nothing left but to say so",
        ),
        Rule(because="the source notices by itself: it will be failed and running, or completed"),
    ),
    (P.HANDOVER, S.DESTINATION_ENDED): (
        NEVER_RAN,
        Rule(
            P.CANCELLING,
            C.DISCARD_DESTINATION,
            when=facts(F.SOURCE_ENDED),
            because="both ended: there is nothing left but to say so",
        ),
        Rule(because="the source notices by itself: it will be failed and running, or completed"),
    ),
    (P.HANDOVER, S.DEADLINE): (
        *only_when(ASK, F.BROKEN),
        *only_when(ASK, F.SOURCE_COMPLETED),
        *only_when(ASK, F.SOURCE_ENDED),
        Rule(do=C.BREAK, because="never migrate_cancel here: it could leave two running guests"),
    ),
    (P.HANDOVER, S.BREAK_DONE): (
        Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.SOURCE_COMPLETED), learn=facts(F.CUT)),
        Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.SOURCE_ENDED), learn=facts(F.CUT)),
        Rule(learn=facts(F.CUT), because="now the source is failed and running, or completed: its status tells"),
    ),
    (P.HANDOVER, S.BREAK_REFUSED): ASK,
    (P.HANDOVER, S.CANCEL): ignored("after migrate-continue a cancel could leave two running guests"),
}

ACTIVATING: Table = {
    (P.ACTIVATING, S.RESUME_DESTINATION_DONE): ignored("QEMU took it; the guest has yet to be seen running"),
    (P.ACTIVATING, S.RESUME_DESTINATION_REFUSED): ASK,
    (P.ACTIVATING, S.RESUME_DESTINATION_UNKNOWN): ASK,
    (P.ACTIVATING, S.DESTINATION_RUNNING): LET_GO,
    (P.ACTIVATING, S.DESTINATION_LOST): ASK,
    (P.ACTIVATING, S.DESTINATION_FAILED): ASK,
    (P.ACTIVATING, S.DESTINATION_ENDED): (
        Rule(
            P.FAILED,
            guest=Guest.LOST,
            because="it had its cont and may have run: the source keeps its copy but is not resumed by us",
        ),
    ),
    (P.ACTIVATING, S.DEADLINE): ASK,
    (P.ACTIVATING, S.CANCEL): ignored("the guest is the destination's already"),
}

MOVED_IF_IT_LIVES: tuple[Rule, ...] = (
    Rule(
        P.FAILED,
        when=facts(F.DESTINATION_ENDED),
        owner=Owner.DESTINATION,
        guest=Guest.LOST,
        because="the guest was moved and ran, and then its new process ended",
    ),
    *MOVED,
)

RELEASING: Table = {
    (P.RELEASING, S.RELEASE_SOURCE_DONE): MOVED_IF_IT_LIVES,
    (P.RELEASING, S.RELEASE_SOURCE_REFUSED): MOVED_IF_IT_LIVES,
    (P.RELEASING, S.SOURCE_ENDED): MOVED_IF_IT_LIVES,
    (P.RELEASING, S.DEADLINE): MOVED_IF_IT_LIVES,
    (P.RELEASING, S.CANCEL): ignored("the guest runs on the destination already"),
}

FINAL_STATUS: tuple[Rule, ...] = (
    Rule(when=facts(F.DISCARDING), because="known already"),
    Rule(do=C.DISCARD_DESTINATION),
)

ASK_UNLESS_DISCARDING: tuple[Rule, ...] = (
    Rule(when=facts(F.DISCARDING), because="putting the source right will show whether it can be reached"),
    *ASK,
)

CANCELLING: Table = {
    (P.CANCELLING, S.CANCEL_MIGRATION_DONE): ignored("cancelled means that QEMU reached any final status"),
    (P.CANCELLING, S.CANCEL_MIGRATION_REFUSED): ASK_UNLESS_DISCARDING,
    (P.CANCELLING, S.CANCEL_MIGRATION_UNKNOWN): ASK_UNLESS_DISCARDING,
    (P.CANCELLING, S.MIGRATE_REFUSED): FINAL_STATUS,
    (P.CANCELLING, S.SOURCE_CANCELLED): FINAL_STATUS,
    (P.CANCELLING, S.SOURCE_FAILED): FINAL_STATUS,
    (P.CANCELLING, S.SOURCE_IDLE): FINAL_STATUS,
    (P.CANCELLING, S.SOURCE_ENDED): FINAL_STATUS,
    (P.CANCELLING, S.SOURCE_COMPLETED): (
        Rule(when=facts(F.DISCARDING), because="the destination is being ended; the source gets the guest back"),
        *only_when(ACTIVATE, F.DESTINATION_COMPLETED),
        Rule(P.HANDOVER, owner=Owner.DESTINATION, learn=facts(F.CONTINUED), because="the cancel came too late"),
    ),
    (P.CANCELLING, S.SOURCE_DEVICE): (
        Rule(when=facts(F.DISCARDING), because="the destination is being ended; the source will fail and run"),
        Rule(P.HANDOVER, owner=Owner.LIMBO, learn=facts(F.CONTINUED), because="the cancel came too late"),
    ),
    (P.CANCELLING, S.SOURCE_LOST): ASK_UNLESS_DISCARDING,
    (P.CANCELLING, S.DISCARD_DESTINATION_DONE): (
        Rule(
            P.FAILED,
            when=facts(F.SOURCE_ENDED, F.SOURCE_COMPLETED),
            owner=Owner.DESTINATION,
            guest=Guest.LOST,
            because="both processes ended",
        ),
        Rule(
            P.FAILED,
            when=facts(F.SOURCE_ENDED),
            owner=Owner.SOURCE,
            guest=Guest.LOST,
            because=LOST_WITH_SOURCE.because,
        ),
        Rule(do=C.RESUME_SOURCE, when=facts(F.SOURCE_COMPLETED), owner=Owner.SOURCE),
        Rule(do=C.RESTORE_SOURCE),
    ),
    (P.CANCELLING, S.DISCARD_DESTINATION_REFUSED): (
        Rule(P.FAILED, when=facts(F.SOURCE_ENDED), guest=Guest.LOST, because=LOST_WITH_SOURCE.because),
        Rule(
            P.FAILED,
            when=facts(F.SOURCE_COMPLETED),
            guest=Guest.HELD,
            because="the destination could not be shown to be dead: the source stays stopped",
        ),
        Rule(do=C.RESTORE_SOURCE, because="it never had its cont, and cannot get the rest of the guest any more"),
    ),
    (P.CANCELLING, S.RESTORE_SOURCE_DONE): BACKED_OUT,
    (P.CANCELLING, S.RESTORE_SOURCE_REFUSED): (
        Rule(
            P.CANCELLED,
            when=facts(F.CANCEL_WANTED),
            unless=facts(F.MIGRATE_SENT),
            guest=Guest.UNCONFIRMED,
            because="called off before anything was done to the source, which was not even looked at",
        ),
        Rule(P.FAILED, guest=Guest.UNCONFIRMED),
    ),
    (P.CANCELLING, S.RESTORE_SOURCE_UNKNOWN): (Rule(P.FAILED, guest=Guest.UNCONFIRMED),),
    (P.CANCELLING, S.RESUME_SOURCE_DONE): BACKED_OUT,
    (P.CANCELLING, S.RESUME_SOURCE_REFUSED): (Rule(P.FAILED, guest=Guest.HELD),),
    (P.CANCELLING, S.RESUME_SOURCE_UNKNOWN): (Rule(P.FAILED, guest=Guest.UNCONFIRMED),),
    (P.CANCELLING, S.DEADLINE): (
        Rule(P.FAILED, when=facts(F.DISCARDING), guest=Guest.UNCONFIRMED),
        Rule(
            do=C.DISCARD_DESTINATION,
            because="a pending connect can hold QEMU's cancel for two minutes; the guest runs meanwhile",
        ),
    ),
    (P.CANCELLING, S.CANCEL): ignored("it is being backed out already"),
}

SETBACK_SEEN: tuple[Rule, ...] = (
    Rule(when=facts(F.CONTINUED), learn=facts(F.SETBACK), because="it ran again: the destination's copy is old"),
    Rule(because="the inspection under way shows what follows from it"),
)

RESOLVING: Table = {
    (P.RESOLVING, S.SOURCE_RUNNING): SETBACK_SEEN,
    (P.RESOLVING, S.SOURCE_FAILED): SETBACK_SEEN,
    (P.RESOLVING, S.SOURCE_CANCELLED): SETBACK_SEEN,
    (P.RESOLVING, S.VERDICT_SOURCE): SETBACK,
    (P.RESOLVING, S.VERDICT_GOES_ON): (
        Rule(
            P.FAILED,
            when=facts(F.BROKEN, F.ASKED),
            guest=Guest.HELD,
            because="the handover hangs and could not be broken: both sides were asked twice",
        ),
        Rule(P.HANDOVER, when=facts(F.BROKEN), learn=facts(F.ASKED)),
        # Both may have said completed after they were asked.
        *only_when(ACTIVATE, F.CONTINUED, F.SOURCE_COMPLETED, F.DESTINATION_COMPLETED),
        Rule(P.HANDOVER, when=facts(F.CONTINUED)),
        *only_when(BACK_OUT_MOVING, F.CANCEL_WANTED),
        *only_when(BACK_OUT_MOVING, F.DESTINATION_ENDED),
        Rule(P.PRECOPY),
    ),
    (P.RESOLVING, S.VERDICT_ACTIVATE): (
        Rule(
            P.FAILED,
            when=facts(F.RETRIED),
            owner=Owner.DESTINATION,
            guest=Guest.HELD,
            because="the destination has everything but does not start, twice",
        ),
        Rule(
            P.ACTIVATING,
            C.RESUME_DESTINATION,
            when=facts(F.CONT_SENT),
            owner=Owner.DESTINATION,
            learn=facts(F.RETRIED),
        ),
        *ACTIVATE,
    ),
    (P.RESOLVING, S.VERDICT_DESTINATION_RUNS): LET_GO,
    (P.RESOLVING, S.VERDICT_HAND_BACK): (
        Rule(
            P.FAILED,
            when=facts(F.CONT_SENT),
            guest=Guest.LOST,
            because="the destination had its cont and may have run before it ended",
        ),
        Rule(P.CANCELLING, C.DISCARD_DESTINATION, learn=facts(F.SOURCE_COMPLETED)),
    ),
    (P.RESOLVING, S.VERDICT_HOLD): HELD,
    (P.RESOLVING, S.VERDICT_LOST): (
        Rule(P.FAILED, when=facts(F.CONT_SENT), guest=Guest.LOST),
        Rule(
            P.CANCELLING,
            C.DISCARD_DESTINATION,
            owner=Owner.SOURCE,
            learn=facts(F.SOURCE_ENDED),
            because="there is nothing left but to end the destination, and to say so",
        ),
    ),
    (P.RESOLVING, S.DEADLINE): HELD,
    (P.RESOLVING, S.CANCEL): (
        *only_when(ignored("after migrate-continue a cancel could leave two running guests"), F.CONTINUED),
        Rule(learn=facts(F.CANCEL_WANTED)),
    ),
}

ALL = frozenset(Phase)
LIVE = ALL - ENDS
ANSWERS = frozenset(s for s in Signal if any(s.value.startswith(c.value + "-") for c in Command))
VERDICTS = frozenset(s for s in Signal if s.value.startswith("verdict-"))
OBSERVED = frozenset(s for s in Signal if s.value.startswith(("source-", "destination-")))

IGNORED: tuple[tuple[frozenset[Phase], frozenset[Signal], str], ...] = (
    (ENDS, frozenset(Signal), "it has ended: nothing that comes later changes who owns the guest"),
    (LIVE, frozenset({S.START}), "it has started already"),
    (LIVE, ANSWERS, "a late answer to a command of an earlier phase: what is true is seen from the states"),
    (LIVE, VERDICTS, "nobody asked for it in this phase"),
    (LIVE, frozenset({S.STALLED, S.GIVEN_UP}), "only RAM transfer can stall or be given up"),
    (frozenset({P.RESOLVING}), OBSERVED, "noted as a fact; the inspection under way shows what follows from it"),
    (
        LIVE,
        frozenset({S.SOURCE_STOPPED}),
        "STOP moves nothing: a paused guest sends none, and others cause it too",
    ),
    (
        LIVE,
        frozenset({S.SOURCE_RUNNING, S.DESTINATION_RUNNING, S.DESTINATION_ACTIVE, S.DESTINATION_COMPLETED}),
        "no decision of this phase hangs on it",
    ),
    (
        LIVE,
        frozenset({S.SOURCE_ACTIVE, S.SOURCE_PRE_SWITCHOVER, S.SOURCE_DEVICE, S.SOURCE_COMPLETED}),
        "a status of the source that is late, or known, or of no consequence in this phase",
    ),
    (
        LIVE,
        frozenset({S.SOURCE_FAILED, S.SOURCE_CANCELLED, S.SOURCE_IDLE}),
        "left over from an earlier migration, or of a source that no longer owns the guest",
    ),
    (
        frozenset({P.ACTIVATING, P.RELEASING}),
        frozenset({S.SOURCE_LOST, S.SOURCE_ENDED}),
        "the source has handed the guest over: it is free to go",
    ),
    (
        LIVE,
        frozenset({S.DESTINATION_LOST, S.DESTINATION_FAILED, S.DESTINATION_ENDED}),
        "the destination is not there yet, is being discarded, or has the guest running already",
    ),
)


def build() -> Table:
    """The whole table: the explicit entries, and for every other pair the first group that ignores it."""
    table: Table = {}
    for part in (PREFLIGHT, PREPARING, PRECOPY, SWITCHOVER, HANDOVER, ACTIVATING, RELEASING, CANCELLING, RESOLVING):
        table.update(part)
    for phases, signals, because in IGNORED:
        for phase in phases:
            for signal in signals:
                table.setdefault((phase, signal), ignored(because))
    return table


TABLE: Table = build()
