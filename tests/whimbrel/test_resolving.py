"""Migrations whose manager is killed at every stage, settled by a new one on real QEMUs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import mortal_manager
from tests.support.guests import End, Guest, World, ask, end_of, is_there, lives, read_log, until
from tests.support.left_behind import Death, die
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.states import Side
from whimbrel.qmp_driver.adoption import Host
from whimbrel.qmp_driver.control import control_path
from whimbrel.resolving import Resolution, resolve

MIB = 1 << 20
SLOWLY = MIB
"""Bytes per second: holds a migration in pre-copy for a quarter of a minute."""

MOVED = ("completed", "destination", "running")
FAILED = ("failed", "source", "running")
CALLED_OFF = ("cancelled", "source", "running")
IN_PRECOPY: dict[str, Any] = {"kind": "signal", "fields": {"signal": "source-active"}}


def at_command(name: str) -> dict[str, Any]:
    """The moment before a command is carried out."""
    return {"kind": "command", "fields": {"command": name}}


async def leave(world: World, source: Guest, **death: Any) -> Path:
    """Have a manager die on the way; its log."""
    log = world.folder / "left.jsonl"
    await die(Death(source=str(source.qmp), log=str(log), **death))
    for line in read_log(log):
        if line["kind"] == "learnt":
            world.hear(line["facts"])
    return log


async def settle(log: Path, **given: Any) -> End:
    """Settle it, as short of patience as the manager that died."""
    return end_of(await resolve(log, **given), log)


def commands_of(log: Path) -> list[str]:
    """The commands of the whole log, those of the manager that died too."""
    return [line["command"] for line in read_log(log) if line["kind"] == "command"]


def destination_of(log: Path) -> dict[str, Any]:
    """The destination that the log names."""
    return next(line for line in read_log(log) if line["kind"] == "destination")


def rewrite(log: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Change lines of a log."""
    log.write_text("".join(json.dumps(change(line)) + "\n" for line in read_log(log)))


# ---- carried on, or backed out of


@pytest.mark.parametrize(
    "death",
    [
        pytest.param({"kind": "signal", "fields": {"signal": "start"}}, id="before-anything"),
        pytest.param({"kind": "side", "fields": {"side": "source"}}, id="source-known"),
        pytest.param({"kind": "starting"}, id="destination-about-to-be-started"),
        pytest.param({"kind": "destination"}, id="destination-started"),
        pytest.param({"kind": "settings", "fields": {"side": "destination"}}, id="settings-about-to-change"),
        pytest.param(at_command("migrate"), id="migrate-about-to-be-sent"),
    ],
)
async def test_what_had_not_begun_is_backed_out_of(world: World, death: dict[str, Any]) -> None:
    """The guest runs on, the destination and its folder are gone, the source's settings are as they were."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **death)
    end = await settle(log)
    assert end.verdict == FAILED
    assert end.report.why == "the manager died"
    await world.check(source, end, before=before)
    for line in read_log(log):
        if line["kind"] == "starting":
            assert not is_there(line["directory"])
    assert not control_path(log).exists()


@pytest.mark.parametrize(
    "death",
    [
        pytest.param({**IN_PRECOPY, "bandwidth_bytes_per_s": 4 * MIB}, id="in-pre-copy"),
        pytest.param(at_command("quiesce"), id="in-pre-switchover"),
        pytest.param(at_command("continue"), id="continue-about-to-be-sent"),
        pytest.param({"kind": "signal", "fields": {"signal": "continue-done"}}, id="continued"),
        pytest.param(at_command("claim"), id="source-out"),
        pytest.param(at_command("resume-destination"), id="cont-about-to-be-sent"),
        pytest.param({"kind": "signal", "fields": {"signal": "destination-running"}}, id="running"),
        pytest.param(at_command("release-source"), id="releasing"),
        pytest.param({"kind": "step", "fields": {"phase": "completed"}}, id="over-and-not-said"),
    ],
)
async def test_what_was_under_way_is_carried_on(world: World, death: dict[str, Any]) -> None:
    """The same migration goes on to its end: ``migrate`` is sent once, and the guest's memory is whole."""
    source = await world.boot()
    log = await leave(world, source, **death)
    end = await settle(log)
    assert end.verdict == MOVED
    await world.check(source, end)
    assert commands_of(log).count("migrate") == 1
    lines = read_log(log)
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    times = [line["t_ns"] for line in lines]
    assert times == sorted(times), "the clock went back"


