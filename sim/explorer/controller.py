"""The controller: the driver's contract, with the real protocol inside, against the `World`.

What is taken for granted of a driver, and so proven only for one that keeps to it:

- The events of one side come in order. Polling tells a status that is news, and nothing else.
- ``SOURCE_ENDED`` comes only if the process ended and all that it said was read to the end, and a status was
  seen on that connection; an end that was not heard out is ``SOURCE_LOST``, and the class ``GONE``.
- A loss is not told any more once the side is connected anew.
- A command whose connection is gone before it was sent is refused; one that was in flight is unknown.
- The answer to a command may be late: it comes in whatever phase the migration is in by then.
- ``RESTORE_SOURCE`` never sends ``cont`` to a source whose status is ``completed``.
- A new manager begins with exactly the protocol's state that the old one had; what was in flight is not known.
"""

from __future__ import annotations

from typing import Final

from whimbrel.engine.resolve import DestinationClass, SourceClass, classify_destination, classify_source
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Phase

from .commands import BEGUN, DONE, INSPECT_BOTH, ISSUED, ON_DESTINATION, ON_SOURCE, REFUSED, UNKNOWN, Commands
from .protocol import COMMAND, COMMANDS, DESTINATION_CLASSES, NO_COMMAND, SOURCE_CLASSES, Protocol
from .world import (
    DESTINATION_SAYS,
    DESTINATION_STATUS,
    NUMBER_OF,
    SOURCE_SAYS,
    SOURCE_STATUS,
    UNTOLD,
    Breach,
    Line,
    Process,
    Quirks,
    Run,
    Status,
    World,
)

C, S = Command, Signal

OUTCOMES: Final = {DONE: Outcome.DONE, REFUSED: Outcome.REFUSED, UNKNOWN: Outcome.UNKNOWN}

ANSWER: Final = {
    number * 4 + outcome: NUMBER_OF[answer(command, OUTCOMES[outcome])]
    for number, command in enumerate(COMMANDS)
    if command is not C.INSPECT_BOTH
    for outcome in OUTCOMES
}
ABANDONED: Final = frozenset(COMMAND[command] for command in (C.INSPECT, C.PREPARE, C.ARM, C.QUIESCE))
"""Discarding the destination cuts these short: nobody waits for their answers."""
ANSWERED_AT_ONCE: Final = frozenset(
    COMMAND[command] for command in (C.INSPECT, C.PREPARE, C.ARM, C.QUIESCE, C.CLAIM, C.RECLAIM)
)
"""Between the doing and the answer of these nothing can happen that matters."""
NEWS_AGAIN: Final = frozenset({Phase.PRECOPY, Phase.HANDOVER, Phase.POSTCOPY})
"""What was said while both sides were asked is told again after that."""

STATUS_WORD: Final = {status: status.name.lower().replace("_", "-") for status in Status} | {Status.NONE: ""}
RUN_WORD: Final = {run: run.name.lower().replace("_", "-") for run in Run}
SOURCE_CLASS: Final = {
    (status, run): SOURCE_CLASSES.index(classify_source(STATUS_WORD[status], RUN_WORD[run]))
    for status in Status
    for run in Run
}
DESTINATION_CLASS: Final = {
    (status, run): DESTINATION_CLASSES.index(classify_destination(STATUS_WORD[status], RUN_WORD[run]))
    for status in Status
    for run in Run
}
S_ENDED, S_GONE, S_UNREACHABLE = (
    SOURCE_CLASSES.index(c) for c in (SourceClass.ENDED, SourceClass.GONE, SourceClass.UNREACHABLE)
)
D_ENDED, D_UNREACHABLE = (DESTINATION_CLASSES.index(c) for c in (DestinationClass.ENDED, DestinationClass.UNREACHABLE))
SOURCE_ENDED = NUMBER_OF[S.SOURCE_ENDED]
SOURCE_LOST = NUMBER_OF[S.SOURCE_LOST]
DESTINATION_LOST = NUMBER_OF[S.DESTINATION_LOST]
DESTINATION_RUNNING = NUMBER_OF[S.DESTINATION_RUNNING]
CONT_DONE = COMMAND[C.RESUME_DESTINATION] * 4 + DONE
ADOPTED = NUMBER_OF[S.ADOPTED]


