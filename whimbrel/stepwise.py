"""The model ``stepwise``: two modelled QEMUs, a modelled link and the real machine, told as every model's run is."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from whimbrel.engine.policy import Reason
from whimbrel.engine.statistics import Statistics
from whimbrel.policies import resolve
from whimbrel.sim.scenario import Scenario
from whimbrel.sim.world import Outcome, World, simulate
from whimbrel.simulation_records import Decided, Row, Run, figures
from whimbrel.units import format_duration

__all__ = ["drawn_by", "run_stepwise", "stepwise_lacks"]

NO_END = "no end"
DECISION, SETTINGS = '"kind":"decision"', '"kind":"settings"'
"""In each of the log's lines of this kind, whose texts have their own quotes escaped, and in no other."""
POSTCOPY = "postcopy"
OUTSIDE = "outside_throttle"
"""How QEMU's statuses begin once the guest runs ahead of its pages."""
OWN_CAPABILITIES = frozenset({"events", "late-block-activate", "pause-before-switchover", "return-path"})
"""What every migration has, whatever its policy."""
LEAST_SPAN_NS, MOST_SPANS = 200_000_000, 150
"""Two of QEMU's windows, and no more spans than can be told apart in a picture."""


def stepwise_lacks(scenario: Scenario) -> Iterator[str]:
    """What can't be had here: pages one by one where numpy is missing."""
    if scenario.guest.pages and importlib.util.find_spec("numpy") is None:
        yield "guest.pages without numpy (pip install 'whimbrel[sim]')"


def run_stepwise(scenario: Scenario, seed: int) -> Run:
    """One migration, or the first of several at the same time.

    Raises:
        BadInput: the policy can't be had.
    """
    return _told(simulate(scenario, seed, resolve(scenario.policy)))


def drawn_by(scenario: Scenario, seed: int) -> dict[str, Any]:
    """What the seed draws for the first migration before anything happens.

    Raises:
        BadInput: the policy can't be had.
    """
    return _drawn(World(scenario, seed, resolve(scenario.policy)).derived(), 0)


def _told(outcome: Outcome, index: int = 0) -> Run:
    """One of the migrations of a world."""
    truth, report = outcome.truth, outcome.report
    began_ns: int = outcome.derived["migrate_ns"] or 0
    seen = [each for each in outcome.log.statistics() if each.at_ns >= began_ns]
    converged = report is not None and report.outcome == "completed"
    lines = list(outcome.log.lines())
    decisions = tuple(_decisions(lines, seen, began_ns))
    chosen_s = next(((each.at_ns - began_ns) / 1e9 for each in seen if each.status.startswith(POSTCOPY)), None)
    rows = tuple(_rows(outcome, seen, decisions, began_ns, converged and chosen_s is None))
    return Run(
        seed=outcome.seed,
        converged=converged,
        outcome=report.outcome if report is not None else NO_END,
        reason="" if report is None or converged else report.why,
        total_s=truth.moved_s if converged or report is None else max(0.0, report.total_s - began_ns / 1e9),
        downtime_s=truth.outage_s,
        iterations=len(rows),
        transferred_bytes=truth.transferred_bytes,
        throttle=max((*(each.throttle for each in seen), *(each.changes.get(OUTSIDE, 0.0) for each in decisions), 0.0)),
        downtime=report.downtime.items if report is not None and report.downtime is not None else {},
        each_iteration=rows,
        decisions=decisions,
        remaining=tuple(_remaining(rows, seen, began_ns, truth.moved_s if converged and chosen_s is None else None)),
        sending=tuple(_sending(seen, began_ns)),
        threshold=tuple(_threshold(outcome.scenario, seen, decisions, began_ns)),
        drawn=_drawn(outcome.derived, index),
        others=tuple(_other(_told(each, number), number) for number, each in enumerate(outcome.others, 1)),
        notes=(*_of_postcopy(chosen_s, seen, began_ns), *(report.notes if report is not None else ())),
        log="\n".join([*lines, ""]).encode(),
    )


def _of_postcopy(chosen_s: float | None, seen: Sequence[Statistics], began_ns: int) -> Iterator[str]:
    """What a total time does not say: the guest runs at the destination, and pages still come."""
    if chosen_s is not None:
        last_s = (seen[-1].at_ns - began_ns) / 1e9
        yield (
            f"post-copy from {format_duration(chosen_s)} on, seen until {format_duration(last_s)};"
            " total time and downtime are those of the guest's move"
        )


def _other(run: Run, index: int) -> dict[str, Any]:
    """The figures of a further migration; its seed follows from the one that was given, and is none to be given."""
    told = figures(run)
    del told["seed"]
    return {"migration": index + 1} | told


