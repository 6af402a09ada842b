"""What must hold in every world, and at every end."""

from __future__ import annotations

from whimbrel.engine.states import Fact, Guest, Owner, Phase, State

from .world import Breach, Disk, Holder, Link, Process, Quirks, Run, World

MEANING = {
    Breach.TWO_RUNNING: "1: never two running guests",
    Breach.NOT_WHOLE: "2: never a running guest whose memory or disks are not whole",
    Breach.SOURCE_AFTER_POSTCOPY: "3: the source is never resumed after post-copy began",
    Breach.OWNER_KILLED: "4: nobody who has the only good copy is ended by us",
    Breach.CANCEL_AFTER_CONTINUE: "5: no migrate_cancel after migrate-continue",
    Breach.WITHOUT_LOCK: "6: a guest runs only where its lock is",
    Breach.NO_END: "7: an end is always reached",
    Breach.WRONG_END: "8: an end says what is true",
}


def breach(world: World, quirks: Quirks) -> Breach:
    """The first of invariants 1 to 6 that this world breaks."""
    if world.breach:
        return Breach(world.breach)
    s_runs, d_runs = world.s_runs, world.d_runs
    if s_runs:
        if d_runs:
            return Breach.TWO_RUNNING
        if world.d_has_run:
            return Breach.NOT_WHOLE
        if quirks.uses_lock and world.lock != Holder.SOURCE:
            return Breach.WITHOUT_LOCK
    if d_runs:
        if world.stale or not (world.whole or world.postcopy_began):
            return Breach.NOT_WHOLE
        if quirks.copies_disks and world.disk != Disk.DRAINED:
            return Breach.NOT_WHOLE
        if quirks.uses_lock and world.lock != Holder.DESTINATION:
            return Breach.WITHOUT_LOCK
    return Breach.NONE


def false_end(world: World, state: State, quirks: Quirks) -> str | None:
    """What an end says that is not so, once both QEMUs have come to rest; ``None``: it is right."""
    guest, owner = state.guest, state.owner
    if guest is None:
        return "it does not say what became of the guest"
    here = world.d_process != Process.DEAD if owner is Owner.DESTINATION else world.s_alive
    if state.phase is Phase.COMPLETED and owner is not Owner.DESTINATION:
        return "completed, and the destination is not the owner"
    if state.phase is Phase.CANCELLED and owner is not Owner.SOURCE:
        return "cancelled, and the source is not the owner"
    if owner is Owner.LIMBO and guest not in (Guest.HELD, Guest.UNCONFIRMED):
        return f"{guest.value}, and nobody is named as the owner"
    return _false_guest(world, state, quirks, here=here)


def _may_be_open(world: World, quirks: Quirks) -> bool:
    """Whether an end may leave it open who has the guest, or whether it runs.

    Only if a monitor was lost for good, a command was refused that QEMU, a hook or the lock's provider may
    refuse, a process that cannot be watched ended, the source's last words were not heard, or it ended and left a
    destination that hangs and may yet have everything.
    """
    if not quirks.processes_watched and (not world.s_alive or world.d_process == Process.DEAD):
        return True
    if not world.s_alive and (world.link == Link.HUNG or world.outwaited) and world.d_process == Process.ALIVE:
        return True
    return world.excused or (not world.s_alive and not world.s_end_heard)


def _false_guest(world: World, state: State, quirks: Quirks, *, here: bool) -> str | None:
    guest, owner = state.guest, state.owner
    d_runs = world.d_runs and (world.whole or world.s_alive)  # else it stands at the first page that never comes
    runs = d_runs if owner is Owner.DESTINATION else world.s_runs
    elsewhere = world.s_runs if owner is Owner.DESTINATION else d_runs
    if elsewhere and owner is not Owner.LIMBO:
        return "it runs at the side that is not the owner"
    if guest is Guest.RUNNING:
        if not runs and here and not (owner is Owner.SOURCE and world.s_run == Run.PAUSED and world.acted):
            return "it is said to run, and does not"
    elif guest is Guest.PAUSED:
        if runs and not world.acted:
            return "it is said to stand paused, and runs"
    elif guest is Guest.LOST:
        if runs or elsewhere:
            return "it is said to be lost, and runs"
        # To a new manager one that was let go counts as told to run: its owner may have had it run there.
        told = world.told_to_run or {Fact.ADOPTED, Fact.CONT_SENT} <= state.facts
        if world.s_alive and not world.d_has_run and not world.postcopy_began and not told:
            return "it is said to be lost, and the source has it"
        if world.d_process == Process.ALIVE and world.whole and not world.stale:
            return "it is said to be lost, and the destination has it"
    elif guest is Guest.SHUT_DOWN:
        if not world.shut_down:
            return "it is said to have powered itself off, and did not"
    elif world.armed and not _may_be_open(world, quirks):
        return f"{guest.value if guest else None}, and nothing that happened makes that needful"
    return None
