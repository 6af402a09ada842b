"""What an inspection found: one record for each thing that somebody should know before the guest is moved."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Severity(enum.Enum):
    """How much a finding weighs."""

    REFUSE = "refused"
    """The migration must not begin."""
    WARN = "warning"
    """It may begin, and somebody should know."""
    INFO = "note"
    """Said for completeness."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: how much it weighs.
        code: what kind of thing it is, for programs: stable, lower case, with dashes (``ram-block-size``).
        seen: what was seen, one clause without a full stop.
        advice: what to do about it, one clause without a full stop; empty where there is nothing to do.
    """

    severity: Severity
    code: str
    seen: str
    advice: str = ""

    def __str__(self) -> str:
        text = f"{self.severity.value}: {self.seen}"
        return f"{text}; {self.advice}" if self.advice else text


def refuse(code: str, seen: str, advice: str = "") -> Finding:
    """A finding that forbids the migration."""
    return Finding(Severity.REFUSE, code, seen, advice)


def warn(code: str, seen: str, advice: str = "") -> Finding:
    """A finding that somebody should know of."""
    return Finding(Severity.WARN, code, seen, advice)


def inform(code: str, seen: str, advice: str = "") -> Finding:
    """A finding for completeness."""
    return Finding(Severity.INFO, code, seen, advice)


def refused(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that forbid the migration."""
    return tuple(finding for finding in findings if finding.severity is Severity.REFUSE)


def as_text(findings: Iterable[Finding]) -> str:
    """One line for each, the gravest first, in the order found otherwise; ``nothing was found`` for none."""
    order = list(Severity)
    lines = [str(finding) for finding in sorted(findings, key=lambda finding: order.index(finding.severity))]
    return "\n".join(lines) or "nothing was found"