def _drawn(derived: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Lists have an entry for each migration: this one's."""
    drawn = {name: each for name, each in derived.items() if name != "migrate_ns"}
    return {name: each[index] if isinstance(each, list) else each for name, each in drawn.items()}


def _switched_on(lines: Sequence[str]) -> list[str]:
    """The capabilities that the source got because somebody asked for them; none, if it did not come to that."""
    for line in (json.loads(text) for text in lines if SETTINGS in text):
        if line["side"] == "source":
            return sorted(set(line["capabilities"]) - OWN_CAPABILITIES)
    return []


def _decisions(lines: Sequence[str], seen: Sequence[Statistics], began_ns: int) -> Iterator[Decided]:
    """Those in the log, with the iteration in which each was taken."""
    iteration, index, on = 0, 0, _switched_on(lines)
    for line in (json.loads(text) for text in lines if DECISION in text):
        while index < len(seen) and seen[index].at_ns <= line["t_ns"]:
            iteration, index = seen[index].iteration, index + 1
        yield Decided(
            at_s=max(0.0, (line["t_ns"] - began_ns) / 1e9),
            iteration=iteration,
            asked=line["asked"],
            because=line["because"],
            changes=line["changes"] | ({"capabilities": on} if on and line["asked"] == Reason.SETUP.value else {}),
            clamped=tuple(line["clamped"]),
        )


def _rows(
    outcome: Outcome, seen: Sequence[Statistics], decisions: Sequence[Decided], began_ns: int, stops: bool
) -> Iterator[Row]:
    """The iterations that the manager saw; in the last one the guest stands still, unless post-copy was chosen."""
    iterations, inside = outcome.iterations, _by_iteration(seen)
    limit_s, outside, ahead = outcome.scenario.objectives.downtime_s, 0.0, list(reversed(decisions))
    for each in iterations:
        samples = inside.get(each.number, [])
        start_s, end_s = (max(0, at_ns - began_ns) / 1e9 for at_ns in (each.started_ns, each.ended_ns))
        slowed = max((outside, *(sample.throttle for sample in samples)))
        while ahead and ahead[-1].at_s < end_s:  # the limit that stood when the next sync came
            changes = ahead.pop().changes
            limit_s, outside = changes.get("downtime_limit_s", limit_s), changes.get(OUTSIDE, outside)
            slowed = max(slowed, outside)
        yield Row(
            number=each.number,
            start_s=start_s,
            duration_s=end_s - start_s,
            to_send_bytes=each.remaining_at_start_bytes,
            sent_bytes=each.sent_bytes,
            left_bytes=each.remaining_at_end_bytes,
            dirtied_bytes=each.dirtied_bytes,
            bandwidth_bytes_per_s=samples[-1].bandwidth_bytes_per_s if samples else None,
            throttle=slowed,
            downtime_limit_s=limit_s,
            stopped=stops and each is iterations[-1],
        )


def _threshold(
    scenario: Scenario, seen: Sequence[Statistics], decisions: Sequence[Decided], began_ns: int
) -> Iterator[tuple[float, float]]:
    """QEMU's bandwidth at each look times the limit that stood then; a decision counts from when it was taken."""
    limit_s = scenario.objectives.downtime_s
    changes = [
        (each.at_s, float(each.changes["downtime_limit_s"])) for each in decisions if "downtime_limit_s" in each.changes
    ]
    bandwidth, ahead = 0.0, 0
    for each in seen:
        at_s, found = (each.at_ns - began_ns) / 1e9, each.bandwidth_bytes_per_s
        while ahead < len(changes) and changes[ahead][0] <= at_s:
            changed_s, limit_s = changes[ahead]
            ahead += 1
            if bandwidth:
                yield changed_s, bandwidth * limit_s
        bandwidth = found
        if bandwidth:  # none is known before the first window of 100 ms
            yield at_s, bandwidth * limit_s
        if each.status.startswith(POSTCOPY):
            return  # nothing is waited for any more


def _by_iteration(seen: Sequence[Statistics]) -> dict[int, list[Statistics]]:
    found: dict[int, list[Statistics]] = {}
    for each in seen:
        found.setdefault(each.iteration, []).append(each)
    return found


def _sending(seen: Sequence[Statistics], began_ns: int) -> Iterator[tuple[float, float]]:
    """What went out between looks that lie far enough apart for QEMU's windows not to show."""
    if not seen:
        return
    least_ns = max(LEAST_SPAN_NS, (seen[-1].at_ns - began_ns) // MOST_SPANS)
    before_ns, before_bytes, rate = began_ns, 0, 0.0
    for each in seen:
        if each.at_ns - before_ns >= least_ns or each is seen[-1]:
            span_ns = each.at_ns - before_ns
            rate = (each.transferred_bytes - before_bytes) * 1e9 / span_ns if span_ns else rate
            yield (before_ns - began_ns) / 1e9, rate
            before_ns, before_bytes = each.at_ns, each.transferred_bytes
    yield (before_ns - began_ns) / 1e9, rate


def _remaining(
    rows: Sequence[Row], seen: Sequence[Statistics], began_ns: int, moved_s: float | None
) -> Iterator[tuple[float, float]]:
    """As the manager saw it, with what each sync found; it ends with nothing left, if the guest moved."""
    by_iteration = {
        number: [((each.at_ns - began_ns) / 1e9, float(each.remaining_bytes)) for each in samples]
        for number, samples in _by_iteration(seen).items()
    }
    last = rows[-1].number if rows else 0
    for row in rows:
        end_s = row.start_s + row.duration_s
        yield row.start_s, row.to_send_bytes
        yield from ((at_s, left) for at_s, left in by_iteration.get(row.number, []) if row.start_s < at_s < end_s)
        yield end_s, row.left_bytes
    if moved_s is not None:
        yield max(moved_s, rows[-1].start_s + rows[-1].duration_s if rows else 0.0), 0.0
        return
    for number in sorted(by_iteration):
        if number > last:  # the one that was under way when it ended otherwise, or post-copy
            yield from by_iteration[number]
