"""The courses that QEMU takes by itself, as in the transcripts of 7.2, 10.0 and 11.1."""

from __future__ import annotations

import pytest

from whimbrel.sim.explorer.qemu import own_moves
from whimbrel.sim.explorer.world import Link, Process, Quirks, Run, Sent, Status, World

QUIRKS = Quirks()


def connecting() -> World:
    """``migrate`` was taken, the destination listens."""
    return World(s_status=Status.SETUP, d_process=Process.ALIVE, d_status=Status.SETUP)


def take(world: World, *words: str, quirks: Quirks = QUIRKS) -> World:
    """The world after the moves whose names begin with these words, in this order."""
    for word in words:
        named = dict(own_moves(world, quirks))
        (label,) = (label for label in named if label.startswith(word))
        world = named[label]
    return world


def names(world: World, quirks: Quirks = QUIRKS) -> set[str]:
    """What may happen next."""
    return {label for label, _ in own_moves(world, quirks)}


STOPPED = ("source: connected", "source: pre-switchover")
SENT = (*STOPPED, "source: everything sent")


def continued(world: World, quirks: Quirks = QUIRKS) -> World:
    """After migrate-continue."""
    assert world.source_continues(quirks)
    return world


def test_pre_copy_to_its_end() -> None:
    """src: active STOP pre-switchover | migrate-continue | device completed [postmigrate]; dst: completed [paused]."""
    world = continued(take(connecting(), *STOPPED))
    world = take(world, "source: everything sent", "destination: has everything", "source: completed")
    assert (world.s_status, world.s_run) == (Status.COMPLETED, Run.POSTMIGRATE)
    assert (world.d_status, world.d_run, world.whole) == (Status.COMPLETED, Run.PAUSED, True)
    assert names(world) == set()


def test_a_source_waits_in_pre_switchover_for_ever() -> None:
    assert names(take(connecting(), *STOPPED)) == set()


def test_a_destination_may_complete_after_the_source_failed_and_runs() -> None:
    """Seen on 7.2 and 10.0: what was sent is loaded, though the source heard nothing of it."""
    world = take(continued(take(connecting(), *STOPPED)), "source: everything sent")
    world.link = Link.CUT
    world = take(world, "source: failed in device", "source: resumes by itself", "destination: has everything")
    assert world.s_runs
    assert world.stale
    assert (world.d_status, world.d_run) == (Status.COMPLETED, Run.PAUSED)


def test_a_destination_that_autostarts_then_runs_too() -> None:
    """The split brain that ``-S`` is there to prevent."""
    world = take(continued(take(connecting(), *STOPPED)), "source: everything sent")
    world.d_autostart = True
    world.link = Link.CUT
    world = take(world, "source: failed in device", "source: resumes by itself", "destination: has everything")
    assert world.s_runs
    assert world.d_runs


@pytest.mark.parametrize(("newest", "order"), [(False, Status.FAILED), (True, Status.FAILING)])
def test_11_1_runs_before_it_says_failed(newest: bool, order: Status) -> None:
    """11.1: ``failing`` RESUME ``failed``; the others: ``failed`` RESUME."""
    quirks = Quirks(runs_before_failed=newest)
    world = continued(take(connecting(), *STOPPED))
    world.link = Link.CUT
    world = take(world, "source: failed in device", quirks=quirks)
    assert world.s_status == order
    world = take(world, "source: resumes by itself", quirks=quirks)
    assert world.s_runs
    if newest:
        assert take(world, "source: failed", quirks=quirks).s_status == Status.FAILED


def test_a_guest_that_stood_paused_is_not_resumed_by_a_failure() -> None:
    start = connecting()
    start.s_run = Run.PAUSED
    world = continued(take(start, *STOPPED))
    world.link = Link.CUT
    world = take(world, "source: failed in device", "source: stands paused again")
    assert world.s_run == Run.PAUSED
    assert not world.stale


def test_a_cancel_ends_cancelled_or_failed_and_the_guest_runs_first() -> None:
    """pre-switchover: cancelling RESUME cancelled; a stalled stream on 7.2 ends failed. The destination exits."""
    world = take(connecting(), *STOPPED)
    world.source_cancels()
    assert "source: cancelled" not in names(world)
    world = take(world, "source: resumes by itself")
    assert {"source: cancelled", "source: failed (by the cancel)", "destination: failed, exits"} == names(world)


def test_a_killed_destination_fails_the_source_which_runs_on() -> None:
    world = take(connecting(), "source: connected")
    world.destination_ends(QUIRKS)
    world = take(world, "source: failed")
    assert (world.s_status, world.s_run) == (Status.FAILED, Run.RUNNING)


