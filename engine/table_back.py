"""The ways back, and the ways out of not knowing."""

from __future__ import annotations

from dataclasses import replace

from .rules import (
    ACTIVATE,
    ASK,
    BACK_OUT_MOVING,
    BACKED_OUT,
    GIVE_BACK,
    GONE_IN_POSTCOPY,
    HELD,
    IN_POSTCOPY,
    LET_GO,
    LOST_WITH_SOURCE,
    RAN_AGAIN,
    RUNS_AGAIN,
    STANDS,
    WENT_ON_BY_ITSELF,
    Rule,
    Table,
    facts,
    forgetting,
    ignored,
    only_unless,
    only_when,
)
from .signals import Command, Signal
from .states import Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal

FINAL_STATUS: tuple[Rule, ...] = (
    Rule(when=facts(F.DISCARDING), because="known already"),
    Rule(do=C.DISCARD_DESTINATION),
)

ASK_UNLESS_DISCARDING: tuple[Rule, ...] = (
    Rule(when=facts(F.DISCARDING), because="putting the source right will show whether it can be reached"),
    *ASK,
)

GIVE_BACK_NOW: tuple[Rule, ...] = (
    Rule(
        do=C.RESUME_SOURCE,
        when=facts(F.SOURCE_COMPLETED, F.CONTINUED),
        owner=Owner.SOURCE,
        learn=facts(F.DISCARDED),
    ),
    Rule(
        P.FAILED,
        when=facts(F.SOURCE_COMPLETED),
        guest=Guest.HELD,
        because="it completed a migration, and this one was never told to go on: the guest may run elsewhere",
    ),
    Rule(do=C.RESTORE_SOURCE, learn=facts(F.DISCARDED)),
)
NO_LOCK = Rule(
    P.FAILED,
    guest=Guest.HELD,
    because="the guest's lock could not be had back: the source stays stopped",
)

