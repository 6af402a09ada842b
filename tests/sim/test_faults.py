"""What goes wrong, and when."""

from __future__ import annotations

from random import Random

import pytest

from whimbrel.engine.signals import Command
from whimbrel.engine.states import Side as SideName
from whimbrel.sim.faults import REFUSABLE, WISHES, Fault, Kind, Moment, draw
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import World

SMALL = Scenario(
    guest=GuestPlan(ram_bytes=8 << 20, writers=(Writer(name="w", size_bytes=1 << 20, rate_bytes_per_s=1e6),)),
    link=LinkPlan(bandwidth_bytes_per_s=16e6, pipe_bytes=64_000),
    policy="fixed",
    limit_s=60.0,
)
"""Half a second."""


class Tried:
    """The small migration with faults, run to its end."""

    def __init__(self, *faults: Fault, watched: bool = True) -> None:
        self.told: list[str] = []
        self.world = World(SMALL, 5, faults=faults, watched=watched, tell=self.told.append)
        self.world.run()
        (self.pair,) = self.world.pairs
        assert self.pair.driver is not None
        report = self.pair.driver.report
        assert report is not None
        self.end = f"{report.outcome} {report.owner} {report.guest}"
        (havoc,) = self.world.havocs
        assert havoc is not None
        self.struck = [(at_s, fault.kind) for at_s, fault in havoc.done]
        assert self.pair.witness.broken == []

    def kinds(self) -> list[str]:
        """The kinds of the log's lines."""
        return [line["kind"] for line in self.pair.log.records()]


def at(kind: Kind, at_s: float, **more: object) -> Fault:
    """A fault at a time."""
    return Fault(kind=kind, moment=Moment(at_s=at_s), **more)  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_and_no_two_kinds_are_left_out() -> None:
    assert draw(Random(3), expected_s=1.0, postcopy=True) == draw(Random(3), expected_s=1.0, postcopy=True)
    drawn = [fault for seed in range(400) for fault in draw(Random(seed), expected_s=1.0, postcopy=seed % 2 == 0)]
    assert {fault.kind for fault in drawn} == set(Kind)
    assert all(str(fault) for fault in drawn)
    assert all(fault.command[1] in REFUSABLE for fault in drawn if fault.kind is Kind.REFUSE and fault.command)


def test_post_copy_is_chosen_only_where_it_can_be_done() -> None:
    for seed in range(100):
        kinds = [fault.kind for fault in draw(Random(seed), expected_s=1.0, postcopy=False)]
        assert Kind.POSTCOPY not in kinds


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (at(Kind.KILL_SOURCE, 0.2), "failed source lost"),
        (at(Kind.KILL_DESTINATION, 0.2), "failed source running"),
        (at(Kind.FAIL_DESTINATION, 0.2), "failed source running"),
        (at(Kind.RESET, 0.2), "failed source running"),
        (at(Kind.OUTAGE, 0.2, span_s=1.0), "completed destination running"),
        (at(Kind.CLOG, 0.2, span_s=1.0), "completed destination running"),
        (at(Kind.OUTAGE, 0.2, span_s=80.0), "failed source running"),
        (at(Kind.FREEZE_SOURCE, 0.2, span_s=2.0), "completed destination running"),
        (at(Kind.FREEZE_DESTINATION, 0.2, span_s=2.0), "completed destination running"),
        (at(Kind.CUT_SOURCE, 0.2), "completed destination running"),
        (at(Kind.CUT_DESTINATION, 0.2), "completed destination running"),
        (at(Kind.BLOCK_SOURCE, 0.2, span_s=2.0), "completed destination running"),
        (at(Kind.KILL_MANAGER, 0.2, span_s=3.0), "completed destination running"),
        (at(Kind.FREEZE_MANAGER, 0.2, span_s=3.0), "completed destination running"),
        (at(Kind.LIE_TOTALS, 0.2), "completed destination running"),
        (at(Kind.LIE_RUN_STATE, 0.2), "completed destination running"),
        (at(Kind.CANCEL, 0.2), "cancelled source running"),
        (at(Kind.STOP_GUEST, 0.2), "completed destination paused"),
    ],
)
def test_after_a_single_fault_the_guest_is_where_the_documentation_says(fault: Fault, end: str) -> None:
    tried = Tried(fault)
    assert tried.end == end
    (struck,) = tried.struck
    assert struck[0] == pytest.approx(0.2)
    assert struck[1] is fault.kind


