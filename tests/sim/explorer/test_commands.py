"""What each command does to the world, and what is answered."""

from __future__ import annotations

import pytest

from whimbrel.engine.signals import Command
from whimbrel.sim.explorer.commands import BEGUN, DONE, ISSUED, REFUSED, UNKNOWN, Commands
from whimbrel.sim.explorer.protocol import COMMAND, Protocol
from whimbrel.sim.explorer.world import Breach, Disk, Holder, Line, Link, Process, Quirks, Run, Sent, Status, World

C = Command


def connected(**others: int | bool | tuple[int, ...]) -> World:
    """Both processes, both monitors; the migration is active."""
    world = World(armed=True, s_status=Status.ACTIVE, d_process=Process.ALIVE, d_status=Status.ACTIVE)
    world.s_line = world.d_line = Line.UP
    world.s_seen = True
    for name, value in others.items():
        setattr(world, name, value)
    return world


def do(command: Command, world: World, quirks: Quirks | None = None) -> int | None:
    """Carry it out; the outcome."""
    return Commands(Protocol(), quirks or Quirks()).act(world, COMMAND[command] * 4)


@pytest.mark.parametrize("command", [C.MIGRATE, C.CONTINUE, C.CANCEL_MIGRATION, C.START_POSTCOPY, C.DRAIN, C.MIRROR])
@pytest.mark.parametrize(("line", "outcome"), [(Line.DOWN, REFUSED), (Line.BLOCKED, REFUSED), (Line.CLOSED, UNKNOWN)])
def test_without_a_connection_nothing_was_sent(command: Command, line: Line, outcome: int) -> None:
    """Refused: nothing was sent. Unknown: it went into a connection that was ending."""
    world = connected(s_line=line, s_status=Status.PRE_SWITCHOVER)
    before = world.freeze()
    assert do(command, world) == outcome
    assert world.freeze() == before


def test_preparing() -> None:
    world = World()
    assert [do(command, world) for command in (C.INSPECT, C.PREPARE, C.ARM, C.MIGRATE)] == [DONE] * 4
    assert (world.s_status, world.d_status, world.armed) == (Status.SETUP, Status.SETUP, True)
    assert do(C.INSPECT, World(s_alive=False)) == REFUSED


def test_migrate_is_refused_while_one_is_under_way() -> None:
    assert do(C.MIGRATE, connected()) == REFUSED


def test_disks_are_whole_only_if_they_were_drained_while_the_guest_stood() -> None:
    world = connected(s_run=Run.FINISH_MIGRATE)
    assert (do(C.DRAIN, world), world.disk) == (REFUSED, Disk.NONE)
    assert (do(C.MIRROR, world), world.disk) == (DONE, Disk.IN_STEP)
    assert (do(C.DRAIN, world), world.disk) == (DONE, Disk.DRAINED)
    running = connected(disk=Disk.IN_STEP)
    assert (do(C.DRAIN, running), running.disk) == (DONE, Disk.BROKEN)


def test_continue() -> None:
    assert do(C.CONTINUE, connected()) == REFUSED
    assert do(C.CONTINUE, connected(s_status=Status.PRE_SWITCHOVER)) == DONE


def test_cont_on_the_destination_connects_anew_if_it_must() -> None:
    world = connected(d_line=Line.DOWN, d_run=Run.PAUSED, d_status=Status.COMPLETED)
    assert do(C.RESUME_DESTINATION, world) == DONE
    assert world.d_runs
    assert do(C.RESUME_DESTINATION, connected(d_line=Line.BLOCKED)) == REFUSED


def test_a_break_kills_here_and_cuts_there_and_spares_an_only_copy() -> None:
    here, far = connected(), connected()
    assert do(C.BREAK, here) == DONE
    assert here.d_process == Process.DEAD
    assert do(C.BREAK, far, Quirks(processes_watched=False)) == DONE
    assert (far.d_process, far.link) == (Process.ALIVE, Link.CUT)
    assert do(C.BREAK, connected(s_alive=False, s_line=Line.DOWN)) == REFUSED


def test_discarding_the_only_copy_is_a_breach_and_the_driver_refuses_the_plainest_case() -> None:
    world = connected(d_has_run=True, d_run=Run.RUNNING)
    assert do(C.DISCARD_DESTINATION, world) == DONE
    assert world.breach == Breach.OWNER_KILLED
    both = connected(s_status=Status.COMPLETED, d_status=Status.COMPLETED, whole=True, s_alive=False)
    assert do(C.DISCARD_DESTINATION, both) == REFUSED
    assert do(C.DISCARD_DESTINATION, World()) == DONE


def test_a_remote_destination_is_discarded_through_its_monitor_or_not_at_all() -> None:
    far = Quirks(processes_watched=False)
    assert do(C.DISCARD_DESTINATION, connected(), far) == DONE
    assert do(C.DISCARD_DESTINATION, connected(d_line=Line.DOWN), far) == REFUSED


def test_pausing_a_post_copy_is_done_when_both_were_seen_paused() -> None:
    world = connected(s_status=Status.POSTCOPY_ACTIVE, d_status=Status.POSTCOPY_ACTIVE)
    assert (do(C.PAUSE_POSTCOPY, world), world.link) == (BEGUN, Link.CUT)
    assert do(C.PAUSE_POSTCOPY, world) is None
    world.s_status = world.d_status = Status.POSTCOPY_PAUSED
    assert do(C.PAUSE_POSTCOPY, world) == DONE
    assert do(C.PAUSE_POSTCOPY, connected(s_line=Line.BLOCKED, d_line=Line.BLOCKED)) == REFUSED


