"""The driver in virtual time: the duties that the protocol counts on."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from whimbrel.engine.driving import POLL_S
from whimbrel.engine.machine import Happened
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Decision, Observation, Reason
from whimbrel.engine.protocol import Waits
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Phase
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver import Driver, Settings
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.pair import Pair
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer

SCENARIO = Scenario(
    guest=GuestPlan(ram_bytes=64 << 20, writers=(Writer(name="w", size_bytes=4 << 20, rate_bytes_per_s=2e6),)),
    link=LinkPlan(bandwidth_bytes_per_s=60e6, pipe_bytes=500_000),
    policy="fixed",
)
"""A second, and a little."""


@dataclass
class Steering:
    """A policy that wakes often and changes something at every tick."""

    wake_after_s: float = 0.02
    seen: list[float] = field(default_factory=list[float])

    def __call__(self, seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=0.01, wake_after_s=self.wake_after_s)
        self.seen.append(seen.elapsed_s)
        return Decision(downtime_limit_s=0.01 + 0.0001 * len(self.seen), because="a little more")


class Bench:
    """A manager at work."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = Clock()
        network = LocalNetwork(self.clock, SCENARIO.link, 1)
        self.pair = Pair(self.clock, network, SCENARIO, 1, settings or Settings(make_policy=Fixed))
        self.driver: Driver = self.pair.begin()

    def until(self, phase: Phase) -> None:
        """Go on to a phase."""
        assert self.clock.run(lambda: self.driver.machine.phase is phase, 200 * SECOND_NS)

    def to_the_end(self) -> str:
        """Go on to the end; how it ended."""
        assert self.clock.run(lambda: self.pair.ended, 2000 * SECOND_NS)
        assert self.driver.report is not None
        return f"{self.driver.report.outcome} {self.driver.report.owner} {self.driver.report.guest}"

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """The log's lines of a kind."""
        return [line for line in self.pair.log.records() if line["kind"] == kind]


def test_the_source_is_asked_every_tenth_of_a_second() -> None:
    bench = Bench()
    assert bench.to_the_end() == "completed destination running"
    times: list[int] = [
        line["t_ns"] for line in bench.lines("sample") if line["status"] == "active" and line["iteration"] == 1
    ]
    gaps = [(b - a) / 1e9 for a, b in pairwise(times)]
    assert len(gaps) > 5
    assert all(POLL_S <= gap < POLL_S + 0.005 for gap in gaps)


def test_and_at_every_new_iteration() -> None:
    bench = Bench()
    bench.to_the_end()
    passes = [line["t_ns"] for line in bench.lines("qmp") if line["event"] == "MIGRATION_PASS"]
    samples = [line["t_ns"] for line in bench.lines("sample")]
    assert all(any(0 <= at - began < 5_000_000 for at in samples) for began in passes[1:-1])


def test_a_policy_sets_its_own_cadence_and_its_knobs_are_set() -> None:
    policy = Steering()
    bench = Bench(Settings(make_policy=lambda: policy))
    bench.until(Phase.HANDOVER)
    gaps = [b - a for a, b in pairwise(policy.seen)]
    assert max(gaps) < 0.03
    limit = bench.pair.source_qemu.settings.parameters["downtime-limit"]
    assert limit == round(1000 * (0.01 + 0.0001 * len(policy.seen))) or limit == round(
        1000 * (0.01 + 0.0001 * (len(policy.seen) - 1))
    )


def test_every_command_is_in_the_log_before_it_is_sent() -> None:
    bench = Bench()
    logged: list[bool] = []

    def ordered(command: Command) -> None:
        logged.append(bench.lines("command")[-1]["command"] == command.value)

    bench.driver.on_order = ordered
    bench.to_the_end()
    assert logged
    assert all(logged)


def test_a_deadline_of_the_protocol_fires_in_virtual_time() -> None:
    bench = Bench(Settings(make_policy=Fixed, waits=Waits(connect_ns=1_000)))
    assert bench.to_the_end() == "failed source running"
    assert [line["signal"] for line in bench.lines("signal")].count("deadline") == 1