@pytest.mark.parametrize("command", ["cancel-migration", "discard-destination", "restore-source"])
async def test_what_was_being_called_off_stays_called_off(world: World, command: str) -> None:
    """Whatever of it was done already is done again, which does no harm."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **at_command(command), cancel_at="source-active", bandwidth_bytes_per_s=SLOWLY)
    end = await settle(log)
    assert end.verdict == CALLED_OFF
    await world.check(source, end, before=before)


async def test_a_resolution_that_is_killed_too(world: World) -> None:
    """A log may see any number of managers."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    for moment in ("after signal source-device", "after command release-source"):
        act = mortal_manager.Act(at=moment, what="kill-manager")
        words = mortal_manager.command_for(mortal_manager.Orders(log=str(log), acts=(act,)))
        process = await asyncio.create_subprocess_exec(*words, cwd=mortal_manager.ROOT, stdout=subprocess.DEVNULL)
        assert await process.wait() == -signal.SIGKILL
    end = await settle(log)
    assert end.verdict == MOVED
    await world.check(source, end)
    assert sum(line["kind"] == "adopted" for line in read_log(log)) == 3


async def test_a_resolution_that_is_cancelled_ends_first(world: World) -> None:
    """After ``migrate-continue`` nothing can be called off any more."""
    source = await world.boot()
    log = await leave(world, source, **at_command("continue"))
    resolution = Resolution(log)
    work = asyncio.create_task(resolution.run())
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert resolution.report is not None
    await world.check(source, end_of(resolution.report, log))


async def test_a_destination_of_others_is_carried_on_to(world: World) -> None:
    """It is found by its monitor, and proven by its process."""
    source = await world.boot()
    waiting = await world.boot("-S", "-incoming", "defer", listen=False)
    await world.monitor.attach("destination", waiting.serial)
    log = await leave(world, source, **at_command("quiesce"), to=str(waiting.qmp))
    end = await settle(log)
    assert end.verdict == MOVED
    assert destination_of(log)["owned"] is False
    await until(lambda: not source.alive, "the source process ends")
    assert waiting.status() == "running"
    await world.check_beats("destination")


async def test_it_can_be_called_off(world: World) -> None:
    """As any migration that is before its switchover; and it is seen to its end."""
    source = await world.boot()
    log = await leave(world, source, **IN_PRECOPY, bandwidth_bytes_per_s=SLOWLY)
    resolution = Resolution(log)
    work = asyncio.create_task(resolution.run())
    async for glance in resolution.progress():
        if glance.phase == "precopy":
            resolution.cancel()
    report = await work
    assert (report.outcome, report.owner, report.guest) == CALLED_OFF
    assert resolution.report == report
    await world.check(source, end_of(report, log))


async def test_a_guest_that_its_owner_paused_meanwhile_arrives_paused(world: World) -> None:
    """Nobody heard the STOP; its standing still in pre-copy says enough."""
    source = await world.boot()
    log = await leave(world, source, **IN_PRECOPY, bandwidth_bytes_per_s=4 * MIB)
    source.stop()
    end = await settle(log)
    assert end.verdict == ("completed", "destination", "paused")
    assert end.destination_status() == "paused"


# ---- who died meanwhile


