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

from .rules import TRIES, Table, forgetting, ignored
from .signals import Command, Signal
from .states import ENDS, Phase
from .table_back import CANCELLING, RESOLVING
from .table_forward import MIRRORING, PRECOPY, PREFLIGHT, PREPARING, SWITCHOVER
from .table_over import ACTIVATING, HANDOVER, RELEASING
from .table_postcopy import POSTCOPY, RECOVERING

P, S = Phase, Signal

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
    (LIVE, frozenset({S.STALLED, S.GIVEN_UP}), "only a transfer can stall or be given up"),
    (LIVE, frozenset({S.POSTCOPY_CHOSEN}), "post-copy can only begin while RAM is transferred"),
    (
        LIVE,
        frozenset({S.SOURCE_PAUSED, S.SOURCE_SHUT_DOWN}),
        "noted: the migration moves a guest as it stands, and the end of its process is told by itself",
    ),
    (LIVE, frozenset({S.DISK_COPY_FAILED}), "no copy of a disk is needed in this phase"),
    (frozenset({P.RESOLVING}), OBSERVED, "noted as a fact; the inspection under way shows what follows from it"),
    (
        LIVE,
        frozenset({S.SOURCE_STOPPED}),
        "STOP moves nothing: a paused guest sends none, and others cause it too",
    ),
    (
        LIVE,
        frozenset(
            {
                S.SOURCE_RUNNING,
                S.DESTINATION_RUNNING,
                S.DESTINATION_ACTIVE,
                S.DESTINATION_COMPLETED,
                S.DESTINATION_POSTCOPY,
                S.DESTINATION_POSTCOPY_PAUSED,
            }
        ),
        "no decision of this phase hangs on it",
    ),
    (
        LIVE,
        frozenset(
            {
                S.SOURCE_ACTIVE,
                S.SOURCE_PRE_SWITCHOVER,
                S.SOURCE_DEVICE,
                S.SOURCE_POSTCOPY,
                S.SOURCE_POSTCOPY_PAUSED,
                S.SOURCE_COMPLETED,
            }
        ),
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


PARTS = (
    *(PREFLIGHT, PREPARING, MIRRORING, PRECOPY, SWITCHOVER, HANDOVER, ACTIVATING, POSTCOPY, RECOVERING, RELEASING),
    *(CANCELLING, RESOLVING),
)


def build() -> Table:
    """The whole table: the explicit entries, and for every other pair the first group that ignores it."""
    table: Table = {}
    for part in PARTS:
        table.update(part)
    for phase in LIVE:
        table[phase, S.ADOPTED] = forgetting(table[phase, S.ADOPTED], *TRIES)
    for phases, signals, because in IGNORED:
        for phase in phases:
            for signal in signals:
                table.setdefault((phase, signal), ignored(because))
    return table


TABLE: Table = build()
