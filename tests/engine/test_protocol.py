"""The step, walked by hand along the courses that matter and by machine through every state it can reach."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.exploration import LEGAL_OWNERS, Explored, breach, explore
from whimbrel.engine.protocol import DEFAULT_WAITS, Step, Waits, step
from whimbrel.engine.rules import Rule, Table
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase, State
from whimbrel.engine.tables import TABLE

C, P, S = Command, Phase, Signal

TO_PRECOPY = (S.START, S.INSPECT_DONE, S.PREPARE_DONE, S.ARM_DONE, S.MIGRATE_DONE, S.SOURCE_ACTIVE)
TO_SWITCHOVER = (*TO_PRECOPY, S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER)
TO_HANDOVER = (*TO_SWITCHOVER, S.QUIESCE_DONE, S.CONTINUE_DONE, S.SOURCE_DEVICE)
TO_ACTIVATING = (*TO_HANDOVER, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)
TO_RELEASING = (*TO_ACTIVATING, S.CLAIM_DONE, S.DESTINATION_RUNNING)
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
        C.CLAIM,
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


@pytest.mark.parametrize(
    "order", [(S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED), (S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)]
)
def test_both_completed_in_either_order(order: tuple[Signal, Signal]) -> None:
    state, commands = walk((*TO_HANDOVER, *order))
    assert state.phase is P.ACTIVATING
    assert commands[-1] is C.CLAIM
    assert walk((S.CLAIM_DONE,), state)[1] == [C.RESUME_DESTINATION]


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
        (
            *prefix,
            S.CANCEL,
            S.CANCEL_MIGRATION_DONE,
            S.SOURCE_CANCELLED,
            S.DISCARD_DESTINATION_DONE,
            S.RESTORE_SOURCE_DONE,
        )
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
    assert commands[-1] is C.CLAIM


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


@pytest.mark.parametrize("known", [S.SOURCE_COMPLETED, S.SOURCE_ENDED])
def test_a_handover_whose_source_is_out_is_not_broken(known: Signal) -> None:
    """Killing the destination then would kill the guest: both sides are asked instead."""
    state, commands = walk((*TO_HANDOVER, known, S.DEADLINE))
    assert state.phase is P.RESOLVING
    assert C.BREAK not in commands


def test_a_handover_is_broken_once_and_then_both_sides_are_asked() -> None:
    state, commands = walk((*TO_HANDOVER, S.DEADLINE, S.BREAK_DONE, S.DEADLINE))
    assert state.phase is P.RESOLVING
    assert commands[-2:] == [C.BREAK, C.INSPECT_BOTH]


@pytest.mark.parametrize("meanwhile", [S.CANCEL, S.DESTINATION_ENDED])
def test_what_happened_while_asking_is_not_forgotten(meanwhile: Signal) -> None:
    """The migration is found to go on, but it is not wanted, or cannot succeed, any more."""
    state, commands = walk((*TO_PRECOPY, S.SOURCE_LOST, meanwhile, S.VERDICT_GOES_ON))
    assert (state.phase, commands[-1]) == (P.CANCELLING, C.CANCEL_MIGRATION)
    state, commands = walk((*TO_PRECOPY, S.SOURCE_LOST, S.VERDICT_GOES_ON))
    assert (state.phase, commands[-1]) == (P.PRECOPY, C.INSPECT_BOTH)


def test_a_cancel_while_asking_after_continue_is_not_heeded() -> None:
    state, _ = walk((*TO_HANDOVER, S.SOURCE_LOST, S.CANCEL, S.VERDICT_GOES_ON))
    assert (state.phase, Fact.CANCEL_WANTED in state.facts) == (P.HANDOVER, False)


def test_a_source_that_ran_again_while_asking_is_remembered() -> None:
    """Its end after that takes the guest along: the destination's copy is old."""
    asked, _ = walk((*TO_HANDOVER, S.DESTINATION_LOST, S.SOURCE_RUNNING))
    assert Fact.SETBACK in asked.facts
    before, _ = walk((*TO_PRECOPY, S.SOURCE_LOST, S.SOURCE_RUNNING))
    assert Fact.SETBACK not in before.facts


