"""Looking, backing out and letting go, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.side_bench import Bench
from tests.sim.small_qemu import SILENT, Refused, ignored
from whimbrel.engine.driving import HAS_ALL
from whimbrel.engine.errors import CannotConnect, QemuRefused, WhimbrelError
from whimbrel.engine.machine import Event, Learnt, Sampled
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Fact
from whimbrel.engine.states import Side as SideName
from whimbrel.sim import driver_ends as ends


def both(**more: Any) -> tuple[Bench, Bench]:
    """A source and a destination in one manager."""
    source = Bench(**more)
    return source, Bench(SideName.DESTINATION, loop=source.loop, **more)


def notes_of(bench: Bench) -> list[str]:
    """The sentences that were learnt."""
    return [each.note or "" for each in bench.delivered if isinstance(each, Learnt)]


# ---- inspection


@pytest.mark.parametrize(
    ("status", "run_state", "found"),
    [
        ("active", "running", SourceClass.MOVING),
        ("completed", "postmigrate", SourceClass.COMPLETED),
        ("failed", "running", SourceClass.HOLDING),
    ],
)
def test_a_source_that_answers_is_classified(status: str, run_state: str, found: SourceClass) -> None:
    bench = Bench()
    bench.qemu.answers["query-migrate"] = {"status": status}
    bench.qemu.runs(run_state)
    look = ends.look_at_source(bench.side, within_s=1.0, deliver=bench.delivered.append)
    assert bench.do(look).result() is found


def test_a_guest_that_stands_before_its_migration_stopped_it_was_stopped_by_others() -> None:
    bench = Bench()
    bench.qemu.answers["query-migrate"] = {"status": "active"}
    bench.qemu.runs("paused")
    bench.do(ends.look_at_source(bench.side, within_s=1.0, deliver=bench.delivered.append))
    assert Signal.SOURCE_PAUSED in bench.signals


@pytest.mark.parametrize(
    ("watched", "cut", "dies", "found"),
    [
        (True, False, True, SourceClass.ENDED),
        (True, True, True, SourceClass.GONE),
        (True, True, False, SourceClass.UNREACHABLE),
        (False, True, True, SourceClass.UNREACHABLE),
    ],
)
def test_a_source_that_does_not_answer_is_what_can_be_known(
    watched: bool, cut: bool, dies: bool, found: SourceClass
) -> None:
    """An end counts only where all that it said was read; and where its process can be seen."""
    bench = Bench(watched=watched)
    assert bench.side.wire is not None
    bench.side.wire.blocked = True
    if cut:
        bench.side.wire.cut()
        bench.wait(0.1)
    if dies:
        bench.qemu.ends(1)
    look = ends.look_at_source(bench.side, within_s=1.0, deliver=bench.delivered.append)
    assert bench.do(look).result() is found


@pytest.mark.parametrize("watched", [True, False])
def test_a_destination_that_does_not_answer_has_ended_only_if_that_is_seen(watched: bool) -> None:
    bench = Bench(SideName.DESTINATION, watched=watched)
    bench.qemu.ends(1)
    found = bench.do(ends.look_at_destination(bench.side, within_s=1.0)).result()
    assert found is (DestinationClass.ENDED if watched else DestinationClass.UNREACHABLE)


def test_a_new_manager_is_told_of_the_dead_but_not_of_a_source_whose_last_words_matter() -> None:
    source, destination = both()
    source.qemu.ends(1)
    destination.qemu.ends(1)
    told = ends.the_dead(source.side, destination.side, frozenset())
    assert [news.signal for news in told] == [Signal.DESTINATION_ENDED, Signal.SOURCE_ENDED]
    told = ends.the_dead(source.side, destination.side, frozenset({Fact.CONTINUED}))
    assert [news.signal for news in told] == [Signal.DESTINATION_ENDED]


# ---- the source keeps the guest


def test_a_final_status_is_waited_for_unless_the_guest_runs_and_it_hangs() -> None:
    bench = Bench()
    statuses = iter(("cancelling", "device", "cancelled"))

    def answer(_: dict[str, Any]) -> dict[str, str]:
        return {"status": next(statuses)}

    bench.qemu.answers["query-migrate"] = answer
    bench.qemu.runs("finish-migrate")
    bench.do(ends.await_final_status(bench.loop, bench.side.require(), bench.delivered.append)).result()
    assert notes_of(bench) == []
    bench.qemu.answers["query-migrate"] = {"status": "cancelling"}
    bench.qemu.runs("running")
    bench.do(ends.await_final_status(bench.loop, bench.side.require(), bench.delivered.append)).result()
    assert "for a while yet" in notes_of(bench)[0]


def test_a_guest_that_qemu_lets_run_by_itself_is_waited_for() -> None:
    bench = Bench()
    states = iter(("finish-migrate", "finish-migrate", "running"))

    def answer(_: dict[str, Any]) -> dict[str, object]:
        state = next(states)
        return {"status": state, "running": state == "running"}

    bench.qemu.answers["query-status"] = answer
    bench.do(ends.see_running(bench.loop, bench.side.require(), bench.delivered.append)).result()
    assert "cont" not in bench.qemu.heard


@pytest.mark.parametrize(("status", "told"), [("failed", True), ("completed", False)])
def test_one_in_postmigrate_is_told_to_run_unless_it_completed(status: str, told: bool) -> None:
    bench = Bench()
    bench.qemu.runs("postmigrate")
    bench.qemu.answers["query-migrate"] = {"status": status}
    task = bench.do(ends.see_running(bench.loop, bench.side.require(), bench.delivered.append))
    assert ("cont" in bench.qemu.heard) is told
    assert (task.error is None) is told


def test_one_that_its_owner_stopped_is_left_standing() -> None:
    bench = Bench()
    bench.qemu.runs("paused")
    bench.do(ends.see_running(bench.loop, bench.side.require(), bench.delivered.append)).result()
    assert "cont" not in bench.qemu.heard
    (news,) = bench.delivered
    assert isinstance(news, Learnt)
    assert news.paused_before


def test_one_that_never_runs_is_given_up() -> None:
    bench = Bench()
    bench.qemu.runs("finish-migrate")
    task = bench.do(ends.see_running(bench.loop, bench.side.require(), bench.delivered.append))
    assert isinstance(task.error, WhimbrelError)


def test_settings_that_can_not_be_put_back_are_a_note() -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise Refused("There's a migration process in progress")

    bench = Bench()
    bench.qemu.answers["migrate-set-capabilities"] = refuse
    bench.do(ends.put_back(bench.side.require(), {"downtime-limit": 300}, {"events": False}, bench.delivered.append))
    assert bench.qemu.heard[-2:] == ["migrate-set-parameters", "migrate-set-capabilities"]
    assert "keeps this migration's settings" in notes_of(bench)[0]


# ---- the guest has moved


def test_the_last_figures_are_asked_for_until_they_are_there() -> None:
    bench = Bench()
    totals = iter((0, 0, 2500))

    def answer(_: dict[str, Any]) -> dict[str, object]:
        return {"status": "completed", "total-time": next(totals), "downtime": 9}

    bench.qemu.answers["query-migrate"] = answer
    bench.do(ends.take_final_figures(bench.loop, bench.side, lambda: 5, bench.delivered.append)).result()
    assert [type(each) for each in bench.delivered] == [Sampled, Learnt]
    bench.qemu.answers["query-migrate"] = {"status": "completed", "total-time": 0}
    delivered: list[Event] = []
    bench.do(ends.take_final_figures(bench.loop, bench.side, lambda: 5, delivered.append)).result()
    assert delivered == []


def test_a_side_that_does_not_take_its_settings_back_does_not_hold_the_rest_up() -> None:
    source, destination = both()
    destination.qemu.answers["migrate-set-capabilities"] = SILENT
    before = {"destination": {"events": False}, "source": {}}
    work = ends.leave_no_settings(source.loop, (source.side, destination.side), before, destination.delivered.append)
    source.do(work, wait_s=3.0).result()
    assert "no answer within 2 s" in notes_of(destination)[0]


def test_a_source_is_told_to_quit_and_seen_ended() -> None:
    bench = Bench()

    def quits(_: dict[str, Any]) -> None:
        bench.qemu.ends(0)

    bench.qemu.answers["quit"] = quits
    bench.do(ends.quit_source(bench.side, within_s=1.0, look=False)).result()
    assert bench.do(ends.quit_source(bench.side, within_s=1.0, look=False)).error is None


@pytest.mark.parametrize("why", ["runs", "stays", "unreachable"])
def test_a_source_that_can_not_be_let_go_is_said_to_be_there(why: str) -> None:
    bench = Bench(watched=why != "unreachable")
    bench.qemu.runs("running" if why == "runs" else "postmigrate")
    if why == "unreachable":
        bench.qemu.ends(1)
        bench.wait()
    error = bench.do(ends.quit_source(bench.side, within_s=1.0, look=True)).error
    assert isinstance(error, WhimbrelError)
    assert ("quit" in bench.qemu.heard) is (why == "stays")


# ---- breaking, discarding


def test_a_handover_that_hangs_is_broken_at_both_ends() -> None:
    source, destination = both()
    source.qemu.becomes("device")
    source.qemu.runs("finish-migrate")
    destination.qemu.becomes("active")
    destination.qemu.runs("inmigrate")
    work = ends.break_stream(source.loop, source.side, destination.side, ignored, within_s=1.0)
    source.do(work).result()
    assert not destination.qemu.alive
    assert "yank" in source.qemu.heard


def test_a_destination_that_cannot_be_killed_is_cut_off() -> None:
    source, destination = both(watched=False)
    destination.qemu.answers["query-migrate"] = SILENT
    work = ends.break_stream(source.loop, source.side, destination.side, ignored, within_s=1.0)
    source.qemu.becomes("device")
    source.qemu.runs("finish-migrate")
    source.do(work).result()
    assert destination.qemu.alive
    assert "yank" in source.qemu.heard


@pytest.mark.parametrize("why", ["completed", "runs", "source ended"])
def test_one_that_does_not_hang_is_not_broken(why: str) -> None:
    source, destination = both()
    source.qemu.becomes("completed" if why == "completed" else "device")
    source.qemu.runs("finish-migrate")
    destination.qemu.becomes("active")
    destination.qemu.runs("running" if why == "runs" else "inmigrate")
    if why == "source ended":
        source.qemu.ends(1)
    work = ends.break_stream(source.loop, source.side, destination.side, ignored, within_s=1.0)
    assert isinstance(source.do(work).error, WhimbrelError)
    assert destination.qemu.alive


def test_a_stream_that_can_not_be_cut_besides_is_a_note() -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise Refused("no yank instance")

    source, destination = both()
    source.qemu.becomes("device")
    source.qemu.runs("finish-migrate")
    source.qemu.answers["yank"] = refuse
    destination.qemu.runs("inmigrate")
    notes: list[str] = []

    def note(kind: str, _: dict[str, object]) -> None:
        notes.append(kind)

    source.do(ends.break_stream(source.loop, source.side, destination.side, note, within_s=1.0)).result()
    assert notes == ["note"]


def test_the_only_copy_is_never_ended() -> None:
    source, destination = both()
    source.qemu.ends(1)
    source.wait()
    work = ends.see_that_it_may_end(source.side, destination.side, HAS_ALL, adopted=False, within_s=1.0)
    assert isinstance(source.do(work).error, WhimbrelError)
    old = HAS_ALL | {Fact.SETBACK}
    work = ends.see_that_it_may_end(source.side, destination.side, old, adopted=False, within_s=1.0)
    source.do(work).result()


@pytest.mark.parametrize(
    ("status", "run_state", "known", "may"),
    [
        ("active", "inmigrate", frozenset[Fact](), True),
        ("completed", "running", frozenset[Fact](), False),
        ("completed", "postmigrate", frozenset[Fact](), False),
        ("completed", "paused", frozenset[Fact](), False),
        ("completed", "paused", frozenset({Fact.MIGRATE_SENT}), True),
    ],
)
def test_a_new_manager_looks_before_it_ends_a_destination(
    status: str, run_state: str, known: frozenset[Fact], may: bool
) -> None:
    source, destination = both()
    destination.qemu.answers["query-migrate"] = {"status": status}
    destination.qemu.runs(run_state)
    work = ends.see_that_it_may_end(source.side, destination.side, known, adopted=True, within_s=1.0)
    assert (source.do(work).error is None) is may


def test_one_that_does_not_answer_may_have_the_guest_where_the_source_is_gone_too() -> None:
    source, destination = both(watched=False)
    destination.qemu.answers["query-migrate"] = SILENT
    known = frozenset({Fact.MIGRATE_SENT})
    work = ends.see_that_it_may_end(source.side, destination.side, known, adopted=True, within_s=1.0)
    source.do(work).result()
    source.qemu.ends(1)
    source.wait()
    work = ends.see_that_it_may_end(source.side, destination.side, known, adopted=True, within_s=1.0)
    assert isinstance(source.do(work).error, WhimbrelError)


# ---- post-copy that lost its link


def test_both_sides_give_the_link_up_or_have_noticed_by_themselves() -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise Refused("not in postcopy-active")

    source, destination = both()

    def pauses(_: dict[str, Any]) -> None:
        source.qemu.becomes("postcopy-paused")

    source.qemu.answers["migrate-pause"] = pauses
    destination.qemu.answers["migrate-pause"] = refuse
    destination.qemu.becomes("postcopy-paused")
    source.do(ends.pause(source.loop, (source.side, destination.side), within_s=1.0)).result()


@pytest.mark.parametrize(("refused", "error"), [(True, QemuRefused), (False, WhimbrelError)])
def test_one_that_does_not_pause_is_told(refused: bool, error: type[Exception]) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise Refused("no")

    source, destination = both()
    destination.qemu.becomes("postcopy-paused")
    if refused:
        source.qemu.answers["migrate-pause"] = refuse
    source.qemu.becomes("postcopy-active")
    task = source.do(ends.pause(source.loop, (source.side, destination.side), within_s=1.0))
    assert type(task.error) is error


def test_the_destination_listens_again_at_a_new_place() -> None:
    bench = Bench(SideName.DESTINATION)
    address = {"type": "inet", "host": "127.0.0.1", "port": "5"}
    bench.qemu.answers["query-migrate"] = {"status": "postcopy-paused", "socket-address": [address]}
    uri = bench.do(ends.listen_again(bench.side, "tcp:127.0.0.1:0", within_s=1.0)).result()
    assert uri == "tcp:127.0.0.1:5"
    bench.qemu.ends(1)
    bench.wait()
    error = bench.do(ends.listen_again(bench.side, "tcp:127.0.0.1:0", within_s=1.0)).error
    assert isinstance(error, CannotConnect)
