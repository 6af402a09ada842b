"""What the figures of a report are made of, gathered while the migration runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .aftermath import NOTHING_PREDICTED, link_seen, with_comparison
from .prediction import Prediction
from .report import CompletedReport, StageTime
from .states import STAGES, Phase
from .statistics import Statistics
from .timeline import Mark, itemise

STANDS_STILL = "pre-switchover"
"""The status in which the guest is stopped and nothing is sent: what is left then is the last RAM, exactly."""
HANDS_OVER = "device"
"""The status in which the last RAM and the device state are handed over. QEMU answers nobody meanwhile, so an answer
with this status and nothing left is given at the very moment at which everything is handed to the socket."""


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
    _continued_ns: int = 0
    """When we sent ``migrate-continue``, on the machine's clock."""
    _handed_ns: int | None = None
    _stage_since: tuple[int, int] | None = None
    _stage_ns: dict[int, int] = field(default_factory=dict[int, int])
    _made: list[Prediction] = field(default_factory=list[Prediction])

    def predict(self, made: Prediction) -> None:
        """From now on it is this that the report compares."""
        self.prediction = made
        self._made.append(made)

    def made(self) -> list[Prediction]:
        """What was predicted since the last call; for the log."""
        given, self._made = self._made, []
        return given

    def mark(self, mark: Mark, wall_s: float, now_ns: int) -> None:
        """Take a moment of the outage, which the machine hears of now."""
        self.marks[mark] = wall_s
        if mark is Mark.CONTINUE_SENT:
            self._continued_ns, self._handed_ns = now_ns, None

    def see(self, seen: Statistics) -> None:
        """Take an answer of QEMU's."""
        self._last = seen
        if seen.status == STANDS_STILL:
            self._at_stop = seen
        elif seen.status == HANDS_OVER and not seen.remaining_bytes and self._handed_ns is None:
            self._handed_ns = seen.at_ns

    def enter(self, phase: Phase, now_ns: int) -> None:
        """The migration goes into another phase."""
        if self._stage_since is not None:
            stage, since_ns = self._stage_since
            self._stage_ns[stage] = self._stage_ns.get(stage, 0) + now_ns - since_ns
        self._stage_since = (phase.stage, now_ns) if phase.stage else None
        if phase is Phase.SWITCHOVER:
            self._at_stop = self._last

    def into(self, report: CompletedReport, *, cap_bytes_per_s: int, foreseen: bool) -> CompletedReport:
        """The report with its stages, its downtime, what it showed of the link, and the prediction against all that.

        Args:
            report: all else.
            cap_bytes_per_s: what QEMU was told to send at most; 0: no cap.
            foreseen: whether somebody looked ahead: then there should be a prediction.
        """
        stages = ((stage, ns / 1e9) for stage, ns in sorted(self._stage_ns.items()))
        told = tuple(StageTime(stage=stage, name=STAGES[stage], seconds=seconds) for stage, seconds in stages)
        report = replace(report, stages=told)
        if report.moved:
            at_stop, last = self._at_stop, self._last
            # In post-copy nothing waits for the memory.
            waits = at_stop is not None and last is not None and not report.postcopy
            downtime = itemise(
                self.marks,
                left_bytes=last.transferred_bytes - at_stop.transferred_bytes if waits and last and at_stop else 0,
                bandwidth_bytes_per_s=at_stop.bandwidth_bytes_per_s if at_stop is not None else 0.0,
                handed_s=None if self._handed_ns is None else (self._handed_ns - self._continued_ns) / 1e9,
            )
            report = replace(report, downtime=downtime)
            report = replace(report, link=link_seen(report, cap_bytes_per_s))
        return with_comparison(report, self.prediction, why_none=NOTHING_PREDICTED if foreseen else "")
