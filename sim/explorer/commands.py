"""What each command does to the `World`, and what is answered: the driver's half of the contract.

Written from QEMU's reference and the driver's procedures, not from the tables. ``DONE`` and ``REFUSED`` are what
QEMU says in that state; that it may refuse for other reasons is a fault of its own (`moves`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from whimbrel.engine.signals import Command
from whimbrel.engine.states import Fact

from .protocol import COMMAND, Protocol
from .world import MOVING, UNTOLD, Breach, Disk, Holder, Line, Link, Process, Quirks, Run, Status, World

C = Command

ISSUED: Final = 0
DONE: Final = 1
REFUSED: Final = 2
UNKNOWN: Final = 3
BEGUN: Final = 4
"""No outcome yet, but something was done."""

ON_SOURCE: Final = frozenset(
    COMMAND[command]
    for command in (
        *(C.ARM, C.MIRROR, C.MIGRATE, C.START_POSTCOPY, C.DRAIN, C.CONTINUE, C.CANCEL_MIGRATION, C.PAUSE_POSTCOPY),
        *(C.SEND_AGAIN, C.RESTORE_SOURCE, C.RESUME_SOURCE),
    )
)
ON_DESTINATION: Final = frozenset(COMMAND[command] for command in (C.PREPARE, C.RESUME_DESTINATION, C.LISTEN_AGAIN))

AT_ONCE: Final = tuple(
    COMMAND[command] * 4 + ISSUED
    for command in (C.MIGRATE, C.START_POSTCOPY, C.CONTINUE, C.CANCEL_MIGRATION, C.SEND_AGAIN)
)
"""Sent to the source the moment they are ordered, over one connection: QEMU takes them in this order, in which
they are ordered, and before anything else that is asked of it later."""
AT_ONCE_ON_DESTINATION: Final = tuple(
    COMMAND[command] * 4 + ISSUED for command in (C.RESUME_DESTINATION, C.LISTEN_AGAIN)
)
INSPECT_BOTH: Final = COMMAND[C.INSPECT_BOTH]

Act = Callable[[World], int | None]


class Commands:
    """Carries out commands on a world that is changed in place."""

    def __init__(self, protocol: Protocol, quirks: Quirks) -> None:
        self.protocol = protocol
        self.quirks = quirks
        self._acts: dict[int, Act] = {
            COMMAND[command]: act
            for command, act in (
                (C.INSPECT, self._inspect),
                (C.PREPARE, self._prepare),
                (C.ARM, self._arm),
                (C.MIRROR, self._mirror),
                (C.MIGRATE, self._migrate),
                (C.START_POSTCOPY, self._start_postcopy),
                (C.QUIESCE, self._quiesce),
                (C.DRAIN, self._drain),
                (C.CONTINUE, self._continue),
                (C.BREAK, self._break),
                (C.CLAIM, self._claim),
                (C.RESUME_DESTINATION, self._resume_destination),
                (C.PAUSE_POSTCOPY, self._pause_postcopy),
                (C.LISTEN_AGAIN, self._listen_again),
                (C.SEND_AGAIN, self._send_again),
                (C.RELEASE_SOURCE, self._release_source),
                (C.CANCEL_MIGRATION, self._cancel_migration),
                (C.DISCARD_DESTINATION, self._discard_destination),
                (C.RESTORE_SOURCE, self.restore_source),
                (C.RECLAIM, self._reclaim),
                (C.RESUME_SOURCE, self._resume_source),
            )
        }

    def act(self, world: World, order: int) -> int | None:
        """Do what an issued command says; its outcome, or ``None`` if it goes on waiting."""
        return self._acts[order // 4](world)

    @staticmethod
    def overtakes(world: World, order: int) -> bool:
        """Whether QEMU has an earlier command on the same connection to take first."""
        if order // 4 not in ON_SOURCE:
            return False
        earlier = AT_ONCE[: AT_ONCE.index(order)] if order in AT_ONCE else AT_ONCE
        return any(order in world.orders for order in earlier)

    @staticmethod
    def source_busy(world: World) -> bool:
        """Whether what is asked of the source now comes after a command that it has yet to take."""
        return any(order in world.orders for order in AT_ONCE)

    @staticmethod
    def destination_busy(world: World) -> bool:
        """As `source_busy`."""
        return any(order in world.orders for order in AT_ONCE_ON_DESTINATION)

    # ---- connections

    def reach_source(self, world: World) -> bool:
        """Connect anew where that is needed and possible; a loss that was not told yet then never is."""
        if not world.s_alive or world.s_line in (Line.BLOCKED, Line.NEVER):
            return False
        if world.s_line == Line.DOWN:
            world.s_line = Line.UP
            world.s_told, world.s_seen, world.s_news = UNTOLD, True, ()
        return world.s_line == Line.UP

    def reach_destination(self, world: World) -> bool:
        """As `reach_source`."""
        if world.d_process != Process.ALIVE or world.d_line in (Line.BLOCKED, Line.NEVER):
            return False
        if world.d_line == Line.DOWN:
            world.d_line = Line.UP
            world.d_told, world.d_news = UNTOLD, ()
        return world.d_line == Line.UP

    @staticmethod
    def _source_answers(world: World) -> int:
        """`DONE` if a command on the present connection reaches the source, otherwise what is heard instead."""
        if world.s_line == Line.UP and world.s_alive:
            return DONE
        return UNKNOWN if world.s_line == Line.CLOSED else REFUSED

    @staticmethod
    def _destination_answers(world: World) -> int:
        if world.d_line == Line.UP and world.d_process == Process.ALIVE:
            return DONE
        return UNKNOWN if world.d_line == Line.CLOSED else REFUSED

    # ---- preparing

    def _inspect(self, world: World) -> int:
        if not world.s_alive:
            return REFUSED
        world.s_line, world.s_seen = Line.UP, True
        facts = {Fact.PAUSED_BEFORE} if world.s_run == Run.PAUSED else set[Fact]()
        if self.quirks.copies_disks:
            facts.add(Fact.COPIES_DISKS)
        world.protocol = self.protocol.with_facts(world.protocol, facts)
        return DONE

    def _prepare(self, world: World) -> int:
        world.d_process, world.d_line = Process.ALIVE, Line.UP
        return DONE

    def _arm(self, world: World) -> int:
        if self._source_answers(world) != DONE or self._destination_answers(world) != DONE:
            return REFUSED
        world.armed = True
        world.d_status = Status.SETUP
        return DONE

    def _mirror(self, world: World) -> int:
        answers = self._source_answers(world)
        if answers == DONE:
            if world.d_process != Process.ALIVE:
                return REFUSED
            world.disk = Disk.IN_STEP
        return answers

    # ---- moving

    def _migrate(self, world: World) -> int:
        answers = self._source_answers(world)
        if answers == DONE:
            if world.s_status in MOVING or world.s_status == Status.COMPLETED:
                return REFUSED
            world.s_status = Status.SETUP
        return answers

    def _start_postcopy(self, world: World) -> int:
        answers = self._source_answers(world)
        if answers == DONE:
            if world.s_status == Status.NONE:
                return REFUSED
            world.postcopy_asked = True
        return answers

    def _quiesce(self, world: World) -> int:
        return DONE

    def _drain(self, world: World) -> int:
        answers = self._source_answers(world)
        if answers == DONE:
            if world.disk != Disk.IN_STEP or world.d_process != Process.ALIVE:
                return REFUSED
            world.disk = Disk.DRAINED if world.s_run == Run.FINISH_MIGRATE else Disk.BROKEN
        return answers

    def _continue(self, world: World) -> int:
        answers = self._source_answers(world)
        if answers == DONE and not world.source_continues(self.quirks):
            return REFUSED
        return answers

    def _break(self, world: World) -> int:
        if self.quirks.processes_watched:
            if not world.s_alive:
                return REFUSED  # the destination may have the only copy
            self._kill_destination(world)
            if world.s_line == Line.UP:
                world.link = Link.CUT  # besides: over a dead network the source never hears of the death
            return DONE
        if self._source_answers(world) != DONE:
            return REFUSED
        world.link = Link.CUT
        return DONE

    def _claim(self, world: World) -> int:
        world.lock = Holder.DESTINATION
        return DONE

    def _resume_destination(self, world: World) -> int:
        self.reach_destination(world)
        answers = self._destination_answers(world)
        if answers == DONE and not world.destination_is_told_to_run(self.quirks):
            return REFUSED
        return answers

    # ---- post-copy that lost its link

    def _pause_postcopy(self, world: World) -> int | None:
        """``migrate-pause`` on both sides; done when each that can be reached was seen paused, and heard out."""
        source, destination = self.reach_source(world), self.reach_destination(world)
        if not source and not destination:
            return REFUSED
        sending = source and world.s_status in (Status.POSTCOPY_ACTIVE, Status.POSTCOPY_RECOVER)
        taking = destination and world.d_status == Status.POSTCOPY_ACTIVE
        if (sending or taking) and world.link != Link.CUT:
            world.link = Link.CUT
            return BEGUN
        if sending or taking or (source and world.s_news) or (destination and world.d_news):
            return None
        return DONE

    def _listen_again(self, world: World) -> int:
        self.reach_destination(world)
        answers = self._destination_answers(world)
        if answers == DONE:
            if world.d_status != Status.POSTCOPY_PAUSED:
                return REFUSED
            world.d_listens_again = True
        return answers

    def _send_again(self, world: World) -> int:
        self.reach_source(world)
        answers = self._source_answers(world)
        if answers == DONE:
            if world.s_status != Status.POSTCOPY_PAUSED:
                return REFUSED
            world.link = Link.WHOLE
            world.s_status = Status.POSTCOPY_RECOVER
        return answers

    # ---- letting go, backing out

    def _release_source(self, world: World) -> int:
        if not world.s_alive:
            return DONE if world.s_end_heard else REFUSED
        if not self.reach_source(world):
            return REFUSED
        if world.d_process == Process.ALIVE and world.postcopy_began and not world.whole:
            world.breach = world.breach or Breach.NOT_WHOLE
        if world.s_run == Run.RUNNING or not (world.whole or world.d_has_run):
            world.breach = world.breach or Breach.OWNER_KILLED
        world.source_ends(self.quirks)
        return DONE

    def _cancel_migration(self, world: World) -> int:
        answers = self._source_answers(world)
        if answers == DONE:
            world.source_cancels()
        return answers

    def _discard_destination(self, world: World) -> int:
        if world.d_process == Process.ALIVE:
            if not self.quirks.processes_watched and world.d_line != Line.UP:
                return REFUSED
            both_completed = world.s_status == Status.COMPLETED and world.d_status == Status.COMPLETED
            if self.quirks.processes_watched and not world.s_alive and both_completed:
                return REFUSED  # it has the only copy
            self._kill_destination(world)
        return DONE

    def _kill_destination(self, world: World) -> None:
        if world.d_process == Process.ALIVE:
            # A source that cannot be watched may die in the very moment: that alone is not held against us.
            seen = self.quirks.processes_watched or world.s_alive
            if seen and world.only_copy_on_destination():
                world.breach = world.breach or Breach.OWNER_KILLED
            world.destination_ends(self.quirks)

    def restore_source(self, world: World, *, patient: bool = True) -> int | None:
        """See it run, or stand as it did; ``cont`` if it stands paused, never on one that completed.

        Args:
            world: changed in place.
            patient: wait for a final status and for QEMU to resume the guest by itself; otherwise see what there is.
        """
        if not world.armed:
            return REFUSED if world.s_line == Line.NEVER else DONE
        if world.s_line == Line.CLOSED:
            return None  # its end is told before the answer
        if not self.reach_source(world):
            return REFUSED
        if patient and world.s_status in MOVING:
            return None
        if world.s_run == Run.RUNNING or self.protocol.paused[world.protocol]:
            return DONE
        if world.s_status == Status.COMPLETED:
            return REFUSED
        if world.s_run == Run.FINISH_MIGRATE:
            return None if patient else REFUSED
        world.source_resumes(by_us=True, quirks=self.quirks)
        return DONE

    def _reclaim(self, world: World) -> int:
        """A claim that still waits for its hook is ended first."""
        claim = COMMAND[C.CLAIM] * 4
        world.orders = tuple(sorted(claim + REFUSED if order == claim + ISSUED else order for order in world.orders))
        world.lock = Holder.SOURCE
        return DONE

    def _resume_source(self, world: World) -> int | None:
        if world.s_line == Line.CLOSED:
            return None  # its end is told before the answer
        if not self.reach_source(world):
            return REFUSED
        if self.protocol.paused[world.protocol] or world.s_run == Run.RUNNING:
            return DONE
        if world.s_run == Run.FINISH_MIGRATE:
            return REFUSED
        return DONE if world.source_resumes(by_us=True, quirks=self.quirks) else REFUSED
