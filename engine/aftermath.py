"""What a prediction was worth: the figures of a migration that has ended, beside those that were predicted of it.

Both are counted alike. Time begins with ``migrate`` and ends when the guest runs at the destination; what comes after
(the rest of a post-copy, the source that is let go) is in `CompletedReport.total_s` and in no prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .estimate import Range
from .prediction import COMPONENTS, Compared, Prediction
from .report import CompletedReport, LinkSeen

OUTAGE = ("last_ram", "device_state", "fixed")
"""The components of the downtime."""
UNITS = {"transferred": "bytes", "iteration_count": ""}
"""All else is in seconds."""
CAPPED_FROM = 0.9
"""A sender that comes to this part of its cap is held up by it and not by the link."""
LEAST_SHARE, LEAST_SPAN_S = 0.1, 0.5
"""A migration that sent less than a tenth of the RAM, or was over sooner, tells nothing of the link: looking through
zero pages took it a good part of its time."""
WORTH_NAMING = 0.25
"""A component is named if it makes up a quarter of what a figure is off by."""
NOTHING_PREDICTED = "nothing was predicted: it ended within its first iteration"
AS_PREDICTED = "time, downtime and bytes came within what was predicted"


def with_comparison(report: CompletedReport, prediction: Prediction | None, *, why_none: str = "") -> CompletedReport:
    """The report with what was predicted, how that compares, and what was off.

    Args:
        report: of a migration that has ended, however.
        prediction: ``None``: there is none.
        why_none: then why not, where it moved the guest all the same (`NOTHING_PREDICTED`); empty: nobody was to.
    """
    if prediction is None:
        return replace(report, off=why_none if report.moved else "")
    if not report.moved:
        off = f"there is nothing to hold the prediction against: it {_ENDED.get(report.outcome, report.outcome)}"
        return replace(report, prediction=prediction, off=off)
    compared = compare(prediction, actual(report))
    return replace(report, prediction=prediction, compared=compared, off=what_was_off(compared))


_ENDED = {"cancelled": "was called off", "failed": "failed"}


def actual(report: CompletedReport) -> Mapping[str, float]:
    """What came of a migration that moved its guest, by the names of `Compared.name`; those not known are missing.

    The stages and the itemised downtime give it:

    - ``preparation`` is stage 1: up to ``migrate``.
    - ``iterations`` is stage 2 less the time from the guest's stop to QEMU's ``pre-switchover``, which ends the stage.
    - ``last_ram``, ``device_state`` and ``fixed`` are the outage, as `Downtime` has it itemised: ``fixed`` is the stop,
      the drain, the source's word and the resumption.
    - ``total`` is ``iterations`` and the outage. A guest that stood paused has no outage: then it is stages 2 to 4.
    - ``transferred`` is all RAM on the wire, what came after the switchover included.
    - ``iteration_count`` is the syncs of a running guest: those that came before it was stopped.
    """
    stage_s = {each.stage: each.seconds for each in report.stages}
    found = {"transferred": float(report.ram_transferred_bytes)}
    if 1 in stage_s:
        found["preparation"] = stage_s[1]
    if 2 not in stage_s:
        return found
    outage = report.downtime
    if outage is None:
        found["iterations"] = stage_s[2]
        found["total"] = sum(stage_s.get(stage, 0.0) for stage in (2, 3, 4))
        found["iteration_count"] = float(max(1, len(report.iterations)))
        return found
    running_s = max(0.0, stage_s[2] - outage.stop_s)
    stopped_ns = (stage_s.get(1, 0.0) + running_s) * 1e9
    return found | {
        "iterations": running_s,
        "last_ram": outage.last_ram_s,
        "device_state": outage.device_state_s,
        "fixed": outage.stop_s + outage.drain_s + outage.load_s + outage.resume_s,
        "downtime": outage.total_s,
        "total": running_s + outage.total_s,
        "iteration_count": float(max(1, sum(each.started_ns < stopped_ns for each in report.iterations))),
    }


def compare(prediction: Prediction, came: Mapping[str, float]) -> tuple[Compared, ...]:
    """Each figure that was predicted and is known: the four of the whole first, then the components in their order.

    Args:
        prediction: what was said.
        came: what came of it, as `actual` gives it.
    """
    said: dict[str, Range | None] = {
        "total": prediction.total_s,
        "downtime": prediction.downtime_s,
        "transferred": prediction.transferred_bytes,
        "iteration_count": prediction.iterations,
        **{name: prediction.components.get(name) for name in COMPONENTS},
    }
    return tuple(_compared(name, given, came[name]) for name, given in said.items() if given and name in came)


def _compared(name: str, predicted: Range, came: float) -> Compared:
    known = 0 < predicted.middle < math.inf
    off = came / predicted.middle - 1.0 if known else math.inf
    return Compared(
        name=name,
        unit=UNITS.get(name, "s"),
        predicted=predicted,
        actual=came,
        within=predicted.holds(came),
        off=off if math.isfinite(off) else None,  # a median next to nothing is as good as none
    )


def what_was_off(compared: Sequence[Compared]) -> str:
    """In a sentence which of time, downtime and bytes did not come within its range, and by which component."""
    by_name = {each.name: each for each in compared}
    clauses: list[str] = []
    for name, parts in (("total", ("iterations", *OUTAGE)), ("downtime", OUTAGE), ("transferred", ())):
        figure = by_name.get(name)
        if figure is not None and not figure.within:
            clauses.append(_clause(figure, [by_name[part] for part in parts if part in by_name]))
    return "; ".join(clauses) if clauses else AS_PREDICTED


def _clause(figure: Compared, parts: Sequence[Compared]) -> str:
    words = {"total": "time", "transferred": "bytes"}
    name, middle = words.get(figure.name, figure.name), figure.predicted.middle
    if middle == math.inf:
        return f"{name} {_amount(figure, figure.actual)}, where no end was predicted"
    gap = figure.actual - middle
    longer, shorter = ("more", "less") if figure.unit == "bytes" else ("longer", "shorter")
    text = f"{name} {_amount(figure, abs(gap))} {longer if gap > 0 else shorter} than predicted"
    gaps = [(part.actual - part.predicted.middle, part) for part in parts if part.predicted.middle < math.inf]
    named = sorted((pair for pair in gaps if pair[0] / gap >= WORTH_NAMING), key=lambda pair: -abs(pair[0]))
    if named:
        signs = ((f"{part.name.replace('_', ' ')} {'+' if by > 0 else '-'}", part, abs(by)) for by, part in named)
        text += ": " + ", ".join(sign + _amount(part, by) for sign, part, by in signs)
    return text


def _amount(figure: Compared, value: float) -> str:
    if figure.unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def link_seen(report: CompletedReport, cap_bytes_per_s: int) -> LinkSeen | None:
    """What a migration that moved its guest by pre-copy showed of the link.

    All that is handed to the socket has gone over when the destination has everything, so the bytes over that time are
    the bandwidth to well below a percent, whatever the pipe held meanwhile.

    Args:
        report: its stages, downtime and bytes.
        cap_bytes_per_s: what QEMU was told to send at most; 0: no cap.

    Returns:
        ``None``: it was too short, or sent too little, to tell; or post-copy sent a part of it.
    """
    came, sent = actual(report), report.ram_transferred_bytes
    span_s = came.get("iterations", 0.0) + came.get("last_ram", 0.0)
    if not report.moved or report.postcopy or span_s < LEAST_SPAN_S or sent < LEAST_SHARE * report.ram_total_bytes:
        return None
    bandwidth = sent / span_s
    capped = cap_bytes_per_s > 0 and bandwidth >= CAPPED_FROM * cap_bytes_per_s
    return LinkSeen(bandwidth_bytes_per_s=bandwidth, capped=capped)
