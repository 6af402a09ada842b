"""Parameters that make no sense are refused by name."""

from __future__ import annotations

import math

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies.checking import above_zero, not_negative, one_of, share


def test_what_makes_sense_passes() -> None:
    above_zero(steps=1, delay_s=0.001)
    not_negative(timeout_s=0.0)
    share(margin=0.0, decay=1.0)
    one_of("action", "abort", ("abort", "pause"))


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_what_must_be_above_zero(value: float) -> None:
    with pytest.raises(BadInput, match=r"delay_s: .* allowed: above 0, and finite"):
        above_zero(steps=1, delay_s=value)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_what_must_not_be_negative(value: float) -> None:
    with pytest.raises(BadInput, match=r"timeout_s: .* allowed: 0 or more, and finite"):
        not_negative(timeout_s=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_what_must_be_a_share(value: float) -> None:
    with pytest.raises(BadInput, match=r"margin: .* allowed: from 0 to 1"):
        share(margin=value)


def test_an_unknown_word_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(BadInput, match="action: 'give_in' is not allowed; allowed: one of abort, pause"):
        one_of("action", "give_in", ("abort", "pause"))
