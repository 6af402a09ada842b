"""Measuring a guest before it is moved, on simulated QEMUs."""

from __future__ import annotations

import pytest

from tests.sim.small_qemu import started
from whimbrel.engine.measuring import LATE_S
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Measurement
from whimbrel.engine.states import Side as SideName
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver import Settings
from whimbrel.sim.driver_line import Trouble
from whimbrel.sim.driver_measuring import Measuring
from whimbrel.sim.driver_side import Side
from whimbrel.sim.driver_tasks import Loop
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.pair import Pair
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, Pattern, QemuPlan, Scenario, Writer

MIB = 1 << 20
BURST = Writer(
    name="w", size_bytes=64 * MIB, rate_bytes_per_s=16.0 * MIB, pattern=Pattern.SWEEP, period_s=4.0, duty=0.5,
    cpu_share=0.5,
)  # fmt: skip


class Bench:
    """A manager that measures."""

    def __init__(self, version: Version = Version.V10_0) -> None:
        scenario = Scenario(
            guest=GuestPlan(ram_bytes=128 * MIB, writers=(BURST,)), qemu=QemuPlan(source=version, destination=version)
        )
        self.clock = Clock()
        network = LocalNetwork(self.clock, scenario.link, 1)
        self.pair = Pair(self.clock, network, scenario, 1, Settings(make_policy=Fixed))
        self.loop = Loop(self.clock)
        side = Side(SideName.SOURCE, self.loop, lambda _: None, lambda _kind, _fields: None, lambda: None)
        side.wire = self.pair.source_wire
        connecting = started(self.loop, side.connect())
        self.clock.run(lambda: connecting.done, SECOND_NS)
        self.measuring = Measuring(self.loop, side, lambda: self.pair.vcpu_s, 128 * MIB)

    def measure(self, *windows_s: float, within_s: float = 60.0) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
        task = started(self.loop, self.measuring.measure_all(windows_s, within_s=within_s))
        assert self.clock.run(lambda: task.done, self.clock.now_ns + round(100 * SECOND_NS))
        return task.result()


@pytest.mark.parametrize("version", [Version.V7_2, Version.V11_1])
def test_one_window_after_the_other_shows_the_guests_phases_and_what_its_vcpu_runs(version: Version) -> None:
    bench = Bench(version)
    found, notes = bench.measure(*[1.0] * 8)
    assert notes == ()
    assert [each.at_s for each in found] == pytest.approx([1, 2, 3, 4, 5, 6, 7, 8], abs=0.1)
    dirtied = [each.dirtied_bytes / MIB for each in found]
    assert dirtied == pytest.approx([16, 16, 0, 0, 16, 16, 0, 0], abs=3.0)
    assert len(set(dirtied[:2] + dirtied[4:6])) > 1, "each has a sample of its own"
    assert [each.vcpu_shares[0] for each in found] == pytest.approx([0.5, 0.5, 0, 0, 0.5, 0.5, 0, 0], abs=0.05)


def test_later_measurements_count_from_the_first() -> None:
    bench = Bench()
    bench.measure(0.5)
    bench.clock.advance_to(bench.clock.now_ns + 3 * SECOND_NS)
    (later,), _ = bench.measure(0.5)
    assert later.at_s == pytest.approx(4.0, abs=0.05)


def test_what_there_is_no_time_for_is_not_begun() -> None:
    found, notes = Bench(Version.V7_2).measure(0.5, 0.6, within_s=1.5)
    assert len(found) == 1
    assert notes == ("a window of 0.6 s was not measured: there was no time left for it",)


def test_somebody_elses_measurement_is_waited_for_but_not_for_ever() -> None:
    bench = Bench(Version.V7_2)
    bench.pair.source_qemu.dirty_rate.measure({"calc-time": 3})
    found, notes = bench.measure(1.0, within_s=10.0)
    assert len(found) == 1
    assert bench.clock.now_ns > 4 * SECOND_NS
    bench.pair.source_qemu.dirty_rate.measure({"calc-time": 60})
    found, notes = bench.measure(1.0, within_s=10.0)
    assert found == ()
    assert notes == ("the guest could not be measured: source: it is still measuring",)


def test_what_qemu_refuses_ends_it_and_what_was_found_stays() -> None:
    bench = Bench()
    asked: list[str] = []

    def refuses_the_second(command: str) -> Trouble | None:
        asked.append(command)
        return Trouble(refused="no") if asked.count("calc-dirty-rate") == 2 and command == "calc-dirty-rate" else None

    bench.pair.source_wire.trouble = refuses_the_second
    found, notes = bench.measure(0.5, 0.5, 0.5)
    assert len(found) == 1
    assert notes[0].startswith("the guest could not be measured: ")
    assert asked.count("calc-dirty-rate") == 2


def test_one_that_never_ends_is_given_up() -> None:
    bench = Bench()
    bench.pair.source_wire.lie = lambda command, said: (
        {**said, "status": "measuring"} if command == "query-dirty-rate" and said["status"] == "measured" else said
    )
    found, notes = bench.measure(0.5)
    assert found == ()
    assert "still measuring" in notes[0]
    assert bench.clock.now_ns / SECOND_NS > LATE_S
