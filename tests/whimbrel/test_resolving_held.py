"""Migrations that can't be settled at once, or are settled already: nothing is done twice, and nothing in doubt."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.support.guests import World, lives, read_log
from tests.support.settling import (
    at_command,
    destination_of,
    leave,
    rewrite,
    settle,
    with_host,
)
from tests.support.taps import FAILED, MOVED
from whimbrel.engine.errors import BadInput
from whimbrel.engine.states import Side
from whimbrel.qmp_driver.control import control_path
from whimbrel.resolving import resolve


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
    rewrite(log, lambda line: with_host(line, machine_id="other", boot_id="another"))
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
