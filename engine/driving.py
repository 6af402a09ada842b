"""What every driver of the machine keeps to, a real one and a simulated one: when it looks, and how long it waits.

Nothing here decides about a guest; it is what the protocol's tables count on (docs/explorer.md lists the driver's
duties), written down once.
"""

from __future__ import annotations

from .signals import Command
from .states import Fact, Phase

POLL_S = 0.1
"""QEMU computes its rates over windows of 100 ms: asking more often learns only how much was sent."""
LEAST_POLL_S = 0.005

WATCHED = frozenset(
    {
        Phase.PRECOPY,
        Phase.SWITCHOVER,
        Phase.HANDOVER,
        Phase.CANCELLING,
        Phase.RESOLVING,
        Phase.ACTIVATING,
        Phase.POSTCOPY,
        Phase.RECOVERING,
    }
)
"""Where the source is asked at a steady cadence."""
DESTINATION_TELLS = frozenset({Phase.HANDOVER, Phase.ACTIVATING, Phase.POSTCOPY, Phase.RECOVERING})
"""Where the destination is asked too."""
RUNS_ON_ITS_OWN = frozenset({Phase.PREPARING, Phase.PRECOPY})
"""Where a guest that stops was stopped by others, unless QEMU says that it is its migration."""
STOPPED_BY_MIGRATION = frozenset({"running", "finish-migrate", "postmigrate"})
"""Run states after a STOP that say nothing of others: it runs again, or its migration is what stopped it."""
BEFORE_THE_STOP = frozenset({"setup", "wait-unplug", "active"})
"""Statuses in which a migration has not stopped the guest: whoever stands still in them was stopped by others."""

GOES_ON = frozenset({Phase.PRECOPY, Phase.HANDOVER, Phase.POSTCOPY})
"""Where a migration goes on after both sides were asked."""
CROSSINGS = frozenset({Command.QUIESCE, Command.DRAIN})
"""After these comes ``migrate-continue``."""
ABANDONED_BY_DISCARD = frozenset({Command.INSPECT, Command.PREPARE, Command.ARM, Command.QUIESCE})
"""Orders that backing out may cut short: none of them moves the guest or its token."""

HAS_ALL = frozenset({Fact.SOURCE_COMPLETED, Fact.DESTINATION_COMPLETED})
NOT_THE_ONLY_COPY = frozenset({Fact.SETBACK, Fact.DESTINATION_ENDED})

ANSWER_WITHIN_S = 10.0
"""How long an answer may take. QEMU is silent for the whole switchover: shorter deadlines misjudge it."""
CONNECT_WITHIN_S = 5.0
"""From the attempt to connect to a monitor until it has said which QEMU it is."""
END_GRACE_S = 1.0
"""A dying QEMU closes its monitor a little before its process is gone: so long we wait for the process."""
MOST_LOOKS = 5
"""A side's status changes a handful of times in a whole migration: two in a row is rare."""
FINAL_STATUS_WITHIN_S = 20.0
LOOK_EVERY_S = 0.02
EXIT_WITHIN_S = 20.0
"""A QEMU that was told to quit closes its images first; slow storage makes that long."""
FIGURES_LOOKS = 50
SETTINGS_WITHIN_S = 2.0
"""QEMU sets them in well under a millisecond; one that does not answer must not keep the source from being let go."""
GLANCE_WITHIN_S = 0.5
"""One that hangs does not answer; one that does not, does at once."""
PAUSED_WITHIN_S = 2.0
"""QEMU's threads notice a dead link after each other: the source was seen to pause 100 ms after the destination."""


def poll_pause_s(phase: Phase, wake_every_ns: int | None) -> float:
    """How long to wait between two looks.

    Args:
        phase: where the migration stands.
        wake_every_ns: the cadence that the policy asked for (`Machine.wake_every_ns`).
    """
    if phase is not Phase.PRECOPY or wake_every_ns is None:
        return POLL_S
    return min(POLL_S, max(LEAST_POLL_S, wake_every_ns / 1e9))


def holds_the_only_copy(known: frozenset[Fact]) -> bool:
    """Whether the destination would, if the source's process were gone: then nobody may end it."""
    return known >= HAS_ALL and not known & NOT_THE_ONLY_COPY
