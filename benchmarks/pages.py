"""What a guest of a million pages costs page by page: memory, and pages written, sent and synced in a second.

Everything that takes room is in use: KVM's second log, zero pages, a popularity, a permutation of all pages (a measured
curve), XBZRLE's cache, and the search for the next fault of post-copy. Each run is a process of its own, whose greatest
resident size counts the interpreter and numpy, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.memory.contract import PAGE_BYTES, Memory
from whimbrel.sim.memory.expected import ExpectedMemory
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer

from .bars import Bar, Result, Row
from .figures import median
from .pairs import Manner, Pairs

PAGES = 1 << 20
GREATEST_MB = 200.0
LINK_BYTES_PER_S = 500_000_000
WINDOW_S = 0.1
ITERATIONS = 6
PATIENCE_S = 120.0


@dataclass(slots=True)
class Spent:
    """What one run took; the CPU times are in seconds.

    Attributes:
        resident_mb: the process's greatest resident size, 10^6 bytes.
        sends: calls that sent them.
        sent_pages: pages that were sent.
        send_s: for that, the writes up to each sending included.
        written_pages: distinct pages that a sync found.
        syncs: dirty-bitmap syncs.
        sync_s: for them, the writes up to each included.
        faults: of post-copy.
        fault_s: for them.
    """

    resident_mb: float = 0.0
    sends: int = 0
    sent_pages: int = 0
    send_s: float = 0.0
    written_pages: int = 0
    syncs: int = 0
    sync_s: float = 0.0
    faults: int = 0
    fault_s: float = 0.0


def guest(pages: int, *, curve: bool = False) -> GuestPlan:
    """A guest of so many pages: a quarter of them zero, and most of the others written.

    Args:
        pages: of its RAM, a multiple of 16.
        curve: with a measured curve instead of writers.
    """
    ram_bytes, part = pages * PAGE_BYTES, pages * PAGE_BYTES // 16
    if curve:
        points = ((0.1, 0.2 * part), (1.0, 1.0 * part), (10.0, 4.0 * part))
        return GuestPlan(ram_bytes=ram_bytes, zero_bytes=4 * part, curve=points, pages=True)
    writers = (
        Writer(name="zipf", size_bytes=6 * part, rate_bytes_per_s=1.0 * part, pattern=Pattern.ZIPF, delta_bytes=500),
        Writer(name="sweep", size_bytes=3 * part, rate_bytes_per_s=0.5 * part, pattern=Pattern.SWEEP, zero=True),
        Writer(name="poisson", size_bytes=2 * part, rate_bytes_per_s=0.5 * part, pattern=Pattern.POISSON),
    )
    return GuestPlan(ram_bytes=ram_bytes, zero_bytes=4 * part, writers=writers, pages=True)


def migrate(memory: Memory, *, cache_bytes: int | None = 256 << 20, most_faults: int = 200) -> Spent:
    """Iterations of pre-copy, each until little is left, then post-copy with its faults.

    Args:
        memory: of a guest that was not run yet.
        cache_bytes: of XBZRLE.
        most_faults: after so many the rest goes without faults.
    """
    spent, now_ns = Spent(), SECOND_NS
    memory.run(0)
    memory.begin(now_ns)
    memory.sync(now_ns)
    memory.cache(cache_bytes)
    window_bytes = round(LINK_BYTES_PER_S * WINDOW_S)
    for _ in range(ITERATIONS):
        while memory.remaining_pages * PAGE_BYTES > window_bytes:
            before_s = time.process_time()
            sent = memory.send(now_ns, window_bytes)
            spent.send_s += time.process_time() - before_s
            spent.sent_pages += sent.pages
            spent.sends += 1
            now_ns += round(WINDOW_S * SECOND_NS)
        before_s = time.process_time()
        spent.written_pages += memory.sync(now_ns)
        spent.sync_s += time.process_time() - before_s
        spent.syncs += 1
    memory.halt(now_ns)
    memory.arrive(now_ns)
    memory.run(now_ns)
    before_s = time.process_time()
    while spent.faults < most_faults and (wait_ns := memory.fault(now_ns)) is not None:
        now_ns += wait_ns
        spent.faults += memory.serve(now_ns).pages
        memory.run(now_ns)
    spent.fault_s = time.process_time() - before_s
    while memory.remaining_pages:
        spent.sent_pages += memory.send(now_ns, 1 << 30).pages
    memory.end(now_ns)
    return spent


def alone(pages: int, *, curve: bool = False) -> Spent:
    """The same in a process of its own.

    Raises:
        subprocess.SubprocessError: it failed.
    """
    words = [sys.executable, "-m", "benchmarks.pages", "--alone", str(pages), *(["--curve"] if curve else [])]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return Spent(**json.loads(done.stdout))


def resident_mb(status: str) -> float:
    """The greatest resident size out of ``/proc/PID/status``, 10^6 bytes.

    Not getrusage(2)'s: that of a new process begins with its parent's.

    Raises:
        ValueError: it is not there.
    """
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError("no VmHWM in the status of the process")


def measure(manner: Manner, pages: int = PAGES) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it so often, at a million pages; once at four million, and with a measured curve."""
    runs = [alone(pages) for _ in range(manner.runs)]
    large, curve = alone(4 * pages), alone(pages, curve=True)
    resident = median([one.resident_mb for one in runs])
    bar = Bar(f"a guest of {pages / 1e6:.2f} million pages", f"at most {GREATEST_MB:g} MB", resident, GREATEST_MB, "MB")
    each = (large.resident_mb - resident.value) / (3 * pages / 1e6)
    rows = (
        Row("the same with a measured curve", median([curve.resident_mb]), "MB"),
        Row("each further million pages", median([each]), "MB"),
        Row("pages sent, on one core", median([one.sent_pages / one.send_s for one in runs]), "a second"),
        Row("a sync", median([one.sync_s / one.syncs * 1e3 for one in runs]), "ms"),
        Row("a fault of post-copy", median([one.fault_s / max(one.faults, 1) * 1e6 for one in runs]), "µs"),
        Row("a call of the curve level, same guest", median([_call_us() for _ in runs]), "µs"),
    )
    return [Result("Page by page", (bar,), rows)], {}


def _call_us() -> float:
    """Microseconds of a `Memory.send` or `Memory.sync` of the curve level, on average."""
    spent = migrate(ExpectedMemory(guest(PAGES), seed=1), cache_bytes=None, most_faults=0)
    return (spent.send_s + spent.sync_s) / (spent.sends + spent.syncs) * 1e6


def main(words: list[str]) -> None:
    """``python -m benchmarks.pages``: three runs, and the bar; ``--alone PAGES``: one, told as JSON."""
    if words[:1] == ["--alone"]:
        from whimbrel.sim.memory.paged import PagedMemory

        plan = guest(int(words[1]), curve="--curve" in words)
        spent = migrate(PagedMemory(plan, seed=1, kvm=True))
        spent.resident_mb = resident_mb(Path("/proc/self/status").read_text(encoding="ascii"))
        told: dict[str, Any] = asdict(spent)
        print(json.dumps(told))
        return
    for result in measure(Manner(runs=3, patience_s=0.0, lock=None, say=print))[0]:
        for bar in result.bars:
            print(f"{'MET   ' if bar.met else 'MISSED'} {bar.name}: {bar.measured.value:.1f} {bar.unit}, {bar.ask}")
        for row in result.rows:
            print(f"       {row.name}: {row.measured.value:,.1f} {row.unit}")


if __name__ == "__main__":
    main(sys.argv[1:])
