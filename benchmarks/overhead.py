"""Time outside the RAM transfer: before the first byte, and between the end of sending and the guest's running.

The destination process is up already, both ends are on this host, the guest is small. *Before* is from the call
until QEMU's own stamp on ``MIGRATION active``, at which it begins to send; QEMU's own setup is in it. *After* is
from QEMU's stamp on the source's ``completed`` to that on the destination's ``RESUME``. What lies between is QEMU's.
"""

from __future__ import annotations

from whimbrel.laboratory.place import Loopback

from .bars import Bar, Result, Row
from .figures import Estimate, median
from .guests import small
from .pairs import Manner, Pairs, run_pairs

GREATEST_MS = 60.0
_SHOWN = (
    ("from the call: log, locks", "before.open"),
    ("inspect the source, judge it", "before.inspect"),
    ("connect to the destination, compare both", "before.prepare"),
    ("negotiate, set both ends up, make the log safe", "before.arm"),
    ("`migrate` until QEMU says active", "before.migrate"),
    ("source `completed` to RESUME", "after"),
    ("source `device` to RESUME (QEMU's device state is in it)", "device to resume"),
    ("after the guest runs: figures taken, source ended, call returns", "release"),
)


def measure(manner: Manner) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it; the bare script's figure is for scale."""
    pairs = run_pairs(Loopback(), small(), manner, ready=True)
    ask = f"at most {GREATEST_MS:g} ms in all"
    whole = _median_ms([move.items["before"] + move.items["after"] for move in pairs.ours])
    careful = _median_ms([move.items["before"] + move.items["device to resume"] for move in pairs.ours])
    bars = (
        Bar("before the first byte, and from completed to RESUME", ask, whole, GREATEST_MS, "ms"),
        Bar("the same, counted from the source's `device` on", ask, careful, GREATEST_MS, "ms"),
    )
    rows = [Row(text, _median_ms([move.items[name] for move in pairs.ours]), "ms") for text, name in _SHOWN]
    before = _median_ms([move.items["before"] for move in pairs.bare])
    rows.append(Row("for scale: bare script, call until `migrate` was answered", before, "ms"))
    return [Result("Time outside the transfer", bars, tuple(rows))], {"overhead": pairs}


def _median_ms(seconds: list[float]) -> Estimate:
    return median(seconds).scaled(1e3)