def test_handing_back_resumes_the_source_though_its_completed_was_never_heard() -> None:
    signals = (*TO_HANDOVER, S.SOURCE_LOST, S.VERDICT_HAND_BACK, S.DISCARD_DESTINATION_DONE, S.RESUME_SOURCE_DONE)
    state, commands = walk(signals)
    assert commands[-2:] == [C.DISCARD_DESTINATION, C.RESUME_SOURCE]
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.RUNNING)


def test_a_destination_that_does_not_start_is_tried_twice_and_then_held() -> None:
    first = (*TO_ACTIVATING, S.CLAIM_DONE, S.DEADLINE, S.VERDICT_ACTIVATE)
    state, commands = walk(first)
    assert (state.phase, commands.count(C.RESUME_DESTINATION)) == (P.ACTIVATING, 2)
    state, commands = walk((*first, S.DEADLINE, S.VERDICT_ACTIVATE))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.DESTINATION, Guest.HELD)
    assert commands.count(C.RESUME_DESTINATION) == 2


@pytest.mark.parametrize(
    "bad", [S.SOURCE_LOST, S.SOURCE_ENDED, S.DESTINATION_LOST, S.DESTINATION_FAILED, S.DESTINATION_ENDED]
)
def test_preparation_that_loses_a_side_backs_out(bad: Signal) -> None:
    state, commands = walk((S.START, S.INSPECT_DONE, bad))
    assert (state.phase, commands[-1]) == (P.CANCELLING, C.DISCARD_DESTINATION)


def test_a_guest_that_was_paused_stays_paused() -> None:
    before = State(facts=frozenset({Fact.PAUSED_BEFORE}))
    moved = (S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED, S.CLAIM_DONE, S.RELEASE_SOURCE_DONE)
    state, commands = walk((*TO_HANDOVER, *moved), before)
    assert (state.phase, state.guest) == (P.COMPLETED, Guest.PAUSED)
    assert C.RESUME_DESTINATION not in commands


def test_entering_a_phase_sets_its_deadline_and_an_end_lifts_it() -> None:
    taken = step(State(), S.START, 5)
    assert taken.state.deadline_ns == 5 + DEFAULT_WAITS.preflight_ns
    assert walk(TO_PRECOPY)[0].deadline_ns is None
    assert walk(TO_THE_END)[0].deadline_ns is None


ELSEWHERE_PHASES = {P.MIRRORING, P.POSTCOPY, P.RECOVERING}
ELSEWHERE_COMMANDS = {
    *(C.MIRROR, C.DRAIN, C.START_POSTCOPY, C.PAUSE_POSTCOPY, C.LISTEN_AGAIN, C.SEND_AGAIN),
}
"""Walked through in the world of ``whimbrel.sim.explorer``, with what QEMU does by itself."""


@pytest.fixture(scope="module")
def explored() -> Explored:
    """Every distinct step that can be reached."""
    return explore(TABLE)


def test_a_broken_protocol_can_be_stepped_too() -> None:
    """The table is an argument, so that a test can show that a wrong one is caught."""
    wrong: Table = {**TABLE, (P.HANDOVER, S.CANCEL): (Rule(P.CANCELLING, C.CANCEL_MIGRATION),)}
    handover, _ = walk(TO_HANDOVER)
    assert step(handover, S.CANCEL, 0).command is None
    assert step(handover, S.CANCEL, 0, table=wrong).command is C.CANCEL_MIGRATION


