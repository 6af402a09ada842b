"""The form of a table entry: guards, and what counts as doing nothing."""

from __future__ import annotations

import pytest

from whimbrel.engine.rules import BACKED_OUT, TAKE_GUEST, Rule, facts, ignored, only_when
from whimbrel.engine.signals import Command
from whimbrel.engine.states import Fact, Guest, Owner, Phase

F = Fact


@pytest.mark.parametrize(
    ("known", "holds"),
    [
        (facts(), False),
        (facts(F.CONTINUED), True),
        (facts(F.CONTINUED, F.RETRIED), True),
        (facts(F.CONTINUED, F.CONT_SENT), False),
        (facts(F.CONT_SENT), False),
    ],
)
def test_a_guard_holds_with_all_of_the_one_and_none_of_the_other(known: frozenset[Fact], holds: bool) -> None:
    rule = Rule(when=facts(F.CONTINUED), unless=facts(F.CONT_SENT))
    assert rule.holds(known) is holds


@pytest.mark.parametrize(
    "rule",
    [
        Rule(to=Phase.FAILED),
        Rule(do=Command.BREAK),
        Rule(owner=Owner.SOURCE),
        Rule(learn=facts(F.SETBACK)),
        Rule(rest=True),
    ],
    ids=["to", "do", "owner", "learn", "rest"],
)
def test_a_rule_with_any_effect_is_not_ignored(rule: Rule) -> None:
    assert not rule.is_ignored


def test_a_guard_alone_is_no_effect() -> None:
    assert Rule(when=facts(F.CONTINUED), because="known").is_ignored
    assert all(rule.is_ignored for rule in ignored("it is late"))


def test_more_guards_are_added_and_none_is_lost() -> None:
    guarded = only_when(TAKE_GUEST, F.SOURCE_COMPLETED)
    guards = (facts(F.CONT_SENT), facts(F.SETBACK), facts(F.PAUSED_BEFORE), facts())
    assert [rule.when for rule in guarded] == [guard | {F.SOURCE_COMPLETED} for guard in guards]
    assert [rule.do for rule in guarded] == [rule.do for rule in TAKE_GUEST]


def test_backing_out_tells_what_was_wanted_and_how_the_guest_stands() -> None:
    """The first rule that holds is taken: called off or failed, paused before or running."""
    found = {
        known: next((rule.to, rule.guest) for rule in BACKED_OUT if rule.holds(known))
        for known in (
            facts(), facts(F.PAUSED_BEFORE), facts(F.CANCEL_WANTED), facts(F.CANCEL_WANTED, F.PAUSED_BEFORE),
        )
    }  # fmt: skip
    assert list(found.values()) == [
        (Phase.FAILED, Guest.RUNNING),
        (Phase.FAILED, Guest.PAUSED),
        (Phase.CANCELLED, Guest.RUNNING),
        (Phase.CANCELLED, Guest.PAUSED),
    ]
