"""Stages 4 and 5: the token is in limbo, then the destination's."""

from __future__ import annotations

from dataclasses import replace

from .rules import (
    ACTIVATE,
    ASK,
    ASK_IN_TIME,
    IN_POSTCOPY,
    LATE_CLAIM,
    LET_GO,
    MOVED,
    SETBACK,
    TAKE_GUEST,
    Rule,
    Table,
    facts,
    ignored,
    learning,
    only_when,
)
from .signals import Command, Signal
from .states import Fact, Guest, Owner, Phase

C, F, P, S = Command, Fact, Phase, Signal

NEVER_RAN = Rule(
    P.CANCELLING,
    C.DISCARD_DESTINATION,
    when=facts(F.SOURCE_COMPLETED),
    unless=facts(F.CONT_SENT, F.POSTCOPY, F.MISSED),
    because="the source completed, but its destination is gone and never ran: the source can have the guest back",
)

BREAKING: tuple[Rule, ...] = (
    *only_when(ASK, F.BROKEN, F.CUT),
    Rule(
        when=facts(F.BROKEN),
        because="the destination is being killed, or the stream cut: it gets no cont before that is done and looked at",
    ),
)


UNTOLD: tuple[Rule, ...] = (
    Rule(
        P.FAILED,
        when=facts(F.MISSED),
        guest=Guest.HELD,
        because="words were missed: whether post-copy began cannot be told, so the source stays stopped",
    ),
)

PROVEN_OUT: tuple[Rule, ...] = (
    Rule(
        P.CANCELLING,
        C.DISCARD_DESTINATION,
        when=facts(F.DESTINATION_ENDED),
        because="the destination ended before it was resumed: the source can have the guest back",
    ),
    *BREAKING,
    *only_when(ACTIVATE, F.DESTINATION_COMPLETED),
    Rule(owner=Owner.DESTINATION, because="proven out; the destination has yet to say completed"),
)

ASK_HAVING_MISSED: tuple[Rule, ...] = (
    Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.POSTCOPY_ASKED), learn=facts(F.MISSED)),
    *ASK,
)
"""Whether it said postcopy-active before completed can no longer be told."""

HANDOVER: Table = {
    (P.HANDOVER, S.SOURCE_DEVICE): ignored("the device state is going over"),
    (P.HANDOVER, S.DESTINATION_POSTCOPY): (
        Rule(when=facts(F.BROKEN), because="it is being broken: what is left then decides"),
        *only_when(IN_POSTCOPY, F.POSTCOPY_ASKED, F.SOURCE_COMPLETED),
        Rule(because="the source has yet to say that it is out: from postcopy-device 11.1 may fail yet, and run"),
    ),
    (P.HANDOVER, S.SOURCE_PRE_SWITCHOVER): (
        Rule(
            do=C.CONTINUE,
            learn=facts(F.RETOLD),
            because="it stands there and was not told to go on, or is about to: being told twice does no harm",
        ),
    ),
    (P.HANDOVER, S.SOURCE_POSTCOPY): (
        Rule(when=facts(F.BROKEN), because="it is being broken: what is left then decides"),
        *IN_POSTCOPY,
    ),
    (P.HANDOVER, S.ADOPTED): ASK_HAVING_MISSED,
    (P.HANDOVER, S.CONTINUE_DONE): ignored("QEMU took it; its status tells the rest"),
    (P.HANDOVER, S.CONTINUE_REFUSED): (
        Rule(when=facts(F.RETOLD), because="it had taken the first one: its status tells"),
        *ASK,
    ),
    (P.HANDOVER, S.CONTINUE_UNKNOWN): ASK_HAVING_MISSED,
    # In post-copy every version says postcopy-active first: where all was heard, it went as pre-copy.
    (P.HANDOVER, S.SOURCE_COMPLETED): (*only_when(UNTOLD, F.DESTINATION_ENDED), *PROVEN_OUT),
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
    (P.HANDOVER, S.SOURCE_LOST): ASK_HAVING_MISSED,
    (P.HANDOVER, S.DESTINATION_LOST): ASK,
    (P.HANDOVER, S.DESTINATION_ENDED): (
        *only_when(UNTOLD, F.SOURCE_COMPLETED),
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
        *only_when(ASK_IN_TIME, F.BROKEN),
        *only_when(learning(ASK_IN_TIME, F.MISSED), F.POSTCOPY_ASKED),
        *only_when(ASK_IN_TIME, F.POSTCOPY),
        *only_when(ASK_IN_TIME, F.SOURCE_COMPLETED),
        *only_when(ASK_IN_TIME, F.SOURCE_ENDED),
        Rule(do=C.BREAK, because="never migrate_cancel here: it could leave two running guests"),
    ),
    (P.HANDOVER, S.BREAK_DONE): (
        Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.SOURCE_COMPLETED), learn=facts(F.CUT)),
        Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.SOURCE_ENDED), learn=facts(F.CUT)),
        Rule(learn=facts(F.CUT), because="now the source is failed and running, or completed: its status tells"),
    ),
    (P.HANDOVER, S.BREAK_REFUSED): learning(ASK, F.CUT),
    (P.HANDOVER, S.CANCEL): ignored("after migrate-continue a cancel could leave two running guests"),
}

