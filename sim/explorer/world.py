"""Two QEMUs and what lies between them, as far as they matter to "one owner, whatever dies".

This is a model of what QEMU does *by itself*, made from what 7.2, 10.0 and 11.1 were seen to do; nothing in
it is taken from the protocol's tables, which are what it is there to judge. Memory is modelled by identity:
the destination's copy is whole if it was told everything and the source has not run since it was stopped.

A `World` is built anew for each move, changed, and frozen into a tuple of small integers: states are
compared and stored by the million.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from operator import attrgetter
from typing import Any, Final

from whimbrel.engine.signals import Signal

SIGNALS: Final = tuple(Signal)
NUMBER_OF: Final = {signal: number for number, signal in enumerate(SIGNALS)}


class Status(IntEnum):
    """``query-migrate``'s status, on either side."""

    NONE = 0
    SETUP = 1
    ACTIVE = 2
    PRE_SWITCHOVER = 3
    DEVICE = 4
    POSTCOPY_ACTIVE = 5
    POSTCOPY_PAUSED = 6
    POSTCOPY_RECOVER = 7
    COMPLETED = 8
    FAILING = 9
    FAILED = 10
    CANCELLING = 11
    CANCELLED = 12


class Run(IntEnum):
    """``query-status``'s status."""

    RUNNING = 0
    PAUSED = 1
    FINISH_MIGRATE = 2
    POSTMIGRATE = 3
    INMIGRATE = 4


class Process(IntEnum):
    """What there is of a QEMU process."""

    ABSENT = 0
    ALIVE = 1
    DEAD = 2


class Link(IntEnum):
    """The migration stream, both directions."""

    WHOLE = 0
    HUNG = 1
    """Nothing arrives any more and nobody is told, not even of a process that ended."""
    CUT = 2
    """Both ends notice, each in its own time; what was sent before may still arrive."""


class Sent(IntEnum):
    """What the source has put on the wire."""

    PAGES = 0
    PACKAGE = 1
    """Post-copy: the device state, with the order to run."""
    ALL = 2


class Disk(IntEnum):
    """The copy of a disk that both ends do not share."""

    NONE = 0
    IN_STEP = 1
    """The mirror is ready and follows; the last writes may not be there yet."""
    DRAINED = 2
    BROKEN = 3


class Holder(IntEnum):
    """Who holds the guest's lock."""

    SOURCE = 0
    DESTINATION = 1


class Line(IntEnum):
    """The controller's connection to a monitor."""

    NEVER = 0
    UP = 1
    CLOSED = 2
    """The process ended; what it said is still being read."""
    DOWN = 3
    BLOCKED = 4
    """Lost, and another client has the monitor: it cannot be connected anew."""


class Breach(IntEnum):
    """What was done that must never be done; the invariants' numbers."""

    NONE = 0
    TWO_RUNNING = 1
    NOT_WHOLE = 2
    SOURCE_AFTER_POSTCOPY = 3
    OWNER_KILLED = 4
    CANCEL_AFTER_CONTINUE = 5
    WITHOUT_LOCK = 6
    NO_END = 7
    WRONG_END = 8


MOVING: Final = frozenset(
    {Status.SETUP, Status.ACTIVE, Status.PRE_SWITCHOVER, Status.DEVICE, Status.CANCELLING, Status.FAILING}
)

SOURCE_SAYS: Final = {
    Status.NONE: NUMBER_OF[Signal.SOURCE_IDLE],
    Status.ACTIVE: NUMBER_OF[Signal.SOURCE_ACTIVE],
    Status.PRE_SWITCHOVER: NUMBER_OF[Signal.SOURCE_PRE_SWITCHOVER],
    Status.DEVICE: NUMBER_OF[Signal.SOURCE_DEVICE],
    Status.POSTCOPY_ACTIVE: NUMBER_OF[Signal.SOURCE_POSTCOPY],
    Status.POSTCOPY_PAUSED: NUMBER_OF[Signal.SOURCE_POSTCOPY_PAUSED],
    Status.COMPLETED: NUMBER_OF[Signal.SOURCE_COMPLETED],
    Status.FAILED: NUMBER_OF[Signal.SOURCE_FAILED],
    Status.CANCELLED: NUMBER_OF[Signal.SOURCE_CANCELLED],
}
DESTINATION_SAYS: Final = {
    Status.ACTIVE: NUMBER_OF[Signal.DESTINATION_ACTIVE],
    Status.POSTCOPY_ACTIVE: NUMBER_OF[Signal.DESTINATION_POSTCOPY],
    Status.POSTCOPY_PAUSED: NUMBER_OF[Signal.DESTINATION_POSTCOPY_PAUSED],
    Status.COMPLETED: NUMBER_OF[Signal.DESTINATION_COMPLETED],
    Status.FAILED: NUMBER_OF[Signal.DESTINATION_FAILED],
}
SOURCE_STATUS: Final = {number: status for status, number in SOURCE_SAYS.items()}
DESTINATION_STATUS: Final = {number: status for status, number in DESTINATION_SAYS.items()}

