"""What must hold, judged by what is true."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from whimbrel.engine.states import Fact, Guest, Owner, Phase, State
from whimbrel.engine.states import Side as SideName
from whimbrel.sim.checkers import SEEN_NS, Witness
from whimbrel.sim.explorer.world import Breach


@dataclass
class Seen:
    """A QEMU as it is looked at."""

    alive: bool = True
    guest_runs: bool = True
    run_state: str = "running"
    migration_status: str = "active"

    def stands(self, run_state: str, status: str) -> None:
        """Its guest stands."""
        self.guest_runs, self.run_state, self.migration_status = False, run_state, status

    def runs(self, status: str) -> None:
        """Its guest runs."""
        self.guest_runs, self.run_state, self.migration_status = True, "running", status

    def dies(self) -> None:
        """Its process ends."""
        self.alive = self.guest_runs = False


class Bench:
    """A migration that is looked at."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.source = Seen()
        self.destination = Seen(guest_runs=False, run_state="inmigrate")
        self.witness = Witness(lambda: self.now_ns, self.source)
        self.witness.destination = self.destination

    def look(self, *, glance: bool = False) -> list[Breach]:
        """Look, and say what is broken by now."""
        self.now_ns += 1_000_000
        if glance:
            self.witness.glance()
        else:
            self.witness.look()
        return [each.breach for each in self.witness.broken]

    def moved(self) -> None:
        """The guest was moved as it should be."""
        self.source.stands("finish-migrate", "device")
        self.look()
        self.source.stands("postmigrate", "completed")
        self.destination.stands("paused", "completed")
        self.look()
        self.destination.runs("completed")
        self.look()


@pytest.mark.parametrize("glance", [True, False])
def test_a_move_that_goes_well_breaks_nothing_and_its_outage_is_measured(glance: bool) -> None:
    bench = Bench()
    bench.look(glance=glance)
    bench.source.stands("finish-migrate", "device")
    bench.look(glance=glance)
    bench.source.stands("postmigrate", "completed")
    bench.destination.stands("paused", "completed")
    bench.look(glance=glance)
    bench.destination.runs("completed")
    assert bench.look(glance=glance) == []
    assert bench.witness.outage_ns == 2_000_000
    assert bench.witness.d_has_run
    assert bench.witness.whole_ns == bench.witness.resumed_ns


@pytest.mark.parametrize("glance", [True, False])
def test_with_post_copy_the_guest_is_whole_when_its_memory_is_there(glance: bool) -> None:
    bench = Bench()
    told: list[int] = []
    bench.witness.on_whole = lambda: told.append(bench.now_ns)
    bench.look(glance=glance)
    bench.source.stands("finish-migrate", "postcopy-active")
    bench.destination.stands("paused", "postcopy-active")
    bench.look(glance=glance)
    bench.destination.runs("postcopy-active")
    bench.look(glance=glance)
    bench.look(glance=glance)
    assert (bench.witness.resumed_ns, bench.witness.whole_ns) == (3_000_000, None)
    bench.destination.migration_status = "completed"
    for _ in range(2):
        bench.look(glance=glance)
    assert bench.witness.whole_ns == 5_000_000
    assert told == [5_000_000]


def test_two_running_guests_are_seen() -> None:
    bench = Bench()
    bench.destination.runs("completed")
    assert bench.look() == [Breach.TWO_RUNNING]
    assert bench.look() == [Breach.TWO_RUNNING]  # each is taken down once


def test_a_source_that_runs_after_its_guest_has_run_elsewhere_is_not_whole() -> None:
    bench = Bench()
    bench.moved()
    bench.destination.dies()
    bench.source.runs("completed")
    assert bench.look() == [Breach.NOT_WHOLE]


def test_a_destination_whose_source_ran_since_is_not_whole() -> None:
    bench = Bench()
    bench.source.stands("finish-migrate", "device")
    bench.look()
    bench.source.runs("failed")
    bench.look()
    bench.source.dies()
    bench.destination.runs("completed")
    assert bench.look() == [Breach.NOT_WHOLE]


def test_a_destination_that_runs_before_it_has_everything_is_not_whole() -> None:
    bench = Bench()
    bench.source.stands("finish-migrate", "device")
    bench.look()
    bench.destination.runs("active")
    assert bench.look() == [Breach.NOT_WHOLE]


def test_in_post_copy_it_may_run_though_its_pages_are_on_the_way() -> None:
    bench = Bench()
    bench.source.stands("finish-migrate", "postcopy-active")
    bench.destination.runs("postcopy-active")
    assert bench.look() == []
    assert bench.witness.postcopy_began


def test_a_cancel_after_migrate_continue_is_seen_and_one_before_is_none() -> None:
    bench = Bench()
    bench.witness.commanded(SideName.SOURCE, "migrate_cancel")
    assert bench.look() == []
    bench.witness.commanded(SideName.SOURCE, "migrate-continue")
    bench.witness.commanded(SideName.SOURCE, "migrate_cancel")
    assert bench.look() == [Breach.CANCEL_AFTER_CONTINUE]


def test_a_source_is_not_told_to_run_in_post_copy() -> None:
    bench = Bench()
    bench.source.stands("finish-migrate", "postcopy-paused")
    bench.destination.stands("paused", "postcopy-paused")
    bench.look()
    bench.witness.commanded(SideName.SOURCE, "cont")
    assert bench.look() == [Breach.SOURCE_AFTER_POSTCOPY]


