"""The words of the protocol: phases, the ownership token, facts, and the immutable state.

Theory of operation
-------------------
One migration is one `State` that moves through the phases below. A `Signal` comes in, the tables
(`tables.py`) say which phase follows and which commands go out. What was learnt on the way and still
matters is kept as a set of `Fact` members, so that two events that must both have happened (the source
said ``completed``, the destination said ``completed``) may come in either order.

Nothing here waits, reads a clock or talks to anybody.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Side(enum.Enum):
    """One of the two QEMU processes."""

    SOURCE = "source"
    DESTINATION = "destination"


class Phase(enum.Enum):
    """Where a migration stands."""

    PREFLIGHT = "preflight"
    """Both ends are looked at; nothing is touched."""
    PREPARING = "preparing"
    """The destination is started, compared, set up and listening; the log is armed."""
    MIRRORING = "mirroring"
    """Disks that both ends do not share are copied, until they are in step."""
    PRECOPY = "precopy"
    """RAM goes over in iterations while the guest runs on the source."""
    SWITCHOVER = "switchover"
    """The source stands in ``pre-switchover``: the guest is stopped, calling off is still safe."""
    HANDOVER = "handover"
    """``migrate-continue`` was sent: last RAM and device state go over, nobody may interfere."""
    ACTIVATING = "activating"
    """The destination has everything; it is told to run and must be seen running."""
    POSTCOPY = "postcopy"
    """The guest is the destination's and runs there while its memory follows; the source can never run again."""
    RECOVERING = "recovering"
    """Post-copy lost its link: the guest stands still at the first page that is missing, until it is mended."""
    RELEASING = "releasing"
    """The guest runs on the destination; the source process is let go."""
    CANCELLING = "cancelling"
    """Backing out, whatever the cause: stop the migration, end the destination, put the source right."""
    RESOLVING = "resolving"
    """An outcome is unknown: both sides are asked what is true."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows any more."""
        return self in ENDS

    @property
    def stage(self) -> int | None:
        """The stage, 1 to 5, that a user is shown; ``None`` outside the five."""
        return STAGE_OF_PHASE.get(self)


ENDS = frozenset({Phase.COMPLETED, Phase.CANCELLED, Phase.FAILED})

STAGES: dict[int, str] = {
    1: "prepare the destination",
    2: "transfer",
    3: "stop the source",
    4: "transfer the rest",
    5: "continue on the destination",
}

STAGE_OF_PHASE: dict[Phase, int] = {
    Phase.PREFLIGHT: 1,
    Phase.PREPARING: 1,
    Phase.MIRRORING: 2,
    Phase.PRECOPY: 2,
    Phase.SWITCHOVER: 3,
    Phase.HANDOVER: 4,
    Phase.ACTIVATING: 5,
    Phase.POSTCOPY: 5,
    Phase.RECOVERING: 5,
    Phase.RELEASING: 5,
}


class Owner(enum.Enum):
    """Who may run the guest. Exactly one of the two sides, or nobody until it is known."""

    SOURCE = "source"
    LIMBO = "limbo"
    """``migrate-continue`` was sent and neither side is proven yet: nobody is resumed."""
    DESTINATION = "destination"


class Guest(enum.Enum):
    """What has become of the guest, as far as is known."""

    RUNNING = "running"
    PAUSED = "paused"
    """It stands paused because it was paused before the migration."""
    HELD = "held"
    """It stands paused because running it could not be shown to be safe."""
    LOST = "lost"
    """The process that held it ended."""
    SHUT_DOWN = "shut-down"
    """It powered itself off while it was being moved, and its process ended with it."""
    UNCONFIRMED = "unconfirmed"
    """Its owner is known; whether it runs there could not be confirmed."""


class Fact(enum.Enum):
    """What was learnt during this migration and is never unlearnt."""

    PAUSED_BEFORE = "the guest stood paused before, or its owner stopped it meanwhile"
    SHUT_DOWN = "the guest powered itself off"
    COPIES_DISKS = "disks are copied along"
    POSTCOPY_ASKED = "migrate-start-postcopy was sent"
    POSTCOPY = "post-copy began: the source is out for ever"
    DESTINATION_POSTCOPY = "the destination said postcopy-active, and has not lost its link since"
    MENDED = "after its link was lost the source said postcopy-active again"
    MISSED = "words of the source may have been missed since migrate-continue"
    DESTINATION_RAN = "the destination was seen running"
    CLAIMED = "the guest's lock was handed to the destination, or was about to be"
    ADOPTED = "a manager took it over: what was said in between was not heard"
    BACKING_OUT = "the manager before was backing out"
    CANCEL_WANTED = "the user called the migration off in time"
    MIGRATE_SENT = "migrate was sent"
    CONTINUED = "migrate-continue was sent"
    RETOLD = "migrate-continue was sent once more"
    CONT_SENT = "cont was sent to the destination"
    DISCARDING = "the destination is being discarded, or was"
    DISCARDED = "the destination was seen dead after it was discarded"
    BROKEN = "the destination is being killed, or the stream cut, to end a handover that hung"
    CUT = "the destination was seen dead after that, or the stream is cut"
    ASKED = "a deadline passed without an end, and both sides were asked"
    WAITED_OUT = "it passed once more"
    SOURCE_COMPLETED = "the source said completed"
    SETBACK = "after migrate-continue the source was seen running, failed or cancelled"
    SOURCE_ENDED = "the source process ended and its events were read to the end"
    DESTINATION_COMPLETED = "the destination said completed"
    DESTINATION_ENDED = "the destination process ended, or said failed"
    RETRIED = "resuming one side was tried again"
    VETOED = "that the destination runs was vetoed, or its lock could not be had"
    SOURCE_STANDS = "the last look found the source standing, completed"
    LOST_AGAIN = "a connection was lost while both sides were asked"
    LOOKED = "both sides were looked at twice"
    RECALLED = "migrate_cancel was sent once more"
    CONT_DOUBT = "whether the destination took its cont is not known"


@dataclass(frozen=True, slots=True)
class State:
    """The whole of what the protocol remembers. Immutable and hashable, so that it can be explored."""

    phase: Phase = Phase.PREFLIGHT
    owner: Owner = Owner.SOURCE
    facts: frozenset[Fact] = frozenset()
    deadline_ns: int | None = None
    """When the current wait ends, on the machine's clock; ``None``: nothing is waited for in this way."""
    guest: Guest | None = None
    """Set at an end; ``None`` before."""