@pytest.mark.parametrize(
    ("kind", "side", "command", "end"),
    [
        (Kind.LOSE, SideName.SOURCE, "migrate-continue", "failed source running"),
        (Kind.LOSE_ANSWER, SideName.SOURCE, "migrate-continue", "completed destination running"),
        (Kind.LOSE_ANSWER, SideName.DESTINATION, "cont", "completed destination running"),
        (Kind.REFUSE, SideName.SOURCE, "migrate", "failed source running"),
        (Kind.REFUSE, SideName.DESTINATION, "migrate-incoming", "failed source running"),
        (Kind.LATE, SideName.SOURCE, "migrate", "completed destination running"),
        (Kind.LATE_ANSWER, SideName.SOURCE, "migrate", "completed destination running"),
    ],
)
def test_a_fault_of_a_command_hits_the_next_of_its_name(kind: Kind, side: SideName, command: str, end: str) -> None:
    tried = Tried(Fault(kind=kind, moment=Moment(), span_s=0.05, command=(side, command)))
    assert [struck for _, struck in tried.struck] == [kind]
    if (kind, command) != (Kind.LOSE, "migrate-continue"):
        assert tried.end == end
    else:  # it never got there: the source waits, and is told again or called off
        assert tried.end in (end, "completed destination running")


def test_a_fault_at_an_order_comes_when_that_is_given_and_so_much_later() -> None:
    tried = Tried(
        Fault(kind=Kind.CUT_SOURCE, moment=Moment(order=Command.MIGRATE, delay_s=0.1)),
    )
    assert tried.pair.migrate_ns is not None
    (struck,) = tried.struck
    assert struck[0] == pytest.approx(tried.pair.migrate_ns / 1e9 + 0.1)


def test_a_fault_at_a_status_comes_when_that_is_reached() -> None:
    tried = Tried(Fault(kind=Kind.KILL_SOURCE, moment=Moment(status=(SideName.SOURCE, "completed"))))
    assert tried.end == "completed destination running"
    assert len(tried.struck) == 1


def test_a_fault_whose_moment_never_comes_does_nothing() -> None:
    tried = Tried(Fault(kind=Kind.KILL_SOURCE, moment=Moment(order=Command.SEND_AGAIN)))
    assert (tried.end, tried.struck) == ("completed destination running", [])


def test_a_new_manager_writes_the_same_log_on() -> None:
    kinds = Tried(at(Kind.KILL_MANAGER, 0.2, span_s=0.1)).kinds()
    assert kinds[0] == "header"
    assert kinds[-1] == "end"
    assert kinds.count("adopted") == 1


def test_what_is_set_off_and_healed_is_told_with_its_time() -> None:
    told = Tried(at(Kind.OUTAGE, 0.2, span_s=0.5)).told
    assert told[0].startswith("0.200000 outage fault")
    assert told[1] == "0.700000 outage is over"


@pytest.mark.parametrize(
    ("faults", "watched", "excused"),
    [
        ((at(Kind.CUT_SOURCE, 0.2),), True, False),
        ((at(Kind.BLOCK_SOURCE, 0.2, span_s=0.1),), True, True),
        ((at(Kind.CUT_SOURCE, 0.2), at(Kind.CUT_DESTINATION, 0.25)), True, True),
        ((at(Kind.KILL_DESTINATION, 0.2),), True, False),
        ((at(Kind.KILL_DESTINATION, 0.2),), False, True),
    ],
)
def test_an_end_may_be_open_only_after_what_leaves_nobody_able_to_know(
    faults: tuple[Fault, ...], watched: bool, excused: bool
) -> None:
    assert bool(Tried(*faults, watched=watched).pair.witness.excused) is excused


def test_a_wish_is_no_fault() -> None:
    assert Kind.CANCEL in WISHES
    assert "wish" in Tried(at(Kind.CANCEL, 0.2)).told[0]


def test_moments_read_as_what_they_are() -> None:
    assert str(Moment(at_s=1.5)) == "at 1.500000 s"
    assert str(Moment(order=Command.CLAIM, nth=2, delay_s=0.001)) == "at claim (2.) + 1.000 ms"
    assert str(Moment(status=(SideName.SOURCE, "device"))) == "when the source is device"