NOT_SURELY_OURS: tuple[Rule, ...] = only_unless(
    (
        Rule(
            when=facts(F.ADOPTED, F.DISCARDING),
            because="it was not heard to be told to go on: it may be a later migration that it speaks of",
        ),
        Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.ADOPTED)),
    ),
    F.CONTINUED,
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
        *NOT_SURELY_OURS,
        Rule(
            when=facts(F.DISCARDING),
            learn=facts(F.CONTINUED),
            because="the destination is being ended; the source gets the guest back",
        ),
        *only_when(ACTIVATE, F.DESTINATION_COMPLETED),
        Rule(P.HANDOVER, owner=Owner.DESTINATION, learn=facts(F.CONTINUED), because="the cancel came too late"),
    ),
    (P.CANCELLING, S.SOURCE_DEVICE): (
        *NOT_SURELY_OURS,
        Rule(
            when=facts(F.DISCARDING),
            learn=facts(F.CONTINUED),
            because="the destination is being ended; the source will fail and run",
        ),
        Rule(P.HANDOVER, owner=Owner.LIMBO, learn=facts(F.CONTINUED), because="the cancel came too late"),
    ),
    (P.CANCELLING, S.SOURCE_PRE_SWITCHOVER): (
        Rule(
            do=C.CANCEL_MIGRATION,
            when=facts(F.DISCARDING, F.MIGRATE_SENT),
            unless=facts(F.CONTINUED),
            because="a dead destination does not wake a source that stands there",
        ),
        Rule(because="it has been told to give up"),
    ),
    (P.CANCELLING, S.SOURCE_LOST): ASK_UNLESS_DISCARDING,
    (P.CANCELLING, S.SOURCE_POSTCOPY): (
        Rule(when=facts(F.DISCARDING), because="the destination is being ended: putting the source right will tell"),
        *IN_POSTCOPY,
    ),
    (P.CANCELLING, S.ADOPTED): (
        Rule(
            P.RESOLVING,
            C.INSPECT_BOTH,
            learn=facts(F.BACKING_OUT),
            forget=facts(F.DISCARDING, F.DISCARDED),
            because="whether what was sent last was done is seen from both sides",
        ),
    ),
    (P.CANCELLING, S.DISCARD_DESTINATION_DONE): (
        Rule(
            P.FAILED,
            when=facts(F.SOURCE_ENDED, F.SOURCE_COMPLETED),
            owner=Owner.DESTINATION,
            guest=Guest.LOST,
            because="both processes ended",
        ),
        *LOST_WITH_SOURCE,
        Rule(do=C.RECLAIM, when=facts(F.CLAIMED), learn=facts(F.DISCARDED)),
        *GIVE_BACK_NOW,
    ),
    (P.CANCELLING, S.RECLAIM_DONE): tuple(replace(rule, forget=facts(F.CLAIMED)) for rule in GIVE_BACK_NOW),
    (P.CANCELLING, S.RECLAIM_REFUSED): (NO_LOCK,),
    (P.CANCELLING, S.RECLAIM_UNKNOWN): (NO_LOCK,),
    (P.CANCELLING, S.DISCARD_DESTINATION_REFUSED): (
        Rule(
            P.FAILED,
            when=facts(F.SOURCE_ENDED, F.SOURCE_COMPLETED),
            owner=Owner.DESTINATION,
            guest=Guest.HELD,
            because="the source ended meanwhile: the destination holds the only copy, and stands paused",
        ),
        *LOST_WITH_SOURCE,
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
        *LOST_WITH_SOURCE,
        Rule(
            do=C.RESUME_SOURCE,
            when=facts(F.SOURCE_COMPLETED, F.CONTINUED, F.DISCARDED),
            unless=facts(F.CONT_SENT, F.POSTCOPY),
            because="it turned out to have completed, and its destination is dead and never ran",
        ),
        Rule(
            do=C.CANCEL_MIGRATION,
            when=facts(F.MIGRATE_SENT),
            unless=facts(F.CONTINUED, F.RECALLED),
            learn=facts(F.RECALLED),
            forget=facts(F.DISCARDING, F.DISCARDED),
            because="it may stand in pre-switchover: a dead destination does not wake it, and no cancel reached it",
        ),
        Rule(
            P.CANCELLED,
            when=facts(F.CANCEL_WANTED),
            unless=facts(F.MIGRATE_SENT),
            guest=Guest.UNCONFIRMED,
            because="called off before anything was done to the source, which was not even looked at",
        ),
        Rule(P.FAILED, guest=Guest.UNCONFIRMED),
    ),
    (P.CANCELLING, S.RESTORE_SOURCE_UNKNOWN): (
        Rule(do=C.RESTORE_SOURCE, unless=facts(F.RETRIED), learn=facts(F.RETRIED), because="it looks before it acts"),
        Rule(P.FAILED, guest=Guest.UNCONFIRMED),
    ),
    (P.CANCELLING, S.RESUME_SOURCE_DONE): BACKED_OUT,
    (P.CANCELLING, S.RESUME_SOURCE_REFUSED): (*LOST_WITH_SOURCE, Rule(P.FAILED, guest=Guest.HELD)),
    (P.CANCELLING, S.RESUME_SOURCE_UNKNOWN): (
        Rule(do=C.RESUME_SOURCE, unless=facts(F.RETRIED), learn=facts(F.RETRIED), because="the destination is dead"),
        Rule(P.FAILED, guest=Guest.UNCONFIRMED),
    ),
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
    Rule(
        when=facts(F.CONTINUED),
        unless=facts(F.CONT_SENT),
        learn=facts(F.SETBACK),
        because="it ran again: the destination's copy is old",
    ),
    Rule(when=facts(F.CONTINUED), because="the inspection under way shows what follows from it"),
)
SOURCE_SAID: tuple[Rule, ...] = (
    *SETBACK_SEEN,
    Rule(because="the inspection under way shows what follows from it"),
)

LOST_WHILE_ASKED: tuple[Rule, ...] = (
    Rule(learn=facts(F.LOST_AGAIN), because="if it goes on, it is connected to again first"),
)
CONNECT_AGAIN = Rule(
    do=C.INSPECT_BOTH,
    when=facts(F.LOST_AGAIN),
    forget=facts(F.LOST_AGAIN),
    because="a side went out of sight after it was looked at",
)
BREAK_IS_OUT = Rule(
    when=facts(F.BROKEN),
    unless=facts(F.CUT),
    because="the destination is being killed, or the stream cut: when that is over it is looked at again",
)
ASK_AFTER_BREAK: tuple[Rule, ...] = (
    Rule(when=facts(F.CUT), because="known already"),
    # What was waited before it was done says nothing.
    Rule(do=C.INSPECT_BOTH, learn=facts(F.CUT), forget=facts(F.WAITED_OUT)),
)
NOT_HEARD: tuple[Rule, ...] = (
    Rule(
        when=facts(F.ADOPTED),
        unless=facts(F.CONTINUED),
        because="it may be a later migration that it speaks of: the inspection under way shows",
    ),
)
WENT_ON_MEANWHILE: tuple[Rule, ...] = (
    *NOT_HEARD,
    Rule(when=facts(F.CONTINUED), because="the device state is going over"),
    Rule(owner=Owner.LIMBO, learn=facts(F.CONTINUED), because=WENT_ON_BY_ITSELF),
)

