"""What the statistics of the first iteration tell about the link: its goodput, and how deep its pipe is.

QEMU counts bytes as sent when the socket took them. At the start they run ahead of the link until socket buffers and
queues are full; from then on they rise as the link carries them. So the slope is the goodput, and the
distance by which they run ahead is the depth of the pipe. All of what is in it is outage when the guest stops:
the device state waits behind it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SLOPE_OVER_S = 3.0
"""Goodput is the slope over so long: long against QEMU's windows of 0.1 s, short against a link that changes."""
FILLED_AFTER_S = 0.3
"""By then the pipe is full on the links that were measured (200 Mbit/s and 1 Gbit/s)."""
LEAST_SPAN_S = 0.3
EARLY_S = (0.1, 0.6)
"""The stretch in which the run ahead is read off, seconds after the transfer began."""
STILL_GROWS = 1.3
"""The kernel goes on to grow the send buffer after that stretch: measured 1.2 to 1.4."""
UNSEEN_S = 0.005
"""What the network card and the receiver hold, seconds of link."""


@dataclass(slots=True)
class LinkEstimate:
    """Learns from (time, bytes sent) while nothing but the link limits the sender."""

    _early: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    _recent: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    goodput_bytes_per_s: float | None = None
    """``None`` until there is enough to go by."""

    def add(self, at_s: float, sent_bytes: int) -> None:
        """Take one reading.

        Args:
            at_s: seconds since the transfer began; rising.
            sent_bytes: handed to the socket since then.
        """
        if EARLY_S[0] <= at_s <= EARLY_S[1]:
            self._early.append((at_s, sent_bytes))
        if at_s < FILLED_AFTER_S:
            return
        self._recent.append((at_s, sent_bytes))
        while self._recent[0][0] < at_s - SLOPE_OVER_S:
            self._recent.popleft()
        if at_s - self._recent[0][0] >= LEAST_SPAN_S:
            self.goodput_bytes_per_s = slope(self._recent)

    @property
    def pipe_bytes(self) -> float:
        """How much the pipe holds, bytes; 0.0 while the goodput is not known."""
        goodput = self.goodput_bytes_per_s
        if not goodput:
            return 0.0
        if not self._early:
            return 0.03 * goodput
        ahead = sorted(sent - goodput * at_s for at_s, sent in self._early)
        return STILL_GROWS * max(0.0, ahead[len(ahead) // 2]) + UNSEEN_S * goodput

    @property
    def pipe_s(self) -> float:
        """The same as time on the link, seconds."""
        goodput = self.goodput_bytes_per_s
        return self.pipe_bytes / goodput if goodput else 0.0


def slope(points: deque[tuple[float, int]]) -> float | None:
    """The least-squares slope, bytes per second; ``None`` where nothing rises."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return rise / spread if spread > 0 and rise > 0 else None