def test_every_wait_is_the_one_of_its_phase() -> None:
    """Each phase that is left only by an event has its own wait; an end has none."""
    waits = Waits(*range(1, 12))
    live = [phase for phase in Phase if not phase.is_end]
    assert sorted(wait for wait in map(waits.of, live) if wait is not None) == list(range(1, 12))
    assert all(waits.of(phase) is None for phase in Phase if phase.is_end)


def test_no_order_of_signals_breaks_the_rules_of_ownership(explored: Explored) -> None:
    """Whatever comes in whatever order, the commands that could double or lose a guest stay within bounds."""
    for state, signal, taken in explored.steps:
        assert breach(state, signal, taken) is None, (state, signal, taken)
    assert len(explored.steps) > 10_000


def test_every_phase_and_every_command_is_reached(explored: Explored) -> None:
    """The exploration is no exploration of a corner."""
    assert {taken.state.phase for _, _, taken in explored.steps} == set(Phase) - ELSEWHERE_PHASES
    assert {taken.command for _, _, taken in explored.steps} == {None, *Command} - ELSEWHERE_COMMANDS
    assert {taken.state.owner for _, _, taken in explored.steps} == set(Owner)
    ends = {taken.state.guest for _, _, taken in explored.steps if taken.state.phase.is_end}
    assert ends == set(Guest) - {Guest.SHUT_DOWN}


def test_an_end_stands(explored: Explored) -> None:
    """Nothing that comes later changes it, not even what is remembered."""
    ends = {taken.state for _, _, taken in explored.steps if taken.state.phase.is_end}
    assert ends
    for end in ends:
        for signal in Signal:
            taken = step(end, signal, 1)
            assert (taken.state, taken.command) == (end, None), (end, signal)


def test_the_token_is_where_the_phase_says(explored: Explored) -> None:
    """Exactly these pairs of phase and owner can come about, and no others."""
    reached = {(taken.state.phase, taken.state.owner) for _, _, taken in explored.steps}
    here = {phase: owners for phase, owners in LEGAL_OWNERS.items() if phase not in ELSEWHERE_PHASES}
    assert reached == {(phase, owner) for phase, owners in here.items() for owner in owners}


WRONG_ENTRIES: dict[str, tuple[tuple[Phase, Signal], Rule]] = {
    "cancel after continue": ((P.HANDOVER, S.CANCEL), Rule(P.CANCELLING, C.CANCEL_MIGRATION)),
    "cancel when a handover hangs": ((P.HANDOVER, S.DEADLINE), Rule(P.CANCELLING, C.CANCEL_MIGRATION)),
    "resume on the destination's word": (
        (P.HANDOVER, S.DESTINATION_COMPLETED),
        Rule(P.ACTIVATING, C.RESUME_DESTINATION),
    ),
    "discard after cont": ((P.ACTIVATING, S.DEADLINE), Rule(P.CANCELLING, C.DISCARD_DESTINATION)),
    "resume the source beside a live destination": (
        (P.HANDOVER, S.SOURCE_COMPLETED),
        Rule(P.CANCELLING, C.RESUME_SOURCE),
    ),
    "release a source that owns the guest": ((P.PRECOPY, S.DESTINATION_RUNNING), Rule(P.RELEASING, C.RELEASE_SOURCE)),
    "an end without a word on the guest": ((P.PRECOPY, S.SOURCE_FAILED), Rule(P.FAILED)),
}


def breaks(state: State, signal: Signal, taken: Step) -> bool:
    """Whether a step breaks a rule of ownership."""
    return breach(state, signal, taken) is not None


@pytest.mark.parametrize("name", WRONG_ENTRIES)
def test_a_wrong_entry_is_caught(name: str) -> None:
    """The canary: with one entry made wrong the exploration finds a breach."""
    entry, rule = WRONG_ENTRIES[name]
    found = explore({**TABLE, entry: (rule,)}, until=breaks)
    assert any(breaks(*taken) for taken in found.steps)


