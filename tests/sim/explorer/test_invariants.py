"""Each invariant on a world that breaks it, and on one that does not."""

from __future__ import annotations

import pytest

from whimbrel.engine.states import Guest, Owner, Phase, State
from whimbrel.sim.explorer.invariants import MEANING, breach, false_end
from whimbrel.sim.explorer.world import Breach, Disk, Holder, Process, Quirks, Run, Sent, Status, World

Fields = dict[str, int | bool]

MOVED: Fields = {
    "s_run": Run.POSTMIGRATE,
    "s_status": Status.COMPLETED,
    "d_process": Process.ALIVE,
    "d_run": Run.RUNNING,
    "d_has_run": True,
    "whole": True,
    "armed": True,
}


def world(fields: Fields, **others: int | bool) -> World:
    """A world with these fields."""
    made = World()
    for name, value in (fields | others).items():
        setattr(made, name, value)
    return made


def test_each_has_a_sentence() -> None:
    assert set(MEANING) == set(Breach) - {Breach.NONE}


@pytest.mark.parametrize(
    ("quirks", "others", "expected"),
    [
        (Quirks(), {}, Breach.NONE),
        (Quirks(), {"s_run": Run.RUNNING}, Breach.TWO_RUNNING),
        (Quirks(), {"stale": True}, Breach.NOT_WHOLE),
        (Quirks(), {"whole": False}, Breach.NOT_WHOLE),
        (Quirks(), {"whole": False, "sent": Sent.PACKAGE}, Breach.NONE),
        (Quirks(), {"s_run": Run.RUNNING, "d_process": Process.DEAD}, Breach.NOT_WHOLE),
        (Quirks(copies_disks=True), {"disk": Disk.IN_STEP}, Breach.NOT_WHOLE),
        (Quirks(copies_disks=True), {"disk": Disk.DRAINED}, Breach.NONE),
        (Quirks(uses_lock=True), {"lock": Holder.SOURCE}, Breach.WITHOUT_LOCK),
        (Quirks(uses_lock=True), {"lock": Holder.DESTINATION}, Breach.NONE),
        (Quirks(), {"breach": Breach.OWNER_KILLED}, Breach.OWNER_KILLED),
    ],
)
def test_worlds(quirks: Quirks, others: Fields, expected: Breach) -> None:
    assert breach(world(MOVED, **others), quirks) is expected


def test_the_source_needs_its_lock_too() -> None:
    assert breach(world({}, lock=Holder.DESTINATION), Quirks(uses_lock=True)) is Breach.WITHOUT_LOCK
    assert breach(world({}), Quirks(uses_lock=True)) is Breach.NONE


COMPLETED = State(Phase.COMPLETED, Owner.DESTINATION, guest=Guest.RUNNING)
BACK = State(Phase.CANCELLED, Owner.SOURCE, guest=Guest.RUNNING)


def failed(owner: Owner, guest: Guest | None) -> State:
    """A failed end."""
    return State(Phase.FAILED, owner, guest=guest)


@pytest.mark.parametrize(
    ("state", "others"),
    [
        (COMPLETED, {}),
        (COMPLETED, {"d_process": Process.DEAD}),  # it ended after it was seen: its news came too late
        (failed(Owner.DESTINATION, Guest.LOST), {"d_process": Process.DEAD}),
        (failed(Owner.LIMBO, Guest.HELD), {"excused": True, "d_run": Run.PAUSED, "d_has_run": False}),
        (failed(Owner.SOURCE, Guest.UNCONFIRMED), {"armed": False, "d_process": Process.ABSENT}),
        (failed(Owner.SOURCE, Guest.UNCONFIRMED), {"s_alive": False, "d_process": Process.DEAD}),
        (failed(Owner.SOURCE, Guest.SHUT_DOWN), {"shut_down": True, "s_alive": False, "d_process": Process.DEAD}),
    ],
)
def test_ends_that_say_what_is_so(state: State, others: Fields) -> None:
    assert false_end(world(MOVED, **others), state, Quirks()) is None


@pytest.mark.parametrize(
    ("state", "others", "why"),
    [
        (COMPLETED, {"d_run": Run.PAUSED}, "said to run"),
        (State(Phase.COMPLETED, Owner.SOURCE, guest=Guest.RUNNING), {}, "not the owner"),
        (State(Phase.CANCELLED, Owner.DESTINATION, guest=Guest.RUNNING), {}, "not the owner"),
        (BACK, {}, "runs at the side that is not the owner"),
        (failed(Owner.LIMBO, Guest.RUNNING), {}, "nobody is named"),
        (failed(Owner.SOURCE, None), {}, "does not say"),
        (State(Phase.COMPLETED, Owner.DESTINATION, guest=Guest.PAUSED), {}, "said to stand paused"),
        (failed(Owner.DESTINATION, Guest.LOST), {}, "lost, and runs"),
        (failed(Owner.DESTINATION, Guest.LOST), {"d_run": Run.PAUSED}, "the destination has it"),
        (
            failed(Owner.SOURCE, Guest.LOST),
            {"d_process": Process.DEAD, "d_has_run": False},
            "the source has it",
        ),
        (failed(Owner.DESTINATION, Guest.SHUT_DOWN), {}, "powered itself off, and did not"),
        (failed(Owner.DESTINATION, Guest.HELD), {"d_run": Run.PAUSED}, "nothing that happened"),
        (failed(Owner.SOURCE, Guest.UNCONFIRMED), {"d_process": Process.DEAD}, "nothing that happened"),
    ],
)
def test_ends_that_do_not(state: State, others: Fields, why: str) -> None:
    said = false_end(world(MOVED, **others), state, Quirks())
    assert said is not None
    assert why in said


def test_a_process_that_cannot_be_watched_may_leave_it_open() -> None:
    state = failed(Owner.DESTINATION, Guest.HELD)
    assert false_end(world(MOVED, d_process=Process.DEAD), state, Quirks(processes_watched=False)) is None
