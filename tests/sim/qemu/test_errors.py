"""QEMU's refusals."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu import errors


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (errors.missing("uri"), "Parameter 'uri' is missing"),
        (errors.unexpected("detach"), "Parameter 'detach' is unexpected"),
        (errors.wrong_type("uri", "string"), "Invalid parameter type for 'uri', expected: string"),
        (errors.wrong_value("state", "x"), "Parameter 'state' does not accept value 'x'"),
        (errors.in_progress(), "There's a migration process in progress"),
    ],
)
def test_they_are_worded_as_qemu_does(refusal: errors.Refusal, words: str) -> None:
    """And are of its general class, which nearly all are."""
    assert refusal.description == words == str(refusal)
    assert refusal.error_class == "GenericError"