def test_from_every_state_deadlines_alone_lead_to_an_end(explored: Explored) -> None:
    """Nobody waits for ever: with nothing but time passing, every state ends within eight deadlines."""
    for state in {taken.state for _, _, taken in explored.steps}:
        now = state
        for _ in range(8):
            if now.phase.is_end:
                break
            now = step(now, S.DEADLINE, 0).state
        assert now.phase.is_end, state


def test_a_live_state_without_a_deadline_is_watched_otherwise(explored: Explored) -> None:
    """Only a migration that is connected waits without one: there the stall detector watches."""
    for _, _, taken in explored.steps:
        now = taken.state
        if not now.phase.is_end and now.deadline_ns is None:
            assert now.phase in (P.PRECOPY, P.PREFLIGHT), now


def test_words_that_came_while_both_were_asked_are_not_waited_for_again() -> None:
    signals = (*TO_HANDOVER, S.DESTINATION_LOST, S.SOURCE_COMPLETED, S.DESTINATION_COMPLETED, S.VERDICT_GOES_ON)
    state, commands = walk(signals)
    assert (state.phase, state.owner) == (P.ACTIVATING, Owner.DESTINATION)
    assert commands[-1] is C.CLAIM


BREAKING = (*TO_HANDOVER, S.DESTINATION_COMPLETED, S.DEADLINE)
"""The destination has everything, the source said nothing, and the destination is being killed for it."""


def test_a_destination_that_is_being_killed_gets_no_cont() -> None:
    """The source completes while the kill is under way: the guest is the source's to have back, not lost on both."""
    state, commands = walk((*BREAKING, S.SOURCE_COMPLETED))
    assert state.phase is P.HANDOVER
    assert C.RESUME_DESTINATION not in commands
    after = (S.DESTINATION_ENDED, S.DISCARD_DESTINATION_DONE, S.RESUME_SOURCE_DONE)
    state, commands = walk((*BREAKING, S.SOURCE_COMPLETED, *after))
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.SOURCE, Guest.RUNNING)
    state, commands = walk((*BREAKING, S.SOURCE_COMPLETED, S.BREAK_DONE))
    assert commands[-1] is C.INSPECT_BOTH


def test_where_only_the_stream_was_cut_what_both_say_then_decides() -> None:
    state, commands = walk((*BREAKING, S.BREAK_DONE, S.SOURCE_COMPLETED, S.VERDICT_ACTIVATE))
    assert (state.phase, state.owner) == (P.ACTIVATING, Owner.DESTINATION)
    assert commands[-2:] == [C.INSPECT_BOTH, C.CLAIM]


def test_a_handover_that_cannot_be_broken_ends_held() -> None:
    """Waited for twice, still going on: not waited for for ever."""
    once = (S.DEADLINE, S.VERDICT_GOES_ON)
    state, _ = walk((*TO_HANDOVER, S.DEADLINE, S.BREAK_REFUSED, S.VERDICT_GOES_ON, *once))
    assert state.phase is P.HANDOVER
    state, _ = walk(once, state)
    assert (state.phase, state.owner, state.guest) == (P.FAILED, Owner.LIMBO, Guest.HELD)


def test_a_guest_that_its_owner_resumed_meanwhile_is_resumed_at_the_destination() -> None:
    before = State(facts=frozenset({Fact.PAUSED_BEFORE}))
    state, commands = walk((*TO_PRECOPY, S.SOURCE_RUNNING), before)
    assert Fact.PAUSED_BEFORE not in state.facts
    after = (S.SOURCE_PRE_SWITCHOVER, S.QUIESCE_DONE, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED, S.CLAIM_DONE)
    state, commands = walk(after, state)
    assert commands[-1] is C.RESUME_DESTINATION


def test_nobody_is_told_to_run_behind_a_source_that_ran_again(explored: Explored) -> None:
    """Which is why the verdict tables need not say what follows then."""
    for _, _, taken in explored.steps:
        assert not {Fact.CONT_SENT, Fact.SETBACK} <= taken.state.facts, taken
