"""Findings as text, and in order."""

from __future__ import annotations

from whimbrel.qmp_driver.findings import Severity, as_text, inform, refuse, refused, warn


def test_a_finding_says_what_was_seen_and_what_to_do() -> None:
    """One line; without advice it ends after what was seen."""
    assert str(refuse("x", "the tap is taken", "give another")) == "refused: the tap is taken; give another"
    assert str(inform("y", "all is well")) == "note: all is well"


def test_the_gravest_come_first() -> None:
    """And otherwise the order in which they were found."""
    found = (inform("a", "1"), warn("b", "2"), refuse("c", "3"), refuse("d", "4"))
    assert as_text(found).splitlines() == ["refused: 3", "refused: 4", "warning: 2", "note: 1"]
    assert as_text(()) == "nothing was found"


def test_only_refusals_forbid() -> None:
    """A warning does not stop a migration."""
    found = (inform("a", "1"), warn("b", "2"), refuse("c", "3"))
    assert [finding.code for finding in refused(found)] == ["c"]
    assert [finding.severity for finding in refused(found)] == [Severity.REFUSE]
