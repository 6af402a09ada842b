"""The tables are total, and every entry that does nothing says why."""

from __future__ import annotations

from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import ENDS, Phase
from whimbrel.engine.tables import TABLE


def test_every_phase_and_signal_has_an_entry() -> None:
    missing = [(p, s) for p in Phase for s in Signal if (p, s) not in TABLE]
    assert missing == []


def test_the_last_rule_of_an_entry_always_holds() -> None:
    for entry, rules in TABLE.items():
        assert not rules[-1].when, entry
        assert not rules[-1].unless, entry


def test_no_rule_is_out_of_reach() -> None:
    """A rule without a guard ends its entry: nothing may stand behind it."""
    for entry, rules in TABLE.items():
        assert all(rule.when or rule.unless for rule in rules[:-1]), entry


def test_what_is_ignored_says_why() -> None:
    for entry, rules in TABLE.items():
        assert all(rule.because for rule in rules if rule.is_ignored), entry


def test_every_rule_that_ends_says_what_became_of_the_guest() -> None:
    for entry, rules in TABLE.items():
        assert all(rule.guest for rule in rules if rule.to in ENDS), entry


def test_ends_absorb_everything() -> None:
    for phase in ENDS:
        for signal in Signal:
            assert all(rule.is_ignored for rule in TABLE[phase, signal])


def test_every_live_phase_has_a_way_out_of_its_deadline() -> None:
    for phase in set(Phase) - ENDS:
        assert not any(rule.is_ignored for rule in TABLE[phase, Signal.DEADLINE]), phase


def test_every_answer_is_a_signal() -> None:
    for command in Command:
        if command is Command.INSPECT_BOTH:
            continue  # it answers with a verdict
        for outcome in Outcome:
            assert answer(command, outcome).value.startswith(command.value)
