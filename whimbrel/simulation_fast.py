"""The model ``fast``: what a scenario is for the forecast, what the forecast says of it, and what it passes over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from whimbrel.engine.curve import PAGE_BYTES, Curve
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Forecast, Setting, Throttling, Writers
from whimbrel.engine.policy import Abilities, Decision, Observation, Policy, Reason
from whimbrel.policies import resolve
from whimbrel.sim.guests.plan import Area, areas_of
from whimbrel.sim.qemu import capabilities, parameters
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario
from whimbrel.sim.world import Wanting
from whimbrel.simulation_records import Decided, Row, Run
from whimbrel.units import format_duration, format_rate

__all__ = [
    "beyond_a_steady_link",
    "by_iteration",
    "curves",
    "fast_lacks",
    "fast_notes",
    "run_fast",
    "sender_notes",
    "setting_of",
    "zero_bytes",
]

PERIODIC_SYNC_S = 5.0
"""QEMU 9.2 and later sync at least so often while the guest is throttled."""
CLEAR_CHUNK_BYTES = 1 << 30
"""KVM's dirty log is cleared by so much at a time (``x-clear-bitmap-shift`` of 18, in pages of 4 KiB)."""
FAST_KNOWS = frozenset({"auto-converge", "dirty-limit"})
"""Of the capabilities that change the figures."""
NEED_KVM = frozenset({"dirty-limit"})
"""TCG has no dirty ring, and QEMU refuses them there."""
OF_NO_ACCOUNT = frozenset(
    {
        *("events", "return-path", "pause-before-switchover", "late-block-activate", "switchover-ack"),
        *("postcopy-ram", "postcopy-preempt", "postcopy-blocktime", "release-ram", "validate-uuid"),
        *("zero-blocks", "dirty-bitmaps", "block", "rdma-pin-all"),
    }
)
"""Those that change no figure by themselves, of the model ``stepwise`` neither: post-copy has to be started, too."""


