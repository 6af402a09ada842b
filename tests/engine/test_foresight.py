"""The records of looking ahead."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from whimbrel.engine.estimate import Range
from whimbrel.engine.foresight import Basis, Outlook

OUTLOOK = Outlook(
    at_s=1.0,
    iteration=2,
    ends_s=Range(2.0, 3.0, 4.0),
    downtime_s=Range(0.1, 0.2, 0.3),
    transferred_bytes=Range(1.0, 2.0, 3.0),
    meets=0.9,
)


def test_an_outlook_says_by_itself_that_it_rests_on_iterations_and_has_no_verdict() -> None:
    assert (OUTLOOK.basis, OUTLOOK.verdict, OUTLOOK.news, OUTLOOK.hopeless) == (Basis.ITERATIONS, None, "", None)


def test_nobody_changes_what_was_foreseen() -> None:
    with pytest.raises(FrozenInstanceError):
        OUTLOOK.meets = 1.0  # type: ignore[misc]
