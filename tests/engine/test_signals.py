"""The alphabet: every command has its answers, and what a word teaches is written once."""

from __future__ import annotations

import pytest

from whimbrel.engine.signals import FACT_OF_COMMAND, FACT_OF_SIGNAL, Command, Outcome, Signal, answer
from whimbrel.engine.states import Fact

ANSWERED = [command for command in Command if command is not Command.INSPECT_BOTH]
CHANGES_WHAT_OTHERS_HOLD = {
    Command.MIGRATE, Command.CONTINUE, Command.RESUME_DESTINATION, Command.CANCEL_MIGRATION, Command.RESTORE_SOURCE,
    Command.RESUME_SOURCE, Command.MIRROR, Command.START_POSTCOPY, Command.DRAIN, Command.CLAIM, Command.PAUSE_POSTCOPY,
    Command.LISTEN_AGAIN, Command.SEND_AGAIN, Command.RECLAIM,
}  # fmt: skip


@pytest.mark.parametrize("command", ANSWERED)
def test_a_command_is_done_or_refused(command: Command) -> None:
    assert answer(command, Outcome.DONE).value == f"{command.value}-done"
    assert answer(command, Outcome.REFUSED).value == f"{command.value}-refused"


@pytest.mark.parametrize("command", ANSWERED)
def test_what_changes_things_can_be_unknown_and_all_else_is_refused_then(command: Command) -> None:
    unknown = answer(command, Outcome.UNKNOWN)
    assert unknown.value == f"{command.value}-{'unknown' if command in CHANGES_WHAT_OTHERS_HOLD else 'refused'}"


def test_an_inspection_answers_with_a_verdict_and_with_nothing_else() -> None:
    with pytest.raises(ValueError, match="inspect-both"):
        answer(Command.INSPECT_BOTH, Outcome.DONE)


def test_the_answers_to_inspect_are_not_mistaken_for_those_to_inspect_both() -> None:
    assert answer(Command.INSPECT, Outcome.DONE) is Signal.INSPECT_DONE


def test_what_was_sent_is_known_from_the_moment_of_sending() -> None:
    """Not from the answer, which may never come."""
    assert FACT_OF_COMMAND[Command.CONTINUE] is Fact.CONTINUED
    assert FACT_OF_COMMAND[Command.RESUME_DESTINATION] is Fact.CONT_SENT
    assert not set(FACT_OF_SIGNAL.values()) & set(FACT_OF_COMMAND.values())