NOT_LOST_YET = Rule(
    P.POSTCOPY,
    when=facts(F.POSTCOPY),
    unless=facts(F.DESTINATION_POSTCOPY, F.CLAIMED, F.SOURCE_ENDED, F.WAITED_OUT),
    because="7.2 says postcopy-active before it has sent anything: the source may fail yet, and run",
)

RESOLVING: Table = {
    (P.RESOLVING, S.ADOPTED): (Rule(do=C.INSPECT_BOTH, because="whoever asked before is gone"),),
    # Its answer says that it does nothing any more: only now what is seen will stay so.
    (P.RESOLVING, S.BREAK_DONE): ASK_AFTER_BREAK,
    (P.RESOLVING, S.BREAK_REFUSED): ASK_AFTER_BREAK,
    (P.RESOLVING, S.SOURCE_DEVICE): WENT_ON_MEANWHILE,
    (P.RESOLVING, S.SOURCE_POSTCOPY): (
        *NOT_HEARD,
        Rule(owner=Owner.DESTINATION, learn=facts(F.CONTINUED, F.POSTCOPY), because=WENT_ON_BY_ITSELF),
    ),
    (P.RESOLVING, S.SOURCE_PAUSED): (
        Rule(when=facts(F.CONTINUED), because="the inspection under way shows what follows from it"),
        *STANDS,
    ),
    (P.RESOLVING, S.SOURCE_RUNNING): (*SETBACK_SEEN, *RUNS_AGAIN),
    (P.RESOLVING, S.SOURCE_FAILED): SOURCE_SAID,
    (P.RESOLVING, S.SOURCE_CANCELLED): SOURCE_SAID,
    (P.RESOLVING, S.VERDICT_SOURCE): (
        *only_when(HELD, F.CONT_SENT),
        Rule(P.CANCELLING, C.DISCARD_DESTINATION, owner=Owner.SOURCE, forget=facts(F.POSTCOPY)),
    ),
    (P.RESOLVING, S.VERDICT_CALL_OFF): (
        Rule(P.CANCELLING, C.CANCEL_MIGRATION, owner=Owner.SOURCE, forget=facts(F.DISCARDING)),
    ),
    (P.RESOLVING, S.SOURCE_LOST): LOST_WHILE_ASKED,
    (P.RESOLVING, S.DESTINATION_LOST): LOST_WHILE_ASKED,
    (P.RESOLVING, S.VERDICT_GOES_ON): (
        BREAK_IS_OUT,
        RAN_AGAIN,
        CONNECT_AGAIN,
        Rule(
            P.FAILED,
            when=facts(F.BROKEN, F.WAITED_OUT),
            guest=Guest.HELD,
            because="the handover hangs and could not be broken: both sides were asked twice",
        ),
        Rule(P.HANDOVER, when=facts(F.BROKEN)),
        # Both may have said completed after they were asked.
        *only_when(ACTIVATE, F.CONTINUED, F.SOURCE_COMPLETED, F.DESTINATION_COMPLETED),
        *only_unless(only_when(ACTIVATE, F.CONTINUED, F.SOURCE_ENDED, F.DESTINATION_COMPLETED), F.SETBACK),
        # A destination that does not finish behind a source that is out.
        *only_unless(only_when(GIVE_BACK, F.CONTINUED, F.SOURCE_COMPLETED, F.WAITED_OUT), F.POSTCOPY, F.POSTCOPY_ASKED),
        Rule(
            P.FAILED,
            when=facts(F.CONTINUED, F.SOURCE_ENDED, F.WAITED_OUT),
            guest=Guest.HELD,
            because="the source ended, and the destination does not finish loading",
        ),
        Rule(
            P.FAILED,
            when=facts(F.CONTINUED, F.POSTCOPY_ASKED, F.WAITED_OUT),
            guest=Guest.HELD,
            because="the handover hangs, and with post-copy asked for nobody may break it",
        ),
        Rule(P.HANDOVER, when=facts(F.CONTINUED)),
        *only_when(BACK_OUT_MOVING, F.CANCEL_WANTED),
        *only_when(BACK_OUT_MOVING, F.BACKING_OUT),
        *only_when(BACK_OUT_MOVING, F.DESTINATION_ENDED),
        Rule(P.PRECOPY),
    ),
    (P.RESOLVING, S.VERDICT_POSTCOPY): (
        BREAK_IS_OUT,
        CONNECT_AGAIN,
        Rule(
            P.POSTCOPY,
            when=facts(F.DESTINATION_RAN),
            owner=Owner.DESTINATION,
            learn=facts(F.POSTCOPY, F.CONTINUED),
            rest=True,
            because="it runs there, and its memory follows",
        ),
        Rule(
            P.POSTCOPY,
            when=facts(F.POSTCOPY, F.RETRIED),
            unless=facts(F.WAITED_OUT),
            because="its second cont may be on its way",
        ),
        Rule(
            P.FAILED,
            when=facts(F.POSTCOPY, F.RETRIED),
            owner=Owner.DESTINATION,
            guest=Guest.UNCONFIRMED,
            because="both sides were asked twice, and the guest was not seen to run",
        ),
        Rule(
            P.POSTCOPY,
            C.RESUME_DESTINATION,
            when=facts(F.CONT_SENT),
            owner=Owner.DESTINATION,
            learn=facts(F.POSTCOPY, F.CONTINUED, F.RETRIED),
            because="its cont may be lost, and a second one does no harm",
        ),
        Rule(
            P.FAILED,
            when=facts(F.POSTCOPY, F.WAITED_OUT),
            owner=Owner.DESTINATION,
            guest=Guest.HELD,
            because="post-copy has begun, and the destination does not take the guest up",
        ),
        *(replace(rule, forget=facts(F.CLAIMED)) for rule in IN_POSTCOPY),
    ),
    (P.RESOLVING, S.VERDICT_ACTIVATE): (
        BREAK_IS_OUT,
        RAN_AGAIN,
        Rule(
            P.RELEASING,
            C.RELEASE_SOURCE,
            when=facts(F.PAUSED_BEFORE, F.CONT_SENT),
            owner=Owner.DESTINATION,
            because="it stood paused and stays so",
        ),
        Rule(
            P.RELEASING,
            C.RELEASE_SOURCE,
            when=facts(F.DESTINATION_RAN, F.CONT_SENT),
            owner=Owner.DESTINATION,
            learn=facts(F.PAUSED_BEFORE),
            because="it ran there: whoever stopped it since may let it go on",
        ),
        Rule(
            P.FAILED,
            when=facts(F.RETRIED, F.CONT_SENT),
            owner=Owner.DESTINATION,
            guest=Guest.HELD,
            because="the destination has everything but does not start, twice",
        ),
        *forgetting(only_when(GIVE_BACK, F.RETRIED), F.RETRIED),
        *only_unless(only_when(GIVE_BACK, F.VETOED), F.CONT_SENT),
        Rule(
            P.ACTIVATING,
            C.RESUME_DESTINATION,
            when=facts(F.CONT_SENT),
            owner=Owner.DESTINATION,
            learn=facts(F.RETRIED),
        ),
        *ACTIVATE,
    ),
    (P.RESOLVING, S.VERDICT_DESTINATION_RUNS): (BREAK_IS_OUT, *LET_GO),
    (P.RESOLVING, S.VERDICT_HAND_BACK): (
        Rule(
            P.FAILED,
            when=facts(F.POSTCOPY_ASKED),
            unless=facts(F.CONT_SENT),
            guest=Guest.HELD,
            because="post-copy was asked for, and whether it began cannot be told: the source stays stopped",
        ),
        Rule(
            P.FAILED,
            when=facts(F.CONT_SENT),
            guest=Guest.LOST,
            because="the destination had its cont and may have run before it ended",
        ),
        Rule(P.CANCELLING, C.DISCARD_DESTINATION, learn=facts(F.SOURCE_COMPLETED)),
    ),
    (P.RESOLVING, S.VERDICT_HOLD): (
        BREAK_IS_OUT,
        Rule(
            do=C.INSPECT_BOTH,
            unless=facts(F.CONTINUED, F.LOOKED),
            learn=facts(F.LOOKED),
            because="the two were not looked at in one moment",
        ),
        *HELD,
    ),
    (P.RESOLVING, S.VERDICT_LOST): (
        NOT_LOST_YET,
        *GONE_IN_POSTCOPY,
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
