"""Which migrations are predicted and then made."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from benchmarks.foresight.design import (
    COUNTS,
    JUDGED,
    LEARNT,
    LINKS_MBIT,
    PATTERNS,
    POLICIES,
    QUICK,
    RAM_MIB,
    RATIOS,
    TRIED,
    Case,
    cases,
    goodput_bytes_per_s,
)
from benchmarks.guests import MIB
from whimbrel.policies import resolve

STAGES = (LEARNT, TRIED, JUDGED)
ALL = [case for stage in STAGES for case in cases(stage)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_design_follows_from_its_seed_alone(stage: str) -> None:
    assert cases(stage) == cases(stage)
    assert len(cases(stage)) == COUNTS[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_quick_design_is_the_beginning_of_the_whole_one(stage: str) -> None:
    assert cases(stage, quick=True) == cases(stage)[: QUICK[stage]]


def test_no_migration_is_in_two_designs() -> None:
    assert len({(case.classes, case.link_mbit) for case in ALL}) == len(ALL)
    assert len({case.seed for case in ALL}) == len({case.name for case in ALL}) == len(ALL)


@pytest.mark.parametrize("stage", STAGES)
def test_every_level_comes_as_often_as_every_other(stage: str) -> None:
    design = cases(stage)
    for levels, found in (
        (PATTERNS, Counter(case.pattern for case in design)),
        (LINKS_MBIT, Counter(case.link_mbit for case in design)),
        (POLICIES, Counter(case.policy_name for case in design)),
    ):
        assert set(found) == set(levels)
        assert max(found.values()) - min(found.values()) <= 1


def test_the_judged_ones_reach_from_a_tenth_of_the_link_to_twice_as_much() -> None:
    ratios = sorted(case.ratio for case in cases(JUDGED))
    assert RATIOS[0] <= ratios[0] < 1.2 * RATIOS[0]
    assert 0.9 * RATIOS[1] < ratios[-1] <= RATIOS[1]
    assert 0.3 < sum(ratio > 0.75 for ratio in ratios) / len(ratios) < 0.7


def test_neighbours_differ() -> None:
    """What drifts over time hits no pattern, policy or link alone."""
    design = cases(JUDGED)
    for first, second in itertools.pairwise(design):
        assert (first.pattern, first.policy_name, first.link_mbit) != (
            second.pattern,
            second.policy_name,
            second.link_mbit,
        )


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_case_is_one_that_can_be_had(case: Case) -> None:
    guest = case.guest
    assert guest.spec.size_bytes < guest.ram_bytes <= RAM_MIB[1] * MIB
    assert guest.ram_bytes % (256 << 10)  # a size at which 7.2 does not lose writes
    rate = sum(each.rate_bytes_per_s for each in guest.spec.classes)
    assert rate / goodput_bytes_per_s(case.link_mbit) == pytest.approx(case.ratio, rel=0.01)
    written = [each for each in guest.spec.classes if each.rate_bytes_per_s]
    assert len(written) == (2 if case.pattern == "two classes" else 1)
    first_pass_s = guest.spec.size_bytes / goodput_bytes_per_s(case.link_mbit)
    assert first_pass_s < case.deadline_s / 2
    assert callable(resolve(case.policy))


def test_a_policy_may_do_what_it_is_there_for_and_nothing_else() -> None:
    for case in ALL:
        throttles = case.policy_name in ("auto_converge", "throttle_to_fit", "predictive")
        assert (case.objectives.greatest_throttle > 0) is throttles
        assert case.objectives.may_postcopy is (case.policy_name == "hybrid_after")


def test_whoever_holds_a_limit_gives_qemu_half_of_what_is_allowed() -> None:
    for case in ALL:
        found = re.search(r"downtime_limit=(\d+)ms", case.policy)
        assert (found is not None) is (case.policy_name in ("fixed", "auto_converge", "hybrid_after"))
        assert found is None or int(found[1]) / 1e3 == case.objectives.downtime_s / 2
