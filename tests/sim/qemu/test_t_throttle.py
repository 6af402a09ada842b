"""Tests of whimbrel.sim.qemu.t_throttle."""

from __future__ import annotations

from tests.sim.qemu.thread_fakes import MIB, FakeMemory
from whimbrel.sim.qemu.contract import Settings, Version
from whimbrel.sim.qemu.t_rules import rules_of
from whimbrel.sim.qemu.t_throttle import Throttle


def throttle(capability: str = "auto-converge", version: Version = Version.V10_0, **parameters: object) -> Throttle:
    """One with its memory behind it."""
    given = {name.replace("_", "-"): value for name, value in parameters.items()}
    return Throttle(FakeMemory(10), Settings(capabilities={capability: True}, parameters=given), rules_of(version))


def bad(what: Throttle, times: int = 1, ratio: float = 1.0) -> list[int]:
    """So many periods in which that part of what was sent was dirtied; the percentage after each."""
    seen: list[int] = []
    for _ in range(times):
        what.judge(0, int(MIB * ratio), MIB)
        seen.append(what.percentage)
    return seen


def test_the_ladder_moves_at_every_second_bad_period() -> None:
    """initial, then by the increment, up to the maximum."""
    what = throttle(cpu_throttle_initial=20, cpu_throttle_increment=30, max_cpu_throttle=70)
    assert bad(what, 8) == [0, 20, 20, 50, 50, 70, 70, 70]


def test_a_good_period_does_not_clear_the_count() -> None:
    """Half of what was sent is not more than the threshold of 50 %."""
    what = throttle()
    assert bad(what) == [0]
    assert bad(what, 3, 0.5) == [0, 0, 0]
    assert bad(what) == [20]


def test_parameters_are_read_at_the_trigger() -> None:
    """A lowered maximum takes effect then, and only then; initial has no effect any more."""
    settings = Settings(capabilities={"auto-converge": True}, parameters={"cpu-throttle-initial": 60})
    memory = FakeMemory(10)
    what = Throttle(memory, settings, rules_of(Version.V7_2))
    bad(what, 2)
    assert memory.slowed == 0.6
    settings.parameters.update({"max-cpu-throttle": 50, "cpu-throttle-initial": 1})
    assert bad(what) == [60]
    assert bad(what) == [50]
    assert memory.slowed == 0.5


def test_tailslow_goes_only_as_far_as_it_takes() -> None:
    """Of 60 % awake, 0.5 / 0.6 would dirty just what is bearable: 50 %, so a step of 10."""
    what = throttle(cpu_throttle_initial=40, cpu_throttle_increment=30, cpu_throttle_tailslow=True)
    bad(what, 2)
    assert bad(what, 2, 0.6) == [40, 50]
    assert bad(what, 2, 5.0) == [50, 80]


def test_the_percentage_stays_within_1_and_99() -> None:
    """As ``cpu_throttle_set`` has it."""
    what = throttle(cpu_throttle_initial=99, cpu_throttle_increment=99, max_cpu_throttle=99)
    assert bad(what, 4) == [0, 99, 99, 99]


def test_the_dirty_limit_has_the_same_trigger() -> None:
    """MiB per second for each vCPU; a changed parameter is taken at the next trigger."""
    memory = FakeMemory(10)
    settings = Settings(capabilities={"dirty-limit": True}, parameters={"vcpu-dirty-limit": 5})
    what = Throttle(memory, settings, rules_of(Version.V10_0))
    bad(what)
    assert memory.limited_bytes_per_s is None
    bad(what)
    assert memory.limited_bytes_per_s == 5 * MIB
    settings.parameters["vcpu-dirty-limit"] = 7
    bad(what, 2)
    assert (what.limit_mib_per_s, what.percentage) == (7, 0)
    what.off(0)
    assert memory.limited_bytes_per_s is None


def test_no_dirty_limit_before_8_1() -> None:
    """7.2 has no such capability."""
    what = throttle("dirty-limit", Version.V7_2)
    bad(what, 4)
    assert (what.limit_mib_per_s, what.percentage) == (0, 0)


def test_off_lets_the_guest_go() -> None:
    """At the end the guest runs as before."""
    memory = FakeMemory(10)
    what = Throttle(memory, Settings(capabilities={"auto-converge": True}), rules_of(Version.V10_0))
    bad(what, 2)
    assert memory.slowed == 0.2
    what.off(0)
    assert (memory.slowed, what.percentage) == (0.0, 0)


def test_vcpus_are_awake_for_ten_milliseconds_at_a_time_and_all_sleep_together() -> None:
    """At 75 % the cycle is 40 ms long: what is left of its first 30, then nothing."""
    what = throttle(cpu_throttle_initial=75)
    assert what.asleep_for_ns(0) == 0
    bad(what, 2)
    ms = 1_000_000
    assert [what.asleep_for_ns(at * ms) for at in (0, 10, 29, 30, 39, 40, 65)] == [
        30 * ms, 20 * ms, ms, 0, 0, 30 * ms, 5 * ms
    ]  # fmt: skip
    what.off(50 * ms)
    assert what.asleep_for_ns(50 * ms) == 0
