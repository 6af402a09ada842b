"""Tests of whimbrel.sim.qemu.thread: whatever is done to it, in any order, some things hold."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.sim.qemu.thread_fakes import MIB, Bench, FakeMemory, FakeStream
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.qemu.contract import Version


class Disorder:
    """One migration, to which things are done that a seed decides."""

    def __init__(self, seed: int) -> None:
        """Draw what is migrated, and how."""
        self.random = random = Random(seed)
        faults = random.randrange(4)
        zero = random.choice((0, 9_000))
        memory = FakeMemory(random.randrange(1, 4_000), random.randrange(6_000), zero, faults=faults)
        memory.rate = random.choice((0.0, 500.0, 2e4, 1e6))
        wanted = ("pause-before-switchover", "postcopy-ram", "auto-converge", "multifd", "xbzrle")
        self.bench = Bench(
            memory,
            random.choice(list(Version)),
            rate=random.choice((2e6, 3e7, 1e9)),
            pipe_bytes=random.choice((5_000, 300_000, 3_000_000)),
            capabilities={name: random.random() < 0.4 for name in wanted},
            urgent=random.random() < 0.3,
            max_bandwidth=random.choice((0, MIB, 40 * MIB)),
            downtime_limit=random.choice((0, 1, 300)),
        )
        self.last = 0
        self.paused = False

    def actions(self) -> list[Callable[[], None]]:
        """What may be done."""
        bench, random = self.bench, self.random
        thread = bench.thread
        return [
            lambda: bench.set(max_bandwidth=random.choice((0, 1, 5 * MIB, 200 * MIB))),
            lambda: bench.set(downtime_limit=random.choice((0, 50, 2000))),
            lambda: bench.set(max_postcopy_bandwidth=random.choice((0, MIB))),
            lambda: bench.stream.change(random.choice((0.0, 1e5, 5e7))),
            thread.start_postcopy,
            thread.proceed,
            thread.guest_runs,
            thread.guest_halts,
            thread.acknowledge,
            self.pause,
            self.resume,
        ]

    def pause(self) -> None:
        """The stream breaks, once it is in post-copy."""
        if "state arrived" in self.bench.words and "state precopy" not in self.bench.words:
            self.bench.thread.pause_postcopy()
            self.paused = True

    def resume(self) -> None:
        """As after a reconnection."""
        if self.paused:
            self.paused = False
            self.bench.stream = FakeStream(self.bench.clock, 3e7)
            self.bench.thread.resume_postcopy(self.bench.stream)

    def look(self) -> None:
        """What holds at any time."""
        ram = self.bench.ram()
        now = int(str(ram["transferred"]))
        assert now >= self.last, "transferred went back"
        self.last = now
        assert 0 <= int(str(ram["remaining"])) <= int(str(ram["total"]))
        for name in ("normal", "duplicate", "precopy-bytes", "downtime-bytes", "postcopy-bytes", "multifd-bytes"):
            assert int(str(ram[name])) >= 0, name
        locks = [word for _, word in self.bench.said if "lock" in word]
        assert locks == ["lock", "unlock"] * (len(locks) // 2) + ["lock"] * (len(locks) % 2)


@pytest.mark.parametrize("part", range(6))
def test_any_order(part: int) -> None:
    """Figures never go back, the lock is taken and let go in turn, and once it is freed of trouble it ends."""
    for seed in range(part * 15, part * 15 + 15):
        disorder = Disorder(seed)
        bench = disorder.bench
        bench.thread.start()
        for _ in range(25):
            bench.run(disorder.random.choice((0.0, 0.0003, 0.02, 0.3)))
            disorder.look()
            disorder.random.choice(disorder.actions())()
            disorder.look()
        if disorder.random.random() < 0.3:
            disorder.bench.thread.end()
            said = [word for word in bench.words if word != "state arrived"]
            bench.run(5)
            assert [word for word in bench.words if word != "state arrived"] == said
            continue
        _heal(disorder)
        assert bench.words.count("sent") >= 1, (seed, bench.said[-8:])
        assert bench.memory.remaining_pages == 0


def _heal(disorder: Disorder) -> None:
    """Nothing is in its way any more."""
    bench = disorder.bench
    bench.memory.rate = 0.0
    bench.set(max_bandwidth=0, max_postcopy_bandwidth=0, downtime_limit=2000)
    bench.thread.acknowledge()
    bench.thread.guest_runs()
    disorder.resume()
    bench.stream.change(1e9)
    for _ in range(20):
        bench.thread.proceed()
        bench.clock.run(lambda: bool(bench.times("sent")), bench.clock.now_ns + 10 * SECOND_NS)
