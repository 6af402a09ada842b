"""The manager is killed at every single point of a move: around each line of its log, and each QMP command."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tests.support.mortal_manager import Act

from .plan import Run

LEAST_MOMENTS: Final = {"move": 250, "cancelled": 200}
"""There are at least so many: two for each of some 80 lines of the log, three for each of some 50 commands."""

CANCEL: Final = Act(at="after sample#3", what="cancel")
"""Calls a move off in the middle of its pre-copy."""

MUST: Final = (
    "before command continue",
    "after command continue",
    "sending source migrate-continue",
    "sent source migrate-continue",
    "answered source migrate-continue",
    "before command resume-destination",
    "after command resume-destination",
    "sending destination cont",
    "sent destination cont",
    "spawned",
    "sending destination migrate-incoming",
    "sent source quit",
)
"""The moments at which the guest changes hands, those between a destination's birth and its listening, and the end."""

KINDS: Final[dict[str, tuple[Act, ...]]] = {"move": (), "cancelled": (CANCEL,)}

RESOLVER_AT: Final = ("after signal source-active", "after command continue", "after command resume-destination")
"""Where the manager dies whose successor is killed, too, at every point of its own."""


def plain(kind: str) -> Run:
    """A run in which nobody is killed, to see which moments there are."""
    return Run(key=f"points/{kind}/none", phase=kind, fault="kill-manager", acts=KINDS[kind])


def sweep(kind: str, moments: list[str]) -> list[Run]:
    """One run for each moment that a run without a death passed.

    Not each of them passes as many statistics and events as the next one, so the N-th moment may be another; what it
    was stands in the results.

    Args:
        kind: ``move`` or ``cancelled``.
        moments: of `plain`.
    """
    return [
        Run(key=f"points/{kind}/{number}", phase=kind, fault="kill-manager", acts=KINDS[kind], die_at=number)
        for number in range(1, len(moments) + 1)
    ]


def named(kind: str, moments: tuple[str, ...] | list[str]) -> list[Run]:
    """One run for each of these moments, by name."""
    return [
        Run(
            key=f"points/{kind}/{moment}",
            phase=kind,
            fault="kill-manager",
            acts=(*KINDS[kind], Act(at=moment, what="kill-manager")),
        )
        for moment in moments
    ]


def of_successor(at: str, moments: list[str]) -> list[Run]:
    """The manager dies at one moment, the one that takes over at the N-th of its own; a third one has to settle it.

    Args:
        at: where the first one dies, one of `RESOLVER_AT`.
        moments: those of a successor that was left alone.
    """
    first = Act(at=at, what="kill-manager")
    return [
        Run(key=f"points/{at}/{number}", phase=at, fault="kill-manager", acts=(first,), successor_dies_at=number)
        for number in range(1, len(moments) + 1)
    ]


def numbered(moments: list[str]) -> list[str]:
    """Each moment's name with its number where it is not the first of its name."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for moment in moments:
        seen[moment] += 1
        names.append(moment if seen[moment] == 1 else f"{moment}#{seen[moment]}")
    return names
