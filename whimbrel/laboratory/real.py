"""A cell of the matrix on real QEMUs: the workload guest is booted, moved over a paced link, and asked what it noticed.

Source and destination live in two network namespaces with a `tc tbf` between them (root); without, a relay in this
process paces, which costs CPU on the same cores, and each row says so. A run whose guest finds its memory damaged ends
everything with an error: no figure of it counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Protocol

import uvloop

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import MigrationCancelled, MigrationFailed, WhimbrelError
from whimbrel.engine.report import CompletedReport
from whimbrel.guest.spec import PAGE_BYTES
from whimbrel.guest.timeline import Timeline
from whimbrel.migration import Migration
from whimbrel.policies import resolve
from whimbrel.qmp_driver import journal
from whimbrel.qmp_driver.destination import Destination, Existing, FromArgv
from whimbrel.qmp_driver.options import Options

from .catalogue import machine_ram_bytes, workload_of
from .cutting_off import cut_off_after
from .link import can_link, paced_link
from .moments import Moments
from .place import Place
from .records import Backend, Cell, Row
from .relay import AddressProxy, paced_relay
from .running import FAULT, asked_of, meets, policy_source, scenario_text
from .stage import BOOT_TIMEOUT_S, VERIFY_TIMEOUT_S, Guest, MemoryLost, Stage, stage

BEATS_AFTER: Final = 20
GOODPUT: Final = 0.957
"""What one TCP stream gets of a link whose rate counts every frame: 1448 of 1514 bytes, less acknowledgements."""
TOLERANCE: Final = 0.03
"""A link whose goodput is farther off what the case asks for is made anew, with a rate that is right."""
TRIES: Final = 3


class Paced(Place, Protocol):
    """A place whose link has a measured rate."""

    def goodput_bytes_per_s(self) -> float:
        """Bytes per second of one TCP stream."""
        ...


@dataclass(slots=True)
class RealBench:
    """The links that real runs need, each made once and kept; a context manager that takes them down.

    Attributes:
        say: takes a sentence on what is set up, and on makeshifts.
        relayed: a relay paces, whatever else could be had here; needs no root.
    """

    say: Callable[[str], None] = lambda _: None
    relayed: bool = False
    _places: dict[float, Paced] = field(default_factory=dict[float, Paced])
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _why_not: str | None = None

    def __enter__(self) -> RealBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stack.close()

    def place(self, goodput_bytes_per_s: float) -> Paced:
        """The place whose link has this goodput, to `TOLERANCE`.

        Raises:
            WhimbrelError: no such link can be had.
        """
        if goodput_bytes_per_s not in self._places:
            self._places[goodput_bytes_per_s] = self._make(goodput_bytes_per_s)
        return self._places[goodput_bytes_per_s]

    def _make(self, wanted: float) -> Paced:
        if self._why_not is None:
            self._why_not = "it was not asked for" if self.relayed else can_link()
            if self._why_not:
                self.say(f"no paced link here ({self._why_not}): a relay in this process paces, and takes CPU for it")
        if self._why_not:
            return self._stack.enter_context(paced_relay(wanted))
        rate, found = wanted / GOODPUT, 0.0
        for _ in range(TRIES):
            with contextlib.ExitStack() as trial:
                link: Paced = trial.enter_context(paced_link(f"{round(rate * 8)}bit"))
                found = link.goodput_bytes_per_s()
                if abs(found / wanted - 1) <= TOLERANCE:
                    self._stack.push(trial.pop_all())
                    self.say(f"a link of {found / 2**20:.1f} MiB/s stands")
                    return link
            rate *= wanted / found
        raise WhimbrelError(
            f"no link of {wanted / 2**20:.1f} MiB/s can be had here: one TCP stream gets {found / 2**20:.1f} MiB/s"
        )


def run_real(cell: Cell, bench: RealBench) -> Row:
    """Run a cell on real QEMUs, in an event loop of its own, on the source's host.

    Args:
        cell: its seed is that of the guest's choices, so that runs are paired by it as far as can be.
        bench: has the links.

    Raises:
        BadInput: the workload guest can't be the case's, or the policy can't be had.
        MemoryLost: the guest's memory is not what it wrote.
        WhimbrelError: a QEMU did not start, or the move failed otherwise than by the policy or the case's limit.
    """
    scenario = cell.case.scenario
    place = bench.place(scenario.link.bandwidth_bytes_per_s)
    spec = replace(workload_of(cell.case), seed=cell.seed)
    guest = Guest(cell.case.name, spec, machine_ram_bytes(cell.case))
    with place.at_source():
        return uvloop.run(_run(cell, place, guest))


async def _run(cell: Cell, place: Place, guest: Guest) -> Row:
    async with stage(place, guest) as standing:
        proxy: AddressProxy | None = None
        where: Destination
        if place.relayed:
            standing.spawn(standing.destination_arguments("-incoming", "defer", "-S"))
            await standing.until_up(standing.destination_qmp)
            proxy = await AddressProxy.start(standing.destination_qmp, place.reach)
            where = Existing(proxy.address)
        else:
            where = FromArgv(standing.destination_arguments(qmp=False), directory=standing.folder)
        try:
            return await _move(cell, standing, where)
        finally:
            if proxy is not None:
                await proxy.close()


async def _move(cell: Cell, standing: Stage, where: Destination) -> Row:
    log = standing.folder / "log.jsonl"
    options = Options(
        objectives=cell.case.scenario.objectives,
        policy=resolve(cell.policy),
        policy_name=cell.policy,
        host=standing.place.host,
        log_path=log,
    )
    migration = Migration(str(standing.source_qmp), where, options)
    standing.listen_to_destination()
    began_ns = time.monotonic_ns()
    try:
        async with cut_off_after(cell.case.scenario.limit_s, migration, "it took too long"):
            await migration.run()
    except (MigrationCancelled, MigrationFailed):
        pass  # by the limit or the policy: that is a result; the report says which
    finally:
        standing.take_over(migration.started)
    report = migration.report
    assert report is not None
    if not report.moved and report.owner != "source":
        raise WhimbrelError(f"{cell.case.name} with {cell.policy}: the guest is lost: {report.why}")
    lines = list(journal.read(log))
    moments = Moments(lines)
    if report.moved:
        await _judge(standing)
    sent_ns = moments.command_ns("migrate") if moments.had_command("migrate") else began_ns
    timeline = standing.monitor.timeline(since_ns=sent_ns)
    if timeline.bad or timeline.continuity.went_back:
        raise MemoryLost(f"the guest {standing.guest.name!r} found its memory damaged: {timeline}")
    return _row(cell, report, lines, _figures(report, moments, timeline, standing.guest, sent_ns))


async def _judge(standing: Stage) -> None:
    """Have the guest check every page on the destination."""
    if standing.listening is not None:
        await standing.listening
    await standing.monitor.wait_first_beat("destination", timeout_s=BOOT_TIMEOUT_S)
    await standing.monitor.wait_beats(BEATS_AFTER, side="destination")
    verdict = await standing.monitor.verify("destination", timeout_s=VERIFY_TIMEOUT_S)
    if not verdict.passed:
        raise MemoryLost(f"the guest {standing.guest.name!r} is not whole on the destination: {verdict}")


def _figures(
    report: CompletedReport, moments: Moments, timeline: Timeline, guest: Guest, sent_ns: int
) -> Mapping[str, Any]:
    """What the guest and the log say of the run, as columns of the row."""
    postcopy = moments.had_command("start-postcopy") and moments.had_signal("destination-postcopy")
    if not report.moved:
        ended_ns = moments.last_signal_ns("cancel", "given-up") or sent_ns
    elif postcopy:
        ended_ns = moments.signal_ns("source-completed")  # all of the memory is there
    else:
        ended_ns = moments.signal_ns("destination-running")
    total_s = max(0.0, (ended_ns - sent_ns) / 1e9)
    lost_s = lost_guest_s(timeline, guest, report.moved)
    return {
        "total_s": total_s,
        "downtime_s": timeline.switchover_gap_s if report.moved else None,
        "postcopy": postcopy,
        "lost_guest_s": min(lost_s, total_s),
        "work": 1.0 - min(1.0, lost_s / total_s) if total_s > 0 else 1.0,
    }


def lost_guest_s(timeline: Timeline, guest: Guest, moved: bool) -> float:
    """Guest-seconds of work that were lost: writes given up, by the rate at which they were wanted.

    A guest that wants to write nothing has lost its outage.
    """
    rate = sum(each.rate_bytes_per_s * each.duty for each in guest.spec.classes) / PAGE_BYTES
    if rate > 0:
        return timeline.dropped / rate
    return timeline.switchover_gap_s or 0.0 if moved else 0.0


def _row(cell: Cell, report: CompletedReport, lines: list[dict[str, Any]], figures: Mapping[str, Any]) -> Row:
    throttles = [float(line["throttle"]) for line in lines if line["kind"] == "sample"]
    outside = [float(line["changes"].get("outside_throttle", 0.0)) for line in lines if line["kind"] == "decision"]
    last = [line for line in lines if line["kind"] == "sample"][-1:]
    versions = dict.fromkeys(str(report.facts.get(f"qemu_{side}", "")) for side in ("source", "destination"))
    return Row(
        backend=Backend.REAL.value,
        policy=cell.policy,
        seed=cell.seed,
        **asked_of(cell.case),
        **figures,
        outcome=report.outcome,
        why=report.why,
        converged=report.moved,
        waited_s=_waited_s(lines),
        transferred_bytes=report.ram_transferred_bytes,
        iterations=int(last[0]["iteration"]) if last else 0,
        throttle=max([*throttles, *outside], default=0.0),
        goal_met=meets(cell.case, moved=report.moved, total_s=figures["total_s"], downtime_s=figures["downtime_s"]),
        decisions=report.decisions,
        faults=sum(FAULT in note for note in report.notes),
        fault=next((note for note in report.notes if FAULT in note), ""),
        whimbrel=__version__,
        qemu=" to ".join(name for name in versions if name),
        scenario=scenario_text(cell.case.scenario),
        policy_source=policy_source(cell.policy),
    )


def _waited_s(lines: list[dict[str, Any]]) -> float:
    """From the policy's first word until ``migrate``, where it had the guest measured or waited."""
    probes = [int(line["t_ns"]) for line in lines if line["kind"] == "probe"]
    arms = [int(line["t_ns"]) for line in lines if line["kind"] == "command" and line["command"] == "arm"]
    return (arms[0] - probes[0]) / 1e9 if probes and arms else 0.0
