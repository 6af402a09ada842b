"""The words of the protocol: phases, stages, ends, and a state that is a value."""

from __future__ import annotations

import dataclasses

import pytest

from whimbrel.engine.states import ENDS, STAGE_OF_PHASE, STAGES, Fact, Owner, Phase, State


@pytest.mark.parametrize("phase", list(Phase))
def test_a_phase_is_in_a_stage_or_is_none_of_the_five(phase: Phase) -> None:
    assert phase.stage == STAGE_OF_PHASE.get(phase)
    assert phase.stage is None or phase.stage in STAGES
    assert phase.is_end is (phase in ENDS)
    assert not (phase.is_end and phase.stage)


def test_the_stages_follow_one_another_in_the_order_of_the_phases() -> None:
    stages = [phase.stage for phase in Phase if phase.stage is not None]
    assert stages == sorted(stages)
    assert set(stages) == set(STAGES) == {1, 2, 3, 4, 5}


def test_a_migration_begins_with_the_source_and_with_nothing_known() -> None:
    state = State()
    assert (state.phase, state.owner, state.facts) == (Phase.PREFLIGHT, Owner.SOURCE, frozenset())
    assert (state.deadline_ns, state.guest) == (None, None)


def test_a_state_is_a_value() -> None:
    """Equal and hashable by what it says; never changed in place."""
    known = State(facts=frozenset({Fact.CONTINUED, Fact.BROKEN}))
    same = State(facts=frozenset({Fact.BROKEN, Fact.CONTINUED}))
    assert known == same
    assert len({known, same, State()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(known, "owner", Owner.LIMBO)  # noqa: B010 - the type checkers refuse it already


def test_every_fact_is_a_sentence_of_its_own() -> None:
    """An alias would make two facts one."""
    assert len({fact.value for fact in Fact}) == len(Fact.__members__)
