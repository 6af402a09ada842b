"""Post-copy: the guest runs on the destination while its memory follows, and the link may have to be mended."""

from __future__ import annotations

from dataclasses import replace

from .rules import (
    ASK,
    ASK_IN_TIME,
    LATE_CLAIM,
    LET_GO,
    LOST_IN_POSTCOPY,
    MOVED,
    SETBACK,
    Rule,
    Table,
    facts,
    forgetting,
    ignored,
    only_when,
)
from .signals import Command, Signal
from .states import Fact, Guest, Phase

C, F, P, S = Command, Fact, Phase, Signal

LET_GO_IF_SEEN: tuple[Rule, ...] = (
    *only_when(LET_GO, F.SOURCE_COMPLETED, F.DESTINATION_COMPLETED, F.DESTINATION_RAN),
    *only_when(LET_GO, F.SOURCE_COMPLETED, F.DESTINATION_COMPLETED, F.PAUSED_BEFORE),
)
"""The source is let go when it said completed and the destination said completed *and* runs."""

BROKEN: tuple[Rule, ...] = (
    Rule(
        P.RECOVERING,
        C.PAUSE_POSTCOPY,
        forget=facts(F.DESTINATION_POSTCOPY, F.MENDED),
        because="both sides are to give the old link up",
    ),
)

SOURCE_GONE: tuple[Rule, ...] = (
    Rule(when=facts(F.SOURCE_COMPLETED), because="it had sent everything"),
    Rule(P.RESOLVING, C.INSPECT_BOTH, because="the destination may have everything"),
)

DESTINATION_GONE: tuple[Rule, ...] = (
    *only_when(LOST_IN_POSTCOPY, F.DESTINATION_POSTCOPY),
    *only_when(LOST_IN_POSTCOPY, F.CLAIMED),
    Rule(
        P.RESOLVING, C.INSPECT_BOTH, because="7.2 says postcopy-active first and may fail to send: then the source runs"
    ),
)

CAME_BACK: tuple[Rule, ...] = (
    Rule(when=facts(F.DESTINATION_POSTCOPY), because="the destination has the guest: what the source says is old"),
    Rule(when=facts(F.CLAIMED), because="the destination has the guest: what the source says is old"),
    *SETBACK,
)
"""7.2 says postcopy-active before it has sent anything; a source that could not send runs again by itself."""

AGAIN_IN_STEP: tuple[Rule, ...] = (
    Rule(P.POSTCOPY, C.CLAIM, unless=facts(F.CLAIMED), because="the link is mended"),
    Rule(P.POSTCOPY, when=facts(F.DESTINATION_RAN), rest=True, because="the link is mended"),
    Rule(P.POSTCOPY, because="the link is mended"),
)

POSTCOPY: Table = {
    (P.POSTCOPY, S.DESTINATION_POSTCOPY): (
        Rule(when=facts(F.CLAIMED), because="known already"),
        Rule(do=C.CLAIM),
    ),
    (P.POSTCOPY, S.CLAIM_DONE): (
        LATE_CLAIM,
        Rule(rest=True, when=facts(F.PAUSED_BEFORE), because="it stood paused and stays so"),
        Rule(do=C.RESUME_DESTINATION),
    ),
    (P.POSTCOPY, S.CLAIM_REFUSED): (
        LATE_CLAIM,
        Rule(P.FAILED, guest=Guest.HELD, because="the destination may not run it, and in post-copy nobody else can"),
    ),
    (P.POSTCOPY, S.RESUME_DESTINATION_DONE): ignored("QEMU took it; the guest has yet to be seen running"),
    (P.POSTCOPY, S.RESUME_DESTINATION_REFUSED): ASK,
    (P.POSTCOPY, S.RESUME_DESTINATION_UNKNOWN): ASK,
    (P.POSTCOPY, S.DESTINATION_RUNNING): (
        *only_when(LET_GO, F.SOURCE_COMPLETED, F.DESTINATION_COMPLETED),
        Rule(rest=True, learn=facts(F.DESTINATION_RAN)),
    ),
    (P.POSTCOPY, S.SOURCE_COMPLETED): (*LET_GO_IF_SEEN, Rule(because="the destination has yet to have everything")),
    (P.POSTCOPY, S.DESTINATION_COMPLETED): (
        *LET_GO_IF_SEEN,
        Rule(because="the source has yet to say so, or it to run"),
    ),
    (P.POSTCOPY, S.SOURCE_POSTCOPY_PAUSED): (*only_when(LOST_IN_POSTCOPY, F.DESTINATION_ENDED), *BROKEN),
    (P.POSTCOPY, S.DESTINATION_POSTCOPY_PAUSED): BROKEN,
    (P.POSTCOPY, S.STALLED): BROKEN,
    (P.POSTCOPY, S.SOURCE_FAILED): CAME_BACK,
    (P.POSTCOPY, S.SOURCE_CANCELLED): CAME_BACK,
    (P.POSTCOPY, S.SOURCE_RUNNING): CAME_BACK,
    (P.POSTCOPY, S.SOURCE_ENDED): SOURCE_GONE,
    (P.POSTCOPY, S.DESTINATION_ENDED): DESTINATION_GONE,
    (P.POSTCOPY, S.DESTINATION_FAILED): DESTINATION_GONE,
    (P.POSTCOPY, S.SOURCE_LOST): ASK,
    (P.POSTCOPY, S.DESTINATION_LOST): ASK,
    (P.POSTCOPY, S.ADOPTED): ASK,
    (P.POSTCOPY, S.DEADLINE): ASK_IN_TIME,
    (P.POSTCOPY, S.CANCEL): ignored("the source can never run the guest again"),
}
POSTCOPY[P.POSTCOPY, S.CLAIM_UNKNOWN] = POSTCOPY[P.POSTCOPY, S.CLAIM_REFUSED]

