"""Every pair of raw words gets a class, every pair of classes a verdict, and none of them is unsafe."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.resolve import (
    ALL_PAIRS,
    DestinationClass,
    SourceClass,
    classify_destination,
    classify_source,
    verdict,
)
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Fact

S, SC, DC = Signal, SourceClass, DestinationClass

WORDS = st.one_of(
    st.none(),
    st.sampled_from(["", "none", "setup", "active", "device", "completed", "failed", "cancelled", "postcopy-active"]),
    st.text(max_size=12),
)


@given(WORDS, WORDS)
def test_any_words_have_a_class(status: str | None, run_state: str | None) -> None:
    assert classify_source(status, run_state) in SC
    assert classify_destination(status, run_state) in DC


@pytest.mark.parametrize(
    ("status", "run_state", "expected"),
    [
        ("completed", "postmigrate", SC.COMPLETED),
        ("completed", "finish-migrate", SC.COMPLETED),
        ("completed", "running", SC.HOLDING),
        ("failed", "running", SC.HOLDING),
        ("failed", "paused", SC.HOLDING),
        ("cancelled", "postmigrate", SC.HOLDING),
        (None, "running", SC.HOLDING),
        ("failed", "finish-migrate", SC.MOVING),
        ("active", "running", SC.MOVING),
        ("pre-switchover", "finish-migrate", SC.MOVING),
        ("cancelling", "running", SC.MOVING),
        ("postcopy-active", "finish-migrate", SC.POSTCOPY),
        ("failed", "inmigrate", SC.UNCLEAR),
    ],
)
def test_source_words_as_seen(status: str | None, run_state: str, expected: SourceClass) -> None:
    assert classify_source(status, run_state) is expected


@pytest.mark.parametrize(
    ("status", "run_state", "expected"),
    [
        ("completed", "paused", DC.READY),
        ("completed", "running", DC.RUNNING),
        ("completed", "inmigrate", DC.LOADING),
        (None, "inmigrate", DC.LOADING),
        ("active", "inmigrate", DC.LOADING),
        ("failed", "inmigrate", DC.ENDED),
        ("postcopy-active", "paused", DC.POSTCOPY),
    ],
)
def test_destination_words_as_seen(status: str | None, run_state: str, expected: DestinationClass) -> None:
    assert classify_destination(status, run_state) is expected


RELEVANT = (Fact.CONTINUED, Fact.CONT_SENT, Fact.SOURCE_COMPLETED, Fact.SETBACK)
NEVER_BOTH = {Fact.CONT_SENT, Fact.SETBACK}
"""Shown of every state that the protocol can come to, in ``test_protocol``."""
CHOSEN = [frozenset(chosen) for n in range(len(RELEVANT) + 1) for chosen in combinations(RELEVANT, n)]
FACTS = [chosen for chosen in CHOSEN if not chosen >= NEVER_BOTH]


@pytest.mark.parametrize("facts", FACTS, ids=lambda f: "+".join(sorted(x.name for x in f)) or "nothing")
def test_no_verdict_is_unsafe(facts: frozenset[Fact]) -> None:
    """The destination is resumed only behind a source that is proven out; the source never behind a cont."""
    for source, destination in ALL_PAIRS:
        given_verdict = verdict(source, destination, facts)
        assert given_verdict.value.startswith("verdict-")
        if given_verdict is S.VERDICT_ACTIVATE:
            assert destination is DC.READY
            out = source is SC.COMPLETED or source is SC.ENDED or Fact.SOURCE_COMPLETED in facts
            assert out or Fact.CONT_SENT in facts
            assert not (source is SC.ENDED and Fact.SETBACK in facts and Fact.SOURCE_COMPLETED not in facts)
        if given_verdict is S.VERDICT_SOURCE:
            assert Fact.CONT_SENT not in facts
            assert destination is not DC.RUNNING
        if given_verdict is S.VERDICT_HAND_BACK:
            assert destination is DC.ENDED
        if source is SC.HOLDING and destination is DC.RUNNING:
            assert given_verdict is S.VERDICT_HOLD


def test_a_source_in_limbo_and_out_of_sight_is_held() -> None:
    """A destination that says completed and paused proves nothing: the source may have failed and be running."""
    assert verdict(SC.UNREACHABLE, DC.READY, frozenset({Fact.CONTINUED})) is S.VERDICT_HOLD


@pytest.mark.parametrize("source", [SC.MOVING, SC.UNREACHABLE, SC.UNCLEAR, SC.ENDED, SC.GONE])
def test_once_completed_a_source_out_of_sight_counts_as_completed(source: SourceClass) -> None:
    """It could only come back from there by a cont of ours."""
    facts = frozenset({Fact.CONTINUED, Fact.SOURCE_COMPLETED})
    for destination in set(DC) - {DC.ENDED}:
        assert verdict(source, destination, facts) is verdict(SC.COMPLETED, destination, facts)
    both_ended = S.VERDICT_LOST if source in (SC.ENDED, SC.GONE) else S.VERDICT_HAND_BACK
    assert verdict(source, DC.ENDED, facts) is both_ended


def test_a_source_out_of_sight_is_the_only_copy_once_the_destination_ended_without_running() -> None:
    assert verdict(SC.UNREACHABLE, DC.ENDED, frozenset({Fact.CONTINUED})) is S.VERDICT_SOURCE
    assert verdict(SC.UNREACHABLE, DC.ENDED, frozenset({Fact.CONTINUED, Fact.CONT_SENT})) is S.VERDICT_HAND_BACK


@pytest.mark.parametrize("destination", list(DC))
def test_a_source_that_was_never_told_to_go_on_cannot_have_completed_out_of_sight(
    destination: DestinationClass,
) -> None:
    """So the destination may be ended, unless it has everything or runs: then somebody else had a hand in it."""
    expected = S.VERDICT_HOLD if destination in (DC.READY, DC.RUNNING, DC.POSTCOPY) else S.VERDICT_SOURCE
    assert verdict(SC.UNREACHABLE, destination, frozenset()) is expected


def test_a_source_that_ran_again_and_died_took_the_guest_along() -> None:
    facts = frozenset({Fact.CONTINUED, Fact.SETBACK})
    assert verdict(SC.ENDED, DC.READY, facts) is S.VERDICT_LOST


@pytest.mark.parametrize("source", [SC.ENDED, SC.GONE])
def test_in_post_copy_a_destination_that_still_loads_may_yet_have_everything(source: SourceClass) -> None:
    """All that the source sent may lie in the pipe when it ends: lost is said when nothing more can come."""
    facts = frozenset({Fact.CONTINUED, Fact.POSTCOPY, Fact.POSTCOPY_ASKED})
    assert verdict(source, DC.LOADING, facts) is S.VERDICT_GOES_ON
    assert verdict(source, DC.POSTCOPY, facts) is verdict(source, DC.ENDED, facts) is S.VERDICT_LOST
