"""What really happens in a simulated migration, whoever steers it: each page write, and all that the link carries.

Both follow from scenario and seed. The guest's writes are those of `whimbrel.sim.memory.paged.PagedMemory`, by the same
streams of chance; they are stamped with the guest's own time, at full speed, counted from the moment at which QEMU
begins to log them. A throttle stretches that time (`Group`), and changes nothing else: which page a write hits does
not depend on when it is made.

When logging begins follows from what the world does before: processes start, monitors greet, capabilities are set.
So the world itself is run as far as that, with a policy that asks for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import Fixed
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.guests.life import throttled
from whimbrel.sim.guests.plan import Area, areas_of
from whimbrel.sim.guests.realised import writers_of
from whimbrel.sim.guests.streams import Phases
from whimbrel.sim.link.rate import Bandwidth
from whimbrel.sim.memory.contract import PAGE_BYTES, PAGE_HEADER_BYTES, ZERO_PAGE_BYTES
from whimbrel.sim.memory.owed import DELTA_HEADER_BYTES
from whimbrel.sim.scenario import Scenario
from whimbrel.sim.seeds import number
from whimbrel.sim.world import World

Indices = NDArray[np.int32]
Seconds = NDArray[np.float64]
Sizes = NDArray[np.int64]

MOST_WRITES = 4_000_000
"""A trace ends where it would hold more: a guest of 2^16 pages writes so many in half a minute at 500 MB/s."""
FAR_S = 1e7
"""The link is known until then."""
PEAK_S = 0.05
"""A throttle is set for at least so long."""
_PEAK_LOOKS = 20_000
_BOOT_STEPS = 1_000_000
"""Events after which a world that has not begun to migrate never will."""


@dataclass(frozen=True, slots=True)
class Writes:
    """Page writes in order of time.

    Attributes:
        at_s: when, seconds since logging began, at full speed.
        pages: which.
        before: number of the last write to the same page before it; -1: there is none.
        after: number of the next one; the count of all: there is none.
    """

    at_s: Seconds
    pages: Indices
    before: Indices
    after: Indices

    def __len__(self) -> int:
        return len(self.at_s)

    def by(self, at_s: float) -> int:
        """How many are made until a moment, that included."""
        return int(np.searchsorted(self.at_s, at_s, side="right"))

    def last(self, first: int, end: int) -> NDArray[np.intp]:
        """Of the writes ``first`` to ``end``, the last to each page."""
        return np.flatnonzero(self.after[first:end] >= end) + first

    def first(self, first: int, end: int) -> NDArray[np.intp]:
        """Of the writes ``first`` to ``end``, the first to each page."""
        return np.flatnonzero(self.before[first:end] < first) + first


@dataclass(frozen=True, slots=True)
class Group:
    """Writers whom a throttle slows alike, and who are on and off together.

    A throttle slows them while they are on; when that is is not up to it (`whimbrel.sim.guests.streams.Stream`). So
    their clock is the time for which they have been on, each second of it counted as the part that they made of it.

    Attributes:
        cpu_share: how much of its vCPU such a writer needs; 0.0: no throttle slows it, or it is a device.
        per_s: writes per second while they are on, at full speed.
        phases: when they are on, by the guest's time.
        guest_s: the guest's time when logging began.
        writes: what they write, by the time at full speed.
        on_s: the same by their clock, which is at 0 when logging begins.
    """

    cpu_share: float
    per_s: float
    phases: Phases
    guest_s: float
    writes: Writes
    on_s: Seconds

    def speed(self, throttle: float) -> float:
        """At what part of its speed it writes under a throttle, 0 to 1."""
        return throttled(throttle, self.cpu_share)

    def by(self, clock_s: float) -> int:
        """How many of its writes are made until its clock is at a time, that included."""
        return int(np.searchsorted(self.on_s, clock_s, side="right"))

    def on_by(self, at_s: Seconds) -> Seconds:
        """Its clock at full speed, seconds after logging began."""
        phases = self.phases
        if not phases.period_s:
            return at_s
        cycles, rest = np.divmod(at_s + (self.guest_s + phases.shift_s), phases.period_s)
        return cycles * phases.on_s + np.minimum(rest, phases.on_s) - phases.on_by(self.guest_s)

    def when(self, clock_s: Seconds) -> Seconds:
        """When its clock is there at full speed, seconds since logging began."""
        if not self.phases.period_s:
            return clock_s
        return _when(self.phases, clock_s + self.phases.on_by(self.guest_s)) - self.guest_s


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the link carries, as a whole: piecewise constant in its rate, so piecewise straight in its sum.

    Attributes:
        at_s: seconds since logging began, rising.
        bytes: carried by then.
    """

    at_s: Seconds
    bytes: Seconds

    @property
    def steady_bytes_per_s(self) -> float:
        """Its rate, if that never changes; otherwise 0.0."""
        return float(self.bytes[1] / self.at_s[1]) if len(self.at_s) == 2 else 0.0

    def carried(self, at_s: Seconds) -> Seconds:
        """Bytes that it can carry from the beginning until then."""
        if self.steady_bytes_per_s:
            return at_s * self.steady_bytes_per_s
        return np.interp(at_s, self.at_s, self.bytes)

    def when(self, carried_bytes: Seconds) -> Seconds:
        """When it can have carried so much, seconds; infinite where that never comes."""
        if self.steady_bytes_per_s:
            return carried_bytes / self.steady_bytes_per_s
        return np.interp(carried_bytes, self.bytes, self.at_s, right=math.inf)

    def carried_by(self, at_s: float) -> float:
        """As `carried`, of one moment."""
        return float(self.carried(np.array(at_s)))

    def reached_at(self, carried_bytes: float) -> float:
        """As `when`, of one amount."""
        return float(self.when(np.array(carried_bytes)))


