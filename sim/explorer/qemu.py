"""What the QEMUs do by themselves: every move that needs neither a command nor a fault."""

from __future__ import annotations

from whimbrel.engine.signals import Signal

from .world import DESTINATION_SAYS, NUMBER_OF, Link, Process, Quirks, Run, Sent, Status, World

Move = tuple[str, World]

FAILED = DESTINATION_SAYS[Status.FAILED]


def own_moves(world: World, quirks: Quirks) -> list[Move]:
    """Everything that either QEMU may do next."""
    moves: list[Move] = []
    if world.s_alive:
        _source(world, quirks, moves)
    if world.d_process == Process.ALIVE:
        _destination(world, quirks, moves)
    return moves


def _add(moves: list[Move], label: str, world: World) -> World:
    after = world.copy()
    moves.append((label, after))
    return after


def _source(world: World, quirks: Quirks, moves: list[Move]) -> None:
    status = world.s_status
    broken = world.link == Link.CUT or (world.d_process != Process.ALIVE and world.link == Link.WHOLE)
    if status == Status.SETUP:
        if broken or (world.link == Link.WHOLE and world.d_status != Status.SETUP):
            _add(moves, "source: failed to connect", world).source_fails(quirks)
        elif world.link == Link.WHOLE:
            after = _add(moves, "source: connected, active", world)
            after.source_becomes(Status.ACTIVE)
            after.d_status = Status.ACTIVE
    elif status == Status.ACTIVE:
        if broken:
            _add(moves, "source: failed", world).source_fails(quirks)
        elif world.link == Link.WHOLE:
            _stop(world, moves, postcopy=False)
            if world.postcopy_asked:
                _stop(world, moves, postcopy=True)
    elif status == Status.PRE_SWITCHOVER:
        if broken and quirks.notices_while_paused:
            _add(moves, "source: failed in pre-switchover", world).source_fails(quirks)
    elif status == Status.DEVICE:
        _device(world, quirks, moves, broken=broken)
    elif status == Status.POSTCOPY_ACTIVE:
        _postcopy(world, quirks, moves, broken=broken)
    elif status == Status.POSTCOPY_RECOVER:
        _recover(world, moves)
    else:
        _settle(world, quirks, moves)


def _stop(world: World, moves: list[Move], *, postcopy: bool) -> None:
    """The guest is stopped for the switchover; a paused one sends no STOP (which nothing hangs on anyway)."""
    after = _add(moves, f"source: pre-switchover{' (to post-copy)' if postcopy else ''}", world)
    after.s_ran = world.s_run == Run.RUNNING
    after.s_run = Run.FINISH_MIGRATE
    after.stale = False
    after.postcopy = postcopy
    after.source_becomes(Status.PRE_SWITCHOVER)


def _device(world: World, quirks: Quirks, moves: list[Move], *, broken: bool) -> None:
    """Return path on: the source completes only on the destination's word, and fails, and resumes, otherwise.

    The destination may complete all the same: it had everything before the source failed (7.2 and 10.0).
    """
    if world.postcopy:
        if quirks.survives_the_package:
            _package_out(world, quirks, moves, broken=broken)
        elif broken:
            _add(moves, "source: failed before the package was sent", world).source_fails(quirks)
        elif world.link == Link.WHOLE:
            after = _add(moves, "source: package sent, postcopy-active", world)
            after.sent = Sent.PACKAGE
            after.source_becomes(Status.POSTCOPY_ACTIVE)
        return
    if broken:
        _add(moves, "source: failed in device", world).source_fails(quirks)
    elif world.link == Link.WHOLE:
        if world.sent != Sent.ALL:
            _add(moves, "source: everything sent", world).sent = Sent.ALL
        elif world.whole:
            after = _add(moves, "source: completed", world)
            after.s_run = Run.POSTMIGRATE
            after.source_becomes(Status.COMPLETED)


def _package_out(world: World, quirks: Quirks, moves: list[Move], *, broken: bool) -> None:
    """11.1's ``postcopy-device``: it ends with the destination's word; without it there is no post-copy."""
    if broken:
        after = _add(moves, "source: failed, not having heard that the package came", world)
        after.package_void = True
        after.source_fails(quirks)
    elif world.link == Link.WHOLE and world.sent == Sent.PAGES:
        _add(moves, "source: package sent", world).sent = Sent.PACKAGE
    elif world.link == Link.WHOLE and world.d_status == Status.POSTCOPY_ACTIVE:
        _add(moves, "source: postcopy-active", world).source_becomes(Status.POSTCOPY_ACTIVE)


