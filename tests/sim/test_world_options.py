"""What a scenario asks of QEMU besides its policy: capabilities, post-copy, KVM's dirty ring."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason
from whimbrel.sim.faults import Fault, Kind, Moment
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.sim.world import Outcome, Wanting, World, simulate

MIB = 1 << 20
OWN_BYTES = 128 * MIB
"""What is not zero."""
BUSY = Writer(name="busy", size_bytes=64 * MIB, rate_bytes_per_s=90e6, delta_bytes=200, cpu_share=1.0)
"""Half again as fast as the link, and little of each page is new."""
HOPELESS = Scenario(
    guest=GuestPlan(ram_bytes=256 * MIB, zero_bytes=128 * MIB, writers=(BUSY,)),
    link=LinkPlan(bandwidth_bytes_per_s=60e6, pipe_bytes=500_000),
    objectives=Objectives(downtime_s=0.1, greatest_throttle=0.99),
    policy="fixed",
    limit_s=20.0,
)


def qemus(version: Version, *, kvm: bool = False) -> QemuPlan:
    """The same at both ends."""
    return QemuPlan(source=version, destination=version, kvm=kvm)


def capabilities_of(outcome: Outcome) -> dict[str, object]:
    """What was changed at the source, as the log has it: name and former state."""
    (line,) = (line for line in outcome.log.records() if line["kind"] == "settings" and line["side"] == "source")
    return dict(line["capabilities"])


def moved(outcome: Outcome) -> bool:
    return outcome.report is not None and outcome.report.moved


def test_xbzrle_that_the_scenario_asks_for_converges_where_full_pages_do_not() -> None:
    without, with_it = simulate(HOPELESS, 1), simulate(replace(HOPELESS, capabilities=("xbzrle",)), 1)
    assert not moved(without)
    assert moved(with_it)
    assert with_it.truth.outage_s is not None
    assert with_it.truth.outage_s < 0.1
    assert with_it.truth.transferred_bytes < 2 * OWN_BYTES


def test_what_an_end_lacks_or_nobody_knows_is_dropped_with_a_note() -> None:
    calm = replace(HOPELESS, guest=replace(HOPELESS.guest, writers=()))
    asked = replace(
        calm,
        qemu=QemuPlan(source=Version.V10_0, destination=Version.V7_2),
        capabilities=("xbzrle", "switchover-ack", "nonsense"),
    )
    outcome = simulate(asked, 1)
    assert moved(outcome)
    assert outcome.report is not None
    assert outcome.report.notes == (
        "switchover-ack dropped: the destination has none",
        "nonsense dropped: the source and the destination have none",
    )
    assert set(capabilities_of(outcome)) & {"xbzrle", "switchover-ack", "nonsense"} == {"xbzrle"}


def test_the_policys_own_capabilities_are_asked_for_too_also_of_one_that_is_handed_over() -> None:
    policy = Wanting(Fixed(), ("xbzrle",))
    outcome = simulate(replace(HOPELESS, capabilities=("release-ram",)), 1, policy)
    assert {"xbzrle", "release-ram"} <= set(capabilities_of(outcome))
    assert moved(outcome)


def test_only_at_setup_does_wanting_add_to_what_the_policy_decides() -> None:
    def idle(_: Observation) -> Decision:
        return Decision(capabilities={"xbzrle": False, "multifd": True}, because="idle")

    wanting = Wanting(idle, ("xbzrle",))
    assert wanting(Observation(reason=Reason.TICK)) == idle(Observation(reason=Reason.TICK))
    assert wanting(Observation(reason=Reason.SETUP)).capabilities == {"xbzrle": True, "multifd": True}
    assert wanting(Observation(reason=Reason.SETUP)).because == "idle"


@pytest.mark.parametrize("version", Version)
def test_multifd_moves_a_guest(version: Version) -> None:
    slow = replace(HOPELESS.guest, writers=(replace(BUSY, rate_bytes_per_s=5e6),))
    outcome = simulate(replace(HOPELESS, guest=slow, qemu=qemus(version), capabilities=("multifd",)), 1)
    assert moved(outcome)
    assert "multifd" in capabilities_of(outcome)
    assert outcome.truth.transferred_bytes > OWN_BYTES


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("at_s", [0.0, 1.0])
def test_post_copy_moves_every_page_with_a_small_outage(version: Version, at_s: float) -> None:
    world = World(replace(HOPELESS, qemu=qemus(version), postcopy_at_s=at_s), 1)
    world.run()
    (outcome,), (pair,) = world.outcomes(), world.pairs
    assert moved(outcome)
    assert pair.destination_qemu is not None
    assert pair.destination_qemu.migration_status == "completed"
    assert pair.memory.remaining_pages == 0
    assert pair.memory.fault(world.clock.now_ns) is None
    assert outcome.truth.transferred_bytes > OWN_BYTES
    assert outcome.truth.outage_s is not None
    assert outcome.truth.outage_s < 0.05
    assert outcome.report is not None
    # The guest is at the destination long before its memory is.
    assert at_s < outcome.truth.moved_s < at_s + 0.25
    assert outcome.truth.total_s - outcome.truth.moved_s > OWN_BYTES / 60e6 - at_s - 0.2


def test_post_copy_is_not_chosen_where_pre_copy_is_over_before() -> None:
    calm = replace(HOPELESS, guest=replace(HOPELESS.guest, writers=()), postcopy_at_s=10.0)
    outcome = simulate(calm, 1)
    assert moved(outcome)
    assert outcome.truth.total_s < 3.0
    assert not [line for line in outcome.log.records() if line.get("signal") == "postcopy-chosen"]
    assert "postcopy-ram" in capabilities_of(outcome)


def test_each_of_several_migrations_goes_over_to_post_copy() -> None:
    outcome = simulate(replace(HOPELESS, migrations=2, postcopy_at_s=0.5), 1)
    assert [moved(each) for each in (outcome, *outcome.others)] == [True, True]
    for each in (outcome, *outcome.others):
        assert each.truth.outage_s is not None
        assert each.truth.moved_s < 1.5 < each.truth.total_s


def test_a_new_manager_chooses_post_copy_where_the_old_one_died_before() -> None:
    dies = Fault(kind=Kind.KILL_MANAGER, moment=Moment(at_s=0.55), span_s=2.0)
    world = World(replace(HOPELESS, postcopy_at_s=1.0), 1, faults=(dies,))
    world.run()
    (outcome,) = world.outcomes()
    assert moved(outcome)
    chosen = [line for line in outcome.log.records() if line.get("signal") == "postcopy-chosen"]
    assert len(chosen) == 1
    assert chosen[0]["t_ns"] > 2e9
    assert outcome.truth.outage_s is not None


def test_dirty_limit_converges_with_kvm_where_nothing_that_slows_does_not() -> None:
    plan = replace(HOPELESS, qemu=qemus(Version.V10_0, kvm=True))
    without, with_it = simulate(plan, 1), simulate(replace(plan, capabilities=("dirty-limit",)), 1)
    assert not moved(without)
    assert moved(with_it)
    assert with_it.report is not None
    assert with_it.report.notes == ()
    assert with_it.truth.outage_s is not None
    assert with_it.truth.outage_s < 0.15
    assert with_it.truth.work < 0.95  # QEMU's own limit, 1 MiB/s for each vCPU, is far below what it writes


def test_the_dirty_limit_is_qemus_own_of_1_mib_a_second() -> None:
    plan = replace(HOPELESS, qemu=qemus(Version.V10_0, kvm=True), capabilities=("dirty-limit",))
    last = simulate(plan, 1).iterations[-1]
    assert last.dirty_bytes_per_s < 1.2 * MIB + 64 * PAGE_BYTES


def test_a_device_is_not_slowed_by_the_dirty_limit() -> None:
    device = replace(BUSY, vcpu=None, cpu_share=0.0)
    plan = replace(HOPELESS, guest=replace(HOPELESS.guest, writers=(device,)), capabilities=("dirty-limit",))
    assert not moved(simulate(replace(plan, qemu=qemus(Version.V10_0, kvm=True)), 1))


@pytest.mark.parametrize("kvm", [False, True])
def test_with_kvm_both_qemus_have_a_dirty_ring(kvm: bool) -> None:
    world = World(replace(HOPELESS, qemu=qemus(Version.V10_0, kvm=kvm)), 1)
    world.run_for(0.01)
    machine = world.pairs[0].source_qemu.machine
    assert machine.accelerator == ("kvm" if kvm else "tcg")
    assert machine.dirty_ring is kvm


def test_options_leave_the_same_seed_the_same_log() -> None:
    asked = replace(HOPELESS, capabilities=("xbzrle",), postcopy_at_s=1.0)
    first, again = simulate(asked, 3), simulate(asked, 3)
    assert first.log == again.log
    assert first == again
