"""``fixed`` decides once, before the start, and never again."""

from __future__ import annotations

import pytest

from whimbrel.engine.policies.fixed import Fixed
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason

SETUP = Observation(reason=Reason.SETUP, objectives=Objectives(downtime_s=0.25))


def test_without_a_limit_it_takes_all_the_downtime_that_is_allowed() -> None:
    decision = Fixed()(SETUP)
    assert (decision.downtime_limit_s, decision.bandwidth_bytes_per_s) == (0.25, None)
    assert decision.because == "held at 250 ms"


def test_a_limit_and_a_bandwidth_that_are_given_are_taken() -> None:
    decision = Fixed(downtime_limit_s=0.05, bandwidth_bytes_per_s=1000)(SETUP)
    assert (decision.downtime_limit_s, decision.bandwidth_bytes_per_s) == (0.05, 1000)
    assert decision.because == "held at 50 ms"


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.SETUP])
def test_later_it_decides_nothing(reason: Reason) -> None:
    assert Fixed(downtime_limit_s=0.05)(Observation(reason=reason)) == Decision()