def _postcopy(world: World, quirks: Quirks, moves: list[Move], *, broken: bool) -> None:
    """Out for ever once the package is on its way; 7.2 says ``postcopy-active`` a moment before that."""
    if world.sent == Sent.PAGES:
        if broken:
            _add(moves, "source: failed before the package was sent", world).source_fails(quirks)
        elif world.link == Link.WHOLE:
            _add(moves, "source: package sent", world).sent = Sent.PACKAGE
    elif broken:
        _add(moves, "source: postcopy-paused", world).source_becomes(Status.POSTCOPY_PAUSED)
    elif world.link == Link.WHOLE and world.whole:
        after = _add(moves, "source: completed", world)
        after.s_run = Run.POSTMIGRATE
        after.source_becomes(Status.COMPLETED)


def _recover(world: World, moves: list[Move]) -> None:
    if world.link == Link.WHOLE and world.d_process == Process.ALIVE and world.d_listens_again:
        after = _add(moves, "both: postcopy-active again", world)
        after.d_listens_again = False
        after.source_becomes(Status.POSTCOPY_ACTIVE)
        after.destination_becomes(Status.POSTCOPY_ACTIVE)
    elif world.link != Link.HUNG:
        after = _add(moves, "source: postcopy-paused again", world)
        after.link = Link.CUT
        after.source_becomes(Status.POSTCOPY_PAUSED)


def _settle(world: World, quirks: Quirks, moves: list[Move]) -> None:
    """The end of a migration that failed or was cancelled: the guest runs again, before or after the last word."""
    status = world.s_status
    stopped = world.s_run == Run.FINISH_MIGRATE
    if status in (Status.FAILING, Status.CANCELLING, Status.FAILED, Status.CANCELLED) and stopped:
        after = _add(moves, "source: resumes by itself" if world.s_ran else "source: stands paused again", world)
        if not world.s_ran or not after.source_resumes(by_us=False, quirks=quirks):
            after.s_run = Run.PAUSED
    elif status == Status.FAILING:
        _add(moves, "source: failed", world).source_becomes(Status.FAILED)
    elif status == Status.CANCELLING:
        _add(moves, "source: cancelled", world).source_becomes(Status.CANCELLED)
        # 7.2 with a stalled stream: "Unable to write to socket", and the end is called failed.
        _add(moves, "source: failed (by the cancel)", world).source_becomes(Status.FAILED)


def _destination(world: World, quirks: Quirks, moves: list[Move]) -> None:
    gone = world.link == Link.CUT or (not world.s_alive and world.link == Link.WHOLE)
    if world.d_status == Status.ACTIVE:
        if world.sent != Sent.PAGES and world.link != Link.HUNG:
            _load(world, moves)
        if gone:
            after = _add(moves, "destination: failed, exits", world)
            after.destination_says(FAILED)
            after.d_status = Status.FAILED
            after.destination_ends(quirks)
    elif world.d_status == Status.POSTCOPY_ACTIVE:
        if gone:
            _add(moves, "destination: postcopy-paused", world).destination_becomes(Status.POSTCOPY_PAUSED)
        elif world.link == Link.WHOLE and world.s_status == Status.POSTCOPY_ACTIVE:
            after = _add(moves, "destination: all pages came, completed", world)
            after.whole = True
            after.destination_becomes(Status.COMPLETED)


def _load(world: World, moves: list[Move]) -> None:
    """What was sent is loaded, even if the source is gone by now; ``-S`` keeps the guest paused."""
    everything = world.sent == Sent.ALL
    after = _add(moves, f"destination: {'has everything, completed' if everything else 'postcopy-active'}", world)
    after.whole = everything
    after.d_run = Run.PAUSED
    if world.d_autostart:
        after.destination_runs()
    after.destination_becomes(Status.COMPLETED if everything else Status.POSTCOPY_ACTIVE)


SHUT_DOWN = NUMBER_OF[Signal.SOURCE_SHUT_DOWN]
