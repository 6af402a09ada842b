"""The registry of policies: what is named is there, serves, and is what an installed Whimbrel offers."""

from __future__ import annotations

import importlib.metadata
import inspect
from dataclasses import replace

import pytest

from tests.support.asking import ended
from whimbrel.engine import policies
from whimbrel.engine.pilot import check_sense
from whimbrel.engine.policies import BUILT_IN
from whimbrel.engine.policy import Abilities, Objectives, Observation, Reason

SETUP = Observation(reason=Reason.SETUP)
FREE = Objectives(greatest_throttle=0.99, may_abort=True, may_pause=True, may_postcopy=True)
ABLE = Abilities(
    capabilities=frozenset({"auto-converge", "postcopy-ram", "dirty-limit", "xbzrle"}),
    outside_throttle=True,
    measuring=True,
)


def test_the_entry_points_of_this_package_are_the_registry() -> None:
    """By name and by what they lead to; those of other packages are not looked at."""
    points = importlib.metadata.distribution("whimbrel").entry_points.select(group="whimbrel.policies")
    assert {point.name: point.load() for point in points} == dict(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_stands_in_a_module_of_its_name(name: str) -> None:
    assert BUILT_IN[name].__module__ == f"{policies.__name__}.{name}"


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_says_in_one_line_what_it_does(name: str) -> None:
    first = (inspect.getdoc(BUILT_IN[name]) or "").partition("\n")[0]
    assert first.endswith(".")


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_is_made_without_parameters_and_makes_sense_at_every_occasion(name: str) -> None:
    """Also where it may do nothing, where it may do everything, and while nothing to speak of was seen of the guest."""
    seen = {reason: replace(SETUP, reason=reason) for reason in Reason}
    seen[Reason.ITERATION] = replace(seen[Reason.ITERATION], iteration=2, iterations=(ended(1, 0.0, 0.0),))
    for objectives, abilities in ((Objectives(), Abilities()), (FREE, ABLE)):
        policy = BUILT_IN[name]()
        for each in seen.values():
            check_sense(policy(replace(each, objectives=objectives, abilities=abilities)))


def test_every_public_class_is_exported() -> None:
    assert {made.__name__ for made in BUILT_IN.values() if inspect.isclass(made)} <= set(policies.__all__)
