"""How the migration threads of the modelled QEMUs differ, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS

from .contract import Version

WINDOW_MS = 100
"""Bandwidth is measured and limited by windows of at least this (``BUFFER_DELAY`` in migration.c)."""
SLICE_MS = 51
"""A turn of the loop sends for at most so long: QEMU looks at whole milliseconds *above* 50 (``MAX_WAIT``, ram.c)."""
WAKE_NS = 60_000
"""How late a thread wakes from its sleep. With times in whole milliseconds, this is why some windows are 101 ms."""
SLICE_NS = SLICE_MS * MILLISECOND_NS
LAST_STEP_NS = SECOND_NS
"""How far a step of the last stage goes: nothing is looked at in between."""
OFTEN_NS = 60 * MILLISECOND_NS
PIECE_NS = 5 * MILLISECOND_NS
"""Where figures are asked for more often than the one, slices are written in pieces of the other, so that a change of
``max-bandwidth`` holds at once, or nearly: QEMU looks at it before every page."""
POSTCOPY_STEP_NS = 5 * MILLISECOND_NS
"""How far a step of the background goes where a page that the guest waits for has to queue behind it."""
PAUSE_NS = MILLISECOND_NS + WAKE_NS
"""From STOP to ``pre-switchover``: QEMU first waits 1 ms for a stale ``migrate-continue`` (migration.c)."""
PROCEED_NS = 300_000
"""From ``migrate-continue`` to the next status; as recorded."""
SETUP_BYTES = 200
"""Head of the stream, names and sizes of the RAM blocks."""
LOOK_PAGES = 64
"""It looks at the clock once in so many pages (ram.c), so that over a slow link a slice takes a little longer."""
SYNC_PERIOD_MS = 1000
"""Dirty rate, XBZRLE rates and the throttle's detector move at a sync that comes later than this after the last."""
FORCED_SYNC_S = 5
"""9.2 and later: while auto-converge is on a timer syncs where no sync came for so long (cpu-throttle.c)."""
SECTION_BYTES = 10
"""What a slice of RAM costs in the stream beside its pages: head and foot of a section (savevm.c)."""
END_BYTES = 8
"""And the mark that ends it (``RAM_SAVE_FLAG_EOS``)."""
FAR_NS = 1 << 61
"""The end of a write that lies beyond this is not known: the link is in an outage."""
FLUSH_BYTES = 131_328
"""10.0 counts what was flushed, and flushes after 64 pieces: 32 pages, each with its header (qemu-file.c)."""
COPY_FLUSH_BYTES = 32_768
"""The same where pages are copied into the buffer first (XBZRLE)."""
NO_ESTIMATE = (1 << 63) - 1
"""11.1's ``expected-downtime`` while the bandwidth is 0: INT64_MAX."""
LOWEST_THROTTLE = 1
HIGHEST_THROTTLE = 99
"""Percent (``CPU_THROTTLE_PCT_MIN`` and ``_MAX``)."""


class Phase(Enum):
    """Where the thread is."""

    NEW = auto()
    LOOP = auto()
    """Setup, iterations, and the background of post-copy."""
    STOPPING = auto()
    HELD = auto()
    """At ``pre-switchover``."""
    LAST = auto()
    SENT = auto()
    PAUSED = auto()
    """Its stream is broken."""
    OVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One version's.

    Attributes:
        counts_every_sync: ``dirty-sync-count`` is a count of syncs, each announced: the first, those that a timer
            forces and the one after the stop. Otherwise it counts iterations, and starts at 1 unannounced.
        at_threshold: it switches over at the threshold, too, not only below it.
        postcopy_part_counts: pages that post-copy could send later count in the question whether to sync; where they
            don't, the capability ``postcopy-ram`` makes it sync at every turn.
        counts_flushed: rate limit and ``transferred`` go by what was flushed, not by what was put in.
        framing_counted: ``transferred`` has the heads and feet of sections, too.
        says_device: it is at ``device`` before every switchover, not only after ``pre-switchover``.
        early_postcopy: it is at ``postcopy-active`` before the guest stops.
        says_postcopy_device: it is at ``postcopy-device`` until the destination answers.
        urgent_thread: with ``postcopy-preempt`` pages that the guest waits for are sent by a thread of their own, which
            no rate limit holds.
        forced_sync: see `FORCED_SYNC_S`.
        estimate_when_asked: ``expected-downtime`` is computed for each ``query-migrate``.
        switchover_bandwidth: it has ``avail-switchover-bandwidth``.
        dirty_limit: it has the capability.
        zero_in_channels: multifd's threads look for zero pages (``zero-page-detection``).
        downtime_bytes: what is sent while the guest stands counts as ``downtime-bytes``.
        shows_remaining: ``query-migrate`` has a ``remaining`` of its own beside that of ``ram``.
        shows_skipped: ``ram`` has a ``skipped``.
    """

    counts_every_sync: bool = True
    at_threshold: bool = False
    postcopy_part_counts: bool = True
    counts_flushed: bool = True
    framing_counted: bool = True
    says_device: bool = True
    early_postcopy: bool = False
    says_postcopy_device: bool = False
    urgent_thread: bool = True
    forced_sync: bool = True
    estimate_when_asked: bool = False
    switchover_bandwidth: bool = True
    dirty_limit: bool = True
    zero_in_channels: bool = True
    downtime_bytes: bool = True
    shows_remaining: bool = False
    shows_skipped: bool = False


_RULES = {
    # Read in the sources.
    Version.V7_2: Rules(
        counts_flushed=False,
        framing_counted=False,
        says_device=False,
        early_postcopy=True,
        urgent_thread=False,
        forced_sync=False,
        switchover_bandwidth=False,
        dirty_limit=False,
        zero_in_channels=False,
        shows_skipped=True,
    ),
    Version.V10_0: Rules(),
    # Seen from outside only.
    Version.V11_1: Rules(
        counts_every_sync=False,
        at_threshold=True,
        postcopy_part_counts=False,
        says_postcopy_device=True,
        estimate_when_asked=True,
        downtime_bytes=False,
        shows_remaining=True,
    ),
}


def rules_of(version: Version) -> Rules:
    """The rules of a version."""
    return _RULES[version]
