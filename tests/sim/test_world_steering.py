"""What a policy may do besides the limit, in whole simulated migrations: each does to the guest what it would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason
from whimbrel.engine.states import Phase
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.faults import Fault, Kind, Moment
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.sim.world import World, simulate

MIB = 1 << 20
BUSY = Writer(name="busy", size_bytes=24 * MIB, rate_bytes_per_s=40e6, cpu_share=0.25, delta_bytes=200)
HARD = Scenario(
    guest=GuestPlan(ram_bytes=64 * MIB, zero_bytes=16 * MIB, writers=(BUSY,)),
    link=LinkPlan(bandwidth_bytes_per_s=25e6, pipe_bytes=500_000),
    objectives=Objectives(downtime_s=0.3, greatest_throttle=0.99, may_postcopy=True, may_pause=True, may_abort=True),
    policy="fixed",
    limit_s=20.0,
)
"""Two seconds for all RAM, and no end by itself: it dirties more than the link takes."""


@dataclass
class Saying:
    """Says one thing at the start and another from a second on, and keeps what it saw."""

    setup: Decision = field(default_factory=Decision)
    later: Decision = field(default_factory=Decision)
    seen: list[Observation] = field(default_factory=list[Observation])

    def __call__(self, seen: Observation) -> Decision:
        self.seen.append(seen)
        if seen.reason is Reason.SETUP:
            return replace(self.setup, wake_after_s=1.0)
        return self.later if seen.elapsed_s >= 1.0 else Decision()

    def __deepcopy__(self, memo: object) -> Saying:
        return self


def world_of(policy: Policy, scenario: Scenario = HARD, **more: object) -> World:
    return World(scenario, 1, policy, **more)  # type: ignore[arg-type]


def test_it_does_not_converge_by_itself() -> None:
    outcome = simulate(HARD, 1)
    assert outcome.report is not None
    assert outcome.report.outcome == "cancelled"
    assert outcome.truth.total_s == pytest.approx(20.0, abs=0.1)
    assert outcome.truth.throttle == 0
    assert outcome.truth.work > 0.99


# ---- from outside of QEMU


def test_a_throttle_from_outside_slows_the_guest_at_once_and_is_given_back() -> None:
    policy = Saying(setup=Decision(outside_throttle=0.9))
    world = world_of(policy)
    world.run()
    (outcome,) = world.outcomes()
    assert outcome.report is not None
    assert outcome.report.moved
    assert policy.seen[0].abilities.outside_throttle
    assert policy.seen[-1].knobs.outside_throttle == 0.9
    assert outcome.truth.throttle == 0.9
    assert outcome.truth.outage_s is not None
    stood = outcome.truth.outage_s / outcome.truth.total_s
    assert outcome.truth.work == pytest.approx(0.4 * (1 - stood), abs=0.01), "it gets a tenth, and needs a quarter"
    memory = world.pairs[0].memory
    done = memory.done_work(world.clock.now_ns)
    memory.count_work(world.clock.now_ns)
    assert memory.done_work(world.clock.now_ns + SECOND_NS) == 1 > done


def test_a_throttle_that_leaves_the_guest_what_it_needs_changes_nothing() -> None:
    slow = simulate(HARD, 1, Saying(setup=Decision(outside_throttle=0.7)))
    assert slow.report is not None
    assert not slow.report.moved
    assert slow.truth.work > 0.99
    assert slow.truth.throttle == 0.7


def test_what_the_vcpus_ran_is_seen_where_the_source_is_on_the_same_host_only() -> None:
    near, far = Saying(), Saying(later=Decision(outside_throttle=0.9))
    simulate(HARD, 1, near)
    assert near.seen[-1].vcpu_shares == pytest.approx((0.25,), abs=0.01)
    outcome = simulate(replace(HARD, qemu=QemuPlan(local=False)), 1, far)
    assert far.seen[-1].vcpu_shares == ()
    assert not far.seen[0].abilities.outside_throttle
    assert outcome.report is not None
    assert any("can't slow" in note for note in outcome.report.notes)
    assert outcome.truth.throttle == 0


@pytest.mark.parametrize(
    ("kind", "given_back_s"), [(Kind.KILL_MANAGER, 0.001), (Kind.FREEZE_MANAGER, 4.1)], ids=["killed", "frozen"]
)
def test_a_manager_that_dies_or_hangs_keeps_no_guest_slow(kind: Kind, given_back_s: float) -> None:
    gone = Fault(kind=kind, moment=Moment(at_s=2.0), span_s=9.0)
    hungry = replace(HARD, guest=replace(HARD.guest, writers=(replace(BUSY, rate_bytes_per_s=400e6, cpu_share=1.0),)))
    world = world_of(Saying(setup=Decision(outside_throttle=0.5)), replace(hungry, limit_s=60.0), faults=(gone,))
    world.pairs[0].begin()
    life = world.pairs[0].memory
    world.run_for(1.0)
    life.count_work(world.clock.now_ns)
    world.run_for(0.9)
    assert life.done_work(world.clock.now_ns) == pytest.approx(0.5)
    world.run_for(0.1 + given_back_s)
    life.count_work(world.clock.now_ns)
    world.run_for(2.0)
    assert life.done_work(world.clock.now_ns) == pytest.approx(1.0)


def test_it_is_given_back_where_the_migration_is_called_off() -> None:
    world = world_of(Saying(setup=Decision(outside_throttle=0.75)), replace(HARD, limit_s=1.0))
    world.run()
    memory = world.pairs[0].memory
    memory.count_work(world.clock.now_ns)
    world.run_for(1.0)
    assert memory.done_work(world.clock.now_ns) == pytest.approx(1.0)


# ---- QEMU's own parameters

V10 = QemuPlan(source=Version.V10_0, destination=Version.V10_0, kvm=True)


@pytest.mark.parametrize(
    ("capability", "setup", "later", "qemu", "parameters"),
    [
        (
            "auto-converge",
            Decision(throttle_initial=0.5, throttle_increment=0.2, throttle_ceiling=0.95, throttle_trigger=0.01),
            Decision(throttle_tailslow=True),
            QemuPlan(),
            {
                "cpu-throttle-initial": 50,
                "cpu-throttle-increment": 20,
                "max-cpu-throttle": 95,
                "throttle-trigger-threshold": 1,
                "cpu-throttle-tailslow": True,
            },
        ),
        (
            "dirty-limit",
            Decision(dirty_limit_bytes_per_s=5 * MIB),
            Decision(dirty_limit_bytes_per_s=3 * MIB + 5),
            V10,
            {"vcpu-dirty-limit": 3},
        ),
        (
            "xbzrle",
            Decision(xbzrle_cache_bytes=16 * MIB),
            Decision(xbzrle_cache_bytes=100_000_000),
            QemuPlan(),
            {"xbzrle-cache-size": 64 * MIB},
        ),
        ("multifd", Decision(multifd_channels=7), Decision(), V10, {"multifd-channels": 7}),
    ],
    ids=["auto-converge", "dirty-limit", "xbzrle", "multifd"],
)
def test_every_knob_reaches_qemu_and_does_what_it_does_there(
    capability: str, setup: Decision, later: Decision, qemu: QemuPlan, parameters: dict[str, object]
) -> None:
    scenario = replace(HARD, qemu=qemu, limit_s=12.0)
    policy = Saying(setup=replace(setup, capabilities={capability: True}), later=later)
    world = world_of(policy, scenario)
    world.pairs[0].begin()
    world.run_for(1.4)
    source, destination = world.pairs[0].source_qemu, world.pairs[0].destination_qemu
    assert destination is not None
    assert {name: source.settings.parameters[name] for name in parameters} == parameters
    assert destination.settings.parameters["multifd-channels"] == parameters.get("multifd-channels", 2)
    world.run_on(scenario.limit_s)
    (outcome,) = world.outcomes()
    truth, plain = outcome.truth, simulate(scenario, 1).truth
    match capability:
        case "auto-converge":
            assert truth.throttle >= 0.85
            assert truth.work < plain.work - 0.05
        case "dirty-limit":
            assert truth.throttle > 0.8
            assert outcome.report is not None
            assert outcome.report.moved
        case "xbzrle":
            assert truth.outage_s is not None, "differences are small, so that it converges"
        case _:
            assert outcome.report is not None
            assert not any("could not be set" in note for note in outcome.report.notes)
            assert truth.transferred_bytes > 0


# ---- a pause, and post-copy


def test_a_pause_ends_it_whatever_the_rest_takes() -> None:
    outcome = simulate(HARD, 1, Saying(later=Decision(pause=True)))
    truth = outcome.truth
    assert outcome.report is not None
    assert outcome.report.moved
    assert truth.outage_s is not None
    assert truth.outage_s > 0.5
    assert truth.total_s == truth.moved_s


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("pages", [False, True], ids=["expected", "paged"])
def test_post_copy_that_a_policy_chose_is_over_when_all_memory_is_there(version: Version, pages: bool) -> None:
    if pages:
        pytest.importorskip("numpy")
    scenario = replace(HARD, guest=replace(HARD.guest, pages=pages), qemu=QemuPlan(source=version, destination=version))
    policy = Saying(
        setup=Decision(capabilities={"postcopy-ram": True}), later=Decision(start_postcopy=True, because="enough")
    )
    outcome = simulate(scenario, 1, policy)
    truth = outcome.truth
    assert outcome.report is not None
    assert outcome.report.moved
    assert truth.postcopy
    assert truth.outage_s is not None
    assert truth.outage_s < 0.3
    assert 1.0 < truth.moved_s < 1.5
    assert truth.total_s > truth.moved_s + 0.5, "the rest of two seconds' RAM comes after it"
    moved_without_stalls = 1 - truth.outage_s / truth.total_s
    assert 0.05 < truth.work < moved_without_stalls - 0.1, "it stands at pages that are missing"
    signals = [line["signal"] for line in outcome.log.records() if line["kind"] == "signal"]
    assert "postcopy-chosen" in signals


def test_post_copy_that_the_user_does_not_allow_is_not_begun() -> None:
    policy = Saying(setup=Decision(capabilities={"postcopy-ram": True}), later=Decision(start_postcopy=True))
    scenario = replace(HARD, objectives=replace(HARD.objectives, may_postcopy=False), limit_s=4.0)
    outcome = simulate(scenario, 1, policy)
    assert not outcome.truth.postcopy
    assert outcome.report is not None
    assert any("post-copy" in note for note in outcome.report.notes)


# ---- measuring and waiting before the start


@dataclass
class Measuring:
    """Wants to know the guest before it starts."""

    windows_s: tuple[float, ...] = (0.5, 2.0)
    wait_s: float | None = 1.5
    seen: list[Observation] = field(default_factory=list[Observation])

    def __call__(self, seen: Observation) -> Decision:
        self.seen.append(seen)
        if seen.reason is Reason.SETUP and len(self.seen) == 1:
            return Decision(not_yet_s=self.wait_s, measure_s=self.windows_s, because="look first")
        return Decision()

    def __deepcopy__(self, memo: object) -> Measuring:
        return self


@pytest.mark.parametrize(
    ("version", "windows_s"), [(Version.V7_2, (1.0, 2.0)), (Version.V10_0, (0.5, 2.0))], ids=["7.2", "10.0"]
)
def test_the_guest_is_measured_before_the_start_as_well_as_its_qemu_can(
    version: Version, windows_s: tuple[float, ...]
) -> None:
    policy = Measuring()
    scenario = replace(HARD, qemu=QemuPlan(source=version, destination=version))
    outcome = simulate(scenario, 1, policy)
    again = policy.seen[1]
    assert again.reason is Reason.SETUP
    assert tuple(each.window_s for each in again.measurements) == windows_s
    first, second = again.measurements
    assert second.at_s == pytest.approx(sum(windows_s), abs=0.1)
    truth = [24 * MIB * (1 - 2.718281828 ** (-40e6 * each / (24 * MIB))) for each in windows_s]
    assert [first.dirtied_bytes, second.dirtied_bytes] == pytest.approx(truth, rel=0.15), "a sample of 1024 pages"
    assert first.dirtied_bytes != pytest.approx(truth[0], rel=1e-3), "and not the truth itself"
    assert first.vcpu_shares == pytest.approx((0.25,), abs=0.01)
    began_ns = outcome.derived["migrate_ns"]
    assert began_ns is not None
    assert began_ns / SECOND_NS == pytest.approx(sum(windows_s) + 1.5, abs=0.3)
    kinds = [line["kind"] for line in outcome.log.records()]
    assert kinds.index("probe") < kinds.index("measured")
    other = Measuring()
    simulate(scenario, 2, other)
    assert other.seen[1].measurements != again.measurements, "another seed, another sample"


def test_waiting_alone_measures_nothing() -> None:
    policy = Measuring(windows_s=(), wait_s=0.5)
    outcome = simulate(HARD, 1, policy)
    assert policy.seen[1].measurements == ()
    assert 0.5 < outcome.derived["migrate_ns"] / SECOND_NS < 0.8


def test_a_measurement_that_fails_is_noted_and_the_policy_is_asked_all_the_same() -> None:
    policy = Measuring(wait_s=None)
    world = world_of(policy, replace(HARD, limit_s=2.0))
    world.pairs[0].source_qemu.dirty_rate.measure({"calc-time": 60})  # by somebody else
    world.run()
    (outcome,) = world.outcomes()
    assert policy.seen[1].reason is Reason.SETUP
    assert policy.seen[1].measurements == ()
    assert outcome.report is not None
    assert any("could not be measured: source: it is still measuring" in note for note in outcome.report.notes)
    assert outcome.derived["migrate_ns"] is not None


@pytest.mark.parametrize("after_s", [0.3, 1.2])
def test_what_is_called_off_while_it_measures_or_waits_leaves_the_guest_where_it_is(after_s: float) -> None:
    policy = Measuring(windows_s=(1.0,), wait_s=5.0)
    world = world_of(policy)
    world.pairs[0].begin()
    world.run_for(after_s)
    driver = world.pairs[0].driver
    assert driver is not None
    assert driver.machine.phase is Phase.PREPARING
    driver.cancel()
    assert world.run_on(5.0)
    (outcome,) = world.outcomes()
    assert outcome.report is not None
    assert (outcome.report.outcome, outcome.report.guest) == ("cancelled", "running")
    assert len(policy.seen) == 1
    assert outcome.derived["migrate_ns"] is None


def raising(_: Observation) -> Decision:
    raise RuntimeError("lost")


def nonsense(_: Observation) -> Any:
    return None


@pytest.mark.parametrize("policy", [raising, nonsense], ids=["raises", "nonsense"])
def test_a_policy_that_fails_lets_the_migration_go_on(policy: Callable[[Observation], Decision]) -> None:
    easy = replace(HARD, guest=replace(HARD.guest, writers=()))
    outcome = simulate(easy, 1, policy)
    assert outcome.report is not None
    assert outcome.report.moved
    assert any("failed when it was asked" in note for note in outcome.report.notes)
    strict = replace(easy, objectives=replace(easy.objectives, abort_on_fault=True))
    ended = simulate(strict, 1, policy).report
    assert ended is not None
    assert (ended.moved, ended.guest) == (False, "running")
