"""The step, walked by hand along the courses that matter and by machine through every state it can reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from whimbrel.engine.protocol import DEFAULT_WAITS, Step, step
from whimbrel.engine.resolve import ALL_PAIRS, verdict
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Fact, Guest, Owner, Phase, State
from whimbrel.engine.tables import ANSWERS, VERDICTS

C, P, S = Command, Phase, Signal

TO_PRECOPY = (S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE, S.MIGRATE_DONE, S.SOURCE_ACTIVE)
TO_SWITCHOVER = (*TO_PRECOPY, S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER)
TO_HANDOVER = (*TO_SWITCHOVER, S.QUIESCE_DONE, S.CONTINUE_DONE, S.SOURCE_DEVICE)
TO_ACTIVATING = (*TO_HANDOVER, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)
TO_RELEASING = (*TO_ACTIVATING, S.DESTINATION_RUNNING)
TO_THE_END = (*TO_RELEASING, S.RELEASE_SOURCE_DONE)


def walk(signals: Iterable[Signal], state: State | None = None) -> tuple[State, list[Command]]:
    """The state after some signals, and every command that went out."""
    state = state or State()
    commands: list[Command] = []
    for signal in signals:
        taken = step(state, signal, 0)
        state = taken.state
        if taken.command is not None:
            commands.append(taken.command)
    return state, commands


def test_the_happy_path() -> None:
    state, commands = walk(TO_THE_END)
    assert (state.phase, state.owner, state.guest) == (P.COMPLETED, Owner.DESTINATION, Guest.RUNNING)
    assert commands == [
        C.INSPECT,
        C.PREPARE,
        C.ARM,
        C.MIGRATE,
        C.QUIESCE,
        C.CONTINUE,
        C.RESUME_DESTINATION,
        C.RELEASE_SOURCE,
    ]


def test_the_token_enters_limbo_when_continue_is_sent_and_leaves_when_the_source_says_completed() -> None:
    """7.2 source: STOP pre-switchover | migrate-continue | device p2 completed."""
    assert walk(TO_SWITCHOVER)[0].owner is Owner.SOURCE
    sent = walk((*TO_SWITCHOVER, S.QUIESCE_DONE))[0]
    assert (sent.phase, sent.owner) == (P.HANDOVER, Owner.LIMBO)
    assert walk((*TO_HANDOVER, S.DESTINATION_COMPLETED))[0].owner is Owner.LIMBO
    assert walk((*TO_HANDOVER, S.SOURCE_COMPLETED))[0].owner is Owner.DESTINATION


def test_a_destination_that_completed_is_not_resumed_on_its_word_alone() -> None:
    """7.2 and 10.0: the destination said completed while the source had failed and was running."""
    state, commands = walk((*TO_HANDOVER, S.DESTINATION_COMPLETED))
    assert state.phase is P.HANDOVER
    assert C.RESUME_DESTINATION not in commands
    state, commands = walk((*TO_HANDOVER, S.DESTINATION_COMPLETED, S.SOURCE_RUNNING, S.SOURCE_CANCELLED))
    assert (state.phase, state.owner) == (P.CANCELLING, Owner.SOURCE)
    assert C.RESUME_DESTINATION not in commands
    assert commands[-1] is C.DISCARD_DESTINATION


@pytest.mark.parametrize("order", [(S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED), (S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)])
def test_both_completed_in_either_order(order: tuple[Signal, Signal]) -> None:
    state, commands = walk((*TO_HANDOVER, *order))
    assert state.phase is P.ACTIVATING
    assert commands[-1] is C.RESUME_DESTINATION


def test_a_source_that_died_after_handing_everything_over_leaves_the_guest_to_the_destination() -> None:
    for order in ((S.SOURCE_ENDED, S.DESTINATION_COMPLETED), (S.DESTINATION_COMPLETED, S.SOURCE_ENDED)):
        state, _ = walk((*TO_HANDOVER, *order))
        assert (state.phase, state.owner) == (P.ACTIVATING, Owner.DESTINATION)


def test_a_source_that_died_before_loses_the_guest_and_says_so() -> None:
    state, _ = walk((*TO_HANDOVER, S.SOURCE_ENDED, S.DESTINATION_ENDED, S.DISCARD_DESTINATION_DONE))
    assert (state.phase, state.guest) == (P.FAILED, Guest.LOST)
    state, _ = walk((*TO_PRECOPY, S.SOURCE_ENDED, S.DISCARD_DESTINATION_DONE))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.LOST)


@pytest.mark.parametrize("prefix", [TO_PRECOPY, TO_SWITCHOVER])
def test_cancel_while_the_guest_is_the_sources(prefix: tuple[Signal, ...]) -> None:
    """All versions: cancelling cancelled, and the source runs."""
    state, commands = walk(
        (*prefix, S.CANCEL, S.CANCEL_MIGRATION_DONE, S.SOURCE_CANCELLED, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE)
    )
    assert (state.phase, state.owner, state.guest) == (P.CANCELLED, Owner.SOURCE, Guest.RUNNING)
    assert commands[-3:] == [C.CANCEL_MIGRATION, C.DISCARD_DESTINATION, C.RESTORE_SOURCE]


@pytest.mark.parametrize("prefix", [(S.START,), (S.START, S.INSPECT_DONE), (S.START, S.INSPECT_DONE, S.PREPARE_DONE)])
def test_cancel_before_migrate_sends_no_cancel_to_qemu(prefix: tuple[Signal, ...]) -> None:
    state, commands = walk((*prefix, S.CANCEL, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE))
    assert state.phase is P.CANCELLED
    assert C.CANCEL_MIGRATION not in commands


@pytest.mark.parametrize("prefix", [TO_HANDOVER, TO_ACTIVATING, TO_RELEASING])
def test_cancel_after_the_point_of_no_return_changes_nothing(prefix: tuple[Signal, ...]) -> None:
    before, _ = walk(prefix)
    after, commands = walk((S.CANCEL,), before)
    assert (after, commands) == (before, [])


def test_cancelled_means_any_final_status() -> None:
    """7.2, a peer that accepts and never reads: failed, not cancelled."""
    state, _ = walk((*TO_PRECOPY, S.CANCEL, S.SOURCE_FAILED, S.DISCARD_DESTINATION_DONE, S.RESTORE_SOURCE_DONE))
    assert state.phase is P.CANCELLED


def test_a_cancel_that_loses_to_completed_ends_as_a_move() -> None:
    state, commands = walk((*TO_PRECOPY, S.CANCEL, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED))
    assert (state.phase, state.owner) == (P.ACTIVATING, Owner.DESTINATION)
    assert commands[-1] is C.RESUME_DESTINATION


def test_a_destination_that_dies_between_completed_and_cont_hands_the_guest_back() -> None:
    """cont-source-after-completion: cont on the source in postmigrate re-activates it."""
    signals = (*TO_HANDOVER, S.SOURCE_COMPLETED, S.DESTINATION_ENDED, S.DISCARD_DESTINATION_DONE, S.RESUME_SOURCE_DONE)
    state, commands = walk(signals)
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.RUNNING)
    assert commands[-2:] == [C.DISCARD_DESTINATION, C.RESUME_SOURCE]


def test_a_handover_that_hangs_is_broken_not_cancelled() -> None:
    state, commands = walk((*TO_HANDOVER, S.DEADLINE))
    assert state.phase is P.HANDOVER
    assert commands[-1] is C.BREAK
    state, commands = walk((*TO_HANDOVER, S.DEADLINE, S.BREAK_DONE, S.DESTINATION_ENDED, S.SOURCE_FAILED))
    assert (state.phase, state.owner) == (P.CANCELLING, Owner.SOURCE)
    assert C.CANCEL_MIGRATION not in commands


def test_a_guest_that_was_paused_stays_paused() -> None:
    before = State(facts=frozenset({Fact.PAUSED_BEFORE}))
    state, commands = walk((*TO_HANDOVER, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED, S.RELEASE_SOURCE_DONE), before)
    assert (state.phase, state.guest) == (P.COMPLETED, Guest.PAUSED)
    assert C.RESUME_DESTINATION not in commands


def test_entering_a_phase_sets_its_deadline_and_an_end_lifts_it() -> None:
    taken = step(State(), S.START, 5)
    assert taken.state.deadline_ns == 5 + DEFAULT_WAITS.preflight_ns
    assert walk(TO_PRECOPY)[0].deadline_ns is None
    assert walk(TO_THE_END)[0].deadline_ns is None


def possible(state: State, pending: frozenset[Command]) -> Iterator[tuple[Signal, Command | None]]:
    """Every signal that the world may send, and the command that it answers.

    Answers come only to commands that are out; verdicts only as the verdict table gives them.
    """
    for signal in set(Signal) - ANSWERS - VERDICTS:
        yield signal, None
    for command in pending:
        if command is C.INSPECT_BOTH:
            for found in {verdict(source, destination, state.facts) for source, destination in ALL_PAIRS}:
                yield found, command
        else:
            for signal in {answer(command, outcome) for outcome in Outcome}:
                yield signal, command


def explore() -> Iterator[tuple[State, Signal, Step]]:
    """Every step from every state that any order of signals can lead to, late answers included."""
    starts = [(State(), frozenset[Command]()), (State(facts=frozenset({Fact.PAUSED_BEFORE})), frozenset[Command]())]
    seen = set(starts)
    queue = list(starts)
    while queue:
        state, pending = queue.pop()
        for signal, answered in possible(state, pending):
            taken = step(state, signal, 0)
            yield state, signal, taken
            out = pending - {answered} if answered else pending
            out = out | {taken.command} if taken.command else out
            # A late answer to preparation changes nothing any more: the runner has cut that work short.
            following = (taken.state, out - ABANDONED if taken.command is C.DISCARD_DESTINATION else out)
            if following not in seen and not taken.state.phase.is_end:
                seen.add(following)
                queue.append(following)


ABANDONED = frozenset({C.INSPECT, C.PREPARE, C.ARM, C.QUIESCE})


@pytest.fixture(scope="module")
def explored() -> frozenset[tuple[State, Signal, Step]]:
    """Every distinct step that can be reached."""
    return frozenset(explore())


def test_no_order_of_signals_breaks_the_rules_of_ownership(explored: frozenset[tuple[State, Signal, Step]]) -> None:
    """Whatever comes in whatever order, the commands that could double or lose a guest stay within bounds."""
    for state, signal, taken in explored:
        known, command = taken.state.facts, taken.command
        if command is C.CANCEL_MIGRATION:
            assert Fact.CONTINUED not in known, (state, signal)
        if command is C.RESUME_DESTINATION:
            assert {Fact.SOURCE_COMPLETED, Fact.SOURCE_ENDED} & known or signal is S.VERDICT_ACTIVATE, (state, signal)
            assert Fact.DISCARDING not in known, (state, signal)
        if command in (C.DISCARD_DESTINATION, C.RESUME_SOURCE, C.RESTORE_SOURCE, C.BREAK):
            assert Fact.CONT_SENT not in known, (state, signal)
        if command is C.RESUME_SOURCE:
            assert Fact.DISCARDING in known, (state, signal)
            assert signal is S.DISCARD_DESTINATION_DONE
        if command is C.RELEASE_SOURCE:
            assert taken.state.owner is Owner.DESTINATION, (state, signal)
            assert Fact.DISCARDING not in known
        if taken.state.phase.is_end:
            assert taken.state.guest is not None
            assert taken.state.deadline_ns is None
    assert len(explored) > 10_000


def test_from_every_state_deadlines_alone_lead_to_an_end(explored: frozenset[tuple[State, Signal, Step]]) -> None:
    """Nobody waits for ever: with nothing but time passing, every state ends within eight deadlines."""
    for state in {taken.state for _, _, taken in explored}:
        now = state
        for _ in range(8):
            if now.phase.is_end:
                break
            now = step(now, S.DEADLINE, 0).state
        assert now.phase.is_end, state