class _AreaCurve:
    """The curve of some of a guest's pages, for the forecast."""

    knots_s: tuple[float, ...] = ()

    def __init__(self, area: Area) -> None:
        """Of the pages of one writer."""
        self._area = area
        assert area.law is not None
        self.most_bytes = area.law.most * PAGE_BYTES

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, seconds."""
        return PAGE_BYTES * self._area.dirtied_pages(window_s)


def curves(guest: GuestPlan) -> Iterator[Writers]:
    """Who writes: one curve for all of a measured guest, else one for each writer."""
    if guest.curve:
        curve = Curve(guest.curve, guest.ram_bytes, guest.zero_bytes)
        yield Writers(curve=curve, range_bytes=guest.ram_bytes - guest.zero_bytes)
        return
    for area in areas_of(guest):
        if area.law is not None:
            share = None if area.writer.vcpu is None else area.writer.cpu_share
            yield Writers(
                curve=_AreaCurve(area),
                cpu_share=share,
                range_bytes=area.pages * PAGE_BYTES,
                vcpu=area.writer.vcpu or 0,
                duty=area.phases.duty,
            )


def setting_of(scenario: Scenario) -> Setting:
    """What the forecast is asked for a scenario whose link is steady."""
    guest, link, qemu = scenario.guest, scenario.link, scenario.qemu
    return Setting(
        writers=tuple(curves(guest)),
        total_bytes=guest.ram_bytes,
        zero_bytes=zero_bytes(guest),
        bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
        pipe_bytes=link.pipe_bytes,
        latency_s=link.latency_s,
        objectives=scenario.objectives,
        costs=qemu.costs,
        throttling=Throttling(periodic_sync_s=None if qemu.source is Version.V7_2 else PERIODIC_SYNC_S),
        clear_chunk_bytes=CLEAR_CHUNK_BYTES if qemu.kvm else None,
        abilities=_abilities(qemu),
        limit_s=scenario.limit_s,
    )


def _abilities(qemu: QemuPlan) -> Abilities:
    """What both QEMUs have."""
    ends = (qemu.source, qemu.destination)
    both = [frozenset(capabilities.names(each)) for each in ends]
    settable = [frozenset(parameter.name for parameter in parameters.of(each)) for each in ends]
    shared = both[0] & both[1]
    return Abilities(
        capabilities=shared if qemu.kvm else shared - NEED_KVM,
        parameters=settable[0] & settable[1],
        outside_throttle=qemu.local,
        measuring=True,
    )


def zero_bytes(guest: GuestPlan) -> int:
    """Pages that are zero and stay so, wherever they lie."""
    never_written = (each.size_bytes for each in guest.writers if each.zero and not each.rate_bytes_per_s)
    return guest.zero_bytes + sum(never_written)


@dataclass(slots=True)
class _Overheard:
    """A policy, and the capabilities that it has asked for."""

    inner: Policy
    asked: set[str] = field(default_factory=set[str])

    def __call__(self, seen: Observation) -> Decision:
        decision = self.inner(seen)
        if seen.reason is Reason.SETUP:
            self.asked = {name for name, state in decision.capabilities.items() if state}
        return decision


def run_fast(scenario: Scenario, seed: int) -> Run:
    """One forecast, told as every model's run is.

    Raises:
        BadInput: the policy can't be had.
    """
    setting = setting_of(scenario)
    policy = _Overheard(Wanting(resolve(scenario.policy), scenario.asked_capabilities))
    told = forecast(setting, policy)
    refused = {text.partition(":")[0] for each in told.decisions for text in each.clamped}
    asked = sorted(policy.asked - refused)
    on = [name for name in asked if name in FAST_KNOWS]
    outage = asdict(told.outage) if told.outage is not None else {}
    rows = tuple(_forecast_rows(told))
    return Run(
        seed=seed,
        converged=told.converged,
        outcome=told.outcome.value,
        reason=told.reason,
        total_s=told.moved_s,
        downtime_s=told.downtime_s if told.converged else None,
        iterations=len(rows),
        transferred_bytes=told.transferred_bytes,
        throttle=told.throttle,
        downtime={name: value for name, value in outage.items() if name.endswith("_s")},
        each_iteration=rows,
        decisions=tuple(
            Decided(
                at_s=each.at_s,
                iteration=each.iteration,
                asked=each.asked,
                because=each.because,
                changes=dict(each.changes) | ({"capabilities": on} if on and each.asked == Reason.SETUP.value else {}),
                clamped=each.clamped,
            )
            for each in told.decisions
        ),
        remaining=tuple(_forecast_points(told)),
        sending=tuple(by_iteration(rows)),
        threshold=tuple(_thresholds(told, scenario.objectives.downtime_s)),
        notes=(*_passed_over(asked, setting.abilities), *_of_postcopy(told)),
    )


def _passed_over(asked: Iterable[str], able: Abilities) -> Iterator[str]:
    """What was asked for and is not to be had."""
    unknown = [name for name in asked if name not in able.capabilities]
    missed = [name for name in asked if name in able.capabilities - FAST_KNOWS - OF_NO_ACCOUNT]
    if unknown:
        yield f"{', '.join(unknown)} dropped: not both QEMUs have that"
    if missed:
        yield (
            f"{', '.join(missed)} asked for and passed over, which can change all figures: this model sends every page"
            " whole, over one channel; the model stepwise knows more"
        )


def _of_postcopy(told: Forecast) -> Iterator[str]:
    """What a total time does not say: the guest runs at the destination, and pages still come."""
    if told.postcopy_s:
        yield (
            f"post-copy from {format_duration(told.moved_s - told.downtime_s)} on, its last page comes"
            f" {format_duration(told.postcopy_s)} after the guest has moved;"
            " total time and downtime are those of its move"
        )


def _forecast_rows(told: Forecast) -> Iterator[Row]:
    for row in told.rows:
        yield Row(
            number=row.number,
            start_s=row.start_s,
            duration_s=row.duration_s,
            to_send_bytes=row.to_send_bytes,
            sent_bytes=row.wire_bytes,
            left_bytes=row.left_bytes,
            dirtied_bytes=row.dirtied_bytes,
            bandwidth_bytes_per_s=row.bandwidth_bytes_per_s,
            throttle=row.throttle,
            downtime_limit_s=row.downtime_limit_s,
        )
    if told.outage is not None and not told.postcopy_s:
        yield Row(
            number=len(told.rows) + 1,
            start_s=told.moved_s - told.outage.total_s,
            duration_s=told.outage.total_s,
            to_send_bytes=told.outage.last_ram_bytes,
            sent_bytes=told.transferred_bytes - sum(row.wire_bytes for row in told.rows),
            stopped=True,
        )


def _forecast_points(told: Forecast) -> Iterator[tuple[float, float]]:
    for row in told.rows:
        yield row.start_s, row.to_send_bytes
        yield row.start_s + row.duration_s, row.left_bytes
    if told.postcopy_s:
        yield told.total_s, 0.0
    elif told.outage is not None:
        yield told.moved_s - told.outage.total_s, told.outage.last_ram_bytes
        after_s = told.outage.device_state_s + told.outage.load_s + told.outage.resume_s
        yield told.moved_s - after_s, 0.0


def _thresholds(told: Forecast, limit_s: float) -> Iterator[tuple[float, float]]:
    """The bandwidth of each iteration times the limit that stood at each time."""
    key = "downtime_limit_s"
    changes = [(each.at_s, each.changes[key]) for each in told.decisions if key in each.changes]
    end_s = 0.0
    ahead = 0
    for row in told.rows:
        end_s = row.start_s + row.duration_s
        while ahead < len(changes) and changes[ahead][0] <= row.start_s:
            limit_s = changes[ahead][1]
            ahead += 1
        yield row.start_s, row.bandwidth_bytes_per_s * limit_s
        while ahead < len(changes) and changes[ahead][0] < end_s:
            at_s, limit_s = changes[ahead]
            ahead += 1
            yield at_s, row.bandwidth_bytes_per_s * limit_s
    if told.rows:
        yield end_s, told.rows[-1].bandwidth_bytes_per_s * limit_s


def by_iteration(rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
    """The rate of each iteration in which the guest ran, or of all where nobody says that it stood."""
    timed = [row for row in rows if row.duration_s > 0 and not row.stopped]
    for row in timed:
        yield row.start_s, row.sent_bytes / row.duration_s
    if timed:
        yield timed[-1].start_s + timed[-1].duration_s, timed[-1].sent_bytes / timed[-1].duration_s


def beyond_a_steady_link(scenario: Scenario, known: frozenset[str] = frozenset()) -> Iterator[str]:
    """What only the stepwise model knows.

    Args:
        scenario: what may have it.
        known: capabilities that the model does know.
    """
    plain = LinkPlan()
    for name in ("noise", "steps", "outages", "rivals"):
        if getattr(scenario.link, name) != getattr(plain, name):
            yield f"link.{name}"
    if scenario.migrations > 1:
        yield "migrations"
    if scenario.faults:
        yield "faults"
    if scenario.guest.pages:
        yield "guest.pages"
    if scenario.postcopy_at_s is not None:
        yield "postcopy"
    if missed := sorted(set(scenario.capabilities) - known - OF_NO_ACCOUNT):
        yield f"qemu.capabilities ({', '.join(missed)})"


def fast_lacks(scenario: Scenario) -> Iterator[str]:
    """The keys, with what the scenario has there, that the forecast has not."""
    yield from beyond_a_steady_link(scenario, FAST_KNOWS)


def sender_notes(scenario: Scenario) -> Iterator[str]:
    """What holds the sender back without being seen."""
    cpu, allowed = scenario.qemu.costs.cpu_bytes_per_s, scenario.objectives.bandwidth_bytes_per_s
    if cpu <= min(scenario.link.bandwidth_bytes_per_s, allowed or math.inf):
        yield (
            f"the sender itself is what limits: it handles {format_rate(cpu)} (qemu.costs.cpu), the link carries"
            f" {format_rate(scenario.link.bandwidth_bytes_per_s)}"
        )


def fast_notes(scenario: Scenario) -> Iterator[str]:
    """What the forecast takes for what."""
    yield from sender_notes(scenario)
    if any(each.period_s for each in scenario.guest.writers):
        yield "phases are averaged over all of their beginnings: shift has no effect"
    if any(each.zero and each.rate_bytes_per_s for each in scenario.guest.writers):
        yield "pages that are zero until they are written are taken as full from the beginning"
