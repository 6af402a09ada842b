"""The modelled QEMUs against what the real ones were seen to do."""

from __future__ import annotations

import pytest

from whimbrel.engine.signals import Signal
from whimbrel.sim.explorer.world import (
    NUMBER_OF,
    Breach,
    Disk,
    Line,
    Link,
    Process,
    Quirks,
    Run,
    Sent,
    Status,
    World,
)

QUIRKS = Quirks()
RUNNING = NUMBER_OF[Signal.SOURCE_RUNNING]


def moving(**others: int | bool) -> World:
    """Two QEMUs with a migration between them, the guest stopped in ``device``."""
    world = World(s_status=Status.DEVICE, s_run=Run.FINISH_MIGRATE, d_process=Process.ALIVE, d_status=Status.ACTIVE)
    world.s_line = world.d_line = Line.UP
    world.s_seen = True
    for name, value in others.items():
        setattr(world, name, value)
    return world


def test_a_world_is_a_value_and_its_copy_is_its_own() -> None:
    world = moving()
    copy = world.copy()
    assert copy.freeze() == world.freeze()
    copy.disk = Disk.BROKEN
    assert copy.freeze() != world.freeze()


def test_cont_on_a_destination_that_still_waits_only_clears_the_s() -> None:
    """Rule 2: ``cont`` while ``inmigrate`` silently cancels ``-S``."""
    world = moving()
    assert world.destination_is_told_to_run(QUIRKS)
    assert world.d_autostart
    assert not world.d_runs


def test_cont_on_a_destination_that_has_everything_runs_it() -> None:
    world = moving(d_run=Run.PAUSED, d_status=Status.COMPLETED)
    assert world.destination_is_told_to_run(QUIRKS)
    assert world.d_runs
    assert world.d_has_run


def test_image_locks_refuse_the_second_user() -> None:
    """Local files: ``cont`` fails with "Failed to get write lock" while the other side has the image."""
    locked = Quirks(image_locks=True)
    world = moving(d_run=Run.PAUSED, d_status=Status.COMPLETED, s_run=Run.RUNNING)
    assert not world.destination_is_told_to_run(locked)
    world = moving(d_run=Run.RUNNING, d_has_run=True)
    assert not world.source_resumes(by_us=True, quirks=locked)
    assert world.s_run == Run.POSTMIGRATE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Status.ACTIVE, Status.CANCELLING),
        (Status.PRE_SWITCHOVER, Status.CANCELLING),
        (Status.DEVICE, Status.CANCELLING),
        (Status.COMPLETED, Status.COMPLETED),
        (Status.NONE, Status.NONE),
        (Status.POSTCOPY_ACTIVE, Status.POSTCOPY_ACTIVE),
    ],
)
def test_migrate_cancel(before: Status, after: Status) -> None:
    """Idle or finished: returns {} and changes nothing; after continue it is taken, and that is the danger."""
    world = moving(s_status=before)
    world.source_cancels()
    assert world.s_status == after


def test_migrate_continue_is_refused_anywhere_but_in_pre_switchover() -> None:
    assert not moving(s_status=Status.ACTIVE).source_continues(QUIRKS)
    world = moving(s_status=Status.PRE_SWITCHOVER)
    assert world.source_continues(QUIRKS)
    assert world.s_status == Status.DEVICE


def test_7_2_says_postcopy_active_before_the_package_is_sent() -> None:
    world = moving(s_status=Status.PRE_SWITCHOVER, postcopy=True)
    assert world.source_continues(Quirks(postcopy_without_device=True))
    assert world.s_status == Status.POSTCOPY_ACTIVE
    assert world.sent == Sent.PAGES


def test_a_source_that_runs_again_makes_the_copy_old() -> None:
    world = moving(whole=True, d_run=Run.PAUSED)
    world.source_resumes(by_us=False, quirks=QUIRKS)
    assert world.stale
    assert world.s_news[-1] == RUNNING
    assert not world.only_copy_on_destination()


def test_resuming_the_source_after_post_copy_began_is_noted_only_if_we_do_it() -> None:
    ours, its_own = moving(sent=Sent.PACKAGE), moving(sent=Sent.PACKAGE)
    ours.source_resumes(by_us=True, quirks=QUIRKS)
    its_own.source_resumes(by_us=False, quirks=QUIRKS)
    assert (ours.breach, its_own.breach) == (Breach.SOURCE_AFTER_POSTCOPY, Breach.NONE)


@pytest.mark.parametrize(
    ("line", "seen", "watched", "said"),
    [
        (Line.UP, True, True, Signal.SOURCE_ENDED),
        (Line.UP, False, True, Signal.SOURCE_LOST),
        (Line.UP, True, False, Signal.SOURCE_LOST),
        (Line.DOWN, True, True, None),
    ],
)
def test_an_end_is_told_as_one_only_if_it_was_heard_out(
    line: Line, seen: bool, watched: bool, said: Signal | None
) -> None:
    """``SOURCE_ENDED``: the process ended and all that it said can be read; else its last words are unknown."""
    world = moving(s_line=line, s_seen=seen)
    world.source_ends(Quirks(processes_watched=watched))
    assert world.s_news == (() if said is None else (NUMBER_OF[said],))


def test_a_frozen_process_that_is_killed_breaks_the_stream_on_its_host() -> None:
    """SIGSTOP: nothing happens; the kernel closes its socket when it is killed. A dead network tells nobody."""
    here, far = moving(link=Link.HUNG), moving(link=Link.HUNG)
    here.destination_ends(QUIRKS)
    far.destination_ends(Quirks(processes_watched=False))
    assert (here.link, far.link) == (Link.CUT, Link.HUNG)


@pytest.mark.parametrize(
    ("others", "only"),
    [
        ({"whole": True, "s_alive": False}, True),
        ({"whole": True, "s_alive": True}, False),
        ({"whole": True, "s_alive": False, "stale": True}, False),
        ({"whole": True, "s_alive": False, "s_status": Status.FAILED}, False),
        ({"d_has_run": True}, True),
        ({"sent": Sent.PACKAGE, "d_status": Status.POSTCOPY_ACTIVE}, True),
        ({"d_process": Process.DEAD, "d_has_run": True}, False),
        ({}, False),
    ],
)
def test_when_ending_the_destination_would_end_the_guest(others: dict[str, int | bool], only: bool) -> None:
    assert moving(**others).only_copy_on_destination() is only