@pytest.mark.parametrize("death", [{**IN_PRECOPY, "bandwidth_bytes_per_s": SLOWLY}, at_command("quiesce")])
async def test_the_destination_died_meanwhile(world: World, death: dict[str, Any]) -> None:
    """Before the switchover is over the guest is the source's."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **death)
    await _kill(destination_of(log)["process"]["pid"])
    end = await settle(log)
    assert end.verdict == FAILED
    await world.check(source, end, before=before)


async def test_the_destination_died_before_it_was_told_to_run(world: World) -> None:
    """The source completed, and gets the guest back: nobody else can have it."""
    source = await world.boot()
    log = await leave(world, source, **at_command("claim"))
    await _kill(destination_of(log)["process"]["pid"])
    end = await settle(log)
    assert end.verdict == FAILED
    await world.check(source, end)


async def test_the_destination_died_after_it_was_told_to_run(world: World) -> None:
    """It may have run: the source's copy is not resumed."""
    source = await world.boot()
    log = await leave(world, source, **at_command("release-source"))
    await _kill(destination_of(log)["process"]["pid"])
    end = await settle(log)
    assert end.report.guest == "lost"
    assert source.status() in ("", "postmigrate")


@pytest.mark.parametrize(
    "death", [{"kind": "destination"}, {**IN_PRECOPY, "bandwidth_bytes_per_s": SLOWLY}, at_command("quiesce")]
)
async def test_the_source_died_meanwhile(world: World, death: dict[str, Any]) -> None:
    """The guest died with it, and the destination that had only a part of it is ended."""
    source = await world.boot()
    log = await leave(world, source, **death)
    await _end(source)
    end = await settle(log)
    assert end.verdict == ("failed", "source", "lost")
    assert not lives(destination_of(log)["process"]["pid"])
    assert not is_there(destination_of(log)["directory"])


async def test_the_source_died_after_it_had_said_completed(world: World) -> None:
    """It was out already: the destination gets the guest."""
    source = await world.boot()
    log = await leave(world, source, **at_command("claim"))
    await _end(source)
    end = await settle(log)
    assert end.verdict == MOVED
    await world.check_beats("destination")


async def test_the_source_died_in_limbo_with_nobody_listening(world: World) -> None:
    """It may have failed and run on before it died: what the destination has may be old, so it is held.

    A person who knows better says so.
    """
    source = await world.boot()
    log = await leave(world, source, kind="signal", fields={"signal": "source-device"})
    pid, qmp = destination_of(log)["process"]["pid"], destination_of(log)["address"]
    await until(lambda: source.status() == "postmigrate", "the source completes")
    await _end(source)
    end = await settle(log)
    assert end.verdict == ("failed", "limbo", "held")
    assert lives(pid)
    assert ask(qmp, "query-status")[0]["status"] == "paused"
    again = await settle(log, fenced=frozenset({Side.SOURCE}))
    assert again.verdict == MOVED
    await world.check_beats("destination")


@pytest.mark.parametrize("death", [{**IN_PRECOPY, "bandwidth_bytes_per_s": SLOWLY}, at_command("claim")])
async def test_both_died_meanwhile(world: World, death: dict[str, Any]) -> None:
    """There is nothing left but to say so, and to sweep up."""
    source = await world.boot()
    log = await leave(world, source, **death)
    await _kill(destination_of(log)["process"]["pid"])
    await _end(source)
    end = await settle(log)
    assert (end.report.outcome, end.report.guest) == ("failed", "lost")
    assert not is_there(destination_of(log)["directory"])


async def test_another_boot_has_ended_every_process_of_before(world: World) -> None:
    """Their pids may be anybody's by now: nobody is killed."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    pid = destination_of(log)["process"]["pid"]
    rewrite(log, lambda line: _with_host(line, boot_id="00000000-0000-0000-0000-000000000000"))
    end = await settle(log)
    assert end.verdict == ("failed", "source", "lost")
    assert lives(pid)
    assert source.alive


async def test_a_log_of_another_host_says_nothing_of_processes_here(world: World) -> None:
    """The source is known by its badge; a destination at the same path may be anybody: it is left alone."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    rewrite(log, lambda line: _with_host(line, boot_id="00000000-0000-0000-0000-000000000000", machine_id="other"))
    end = await settle(log)
    assert end.verdict == FAILED
    assert "discard-destination" in end.commands()
    await until(lambda: not lives(destination_of(log)["process"]["pid"]), "it ends by itself, its source called off")
    await world.check_beats("source")


