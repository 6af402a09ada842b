"""What it costs a guest to be measured: its own count of writes with and without, in turn.

The guest writes as fast as its processor lets it, so whatever the measuring takes from it shows in what it gets done.
Its heartbeats carry the count. A series of looks at its pages is compared with nothing at all, and so are QEMU's
``calc-dirty-rate`` and a probe of the link, which for a destination on the same host shares the processors with it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import uvloop

from whimbrel.engine.estimate import Estimate as Belief
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.laboratory.load import Stopwatch, until_quiet
from whimbrel.laboratory.place import Loopback
from whimbrel.laboratory.stage import Guest, Stage, stage
from whimbrel.qmp_driver.link_probe import probe_here
from whimbrel.qmp_driver.measuring import Measuring
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.survey import SPAN_S, survey

from .bars import Bar, Result, Row
from .figures import Estimate, median, ratio
from .guests import MIB
from .pairs import BUSY_CORES, GREATEST_REPEATS, Manner, Pairs, holding

Doing: TypeAlias = Callable[[Stage], Awaitable[int]]
"""What is done to a guest; gives how much of its memory was read."""

GREATEST_LOSS = 2.0
"""Per cent of what the guest gets done."""
LINK_BYTES_PER_S = 1e9
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened in one stretch of time."""

    writes_per_s: float
    qemu_cpu_s: float
    our_cpu_s: float
    lasted_s: float
    read_bytes: int = 0
    others_cores: float = 0.0


@dataclass(slots=True)
class Sides:
    """Windows with something going on and, of the same number, without."""

    during: list[Window] = field(default_factory=list[Window])
    without: list[Window] = field(default_factory=list[Window])
    repeated: int = 0


def busy() -> Guest:
    """A guest of 160 MiB and 64 KiB that writes 64 MiB of it over and over, faster than it can."""
    classes = ("hot:size=64MiB,rate=12GiB/s", "cold:size=64MiB")
    return Guest("busy", WorkloadSpec.parse(classes, beat_hz=200), 160 * MIB + (64 << 10))


def looks(span_s: float = SPAN_S) -> Doing:
    """A survey as a plan makes it, its link given."""

    async def look(standing: Stage) -> int:
        found = await survey(standing.source_qmp, span_s=span_s, link=Belief(LINK_BYTES_PER_S))
        return found.costs.read_bytes

    return look


async def let_qemu_measure(standing: Stage) -> int:
    """``calc-dirty-rate`` at two windows, as where the guest's memory is out of our reach."""
    async with await Monitor.connect(standing.source_qmp, side="source") as monitor:
        measuring = Measuring(lambda: ())
        await measuring.look(monitor, standing.guest.ram_bytes)
        await measuring.measure_all(lambda: monitor, (1.0, 2.0), within_s=60.0)
    return 0


async def probe_the_link(standing: Stage) -> int:
    """128 MiB over this host's way to itself, and a rest."""
    await probe_here()
    await asyncio.sleep(1.0)
    return 0


LOOKS = "looks at its pages"
MANNERS: Mapping[str, Doing] = {
    LOOKS: looks(),
    "calc-dirty-rate": let_qemu_measure,
    "a probe on this host": probe_the_link,
}


def measure(manner: Manner) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it; there are no moves in it."""
    return [judge(uvloop.run(run(manner, MANNERS)))], {}


def judge(found: Mapping[str, Sides]) -> Result:
    """What it came to, by name; looks at the guest's pages are held to a bar."""
    bars: list[Bar] = []
    rows: list[Row] = []
    for name, sides in found.items():
        lost = loss(sides)
        if name == LOOKS:
            ask = f"at most {GREATEST_LOSS:g} % of what the guest gets done meanwhile"
            bars.append(Bar(f"the guest loses to {name}", ask, lost, GREATEST_LOSS, "%"))
        else:
            rows.append(Row(f"the guest loses to {name}", lost, "%"))
        rows += _rows(name, sides)
    notes = (
        f"{SPAN_S:g} s for each series of looks, 1 s and 2 s for calc-dirty-rate; in turn with as long without",
        "where others use the processors too, only what is done in a second of QEMU's processor time tells anything",
    )
    return Result("Cost of measuring", tuple(bars), tuple(rows), notes)


