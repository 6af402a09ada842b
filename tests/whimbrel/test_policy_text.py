"""Compositions as users write them: taken apart rightly, or refused in a sentence."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import Condition
from whimbrel.policy_text import Composed, composed, condition, unbracketed, whole


@pytest.mark.parametrize(
    ("text", "kind", "parts", "options"),
    [
        ("first(a, b)", "first", ["a", "b"], {}),
        (" first ( a ,b,c ) ", "first", ["a", "b", "c"], {}),
        ("first(a:x=1,y=2, b)", "first", ["a:x=1,y=2", "b"], {}),
        ("first(a(x=1, y=2), b)", "first", ["a(x=1, y=2)", "b"], {}),
        ("first(p.py:A:after=3,more=4, b)", "first", ["p.py:A:after=3,more=4", "b"], {}),
        ("then(a, b:i=1, after=30s)", "then", ["a", "b:i=1"], {"after": "30s"}),
        ("then(a:after=1, b(after=2s), after = 30s)", "then", ["a:after=1", "b(after=2s)"], {"after": "30s"}),
        (
            "then(a, b, until=elapsed>=30s, iterations=3)",
            "then",
            ["a", "b"],
            {"until": "elapsed>=30s", "iterations": "3"},
        ),
        ("when(iteration>=3, a, b)", "when", ["iteration>=3", "a", "b"], {}),
        ("first(then(a, b, after=1s), when(x<1, c, d))", "first", ["then(a, b, after=1s)", "when(x<1, c, d)"], {}),
    ],
)
def test_a_composition_is_taken_apart(text: str, kind: str, parts: list[str], options: dict[str, str]) -> None:
    assert composed(text) == Composed(kind, parts, options)


@pytest.mark.parametrize(
    "text", ["fixed", "first", "firstly(a, b)", "my(1).py:First", "fixed:x=first(a)", "", "(a, b)"]
)
def test_anything_else_is_none(text: str) -> None:
    assert composed(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("first()", "a policy or an option between commas"),
        ("first(a)", "first(POLICY, POLICY, ...)"),
        ("first(a,,b)", "a policy or an option between commas"),
        ("first(a, b", "as many closing brackets"),
        ("first(a, b))", "nothing behind the bracket"),
        ("first(a, b) and more", "nothing behind the bracket"),
        ("first(a, x=1)", "a parameter behind a policy, as in NAME:x=1"),
        ("first(x=1, a)", "a parameter behind a policy"),
        ("first(a(y=1), x=1)", "a parameter behind a policy"),
        ("then(a, b)", "then(POLICY, POLICY, after=TIME"),
        ("then(a, after=1s)", "then(POLICY, POLICY, after=TIME"),
        ("then(a, b, c, after=1s)", "then(POLICY, POLICY, after=TIME"),
        ("then(a, b, after=1s, after=2s)", "once; those of a policy stand in brackets, NAME(after=2s)"),
        ("when(a, b)", "when(CONDITION, POLICY, POLICY)"),
        ("first(" * 5000, "at most 16 brackets"),
    ],
)
def test_what_is_not_well_formed_is_named(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        composed(text)
    assert words in str(caught.value)
    assert caught.value.field == "policy"


@given(st.text(st.sampled_from("firstthenwhen(),=: <>ab1s"), max_size=60))
@example("then((,)")
def test_no_text_breaks_it(text: str) -> None:
    for begin in ("", "first(", "then(", "when("):
        try:
            found = composed(begin + text)
        except BadInput:
            continue
        assert found is None or len(found.parts) >= 2


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("nova_steps(steps=5, delay=10s)", "nova_steps:steps=5,delay=10s"),
        (" fixed ( ) ", "fixed:"),
        ("my.py:Mine(after=1s)", "my.py:Mine:after=1s"),
        ("fixed", "fixed"),
        ("a:name=f(2)", "a:name=f(2)"),
    ],
)
def test_parameters_may_stand_in_brackets(text: str, plain: str) -> None:
    assert unbracketed(text) == plain


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("iteration>3", Condition("iteration", ">", 3)),
        (" iteration >= 3 ", Condition("iteration", ">=", 3)),
        ("elapsed>=30s", Condition("elapsed_s", ">=", 30)),
        ("elapsed_s>=2m", Condition("elapsed_s", ">=", 120)),
        ("remaining<1MiB", Condition("remaining_bytes", "<", 1 << 20)),
        ("dirty>1Gbit/s", Condition("dirty_bytes_per_s", ">", 125e6)),
        ("bandwidth_bytes_per_s<1MB/s", Condition("bandwidth_bytes_per_s", "<", 1e6)),
        ("downtime<=300ms", Condition("downtime_s", "<=", 0.3)),
        ("progress<10%", Condition("progress", "<", 0.1)),
        ("throttle>0.5", Condition("throttle", ">", 0.5)),
    ],
)
def test_a_condition_is_read_in_peoples_units(text: str, wanted: Condition) -> None:
    assert condition(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weather>3", "quantities: bandwidth, dirty, downtime, elapsed, iteration, progress, remaining, throttle"),
        ("iteration", "QUANTITY, one of"),
        ("iteration=3", "QUANTITY, one of"),
        ("iteration>x", "condition on iteration: 'x' is not allowed; allowed: a whole number"),
        ("elapsed>3MiB", "condition on elapsed: '3MiB' is not allowed"),
        ("remaining<3s", "condition on remaining: '3s' is not allowed"),
        ("dirty>3s", "condition on dirty: '3s' is not allowed"),
        ("progress<110%", "condition on progress: '110%' is not allowed"),
    ],
)
def test_what_is_no_condition_is_named(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        condition(text)
    assert words in str(caught.value)


def test_whole_numbers_only() -> None:
    assert whole("iterations", "12") == 12
    for text in ("", "-1", "1.5", "²", "9" * 10):
        with pytest.raises(BadInput, match="iterations"):
            whole("iterations", text)
