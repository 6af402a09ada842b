"""The alphabet of the protocol: what can happen (`Signal`) and what can be asked for (`Command`).

A command is coarse and holds at most one QMP call that can change a guest, an owner or a disk, so that
every point at which the world can be left is a point between two commands. Its answer is one of three:
``DONE``; ``REFUSED`` (QEMU said no, or the thing could not be done: the state is known); ``UNKNOWN``
(the connection went while the call was in flight). Commands that only look, start or end a process of
ours have no ``UNKNOWN``.
"""

from __future__ import annotations

import enum

from .states import Fact


class Command(enum.Enum):
    """What the machine asks of the driver."""

    INSPECT = "inspect"
    """Connect to the source, read the truth about it, judge what speaks against the move."""
    PREPARE = "prepare"
    """Start or adopt the destination (never autostarting), compare, set it up, make it listen."""
    ARM = "arm"
    """Set capabilities and parameters on the source; make the log safe against a host's death."""
    MIRROR = "mirror"
    """Copy the disks that both ends do not share; done when all are in step."""
    MIGRATE = "migrate"
    """``migrate`` on the source."""
    START_POSTCOPY = "start-postcopy"
    """``migrate-start-postcopy`` on the source: a request, which may still end as pre-copy."""
    QUIESCE = "quiesce"
    """The guest is stopped: hooks are asked while calling off is still safe."""
    DRAIN = "drain"
    """Bring copied disks into step for the last time and end their mirrors."""
    CONTINUE = "continue"
    """``migrate-continue`` on the source. From here on nobody may call the migration off."""
    BREAK = "break"
    """End a handover that hangs: kill the destination and wait for its exit, or cut the stream (``yank``)."""
    CLAIM = "claim"
    """Hand the guest's lock to the destination; hooks may still veto that it is resumed there."""
    RESUME_DESTINATION = "resume-destination"
    """``cont`` on the destination."""
    PAUSE_POSTCOPY = "pause-postcopy"
    """``migrate-pause`` on both sides, out of band: neither may wait for the network's own time-outs."""
    LISTEN_AGAIN = "listen-again"
    """``migrate-recover`` on the destination."""
    SEND_AGAIN = "send-again"
    """``migrate`` with ``resume`` on the source."""
    RELEASE_SOURCE = "release-source"
    """``quit`` on the source, and its exit waited for."""
    CANCEL_MIGRATION = "cancel-migration"
    """``migrate_cancel`` on the source; only ever before `CONTINUE`."""
    DISCARD_DESTINATION = "discard-destination"
    """Abandon the preparation that runs, kill the destination, wait for its exit."""
    RESTORE_SOURCE = "restore-source"
    """See the source in the run state it had; ``cont`` if it stands paused. Parameters are put back."""
    RECLAIM = "reclaim"
    """Hand the guest's lock back to the source."""
    RESUME_SOURCE = "resume-source"
    """``cont`` on a source that completed; only where the destination is dead and never had its ``cont``."""
    INSPECT_BOTH = "inspect-both"
    """Ask both sides what is true, reconnecting where needed."""