def test_a_killed_source_fails_the_destination_unless_it_was_sent_everything() -> None:
    world = take(connecting(), "source: connected")
    world.source_ends(QUIRKS)
    assert names(world) == {"destination: failed, exits"}
    world = take(continued(take(connecting(), *STOPPED)), "source: everything sent")
    world.source_ends(QUIRKS)
    assert names(world) == {"destination: failed, exits", "destination: has everything, completed"}


def test_a_stream_that_hangs_tells_nobody_anything() -> None:
    """Destination frozen: the source stays active, there is no time-out in QEMU."""
    world = take(connecting(), "source: connected")
    world.link = Link.HUNG
    assert names(world) == set()


def in_postcopy(quirks: Quirks = QUIRKS) -> World:
    """The package was sent and taken."""
    world = take(connecting(), "source: connected", quirks=quirks)
    world.postcopy_asked = True
    world = continued(take(world, "source: pre-switchover (to", quirks=quirks), quirks)
    return take(world, "source: package sent", "destination: postcopy-active", quirks=quirks)


@pytest.mark.parametrize("quirks", [QUIRKS, Quirks(postcopy_without_device=True)])
def test_post_copy_to_its_end(quirks: Quirks) -> None:
    """Stays paused with ``-S``, pages keep arriving, and it even completes while paused."""
    world = in_postcopy(quirks)
    assert (world.s_status, world.d_status) == (Status.POSTCOPY_ACTIVE, Status.POSTCOPY_ACTIVE)
    world = take(world, "destination: all pages came", "source: completed", quirks=quirks)
    assert (world.whole, world.d_run, world.s_run) == (True, Run.PAUSED, Run.POSTMIGRATE)


def test_asked_too_late_it_goes_as_pre_copy() -> None:
    world = take(connecting(), "source: connected")
    world.postcopy_asked = True
    assert {"source: pre-switchover", "source: pre-switchover (to post-copy)"} == names(world)


def test_a_broken_link_pauses_both_sides_of_a_post_copy_and_it_can_be_mended() -> None:
    world = in_postcopy()
    world.link = Link.CUT
    world = take(world, "source: postcopy-paused", "destination: postcopy-paused")
    assert names(world) == set()
    world.link, world.s_status = Link.WHOLE, Status.POSTCOPY_RECOVER
    assert names(world) == {"source: postcopy-paused again"}
    world.d_listens_again = True
    world = take(world, "both: postcopy-active again", "destination: all pages came", "source: completed")
    assert world.whole


def test_with_either_process_dead_a_post_copy_never_ends() -> None:
    world = in_postcopy()
    world.source_ends(QUIRKS)
    world = take(world, "destination: postcopy-paused")
    assert names(world) == set()
    world = in_postcopy()
    world.destination_ends(QUIRKS)
    world = take(world, "source: postcopy-paused")
    assert names(world) == set()
    assert world.s_run == Run.FINISH_MIGRATE


def test_before_the_package_is_sent_a_failure_is_survived() -> None:
    """7.2 has said postcopy-active by then."""
    quirks = Quirks(postcopy_without_device=True)
    world = take(connecting(), "source: connected", quirks=quirks)
    world.postcopy_asked = True
    world = continued(take(world, "source: pre-switchover (to", quirks=quirks), quirks)
    assert world.sent == Sent.PAGES
    world.link = Link.CUT
    world = take(world, "source: failed before the package", "source: resumes by itself", quirks=quirks)
    assert world.s_runs


def test_11_1_fails_and_runs_while_it_has_not_heard_that_the_package_came() -> None:
    """The destination may have taken it, and stand there with a copy that is old."""
    quirks = Quirks(runs_before_failed=True, survives_the_package=True)
    world = in_postcopy(quirks)
    assert (world.s_status, world.d_status) == (Status.DEVICE, Status.POSTCOPY_ACTIVE)
    assert "source: postcopy-active" in names(world, quirks)
    world.link = Link.CUT
    world = take(world, "source: failed, not having", "source: resumes by itself", "source: failed", quirks=quirks)
    assert world.s_runs
    assert not world.postcopy_began


def test_whether_a_break_is_noticed_in_pre_switchover_is_a_quirk() -> None:
    world = take(connecting(), *STOPPED)
    world.link = Link.CUT
    assert names(world) == {"destination: failed, exits"}
    assert "source: failed in pre-switchover" in names(world, Quirks(notices_while_paused=True))


def test_a_destination_that_is_not_there_fails_the_connect() -> None:
    world = World(s_status=Status.SETUP)
    assert names(world) == {"source: failed to connect"}
