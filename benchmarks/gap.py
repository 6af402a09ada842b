"""What an idle guest sees of a switchover, next to what QEMU alone gives with a destination that starts by itself.

Both ends on this host and no pace on the link: what is left is the switchover itself.
"""

from __future__ import annotations

from whimbrel.laboratory.place import Loopback

from .bars import Bar, Result, Row
from .figures import difference, median
from .guests import FINE_BEAT_HZ, small
from .pairs import Manner, Pairs, run_pairs

GREATEST_MS = 10.0
_PARTS = (
    ("last heartbeat to STOP", "before_stop_s"),
    ("STOP to RESUME", "stop_to_resume_s"),
    ("RESUME to first heartbeat", "after_resume_s"),
)
_ITEMS = (
    ("STOP until QEMU stands in pre-switchover", "stop"),
    ("until we sent `migrate-continue`", "drain"),
    ("last RAM", "last_ram"),
    ("device state: sent, loaded, destination `completed`", "device_state"),
    ("until source `completed` and we sent `cont`", "load"),
    ("`cont` to RESUME", "resume"),
)


def measure(manner: Manner) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it."""
    pairs = run_pairs(Loopback(), small(FINE_BEAT_HZ), manner, ready=True)
    ours, bare = pairs.values(lambda move: move.gap_s)
    more = difference(ours, bare).scaled(1e3)
    ask = f"at most {GREATEST_MS:g} ms more than QEMU alone"
    bars = (Bar("guest-seen gap of an idle guest", ask, more, GREATEST_MS, "ms"),)
    rows = [
        Row("gap, QEMU alone (autostart)", median(bare).scaled(1e3), "ms"),
        Row("gap, whimbrel", median(ours).scaled(1e3), "ms"),
    ]
    for text, name in _PARTS:
        for by, moves in (("QEMU alone", pairs.bare), ("whimbrel", pairs.ours)):
            values = [float(getattr(move, name)) for move in moves]
            rows.append(Row(f"{text}, {by}", median(values).scaled(1e3), "ms"))
    for text, item in _ITEMS:
        values = [move.items[f"downtime.{item}"] for move in pairs.ours]
        rows.append(Row(f"of STOP to RESUME, whimbrel: {text}", median(values).scaled(1e3), "ms"))
    notes = (f"heartbeats at {FINE_BEAT_HZ} Hz: one period, {1000 / FINE_BEAT_HZ:g} ms, is the resolution",)
    return [Result("Guest-seen gap at the switchover", bars, tuple(rows), notes)], {"gap": pairs}
