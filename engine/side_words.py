"""What each side's happenings are called in the engine's words."""

from __future__ import annotations

from dataclasses import dataclass

from .signals import Signal
from .states import Side as SideName
from .timeline import Mark

SOURCE_STATUS: dict[str, Signal] = {
    "": Signal.SOURCE_IDLE,
    "none": Signal.SOURCE_IDLE,
    "active": Signal.SOURCE_ACTIVE,
    "pre-switchover": Signal.SOURCE_PRE_SWITCHOVER,
    "device": Signal.SOURCE_DEVICE,
    "postcopy-active": Signal.SOURCE_POSTCOPY,
    "postcopy-paused": Signal.SOURCE_POSTCOPY_PAUSED,
    "completed": Signal.SOURCE_COMPLETED,
    "failed": Signal.SOURCE_FAILED,
    "cancelled": Signal.SOURCE_CANCELLED,
}
"""Statuses that are not here (``setup``, ``cancelling``, ``failing``, new ones) change nothing."""

DESTINATION_STATUS: dict[str, Signal] = {
    "active": Signal.DESTINATION_ACTIVE,
    "postcopy-active": Signal.DESTINATION_POSTCOPY,
    "postcopy-paused": Signal.DESTINATION_POSTCOPY_PAUSED,
    "completed": Signal.DESTINATION_COMPLETED,
    "failed": Signal.DESTINATION_FAILED,
}

MARK_OF: dict[tuple[SideName, str], Mark] = {
    (SideName.SOURCE, "STOP"): Mark.SOURCE_STOP,
    (SideName.SOURCE, "pre-switchover"): Mark.SOURCE_PRE_SWITCHOVER,
    (SideName.SOURCE, "device"): Mark.SOURCE_DEVICE,
    (SideName.SOURCE, "completed"): Mark.SOURCE_COMPLETED,
    (SideName.DESTINATION, "completed"): Mark.DESTINATION_COMPLETED,
    (SideName.DESTINATION, "RESUME"): Mark.DESTINATION_RESUME,
}

NO_STATUS = frozenset({"", "none"})
"""What a QEMU says that never migrated."""


@dataclass(frozen=True, slots=True)
class Words:
    """How one side's happenings are called."""

    status: dict[str, Signal]
    running: Signal
    stopped: Signal | None
    shut_down: Signal | None
    lost: Signal
    ended: Signal


WORDS: dict[SideName, Words] = {
    SideName.SOURCE: Words(
        status=SOURCE_STATUS,
        running=Signal.SOURCE_RUNNING,
        stopped=Signal.SOURCE_STOPPED,
        shut_down=Signal.SOURCE_SHUT_DOWN,
        lost=Signal.SOURCE_LOST,
        ended=Signal.SOURCE_ENDED,
    ),
    SideName.DESTINATION: Words(
        status=DESTINATION_STATUS,
        running=Signal.DESTINATION_RUNNING,
        stopped=None,
        shut_down=None,
        lost=Signal.DESTINATION_LOST,
        ended=Signal.DESTINATION_ENDED,
    ),
}
