"""Tests of whimbrel.sim.qemu.thread: against what was recorded from real QEMUs, and one behaviour at a time.

The recorded guest: 256 MiB, of which 124 MiB are rewritten all the time and 33801 pages are zero; loopback.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.sim.qemu.thread_fakes import MIB, Bench, FakeMemory, series
from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Clock
from whimbrel.sim.link.contract import Stream
from whimbrel.sim.link.shared import SharedLink
from whimbrel.sim.memory.build import memory_of
from whimbrel.sim.memory.contract import Memory
from whimbrel.sim.qemu.contract import Costs, Settings, Version
from whimbrel.sim.qemu.thread import Thread
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Writer

VERSIONS = list(Version)


@pytest.mark.parametrize("version", VERSIONS)
def test_pause_before_switchover(version: Version) -> None:
    """It waits with the guest stopped and the lock let go; then device, the last sync, the rest."""
    bench = Bench(FakeMemory(100, 5000), version, capabilities={"pause-before-switchover": True})
    bench.thread.start()
    assert bench.until("pre-switchover") - bench.until("STOP") == pytest.approx(1.06)
    assert bench.said[-1][1] == "unlock"
    bench.run(1.0)
    assert bench.said[-1][1] == "unlock"
    bench.thread.proceed()
    bench.until("sent")
    tail = bench.words[bench.words.index("STOP") :]
    last = [] if version is Version.V11_1 else [word for word in tail if word.startswith("pass")]
    assert tail == ["STOP", "pre-switchover", "device", *last, "state precopy", "sent"]
    assert len(last) == (version is not Version.V11_1)


def test_the_last_stage_lifts_the_rate_limit() -> None:
    """A threshold of 2 s at 10 MiB/s goes out at the link's rate."""
    bench = Bench(FakeMemory(4000, 4000, hot_pages_per_s=2000), Version.V10_0, rate=200e6, max_bandwidth=10 * MIB)
    bench.set(downtime_limit=1500)
    bench.thread.start()
    assert bench.until("sent") - bench.until("STOP") < 100


def test_the_device_state_waits_behind_the_pipe() -> None:
    """2 MB of pipe at 20 MB/s: it arrives 100 ms after the last byte went in."""
    bench = Bench(FakeMemory(2000, 30_000, hot_pages_per_s=500), rate=20e6, pipe_bytes=2_000_000)
    bench.thread.start()
    sent = bench.until("sent")
    assert bench.until("state arrived") - sent == pytest.approx(100, abs=10)


def test_a_frozen_destination_freezes_the_figures() -> None:
    """Rates keep their last value, transferred stands still, nothing is said; then it goes on."""
    bench = Bench(FakeMemory(20_000, 20_000), rate=100e6)
    bench.thread.start()
    bench.run(0.55)
    moved = bench.ram()["transferred"]
    bench.stream.change(0.0)
    assert bench.ram()["transferred"] == moved
    bench.run(0.2)
    before, said = bench.thread.figures(), len(bench.said)
    bench.run(30.0)
    assert bench.thread.figures() == before
    assert len(bench.said) == said
    bench.stream.change(100e6)
    bench.run(0.5)
    assert int(str(bench.ram()["transferred"])) > 60e6


def test_a_stopped_source_completes() -> None:
    """A guest that was stopped before dirties nothing."""
    memory = FakeMemory(5000, 5000)
    memory.running = False
    bench = Bench(memory, rate=100e6)
    bench.thread.start()
    bench.until("sent")
    assert bench.words.count("pass 2") == 1


def test_end_says_and_does_nothing_more() -> None:
    """Cancelled in the middle: the throttle is off, the log ends, no timer is left."""
    bench = Bench(FakeMemory(20_000), rate=50e6)
    bench.thread.start()
    bench.run(0.5)
    bench.thread.end()
    bench.thread.end()
    assert bench.memory.calls == ["begin", "end"]
    said = len(bench.said)
    bench.run(10)
    assert len(bench.said) == said
    assert bench.clock.next_ns() is None


def test_end_lets_the_lock_go() -> None:
    """A cancel in the last stage."""
    bench = Bench(FakeMemory(100, 5000), rate=10e6, pipe_bytes=1000, downtime_limit=2000)
    bench.thread.start()
    bench.until("STOP")
    bench.thread.end()
    assert bench.said[-1][1] == "unlock"


def test_the_start_stall_of_tcg() -> None:
    """The guest stands while logging begins, and runs again."""
    bench = Bench(FakeMemory(5000, 5000), rate=10e6, costs=Costs(setup_s=0.06, start_stall_s=0.05))
    bench.thread.start()
    bench.run(0.02)
    assert not bench.memory.running
    bench.run(0.05)
    assert bench.memory.running
    assert bench.until("active") == 60