class Signal(enum.Enum):
    """What can happen to a migration."""

    # the caller and the clock
    START = "start"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    STALLED = "stalled"
    """The statistics show that nothing has been sent for longer than allowed."""
    GIVEN_UP = "given-up"
    """The policy decided to end the migration."""
    POSTCOPY_CHOSEN = "postcopy-chosen"
    """The policy decided to go over to post-copy."""
    ADOPTED = "adopted"
    """A new manager has taken the migration over from one that died: answers and events were missed."""

    # answers to commands
    INSPECT_DONE = "inspect-done"
    INSPECT_REFUSED = "inspect-refused"
    PREPARE_DONE = "prepare-done"
    PREPARE_REFUSED = "prepare-refused"
    ARM_DONE = "arm-done"
    ARM_REFUSED = "arm-refused"
    MIRROR_DONE = "mirror-done"
    MIRROR_REFUSED = "mirror-refused"
    MIRROR_UNKNOWN = "mirror-unknown"
    MIGRATE_DONE = "migrate-done"
    MIGRATE_REFUSED = "migrate-refused"
    MIGRATE_UNKNOWN = "migrate-unknown"
    START_POSTCOPY_DONE = "start-postcopy-done"
    START_POSTCOPY_REFUSED = "start-postcopy-refused"
    START_POSTCOPY_UNKNOWN = "start-postcopy-unknown"
    QUIESCE_DONE = "quiesce-done"
    QUIESCE_REFUSED = "quiesce-refused"
    DRAIN_DONE = "drain-done"
    DRAIN_REFUSED = "drain-refused"
    DRAIN_UNKNOWN = "drain-unknown"
    CONTINUE_DONE = "continue-done"
    CONTINUE_REFUSED = "continue-refused"
    CONTINUE_UNKNOWN = "continue-unknown"
    BREAK_DONE = "break-done"
    BREAK_REFUSED = "break-refused"
    CLAIM_DONE = "claim-done"
    CLAIM_REFUSED = "claim-refused"
    CLAIM_UNKNOWN = "claim-unknown"
    RESUME_DESTINATION_DONE = "resume-destination-done"
    RESUME_DESTINATION_REFUSED = "resume-destination-refused"
    RESUME_DESTINATION_UNKNOWN = "resume-destination-unknown"
    PAUSE_POSTCOPY_DONE = "pause-postcopy-done"
    PAUSE_POSTCOPY_REFUSED = "pause-postcopy-refused"
    PAUSE_POSTCOPY_UNKNOWN = "pause-postcopy-unknown"
    LISTEN_AGAIN_DONE = "listen-again-done"
    LISTEN_AGAIN_REFUSED = "listen-again-refused"
    LISTEN_AGAIN_UNKNOWN = "listen-again-unknown"
    SEND_AGAIN_DONE = "send-again-done"
    SEND_AGAIN_REFUSED = "send-again-refused"
    SEND_AGAIN_UNKNOWN = "send-again-unknown"
    RELEASE_SOURCE_DONE = "release-source-done"
    RELEASE_SOURCE_REFUSED = "release-source-refused"
    CANCEL_MIGRATION_DONE = "cancel-migration-done"
    CANCEL_MIGRATION_REFUSED = "cancel-migration-refused"
    CANCEL_MIGRATION_UNKNOWN = "cancel-migration-unknown"
    DISCARD_DESTINATION_DONE = "discard-destination-done"
    DISCARD_DESTINATION_REFUSED = "discard-destination-refused"
    RESTORE_SOURCE_DONE = "restore-source-done"
    RESTORE_SOURCE_REFUSED = "restore-source-refused"
    RESTORE_SOURCE_UNKNOWN = "restore-source-unknown"
    RECLAIM_DONE = "reclaim-done"
    RECLAIM_REFUSED = "reclaim-refused"
    RECLAIM_UNKNOWN = "reclaim-unknown"
    RESUME_SOURCE_DONE = "resume-source-done"
    RESUME_SOURCE_REFUSED = "resume-source-refused"
    RESUME_SOURCE_UNKNOWN = "resume-source-unknown"

    # what an inspection of both sides showed (resolve.py turns two classes into one of these)
    VERDICT_SOURCE = "verdict-source"
    """The guest is the source's; the destination may be discarded."""
    VERDICT_CALL_OFF = "verdict-call-off"
    """The migration is still under way and cannot succeed; ``migrate-continue`` was never sent."""
    VERDICT_GOES_ON = "verdict-goes-on"
    """The migration is still under way."""
    VERDICT_POSTCOPY = "verdict-postcopy"
    """Post-copy has begun: the destination owns the guest, and its memory is still on its way."""
    VERDICT_ACTIVATE = "verdict-activate"
    """The destination has everything, the source is proven out: resume the destination."""
    VERDICT_DESTINATION_RUNS = "verdict-destination-runs"
    VERDICT_HAND_BACK = "verdict-hand-back"
    """The source completed, the destination is dead and never ran: the source may be resumed."""
    VERDICT_HOLD = "verdict-hold"
    """Safety cannot be shown: nothing is resumed, nobody is killed."""
    VERDICT_LOST = "verdict-lost"
    """No process that could run the guest is left."""

    # the source, by event or by query
    SOURCE_ACTIVE = "source-active"
    SOURCE_STOPPED = "source-stopped"
    SOURCE_PRE_SWITCHOVER = "source-pre-switchover"
    SOURCE_DEVICE = "source-device"
    SOURCE_POSTCOPY = "source-postcopy"
    SOURCE_POSTCOPY_PAUSED = "source-postcopy-paused"
    """Post-copy lost its link."""
    SOURCE_COMPLETED = "source-completed"
    SOURCE_FAILED = "source-failed"
    SOURCE_CANCELLED = "source-cancelled"
    SOURCE_IDLE = "source-idle"
    """``query-migrate`` shows no migration at all."""
    SOURCE_RUNNING = "source-running"
    SOURCE_PAUSED = "source-paused"
    """The guest was stopped there by its owner, by an error of its storage, or by itself; not by the migration."""
    SOURCE_SHUT_DOWN = "source-shut-down"
    """The guest powered itself off."""
    DISK_COPY_FAILED = "disk-copy-failed"
    """A mirror ended with an error; the guest runs on."""
    SOURCE_LOST = "source-lost"
    """Its monitor connection went while the process lives, or may live."""
    SOURCE_ENDED = "source-ended"
    """Its process ended and its events were read to the end."""

    # the destination
    DESTINATION_ACTIVE = "destination-active"
    DESTINATION_POSTCOPY = "destination-postcopy"
    DESTINATION_POSTCOPY_PAUSED = "destination-postcopy-paused"
    DESTINATION_COMPLETED = "destination-completed"
    DESTINATION_FAILED = "destination-failed"
    DESTINATION_RUNNING = "destination-running"
    DESTINATION_LOST = "destination-lost"
    DESTINATION_ENDED = "destination-ended"


