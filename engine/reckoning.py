"""What the figures of a report are made of, gathered while the migration runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .aftermath import NOTHING_PREDICTED, link_seen, with_comparison
from .link import LinkEstimate
from .prediction import Prediction
from .report import CompletedReport
from .statistics import Statistics
from .timeline import Mark, itemise

STANDS_STILL = "pre-switchover"
"""The status in which the guest is stopped and nothing is sent: what is left then is the last RAM, exactly."""


@dataclass(slots=True)
class Reckoning:
    """Gathers them.

    Attributes:
        prediction: what was predicted, once that was.
        marks: the moments of the outage that were seen, wall-clock seconds.
    """

    prediction: Prediction | None = None
    marks: dict[Mark, float] = field(default_factory=dict[Mark, float])
    _at_stop: Statistics | None = None
    """The last statistics before the guest was stopped, or while it stands still: what came after them went over in
    the outage."""
    _last: Statistics | None = None
    _first: LinkEstimate = field(default_factory=LinkEstimate)
    _made: list[Prediction] = field(default_factory=list[Prediction])

    def predict(self, made: Prediction) -> None:
        """From now on it is this that the report compares."""
        self.prediction = made
        self._made.append(made)

    def made(self) -> list[Prediction]:
        """What was predicted since the last call; for the log."""
        given, self._made = self._made, []
        return given

    def see(self, seen: Statistics) -> None:
        """Take an answer of QEMU's."""
        self._last = seen
        if seen.status == STANDS_STILL:
            self._at_stop = seen
        elif seen.iteration <= 1 and seen.remaining_bytes and seen.qemu_total_s is not None:
            # Later iterations are for sending what the link is slow to take, too, but the pipe is full by then.
            self._first.add(seen.qemu_total_s - (seen.setup_s or 0.0), seen.transferred_bytes)

    def stop(self) -> None:
        """The guest was stopped."""
        self._at_stop = self._last

    def into(self, report: CompletedReport, *, cap_bytes_per_s: int, foreseen: bool) -> CompletedReport:
        """The report with its downtime, what it showed of the link, and the prediction against what came of it.

        Args:
            report: all else.
            cap_bytes_per_s: what QEMU was told to send at most; 0: no cap.
            foreseen: whether somebody looked ahead: then there should be a prediction.
        """
        if report.moved:
            at_stop, last = self._at_stop, self._last
            # In post-copy nothing waits for the memory.
            waits = at_stop is not None and last is not None and not report.postcopy
            left_bytes = last.transferred_bytes - at_stop.transferred_bytes if waits and last and at_stop else 0
            bandwidth = at_stop.bandwidth_bytes_per_s if at_stop is not None else 0.0
            downtime = itemise(self.marks, left_bytes=left_bytes, bandwidth_bytes_per_s=bandwidth)
            report = replace(report, downtime=downtime)
            report = replace(report, link=link_seen(report, self._first, cap_bytes_per_s))
        return with_comparison(report, self.prediction, why_none=NOTHING_PREDICTED if foreseen else "")
