"""One side of a simulated migration: the same rules as the real driver's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.side_bench import Bench
from tests.sim.small_qemu import SILENT, started
from whimbrel.engine.errors import CannotConnect
from whimbrel.engine.machine import Happened, Marked
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.timeline import Mark
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.driver_side import Handle


def test_events_are_told_in_the_engines_words_with_their_moments() -> None:
    bench = Bench()
    bench.qemu.says("STOP")
    bench.qemu.becomes("pre-switchover")
    bench.qemu.says("RESUME")
    bench.qemu.says("MIGRATION_PASS", **{"pass": 2})
    bench.qemu.says("SHUTDOWN", guest=True)
    assert bench.signals == [
        Signal.SOURCE_STOPPED,
        Signal.SOURCE_PRE_SWITCHOVER,
        Signal.SOURCE_RUNNING,
        Signal.SOURCE_SHUT_DOWN,
    ]
    bench.wait(0.001)
    marks = [each.mark for each in bench.delivered if isinstance(each, Marked)]
    assert marks == [Mark.SOURCE_STOP, Mark.SOURCE_PRE_SWITCHOVER]
    assert (bench.passes, bench.side.resumes) == (1, 1)


def test_a_status_of_an_answer_is_told_only_where_it_is_news() -> None:
    bench = Bench()
    bench.qemu.becomes("active")
    bench.do(bench.side.look())
    assert bench.signals == [Signal.SOURCE_ACTIVE]
    bench.qemu.answers["query-migrate"] = {"status": "failed"}
    bench.do(bench.side.look())
    assert bench.signals == [Signal.SOURCE_ACTIVE, Signal.SOURCE_FAILED]


def test_an_answer_that_is_older_than_an_event_is_not_told() -> None:
    bench = Bench()

    def answer(_: dict[str, Any]) -> dict[str, str]:
        bench.qemu.says("MIGRATION", status="completed")
        return {"status": "active"}

    bench.qemu.answers["query-migrate"] = answer
    bench.do(bench.side.look())
    assert bench.signals == [Signal.SOURCE_COMPLETED]


def test_status_and_run_state_are_of_one_moment() -> None:
    """They are asked for again where an event came in between, five times at most."""
    bench = Bench()
    bench.qemu.becomes("active")
    states = iter(("running", "postmigrate"))

    def answer(_: dict[str, Any]) -> dict[str, object]:
        state = next(states)
        if state == "running":
            bench.qemu.becomes("completed")
        return {"status": state, "running": state == "running"}

    bench.qemu.answers["query-status"] = answer
    assert bench.do(bench.side.look_around()).result() == ("completed", "postmigrate")


def test_the_end_of_a_process_that_was_heard_out_is_told_as_its_end() -> None:
    bench = Bench()
    bench.qemu.stderr.append("all is lost")
    bench.qemu.ends(1)
    bench.wait()
    (told,) = bench.delivered
    assert isinstance(told, Happened)
    assert told.signal is Signal.SOURCE_ENDED
    assert "code 1" in told.detail
    assert "all is lost" in told.detail
    assert bench.side.ended
    assert bench.do(bench.side.has_ended()).result()


def test_a_connection_that_goes_while_the_process_lives_is_lost_and_no_end() -> None:
    bench = Bench()
    assert bench.side.wire is not None
    bench.side.wire.cut()
    bench.wait()
    assert bench.signals == [Signal.SOURCE_LOST]
    assert not bench.do(bench.side.is_gone()).result()


def test_behind_a_process_that_cannot_be_seen_only_the_monitor_tells() -> None:
    bench = Bench(watched=False)
    bench.qemu.ends(1)
    bench.wait()
    assert bench.signals == [Signal.SOURCE_LOST]
    assert not bench.do(bench.side.has_ended()).result()


def test_the_last_words_of_a_connection_that_replaced_another_are_not_known_before_its_status_was_seen() -> None:
    bench = Bench()
    assert bench.side.wire is not None
    bench.side.wire.cut()
    bench.wait()
    assert bench.do(bench.side.reconnect(within_s=5.0)).result()
    bench.qemu.ends(1)
    bench.wait()
    assert bench.signals == [Signal.SOURCE_LOST, Signal.SOURCE_LOST]
    assert not bench.side.ended


def test_once_its_status_was_seen_they_are() -> None:
    bench = Bench()
    assert bench.side.wire is not None
    bench.side.wire.cut()
    bench.wait()
    bench.do(bench.side.reconnect(within_s=5.0))
    bench.do(bench.side.look())
    bench.qemu.ends(1)
    bench.wait()
    assert bench.signals[-1] is Signal.SOURCE_ENDED


def test_a_loss_after_which_it_was_connected_anew_is_only_noted() -> None:
    bench = Bench()
    assert bench.side.wire is not None
    bench.side.wire.cut()
    bench.do(bench.side.reconnect(within_s=5.0))
    assert bench.signals == []
    assert any("connected anew" in str(fields.get("text", "")) for _, fields in bench.notes)


def test_it_is_tried_again_until_the_time_is_up_and_no_longer_than_the_process_lives() -> None:
    bench = Bench()
    assert bench.side.wire is not None
    bench.side.wire.blocked = True
    bench.side.wire.cut()
    began_ns = bench.clock.now_ns
    task = started(bench.loop, bench.side.reconnect(within_s=3.0))
    while not task.done:
        bench.clock.step()
    assert not task.result()
    assert 2.9 < (bench.clock.now_ns - began_ns) / SECOND_NS < 3.2
    bench.qemu.ends(1)
    began_ns = bench.clock.now_ns
    assert not bench.do(bench.side.reconnect(within_s=3.0), wait_s=0.0).result()
    error = bench.do(bench.side.reach(within_s=1.0)).error
    assert isinstance(error, CannotConnect)


@pytest.mark.parametrize("badge", ["worn", "not worn", "waits no more"])
def test_a_source_without_its_badge_is_in_another_migration(badge: str) -> None:
    bench = Bench(connected=False)
    bench.side.badge = "whimbrel-migration-1"
    bench.qemu.answers["qom-list"] = [{"name": "type"}]
    if badge != "not worn":
        bench.qemu.answers["qom-list"].append({"name": "whimbrel-migration-1"})
    waits = badge != "waits no more"
    bench.qemu.answers["query-migrate-capabilities"] = [{"capability": "pause-before-switchover", "state": waits}]
    task = bench.do(bench.side.connect())
    assert bench.side.overtaken is (badge != "worn")
    assert (task.error is None) is (badge == "worn")


def test_one_that_does_not_say_in_time_whose_it_is_is_not_connected_to() -> None:
    bench = Bench(connected=False, watched=False)
    bench.side.remember(had_status=True)
    bench.qemu.answers["query-migrate"] = SILENT
    error = bench.do(bench.side.connect()).error
    assert isinstance(error, CannotConnect)
    assert "in time" in str(error)
    assert bench.qemu.client is None


def test_events_before_it_is_known_who_it_is_are_heard_afterwards() -> None:
    bench = Bench(connected=False)
    bench.side.badge = "whimbrel-migration-1"

    def answer(_: dict[str, Any]) -> list[dict[str, str]]:
        bench.qemu.says("STOP")
        assert bench.delivered == []
        return [{"name": "whimbrel-migration-1"}]

    bench.qemu.answers["qom-list"] = answer
    bench.qemu.answers["query-migrate-capabilities"] = [{"capability": "pause-before-switchover", "state": True}]
    bench.do(bench.side.connect())
    assert bench.signals == [Signal.SOURCE_STOPPED]


def test_who_it_is_is_written_down_once() -> None:
    bench = Bench()
    assert bench.side.wire is not None
    bench.side.wire.cut()
    bench.do(bench.side.reconnect(within_s=5.0))
    written = [fields for kind, fields in bench.notes if kind == "side"]
    assert written == [
        {
            "side": "source",
            "process": {"pid": 7, "start_ticks": 7},
            "likeness": None,
            "had_status": False,
            "address": "/simulated/source.sock",
        }
    ]


def test_nothing_is_told_once_it_is_left_alone() -> None:
    bench = Bench(SideName.DESTINATION)
    bench.side.close()
    bench.qemu.says("RESUME")
    bench.qemu.ends(0)
    bench.wait()
    assert bench.delivered == []


def test_without_a_connection_nothing_is_sent() -> None:
    bench = Bench(connected=False)
    with pytest.raises(CannotConnect, match="no connection"):
        bench.side.require()
    assert not bench.side.alive


def test_a_process_that_is_killed_is_waited_for() -> None:
    bench = Bench()
    assert bench.side.handle is not None
    assert not bench.do(bench.side.handle.wait_exit(1.0)).result()
    bench.do(bench.side.handle.kill()).result()
    assert bench.side.handle.exited
    assert bench.do(bench.side.handle.wait_exit(1.0)).result()
    assert Handle(bench.loop, bench.qemu).ended.done
