"""The driver's contract: how news and answers reach the protocol, and what is known after a loss."""

from __future__ import annotations

import pytest

from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Phase
from whimbrel.sim.explorer.commands import DONE, INSPECT_BOTH, ISSUED
from whimbrel.sim.explorer.controller import Controller
from whimbrel.sim.explorer.protocol import COMMAND, DESTINATION_CLASSES, SOURCE_CLASSES, Protocol
from whimbrel.sim.explorer.world import (
    NUMBER_OF,
    SOURCE_SAYS,
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


def controller(**quirks: bool) -> Controller:
    """A controller with the real protocol."""
    return Controller(Protocol(), Quirks(**quirks))


def issued(command: Command) -> int:
    """The command on its way."""
    return COMMAND[command] * 4 + ISSUED


def started(hands: Controller, *signals: Signal) -> World:
    """A world in which the protocol has taken these after START."""
    world = World(s_line=Line.UP, d_line=Line.UP, s_seen=True, d_process=Process.ALIVE, armed=True)
    for signal in (S.START, *signals):
        world.orders = ()
        hands.take(world, NUMBER_OF[signal])
    return world


TO_PRECOPY = (S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE)
TO_HANDOVER = (*TO_PRECOPY, S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE)


def phase(hands: Controller, world: World) -> Phase:
    """Where it stands."""
    return hands.protocol.phases[world.protocol]


def test_a_signal_brings_the_protocols_command() -> None:
    hands = controller()
    assert started(hands).orders == (issued(C.INSPECT),)
    assert started(hands, *TO_PRECOPY).orders == (issued(C.MIGRATE),)


def test_an_inspection_of_the_source_teaches_how_the_guest_stood() -> None:
    hands = controller(copies_disks=True)
    world = World(s_run=Run.PAUSED)
    hands.take(world, NUMBER_OF[S.START])
    hands.carry_out(world, issued(C.INSPECT))
    assert {Fact.PAUSED_BEFORE, Fact.COPIES_DISKS} <= hands.protocol.states[world.protocol].facts


def test_answers_may_be_late_and_come_in_whatever_phase_it_is_in_by_then() -> None:
    hands = controller()
    world = started(hands, *TO_PRECOPY)
    hands.carry_out(world, issued(C.MIGRATE))
    assert world.orders == (COMMAND[C.MIGRATE] * 4 + DONE,)
    hands.take(world, NUMBER_OF[S.CANCEL])
    hands.answer(world, COMMAND[C.MIGRATE] * 4 + DONE)
    assert phase(hands, world) is Phase.CANCELLING
    assert world.orders == (issued(C.CANCEL_MIGRATION),)


def test_discarding_abandons_preparatory_work() -> None:
    hands = controller()
    world = started(hands, S.INSPECT_DONE)
    hands.take(world, NUMBER_OF[S.CANCEL])
    assert world.orders == (issued(C.DISCARD_DESTINATION),)


def test_news_is_heard_in_order_and_a_status_is_told_once() -> None:
    hands = controller()
    world = started(hands, *TO_PRECOPY)
    world.source_becomes(Status.ACTIVE)
    world.source_becomes(Status.PRE_SWITCHOVER)
    assert hands.hear_source(world) == SOURCE_SAYS[Status.ACTIVE]
    assert hands.poll_due(world) == (False, False)
    assert hands.hear_source(world) == SOURCE_SAYS[Status.PRE_SWITCHOVER]
    assert phase(hands, world) is Phase.SWITCHOVER
    assert hands.poll_due(world) == (False, False)


def test_a_status_that_was_missed_is_polled() -> None:
    hands = controller()
    world = started(hands, *TO_PRECOPY)
    world.s_status = Status.PRE_SWITCHOVER
    assert hands.poll_due(world) == (True, False)
    hands.poll_source(world)
    assert phase(hands, world) is Phase.SWITCHOVER


def test_the_destination_is_polled_in_the_handover() -> None:
    hands = controller()
    world = started(hands, *TO_HANDOVER)
    world.d_status = Status.COMPLETED
    assert hands.poll_due(world)[1]
    hands.poll_destination(world)
    assert Fact.DESTINATION_COMPLETED in hands.protocol.states[world.protocol].facts
    assert not hands.poll_due(world)[1]


def test_a_cont_that_was_taken_brings_the_news_that_it_runs() -> None:
    hands = controller()
    world = started(hands, *TO_HANDOVER, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.CLAIM_DONE)
    world.d_run, world.d_status, world.whole = Run.PAUSED, Status.COMPLETED, True
    hands.carry_out(world, issued(C.RESUME_DESTINATION))
    hands.answer(world, COMMAND[C.RESUME_DESTINATION] * 4 + DONE)
    assert phase(hands, world) is Phase.RELEASING


@pytest.mark.parametrize(
    ("fields", "watched", "found"),
    [
        ({"s_status": Status.ACTIVE}, True, SourceClass.MOVING),
        ({"s_alive": False, "s_line": Line.DOWN, "s_end_heard": True}, True, SourceClass.ENDED),
        ({"s_alive": False, "s_line": Line.DOWN}, True, SourceClass.GONE),
        ({"s_alive": False, "s_line": Line.DOWN}, False, SourceClass.UNREACHABLE),
        ({"s_line": Line.BLOCKED}, True, SourceClass.UNREACHABLE),
    ],
)
def test_what_the_source_is_found_to_be(fields: dict[str, int | bool], watched: bool, found: SourceClass) -> None:
    hands = controller(processes_watched=watched)
    world = started(hands, *TO_PRECOPY, S.SOURCE_LOST)
    for name, value in fields.items():
        setattr(world, name, value)
    hands.look_at_source(world)
    assert SOURCE_CLASSES[world.s_look] is found


@pytest.mark.parametrize(
    ("fields", "watched", "found"),
    [
        ({"d_status": Status.ACTIVE}, True, DestinationClass.LOADING),
        ({"d_status": Status.COMPLETED, "d_run": Run.PAUSED}, True, DestinationClass.READY),
        ({"d_process": Process.DEAD, "d_line": Line.DOWN}, True, DestinationClass.ENDED),
        ({"d_process": Process.DEAD, "d_line": Line.DOWN}, False, DestinationClass.UNREACHABLE),
        ({"d_line": Line.BLOCKED}, True, DestinationClass.UNREACHABLE),
    ],
)
def test_what_the_destination_is_found_to_be(fields: dict[str, int], watched: bool, found: DestinationClass) -> None:
    hands = controller(processes_watched=watched)
    world = started(hands, *TO_PRECOPY, S.SOURCE_LOST)
    for name, value in fields.items():
        setattr(world, name, value)
    hands.look_at_destination(world)
    assert DESTINATION_CLASSES[world.d_look] is found


def test_both_looks_together_are_judged_and_what_was_passed_over_is_news_again() -> None:
    hands = controller()
    world = started(hands, *TO_PRECOPY, S.SOURCE_LOST)
    world.s_line = Line.DOWN
    world.s_status = world.d_status = Status.ACTIVE
    assert INSPECT_BOTH * 4 + ISSUED in world.orders
    hands.look_at_source(world)
    assert world.s_line == Line.UP
    hands.look_at_destination(world)
    assert phase(hands, world) is Phase.PRECOPY
    assert (world.s_told, world.d_told, world.orders) == (UNTOLD, UNTOLD, ())


def test_a_new_manager_connects_anew_and_has_heard_nothing() -> None:
    hands = controller()
    world = started(hands, *TO_HANDOVER)
    world.manned, world.orders, world.s_line, world.d_line = False, (), Line.DOWN, Line.BLOCKED
    hands.adopt(world)
    assert (world.s_line, world.d_line, world.s_seen, world.s_told) == (Line.UP, Line.BLOCKED, False, UNTOLD)
    assert world.manned
    assert list(world.orders) == [issued(C.INSPECT_BOTH)]


def test_a_source_that_ended_before_a_status_was_seen_on_its_connection_is_lost_not_ended() -> None:
    hands = controller()
    world = started(hands, *TO_HANDOVER)
    world.s_line = Line.DOWN
    world.manned = False
    hands.adopt(world)
    world.source_ends(hands.quirks)
    assert world.s_news == (NUMBER_OF[S.SOURCE_LOST],)
    hands.hear_source(world)
    hands.look_at_source(world)
    assert SOURCE_CLASSES[world.s_look] is SourceClass.GONE


def test_an_end_that_was_heard_is_an_end() -> None:
    hands = controller()
    world = started(hands, *TO_HANDOVER)
    world.source_ends(hands.quirks)
    world.destination_ends(hands.quirks)
    hands.hear_source(world)
    hands.hear_destination(world)
    assert world.s_end_heard
    assert (world.s_line, world.d_line) == (Line.DOWN, Line.DOWN)


def test_at_an_end_the_manager_leaves_what_was_sent() -> None:
    """What is on the wire may still be taken; what waited in the manager is not."""
    hands = controller()
    world = started(hands, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE, S.SOURCE_ENDED)
    world.orders = (issued(C.MIGRATE), issued(C.DISCARD_DESTINATION))
    hands.take(world, NUMBER_OF[S.DISCARD_DESTINATION_DONE])
    assert phase(hands, world).is_end
    assert list(world.orders) == [issued(C.MIGRATE)]
    assert (world.s_line, world.d_line) == (Line.DOWN, Line.DOWN)


def test_a_cancel_ordered_after_continue_is_a_breach() -> None:
    hands = controller()
    world = started(hands, *TO_PRECOPY)
    world.continued = True
    hands.take(world, NUMBER_OF[S.CANCEL])
    assert world.breach == Breach.CANCEL_AFTER_CONTINUE


def test_restoring_waits_no_longer_than_it_must() -> None:
    hands = controller()
    world = started(hands, *TO_PRECOPY)
    world.s_status = Status.CANCELLING
    world.orders = (issued(C.RESTORE_SOURCE),)
    assert hands.carry_out(world, issued(C.RESTORE_SOURCE)) is None
    hands.lose_patience(world, issued(C.RESTORE_SOURCE))
    assert world.orders == (COMMAND[C.RESTORE_SOURCE] * 4 + DONE,)
