"""What policies of the swarm do besides."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Objectives, Observation, Reason
from whimbrel.sim import trial
from whimbrel.sim.driver import Driver
from whimbrel.sim.trial import Trial
from whimbrel.sim.trial_steering import Steered, Steering

ASKED = Observation(reason=Reason.SETUP)


def test_they_look_first_once_and_then_begin() -> None:
    policy = Steered(Fixed(), Steering(windows_s=(0.5,), wait_s=1.0, throttle=0.3, act="postcopy", act_at_s=2.0))
    first, second = policy(ASKED), policy(ASKED)
    assert (first.measure_s, first.not_yet_s) == ((0.5,), 1.0)
    assert (second.measure_s, second.not_yet_s) == ((), None)
    assert second.outside_throttle == 0.3
    assert second.capabilities == {"postcopy-ram": True}
    early, late = (policy(Observation(reason=Reason.TICK, elapsed_s=at_s)) for at_s in (1.0, 2.0))
    assert (early.start_postcopy, late.start_postcopy) == (False, True)


def test_one_that_does_nothing_decides_as_the_other() -> None:
    policy = Steered(Fixed(), Steering())
    for seen in (ASKED, Observation(reason=Reason.TICK, elapsed_s=9.0)):
        assert policy(seen) == Fixed()(seen)


def test_whatever_is_drawn_is_allowed_and_every_kind_comes_up() -> None:
    drawn = [Steering.drawn(Random(seed)) for seed in range(200)]
    assert {each.act for each in drawn} == {"", "pause", "postcopy", "abort"}
    assert {len(each.windows_s) for each in drawn} == {0, 1, 2}
    goal = drawn[0].allowed(Objectives(downtime_s=0.1))
    assert (goal.downtime_s, goal.may_abort, goal.may_pause, goal.may_postcopy) == (0.1, True, True, True)
    assert goal.greatest_throttle >= 0.8


@pytest.mark.parametrize(
    ("steering", "said"),
    [
        (Steering(windows_s=(0.2,), wait_s=0.5), '"kind":"measured"'),
        (Steering(throttle=0.8), '"outside_throttle":0.8'),
        (Steering(act="postcopy", act_at_s=0.05), '"signal":"postcopy-chosen"'),
        (Steering(act="abort", act_at_s=0.05), '"signal":"given-up"'),
        (Steering(act="pause", act_at_s=0.05), '"downtime_limit_s":2000.0'),
    ],
    ids=["measures", "slows", "post-copy", "abort", "pause"],
)
def test_in_a_trial_they_do_so(steering: Steering, said: str) -> None:
    drawn = Trial.drawn(5)
    heavy = tuple(replace(each, rate_bytes_per_s=1e12) for each in drawn.scenario.guest.writers)
    guest = replace(drawn.scenario.guest, writers=heavy)
    scenario = replace(drawn.scenario, guest=guest, objectives=steering.allowed(Objectives(downtime_s=0.05)))
    one = replace(drawn, scenario=scenario, steering=steering, faults=(), watched=True)
    found = trial.run(one)
    assert found.broken == ()
    assert any(said in line for line in found.log)
    assert one.described()["steering"]["act"] == steering.act


def test_a_source_that_is_left_slowed_is_found_out() -> None:
    class Forgetful(Driver):
        """Goes on to renew its lease for ever."""

        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)  # type: ignore[arg-type]
            self.procedures.helm.give_back = lambda: None  # type: ignore[method-assign]

    calm = replace(Trial.drawn(5), faults=(), watched=True, steering=Steering(throttle=0.8), keep_source=True)
    scenario = replace(calm.scenario, objectives=Objectives(downtime_s=1.0, greatest_throttle=0.9))
    found = trial.run(replace(calm, scenario=scenario), make_driver=Forgetful)
    assert [each.how for each in found.broken] == ["the source's vCPUs are still slowed from outside"]
