"""What a policy sees and decides are values: frozen, comparable, and empty unless something is said."""

from __future__ import annotations

import dataclasses

import pytest

from whimbrel.engine.policy import Abilities, Decision, Knobs, Objectives, Observation, Reason


def test_nothing_decided_asks_for_nothing() -> None:
    """Every field of a Decision stands at "leave it as it is"."""
    for field in dataclasses.fields(Decision):
        assert not getattr(Decision(), field.name), field.name


@pytest.mark.parametrize(
    "value",
    [Decision(), Objectives(), Knobs(), Abilities(), Observation(reason=Reason.TICK)],
    ids=lambda v: type(v).__name__,
)
def test_a_policy_cannot_change_what_it_is_shown(value: object) -> None:
    assert dataclasses.is_dataclass(value)
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)


def test_the_least_that_is_wanted_of_a_guest_by_default() -> None:
    """No throttle and no giving up unless the user allows it."""
    assert Objectives() == Objectives(
        downtime_s=0.3, deadline_s=None, bandwidth_bytes_per_s=None, greatest_throttle=0.0, may_abort=False
    )


def test_one_value_is_not_shared_between_decisions() -> None:
    assert Decision().capabilities is not Decision().capabilities