class Controller:
    """Delivers news and answers to the protocol, and carries out its commands on a world that is changed in place."""

    def __init__(self, protocol: Protocol, quirks: Quirks) -> None:
        self.protocol = protocol
        self.quirks = quirks
        self.commands = Commands(protocol, quirks)

    # ---- what comes in

    def take(self, world: World, signal: int) -> None:
        """One signal to the protocol, and the command that follows from it."""
        before = self.protocol.phases[world.protocol]
        world.protocol, command = self.protocol.step(world.protocol, signal)
        self._follow(world, before, command)

    def _follow(self, world: World, before: Phase, command: int) -> None:
        after = self.protocol.phases[world.protocol]
        if before is Phase.RESOLVING and after in NEWS_AGAIN:
            world.s_told = world.d_told = UNTOLD
        if command != NO_COMMAND:
            self._order(world, command)
        if self.protocol.ended[world.protocol]:
            self._finish(world)

    def _order(self, world: World, command: int) -> None:
        what = COMMANDS[command]
        orders = world.orders
        if what is C.DISCARD_DESTINATION:
            orders = tuple(order for order in orders if order // 4 not in ABANDONED)
        elif what is C.CONTINUE:
            world.continued = True
        elif what is C.RESUME_DESTINATION:
            world.told_to_run = True
        elif what is C.CANCEL_MIGRATION and world.continued:
            world.breach = world.breach or Breach.CANCEL_AFTER_CONTINUE
        elif what is C.INSPECT_BOTH:
            world.s_look = world.d_look = UNTOLD
        world.orders = tuple(sorted((*orders, command * 4 + ISSUED)))

    def _finish(self, world: World) -> None:
        """The manager leaves. What it had sent already, QEMU may still carry out."""
        world.orders = tuple(order for order in world.orders if order % 4 == ISSUED and self._on_line(world, order))
        world.s_news = world.d_news = ()
        world.s_end_heard |= world.s_line == Line.CLOSED
        world.s_line = Line.BLOCKED if world.s_line == Line.BLOCKED else Line.DOWN
        world.d_line = Line.BLOCKED if world.d_line == Line.BLOCKED else Line.DOWN
        world.s_told = world.d_told = Status.NONE
        world.s_look = world.d_look = UNTOLD
        world.wishes = world.choices = world.acts = 0

    def _on_line(self, world: World, order: int) -> bool:
        """Whether a command may be on its way: its connection stands."""
        command = order // 4
        return (command in ON_SOURCE and world.s_line == Line.UP) or (
            command in ON_DESTINATION and world.d_line == Line.UP
        )

    def hear_source(self, world: World) -> int:
        """The oldest piece of news from the source; which it was."""
        said, world.s_news = world.s_news[0], world.s_news[1:]
        status = SOURCE_STATUS.get(said)
        if status is not None:
            world.s_told, world.s_seen = status, True
        if said == SOURCE_ENDED:
            world.s_line, world.s_end_heard = Line.DOWN, True
        self.take(world, said)
        return said

    def hear_destination(self, world: World) -> int:
        """As `hear_source`."""
        said, world.d_news = world.d_news[0], world.d_news[1:]
        status = DESTINATION_STATUS.get(said)
        if status is not None:
            world.d_told = status
        if world.d_line == Line.CLOSED and not world.d_news:
            world.d_line = Line.DOWN
        self.take(world, said)
        return said

    def poll_due(self, world: World) -> tuple[bool, bool]:
        """Whether asking the source, the destination, would tell anything that was not told."""
        source = (
            self.protocol.source_polled[world.protocol]
            and world.s_line == Line.UP
            and world.s_alive
            and not world.s_news
            and (not world.s_seen or (world.s_told != world.s_status and world.s_status in SOURCE_SAYS))
        )
        destination = (
            self.protocol.destination_polled[world.protocol]
            and world.d_line == Line.UP
            and world.d_process == Process.ALIVE
            and not world.d_news
            and world.d_told != world.d_status
            and world.d_status in DESTINATION_SAYS
        )
        return source, destination

    def poll_source(self, world: World) -> None:
        """``query-migrate`` on the source."""
        news = world.s_told != world.s_status
        world.s_told, world.s_seen = world.s_status, True
        if news and world.s_status in SOURCE_SAYS:
            self.take(world, SOURCE_SAYS[Status(world.s_status)])

    def poll_destination(self, world: World) -> None:
        """``query-migrate`` on the destination."""
        news = world.d_told != world.d_status
        world.d_told = world.d_status
        if news and world.d_status in DESTINATION_SAYS:
            self.take(world, DESTINATION_SAYS[Status(world.d_status)])

    # ---- commands and answers

    def carry_out(self, world: World, order: int) -> int | None:
        """Do what an issued command says; its outcome, or ``None`` if it goes on waiting."""
        if self.commands.overtakes(world, order):
            return None
        outcome = self.commands.act(world, order)
        if outcome is not None and outcome != BEGUN:
            self.settle(world, order, outcome)
        return outcome

    def settle(self, world: World, order: int, outcome: int) -> None:
        """The command came to an end; its answer is on the way, or there already."""
        done = order // 4 * 4 + outcome
        orders = list(world.orders)
        orders.remove(order)
        if order // 4 in ANSWERED_AT_ONCE:
            world.orders = tuple(orders)
            self.take(world, ANSWER[done])
        else:
            world.orders = tuple(sorted((*orders, done)))

    def answer(self, world: World, order: int) -> None:
        """The answer arrives."""
        orders = list(world.orders)
        orders.remove(order)
        world.orders = tuple(orders)
        if order == CONT_DONE and world.d_runs and world.d_line == Line.UP:
            self.take(world, DESTINATION_RUNNING)  # it asks query-status before it says that it is done
        if not self.protocol.ended[world.protocol]:
            self.take(world, ANSWER[order])

    def look_at_source(self, world: World) -> None:
        """One half of ``INSPECT_BOTH``."""
        if world.s_alive and world.s_line != Line.BLOCKED:
            self.commands.reach_source(world)
            world.s_look = SOURCE_CLASS[Status(world.s_status), Run(world.s_run)]
            self.poll_source(world)
        elif not world.s_alive and world.s_end_heard:
            world.s_look = S_ENDED
        elif not world.s_alive and self.quirks.processes_watched:
            world.s_look = S_GONE
        else:
            world.s_look = S_UNREACHABLE
        self._judge(world)

    def look_at_destination(self, world: World) -> None:
        """The other half."""
        if world.d_process == Process.ALIVE and world.d_line != Line.BLOCKED:
            self.commands.reach_destination(world)
            world.d_look = DESTINATION_CLASS[Status(world.d_status), Run(world.d_run)]
            self.poll_destination(world)
        elif world.d_process == Process.DEAD and self.quirks.processes_watched:
            world.d_look = D_ENDED
        else:
            world.d_look = D_UNREACHABLE
        self._judge(world)

    def _judge(self, world: World) -> None:
        order = INSPECT_BOTH * 4 + ISSUED
        if world.s_look == UNTOLD or world.d_look == UNTOLD or order not in world.orders:
            return
        world.orders = tuple(out for out in world.orders if out != order)
        before = self.protocol.phases[world.protocol]
        world.protocol, command, _ = self.protocol.inspected(world.protocol, world.s_look, world.d_look)
        world.s_look = world.d_look = UNTOLD
        self._follow(world, before, command)

    def adopt(self, world: World) -> None:
        """A new manager: connects anew, takes the state over."""
        world.manned = True
        if world.s_line != Line.NEVER:
            if world.s_line != Line.BLOCKED:
                world.s_line = Line.UP if world.s_alive else Line.DOWN
            world.s_told, world.s_seen, world.s_end_heard = UNTOLD, False, False
        if world.d_line not in (Line.NEVER, Line.BLOCKED):
            world.d_line = Line.UP if world.d_process == Process.ALIVE else Line.DOWN
        world.d_told = UNTOLD
        self.take(world, ADOPTED)

    def lose_patience(self, world: World, order: int) -> None:
        """``RESTORE_SOURCE`` has waited long enough for a final status."""
        outcome = self.commands.restore_source(world, patient=False)
        assert outcome is not None
        self.settle(world, order, outcome)
