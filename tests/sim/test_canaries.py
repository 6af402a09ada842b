"""Broken builds are broken, and only as long as they are in place."""

from __future__ import annotations

import pytest

from whimbrel.engine.resolve import VERDICTS
from whimbrel.engine.tables import TABLE
from whimbrel.sim import trial
from whimbrel.sim.canaries import BY_NAME, CANARIES, Canary
from whimbrel.sim.swarm import CANARY_SEEDS, seek
from whimbrel.sim.trial import Trial

QUICK = ("cancel-after-continue", "hasty", "out-of-sight", "only-copy", "needed", "endless", "believed", "revive")
"""Found out within a few seeds; all of them are hunted where the swarm runs."""


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_build_is_found_out_by_the_invariant_that_is_there_for_it(name: str) -> None:
    canary = BY_NAME[name]
    found = seek(canary, range(CANARY_SEEDS))
    assert found is not None
    assert any(each.breach in canary.breaks for each in found.broken)
    sound = trial.run(canary.provoked(Trial.drawn(found.seed)))
    assert sound.broken == (), "the seed is broken without the mistake"


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_everything_is_as_it_was_once_it_is_over(canary: Canary) -> None:
    table, verdicts = dict(TABLE), {intent: dict(each) for intent, each in VERDICTS.items()}
    with canary.in_place() as make_driver:
        changed = table != TABLE or verdicts != VERDICTS
        assert changed or make_driver.procedures_of is not canary.procedures.__mro__[1]
        assert make_driver.procedures_of is canary.procedures
    assert (table, verdicts) == (TABLE, VERDICTS)


def test_every_canary_has_a_name_of_its_own_and_says_what_it_breaks() -> None:
    assert len(BY_NAME) == len(CANARIES)
    assert all(canary.breaks and canary.mistake for canary in CANARIES)


def test_faults_that_give_an_occasion_follow_from_the_seed() -> None:
    canary = BY_NAME["out-of-sight"]
    assert canary.provoked(Trial.drawn(1)) == canary.provoked(Trial.drawn(1))
    assert canary.provoked(Trial.drawn(1)).faults != canary.provoked(Trial.drawn(2)).faults
    plain = BY_NAME["needed"]
    assert plain.provoked(Trial.drawn(1)) == Trial.drawn(1)
