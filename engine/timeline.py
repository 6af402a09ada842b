"""The outage, itemised from the moments that both QEMUs and we ourselves put on record.

All moments are wall-clock seconds: QEMU stamps its events with its host's clock, the manager's own moments
use the same clock. Across two hosts the items that span both are as good as their clocks agree.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Mark(enum.Enum):
    """A moment that the itemised downtime is made of."""

    SOURCE_STOP = "source-stop"
    SOURCE_PRE_SWITCHOVER = "source-pre-switchover"
    CONTINUE_SENT = "continue-sent"
    SOURCE_DEVICE = "source-device"
    SOURCE_COMPLETED = "source-completed"
    DESTINATION_COMPLETED = "destination-completed"
    CONT_SENT = "cont-sent"
    DESTINATION_RESUME = "destination-resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime:
    """From the source's STOP to the destination's RESUME, seconds; the items add up to `total_s`.

    QEMU reports no moment between the last page and the device state, nor between the end of sending and
    the end of loading: `last_ram_s` and `device_state_s` share one measured span, split by the bytes that
    were sent after the stop and the bandwidth before it. Everything else is measured.
    """

    total_s: float
    stop_s: float
    """STOP until QEMU stands in ``pre-switchover``."""
    drain_s: float
    """Until we sent ``migrate-continue``: hooks, disks, our own reaction."""
    last_ram_s: float
    """Sending the last dirty pages; estimated (see above)."""
    device_state_s: float
    """Until the destination said ``completed``: pipe, device state and loading; estimated share."""
    load_s: float
    """Until the source had the destination's word and said ``completed``, and we sent ``cont``."""
    resume_s: float
    """Until the destination's RESUME."""


def itemise(marks: Mapping[Mark, float], *, left_bytes: int = 0, bandwidth_bytes_per_s: float = 0.0) -> Downtime | None:
    """The items of the outage.

    Args:
        marks: the moments seen, wall-clock seconds.
        left_bytes: what was sent after the guest was stopped.
        bandwidth_bytes_per_s: at which it went.

    Returns:
        ``None`` where the guest was not stopped and resumed by this migration. A moment that was not seen
        makes its item zero and the following one longer.
    """
    if Mark.SOURCE_STOP not in marks or Mark.DESTINATION_RESUME not in marks:
        return None
    start, end = marks[Mark.SOURCE_STOP], marks[Mark.DESTINATION_RESUME]
    # In post-copy it completes long after the guest runs there; what it needed for that it had when we sent ``cont``.
    late = marks.get(Mark.DESTINATION_COMPLETED, end) > end
    order = (
        Mark.SOURCE_PRE_SWITCHOVER,
        Mark.CONTINUE_SENT,
        Mark.CONT_SENT if late else Mark.DESTINATION_COMPLETED,
        Mark.CONT_SENT,
        Mark.DESTINATION_RESUME,
    )
    spans: list[float] = []
    before = start
    for mark in order:
        moment = min(max(marks.get(mark, before), before), max(end, before))
        spans.append(moment - before)
        before = moment
    stop, drain, rest, load, resume = spans
    estimate = left_bytes / bandwidth_bytes_per_s if bandwidth_bytes_per_s > 0 else 0.0
    last_ram = min(rest, estimate)
    return Downtime(
        total_s=end - start,
        stop_s=stop,
        drain_s=drain,
        last_ram_s=last_ram,
        device_state_s=rest - last_ram,
        load_s=load,
        resume_s=resume,
    )
