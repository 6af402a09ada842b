"""What a plan says in words: ranges, estimates, what was measured, what nobody can beat."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.support.planned import BELIEF, FLOORS, MIB, OBJECTIVES, PLAIN, THROTTLED
from whimbrel.engine.belief import CurvePoint
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.policy import Objectives
from whimbrel.plan_words import (
    around,
    between,
    count,
    give_or_take,
    goals,
    misses,
    of_belief,
    of_costs,
    of_floors,
    share,
    time,
)
from whimbrel.qmp_driver.survey import Costs
from whimbrel.units import format_size


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Range(6.5, 7.1, 8.2), "6.5–8.2s"),
        (Range(0.6, 0.9, 1.2), "600ms–1.2s"),
        (Range(2.0, 2.0, 2.0), "2s"),
        (Range(1.3, 2.0, math.inf), "1.3s–never"),
        (Range(math.inf, math.inf, math.inf), "never"),
    ],
)
def test_a_range_names_its_unit_once(found: Range, words: str) -> None:
    assert between(found, time) == words


def test_a_range_of_other_things_than_times() -> None:
    assert between(Range(0.6, 0.64, 0.71), share) == "60–71%"
    assert between(Range(7.0, 8.5, 11.0), count) == "7–11"
    assert between(Range(1.0 * MIB, 2.0 * MIB, 1024.0 * MIB), format_size) == "1MiB–1GiB"


def test_the_middle_is_told_with_what_it_lies_between_unless_that_is_the_same() -> None:
    assert around(Range(6.5, 7.1, 8.2), time) == "7.1s (6.5–8.2s)"
    assert around(Range(2.0, 2.0, 2.0), time) == "2s"


def test_what_is_not_certain_is_never_told_as_all() -> None:
    assert (share(0.9999), share(1.0), share(0.0), share(0.124)) == ("99%", "100%", "0%", "12%")


def test_an_estimate_says_how_sure_it_is_and_where_it_comes_from() -> None:
    """A spread of 0.03 is 5 % to either side in nine of ten cases."""
    assert give_or_take(Estimate(100.0 * MIB, 0.03, "probed"), format_size) == "100MiB ± 5% (probed)"
    assert give_or_take(Estimate(100.0 * MIB), format_size) == "100MiB (given)"
    assert give_or_take(Estimate(4.0 * MIB, 0.7, "default"), format_size) == (
        "4MiB, give or take a factor of 3.2 (default)"
    )


def test_what_is_wanted_is_told_whole() -> None:
    everything = Objectives(
        downtime_s=0.3,
        deadline_s=60.0,
        bandwidth_bytes_per_s=100 * MIB,
        greatest_throttle=0.8,
        may_postcopy=True,
        may_pause=True,
    )
    assert goals(everything) == (
        "an outage of at most 300ms, over within 1m, at most 100MiB/s sent, a throttle of up to 80%, post-copy, a pause"
    )
    assert goals(Objectives()) == "an outage of at most 300ms"


def test_what_was_measured_is_told_with_its_notes() -> None:
    told = list(of_belief(BELIEF))
    assert told[0] == "RAM: 256MiB, zero pages 96MiB ± 3% (sampled)"
    assert told[1] == "distinct bytes dirtied: 2MiB in 50ms, 12MiB in 500ms, 31MiB in 4s"
    assert "link: 100MiB/s ± 5% (probed)" in told
    assert told[-1] == "A note about the measuring."
    assert not any("delta" in line for line in told)


def test_a_delta_is_told_where_it_was_measured() -> None:
    told = list(of_belief(replace(BELIEF, delta_ratio=Estimate(0.3, 0.0, "sampled"))))
    assert "the delta of a page that changed, as a part of it: 30% (sampled)" in told


@pytest.mark.parametrize("number", [1, 2, 5, 6, 17])
def test_of_many_points_a_few_are_told_with_the_first_and_the_last(number: int) -> None:
    points = tuple(CurvePoint(0.1 * (n + 1), MIB * (n + 1.0), 1.0) for n in range(number))
    line = list(of_belief(replace(BELIEF, points=points)))[1]
    told = line.partition(": ")[2].split(", ")
    assert len(told) <= 5
    assert told[0] == "1MiB in 100ms"
    assert told[-1].startswith(f"{number}MiB in ")
    assert len(set(told)) == len(told)


def test_what_measuring_cost_is_told() -> None:
    costs = Costs(took_s=4.1, read_bytes=64 * MIB, cpu_s=0.12, link_bytes=128 * MIB)
    (line,) = of_costs(costs, 1.2)
    assert line == (
        "took 4.1s to measure, 64MiB of it read in 120ms of CPU time, 128MiB sent over the link; and 1.2s to forecast"
    )
    (line,) = of_costs(replace(costs, read_bytes=0, link_bytes=0), 1.2)
    assert line == "took 4.1s to measure; and 1.2s to forecast"


def test_what_no_policy_can_beat_is_told_with_what_would_do() -> None:
    told = list(of_floors(FLOORS, BELIEF, OBJECTIVES))
    assert told == [
        "sending all RAM once takes 1.6s",
        "no pre-copy can beat an outage of 120ms (100–150ms) at 100MiB/s",
        "QEMU's iterations, left alone, come down to an outage of 1.3s (900ms–never)",
        "for 300ms without a throttle: 130MiB/s (120–150MiB/s)",
        "for 300ms at this bandwidth: a throttle of 55% (50–60%)",
    ]


def test_a_cap_is_the_bandwidth_that_counts() -> None:
    told = list(of_floors(FLOORS, BELIEF, replace(OBJECTIVES, bandwidth_bytes_per_s=50 * MIB)))
    assert told[1].endswith("at 50MiB/s")


def test_what_one_thread_can_send_is_the_bandwidth_where_that_is_less() -> None:
    slow = replace(BELIEF, cpu_bytes_per_s=Estimate(40.0 * MIB))
    assert list(of_floors(FLOORS, slow, OBJECTIVES))[1].endswith("at 40MiB/s")


def test_where_nothing_would_do_that_is_told() -> None:
    never = Range(math.inf, math.inf, math.inf)
    hopeless = replace(FLOORS, plateau_s=never, least_bandwidth_bytes_per_s=None, least_throttle=None)
    told = list(of_floors(hopeless, BELIEF, OBJECTIVES))
    assert "QEMU's iterations, left alone, do not shrink: the guest dirties faster than they are sent" in told
    assert "no bandwidth would do for 300ms without a throttle" in told
    assert "no throttle would do for 300ms at this bandwidth" in told


def test_a_throttle_that_is_not_needed_is_not_told() -> None:
    told = list(of_floors(replace(FLOORS, least_throttle=Range(0.0, 0.0, 0.0)), BELIEF, OBJECTIVES))
    assert not any("at this bandwidth: a throttle" in line for line in told)


def test_misses_are_told_the_likeliest_first() -> None:
    assert misses(THROTTLED) == "misses the downtime in 25%, has no end in 13%"
    assert misses(replace(PLAIN, misses={"downtime": 0.004})) == ""
