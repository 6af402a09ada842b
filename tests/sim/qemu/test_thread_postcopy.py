"""Tests of whimbrel.sim.qemu.thread in post-copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.qemu.thread_fakes import MIB, Bench, FakeMemory, FakeStream
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.t_rules import FLUSH_BYTES

POSTCOPY = {"postcopy-ram": True}


def started(version: Version, memory: FakeMemory | None = None, **options: object) -> Bench:
    """Asked for post-copy after half a second, 128 MiB/s before that."""
    given: dict[str, object] = {"max_bandwidth": 128 * MIB, "capabilities": POSTCOPY, **options}
    bench = Bench(memory or FakeMemory(31_745, 10_000, 20_000), version, **given)  # type: ignore[arg-type]
    bench.thread.start()
    bench.run(0.5)
    bench.thread.start_postcopy()
    return bench


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (Version.V7_2, ["postcopy-active", "STOP", "pass 2", "state postcopy", "state arrived", "sent"]),
        (Version.V10_0, ["STOP", "device", "pass 2", "postcopy-active", "state postcopy", "state arrived", "sent"]),
        (Version.V11_1, ["STOP", "device", "postcopy-device", "state postcopy", "state arrived", "sent"]),
    ],
)
def test_the_recorded_sequences(version: Version, expected: list[str]) -> None:
    """Honoured at the next turn: up to 100 ms later."""
    bench = started(version)
    stopped = bench.until("STOP")
    assert 500 <= stopped <= 610
    bench.until("sent")
    said = [word for word in bench.words if word != "active"]
    assert said[-len(expected) :] == expected
    assert bench.memory.calls == ["begin", "halt", "arrive"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (Version.V7_2, ["STOP", "pre-switchover", "postcopy-active", "pass 2", "state postcopy"]),
        (Version.V10_0, ["STOP", "pre-switchover", "device", "pass 2", "postcopy-active", "state postcopy"]),
        (Version.V11_1, ["STOP", "pre-switchover", "device", "postcopy-device", "state postcopy"]),
    ],
)
def test_the_recorded_sequences_with_a_pause(version: Version, expected: list[str]) -> None:
    """It waits before the switchover there, too."""
    bench = started(version, capabilities={**POSTCOPY, "pause-before-switchover": True})
    bench.until("pre-switchover")
    bench.run(0.5)
    bench.thread.proceed()
    bench.until("state postcopy")
    assert bench.words[bench.words.index("STOP") :] == expected


def test_11_1_syncs_at_every_turn_with_postcopy_ram() -> None:
    """Recorded: p2 at once, then one each 100 ms, as only what post-copy can't send counts."""
    bench = Bench(FakeMemory(31_745, 20_000), Version.V11_1, max_bandwidth=128 * MIB, capabilities=POSTCOPY)
    bench.thread.start()
    bench.run(0.52)
    passes = [at_ms for at_ms, word in bench.said if word.startswith("pass")]
    assert len(passes) == 6
    assert passes[1] - passes[0] == pytest.approx(100, abs=4)


def test_a_guest_that_converges_by_itself_completes_as_precopy() -> None:
    """Nobody asked for post-copy."""
    bench = Bench(FakeMemory(100, 5000), Version.V10_0, capabilities=POSTCOPY)
    bench.thread.start()
    bench.until("sent")
    assert "state precopy" in bench.words


@pytest.mark.parametrize("version", Version)
def test_missing_pages_are_served_while_the_background_goes_on(version: Version) -> None:
    """Each page once; requests counted; bytes are post-copy's."""
    memory = FakeMemory(31_745, 10_000, faults=10)
    bench = started(version, memory, rate=100e6)
    bench.until("state postcopy")
    left = memory.remaining_pages
    bench.thread.guest_runs()
    bench.until("sent")
    ram = bench.ram()
    assert ram["postcopy-requests"] == 10
    assert ram["remaining"] == 0
    assert left * 4104 <= int(str(ram["postcopy-bytes"])) < left * 4104 + 20_000
    assert memory.calls.count("run") == 10


def ran(memory: FakeMemory, count: int) -> Callable[[], bool]:
    """Whether the guest has gone on so often after a fault."""
    return lambda: memory.calls.count("run") == count


