"""The engine has a signal for all that a side can say, and each is said by one side only."""

from __future__ import annotations

from whimbrel.engine.resolve import MOVING_STATUSES, OVER_STATUSES, POSTCOPY_STATUSES
from whimbrel.engine.side_words import MARK_OF, NO_STATUS, WORDS
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side


def test_each_side_has_signals_of_its_own() -> None:
    """By name; none is told by both."""
    told: dict[Side, set[Signal]] = {}
    for side, words in WORDS.items():
        single = {words.running, words.stopped, words.shut_down, words.lost, words.ended} - {None}
        told[side] = {signal for signal in (*words.status.values(), *single) if signal is not None}
        assert all(signal.value.startswith(f"{side.value}-") for signal in told[side])
    assert told[Side.SOURCE].isdisjoint(told[Side.DESTINATION])


def test_every_status_that_is_told_is_one_that_the_engine_classifies() -> None:
    """A word that only one of the two knew would be told and never understood."""
    classified = MOVING_STATUSES | OVER_STATUSES | POSTCOPY_STATUSES | {"completed"}
    for words in WORDS.values():
        assert set(words.status) <= classified
    assert NO_STATUS <= OVER_STATUSES


def test_every_mark_is_of_something_that_is_heard() -> None:
    """A status of that side, or an event."""
    for side, word in MARK_OF:
        assert word in WORDS[side].status or word in ("STOP", "RESUME")
