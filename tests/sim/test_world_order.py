"""What is due at the same nanosecond in a whole world happens in an order that the seed decides, and it matters."""

from __future__ import annotations

from whimbrel.engine.signals import Command
from whimbrel.sim.faults import Fault, Kind, Moment
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario
from whimbrel.sim.world import World

MIB = 1 << 20
SCENARIO = Scenario(
    guest=GuestPlan(ram_bytes=64 * MIB, zero_bytes=16 * MIB),
    link=LinkPlan(bandwidth_bytes_per_s=60e6),
    policy="fixed",
)
WHILE_COPYING = Moment(order=Command.MIGRATE, delay_s=0.1)
STOPPED_AND_CONTINUED = tuple(Fault(kind=kind, moment=WHILE_COPYING) for kind in (Kind.STOP_GUEST, Kind.CONT_GUEST))
"""Somebody stops the guest and somebody else has it go on, at the same nanosecond."""
SEEDS = range(16)
"""That all of them decide alike has a chance of 2**-15."""


def ran(seed: int) -> tuple[Kind, bool]:
    """Who came first, and whether the guest runs in the end, at the destination."""
    world = World(SCENARIO, seed, faults=STOPPED_AND_CONTINUED)
    world.run()
    (havoc,), (pair,) = world.havocs, world.pairs
    assert havoc is not None
    (first_s, first), (then_s, _) = havoc.done
    assert first_s == then_s
    assert pair.destination_qemu is not None
    return first.kind, pair.destination_qemu.run_state == "running"


def test_over_the_seeds_either_comes_first_and_how_it_ends_follows_from_that() -> None:
    seen = {ran(seed) for seed in SEEDS}
    assert {first for first, _ in seen} == {Kind.STOP_GUEST, Kind.CONT_GUEST}
    assert {runs for _, runs in seen} == {True, False}
    assert len(seen) == 2


def test_the_same_seed_decides_alike_each_time() -> None:
    assert [ran(seed) for seed in SEEDS] == [ran(seed) for seed in SEEDS]