def test_switchover_waits_for_the_acknowledgement() -> None:
    """switchover-ack: syncs go on, the guest is not stopped before the word is there."""
    bench = Bench(FakeMemory(0, 5000), Version.V10_0, rate=1e9, capabilities={"switchover-ack": True})
    bench.thread.start()
    bench.run(0.3)
    assert bench.times("STOP") == []
    bench.thread.acknowledge()
    assert bench.until("sent") < 310


def test_xbzrle_asks_for_its_cache_and_resizes_it() -> None:
    """At the start and where the size changes, once each; never with multifd."""
    bench = Bench(FakeMemory(5000), rate=10e6, capabilities={"xbzrle": True}, xbzrle_cache_size=64 * MIB)
    bench.thread.start()
    bench.run(0.1)
    bench.set(xbzrle_cache_size=128 * MIB)
    bench.set(downtime_limit=1)
    assert bench.memory.caches == [64 * MIB, 128 * MIB]


def test_compression_is_told_to_the_memory() -> None:
    """multifd-compression, read at the start."""
    for method, compressed in (("none", False), ("zstd", True)):
        bench = Bench(FakeMemory(500), capabilities={"multifd": True}, multifd_compression=method)
        bench.thread.start()
        bench.until("sent")
        assert bench.memory.compressed is compressed


@pytest.mark.parametrize("seconds", [0.0004, 0.35])
def test_a_reset_is_noticed_at_the_next_write(seconds: float) -> None:
    """In setup (``active`` all the same, as recorded), or asleep until the window ends; ``failed`` then, once."""
    bench = Bench(FakeMemory(20_000), max_bandwidth=10 * MIB)
    bench.thread.start()
    bench.run(seconds)
    bench.thread.broken("Connection reset by peer")
    assert bench.times("failed") == []
    bench.run(0.11)
    assert bench.words[:2] == ["pass 1", "active"]
    assert len(bench.times("failed")) == 1
    bench.run(5)
    assert bench.words.count("failed") == 1


def test_a_write_that_hangs_notices_at_once() -> None:
    """Both where somebody tells and where the stream itself does."""
    for tell in (True, False):
        bench = Bench(FakeMemory(20_000), rate=10e6, pipe_bytes=100_000)
        bench.thread.start()
        bench.run(0.5)
        if tell:
            bench.thread.broken("Broken pipe")
            bench.run(0)
        else:
            bench.stream.reset()
        assert bench.words[-1] == "failed"
        bench.run(5)
        assert bench.words.count("failed") == 1


def test_a_reset_in_the_last_stage_lets_the_lock_go() -> None:
    """The guest stands: the process has to let it go on."""
    bench = Bench(FakeMemory(3000, 5000), rate=10e6, pipe_bytes=1000, downtime_limit=3000)
    bench.thread.start()
    bench.until("STOP")
    bench.run(0.05)
    bench.stream.reset()
    assert [word for _, word in bench.said[-2:]] == ["unlock", "failed"]


class Process:
    """The least that a process around the thread does."""

    def __init__(self, clock: Clock, memory: Memory, stream: Stream) -> None:
        """Nothing has been said."""
        self.clock, self.memory, self.stream = clock, memory, stream
        self.ended_ns = 0

    def passed(self, number: int) -> None:
        """A number."""

    def reached(self, status: str) -> None:
        """A word."""

    def holds_lock(self, held: bool) -> None:
        """Yes or no."""

    def all_sent(self) -> None:
        """The end is when the state arrives."""

    def stops_guest(self) -> None:
        """It does."""
        self.memory.halt(self.clock.now_ns)

    def sends_state(self, size_bytes: int, kind: str) -> None:
        """Behind all that is in the pipe."""
        self.stream.message(self.clock.now_ns, size_bytes, self._end)

    def _end(self) -> None:
        self.ended_ns = self.clock.now_ns


class World:
    """The models of memory and link around one thread: 128 MiB, of which 32 MiB are written to at 20 MB/s."""

    def __init__(self, link: LinkPlan, version: Version = Version.V10_0) -> None:
        """It has started."""
        plan = GuestPlan(
            ram_bytes=128 * MIB,
            zero_bytes=16 * MIB,
            writers=(Writer(name="hot", size_bytes=32 * MIB, rate_bytes_per_s=20e6),),
        )
        self.clock = clock = Clock()
        self.memory = memory = memory_of(plan, seed=7)
        memory.run(0)
        shared = SharedLink(clock, link, 7)
        self.stream = stream = shared.open()
        shared.begin(0)
        self.process = Process(clock, memory, stream)
        settings = Settings(parameters={"max-bandwidth": 0, "downtime-limit": 200})
        self.thread = Thread(clock, version, memory, stream, settings, Costs(), self.process)
        self.thread.start()

    @property
    def moved(self) -> tuple[int, int]:
        """``transferred`` and ``remaining`` of ``ram`` now."""
        ram = self.thread.figures()["ram"]
        assert isinstance(ram, dict)
        transferred, remaining = ram["transferred"], ram["remaining"]  # pyright: ignore[reportUnknownVariableType]
        return int(str(transferred)), int(str(remaining))  # pyright: ignore[reportUnknownArgumentType]