@dataclass(frozen=True, slots=True)
class Trace:
    """One guest and one link, from the beginning of logging on.

    Attributes:
        writes: all of them.
        groups: the same by who makes them.
        group_of: which group writes to a page (the first, where nobody does).
        fresh_bytes: what each page takes on the wire as long as nobody has written to it.
        written_bytes: once somebody has.
        even_bytes: what each page takes that was written to, if that is the same for all; otherwise 0.
        uneven: pages that take something else before they are written to.
        written_s: when somebody first does, by the clock of its group; infinite: never.
        capacity: of the link.
        lag_s: from ``migrate`` to the beginning of logging.
        horizon_s: all writes up to then are there.
        period_s: the longest cycle of the guest's phases; 0.0: it has none.
    """

    writes: Writes
    groups: tuple[Group, ...]
    group_of: NDArray[np.int8]
    fresh_bytes: Sizes
    written_bytes: Sizes
    even_bytes: int
    uneven: Indices
    written_s: Seconds
    capacity: Capacity
    lag_s: float
    horizon_s: float
    period_s: float

    @property
    def total_pages(self) -> int:
        """All RAM."""
        return len(self.fresh_bytes)

    def most_writes_per_s(self) -> float:
        """As many as there are at full speed in `PEAK_S` at most, by the second."""
        at_s = self.writes.at_s
        step = max(1, len(at_s) // _PEAK_LOOKS)
        firsts = np.arange(0, len(at_s), step)
        if not len(firsts):
            return 0.0
        ends = np.searchsorted(at_s, at_s[firsts] + PEAK_S, side="right")
        return float((ends - firsts).max() + step) / PEAK_S

    def dirtied(self, from_s: float, to_s: float) -> Indices:
        """The pages that are written after one moment and up to another, seconds since logging began, ascending."""
        writes = self.writes
        first, end = writes.by(from_s), writes.by(to_s)
        return np.sort(writes.pages[writes.first(first, end)])


@dataclass(frozen=True, slots=True)
class Start:
    """When a migration begins in its world.

    Attributes:
        migrate_ns: when ``migrate`` is ordered.
        logging_ns: when logging begins.
        guest_s: how long the guest has run by then.
    """

    migrate_ns: int
    logging_ns: int
    guest_s: float


def start_of(scenario: Scenario, seed: int) -> Start:
    """When the migration of a policy begins that does not wait.

    Policies that set more of QEMU's parameters before they begin do so a few tenths of a millisecond later.

    Raises:
        BadInput: the migration never begins.
    """
    # The RAM may be any size: it only has to be there.
    world = World(replace(scenario, faults=False), seed, Fixed())
    pair = world.pairs[0]
    pair.begin()
    for other in world.pairs[1:]:
        other.begin()
    for _ in range(_BOOT_STEPS):
        if pair.memory.remaining_pages or not world.clock.step():
            break
    migrate_ns, now_ns = pair.migrate_ns, world.clock.now_ns
    if migrate_ns is None or not pair.memory.remaining_pages:
        raise BadInput("scenario", "a migration that never begins", "one that begins")
    stall_s = 0.0 if scenario.qemu.kvm else scenario.qemu.costs.start_stall_s
    return Start(migrate_ns, now_ns, now_ns / SECOND_NS - stall_s)


def trace_of(scenario: Scenario, seed: int, *, most_writes: int = MOST_WRITES) -> Trace:
    """The trace of a scenario and seed; of several migrations the first's, as if it had the link to itself.

    A page is taken at its least size on the wire: with XBZRLE among the scenario's capabilities its difference.

    Args:
        scenario: the world.
        seed: its seed.
        most_writes: it ends where it would hold more.

    Raises:
        BadInput: the guest is not modelled page by page (``pages``), or the scenario is impossible.
    """
    if not scenario.guest.pages:
        raise BadInput("guest.pages", "false", "true: without pages there is no trace")
    start = start_of(scenario, seed)
    areas = areas_of(scenario.guest)
    horizon_s = _horizon_s(scenario, areas, most_writes)
    kinds = _kinds(areas)
    groups: list[Group] = []
    early: list[Indices] = []
    group_of = np.zeros(scenario.guest.ram_bytes // PAGE_BYTES, dtype=np.int8)
    for place, ((share, phases), members) in enumerate(kinds.items()):
        for area in members:
            group_of[area.first : area.first + area.pages] = place
        on_s, pages = _drawn(scenario, members, seed, phases.on_by(start.guest_s + horizon_s) - phases.on_by(0.0))
        now_s = phases.on_by(start.guest_s) - phases.on_by(0.0)
        begun = on_s > now_s
        early.append(pages[~begun])
        on_s, pages = on_s[begun], pages[begun]
        at_s = _when(phases, on_s + phases.on_by(0.0)) - start.guest_s
        per_s = sum(area.per_s for area in members)
        groups.append(Group(share, per_s, phases, start.guest_s, linked(at_s, pages), on_s - now_s))
    fresh, written = _sizes(scenario, areas)
    written_s = np.full(len(fresh), math.inf)
    for pages, group in zip(early, groups, strict=True):
        fresh[pages] = written[pages]
        first = group.writes.first(0, len(group.writes))
        written_s[group.writes.pages[first]] = group.on_s[first]
    return Trace(
        writes=groups[0].writes if len(groups) == 1 else _joined(groups),
        groups=tuple(groups),
        group_of=group_of,
        fresh_bytes=fresh,
        written_bytes=written,
        even_bytes=int(written[0]) if (written == written[0]).all() else 0,
        uneven=np.flatnonzero(fresh != written).astype(np.int32),
        written_s=written_s,
        capacity=capacity_of(scenario, seed, start, horizon_s),
        lag_s=(start.logging_ns - start.migrate_ns) / SECOND_NS,
        horizon_s=horizon_s,
        period_s=max((area.phases.period_s for area in areas), default=0.0),
    )


def capacity_of(scenario: Scenario, seed: int, start: Start, horizon_s: float) -> Capacity:
    """What the link carries, from the beginning of logging on; with rivals, the part that they leave."""
    bandwidth = Bandwidth(scenario.link, number(seed, "network"))
    bandwidth.begin(start.migrate_ns)
    now_ns = start.logging_ns
    end_ns = now_ns + math.ceil(2 * horizon_s * SECOND_NS)
    times, amounts = [0.0], [0.0]
    while times[-1] < FAR_S:
        rate, until_ns = bandwidth.at(now_ns)
        rate //= scenario.link.rivals + 1
        until_s = FAR_S
        if until_ns is not None and until_ns < end_ns:
            now_ns, until_s = until_ns, (until_ns - start.logging_ns) / SECOND_NS
        amounts.append(amounts[-1] + rate * (until_s - times[-1]))
        times.append(until_s)
    return Capacity(np.array(times), np.array(amounts))


def _horizon_s(scenario: Scenario, areas: tuple[Area, ...], most_writes: int) -> float:
    """As far as a run goes, unless that is too many writes."""
    per_s = sum(area.per_s * area.phases.duty for area in areas if area.law is not None)
    if scenario.guest.curve or scenario.guest.trace is not None:
        per_s = sum(area.law.slope(0.0) for area in areas if area.law is not None)
    return min(scenario.limit_s, most_writes / per_s) if per_s else scenario.limit_s


def _kinds(areas: tuple[Area, ...]) -> dict[tuple[float, Phases], list[Area]]:
    """Those that are written to, by CPU share and phases."""
    kinds: dict[tuple[float, Phases], list[Area]] = {}
    for area in areas:
        if area.law is not None:
            share = area.writer.cpu_share if area.writer.vcpu is not None else 0.0
            kinds.setdefault((share, area.phases), []).append(area)
    return kinds


def _drawn(scenario: Scenario, areas: list[Area], seed: int, end_s: float) -> tuple[Seconds, Indices]:
    """The writes to areas of one kind, since the guest began: by the writers' clock, in its order, and where."""
    clocks: list[Seconds] = []
    pages: list[Indices] = []
    for area in areas:
        for writer in writers_of(scenario.guest, area, number(seed, "memory")):
            # Streams count draws from the guest's beginning on, writers number them from the same.
            for at, hit in writer.timed(area.per_s * end_s):
                clocks.append(at / area.per_s)
                pages.append(hit.astype(np.int32))
    on_s = np.concatenate(clocks) if clocks else np.zeros(0)
    where = np.concatenate(pages) if pages else np.zeros(0, dtype=np.int32)
    order = np.argsort(on_s, kind="stable")
    return on_s[order], where[order]


def _when(phases: Phases, on_s: Seconds) -> Seconds:
    """`Phases.when` of many."""
    if not phases.period_s:
        return on_s
    cycles = np.ceil(on_s / phases.on_s) - 1
    return cycles * phases.period_s + (on_s - cycles * phases.on_s) - phases.shift_s


def linked(at_s: Seconds, pages: Indices) -> Writes:
    """Writes in order of time: find the one before and the one after each to the same page."""
    count = len(at_s)
    small = count == 0 or int(pages.max()) < 1 << 16
    by_page = np.argsort(pages.astype(np.uint16) if small else pages, kind="stable")  # radix, where that is enough
    sorted_pages = pages[by_page]
    same = np.flatnonzero(sorted_pages[1:] == sorted_pages[:-1])
    before = np.full(count, -1, dtype=np.int32)
    after = np.full(count, count, dtype=np.int32)
    before[by_page[same + 1]] = by_page[same]
    after[by_page[same]] = by_page[same + 1]
    return Writes(at_s, pages, before, after)


def _joined(groups: list[Group]) -> Writes:
    at_s = np.concatenate([np.zeros(0), *(group.writes.at_s for group in groups)])
    pages = np.concatenate([np.zeros(0, dtype=np.int32), *(group.writes.pages for group in groups)])
    order = np.argsort(at_s, kind="stable")
    return linked(at_s[order], pages[order])


def _sizes(scenario: Scenario, areas: tuple[Area, ...]) -> tuple[Sizes, Sizes]:
    """What pages take on the wire: as they are before anybody writes to them, and after.

    With XBZRLE the least that a page can take: its difference.
    """
    asked = scenario.asked_capabilities
    total = scenario.guest.ram_bytes // PAGE_BYTES
    fresh, written = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    for area in areas:
        part = slice(area.first, area.first + area.pages)
        ratio = area.writer.compressed_ratio if "compress" in asked else 1.0
        full = PAGE_HEADER_BYTES + round(PAGE_BYTES * ratio)
        fresh[part] = ZERO_PAGE_BYTES if area.zero else full
        written[part] = full
        if "xbzrle" in asked and area.writer.delta_bytes < PAGE_BYTES:
            written[part] = min(full, area.writer.delta_bytes + DELTA_HEADER_BYTES)
    return fresh, written