# ---- held, and settled later


async def test_what_is_held_can_be_settled_when_the_side_is_back(world: World) -> None:
    """A frozen source can't be asked; when it answers again, the same log is settled to the end."""
    source = await world.boot()
    log = await leave(world, source, **at_command("continue"))
    os.kill(source.pid, signal.SIGSTOP)
    first = await settle(log)
    assert first.verdict == ("failed", "limbo", "held")
    os.kill(source.pid, signal.SIGCONT)
    second = await settle(log)
    assert second.verdict == MOVED
    await world.check(source, second)
    kinds = [line["kind"] for line in read_log(log)]
    assert kinds.count("end") == 2
    assert kinds.index("reopened") > kinds.index("end")


async def test_a_source_that_another_client_holds_is_settled_when_it_lets_go(world: World) -> None:
    """The destination was ended meanwhile, of which a source in pre-switchover notices nothing by itself."""
    source = await world.boot()
    before = source.settings()
    log = await leave(world, source, **at_command("quiesce"))
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(source.qmp))
        assert other.recv(1)
        first = await settle(log)
    assert first.verdict == ("failed", "source", "unconfirmed")
    second = await settle(log)
    assert second.verdict == FAILED
    await world.check(source, second, before=before)


async def test_what_is_settled_stays_as_it_is(world: World) -> None:
    """The report of its end is given again, nothing is written, and a socket that was left is taken away."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    first = await resolve(log)
    size = log.stat().st_size
    control_path(log).touch()
    assert await resolve(log) == first
    assert log.stat().st_size == size
    assert not control_path(log).exists()


async def test_a_destination_that_is_fenced_is_not_touched(world: World) -> None:
    """A person vouches that it is off, and nobody can see it from here: the source gets the guest back."""
    source = await world.boot()
    log = await leave(world, source, **at_command("claim"))
    left = destination_of(log)
    os.kill(left["process"]["pid"], signal.SIGSTOP)  # out of reach
    rewrite(log, lambda line: _with_host(line, machine_id="other", boot_id="another"))
    end = await settle(log, fenced=frozenset({Side.DESTINATION}))
    assert end.verdict == FAILED
    assert lives(left["process"]["pid"])
    assert source.status() == "running"


@pytest.mark.parametrize("side", Side)
async def test_a_side_that_is_seen_alive_is_not_taken_for_fenced(world: World, side: Side) -> None:
    """That would be how a guest comes to run twice."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    with pytest.raises(BadInput, match="ended for good"):
        await resolve(log, fenced=frozenset({side}))
    end = await settle(log)
    assert end.verdict == MOVED


# ---- refused


async def test_a_second_resolution_is_refused_while_the_first_is_at_work(world: World) -> None:
    """The log has one writer."""
    source = await world.boot()
    log = await leave(world, source, **IN_PRECOPY, bandwidth_bytes_per_s=SLOWLY)
    first = Resolution(log)
    work = asyncio.create_task(first.run())
    async for glance in first.progress():
        if glance.phase == "precopy":
            with pytest.raises(BadInput, match="no manager writes to"):
                await resolve(log)
            first.cancel()
    assert (await work).outcome == "cancelled"


async def test_a_torn_tail_is_cut_off(world: World) -> None:
    """What it announced was never begun."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    with log.open("a") as file:
        file.write('{"n": 999, "kind": "comm')
    end = await settle(log)
    assert end.verdict == MOVED
    assert '"comm' not in log.read_text().replace('"command"', "")


@pytest.mark.parametrize("damage", ['{"n": 5, "kind"', '{"n":5,"t_ns":1,"wall_s":0,"kind":"step"}'])
async def test_a_damaged_line_is_named_and_nothing_is_touched(world: World, damage: str) -> None:
    """By its number; who repairs it by hand can go on."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:4], damage, *lines[5:]]) + "\n")
    with pytest.raises(WhimbrelError, match="line 5"):
        await resolve(log)
    assert ask(source.spare, "query-migrate")[0]["status"] == "pre-switchover"
    log.write_text("\n".join(lines) + "\n")
    assert (await settle(log)).verdict == MOVED


