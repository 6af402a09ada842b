"""Logs that say too little, too much, or what is over by now: refused with the reason, or settled by asking."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests import World, ask, read_log, until
from tests.support.settling import (
    IN_PRECOPY,
    SLOWLY,
    at_command,
    destination_of,
    leave,
    rewrite,
    settle,
)
from tests.support.taps import MOVED
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.qmp_driver.control import control_path
from whimbrel.resolving import Resolution, resolve


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