CONT_REFUSED: tuple[Rule, ...] = (
    *only_when(ASK, F.CONT_DOUBT),
    Rule(
        P.RESOLVING,
        C.INSPECT_BOTH,
        learn=facts(F.RETRIED),
        forget=facts(F.CONT_SENT),
        because="the destination refused its cont, or it was never sent: the guest did not run there",
    ),
)
CONT_UNKNOWN: tuple[Rule, ...] = (Rule(P.RESOLVING, C.INSPECT_BOTH, learn=facts(F.CONT_DOUBT)),)

HANDOVER[P.HANDOVER, S.DESTINATION_FAILED] = learning(HANDOVER[P.HANDOVER, S.DESTINATION_ENDED], F.DESTINATION_ENDED)

NEVER_TOLD: tuple[Rule, ...] = (
    Rule(
        P.FAILED,
        when=facts(F.SOURCE_ENDED),
        unless=facts(F.CONT_SENT),
        guest=Guest.LOST,
        because="both processes ended",
    ),
    Rule(
        P.CANCELLING,
        C.DISCARD_DESTINATION,
        when=facts(F.SOURCE_COMPLETED),
        unless=facts(F.CONT_SENT),
        because="the destination ended before it was told to run: the source can have the guest back",
    ),
)

ACTIVATING: Table = {
    (P.ACTIVATING, S.CLAIM_DONE): TAKE_GUEST,
    (P.ACTIVATING, S.CLAIM_REFUSED): (
        LATE_CLAIM,
        Rule(P.RESOLVING, C.INSPECT_BOTH, learn=facts(F.VETOED), because="is the source there to have it back?"),
    ),
    (P.ACTIVATING, S.RESUME_DESTINATION_DONE): ignored("QEMU took it; the guest has yet to be seen running"),
    (P.ACTIVATING, S.RESUME_DESTINATION_REFUSED): CONT_REFUSED,
    (P.ACTIVATING, S.RESUME_DESTINATION_UNKNOWN): CONT_UNKNOWN,
    (P.ACTIVATING, S.DESTINATION_RUNNING): LET_GO,
    (P.ACTIVATING, S.DESTINATION_LOST): ASK,
    (P.ACTIVATING, S.DESTINATION_FAILED): ASK,
    (P.ACTIVATING, S.ADOPTED): (
        Rule(P.RESOLVING, C.INSPECT_BOTH, when=facts(F.CONT_SENT), learn=facts(F.CONT_DOUBT)),
        *ASK,
    ),
    (P.ACTIVATING, S.DESTINATION_ENDED): (
        *NEVER_TOLD,
        Rule(
            P.FAILED,
            guest=Guest.LOST,
            because="it had its cont and may have run: the source keeps its copy but is not resumed by us",
        ),
    ),
    (P.ACTIVATING, S.DEADLINE): ASK,
    (P.ACTIVATING, S.CANCEL): ignored("the guest is the destination's already"),
}

ACTIVATING[P.ACTIVATING, S.CLAIM_UNKNOWN] = ACTIVATING[P.ACTIVATING, S.CLAIM_REFUSED]

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

SOURCE_STILL_HAS_IT = Rule(
    P.RESOLVING,
    C.INSPECT_BOTH,
    when=facts(F.DESTINATION_ENDED, F.PAUSED_BEFORE),
    unless=facts(F.CONT_SENT, F.SOURCE_ENDED),
    because="the guest stood paused, and its new process ended before anybody ran it: the source may still have it",
)

RELEASING: Table = {
    (P.RELEASING, S.RELEASE_SOURCE_DONE): MOVED_IF_IT_LIVES,
    (P.RELEASING, S.RELEASE_SOURCE_REFUSED): (SOURCE_STILL_HAS_IT, *MOVED_IF_IT_LIVES),
    (P.RELEASING, S.SOURCE_ENDED): MOVED_IF_IT_LIVES,
    (P.RELEASING, S.DEADLINE): tuple(
        replace(rule, because=rule.because or "the source process is still there: it could not be ended in time")
        for rule in (SOURCE_STILL_HAS_IT, *MOVED_IF_IT_LIVES)
    ),
    (P.RELEASING, S.ADOPTED): (
        Rule(
            P.RESOLVING,
            C.INSPECT_BOTH,
            learn=facts(F.CONT_SENT),
            because="it was given up to the destination: one that arrived paused may have been run there since",
        ),
    ),
    (P.RELEASING, S.CANCEL): ignored("the guest runs on the destination already"),
}