def test_listening_and_sending_again() -> None:
    assert do(C.LISTEN_AGAIN, connected()) == REFUSED
    assert do(C.SEND_AGAIN, connected()) == REFUSED
    world = connected(s_status=Status.POSTCOPY_PAUSED, d_status=Status.POSTCOPY_PAUSED, link=Link.CUT)
    assert (do(C.LISTEN_AGAIN, world), do(C.SEND_AGAIN, world)) == (DONE, DONE)
    assert (world.d_listens_again, world.s_status, world.link) == (True, Status.POSTCOPY_RECOVER, Link.WHOLE)


@pytest.mark.parametrize(
    ("others", "breach"),
    [
        ({"whole": True, "d_has_run": True, "s_run": Run.POSTMIGRATE}, Breach.NONE),
        ({"sent": Sent.PACKAGE, "d_has_run": True, "s_run": Run.FINISH_MIGRATE}, Breach.NOT_WHOLE),
        ({"s_run": Run.RUNNING}, Breach.OWNER_KILLED),
    ],
)
def test_letting_the_source_go_too_early_is_a_breach(others: dict[str, int], breach: Breach) -> None:
    world = connected(**others)
    assert do(C.RELEASE_SOURCE, world) == DONE
    assert not world.s_alive
    assert world.breach == breach


def test_a_source_that_is_gone_is_released_only_if_its_end_was_heard() -> None:
    assert do(C.RELEASE_SOURCE, connected(s_alive=False, s_line=Line.DOWN, s_end_heard=True)) == DONE
    assert do(C.RELEASE_SOURCE, connected(s_alive=False, s_line=Line.DOWN)) == REFUSED
    assert do(C.RELEASE_SOURCE, connected(s_line=Line.BLOCKED)) == REFUSED


@pytest.mark.parametrize(
    ("others", "outcome", "runs"),
    [
        ({"s_status": Status.CANCELLED}, DONE, True),
        ({"s_status": Status.FAILED, "s_run": Run.PAUSED}, DONE, True),
        ({"s_status": Status.COMPLETED, "s_run": Run.POSTMIGRATE}, REFUSED, False),
        ({"s_status": Status.CANCELLING}, None, True),
        ({"s_status": Status.FAILED, "s_run": Run.FINISH_MIGRATE}, None, False),
        ({"s_line": Line.CLOSED, "s_alive": False}, None, False),
        ({"s_line": Line.BLOCKED, "s_status": Status.CANCELLED}, REFUSED, True),
        ({"armed": False, "s_line": Line.NEVER}, REFUSED, True),
        ({"armed": False}, DONE, True),
    ],
)
def test_putting_the_source_right(others: dict[str, int | bool], outcome: int | None, runs: bool) -> None:
    """Never ``cont`` on one that completed; a guest that QEMU is about to resume itself is waited for."""
    world = connected(**others)
    assert do(C.RESTORE_SOURCE, world) == outcome
    assert world.s_runs is runs


def test_the_end_of_patience_takes_what_there_is() -> None:
    commands = Commands(Protocol(), Quirks())
    assert commands.restore_source(connected(s_status=Status.CANCELLING), patient=False) == DONE
    stuck = connected(s_status=Status.FAILED, s_run=Run.FINISH_MIGRATE)
    assert commands.restore_source(stuck, patient=False) == REFUSED


def test_resuming_the_source() -> None:
    world = connected(s_status=Status.COMPLETED, s_run=Run.POSTMIGRATE)
    assert (do(C.RESUME_SOURCE, world), world.s_runs) == (DONE, True)
    assert do(C.RESUME_SOURCE, connected(s_run=Run.FINISH_MIGRATE)) == REFUSED
    assert do(C.RESUME_SOURCE, connected(s_line=Line.BLOCKED)) == REFUSED
    assert do(C.RESUME_SOURCE, connected(s_line=Line.CLOSED)) is None


def test_the_lock_goes_over_and_back_and_a_claim_that_waits_is_ended() -> None:
    world = connected()
    assert (do(C.CLAIM, world), world.lock) == (DONE, Holder.DESTINATION)
    world.orders = (COMMAND[C.CLAIM] * 4 + ISSUED,)
    assert (do(C.RECLAIM, world), world.lock) == (DONE, Holder.SOURCE)
    assert world.orders == (COMMAND[C.CLAIM] * 4 + REFUSED,)


def test_what_is_sent_at_once_is_taken_in_order() -> None:
    migrate, cancel = COMMAND[C.MIGRATE] * 4, COMMAND[C.CANCEL_MIGRATION] * 4
    restore = COMMAND[C.RESTORE_SOURCE] * 4
    world = connected(orders=(migrate, cancel, restore))
    assert not Commands.overtakes(world, migrate)
    assert Commands.overtakes(world, cancel)
    assert Commands.overtakes(world, restore)
    assert Commands.source_busy(world)
    assert not Commands.destination_busy(world)
    assert Commands.destination_busy(connected(orders=(COMMAND[C.RESUME_DESTINATION] * 4,)))
