"""What follows in a forecast when post-copy is chosen: pages that come after the guest, and its waiting for them.

All that is in the bitmap when the guest stops is missing at the destination. The source goes on sending it, as fast as
the link drains, and a page that the guest touches meanwhile is sent out of turn, but behind what lies in the pipe
already (with ``postcopy-preempt`` on a connection of its own); it then goes on behind that page. So every page goes
over once, those of whoever touches pages come first, and how long that takes is known; what the guest does meanwhile is
worked out by small steps of time: it runs from one missing page to the next, and stands at each for as long as one
takes to come.
"""

from __future__ import annotations

from dataclasses import dataclass

from .bounds import PAGE_HEADER_BYTES
from .curve import PAGE_BYTES
from .forecast_dirt import Dirt
from .forecast_records import Setting
from .forecast_sender import ZERO_PAGE_WIRE_BYTES

STEPS = 200
SLOPE_S = 1e-4
"""Over so much of the guest's own time it is looked at how often it touches new pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postcopy:
    """How it goes.

    Attributes:
        span_s: until all pages are there, from when the guest runs at the destination.
        worked_s: what the guest does in it, seconds of its own time.
        wire_bytes: what goes over.
    """

    span_s: float
    worked_s: float
    wire_bytes: float


def postcopy(setting: Setting, dirt: Dirt, zero_bytes: float, *, preempt: bool) -> Postcopy:
    """Foretell it.

    Args:
        setting: guest and link.
        dirt: the bitmap, after the sync with the guest stopped.
        zero_bytes: what is to be sent as zero pages besides.
        preempt: pages that the guest waits for have a connection of their own.
    """
    link = min(setting.bandwidth_bytes_per_s, setting.costs.cpu_bytes_per_s)
    each = 1.0 + PAGE_HEADER_BYTES / PAGE_BYTES
    wire_bytes = dirt.pending_bytes * each + zero_bytes * ZERO_PAGE_WIRE_BYTES / PAGE_BYTES
    span_s = wire_bytes / link
    queue_bytes = 0.0 if preempt else min(float(setting.pipe_bytes), wire_bytes)
    wait_s = 2 * setting.latency_s + (queue_bytes + PAGE_BYTES * each) / link
    missing = [
        (area.writers.curve.at, sum(run.density * run.length_bytes for run in dirt.runs if run.area is area))
        for area in dirt.areas
        if area.writers is not None
    ]
    ranges = [area.range_bytes for area in dirt.areas if area.writers is not None]
    touched_s = sum(held for _, held in missing) * each / link
    own_s, step_s = 0.0, touched_s / STEPS
    for step in range(STEPS):
        left = 1.0 - (step + 0.5) / STEPS
        # A page that it touches for the first time here is missing if it was in the bitmap and has not come since.
        faults_per_s = sum(
            (at(own_s + SLOPE_S) - at(own_s)) / SLOPE_S * held / range_bytes * left / PAGE_BYTES
            for (at, held), range_bytes in zip(missing, ranges, strict=True)
        )
        own_s += step_s / (1.0 + faults_per_s * wait_s)
    return Postcopy(span_s=span_s, worked_s=own_s + span_s - touched_s, wire_bytes=wire_bytes)
