"""What each command of the engine means in QMP: on whole simulated QEMUs, one command after the other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.small_qemu import started
from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Marked, Order
from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Objectives
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, State
from whimbrel.engine.states import Side as SideName
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver import Settings
from whimbrel.sim.driver_line import Trouble
from whimbrel.sim.driver_procedures import Procedures
from whimbrel.sim.driver_side import Side
from whimbrel.sim.driver_tasks import Loop, Task
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.pair import Pair
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer

SCENARIO = Scenario(
    guest=GuestPlan(ram_bytes=8 << 20, writers=(Writer(name="w", size_bytes=1 << 20, rate_bytes_per_s=1e6),)),
    link=LinkPlan(bandwidth_bytes_per_s=16e6, pipe_bytes=64_000),
    policy="fixed",
)
TO_ACTIVE = (Command.INSPECT, Command.PREPARE, Command.ARM, Command.MIGRATE)


class Bench:
    """The hands of a manager, without its head."""

    def __init__(self, *, watched: bool = True) -> None:
        self.clock = Clock()
        network = LocalNetwork(self.clock, SCENARIO.link, 1)
        self.pair = Pair(self.clock, network, SCENARIO, 1, Settings(make_policy=Fixed), watched=watched)
        self.loop = Loop(self.clock)
        self.delivered: list[Event] = []
        self.written: list[dict[str, Any]] = []
        self.known: frozenset[Fact] = frozenset()
        self.watching = 0
        self.hands = self._hands()

    def _hands(self) -> Procedures:
        source, destination = (
            Side(name, self.loop, self.delivered.append, self._write, lambda: None)
            for name in (SideName.SOURCE, SideName.DESTINATION)
        )
        return Procedures(
            loop=self.loop,
            place=self.pair,
            source=source,
            destination=destination,
            deliver=self.delivered.append,
            start_watching=self._start_watching,
            elapsed_ns=lambda: self.clock.now_ns,
            state=lambda: State(facts=self.known),
            write=self._write,
            reconnect_s=1.0,
            keep_source=False,
            handover_s=60.0,
            badge="whimbrel-migration-1",
        )

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        self.written.append({"kind": kind, **fields})

    def _start_watching(self) -> None:
        self.watching += 1

    def do(self, *commands: Command, wait_s: float = 5.0) -> Task[None]:
        """Carry commands out, one after the other; the last one's task."""
        *others, last = commands
        for command in others:
            self._do_one(command, wait_s)
        return self._do_one(last, wait_s)

    def _do_one(self, command: Command, wait_s: float) -> Task[None]:
        setup = Pilot(Fixed(), Objectives()).setup(0) if command is Command.ARM else None
        task = started(self.loop, self.hands.of(Order(command, setup)))
        self.clock.run(lambda: task.done, self.clock.now_ns + round(wait_s * SECOND_NS))
        return task

    def wait_for(self, status: str) -> None:
        """Go on until the source says something."""
        assert self.clock.run(lambda: self.pair.source_qemu.migration_status == status, self.clock.now_ns + 10**11)

    @property
    def notes(self) -> list[str]:
        """The sentences that were learnt."""
        return [each.note for each in self.delivered if isinstance(each, Learnt) and each.note]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What a manager after this one reads."""
        said = [{"kind": "learnt", "facts": dict(each.facts)} for each in self.delivered if isinstance(each, Learnt)]
        return [*self.written, *said]


def test_every_command_has_its_procedure() -> None:
    bench = Bench()
    for command in Command:
        bench.hands.of(Order(command)).close()


def test_a_move_from_the_first_look_to_the_end_of_the_source() -> None:
    bench = Bench()
    for command in TO_ACTIVE:
        bench.do(command).result()
    assert bench.watching == 1
    assert bench.hands.uri.startswith("tcp:127.0.0.1:4")
    assert [line["kind"] for line in bench.written if line["kind"] in ("starting", "destination", "badge")] == [
        "starting",
        "destination",
        "badge",
    ]
    bench.wait_for("pre-switchover")
    bench.do(Command.QUIESCE, Command.CONTINUE).result()
    bench.wait_for("completed")
    bench.do(Command.CLAIM, Command.RESUME_DESTINATION).result()
    assert bench.pair.destination_qemu is not None
    assert bench.pair.destination_qemu.guest_runs
    assert Signal.DESTINATION_RUNNING in [each.signal for each in bench.delivered if isinstance(each, Happened)]
    bench.do(Command.RELEASE_SOURCE).result()
    assert not bench.pair.source_qemu.alive
    assert not any(bench.pair.destination_qemu.settings.capabilities.values())
    assert [each.mark.value for each in bench.delivered if isinstance(each, Marked)][-1] == "destination-resume"


def test_both_ends_are_told_what_they_need_before_anything_moves() -> None:
    bench = Bench()
    bench.do(*TO_ACTIVE[:3]).result()
    for qemu in (bench.pair.source_qemu, bench.pair.destination_qemu):
        assert qemu is not None
        on = {name for name, state in qemu.settings.capabilities.items() if state}
        assert on == {"events", "return-path", "pause-before-switchover", "late-block-activate"}
    assert "whimbrel-migration-1" in bench.pair.source_qemu.objects
    assert bench.pair.source_qemu.settings.parameters["max-bandwidth"] == 0


def test_one_that_others_started_is_told_not_to_start_by_itself() -> None:
    bench = Bench(watched=False)
    bench.do(*TO_ACTIVE[:2]).result()
    assert bench.pair.destination_qemu is not None
    assert not bench.pair.destination_qemu.autostart


def test_backing_out_leaves_the_source_as_it_was() -> None:
    bench = Bench()
    before = dict(bench.pair.source_qemu.settings.parameters)
    bench.do(*TO_ACTIVE)
    bench.wait_for("active")
    bench.known = frozenset({Fact.MIGRATE_SENT})
    bench.do(Command.CANCEL_MIGRATION, Command.DISCARD_DESTINATION, Command.RESTORE_SOURCE).result()
    assert bench.pair.source_qemu.guest_runs
    assert bench.pair.source_qemu.settings.parameters == before
    assert bench.pair.source_qemu.objects == {}
    assert bench.pair.destination_qemu is not None
    assert not bench.pair.destination_qemu.alive


def test_a_destination_that_cannot_be_seen_is_told_to_quit_and_its_end_is_heard() -> None:
    bench = Bench(watched=False)
    bench.do(*TO_ACTIVE[:2])
    bench.do(Command.DISCARD_DESTINATION).result()
    assert bench.pair.destination_qemu is not None
    assert not bench.pair.destination_qemu.alive
    bench.do(Command.DISCARD_DESTINATION).result()  # once more is as good


@pytest.mark.parametrize("how", ["blocked", "lost"])
def test_whether_it_ended_is_not_known_where_its_answer_is_not_heard(how: str) -> None:
    bench = Bench(watched=False)
    bench.do(*TO_ACTIVE[:2])
    wire = bench.pair.destination_wire
    assert wire is not None
    if how == "blocked":
        wire.blocked = True
        wire.cut()
    else:
        wire.trouble = lambda command: Trouble(cut_after=True) if command == "quit" else None
    assert isinstance(bench.do(Command.DISCARD_DESTINATION, wait_s=30.0).error, WhimbrelError)


def test_a_hanging_handover_is_broken() -> None:
    bench = Bench()
    bench.do(*TO_ACTIVE)
    bench.wait_for("pre-switchover")
    assert bench.pair.destination_qemu is not None
    bench.pair.destination_qemu.freeze()
    bench.do(Command.CONTINUE)
    bench.do(Command.BREAK).result()
    bench.wait_for("failed")
    assert bench.pair.source_qemu.guest_runs


def test_a_source_that_completed_gets_its_guest_back_by_cont() -> None:
    bench = Bench()
    bench.do(*TO_ACTIVE)
    bench.wait_for("pre-switchover")
    bench.do(Command.CONTINUE)
    bench.wait_for("completed")
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    bench.known = frozenset({Fact.MIGRATE_SENT})
    assert isinstance(bench.do(Command.RESTORE_SOURCE, wait_s=30.0).error, WhimbrelError)
    bench.do(Command.DISCARD_DESTINATION, Command.RESUME_SOURCE).result()
    assert bench.pair.source_qemu.guest_runs


def test_both_sides_are_asked_what_is_true() -> None:
    bench = Bench()
    bench.do(*TO_ACTIVE)
    bench.wait_for("active")
    bench.do(Command.INSPECT_BOTH).result()
    assert Inspected(SourceClass.MOVING, DestinationClass.LOADING) in bench.delivered


def test_a_source_that_was_never_reached_is_not_restored() -> None:
    bench = Bench()
    bench.pair.source_qemu.kill()
    assert isinstance(bench.do(Command.INSPECT).error, CannotConnect)
    assert isinstance(bench.do(Command.RESTORE_SOURCE).error, CannotConnect)


def test_one_whose_end_was_not_heard_is_told_of_before_it_is_refused() -> None:
    bench = Bench()
    bench.do(*TO_ACTIVE)
    bench.pair.source_wire.cut()
    bench.pair.source_qemu.kill()
    assert isinstance(bench.do(Command.RESTORE_SOURCE).error, CannotConnect)
    assert Signal.SOURCE_ENDED in [each.signal for each in bench.delivered if isinstance(each, Happened)]


def test_disks_are_not_copied() -> None:
    assert isinstance(Bench().do(Command.MIRROR).error, WhimbrelError)


def test_knobs_are_set() -> None:
    bench = Bench()
    bench.do(Command.INSPECT)
    task = started(bench.loop, bench.hands.helm.tune({"downtime-limit": 100, "max-bandwidth": 5}))
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    task.result()
    parameters = bench.pair.source_qemu.settings.parameters
    assert (parameters["downtime-limit"], parameters["max-bandwidth"]) == (100, 5)


def test_a_new_manager_finds_both_sides_and_what_was_set_before() -> None:
    bench = Bench()
    before = dict(bench.pair.source_qemu.settings.parameters)
    bench.do(*TO_ACTIVE)
    bench.wait_for("active")
    lines = bench.lines
    bench.hands.source.close()
    bench.hands.destination.close()
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS // 100)
    bench.hands = bench._hands()  # pyright: ignore[reportPrivateUsage]
    bench.hands.take_up(lines)
    assert (bench.hands.adopted, bench.hands.armed, bench.hands.started) == (True, True, True)
    assert bench.hands.uri.startswith("tcp:")
    bench.known = frozenset({Fact.MIGRATE_SENT})
    bench.do(Command.CANCEL_MIGRATION, Command.DISCARD_DESTINATION, Command.RESTORE_SOURCE).result()
    assert bench.pair.source_qemu.settings.parameters == before
    assert bench.pair.source_qemu.objects == {}


def test_a_destination_that_was_being_started_is_ended_by_the_next_manager() -> None:
    bench = Bench()
    bench.pair.start_destination()
    bench.hands.take_up([{"kind": "starting", "directory": "/x"}])
    bench.do(Command.DISCARD_DESTINATION).result()
    assert bench.pair.destination_qemu is not None
    assert not bench.pair.destination_qemu.alive


def test_post_copy_is_asked_for_paused_and_mended() -> None:
    bench = Bench()
    bench.do(*TO_ACTIVE[:2])
    for qemu in (bench.pair.source_qemu, bench.pair.destination_qemu):
        assert qemu is not None
        qemu.settings.capabilities["postcopy-ram"] = True
    bench.do(Command.ARM)
    for qemu in (bench.pair.source_qemu, bench.pair.destination_qemu):
        assert qemu is not None
        qemu.settings.capabilities["postcopy-ram"] = True
    bench.do(Command.MIGRATE)
    bench.wait_for("active")
    bench.do(Command.START_POSTCOPY).result()
    bench.wait_for("pre-switchover")
    bench.do(Command.CONTINUE)
    bench.wait_for("postcopy-active")
    bench.clock.advance_to(bench.clock.now_ns + 50_000_000)
    bench.do(Command.RESUME_DESTINATION, Command.PAUSE_POSTCOPY).result()
    assert bench.pair.source_qemu.migration_status == "postcopy-paused"
    bench.do(Command.LISTEN_AGAIN, Command.SEND_AGAIN).result()
    bench.wait_for("completed")
