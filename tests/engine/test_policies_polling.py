"""A look every so many seconds, however often the policy is asked between."""

from __future__ import annotations

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.policies.polling import LEAST_WAIT_S, Polls


def test_the_first_look_is_one_interval_after_the_start() -> None:
    polls = Polls(every_s=0.5)
    assert not polls.due(setup())
    assert polls.wait_s(setup()) == 0.5
    assert not polls.due(tick(0.3))
    assert polls.due(tick(0.5))


def test_iterations_between_do_not_put_it_off() -> None:
    """An iteration moves the next tick; what is stated after it is what is left."""
    polls = Polls(every_s=1.0)
    looks = [at_s for at_s in (0.4, 0.8, 1.2, 1.6, 2.0, 2.4) if polls.due(boundary(at_s))]
    assert looks == [1.2, 2.4]
    assert polls.wait_s(boundary(2.7)) == pytest.approx(0.7)


def test_it_counts_from_the_look_and_not_from_when_that_was_due() -> None:
    polls = Polls(every_s=1.0)
    assert polls.due(tick(1.5))
    assert not polls.due(tick(2.4))
    assert polls.due(tick(2.5))


def test_a_millisecond_early_is_in_time() -> None:
    assert Polls(every_s=1.0).due(tick(0.9995))


def test_an_overdue_look_is_asked_for_at_once() -> None:
    assert Polls(every_s=1.0).wait_s(tick(5.0)) == LEAST_WAIT_S


def test_the_interval_may_change_on_the_way() -> None:
    polls = Polls(every_s=1.0)
    assert polls.due(tick(1.0))
    polls.every_s = 0.1
    assert polls.wait_s(tick(1.0)) == pytest.approx(0.1)