def test_a_link_that_carries_nothing_is_noticed() -> None:
    bench = Bench(Settings(make_policy=Fixed, stall_s=2.0))
    bench.until(Phase.PRECOPY)
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS // 2)
    assert bench.pair.destination_qemu is not None
    bench.pair.destination_qemu.freeze()
    assert bench.to_the_end() == "failed source running"
    assert "stalled" in [line["signal"] for line in bench.lines("signal")]


def test_a_guest_that_its_owner_stops_is_found_to_have_been_stopped() -> None:
    bench = Bench()
    bench.until(Phase.PRECOPY)
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS // 5)
    human = bench.pair.source_qemu.connect(lambda _: None, lambda: None, 1)
    assert human is not None
    human.send({"execute": "qmp_capabilities", "id": 1})
    human.send({"execute": "stop", "id": 2})
    assert bench.to_the_end() == "completed destination paused"
    assert "source-paused" in [line["signal"] for line in bench.lines("signal")]


def test_one_that_is_called_off_in_time_leaves_the_guest_and_its_settings_as_they_were() -> None:
    bench = Bench()
    before = dict(bench.pair.source_qemu.settings.parameters)
    bench.until(Phase.PRECOPY)
    bench.driver.cancel()
    assert bench.to_the_end() == "cancelled source running"
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert bench.pair.source_qemu.settings.parameters == before
    assert not any(bench.pair.source_qemu.settings.capabilities.values())
    assert bench.pair.source_qemu.objects == {}
    assert bench.pair.destination_qemu is not None
    assert not bench.pair.destination_qemu.alive


def test_a_source_may_be_kept() -> None:
    bench = Bench(Settings(make_policy=Fixed, keep_source=True))
    assert bench.to_the_end() == "completed destination running"
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert bench.pair.source_qemu.alive
    assert bench.pair.source_qemu.run_state == "postmigrate"


def test_a_dead_manager_does_nothing_more() -> None:
    bench = Bench()
    bench.until(Phase.PRECOPY)
    bench.driver.die(in_flight=True)
    lines = len(bench.pair.log)
    bench.clock.advance_to(bench.clock.now_ns + 30 * SECOND_NS)
    bench.driver.deliver(Happened(Signal.CANCEL))
    assert len(bench.pair.log) == lines
    assert bench.pair.source_qemu.migration_status == "pre-switchover"
    assert not bench.pair.source_qemu.is_connected(0)


def test_live_forecasts_are_in_the_log_where_they_are_wanted() -> None:
    """The same every time; all else is as without."""
    plain, foreseen, again = (Bench(Settings(make_policy=Fixed, foresight=each)) for each in (False, True, True))
    for bench in (plain, foreseen, again):
        assert bench.to_the_end() == "completed destination running"
    assert list(plain.driver.log.of_kind("outlook")) == []
    assert list(foreseen.driver.log.of_kind("outlook"))
    assert foreseen.driver.log == again.driver.log
    kinds = ("outlook", "prediction", "end", "header")
    for ours, theirs in zip(of_others(foreseen, kinds), of_others(plain, kinds), strict=True):
        assert ours == theirs


def of_others(bench: Bench, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """The lines of other kinds, without their numbers."""
    lines = [line for line in bench.driver.log.records() if line["kind"] not in kinds]
    return [{name: value for name, value in line.items() if name != "n"} for line in lines]


def test_a_new_manager_goes_on_looking_ahead() -> None:
    bench = Bench(Settings(make_policy=Fixed, foresight=True))
    bench.until(Phase.PRECOPY)
    assert bench.clock.run(lambda: len(list(bench.driver.log.of_kind("outlook"))) > 0, 200 * SECOND_NS)
    bench.driver.die(in_flight=False)
    count = len(list(bench.driver.log.of_kind("outlook")))
    bench.driver = bench.pair.take_over()
    assert bench.to_the_end() == "completed destination running"
    assert len(list(bench.driver.log.of_kind("outlook"))) > count
