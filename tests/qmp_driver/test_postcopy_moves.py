"""Post-copy on real QEMUs: the guest runs at the destination while its memory follows, and a lost link is mended."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests import End, Guest, World, end_of, read_log
from tests.support.left_behind import Death, die, postcopy_able
from tests.support.taps import MOVED, both, on_signal
from whimbrel.engine.machine import Happened
from whimbrel.engine.policy import Objectives
from whimbrel.engine.signals import Signal
from whimbrel.qmp_driver.runner import Runner
from whimbrel.resolving import resolve

MIB = 1 << 20
ALLOWED = Path("/proc/sys/vm/unprivileged_userfaultfd")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and (not ALLOWED.exists() or ALLOWED.read_text().strip() != "1"),
    reason="post-copy needs userfaultfd, which is for root alone here",
)


def choose(runner: Runner) -> None:
    """Decide for post-copy, as a policy does."""
    asyncio.get_running_loop().call_soon(runner.deliver, Happened(Signal.POSTCOPY_CHOSEN))


@contextmanager
def slowed_down(source: Guest) -> Generator[Callable[..., Any]]:
    """Let memory follow at 4 MiB/s; what it gives asks the source's spare monitor, out of band if wanted."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(source.spare))
        with client.makefile("rwb") as stream:
            stream.readline()

            def ask(command: str, arguments: Any, oob: bool = False) -> Any:
                message = {"exec-oob" if oob else "execute": command, "id": command, "arguments": arguments}
                stream.write(json.dumps(message).encode() + b"\n")
                stream.flush()
                while (answer := json.loads(stream.readline())).get("id") != command:
                    pass
                return answer

            ask("qmp_capabilities", {"enable": ["oob"]})
            ask("migrate-set-parameters", {"max-postcopy-bandwidth": 4 * MIB})
            yield ask


async def move(world: World, source: Guest, *others: Any) -> End:
    """Migrate by post-copy."""
    return await world.migrate(
        source,
        tap=both(on_signal("source-active", choose), *others),
        policy=postcopy_able,
        objectives=Objectives(bandwidth_bytes_per_s=2 * MIB),
    )


async def test_the_guest_runs_before_its_memory_is_there(world: World) -> None:
    """The destination gets its cont at its own postcopy-active; the source is let go when all is over."""
    source = await world.boot()
    end = await move(world, source)
    assert end.verdict == MOVED
    await world.check(source, end)
    assert "postcopy" in end.phases()
    lines = [line.get("signal") for line in read_log(end.log)]
    assert lines.index("destination-running") < lines.index("source-completed")


async def test_a_lost_link_is_mended(world: World) -> None:
    """Both sides give it up, the destination listens anew and the source comes back; no memory is missing."""
    source = await world.boot()
    with slowed_down(source) as ask:

        def cut(runner: Runner) -> None:
            ask("migrate-pause", {}, oob=True)

        end = await move(world, source, on_signal("destination-running", cut))
    assert end.verdict == MOVED
    assert "recovering" in end.phases()
    assert end.commands().count("send-again") == 1, "the first try was too early"
    await world.check(source, end)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param({"kind": "signal", "fields": {"signal": "destination-running"}}, id="running"),
        pytest.param({"kind": "command", "fields": {"command": "resume-destination"}}, id="cont-about-to-be-sent"),
        pytest.param({"kind": "signal", "fields": {"signal": "source-postcopy"}}, id="begun"),
    ],
)
async def test_a_manager_that_died_in_post_copy(world: World, line: dict[str, Any]) -> None:
    """The next one tells the destination to run, if nobody has, and sees the rest of its memory over."""
    source = await world.boot()
    log = world.folder / "left"
    fast = 2 * MIB
    with slowed_down(source):
        await die(Death(source=str(source.qmp), log=str(log), **line, postcopy=True, bandwidth_bytes_per_s=fast))
    for each in read_log(log):
        if each["kind"] == "learnt":
            world.hear(each["facts"])
    end = end_of(await resolve(log), log)
    assert end.verdict == MOVED
    await world.check(source, end)