UNTOLD: Final = -1
"""No status was seen on this connection yet: whatever it is, it is news."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """In what the versions of QEMU differ, and what a set-up has.

    Attributes:
        runs_before_failed: 11.1 resumes the guest between ``failing`` and ``failed``; the others after ``failed``.
        postcopy_without_device: 7.2 goes from ``pre-switchover`` straight to ``postcopy-active``, before the
            package is sent; the others say ``device`` first and ``postcopy-active`` with the package.
        survives_the_package: 11.1 stands in ``postcopy-device`` until the destination says that it took the package; if
            the stream breaks before that word comes, it fails and runs again, though the destination may have taken it.
        notices_while_paused: a source in ``pre-switchover`` fails when its stream breaks; otherwise only after
            ``migrate-continue``.
        image_locks: images are local files whose locks QEMU itself keeps: a second user is refused.
        copies_disks: disks are mirrored.
        uses_lock: a lock provider says who may run the guest.
        processes_watched: both are local; otherwise their deaths look like lost connections, and the
            destination can only be ended through its monitor.
    """

    runs_before_failed: bool = False
    postcopy_without_device: bool = False
    survives_the_package: bool = False
    notices_while_paused: bool = False
    image_locks: bool = False
    copies_disks: bool = False
    uses_lock: bool = False
    processes_watched: bool = True


Frozen = tuple[Any, ...]
"""A `World` as a value: its fields in their order."""


@dataclass(slots=True)
class World:
    """Everything there is: both QEMUs, the stream, disks, the lock; and the controller with what it is waiting for."""

    # the source
    s_alive: bool = True
    s_status: int = Status.NONE
    s_run: int = Run.RUNNING
    s_ran: bool = True
    """Whether QEMU found the guest running when it stopped it: it will resume it only then."""
    # the destination
    d_process: int = Process.ABSENT
    d_status: int = Status.NONE
    d_run: int = Run.INMIGRATE
    d_autostart: bool = False
    d_listens_again: bool = False
    # between them
    link: int = Link.WHOLE
    outwaited: bool = False
    """It hangs, and a whole wait has passed since: it will not outlast another."""
    sent: int = Sent.PAGES
    whole: bool = False
    """The destination has everything that the source held when it stopped."""
    postcopy_asked: bool = False
    postcopy: bool = False
    """This switchover is one to post-copy."""
    package_void: bool = False
    """The source failed after it had sent the package, not having heard that it came."""
    disk: int = Disk.NONE
    lock: int = Holder.SOURCE
    # the guest
    stale: bool = False
    """The source ran after it was stopped for the switchover: the destination's copy is old."""
    d_has_run: bool = False
    shut_down: bool = False
    # monitors: the connection, what was said and not read yet, the last status told, whether any was seen on it
    s_line: int = Line.NEVER
    s_news: tuple[int, ...] = ()
    s_told: int = Status.NONE
    s_seen: bool = False
    s_end_heard: bool = False
    d_line: int = Line.NEVER
    d_news: tuple[int, ...] = ()
    d_told: int = Status.NONE
    # the controller
    manned: bool = True
    protocol: int = 0
    """The number of the protocol's state."""
    orders: tuple[int, ...] = ()
    """Commands that are out: number of the command x 4 + how far it has come."""
    s_look: int = UNTOLD
    d_look: int = UNTOLD
    armed: bool = False
    continued: bool = False
    """We have ordered migrate-continue."""
    told_to_run: bool = False
    """We have ordered cont on the destination."""
    # budgets, and the verdict
    faults: int = 0
    wishes: int = 0
    choices: int = 0
    acts: int = 0
    excused: bool = False
    """A fault happened after which nobody can know, or do, all that is needed to settle it."""
    shaken: bool = False
    """A command's outcome was lost once; whatever is tried again is tried once again."""
    acted: bool = False
    """Its owner, or the guest itself, has changed what it does."""
    breach: int = Breach.NONE

    # ---- what the QEMUs say

    def source_says(self, number: int) -> None:
        """An event of the source; nobody hears it where there is no connection."""
        if self.s_line == Line.UP:
            self.s_news += (number,)

    def destination_says(self, number: int) -> None:
        """An event of the destination."""
        if self.d_line == Line.UP:
            self.d_news += (number,)

    def source_becomes(self, status: Status) -> None:
        """A new migration status, told where it has an event."""
        self.s_status = status
        said = SOURCE_SAYS.get(status)
        if said is not None:
            self.source_says(said)

    def destination_becomes(self, status: Status) -> None:
        """As `source_becomes`."""
        self.d_status = status
        said = DESTINATION_SAYS.get(status)
        if said is not None:
            self.destination_says(said)

    # ---- ends of processes

    def source_ends(self, quirks: Quirks) -> None:
        """The process ends, however. Its end is told as such only if all that it said can be read to the end."""
        self.s_alive = False
        self._unfreeze(quirks)
        if self.s_line == Line.UP:
            heard = quirks.processes_watched and self.s_seen
            self.s_news += (NUMBER_OF[Signal.SOURCE_ENDED if heard else Signal.SOURCE_LOST],)
            self.s_line = Line.CLOSED if heard else Line.DOWN

    def destination_ends(self, quirks: Quirks) -> None:
        """As `source_ends`."""
        self.d_process = Process.DEAD
        self._unfreeze(quirks)
        if self.d_line == Line.UP:
            watched = quirks.processes_watched
            self.d_news += (NUMBER_OF[Signal.DESTINATION_ENDED if watched else Signal.DESTINATION_LOST],)
            self.d_line = Line.CLOSED if watched else Line.DOWN

    def _unfreeze(self, quirks: Quirks) -> None:
        """Between processes of one host a stream hangs only because one of them is frozen."""
        if quirks.processes_watched and self.link == Link.HUNG:
            self.link = Link.CUT

    # ---- what is true of the guest

    @property
    def s_runs(self) -> bool:
        """Whether the guest runs on the source."""
        return self.s_alive and self.s_run == Run.RUNNING

    @property
    def d_runs(self) -> bool:
        """Whether the guest runs on the destination (in post-copy: until it needs a page that never comes)."""
        return self.d_process == Process.ALIVE and self.d_run == Run.RUNNING

    @property
    def postcopy_began(self) -> bool:
        """Whether the destination has, or may yet get, the order to run without all memory."""
        return self.sent == Sent.PACKAGE and not self.package_void

    def only_copy_on_destination(self) -> bool:
        """Whether ending the destination now would end the guest."""
        if self.d_process != Process.ALIVE:
            return False
        if self.d_has_run:
            return True
        if self.postcopy_began:
            return self.d_status != Status.ACTIVE
        set_back = self.s_status in (Status.FAILING, Status.FAILED, Status.CANCELLING, Status.CANCELLED)
        return self.whole and not self.stale and not self.s_alive and not set_back

    # ---- steps that commands and QEMU itself share

    def source_resumes(self, *, by_us: bool, quirks: Quirks) -> bool:
        """The guest runs on the source again; whether it does.

        Images that the destination has activated can't be had back while it lives (where locks protect them).
        """
        if quirks.image_locks and self.d_process == Process.ALIVE and self.d_has_run:
            self.s_run = Run.POSTMIGRATE
            return False
        self.s_run = Run.RUNNING
        self.stale = True
        self.source_says(NUMBER_OF[Signal.SOURCE_RUNNING])
        if by_us and self.postcopy_began:
            self.breach = self.breach or Breach.SOURCE_AFTER_POSTCOPY
        return True

    def destination_runs(self) -> None:
        """The guest runs on the destination."""
        self.d_run = Run.RUNNING
        self.d_has_run = True
        self.destination_says(NUMBER_OF[Signal.DESTINATION_RUNNING])

    def source_fails(self, quirks: Quirks) -> None:
        """``failed``; a guest that was stopped for the switchover is resumed by QEMU itself."""
        if self.link == Link.WHOLE:
            self.link = Link.CUT
        if self.s_run == Run.FINISH_MIGRATE and quirks.runs_before_failed:
            self.source_becomes(Status.FAILING)
        else:
            self.source_becomes(Status.FAILED)

    def source_continues(self, quirks: Quirks) -> bool:
        """``migrate-continue``: refused anywhere but in ``pre-switchover``."""
        if self.s_status != Status.PRE_SWITCHOVER:
            return False
        if self.postcopy and quirks.postcopy_without_device:
            self.source_becomes(Status.POSTCOPY_ACTIVE)
        else:
            self.source_becomes(Status.DEVICE)
        return True

    def source_cancels(self) -> None:
        """``migrate_cancel``: nothing where no migration is under way; accepted, and fatal, in 7.2's post-copy."""
        if self.s_status in (Status.SETUP, Status.ACTIVE, Status.PRE_SWITCHOVER, Status.DEVICE):
            self.source_becomes(Status.CANCELLING)
            if self.link == Link.WHOLE:
                self.link = Link.CUT

    def destination_is_told_to_run(self, quirks: Quirks) -> bool:
        """``cont``: while ``inmigrate`` it is accepted and cancels the ``-S``; nothing runs before all has come."""
        if self.d_status == Status.FAILED:
            return False
        if self.d_run == Run.INMIGRATE:
            self.d_autostart = True
            return True
        if self.d_run == Run.RUNNING:
            return True
        if quirks.image_locks and self.s_alive and self.s_run == Run.RUNNING:
            return False
        self.destination_runs()
        return True

    def freeze(self) -> Frozen:
        """All of it, as a value."""
        return _VALUES(self)

    def copy(self) -> World:
        """The same again, to be changed."""
        return World(*_VALUES(self))


NAMES: Final = tuple(field.name for field in fields(World))
_VALUES = attrgetter(*NAMES)