LISTEN_AGAIN = (Rule(do=C.LISTEN_AGAIN),)
WAIT_AND_TRY_AGAIN = ignored("it is tried again from the start when the wait is over")

HAS_EVERYTHING: tuple[Rule, ...] = tuple(
    replace(rule, because="the destination has everything; the source could not be told so, and is left as it stands")
    for rule in (
        *only_when(MOVED[:1], F.DESTINATION_COMPLETED),
        *only_when(MOVED[1:], F.DESTINATION_COMPLETED, F.DESTINATION_RAN),
    )
)

RECOVERING: Table = {
    # Whatever was paused already says no: that is as good.
    (P.RECOVERING, S.PAUSE_POSTCOPY_DONE): LISTEN_AGAIN,
    (P.RECOVERING, S.PAUSE_POSTCOPY_REFUSED): LISTEN_AGAIN,
    (P.RECOVERING, S.PAUSE_POSTCOPY_UNKNOWN): LISTEN_AGAIN,
    (P.RECOVERING, S.LISTEN_AGAIN_DONE): (Rule(do=C.SEND_AGAIN),),
    (P.RECOVERING, S.LISTEN_AGAIN_REFUSED): WAIT_AND_TRY_AGAIN,
    (P.RECOVERING, S.LISTEN_AGAIN_UNKNOWN): WAIT_AND_TRY_AGAIN,
    (P.RECOVERING, S.SEND_AGAIN_DONE): ignored("the source's status tells"),
    (P.RECOVERING, S.SEND_AGAIN_REFUSED): WAIT_AND_TRY_AGAIN,
    (P.RECOVERING, S.SEND_AGAIN_UNKNOWN): WAIT_AND_TRY_AGAIN,
    # Both have to say it: one that broke may have said so before it was mended, and be heard after it.
    (P.RECOVERING, S.SOURCE_POSTCOPY): (
        *only_when(AGAIN_IN_STEP, F.DESTINATION_POSTCOPY),
        Rule(learn=facts(F.MENDED), because="the destination has yet to say so"),
    ),
    (P.RECOVERING, S.DESTINATION_POSTCOPY): (
        *forgetting(only_when(AGAIN_IN_STEP, F.MENDED), F.MENDED),
        Rule(because="the source has yet to say so"),
    ),
    (P.RECOVERING, S.SOURCE_POSTCOPY_PAUSED): (Rule(forget=facts(F.MENDED), because="it is being mended"),),
    (P.RECOVERING, S.DESTINATION_POSTCOPY_PAUSED): (
        Rule(forget=facts(F.DESTINATION_POSTCOPY), because="it is being mended"),
    ),
    (P.RECOVERING, S.CLAIM_DONE): (
        LATE_CLAIM,
        Rule(when=facts(F.PAUSED_BEFORE), because="it stood paused and stays so"),
        Rule(do=C.RESUME_DESTINATION),
    ),
    (P.RECOVERING, S.CLAIM_REFUSED): POSTCOPY[P.POSTCOPY, S.CLAIM_REFUSED],
    (P.RECOVERING, S.CLAIM_UNKNOWN): POSTCOPY[P.POSTCOPY, S.CLAIM_REFUSED],
    (P.RECOVERING, S.DEADLINE): (
        *HAS_EVERYTHING,
        *only_when(ASK, F.DESTINATION_COMPLETED),
        Rule(
            do=C.PAUSE_POSTCOPY,
            forget=facts(F.DESTINATION_POSTCOPY, F.MENDED),
            because="once more, from the start",
        ),
    ),
    (P.RECOVERING, S.DESTINATION_RUNNING): (Rule(learn=facts(F.DESTINATION_RAN)),),
    (P.RECOVERING, S.SOURCE_COMPLETED): (*LET_GO_IF_SEEN, Rule(P.POSTCOPY)),
    (P.RECOVERING, S.DESTINATION_COMPLETED): (
        *LET_GO_IF_SEEN,
        Rule(because="the source has yet to say so, or it to run"),
    ),
    (P.RECOVERING, S.SOURCE_ENDED): SOURCE_GONE,
    (P.RECOVERING, S.DESTINATION_ENDED): LOST_IN_POSTCOPY,
    (P.RECOVERING, S.DESTINATION_FAILED): LOST_IN_POSTCOPY,
    (P.RECOVERING, S.SOURCE_LOST): ASK,
    (P.RECOVERING, S.DESTINATION_LOST): ASK,
    (P.RECOVERING, S.ADOPTED): ASK,
    (P.RECOVERING, S.CANCEL): (
        Rule(
            P.FAILED,
            guest=Guest.UNCONFIRMED,
            because="recovering was given up; both processes stand, and each holds a part of the guest's memory",
        ),
    ),
}