def loss(sides: Sides, of: Callable[[Window], float] = lambda each: each.writes_per_s) -> Estimate:
    """What the guest gets done less with something going on than without, per cent; `of`: what counts as done."""
    got = ratio([of(each) for each in sides.during], [of(each) for each in sides.without])
    return Estimate(100 * (1 - got.value), 100 * (1 - got.high), 100 * (1 - got.low))


def _rows(name: str, sides: Sides) -> list[Row]:
    qemu = [each.qemu_cpu_s / each.lasted_s * 100 for each in sides.during]
    plain = [each.qemu_cpu_s / each.lasted_s * 100 for each in sides.without]
    per_cpu = loss(sides, lambda each: each.writes_per_s * each.lasted_s / each.qemu_cpu_s)
    rows = [
        Row(f"{name}: less done in a second of QEMU's processor time", per_cpu, "%"),
        Row(f"{name}: CPU of ours", median([each.our_cpu_s for each in sides.during]).scaled(1e3), "ms"),
        Row(f"{name}: QEMU's share of a core", median(qemu), "%"),
        Row(f"{name}: the same without", median(plain), "%"),
    ]
    if any(each.read_bytes for each in sides.during):
        rows.append(Row(f"{name}: read", median([each.read_bytes / MIB for each in sides.during]), "MiB"))
    return rows


async def run(manner: Manner, doings: Mapping[str, Doing], guest: Guest | None = None) -> dict[str, Sides]:
    """Do each of these to a guest (`busy`), so many times, in turn with nothing."""
    found = {name: Sides() for name in doings}
    async with stage(Loopback(), guest or busy()) as standing:
        for number in range(manner.runs):
            for name, doing in doings.items():
                await _add_pair(standing, name, doing, found[name], number, manner)
    return found


async def _add_pair(standing: Stage, name: str, doing: Doing, sides: Sides, number: int, manner: Manner) -> None:
    chances = GREATEST_REPEATS if manner.patience_s > 0 else 0
    while True:
        with holding(manner.lock):
            await until_quiet(manner.patience_s)
            # One of the two goes first in turn, as pairs of moves do: what drifts does not count for either.
            if number % 2:
                without = await _window(standing, _rest(sides.during[-1].lasted_s))
                during = await _window(standing, doing)
            else:
                during = await _window(standing, doing)
                without = await _window(standing, _rest(during.lasted_s))
        others = max(during.others_cores, without.others_cores)
        again = others > BUSY_CORES and chances > 0
        lost = 100 * (1 - during.writes_per_s / without.writes_per_s)
        manner.say(f"  {name} {number + 1}/{manner.runs}: {lost:.2f} % less done (others: {others:.2f} cores)")
        if not again:
            break
        chances -= 1
        sides.repeated += 1
    sides.during.append(during)
    sides.without.append(without)


def _rest(seconds: float) -> Doing:
    async def rest(_: Stage) -> int:
        await asyncio.sleep(seconds)
        return 0

    return rest


async def _window(standing: Stage, doing: Doing) -> Window:
    """From a heartbeat to a heartbeat, with all that the guest counted in between."""
    first = await standing.monitor.wait_beats(1, side="source")
    watch, qemu_s = Stopwatch.start(standing.pids), _cpu_s(standing.pids[0])
    began_s = time.monotonic()
    read_bytes = await doing(standing)
    last = await standing.monitor.wait_beats(1, side="source")
    lasted_s = time.monotonic() - began_s
    writes = last.heartbeat.writes - first.heartbeat.writes
    return Window(
        writes_per_s=writes / ((last.received_ns - first.received_ns) / 1e9),
        qemu_cpu_s=_cpu_s(standing.pids[0]) - qemu_s,
        our_cpu_s=watch.manager_cpu_s(),
        lasted_s=lasted_s,
        read_bytes=read_bytes,
        others_cores=watch.others_cores(standing.pids),
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
