"""Tests of whimbrel.sim.qemu.t_writer."""

from __future__ import annotations

import pytest

from tests.sim.qemu.thread_fakes import MIB, FakeMemory, FakeStream
from whimbrel.sim.clock import MILLISECOND_NS, Clock
from whimbrel.sim.qemu.contract import Costs, Settings, Version
from whimbrel.sim.qemu.t_counters import Counters
from whimbrel.sim.qemu.t_rules import rules_of
from whimbrel.sim.qemu.t_writer import CHANNEL_ZERO, MAIN_ZERO, Writer

SLICE_NS = 51 * MILLISECOND_NS


class Desk:
    """A writer with all that it needs."""

    def __init__(
        self,
        memory: FakeMemory,
        version: Version = Version.V7_2,
        *,
        rate: float = 1e10,
        capabilities: dict[str, bool] | None = None,
        **parameters: object,
    ) -> None:
        """Everything is in the bitmap."""
        self.clock = Clock()
        self.memory = memory
        memory.begin(0)
        self.stream = FakeStream(self.clock, rate)
        given = {name.replace("_", "-"): value for name, value in parameters.items()}
        settings = Settings(capabilities=capabilities or {}, parameters=given)
        rules = rules_of(version)
        self.counters = Counters(rules, settings, 0)
        self.done_ns: list[int] = []
        self.broken = 0
        costs = Costs(cpu_bytes_per_s=3e9)
        self.writer = Writer(self.clock, memory, self.stream, self.counters, rules, costs, settings, self._broke)

    def _broke(self) -> None:
        self.broken += 1

    def _done(self) -> None:
        self.done_ns.append(self.clock.now_ns)

    def write(self, span_ns: int = SLICE_NS, slices: int = 1, most: int | None = None) -> int:
        """One step from now."""
        return self.writer.write(self.clock.now_ns + span_ns, slices, most, self._done)

    def run(self, milliseconds: float) -> None:
        """Let time pass."""
        self.clock.advance_to(self.clock.now_ns + int(milliseconds * MILLISECOND_NS))


@pytest.mark.parametrize(
    ("version", "capabilities", "limit", "window_bytes"),
    [
        # As recorded: bytes between two windows of one pass. What 7.2 counts lacks the 10 that frame a section.
        (Version.V7_2, {}, 128 * MIB, 13_424_192 + 10),
        (Version.V7_2, {}, 24 * MIB, 2_519_864 + 10),
        (Version.V10_0, {}, 128 * MIB, 13_526_802),
        (Version.V11_1, {}, 24 * MIB, 2_626_578),
        (Version.V10_0, {"xbzrle": True}, 128 * MIB, 13_436_514),
    ],
)
def test_a_window_takes_what_the_limit_lets_through(
    version: Version, capabilities: dict[str, bool], limit: int, window_bytes: int
) -> None:
    """It stops after the page, or the flush, that went beyond, and sleeps to the end of the window."""
    desk = Desk(FakeMemory(60_000), version, capabilities=capabilities)
    desk.writer.set_limit(limit)
    desk.write()
    assert desk.counters.bytes == window_bytes
    assert desk.writer.exhausted
    assert desk.writer.slept
    desk.run(99)
    assert desk.done_ns == []
    desk.run(2)
    assert len(desk.done_ns) == 1
    assert 100 <= desk.done_ns[0] / MILLISECOND_NS < 101


def test_no_limit_is_no_limit() -> None:
    """0 means unlimited; the slice ends with its time."""
    desk = Desk(FakeMemory(100_000))
    desk.writer.set_limit(0)
    desk.write()
    assert not desk.writer.exhausted
    desk.run(60)
    assert desk.counters.bytes == pytest.approx(3e9 * 0.051, rel=0.02)
    assert desk.done_ns[0] == pytest.approx(SLICE_NS, rel=0.02)


def test_the_smallest_limit_still_sends_a_page_a_window() -> None:
    """1 byte per second: a page, then sleep."""
    desk = Desk(FakeMemory(100))
    desk.writer.set_limit(1)
    assert desk.write() == 1
    assert desk.writer.exhausted


def test_a_slice_over_a_slow_link_ends_at_a_look_at_the_clock() -> None:
    """64 pages and one more at a time: 51 to 57 ms at 48 MB/s."""
    desk = Desk(FakeMemory(60_000), rate=48e6)
    desk.stream.push(0, desk.stream.size, 1e12)
    taken = desk.write()
    assert taken % 64 == 1
    desk.run(100)
    assert 51 <= desk.done_ns[0] / MILLISECOND_NS <= 57


@pytest.mark.parametrize("wire_bytes", [1032, 108])
def test_a_slice_of_small_pages_is_no_shorter(wire_bytes: int) -> None:
    """Differences and compressed pages: the clock ends it, not a number of pages; it is looked at every 64 of them."""
    desk = Desk(FakeMemory(0, 900_000, wire_bytes=wire_bytes), rate=48e6)
    desk.stream.push(0, desk.stream.size, 1e12)
    desk.write()
    assert desk.writer.cut, "as if all went in full, as long as nothing is known"
    for _ in range(2):
        desk.clock.step()
        began_ns = desk.clock.now_ns
        assert desk.write() % 64 == 1
        assert not desk.writer.cut
        desk.clock.step()
        assert 51 <= (desk.clock.now_ns - began_ns) / MILLISECOND_NS <= 57
        desk.write()