class Outcome(enum.Enum):
    """How a command ended."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


FACT_OF_SIGNAL: dict[Signal, Fact] = {
    Signal.SOURCE_COMPLETED: Fact.SOURCE_COMPLETED,
    Signal.SOURCE_ENDED: Fact.SOURCE_ENDED,
    Signal.SOURCE_SHUT_DOWN: Fact.SHUT_DOWN,
    Signal.DESTINATION_POSTCOPY: Fact.DESTINATION_POSTCOPY,
    Signal.DESTINATION_COMPLETED: Fact.DESTINATION_COMPLETED,
    Signal.DESTINATION_RUNNING: Fact.DESTINATION_RAN,
    Signal.DESTINATION_ENDED: Fact.DESTINATION_ENDED,
    Signal.ADOPTED: Fact.ADOPTED,
}
"""What a signal teaches, whatever the phase."""

FACT_OF_COMMAND: dict[Command, Fact] = {
    Command.MIGRATE: Fact.MIGRATE_SENT,
    Command.START_POSTCOPY: Fact.POSTCOPY_ASKED,
    Command.CONTINUE: Fact.CONTINUED,
    Command.CLAIM: Fact.CLAIMED,
    Command.RESUME_DESTINATION: Fact.CONT_SENT,
    Command.DISCARD_DESTINATION: Fact.DISCARDING,
    Command.BREAK: Fact.BROKEN,
}
"""What issuing a command makes true, from the moment it is issued (not from its answer)."""


def answer(command: Command, outcome: Outcome) -> Signal:
    """The signal that reports how a command ended.

    A command without an ``UNKNOWN`` signal (it changes nothing in a QEMU that could be left half done)
    reports ``REFUSED`` instead.
    """
    try:
        return Signal(f"{command.value}-{outcome.value}")
    except ValueError:
        return Signal(f"{command.value}-{Outcome.REFUSED.value}")
