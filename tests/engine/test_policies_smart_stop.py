"""``smart_stop``: no more progress first, then a low point."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.asking import boundary, ended, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import SmartStop
from whimbrel.engine.policy import Decision, Objectives
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20


def play(policy: SmartStop, *left_mib: int, objectives: Objectives | None = None) -> list[Decision]:
    """What is decided at passes that begin with so much left, the first of which sends all of it."""
    said: list[Decision] = []
    for number, (before, left) in enumerate(pairwise(left_mib), start=2):
        last = ended(number - 1, 0.0, 1.0, remaining_at_start_bytes=before * MIB, sent_bytes=before * MIB)
        what = {} if objectives is None else {"objectives": objectives}
        said.append(policy(boundary(number, iteration=number, iterations=(last,), remaining_bytes=left * MIB, **what)))
    return said


def stops(said: list[Decision]) -> list[bool]:
    return [decision.pause for decision in said]


def test_while_passes_make_progress_nothing_is_decided() -> None:
    assert play(SmartStop(), 1000, 500, 250, 125) == [Decision()] * 3


def test_then_it_stops_at_the_first_pass_that_is_no_more_than_the_last_three() -> None:
    """40 after 30 ends the progress; 35 comes too early for a window of three, 50 and 45 are no low points, 33 is."""
    said = play(SmartStop(), 1000, 100, 30, 40, 35, 50, 45, 33)
    assert stops(said) == [False, False, False, False, False, False, True]
    assert said[2].because == "30 MiB sent, 40 MiB dirtied"
    assert said[5].because == "45 MiB left, waiting for 35 or less"
    assert said[6].because == "33 MiB left, the least of the last 3 was 35"


def test_what_left_the_window_does_not_count() -> None:
    """The 10 at which progress ended is forgotten after three passes."""
    assert stops(play(SmartStop(), 10, 10, 60, 50, 40, 50, 45, 40)) == [False] * 6 + [True]


def test_a_steady_plateau_counts_as_no_progress_and_as_low() -> None:
    assert stops(play(SmartStop(), 80, 80, 80, 80, 80)) == [False, False, False, True]


def test_a_window_of_one_takes_the_first_that_falls() -> None:
    assert stops(play(SmartStop(window=1), 30, 40, 50, 45)) == [False, False, True]


def test_without_a_pause_the_rest_must_fit() -> None:
    decision = play(SmartStop(window=1), 30, 30, 30, objectives=Objectives())[-1]
    assert decision.switch_over
    assert "pausing is not allowed" in decision.because


def test_it_decides_at_the_start_of_a_pass_only() -> None:
    assert SmartStop()(setup()).downtime_limit_s == 0.001
    assert SmartStop()(tick(1.0)) == SmartStop()(boundary(0.0)) == Decision()


def test_a_low_point_of_a_guest_in_cycles_is_found() -> None:
    """High for 2 s of 4: the outage is that of the low phase, though no limit says so."""
    writer = Writer(name="w", size_bytes=96 * MIB, rate_bytes_per_s=200 * MIB, period_s=4.0, duty=0.5)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=128 * MIB, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=64 * MIB),
        objectives=Objectives(may_pause=True),
        limit_s=60.0,
    )
    outcome = simulate(scenario, 1, SmartStop())
    assert outcome.truth.outage_s is not None
    assert outcome.truth.outage_s < 0.5


def test_there_is_no_window_of_nothing() -> None:
    with pytest.raises(BadInput, match="window"):
        SmartStop(window=0)
