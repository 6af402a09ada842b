"""Conditions: what they compare, and that what is not known fulfils none."""

from __future__ import annotations

import pytest

from tests.support.asking import boundary, ended, setup, tick
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies.conditions import QUANTITIES, Condition
from whimbrel.engine.policy import Knobs

HALF = ended(1, 0.0, 2.0, remaining_at_start_bytes=100, remaining_at_end_bytes=10, dirtied_bytes=40, sent_bytes=90)
"""It left 50 of 100."""
SEEN = boundary(
    7.0,
    iteration=2,
    iterations=(HALF,),
    remaining_bytes=45,
    transferred_bytes=90,
    bandwidth_bytes_per_s=30.0,
    dirty_bytes_per_s=20.0,
    throttle=0.3,
)


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("iteration", 2),
        ("elapsed_s", 7.0),
        ("remaining_bytes", 45),
        ("transferred_bytes", 90),
        ("bandwidth_bytes_per_s", 30.0),
        ("dirty_bytes_per_s", 20.0),
        ("throttle", 0.3),
        ("downtime_s", 1.0),
        ("progress", 0.5),
    ],
)
def test_a_condition_compares_what_is_seen(quantity: str, value: float) -> None:
    holds = {relation: Condition(quantity, relation, value)(SEEN) for relation in (">=", "<=", ">", "<")}
    assert holds == {">=": True, "<=": True, ">": False, "<": False}
    assert Condition(quantity, ">", value - 0.01)(SEEN)
    assert str(Condition(quantity, ">", value)) == f"{quantity} > {value:g}"


def test_every_quantity_is_in_that_list() -> None:
    assert len(QUANTITIES) == 9


def test_what_is_not_known_fulfils_no_condition() -> None:
    for name in set(QUANTITIES) - {"iteration", "elapsed_s", "transferred_bytes", "throttle"}:
        assert not Condition(name, "<", 1e18)(setup())
    nothing = boundary(1.0, iterations=(ended(1, 0.0, 1.0),))
    assert not Condition("progress", "<", 1.0)(nothing)


def test_a_throttle_from_outside_is_one_too() -> None:
    assert Condition("throttle", ">=", 0.5)(tick(1.0, knobs=Knobs(outside_throttle=0.5)))


@pytest.mark.parametrize(("quantity", "relation"), [("weather", "<"), ("iteration", "=")])
def test_other_conditions_are_refused(quantity: str, relation: str) -> None:
    with pytest.raises(BadInput, match="condition"):
        Condition(quantity, relation, 1.0)