def test_over_the_models_of_memory_and_link() -> None:
    """With a link whose rate changes all the time: it ends, nothing goes back, all pages went over at least once."""
    world = World(LinkPlan(bandwidth_bytes_per_s=60e6, noise=0.3, noise_every_s=0.05))
    last = 0
    while not world.process.ended_ns:
        assert world.clock.step()
        moved, _ = world.moved
        assert moved >= last
        last = moved
    assert 2.0 < world.process.ended_ns / SECOND_NS < 6.0
    assert last > 112 * MIB
    assert world.memory.remaining_pages == 0


@pytest.mark.parametrize("plan", [{"outages": ((0.5, 5.0),)}, {"steps": ((0.5, 0.0), (5.5, 60e6))}])
def test_figures_stand_still_in_an_outage_whose_end_is_known(plan: dict[str, Any]) -> None:
    """A pipe's worth behind what the link had carried when it began, and then nothing until it ends."""
    world = World(LinkPlan(bandwidth_bytes_per_s=60e6, pipe_bytes=1_000_000, **plan))
    seen: dict[int, tuple[int, int]] = {}
    for at_ms in range(25, 6000, 25):
        world.clock.advance_to(at_ms * MILLISECOND_NS)
        seen[at_ms] = world.moved
        carried = world.stream.passed_bytes
        assert carried <= seen[at_ms][0] <= carried + 1_000_000 + 4104
    assert len({seen[at_ms] for at_ms in seen if 525 <= at_ms <= 5500}) == 1
    assert seen[450][0] < seen[1000][0] < seen[5600][0]
    assert seen[450][1] > seen[1000][1] > seen[5600][1]


def transferred(thread: Thread) -> int:
    """``ram.transferred`` now."""
    ram = thread.figures()["ram"]
    assert isinstance(ram, dict)
    return int(str(ram["transferred"]))  # pyright: ignore[reportUnknownArgumentType]


def test_a_slower_max_bandwidth_holds_at_once_for_whoever_looks_often() -> None:
    """QEMU asks for it before every page: at full speed at first, then next to nothing a window."""
    bench = Bench(FakeMemory(0, still=1 << 18), Version.V7_2, rate=5e7)
    bench.thread.start()
    series(bench, 0.47, every_s=0.02)
    before = transferred(bench.thread)
    bench.set(max_bandwidth=10 << 10)
    series(bench, 0.08, every_s=0.02)
    per_s = before / 0.47
    assert transferred(bench.thread) - before < per_s * 0.01


def test_a_slice_is_longer_than_50_ms() -> None:
    """QEMU compares whole milliseconds: recorded, an idle 11.1 with postcopy-ram syncs at every turn, 51 ms apart."""
    costs = Costs(cpu_bytes_per_s=3e9, sync_s=0.0, sync_s_per_page=0.0)
    memory = FakeMemory(0, 1 << 18)
    bench = Bench(memory, Version.V11_1, rate=1e9, capabilities={"postcopy-ram": True}, costs=costs)
    bench.thread.start()
    bench.run(0.4)
    at = [at_ms for at_ms, word in bench.said if word.startswith("pass")]
    gaps = [later - earlier for earlier, later in pairwise(at[1:])]
    assert len(gaps) >= 4, at
    assert all(51 <= gap < 52 for gap in gaps)


def test_a_slice_of_small_pages_lasts_as_long_as_one_of_full_ones() -> None:
    """Two slices a step, whatever the pages come to; else what is pending is looked at, and synced, far too often."""
    bench = Bench(FakeMemory(0, 1 << 18, wire_bytes=208), rate=20e6, pipe_bytes=1000)
    bench.thread.start()
    bench.run(1.0)
    at = [when_ns / MILLISECOND_NS for when_ns, _ in bench.stream.pushes if when_ns > 100 * MILLISECOND_NS]
    assert len(at) == 9
    assert all(102 <= later - earlier < 104 for earlier, later in pairwise(at))


def test_a_step_that_stops_short_of_the_threshold_ends_its_slice() -> None:
    """At 48 MB/s a slice is 641 pages, 54.8 ms: the sync comes behind a whole one, though the time is up before."""
    pages = 4 * 641 + 1000
    bench = Bench(FakeMemory(0, pages), rate=48e6, pipe_bytes=1, downtime_limit=100)
    bench.thread.start()
    bench.until("pass 2")
    assert pages - bench.memory.remaining_pages == 4 * 641
