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
    the end of loading: `last_ram_s` and `device_state_s` share one measured span. Most often an answer that
    QEMU could not give before shows when it had handed over everything (`measured`); else the span is split by
    the bytes that were sent after the stop and the bandwidth before it. Everything else is measured.
    """

    total_s: float
    stop_s: float
    """STOP until QEMU stands in ``pre-switchover``."""
    drain_s: float
    """Until we sent ``migrate-continue``: hooks, disks, our own reaction."""
    last_ram_s: float
    """Handing the last dirty pages over to the socket."""
    device_state_s: float
    """Until the destination said ``completed``: what lay in the pipe goes over, and the device state, and is loaded."""
    load_s: float
    """Until the source had the destination's word and said ``completed``, and we sent ``cont``."""
    resume_s: float
    """Until the destination's RESUME."""
    measured: bool = False
    """Whether the moment between `last_ram_s` and `device_state_s` was seen; else it is estimated."""

    @property
    def items(self) -> dict[str, float]:
        """What `total_s` is made of, seconds by name, in order of time."""
        return {
            "stop_s": self.stop_s,
            "drain_s": self.drain_s,
            "last_ram_s": self.last_ram_s,
            "device_state_s": self.device_state_s,
            "load_s": self.load_s,
            "resume_s": self.resume_s,
        }


def itemise(
    marks: Mapping[Mark, float],
    *,
    left_bytes: int = 0,
    bandwidth_bytes_per_s: float = 0.0,
    handed_s: float | None = None,
) -> Downtime | None:
    """The items of the outage.

    Args:
        marks: the moments seen, wall-clock seconds.
        left_bytes: what was sent after the guest was stopped.
        bandwidth_bytes_per_s: at which it went.
        handed_s: so long after we sent ``migrate-continue`` the source was seen to have handed over everything;
            ``None``: it was not seen, or not in time.

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
    measured = handed_s is not None and handed_s <= rest
    estimate_s = left_bytes / bandwidth_bytes_per_s if bandwidth_bytes_per_s > 0 else 0.0
    last_ram = handed_s if handed_s is not None and measured else min(rest, estimate_s)
    return Downtime(
        total_s=end - start,
        stop_s=stop,
        drain_s=drain,
        last_ram_s=last_ram,
        device_state_s=rest - last_ram,
        load_s=load,
        resume_s=resume,
        measured=measured,
    )