def test_pages_that_come_to_nothing_are_bounded_by_time() -> None:
    """What XBZRLE finds unchanged still has to be compared: no more than there is time for."""
    desk = Desk(FakeMemory(0, 900_000, wire_bytes=0), rate=48e6)
    desk.write()
    desk.run(60)
    assert desk.write() == pytest.approx(0.051 * 3e9 / 4096, rel=0.01)
    began_ns = desk.clock.now_ns
    desk.clock.step()
    assert (desk.clock.now_ns - began_ns) / MILLISECOND_NS == pytest.approx(51, rel=0.01)


def test_the_writer_runs_ahead_of_the_link_by_the_pipe() -> None:
    """A first step at the processor's speed, then at the link's."""
    desk = Desk(FakeMemory(60_000), rate=100e6)
    desk.write(slices=0)
    desk.run(60)
    assert desk.counters.bytes == pytest.approx(0.051 * 100e6 + 1_000_000, rel=0.01)


def test_a_zero_page_costs_processor_and_hardly_any_bytes() -> None:
    """A slice of nothing but zero pages is as many as can be looked at, once it has met them."""
    desk = Desk(FakeMemory(0, 0, 300_000))
    met = desk.write()
    assert desk.writer.cut
    desk.run(60)
    taken = desk.write()
    assert taken == pytest.approx(0.051 / 0.3e-6, rel=0.01)
    desk.run(60)
    assert desk.done_ns[1] - 60 * MILLISECOND_NS == pytest.approx(SLICE_NS, rel=0.01)
    assert desk.counters.bytes < 9 * (met + taken) + 100


@pytest.mark.parametrize(("pages", "wire_bytes"), [(10_000, 4104), (40_000, 1026)])
def test_zero_pages_behind_others_begin_when_those_are_in(pages: int, wire_bytes: int) -> None:
    """They do not hide behind the link's pace: 41 MB take 410 ms at 100 MB/s, then 300000 zero pages 90."""
    desk = Desk(FakeMemory(pages, 0, 300_000, wire_bytes=wire_bytes), rate=100e6)
    desk.stream.push(0, desk.stream.size, 1e12)
    while desk.memory.remaining_pages:
        before = len(desk.done_ns)
        desk.write()
        while len(desk.done_ns) == before:
            desk.clock.step()
    assert desk.done_ns[-1] / MILLISECOND_NS == pytest.approx(500, rel=0.03)


def test_multifd_looks_for_zero_pages_in_its_channels() -> None:
    """From 9.0 on, unless zero-page-detection says otherwise; 7.2 does it in the main thread."""
    share = MAIN_ZERO + CHANNEL_ZERO / 4
    for version, mode, expected in (
        (Version.V10_0, "multifd", 1 / share),
        (Version.V10_0, "legacy", 1),
        (Version.V7_2, "multifd", 1),
    ):
        capabilities = {"multifd": True}
        desk = Desk(
            FakeMemory(0, 0, 900_000),
            version,
            capabilities=capabilities,
            multifd_channels=4,
            zero_page_detection=mode,
        )
        desk.write()
        desk.run(60)
        assert desk.write() == pytest.approx(0.051 / 0.3e-6 * expected, rel=0.01)


def test_an_outage_holds_the_writer_and_its_end_lets_it_go() -> None:
    """Nothing goes in where nothing drains and the pipe is full; then it goes on by itself."""
    desk = Desk(FakeMemory(60_000), rate=100e6)
    desk.stream.push(0, desk.stream.size, 1e12)
    desk.stream.change(0.0)
    assert desk.write() == 0
    assert desk.writer.in_flight
    desk.run(5_000)
    assert desk.done_ns == []
    desk.stream.change(100e6)
    desk.run(100)
    assert len(desk.done_ns) == 1
    assert desk.counters.bytes > 4_000_000


def test_a_change_of_the_link_moves_the_end_of_a_write() -> None:
    """Slower: later; an outage: not before it ends."""
    desk = Desk(FakeMemory(60_000), rate=100e6)
    desk.stream.push(0, desk.stream.size, 1e12)
    desk.write(slices=0)
    desk.run(20)
    desk.stream.change(0.0)
    desk.run(1_000)
    assert desk.done_ns == []
    desk.stream.change(50e6)
    desk.run(1_000)
    assert desk.done_ns[0] / MILLISECOND_NS == pytest.approx(1020 + 62, abs=2)


def test_a_change_during_the_sleep_changes_nothing() -> None:
    """The thread sleeps until its window ends, whatever the link does."""
    desk = Desk(FakeMemory(60_000), rate=1e9)
    desk.writer.set_limit(10 * MIB)
    desk.write()
    desk.run(50)
    desk.stream.change(5e8)
    desk.run(60)
    assert 100 <= desk.done_ns[0] / MILLISECOND_NS < 101


def test_a_broken_stream_is_found_by_the_write() -> None:
    """At once if one is under way, else by the next; nothing leaves the bitmap for it."""
    desk = Desk(FakeMemory(60_000), rate=1e8)
    desk.write()
    desk.stream.reset()
    assert desk.broken == 1
    left = desk.memory.remaining_pages
    assert desk.write() == 0
    desk.writer.write_bytes(10, lambda: None)
    assert (desk.broken, desk.memory.remaining_pages) == (3, left)


def test_nothing_is_written_after_close() -> None:
    """The migration is over: no page, no call."""
    desk = Desk(FakeMemory(60_000))
    desk.write()
    desk.writer.close()
    desk.run(200)
    assert desk.done_ns == []
    assert desk.write() == 0
    desk.writer.sleep(lambda: None)
    assert desk.clock.next_ns() is None