async def test_no_log_and_no_log_of_ours(tmp_path: Path) -> None:
    """Each with a sentence that says what is wrong with it."""
    for name, content in (
        ("missing", None),
        ("alien", "hello\n"),
        ("empty", ""),
        ("old", '{"kind":"header","format":1}\n'),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        with pytest.raises(WhimbrelError):
            await resolve(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="a file"):
        await resolve(tmp_path / "pipe")


async def test_a_manager_that_died_before_its_first_line_left_only_a_socket(short_folder: Path) -> None:
    """There is nothing to settle, and the socket is taken away."""
    log = short_folder / "log"
    log.touch()
    control_path(log).touch()
    with pytest.raises(BadInput, match="a log of a migration"):
        await resolve(log)
    assert not control_path(log).exists()


async def test_a_lock_that_a_log_cannot_keep_has_to_be_given_again(world: World) -> None:
    """Without it the guest would run where the lock is not."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    rewrite(log, lambda line: line | {"options": {**line["options"], "locked": True}} if "options" in line else line)
    with pytest.raises(BadInput, match="lock"):
        await resolve(log)
    rewrite(log, lambda line: line | {"options": {**line["options"], "locked": False}} if "options" in line else line)
    assert (await settle(log)).verdict == MOVED


async def test_a_policy_that_cannot_be_made_again_is_replaced(world: World) -> None:
    """By the default, and the report says so."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    rewrite(log, lambda line: line | {"policy": "gone.py:Mine"} if "policy" in line else line)
    end = await settle(log)
    assert end.verdict == MOVED
    assert any("gone.py" in note for note in end.report.notes)


async def test_a_log_of_another_protocol_is_settled_by_asking(world: World) -> None:
    """What its last step says is believed, and both sides are asked."""
    source = await world.boot()
    log = await leave(world, source, **at_command("quiesce"))
    lines = [line for line in read_log(log) if line.get("signal") != "prepare-done"]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    end = await settle(log)
    assert end.verdict == MOVED
    assert any("another version of the protocol" in note for note in end.report.notes)
    await world.check(source, end)


def _with_host(line: dict[str, Any], **changed: str) -> dict[str, Any]:
    """The header as a manager on another host, or before a reboot, would have written it."""
    if line["kind"] != "header":
        return line
    assert set(changed) <= set(Host.__dataclass_fields__)
    return line | {"host": {**line["host"], **changed}}


async def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid), "the destination ends")


async def _end(source: Guest) -> None:
    source.process.kill()
    await asyncio.to_thread(source.process.wait)


@pytest.mark.parametrize("at", [IN_PRECOPY, at_command("continue")], ids=["pre-copy", "before continue"])
async def test_a_log_that_is_overtaken_by_a_later_migration_resumes_nothing(world: World, at: dict[str, Any]) -> None:
    """A person called the first off by hand; the second moved the guest and left the source process standing."""
    source = await world.boot()
    log = await leave(world, source, bandwidth_bytes_per_s=SLOWLY if at is IN_PRECOPY else None, **at)
    ask(source.spare, "migrate_cancel")
    await until(lambda: ask(source.spare, "query-migrate")[0]["status"] == "cancelled", "it is called off by hand")
    await until(lambda: source.status() == "running", "the guest runs on")
    os.kill(int(destination_of(log)["process"]["pid"]), signal.SIGKILL)
    moved = await world.migrate(source, keep_source=True)
    assert moved.verdict == MOVED
    lines = log.read_text()
    with pytest.raises(WhimbrelError, match="is in another migration since: this one is over, and nothing was touched"):
        await settle(log)
    assert source.status() == "postmigrate", "a guest that runs elsewhere was resumed"
    assert world.running(source, moved) == {"destination"}
    assert '"adopted"' not in log.read_text()
    assert log.read_text().startswith(lines)
