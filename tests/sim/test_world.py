"""Whole simulated migrations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import LeastDowntime
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason
from whimbrel.engine.replay import replay
from whimbrel.sim.faults import Fault, Kind, Moment
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.sim.world import GRACE_S, World, expected_s, simulate

MIB = 1 << 20
BUSY = Writer(name="busy", size_bytes=4 * MIB, rate_bytes_per_s=4e6)
PLAIN = Scenario(
    guest=GuestPlan(ram_bytes=64 * MIB, zero_bytes=16 * MIB, writers=(BUSY,)),
    link=LinkPlan(bandwidth_bytes_per_s=60e6, pipe_bytes=500_000),
    objectives=Objectives(downtime_s=0.2),
    policy="fixed",
)
"""A second, and a little."""


@dataclass
class Counting:
    """A policy with a state."""

    asked: int = 0

    def __call__(self, seen: Observation) -> Decision:
        self.asked += 1
        return Decision(downtime_limit_s=0.2 if seen.reason is Reason.SETUP else None)


@pytest.mark.parametrize("source", Version)
@pytest.mark.parametrize("destination", Version)
def test_a_guest_is_moved_between_all_versions_and_the_report_says_what_is_true(
    source: Version, destination: Version
) -> None:
    outcome = simulate(replace(PLAIN, qemu=QemuPlan(source=source, destination=destination)), 1)
    report, truth = outcome.report, outcome.truth
    assert report is not None
    assert report.moved
    assert report.downtime is not None
    assert truth.outage_s is not None
    assert report.downtime.total_s == pytest.approx(truth.outage_s, abs=2e-6)
    assert 0.7 < truth.total_s < 2.0
    assert truth.transferred_bytes == report.ram_transferred_bytes
    assert truth.transferred_bytes <= truth.wire_bytes < 1.01 * truth.transferred_bytes
    assert 48 * MIB < truth.transferred_bytes < 70 * MIB
    assert 0.5 < truth.work < 1.0


def test_the_same_seed_gives_the_same_log_byte_for_byte_and_another_seed_another() -> None:
    scenario = replace(PLAIN, link=replace(PLAIN.link, noise=0.2), policy="least_downtime")
    first, again, other = (list(simulate(scenario, seed).log.lines()) for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_the_log_begins_with_its_header_ends_with_the_report_and_leads_where_the_machine_stood() -> None:
    outcome = simulate(PLAIN, 1)
    lines = list(outcome.log.records())
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("header", "end")
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(a["t_ns"] <= b["t_ns"] for a, b in pairwise(lines))
    told = replay(lines, policy=LeastDowntime())
    assert told.settled
    assert told.differs is None
    assert told.machine.report() is not None


def test_samples_are_counted_from_migrate() -> None:
    outcome = simulate(PLAIN, 1)
    samples = list(outcome.samples)
    assert 0 <= samples[0].at_s < 0.05
    assert samples[-1].at_s == pytest.approx(outcome.truth.total_s, abs=0.01)
    sent = [sample.transferred_bytes for sample in samples]
    assert sent == sorted(sent)
    assert outcome.iterations[0].number == 1
    assert outcome.decisions[0]["asked"] == "setup"


def test_a_migration_that_does_not_converge_is_called_off() -> None:
    hot = replace(BUSY, size_bytes=32 * MIB, rate_bytes_per_s=500e6)
    scenario = replace(PLAIN, guest=replace(PLAIN.guest, writers=(hot,)), limit_s=5.0)
    outcome = simulate(scenario, 1)
    assert outcome.report is not None
    assert (outcome.report.outcome, outcome.report.guest) == ("cancelled", "running")
    assert outcome.truth.outage_s is None
    assert 5.0 < outcome.truth.total_s < 7.0
    cancels = [line for line in outcome.log.records() if line.get("signal") == "cancel"]
    assert outcome.derived["migrate_ns"] is not None
    assert [line["t_ns"] - outcome.derived["migrate_ns"] for line in cancels] == [5 * 10**9]
    assert outcome.truth.total_s < GRACE_S


def test_several_migrations_share_the_link() -> None:
    alone = simulate(PLAIN, 1)
    three = simulate(replace(PLAIN, migrations=3), 1)
    assert len(three.others) == 2
    reports = [three.report, *(other.report for other in three.others)]
    assert all(report is not None and report.moved for report in reports)
    assert 2.0 < three.truth.total_s / alone.truth.total_s < 4.0
    logs = {tuple(outcome.log.lines()) for outcome in (three, *three.others)}
    assert len(logs) == 3


def test_a_policy_with_a_state_is_copied_for_each_migration() -> None:
    policy = Counting()
    outcome = simulate(replace(PLAIN, migrations=2), 1, policy)
    assert outcome.report is not None
    assert outcome.report.moved
    assert policy.asked == 0


def test_a_policy_that_is_not_known_here_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"fixed, .*least_downtime.* or a policy itself"):
        simulate(replace(PLAIN, policy="nobody"), 1)


def test_steps_and_outages_are_counted_from_migrate() -> None:
    link = replace(PLAIN.link, outages=((0.2, 3.0),))
    outcome = simulate(replace(PLAIN, link=link), 1)
    assert outcome.report is not None
    assert outcome.report.moved
    assert outcome.truth.total_s == pytest.approx(simulate(PLAIN, 1).truth.total_s + 3.0, abs=0.15)


def test_faults_are_drawn_from_the_seed_where_the_scenario_asks_for_them() -> None:
    scenario = replace(PLAIN, faults=True)
    drawn = [simulate(scenario, seed) for seed in range(6)]
    assert any(outcome.derived["faults"][0] for outcome in drawn if "faults" in outcome.derived)
    assert all(outcome.report is not None for outcome in drawn)
    assert list(drawn[3].log.lines()) == list(simulate(scenario, 3).log.lines())


def test_what_was_drawn_from_the_seed_is_said() -> None:
    derived = simulate(PLAIN, 1).derived
    assert 0.05 <= derived["destination_start_s"][0] <= 0.12


def test_a_world_that_is_called_off_while_nobody_manages_it_is_called_off_by_the_next() -> None:
    hot = replace(BUSY, size_bytes=32 * MIB, rate_bytes_per_s=500e6)
    scenario = replace(PLAIN, guest=replace(PLAIN.guest, writers=(hot,)), limit_s=3.0)
    fault = Fault(kind=Kind.KILL_MANAGER, moment=Moment(at_s=2.0), span_s=5.0)
    told: list[str] = []
    world = World(scenario, 1, faults=(fault,), tell=told.append)
    world.run()
    (outcome,) = world.outcomes()
    assert outcome.report is not None
    assert outcome.report.outcome == "cancelled"
    assert [text.split(" ", 1)[1][:12] for text in told] == ["kill-manager", "called off a", "kill-manager"]


def test_what_a_migration_takes_is_guessed_by_its_ram_and_its_part_of_the_link() -> None:
    assert expected_s(PLAIN) == pytest.approx(0.2 + 1.5 * 48 * MIB / 60e6)
    assert expected_s(replace(PLAIN, migrations=2)) > 1.8 * expected_s(PLAIN) - 0.4
