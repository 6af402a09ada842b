"""Tests of whimbrel.sim.qemu.t_faults."""

from __future__ import annotations

import pytest

from tests.sim.qemu.thread_fakes import FakeMemory, FakeStream
from whimbrel.sim.clock import MILLISECOND_NS, Clock
from whimbrel.sim.memory.contract import Sent
from whimbrel.sim.qemu.contract import Settings, Version
from whimbrel.sim.qemu.t_counters import Counters
from whimbrel.sim.qemu.t_faults import Faults
from whimbrel.sim.qemu.t_rules import rules_of


class Case:
    """Faults of a guest that misses some pages."""

    def __init__(
        self, faults: int, *, pipe: int = 0, back: bool = False, urgent: bool = False, memory: FakeMemory | None = None
    ) -> None:
        """``pipe`` bytes lie in the main stream's pipe, at 100 MB/s."""
        self.clock = Clock()
        self.memory = memory or FakeMemory(1000, faults=faults)
        self.memory.begin(0)
        self.memory.arrive(0)
        self.memory.calls.clear()
        self.main = FakeStream(self.clock, 100e6)
        self.main.push(0, pipe, 1e12)
        self.back = FakeStream(self.clock, 100e6) if back else None
        self.counters = Counters(rules_of(Version.V10_0), Settings(), 0)
        self.counters.in_postcopy()
        self.asleep_until_ns = 0
        stream = FakeStream(self.clock, 100e6) if urgent else self.main
        self.faults = Faults(self.clock, self.memory, self.counters, stream, self.back, lambda: self.asleep_until_ns)

    def run_until_run(self, count: int) -> float:
        """Milliseconds until the guest went on for that time."""
        assert self.clock.run(lambda: self.memory.calls.count("run") >= count, 10**10)
        return self.clock.now_ns / MILLISECOND_NS


def test_a_page_is_asked_for_sent_and_the_guest_goes_on() -> None:
    """One after the other, each counted."""
    case = Case(3)
    case.faults.guest_runs()
    case.run_until_run(3)
    assert case.counters.requests == 3
    assert case.counters.phase_bytes == [0, 0, 3 * 4104]
    assert case.memory.remaining_pages == 997
    case.clock.run(lambda: False, 10**10)
    assert case.memory.calls == ["run"] * 3


def test_it_waits_behind_the_pipe_but_not_with_a_channel_of_its_own() -> None:
    """1 MB at 100 MB/s is 10 ms."""
    slow, fast = Case(1, pipe=1_000_000), Case(1, pipe=1_000_000, urgent=True)
    slow.faults.guest_runs()
    fast.faults.guest_runs()
    assert slow.run_until_run(1) > 10
    assert fast.run_until_run(1) < 2


def test_a_request_takes_the_way_back() -> None:
    """What lies in the way back comes first."""
    quick, late = Case(1, back=True), Case(1, back=True)
    assert late.back is not None
    late.back.push(0, 1_000_000, 1e12)
    quick.faults.guest_runs()
    late.faults.guest_runs()
    assert late.run_until_run(1) > quick.run_until_run(1) + 7


def test_a_guest_that_was_stopped_does_not_go_on() -> None:
    """The page arrives; the guest runs when it is told to."""
    case = Case(2)
    case.faults.guest_runs()
    case.clock.advance_to(MILLISECOND_NS)
    case.faults.guest_halts()
    case.clock.advance_to(10**9)
    assert case.memory.calls == []
    case.faults.guest_runs()
    case.run_until_run(1)


def test_a_page_waits_for_a_thread_that_sleeps() -> None:
    """It is sent just before the thread goes on."""
    case = Case(1)
    case.asleep_until_ns = 40 * MILLISECOND_NS
    case.faults.guest_runs()
    case.clock.advance_to(39 * MILLISECOND_NS)
    assert case.counters.requests == 0
    assert case.run_until_run(1) < 41


def test_what_broke_with_the_stream_is_asked_for_again() -> None:
    """And sent again over the new one, though the bitmap has it no more."""
    case = Case(1, pipe=1_000_000)
    case.faults.guest_runs()
    case.clock.advance_to(2 * MILLISECOND_NS)
    assert case.counters.requests == 1
    case.main.reset()
    case.faults.pause()
    case.clock.advance_to(10**9)
    assert case.memory.calls == []
    left = case.memory.remaining_pages
    case.memory.faults = 1
    new = FakeStream(case.clock, 100e6)
    case.faults.resume(new, None)
    case.run_until_run(1)
    assert case.counters.requests == 2
    assert case.memory.remaining_pages == left - 1


class Emptied(FakeMemory):
    """The background has already sent what the guest waits for."""

    def serve(self, now_ns: int) -> Sent:
        self.faults -= 1
        return Sent()


@pytest.mark.parametrize("broke", [False, True])
def test_a_page_that_the_background_has_sent(broke: bool) -> None:
    """It comes with what lies in the pipe; was it lost with a broken one, it is sent again and counted."""
    case = Case(1, pipe=1_000_000, memory=Emptied(1000, faults=1))
    case.faults.guest_runs()
    case.clock.advance_to(2 * MILLISECOND_NS)
    if broke:
        case.main.reset()
        case.faults.pause()
        case.faults.resume(FakeStream(case.clock, 100e6), None)
    begun_ms = case.clock.now_ns / MILLISECOND_NS
    waited = case.run_until_run(1) - begun_ms
    assert (waited < 2) is broke
    assert case.counters.phase_bytes[2] == (4104 if broke else 0)


def test_nothing_after_the_end() -> None:
    """No request, no page."""
    case = Case(5)
    case.faults.guest_runs()
    case.faults.end()
    assert not case.clock.run(lambda: False, 10**10)
    assert case.counters.requests == 0
