"""What can happen next: the controller's moves, time, people, and each kind of fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.engine.signals import Command
from whimbrel.engine.states import Phase
from whimbrel.sim.explorer.commands import ISSUED, UNKNOWN
from whimbrel.sim.explorer.controller import Controller
from whimbrel.sim.explorer.moves import MOST_NEWS, Moves
from whimbrel.sim.explorer.protocol import COMMAND, Protocol
from whimbrel.sim.explorer.scenarios import BY_NAME, Act, Fault
from whimbrel.sim.explorer.world import Disk, Holder, Line, Link, Process, Run, Status, World

C = Command


def moves(name: str = "plain", **others: object) -> Moves:
    """The moves of a scenario, or of one like it."""
    scenario = replace(BY_NAME[name], **others)  # type: ignore[arg-type]
    return Moves(scenario, Controller(Protocol(), scenario.quirks))


def walk(of: Moves, *words: str, world: World | None = None, bound: int = 2) -> World:
    """The world after the moves whose names begin with these words."""
    world = world or of.start()
    for word in words:
        found = [after for label, after in of.of(world, bound) if label.startswith(word)]
        assert found, f"{word!r} cannot happen; only {[label for label, _ in of.of(world, bound)]}"
        world = found[0]
    return world


def labels(of: Moves, world: World, bound: int = 0) -> list[str]:
    """What can happen next."""
    return [label for label, _ in of.of(world, bound)]


TO_MIGRATE = ("carried out: inspect", "carried out: prepare", "carried out: arm")
TO_SWITCHOVER = (
    *TO_MIGRATE,
    "carried out: migrate",
    "answer: migrate done",
    "source: connected",
    "source: pre-switchover",
    "heard: source-active",
    "heard: source-pre-switchover",
)
TO_HANDOVER = (*TO_SWITCHOVER, "carried out: quiesce")


def phase(of: Moves, world: World) -> Phase:
    """Where the protocol stands."""
    return of.protocol.phases[world.protocol]


def test_the_whole_way() -> None:
    of = moves()
    world = walk(
        of,
        *TO_HANDOVER,
        *("carried out: continue", "source: everything", "destination: has", "source: completed"),
        *("heard: source-device", "heard: source-completed", "heard: destination-completed", "carried out: claim"),
        *("carried out: resume-destination", "heard: destination-running", "carried out: release-source"),
        "heard: source-ended",
    )
    assert phase(of, world) is Phase.COMPLETED
    assert world.faults == 0
    assert labels(of, world, bound=2) == []


def test_a_cancel_cannot_overtake_migrate() -> None:
    of = moves()
    world = walk(of, *TO_MIGRATE, "the user calls it off")
    assert "carried out: migrate" in labels(of, world)
    assert "carried out: cancel-migration" not in labels(of, world)


def test_time_passes_only_when_nothing_else_can_happen() -> None:
    """Slowness apart, which is a fault."""
    of = moves(wishes=0)
    world = walk(of, *TO_MIGRATE)
    assert not any("nothing else can happen" in label for label in labels(of, world))
    world = walk(
        of, "carried out: migrate", "answer: migrate done", "source: connected", "heard: source-active", world=world
    )
    world.link = Link.HUNG
    assert labels(of, world) == ["nothing else can happen: stalled"]


def test_the_bound_is_kept() -> None:
    of = moves()
    world = of.start()
    assert not any("FAULT" in label for label in labels(of, world, bound=0))
    assert any("FAULT" in label for label in labels(of, world, bound=1))
    world.faults = 1
    assert not any("FAULT" in label for label in labels(of, world, bound=1))


def test_a_connection_that_goes_leaves_commands_done_or_not_done() -> None:
    of = moves(faults=frozenset({Fault.DROP_SOURCE}))
    world = walk(of, *TO_HANDOVER)
    after = [there for label, there in of.of(world, 1) if "connection goes" in label]
    assert {there.s_status for there in after} == {Status.PRE_SWITCHOVER, Status.DEVICE}
    assert all(there.orders == (COMMAND[C.CONTINUE] * 4 + UNKNOWN,) for there in after)
    assert {there.s_line for there in after} == {Line.DOWN}
    assert {there.faults for there in after} == {1}


def test_what_was_said_and_not_read_is_lost_with_the_connection() -> None:
    of = moves(faults=frozenset({Fault.DROP_DESTINATION}))
    world = walk(of, *TO_HANDOVER, "carried out: continue", "source: everything", "destination: has")
    after = walk(of, "FAULT: the destination's connection goes", world=world)
    assert labels(of, walk(of, "heard: destination-lost", world=after)).count("asked: the destination") == 1


def test_one_that_goes_for_good_is_not_connected_to_anew() -> None:
    of = moves(faults=frozenset({Fault.BLOCK_SOURCE, Fault.BLOCK_DESTINATION}))
    world = walk(of, *TO_HANDOVER)
    assert walk(of, "FAULT: the source's connection goes for good", world=world).s_line == Line.BLOCKED
    after = walk(of, "FAULT: the destination's connection goes for good", world=world)
    assert (after.d_line, after.excused) == (Line.BLOCKED, True)


def test_a_manager_that_dies_leaves_its_state_and_nothing_else() -> None:
    of = moves(faults=frozenset({Fault.CRASH}), wishes=0)
    world = walk(of, *TO_HANDOVER)
    after = [there for label, there in of.of(world, 1) if "manager dies" in label]
    assert {there.s_status for there in after} == {Status.PRE_SWITCHOVER, Status.DEVICE}
    assert all(there.protocol == world.protocol and not there.orders and not there.manned for there in after)
    assert labels(of, after[0]) == ["a new manager takes over"]
    assert phase(of, walk(of, "a new manager", world=after[0])) is Phase.RESOLVING


def test_killing() -> None:
    of = moves(faults=frozenset({Fault.KILL_SOURCE, Fault.KILL_DESTINATION}))
    world = walk(of, *TO_HANDOVER)
    assert not walk(of, "FAULT: the source process", world=world).s_alive
    assert walk(of, "FAULT: the destination process", world=world).d_process == Process.DEAD


def test_the_stream() -> None:
    of = moves(faults=frozenset({Fault.CUT, Fault.HANG}))
    assert not any("stream" in label for label in labels(of, of.start(), bound=1))
    world = walk(of, *TO_HANDOVER)
    assert walk(of, "FAULT: the migration stream is cut", world=world).link == Link.CUT
    assert walk(of, "FAULT: the migration stream hangs", world=world).link == Link.HUNG


def test_slowness_fires_a_deadline_early() -> None:
    of = moves(faults=frozenset({Fault.EARLY}))
    world = walk(of, *TO_HANDOVER)
    late = walk(of, "FAULT (slowness): the deadline fires", world=world)
    assert COMMAND[C.BREAK] * 4 + ISSUED in late.orders


def test_refusals() -> None:
    of = moves(faults=frozenset({Fault.REFUSE}))
    world = walk(of, *TO_SWITCHOVER)
    after = walk(of, "FAULT: quiesce is refused", world=world)
    assert phase(of, after) is Phase.CANCELLING
    assert after.excused


@pytest.mark.parametrize(("moved", "lock"), [("False", Holder.SOURCE), ("True", Holder.DESTINATION)])
def test_a_lock_that_does_not_answer_has_moved_or_not(moved: str, lock: Holder) -> None:
    of = moves("lock", faults=frozenset({Fault.LOCK}))
    world = walk(
        of,
        *TO_HANDOVER,
        *("carried out: continue", "source: everything", "destination: has", "source: completed"),
        *("heard: source-device", "heard: source-completed", "heard: destination-completed"),
    )
    label = f"FAULT: the lock's provider does not answer claim (moved={moved})"
    assert walk(of, label, world=world).lock == lock


def test_mirrors_fail_before_and_after_they_are_in_step() -> None:
    of = moves("disks", faults=frozenset({Fault.MIRROR}))
    world = walk(of, *TO_MIGRATE)
    assert (
        phase(of, walk(of, "FAULT: the mirror fails before", "answer: mirror refused", world=world)) is Phase.CANCELLING
    )
    world = walk(of, "carried out: mirror", "answer: mirror done", world=world)
    assert walk(of, "FAULT: the mirror fails", world=world).disk == Disk.BROKEN


def test_what_people_do() -> None:
    of = moves("plain", may=frozenset(Act), acts=2)
    world = walk(of, "its owner stops the guest")
    assert (world.s_run, world.acts, world.acted) == (Run.PAUSED, 1, True)
    assert walk(of, "its owner resumes the guest", world=world).s_run == Run.RUNNING
    assert walk(of, "the guest powers itself off").shut_down
    world = walk(of, *TO_SWITCHOVER, "somebody else sends migrate-continue")
    assert world.s_status == Status.DEVICE


def test_the_policy_gives_up_or_chooses_post_copy_in_pre_copy() -> None:
    of = moves("postcopy", wishes=1)
    world = walk(of, *TO_MIGRATE)
    assert phase(of, walk(of, "the policy gives up", world=world)) is Phase.CANCELLING
    assert COMMAND[C.START_POSTCOPY] * 4 in walk(of, "the policy chooses post-copy", world=world).orders
    assert "the policy gives up" not in labels(of, of.start())


def test_a_hang_is_for_ever_in_pre_copy_and_outlasts_one_wait_in_post_copy() -> None:
    of = moves("postcopy", faults=frozenset({Fault.HANG}))
    world = walk(of, *TO_SWITCHOVER[:6], "heard: source-active", "the policy chooses post-copy")
    world = walk(of, "carried out: start-postcopy", "source: pre-switchover (to", "heard: source-pre", world=world)
    world = walk(of, "answer: start-postcopy", "carried out: quiesce", "carried out: continue", world=world)
    world = walk(of, "source: package sent", "FAULT: the migration stream hangs", world=world)
    world.outwaited = True
    while not (idle := [pair for pair in of.of(world, 1) if "nothing else can happen" in pair[0]]):
        world = of.of(world, 1)[0][1]
    assert [label for label, _ in idle] == ["nothing else can happen: the stream goes on"]


def test_what_a_manager_had_sent_may_be_carried_out_after_the_end() -> None:
    of = moves()
    world = walk(of, *TO_MIGRATE)
    sent = COMMAND[C.MIGRATE] * 4
    ended = next(n for n in range(2000) if _ended(of, world, n))
    world.protocol, world.orders = ended, (sent,)
    after = walk(of, "left over, carried out: migrate", world=world)
    assert (after.s_status, after.orders) == (Status.SETUP, ())


def _ended(of: Moves, world: World, count: int) -> bool:
    """Walk until the protocol has an end, and whether this is its number."""
    if count == 0:
        here = world.copy()
        while not of.protocol.ended[here.protocol]:
            here = (of.of(here, 0) or [("", here)])[0][1]
    return count < len(of.protocol.ended) and of.protocol.ended[count]


def test_more_than_any_finite_course_holds_is_seen() -> None:
    assert not Moves.grows(World())
    assert Moves.grows(World(s_news=tuple(range(MOST_NEWS + 1))))