@pytest.mark.parametrize("case", ["runs", "only copy", "needed", "moved", "just died", "long dead"])
def test_a_source_is_ended_only_where_nobody_needs_it(case: str) -> None:
    bench = Bench()
    if case == "needed":
        bench.source.stands("finish-migrate", "postcopy-active")
        bench.destination.runs("postcopy-active")
        bench.look()
    elif case == "only copy":
        bench.source.stands("finish-migrate", "device")
        bench.look()
    elif case == "moved":
        bench.moved()
    elif case.endswith(("died", "dead")):
        bench.source.stands("postmigrate", "completed")
        bench.destination.stands("paused", "completed")
        bench.look()
        bench.destination.dies()
        bench.look()
        bench.now_ns += SEEN_NS if case == "long dead" else 0
    bench.witness.commanded(SideName.SOURCE, "quit")
    assert (bench.look() == [Breach.OWNER_KILLED]) is (case not in ("moved", "just died"))


@pytest.mark.parametrize("case", ["has run", "only copy", "source has it", "is gone"])
def test_a_destination_is_ended_only_where_nobody_needs_it(case: str) -> None:
    bench = Bench()
    if case == "has run":
        bench.moved()
    elif case != "is gone":
        bench.source.stands("postmigrate", "completed")
        bench.destination.stands("paused", "completed")
        if case == "only copy":
            bench.source.dies()
        bench.look()
    else:
        bench.destination.dies()
    bench.witness.destination_is_killed()
    assert (bench.look() == [Breach.OWNER_KILLED]) is (case in ("has run", "only copy"))


SENT = frozenset({Fact.MIGRATE_SENT})


def end(phase: Phase, owner: Owner, guest: Guest | None, facts: frozenset[Fact] = SENT) -> State:
    """An end."""
    return State(phase=phase, owner=owner, guest=guest, facts=facts)


def test_ends_that_are_so_are_believed() -> None:
    bench = Bench()
    bench.witness.judge_end(end(Phase.FAILED, Owner.SOURCE, Guest.RUNNING))
    bench.witness.judge_end(end(Phase.CANCELLED, Owner.SOURCE, Guest.RUNNING))
    bench.witness.judge_end(end(Phase.FAILED, Owner.SOURCE, Guest.UNCONFIRMED, frozenset()))
    bench.moved()
    bench.witness.judge_end(end(Phase.COMPLETED, Owner.DESTINATION, Guest.RUNNING))
    bench.destination.dies()
    bench.witness.told_to_run = True
    bench.witness.judge_end(end(Phase.FAILED, Owner.DESTINATION, Guest.LOST))
    assert bench.witness.broken == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (end(Phase.FAILED, Owner.SOURCE, None), "does not say"),
        (end(Phase.COMPLETED, Owner.SOURCE, Guest.RUNNING), "not the owner"),
        (end(Phase.CANCELLED, Owner.DESTINATION, Guest.RUNNING), "not the owner"),
        (end(Phase.FAILED, Owner.LIMBO, Guest.RUNNING), "nobody is named"),
        (end(Phase.FAILED, Owner.DESTINATION, Guest.HELD), "runs at the side that is not the owner"),
        (end(Phase.FAILED, Owner.SOURCE, Guest.PAUSED), "stand paused, and runs"),
        (end(Phase.FAILED, Owner.SOURCE, Guest.LOST), "lost, and runs"),
        (end(Phase.FAILED, Owner.SOURCE, Guest.SHUT_DOWN), "powered itself off"),
        (end(Phase.FAILED, Owner.SOURCE, Guest.HELD), "needful"),
    ],
)
def test_ends_that_are_not_so_are_found_out(state: State, words: str) -> None:
    """The guest runs at the source all the while."""
    bench = Bench()
    bench.witness.judge_end(state)
    (broken,) = bench.witness.broken
    assert broken.breach is Breach.WRONG_END
    assert words in str(broken)


def test_a_guest_that_does_not_run_is_not_said_to_nor_to_be_lost_where_it_is() -> None:
    bench = Bench()
    bench.source.stands("paused", "failed")
    bench.witness.judge_end(end(Phase.FAILED, Owner.SOURCE, Guest.RUNNING))
    assert "does not" in bench.witness.broken[0].how
    other = Bench()
    other.source.stands("paused", "failed")
    other.witness.judge_end(end(Phase.FAILED, Owner.SOURCE, Guest.LOST))
    assert "the source has it" in other.witness.broken[0].how
    third = Bench()
    third.source.dies()
    third.destination.stands("paused", "completed")
    third.witness.judge_end(end(Phase.FAILED, Owner.SOURCE, Guest.LOST))
    assert "the destination has it" in third.witness.broken[0].how


def test_in_post_copy_whose_source_ended_the_guest_is_lost_though_its_cpus_run() -> None:
    bench = Bench()
    bench.source.stands("finish-migrate", "postcopy-active")
    bench.destination.runs("postcopy-active")
    bench.look()
    bench.source.dies()
    bench.look()
    bench.witness.judge_end(end(Phase.FAILED, Owner.DESTINATION, Guest.LOST))
    assert bench.witness.broken == []


def test_an_end_may_be_open_where_nobody_could_know() -> None:
    bench = Bench()
    bench.witness.excused = "block-source"
    bench.witness.judge_end(end(Phase.FAILED, Owner.SOURCE, Guest.HELD))
    assert bench.witness.broken == []
