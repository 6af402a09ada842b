"""One migration in the world."""

from __future__ import annotations

from whimbrel.engine.policies import Fixed
from whimbrel.engine.signals import Command
from whimbrel.engine.states import Side as SideName
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver import Settings
from whimbrel.sim.driver_line import Trouble
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.pair import Pair
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario

SCENARIO = Scenario(guest=GuestPlan(ram_bytes=8 << 20), link=LinkPlan(bandwidth_bytes_per_s=16e6), policy="fixed")


def pair_of(*, watched: bool = True) -> tuple[Clock, Pair]:
    """A pair whose guest runs."""
    clock = Clock()
    network = LocalNetwork(clock, SCENARIO.link, 1)
    return clock, Pair(clock, network, SCENARIO, 1, Settings(make_policy=Fixed), watched=watched)


def test_the_source_and_its_guest_are_there_and_the_destination_when_it_is_started() -> None:
    _, pair = pair_of()
    assert pair.source_qemu.guest_runs
    assert (pair.destination, pair.destination_wire, pair.ended) == (None, None, False)
    assert pair.source_figures() is None
    pair.start_destination()
    assert pair.destination_qemu is not None
    assert pair.destination_qemu.run_state == "inmigrate"
    assert pair.witness.destination is pair.destination_qemu


def test_only_a_destination_of_ours_is_started_so_that_it_stands() -> None:
    for watched in (True, False):
        _, pair = pair_of(watched=watched)
        pair.start_destination()
        assert pair.destination_qemu is not None
        assert pair.destination_qemu.autostart is not watched


def test_orders_and_commands_are_seen_on_their_way() -> None:
    clock, pair = pair_of()
    orders: list[Command] = []
    commands: list[tuple[SideName, str]] = []

    def commanded(side: SideName, command: str) -> Trouble | None:
        commands.append((side, command))
        return None

    pair.on_order, pair.on_command = orders.append, commanded
    pair.begin()
    clock.run(lambda: pair.ended, 30 * SECOND_NS)
    assert orders[:4] == [Command.INSPECT, Command.PREPARE, Command.ARM, Command.MIGRATE]
    assert pair.migrate_ns is not None
    assert (SideName.SOURCE, "migrate-continue") in commands
    assert (SideName.DESTINATION, "cont") in commands
    assert pair.source_figures() is not None


def test_a_manager_that_kills_is_seen_before_it_does() -> None:
    _, pair = pair_of()
    pair.start_destination()
    assert pair.destination is not None
    pair.destination.kill()
    assert not pair.destination.alive
    assert pair.destination.exit_code == -9
    assert pair.source.pid != pair.destination.pid
    assert pair.source.stderr == []


def test_a_new_manager_takes_over_from_the_log() -> None:
    clock, pair = pair_of()
    first = pair.begin()
    clock.advance_to(SECOND_NS // 5)
    first.die(in_flight=True)
    pair.driver = None
    clock.advance_to(SECOND_NS)
    second = pair.take_over()
    assert clock.run(lambda: pair.ended, 200 * SECOND_NS)
    assert second.report is not None
    assert second.report.guest == "running"
    assert first.report is None
