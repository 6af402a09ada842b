"""Everything that can happen next in a `World`: QEMU's own moves, the controller's, faults, and people's acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Phase

from .commands import INSPECT_BOTH, ISSUED, ON_DESTINATION, ON_SOURCE, REFUSED, UNKNOWN
from .controller import DESTINATION_LOST, SOURCE_LOST, Controller
from .protocol import COMMAND, COMMANDS
from .qemu import SHUT_DOWN, Move, own_moves
from .scenarios import Act, Fault, Scenario
from .world import NUMBER_OF, SIGNALS, UNTOLD, Disk, Holder, Line, Link, Process, Run, Status, World

C, S = Command, Signal

START: Final = NUMBER_OF[S.START]
CANCEL: Final = NUMBER_OF[S.CANCEL]
GIVEN_UP: Final = NUMBER_OF[S.GIVEN_UP]
POSTCOPY_CHOSEN: Final = NUMBER_OF[S.POSTCOPY_CHOSEN]
DEADLINE: Final = NUMBER_OF[S.DEADLINE]
STALLED: Final = NUMBER_OF[S.STALLED]
DISK_COPY_FAILED: Final = NUMBER_OF[S.DISK_COPY_FAILED]
SOURCE_PAUSED: Final = NUMBER_OF[S.SOURCE_PAUSED]
SOURCE_RUNNING: Final = NUMBER_OF[S.SOURCE_RUNNING]

RESTORE: Final = COMMAND[C.RESTORE_SOURCE] * 4 + ISSUED
RELEASE: Final = COMMAND[C.RELEASE_SOURCE]
LOCKING: Final = frozenset({COMMAND[C.CLAIM], COMMAND[C.RECLAIM]})
MAY_BE_REFUSED: Final = frozenset(
    COMMAND[command]
    for command in Command
    if command not in (C.INSPECT_BOTH, C.MIRROR, C.RESTORE_SOURCE, C.CANCEL_MIGRATION)
)
SENDING: Final = frozenset({Phase.PRECOPY, Phase.POSTCOPY})
MOST_OUT: Final = 10
MOST_NEWS: Final = 12
STEERED: Final = frozenset({Phase.PRECOPY})


class Moves:
    """The moves of one scenario under one protocol."""

    def __init__(self, scenario: Scenario, controller: Controller) -> None:
        self.scenario = scenario
        self.quirks = scenario.quirks
        self.controller = controller
        self.protocol = controller.protocol
        self._faults: tuple[tuple[Fault, Callable[[World, list[Move]], None]], ...] = tuple(
            (fault, move)
            for fault, move in (
                (Fault.KILL_SOURCE, self._kill_source),
                (Fault.KILL_DESTINATION, self._kill_destination),
                (Fault.DROP_SOURCE, self._drop_source),
                (Fault.DROP_DESTINATION, self._drop_destination),
                (Fault.BLOCK_SOURCE, self._block_source),
                (Fault.BLOCK_DESTINATION, self._block_destination),
                (Fault.CRASH, self._crash),
                (Fault.CUT, self._cut),
                (Fault.HANG, self._hang),
                (Fault.EARLY, self._early),
                (Fault.REFUSE, self._refuse),
                (Fault.LOCK, self._lock_fails),
                (Fault.MIRROR, self._mirror_fails),
            )
            if fault in scenario.faults
        )

    def start(self) -> World:
        """The world in which the migration has just been asked for."""
        world = World(wishes=self.scenario.wishes, acts=self.scenario.acts, choices=int(self.scenario.postcopy))
        if self.scenario.paused:
            world.s_run, world.s_ran = Run.PAUSED, False
        self.controller.take(world, START)
        return world

    def of(self, world: World, bound: int) -> list[Move]:
        """Every move, with what the world is after it."""
        moves = own_moves(world, self.quirks)
        if self.protocol.ended[world.protocol]:
            for order in world.orders:
                after = self._then(moves, f"left over, carried out: {self.name(order)}", world)
                after.orders = tuple(out for out in after.orders if out != order)
                self._do_silently(after, order)
            return moves
        if world.manned:
            self._news(world, moves)
            self._commands(world, moves)
            if not moves:
                self._idle(world, moves)
            if world.wishes:
                self._wish(world, moves)
            if world.choices and self.protocol.phases[world.protocol] in STEERED:
                after = self._then(moves, "the policy chooses post-copy", world)
                after.choices -= 1
                self.controller.take(after, POSTCOPY_CHOSEN)
        else:
            self.controller.adopt(self._then(moves, "a new manager takes over", world))
        if world.acts:
            self._act(world, moves)
        if world.faults < bound:
            faulty: list[Move] = []
            for _, move in self._faults:
                move(world, faulty)
            for _, after in faulty:
                after.faults += 1
            moves += faulty
        return moves

    # ---- helpers

    @staticmethod
    def _then(moves: list[Move], label: str, world: World) -> World:
        after = world.copy()
        moves.append((label, after))
        return after

    @staticmethod
    def name(order: int) -> str:
        """The command of an order."""
        return COMMANDS[order // 4].value

    def _do_silently(self, world: World, order: int) -> None:
        """A command is carried out, and nobody hears its answer."""
        self.controller.commands.act(world, order)

    # ---- the controller's moves

    def _news(self, world: World, moves: list[Move]) -> None:
        controller = self.controller
        if world.s_news:
            controller.hear_source(self._then(moves, f"heard: {SIGNALS[world.s_news[0]].value}", world))
        if world.d_news:
            controller.hear_destination(self._then(moves, f"heard: {SIGNALS[world.d_news[0]].value}", world))
        source, destination = controller.poll_due(world)
        if source:
            after = self._then(moves, f"polled: the source is {Status(world.s_status).name.lower()}", world)
            controller.poll_source(after)
        if destination:
            after = self._then(moves, f"polled: the destination is {Status(world.d_status).name.lower()}", world)
            controller.poll_destination(after)

    def _commands(self, world: World, moves: list[Move]) -> None:
        controller = self.controller
        last = -1
        for order in world.orders:
            if order == last:
                continue
            last = order
            if order % 4 != ISSUED:
                outcome = ("", "done", "refused", "unknown")[order % 4]
                controller.answer(self._then(moves, f"answer: {self.name(order)} {outcome}", world), order)
            elif order // 4 == INSPECT_BOTH:
                self._looks(world, moves)
            else:
                after = world.copy()
                if controller.carry_out(after, order) is not None:
                    moves.append((f"carried out: {self.name(order)}", after))

    def _looks(self, world: World, moves: list[Move]) -> None:
        """Each side is asked once what it said before is heard; a loss may be told while it is connected anew.

        Who waited for an answer on the old connection has been told by then that none will come.
        """
        lost = {order // 4 for order in world.orders if order % 4 == UNKNOWN}
        if (
            world.s_look == UNTOLD
            and not lost & ON_SOURCE
            and not self.controller.commands.source_busy(world)
            and (not world.s_news or (world.s_news == (SOURCE_LOST,) and world.s_line != Line.UP))
        ):
            self.controller.look_at_source(self._then(moves, "asked: the source", world))
        if (
            world.d_look == UNTOLD
            and not lost & ON_DESTINATION
            and not self.controller.commands.destination_busy(world)
            and (not world.d_news or (world.d_news == (DESTINATION_LOST,) and world.d_line != Line.UP))
        ):
            self.controller.look_at_destination(self._then(moves, "asked: the destination", world))

    def _idle(self, world: World, moves: list[Move]) -> None:
        """Nothing else can happen: a wait ends.

        In pre-copy a stream that hangs does so for ever: the protocol has to end it. Where post-copy was asked
        for nobody can but the network, and there it outlasts one wait, and not two.
        """
        if world.link == Link.HUNG and world.outwaited and world.postcopy_asked:
            after = self._then(moves, "nothing else can happen: the stream goes on", world)
            after.link, after.outwaited = Link.WHOLE, False
            return
        self._time(world, moves, "nothing else can happen: ")
        if world.link == Link.HUNG:
            for _, after in moves:
                after.outwaited = True

    def _time(self, world: World, moves: list[Move], why: str) -> None:
        """Time passes until a wait is over."""
        if RESTORE in world.orders and world.s_line != Line.CLOSED:
            after = self._then(moves, f"{why}restore-source has waited long enough", world)
            self.controller.lose_patience(after, RESTORE)
            return
        if self.protocol.waiting[world.protocol]:
            self.controller.take(self._then(moves, f"{why}the deadline fires", world), DEADLINE)
        elif self.protocol.phases[world.protocol] in SENDING:
            self.controller.take(self._then(moves, f"{why}stalled", world), STALLED)

    @staticmethod
    def grows(world: World) -> bool:
        """Whether more piles up than can in any finite course."""
        return len(world.orders) > MOST_OUT or len(world.s_news) > MOST_NEWS or len(world.d_news) > MOST_NEWS

    # ---- people

    def _wish(self, world: World, moves: list[Move]) -> None:
        phase = self.protocol.phases[world.protocol]
        after = self._then(moves, "the user calls it off", world)
        after.wishes -= 1
        self.controller.take(after, CANCEL)
        if phase in STEERED:
            after = self._then(moves, "the policy gives up", world)
            after.wishes -= 1
            self.controller.take(after, GIVEN_UP)

    def _act(self, world: World, moves: list[Move]) -> None:
        if world.s_alive:
            acted: list[Move] = []
            self._acts(world, acted)
            for _, after in acted:
                after.acts -= 1
                after.acted = True
            moves += acted

    def _acts(self, world: World, moves: list[Move]) -> None:
        acts = self.scenario.may
        if Act.STOP in acts and world.s_run == Run.RUNNING:
            after = self._then(moves, "its owner stops the guest", world)
            after.s_run = Run.PAUSED
            after.source_says(SOURCE_PAUSED)
        if Act.CONT in acts and world.s_run == Run.PAUSED:
            after = self._then(moves, "its owner resumes the guest", world)
            after.source_resumes(by_us=False, quirks=self.quirks)
        if Act.CONTINUE in acts and world.s_status == Status.PRE_SWITCHOVER:
            after = self._then(moves, "somebody else sends migrate-continue", world)
            after.source_continues(self.quirks)
        if Act.SHUT_DOWN in acts and world.s_run == Run.RUNNING:
            after = self._then(moves, "the guest powers itself off", world)
            after.shut_down = True
            after.source_says(SHUT_DOWN)
            after.source_ends(self.quirks)

    # ---- faults

    def _kill_source(self, world: World, moves: list[Move]) -> None:
        if world.s_alive:
            self._then(moves, "FAULT: the source process is killed", world).source_ends(self.quirks)

    def _kill_destination(self, world: World, moves: list[Move]) -> None:
        if world.d_process == Process.ALIVE:
            self._then(moves, "FAULT: the destination process is killed", world).destination_ends(self.quirks)

    def _drop_source(self, world: World, moves: list[Move], line: Line = Line.DOWN, how: str = "") -> None:
        if world.s_line not in (Line.UP, Line.CLOSED):
            return
        for done in self._ways(world, ON_SOURCE):
            after = self._then(moves, f"FAULT: the source's connection goes{how}{self._which(done)}", world)
            self._cut_off(after, ON_SOURCE, done)
            after.s_line, after.s_news = line, (SOURCE_LOST,)
            after.excused |= line == Line.BLOCKED

    def _drop_destination(self, world: World, moves: list[Move], line: Line = Line.DOWN, how: str = "") -> None:
        if world.d_line not in (Line.UP, Line.CLOSED):
            return
        for done in self._ways(world, ON_DESTINATION):
            after = self._then(moves, f"FAULT: the destination's connection goes{how}{self._which(done)}", world)
            self._cut_off(after, ON_DESTINATION, done)
            after.d_line, after.d_news = line, (DESTINATION_LOST,)
            after.excused |= line == Line.BLOCKED

    def _block_source(self, world: World, moves: list[Move]) -> None:
        self._drop_source(world, moves, Line.BLOCKED, " for good")

    def _block_destination(self, world: World, moves: list[Move]) -> None:
        self._drop_destination(world, moves, Line.BLOCKED, " for good")

    def _ways(self, world: World, commands: frozenset[int]) -> list[tuple[int, ...]]:
        """Which of the commands in flight QEMU still carries out: none, each alone, all."""
        flying = tuple(order for order in world.orders if order % 4 == ISSUED and order // 4 in commands)
        ways: list[tuple[int, ...]] = [()]
        if flying:
            ways.append(flying)
        if len(flying) > 1:
            ways += [(order,) for order in flying if not self.controller.commands.overtakes(world, order)]
        return ways

    def _which(self, done: tuple[int, ...]) -> str:
        return f"; carried out all the same: {', '.join(self.name(order) for order in done)}" if done else ""

    def _cut_off(self, world: World, commands: frozenset[int], done: tuple[int, ...]) -> None:
        """What was in flight has an unknown outcome, for us."""
        for order in done:
            self._do_silently(world, order)
        if any(order // 4 in commands for order in world.orders):
            world.excused |= world.shaken
            world.shaken = True
        world.orders = tuple(
            sorted(order // 4 * 4 + UNKNOWN if order // 4 in commands else order for order in world.orders)
        )

    def _crash(self, world: World, moves: list[Move]) -> None:
        """The manager dies; its log has every command that it was about to send."""
        if not world.manned:
            return
        for done in self._ways(world, frozenset(range(len(COMMANDS))) - {INSPECT_BOTH}):
            after = self._then(moves, f"FAULT: the manager dies{self._which(done)}", world)
            for order in done:
                self._do_silently(after, order)
            if after.orders:
                after.excused |= after.shaken
                after.shaken = True
            after.manned = False
            after.orders, after.s_news, after.d_news = (), (), ()
            after.s_look = after.d_look = UNTOLD
            after.s_seen = after.s_end_heard = False
            after.s_told = after.d_told = UNTOLD
            if after.s_line in (Line.UP, Line.CLOSED):
                after.s_line = Line.DOWN
            if after.d_line in (Line.UP, Line.CLOSED):
                after.d_line = Line.DOWN

    def _cut(self, world: World, moves: list[Move]) -> None:
        if world.link != Link.CUT and world.s_status != Status.NONE:
            self._then(moves, "FAULT: the migration stream is cut", world).link = Link.CUT

    def _hang(self, world: World, moves: list[Move]) -> None:
        if world.link == Link.WHOLE and world.s_status != Status.NONE:
            self._then(moves, "FAULT: the migration stream hangs", world).link = Link.HUNG

    def _early(self, world: World, moves: list[Move]) -> None:
        if not world.manned:
            return
        slow: list[Move] = []
        self._time(world, slow, "FAULT (slowness): ")
        for _, after in slow:
            too_soon = self.protocol.ended[after.protocol] or RESTORE in world.orders
            after.excused |= too_soon or not world.s_alive or world.d_process == Process.DEAD
        moves += slow

    def _refuse(self, world: World, moves: list[Move]) -> None:
        if not world.manned:
            return
        for order in world.orders:
            if order % 4 == ISSUED and order // 4 in MAY_BE_REFUSED:
                after = self._then(moves, f"FAULT: {self.name(order)} is refused", world)
                after.excused = True
                self.controller.settle(after, order, REFUSED)

    def _lock_fails(self, world: World, moves: list[Move]) -> None:
        """The lock's provider does not answer: it moved, or it did not."""
        if not world.manned:
            return
        for order in world.orders:
            if order % 4 == ISSUED and order // 4 in LOCKING:
                for moved in (False, True):
                    label = f"FAULT: the lock's provider does not answer {self.name(order)} ({moved=})"
                    after = self._then(moves, label, world)
                    if moved:
                        after.lock = Holder.DESTINATION if COMMANDS[order // 4] is C.CLAIM else Holder.SOURCE
                    after.excused = True
                    self.controller.settle(after, order, UNKNOWN)

    def _mirror_fails(self, world: World, moves: list[Move]) -> None:
        mirroring = COMMAND[C.MIRROR] * 4 + ISSUED
        if mirroring in world.orders and world.manned:
            after = self._then(moves, "FAULT: the mirror fails before it is in step", world)
            self.controller.settle(after, mirroring, REFUSED)
        if world.disk == Disk.IN_STEP:
            after = self._then(moves, "FAULT: the mirror fails", world)
            after.disk = Disk.BROKEN
            after.source_says(DISK_COPY_FAILED)
