"""Slowing the guest, from outside of QEMU or by its own throttle."""

from __future__ import annotations

from typing import Any

import pytest

from whimbrel.engine.policies.predictive_brake import ASLEEP, DEAF_AFTER, Brake
from whimbrel.engine.policy import Abilities, Decision, Objectives, Observation, Reason

GOAL = Objectives(greatest_throttle=0.8)
HERE = Abilities(outside_throttle=True)
FAR = Abilities(capabilities=frozenset({"auto-converge"}))


def at(abilities: Abilities, **what: Any) -> Observation:
    given: dict[str, Any] = {"reason": Reason.ITERATION, "objectives": GOAL, "abilities": abilities} | what
    return Observation(**given)


def test_from_outside_it_holds_at_once_and_is_asked_for_when_it_is_time() -> None:
    brake = Brake()
    assert brake.setup(at(HERE), Decision()) == (Decision(), "a throttle of 80% at most, from outside")
    assert brake.least_waits(at(HERE)) == 0
    assert brake.take(at(HERE), 0.6, Decision(), waits=1) == Decision()
    assert brake.take(at(HERE), 0.6, Decision()).outside_throttle == 0.6
    assert brake.take(at(HERE), 0.6, Decision()) == Decision()
    assert brake.in_force(at(HERE)) == 0.6
    assert brake.take(at(HERE), 0.0, Decision()).outside_throttle == 0.0


def test_what_can_not_be_held_any_more_is_not_in_force() -> None:
    brake = Brake()
    brake.take(at(HERE), 0.6, Decision())
    assert brake.in_force(at(FAR)) == 0.0


def test_qemus_own_stands_by_asleep_and_is_woken_one_pass_ahead() -> None:
    brake = Brake()
    decision, words = brake.setup(at(FAR), Decision(capabilities={"xbzrle": True}))
    assert decision.capabilities == {"xbzrle": True, "auto-converge": True}
    assert decision.throttle_initial == decision.throttle_ceiling == ASLEEP
    assert words == "a throttle of 80% at most, by QEMU's own"
    assert brake.least_waits(at(FAR)) == 1
    later = brake.take(at(FAR), 0.7, Decision(), waits=2)
    assert later.throttle_trigger == 1.0
    assert later.throttle_initial is None
    woken = brake.take(at(FAR), 0.7, Decision(), waits=1)
    assert (woken.throttle_initial, woken.throttle_ceiling, woken.throttle_trigger) == (0.7, 0.7, 0.01)


def test_it_rises_by_what_is_wanting_and_never_falls() -> None:
    brake = Brake()
    brake.setup(at(FAR), Decision())
    assert brake.take(at(FAR, throttle=0.5), 0.7, Decision()).throttle_increment == pytest.approx(0.2)
    assert brake.take(at(FAR, throttle=0.5), 0.4, Decision()) == Decision()


def test_one_that_does_not_move_is_not_counted_on() -> None:
    brake = Brake()
    brake.setup(at(FAR), Decision())
    assert brake.greatest(at(FAR)) == 0.8
    for _ in range(DEAF_AFTER + 1):
        brake.take(at(FAR), 0.7, Decision())
    assert brake.greatest(at(FAR)) == 0.0
    assert brake.greatest(at(FAR, throttle=0.7)) == 0.8


def test_where_there_is_none_or_it_is_not_wanted_nothing_is_asked_for() -> None:
    none, unwanted = Brake(), Brake(allowed=False)
    assert none.setup(at(Abilities()), Decision())[1] == "no throttle, for this pair of QEMUs has no auto-converge"
    assert unwanted.setup(at(HERE), Decision()) == (Decision(), "no throttle, as told")
    for brake, seen in ((none, at(Abilities())), (unwanted, at(HERE))):
        assert brake.greatest(seen) == 0.0
        assert brake.take(seen, 0.5, Decision()) == Decision()
        assert brake.in_force(seen) == 0.0


def test_given_up_it_is_not_to_be_had_any_more() -> None:
    brake = Brake()
    brake.give_up()
    assert brake.greatest(at(HERE)) == 0.0


def test_a_quota_from_outside_lets_a_vcpu_run_for_a_shorter_time_than_qemu_does() -> None:
    assert Brake().slice_s(at(HERE)) < Brake().slice_s(at(FAR))
