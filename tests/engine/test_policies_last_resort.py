"""What is done with a migration that did not converge in time, within what is allowed and possible."""

from __future__ import annotations

import pytest

from tests.support.asking import ALL_ALLOWED, setup, tick
from whimbrel.engine.policies.last_resort import ABORT, ACTIONS, PAUSE, START_POSTCOPY, capabilities, last_resort
from whimbrel.engine.policy import Abilities, Decision, Objectives


def test_each_action_where_all_is_allowed() -> None:
    assert [last_resort(action, tick(9.0), "late") for action in ACTIONS] == [
        Decision(abort=True, because="late: give up"),
        Decision(pause=True, because="late: the guest stands still for the rest"),
        Decision(start_postcopy=True, because="late: post-copy"),
    ]


def test_post_copy_that_is_not_possible_becomes_a_pause_and_says_why() -> None:
    decision = last_resort(START_POSTCOPY, tick(9.0, abilities=Abilities()), "late")
    assert (decision.pause, decision.start_postcopy) == (True, False)
    assert decision.because.endswith("for the rest, for this pair of QEMUs has no postcopy-ram")


@pytest.mark.parametrize("action", [PAUSE, START_POSTCOPY])
def test_without_any_permission_it_asks_for_a_switchover_within_the_downtime(action: str) -> None:
    decision = last_resort(action, tick(9.0, objectives=Objectives()), "late")
    assert (decision.switch_over, decision.pause, decision.start_postcopy) == (True, False, False)
    assert "not allowed" in decision.because


def test_giving_up_is_asked_for_even_where_it_is_not_allowed() -> None:
    """The engine drops it, and says so in the log."""
    assert last_resort(ABORT, tick(9.0, objectives=Objectives()), "late").abort


def test_post_copy_has_to_be_asked_for_at_the_start() -> None:
    assert capabilities(START_POSTCOPY, setup()) == {"postcopy-ram": True}
    assert capabilities(START_POSTCOPY, setup(objectives=Objectives())) == {}
    assert capabilities(START_POSTCOPY, setup(objectives=ALL_ALLOWED, abilities=Abilities())) == {}
    assert capabilities(PAUSE, setup()) == capabilities(ABORT, setup()) == {}
