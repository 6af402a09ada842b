"""The migration thread against what was recorded of real ones, by version: passes, figures and their staleness."""

from __future__ import annotations

import pytest

from tests.sim.qemu.thread_fakes import MIB, Bench, FakeMemory, recorded_guest, series
from whimbrel.sim.qemu.contract import Version


def test_idle_guest_before_the_first_window() -> None:
    """The threshold is 0: 7.2 and 10.0 switch when nothing is left, 11.1 syncs until a sync finds nothing."""
    for version, expected in (
        (Version.V7_2, ["pass 1", "active", "STOP", "pass 2", "state precopy", "sent"]),
        (Version.V10_0, ["pass 1", "active", "STOP", "device", "pass 2", "state precopy", "sent"]),
        (Version.V11_1, ["active", "pass 2", "STOP", "device", "state precopy", "sent"]),
    ):
        bench = Bench(FakeMemory(0, 2000, 63_000), version)
        bench.thread.start()
        bench.until("sent")
        assert bench.words == expected
        assert bench.until("sent") < 100


def test_11_1_makes_several_quick_passes_for_a_guest_that_ticks() -> None:
    """Recorded: p2 to p5 within a millisecond."""
    bench = Bench(FakeMemory(50, 2000, 10_000, hot_pages_per_s=9000), Version.V11_1)
    bench.thread.start()
    second, fifth = bench.until("pass 2"), bench.until("pass 5")
    assert fifth - second < 2
    assert bench.until("STOP") < 103, "once there is a threshold"


def test_the_recorded_series_of_7_2() -> None:
    """128 MiB/s, downtime-limit 300 ms: the same figures, window by window, and the same staleness."""
    bench = Bench(recorded_guest(), Version.V7_2, max_bandwidth=128 * MIB)
    bench.thread.start()
    answers = series(bench, 4.0)
    # Recorded passes: 0.913, 1.702, 2.401, 3.103 s after the first.
    for number, at_ms in ((2, 913), (3, 1702), (4, 2401), (5, 3103)):
        assert bench.until(f"pass {number}") - 3 == pytest.approx(at_ms, abs=12)
    assert {answer["expected-downtime"] for answer in answers} == {300, 968, 978}
    first = next(index for index, answer in enumerate(answers) if answer["expected-downtime"] != 300)
    assert answers[first - 1]["dirty-pages-rate"] or answers[first]["dirty-pages-rate"]
    assert {answer["dirty-pages-rate"] for answer in answers if answer["dirty-sync-count"] in (1, 2)} == {0}
    rate = answers[first]["dirty-pages-rate"]
    assert isinstance(rate, int)
    assert rate == pytest.approx(32_593, rel=0.01)
    steady = [answer for answer in answers if answer["dirty-sync-count"] in (3, 4)]
    assert {round(float(str(answer["mbps"])), 1) for answer in steady} <= {1073.9, 1063.3}
    assert {answer["pages-per-second"] for answer in steady} <= {32_710, 32_386}
    # Recorded after each pass: 116629504, 103231488, 89833472, 76435456, 63037440, 49639424.
    left = [answer["remaining"] for answer in answers if answer["dirty-sync-count"] == 4]
    assert left[:6] == [116_629_504, 103_231_488, 89_833_472, 76_435_456, 63_037_440, 49_639_424]


def test_the_recorded_series_of_10_0() -> None:
    """What is flushed counts, so each window takes a little more: 1082.1 Mbit/s, 961 ms."""
    bench = Bench(recorded_guest(), Version.V10_0, max_bandwidth=128 * MIB)
    bench.thread.start()
    answers = series(bench, 3.0)
    assert {answer["expected-downtime"] for answer in answers} <= {300, 961, 970}
    steady = [answer for answer in answers if answer["dirty-sync-count"] == 3]
    assert {round(float(str(answer["mbps"])), 1) for answer in steady} <= {1082.1, 1071.4}
    left = [answer["remaining"] for answer in steady]
    assert left[:4] == [116_527_104, 103_026_688, 89_526_272, 76_025_856]


def test_the_recorded_series_of_11_1() -> None:
    """The estimate is there from the second iteration on; remaining is that of the last look, a window behind."""
    bench = Bench(recorded_guest(), Version.V11_1, max_bandwidth=128 * MIB)
    bench.thread.start()
    answers = series(bench, 3.0)
    early = [answer for answer in answers if answer["dirty-sync-count"] == 1]
    assert {answer["expected-downtime"] for answer in early} == {300}
    second = [answer for answer in answers if answer["dirty-sync-count"] == 2]
    assert {answer["expected-downtime"] for answer in second} <= {961, 970}
    assert {answer["dirty-pages-rate"] for answer in second} == {0}
    third = [answer for answer in answers if answer["dirty-sync-count"] == 3]
    ram = third[1]
    assert (ram["remaining"], bench.ram()["total"]) == (103_026_688, 65_666 * 4096)
    bench_remaining = bench.thread.figures()["remaining"]
    assert isinstance(bench_remaining, int)
    assert bench_remaining - int(str(bench.ram()["remaining"])) == 3296 * 4096