def test_preempt_serves_past_the_pipe() -> None:
    """A page waits for its own channel only."""
    times: list[float] = []
    for urgent in (False, True):
        memory = FakeMemory(31_745, 10_000, faults=5)
        bench = started(Version.V10_0, memory, rate=50e6, pipe_bytes=2_000_000, urgent=urgent)
        begun = bench.until("state arrived")
        bench.thread.guest_runs()
        assert bench.clock.run(ran(memory, 5), 10**11)
        times.append(bench.clock.now_ns / 1e6 - begun)
    assert times[0] > 5 * 35
    assert times[1] < 5 * 3


def test_max_postcopy_bandwidth_holds_the_background_and_the_package() -> None:
    """Recorded at 4 MiB/s: RESUME came when the window had ended. Lifted: at once."""
    bench = started(Version.V10_0, max_postcopy_bandwidth=4 * MIB)
    stopped = bench.until("STOP")
    assert 90 < bench.until("state postcopy") - stopped < 102
    bench.run(1.0)
    sent = int(str(bench.ram()["postcopy-bytes"]))
    assert sent == pytest.approx(10 * 4 * FLUSH_BYTES, rel=0.12), "four flushes a window"
    bench.set(max_postcopy_bandwidth=0)
    now = bench.clock.now_ns / 1e6
    assert bench.until("sent") - now < 250


def test_the_limit_holds_pages_that_the_guest_waits_for_too() -> None:
    """The loop is woken for them, but sends nothing before the window ends; 10.0's preempt has its own thread."""
    waits: list[float] = []
    for version, urgent in ((Version.V10_0, False), (Version.V7_2, True), (Version.V10_0, True)):
        memory = FakeMemory(31_745, 10_000, faults=4)
        bench = started(version, memory, urgent=urgent, max_postcopy_bandwidth=4 * MIB)
        begun = bench.until("state arrived")
        bench.thread.guest_runs()
        assert bench.clock.run(ran(memory, 4), 10**11)
        waits.append(bench.clock.now_ns / 1e6 - begun)
    assert waits[0] > 300
    assert waits[1] > 300
    assert waits[2] < 10


def test_pause_and_resume() -> None:
    """The thread stands still; over a new stream what lay in the old pipe is sent again."""
    bench = started(Version.V10_0, FakeMemory(31_745, 10_000), rate=50e6, pipe_bytes=500_000)
    bench.until("state arrived")
    bench.run(0.2)
    before = int(str(bench.ram()["transferred"]))
    bench.thread.pause_postcopy()
    bench.run(2.0)
    assert bench.words[-1] == "state arrived"
    assert int(str(bench.ram()["transferred"])) >= before
    new = FakeStream(bench.clock, 50e6)
    before = int(str(bench.ram()["postcopy-bytes"]))
    bench.thread.resume_postcopy(new)
    assert bench.words[-1] == "postcopy-active"
    again = int(str(bench.ram()["postcopy-bytes"])) - before
    assert again == new.pushes[0][1], "counted once more, too"
    bench.until("sent")
    assert again == pytest.approx(500_000, rel=0.1)
    assert new.put_bytes > 10_000_000


@pytest.mark.parametrize("limit", [0, 4 * MIB])
def test_a_break_pauses_it_when_it_is_noticed(limit: int) -> None:
    """At once where a write is under way, at the end of the window where it sleeps."""
    bench = started(Version.V7_2, FakeMemory(31_745, 10_000, faults=2), rate=50e6, max_postcopy_bandwidth=limit)
    bench.until("state arrived")
    bench.thread.guest_runs()
    bench.run(0.25)
    assert bench.memory.calls.count("run") == 2
    bench.thread.broken("Connection reset by peer")
    bench.run(0.11)
    assert bench.words[-1] == "postcopy-paused"
    bench.thread.resume_postcopy(FakeStream(bench.clock, 1e9))
    bench.set(max_postcopy_bandwidth=0)
    bench.until("sent")


def test_resume_of_what_is_not_paused_does_nothing() -> None:
    """Nor after a failure before post-copy."""
    bench = started(Version.V10_0)
    bench.thread.resume_postcopy()
    bench.until("sent")
    failed = Bench(FakeMemory(20_000), rate=10e6, pipe_bytes=100_000)
    failed.thread.start()
    failed.run(0.5)
    failed.stream.reset()
    failed.thread.resume_postcopy(FakeStream(failed.clock))
    failed.run(1.0)
    assert failed.words[-1] == "failed"
