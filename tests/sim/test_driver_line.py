"""One QMP connection of the simulated driver."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.small_qemu import SILENT, Refused, SmallQemu, line_to, started, wire_to
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, QemuRefused
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver_line import Line, Trouble, Wire
from whimbrel.sim.driver_tasks import Loop, Task


class Bench:
    """A QEMU, the way to it, and a connection."""

    def __init__(self, latency_ns: int = 0) -> None:
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.qemu = SmallQemu(self.clock)
        self.wire: Wire = wire_to(self.qemu, latency_ns)
        self.events: list[str] = []
        self.lost: list[str] = []
        self.line = self.connected().result()

    def _heard(self, event: dict[str, object]) -> None:
        self.events.append(str(event["event"]))

    def _lost(self, _: Line, why: str) -> None:
        self.lost.append(why)

    def connected(self, within_s: float = 1.0) -> Task[Line]:
        """Connect, and let it come to something."""
        work = line_to(
            self.loop,
            self.wire,
            within_s=within_s,
            on_event=self._heard,
            on_lost=self._lost,
        )
        task = started(self.loop, work)
        self.clock.advance_to(self.clock.now_ns + 2 * SECOND_NS)
        return task

    def call(self, command: str, wait_s: float = 20.0, **more: Any) -> Task[Any]:
        """Carry out a command, and let it come to something."""
        task = started(self.loop, self.line.call(command, **more))
        self.clock.advance_to(self.clock.now_ns + round(wait_s * SECOND_NS))
        return task


def test_a_session_begins_with_the_version_and_the_handshake() -> None:
    bench = Bench()
    assert bench.line.version == ((7, 2, 22), "small")
    assert bench.qemu.heard == ["qmp_capabilities"]


def test_an_answer_or_a_refusal_ends_a_command() -> None:
    bench = Bench()
    bench.qemu.answers["query-status"] = {"status": "running"}

    def refuse(_: dict[str, Any]) -> None:
        raise Refused("not now")

    bench.qemu.answers["cont"] = refuse
    assert bench.call("query-status").result() == {"status": "running"}
    error = bench.call("cont").error
    assert isinstance(error, QemuRefused)
    assert (error.command, error.description, error.side) == ("cont", "not now", "source")


def test_what_stays_without_an_answer_is_unknown_when_its_time_is_up_and_not_before() -> None:
    bench = Bench()
    bench.qemu.answers["quit"] = bench.qemu.answers["stop"] = SILENT
    late = started(bench.loop, bench.line.call("quit", within_s=30.0))
    soon = bench.call("stop", wait_s=9.9)
    assert not soon.done
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert isinstance(soon.error, OutcomeUnknown)
    assert soon.error.because == "no answer within 10 s"
    assert not late.done
    bench.clock.advance_to(bench.clock.now_ns + 30 * SECOND_NS)
    assert isinstance(late.error, OutcomeUnknown)


def test_events_and_answers_come_in_the_order_in_which_they_were_said() -> None:
    """Though every message takes a time of its own."""
    clock = Clock()
    loop = Loop(clock)
    qemu = SmallQemu(clock)
    heard: list[str] = []

    def hear(event: dict[str, object]) -> None:
        heard.append(str(event["event"]))

    task = loop.start(line_to(loop, wire_to(qemu, 1_000_000), on_event=hear))
    clock.advance_to(SECOND_NS)
    assert task.done
    for number in range(50):
        qemu.says(f"E{number}")
    clock.advance_to(2 * SECOND_NS)
    assert heard == [f"E{number}" for number in range(50)]


def test_a_connection_that_qemu_ends_was_read_to_its_end() -> None:
    bench = Bench()
    bench.qemu.says("SHUTDOWN")
    bench.qemu.ends(0)
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert (bench.events, bench.lost) == (["SHUTDOWN"], ["QEMU closed the connection"])
    assert bench.line.read_to_end
    assert isinstance(bench.call("stop").error, CannotConnect)


def test_a_connection_that_is_cut_loses_what_is_under_way_and_was_not_read_to_its_end() -> None:
    bench = Bench()
    bench.qemu.answers["stop"] = SILENT
    task = bench.call("stop", wait_s=1.0)
    bench.wire.cut()
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert isinstance(task.error, OutcomeUnknown)
    assert task.error.because == "connection lost"
    assert not bench.line.read_to_end
    assert len(bench.lost) == 1
    assert bench.qemu.client is None


@pytest.mark.parametrize(("trouble", "got_there"), [(Trouble(cut_before=True), False), (Trouble(cut_after=True), True)])
def test_a_command_whose_connection_goes_was_carried_out_or_was_not(trouble: Trouble, got_there: bool) -> None:
    bench = Bench()
    bench.wire.trouble = lambda command: trouble if command == "cont" else None
    assert isinstance(bench.call("cont").error, OutcomeUnknown)
    assert ("cont" in bench.qemu.heard) is got_there


def test_a_refusal_that_is_made_up_never_gets_there() -> None:
    bench = Bench()
    bench.wire.trouble = lambda _: Trouble(refused="no")
    assert isinstance(bench.call("cont").error, QemuRefused)
    assert "cont" not in bench.qemu.heard


def test_a_command_may_be_late_and_its_answer_too() -> None:
    bench = Bench()
    bench.wire.trouble = lambda _: Trouble(late_ns=3 * SECOND_NS)
    task = bench.call("cont", wait_s=2.9)
    assert "cont" not in bench.qemu.heard
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert task.result() == {}
    bench.wire.trouble = lambda _: Trouble(answer_late_ns=3 * SECOND_NS)
    task = bench.call("stop", wait_s=2.9)
    assert "stop" in bench.qemu.heard
    assert not task.done


def test_a_lie_takes_the_place_of_an_answer() -> None:
    bench = Bench()
    bench.wire.lie = lambda command, said: f"{command} said {said}"
    assert bench.call("stop").result() == "stop said {}"


def test_one_that_is_closed_says_nothing_any_more_and_frees_the_monitor() -> None:
    bench = Bench()
    bench.line.close()
    bench.qemu.says("STOP")
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert (bench.events, bench.lost, bench.qemu.client) == ([], [], None)


@pytest.mark.parametrize("reason", ["held", "blocked", "hangs"])
def test_a_monitor_that_another_client_holds_or_that_hangs_does_not_greet(reason: str) -> None:
    bench = Bench()
    if reason != "held":
        bench.line.close()
    bench.wire.blocked = reason == "blocked"
    bench.qemu.greets = reason != "hangs"
    error = bench.connected().error
    assert isinstance(error, CannotConnect)
    assert "no QMP greeting within 1 s" in str(error)


def test_a_process_that_has_ended_refuses_the_connection() -> None:
    bench = Bench()
    bench.qemu.ends(1)
    error = bench.connected().error
    assert isinstance(error, CannotConnect)
    assert "refused" in str(error)


def test_one_that_ends_in_the_handshake_is_no_session() -> None:
    bench = Bench()
    bench.line.close()

    def die(_: dict[str, Any]) -> Any:
        bench.qemu.ends(1)
        return SILENT

    bench.qemu.answers["qmp_capabilities"] = die
    assert isinstance(bench.connected().error, CannotConnect)


@pytest.mark.parametrize("in_flight", [True, False])
def test_what_a_manager_had_written_when_it_died_gets_there_or_does_not(in_flight: bool) -> None:
    bench = Bench(1_000_000)
    started(bench.loop, bench.line.call("cont"))
    bench.loop.end()
    bench.line.abandon(in_flight=in_flight)
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert ("cont" in bench.qemu.heard) is in_flight
    assert bench.qemu.client is None
    assert bench.lost == []


def test_the_end_of_a_connection_can_be_waited_for() -> None:
    bench = Bench()
    task = bench.loop.start(bench.line.wait_end(5.0))
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert not task.done
    bench.qemu.ends(0)
    bench.clock.advance_to(bench.clock.now_ns + SECOND_NS)
    assert task.result()
    assert not bench.loop.start(Bench().line.wait_end(5.0)).done