def test_raising_the_downtime_limit_makes_it_converge() -> None:
    """Recorded: 300 to 1500 ms, a pass 23 ms later, STOP, and one more pass in 7.2."""
    bench = Bench(recorded_guest(), Version.V7_2, max_bandwidth=128 * MIB)
    bench.thread.start()
    bench.run(4.08)
    passes = len([word for word in bench.words if word.startswith("pass")])
    bench.set(downtime_limit=1500)
    stopped = bench.until("STOP")
    assert stopped - 4080 <= 205, "at the end of the window after this one at the latest"
    bench.until("sent")
    assert bench.words[-5:] == [f"pass {passes + 1}", "STOP", f"pass {passes + 2}", "state precopy", "sent"]


def test_a_limit_that_is_not_enough_only_makes_passes_shorter() -> None:
    """Recorded: 500 ms did not help; passes went from 7 windows to 5."""
    bench = Bench(recorded_guest(), Version.V10_0, max_bandwidth=128 * MIB)
    bench.thread.start()
    bench.run(4.0)
    bench.set(downtime_limit=500)
    bench.run(3.0)
    at = [at_ms for at_ms, word in bench.said if word.startswith("pass")]
    assert at[-1] - at[-2] == pytest.approx(500, abs=10)
    assert bench.times("STOP") == []


def test_max_bandwidth_changes_within_two_windows_and_zero_ends_it() -> None:
    """Recorded at 32 MiB/s: 268.6 Mbit/s and about 3873 ms; unlimited: over in about 100 ms."""
    bench = Bench(recorded_guest(), Version.V7_2, max_bandwidth=128 * MIB, downtime_limit=500)
    bench.thread.start()
    bench.run(3.0)
    bench.set(max_bandwidth=32 * MIB)
    bench.run(0.21)
    answer = bench.thread.figures()
    assert round(float(str(bench.ram()["mbps"])), 1) in (268.6, 265.9)
    assert answer["expected-downtime"] in (3873, 3911)
    bench.set(max_bandwidth=0)
    assert bench.until("STOP") - 3210 < 260
    bench.until("sent")


def test_auto_converge_of_7_2_steps_every_second_pass_as_recorded() -> None:
    """24 MiB/s, initial and increment 20: 20 % at the third pass (10.3 s), 40 % at the fifth (20.6 s)."""
    capabilities = {"auto-converge": True}
    bench = Bench(
        recorded_guest(),
        Version.V7_2,
        capabilities=capabilities,
        max_bandwidth=24 * MIB,
        downtime_limit=50,
        cpu_throttle_initial=20,
        cpu_throttle_increment=20,
        max_cpu_throttle=80,
    )
    bench.thread.start()
    for number, at_s, percent in ((2, 5.228, None), (3, 10.34, 20), (4, 15.55, 20), (5, 20.65, 40)):
        assert bench.until(f"pass {number}") / 1000 == pytest.approx(at_s, rel=0.015)
        bench.run(0.001)
        assert bench.thread.figures().get("cpu-throttle-percentage") == percent
    assert bench.memory.slowed == 0.4
    bench.thread.end()
    assert bench.memory.slowed == 0.0


def test_auto_converge_of_11_1_has_syncs_that_it_does_not_tell() -> None:
    """Where a pass takes longer than 5 s a timer syncs, and the throttle moves, but no iteration is counted."""
    bench = Bench(
        recorded_guest(),
        Version.V11_1,
        capabilities={"auto-converge": True},
        max_bandwidth=10 * MIB,
        downtime_limit=50,
    )
    bench.thread.start()
    bench.run(42)
    assert [word for word in bench.words if word.startswith("pass")] == ["pass 2"]
    assert bench.ram()["dirty-sync-count"] == 2
    # The sync at 12 s is the first strike, that at 20 s the second; from there on one step every 10 s.
    assert bench.thread.figures()["cpu-throttle-percentage"] == 40


def test_10_0_forces_a_sync_after_5_s_and_tells_it() -> None:
    """Recorded with the same guest: passes about every 5 s."""
    bench = Bench(
        recorded_guest(),
        Version.V10_0,
        capabilities={"auto-converge": True},
        max_bandwidth=10 * MIB,
        downtime_limit=50,
    )
    bench.thread.start()
    second = bench.until("pass 2")
    third = bench.until("pass 3")
    assert second > 9_000, "none in the first pass"
    assert third % 5_000 < 10
    assert third - second <= 10_000
