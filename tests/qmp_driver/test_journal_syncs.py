"""The log is never synced while the guest stands still: seen from outside, in the manager's own system calls."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from dataclasses import dataclass

import pytest

from tests.support.guests import PATIENCE_S, World, read_log, until
from tests.support.mortal_manager import ROOT, Orders, command_for

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
CALL = re.compile(r"^\d+\s+(?P<at_s>\d+\.\d+) (?P<name>\w+)\((?P<rest>.*)$")
LINE_BYTES = 400
"""So much of each line of the log is enough to tell what it is."""


@dataclass(frozen=True)
class Call:
    """A system call of the manager, as strace saw it begin."""

    name: str
    rest: str

    def writes(self, *words: str) -> bool:
        """Whether it writes a line of the log with these words in it."""
        text = self.rest.replace('\\"', '"')
        return self.name == "write" and all(word in text for word in words)


async def traced(world: World) -> list[Call]:
    """Move a guest by a manager under strace; its writes and syncs, in order."""
    strace = shutil.which("strace")
    assert strace is not None, "strace is not installed: apt-get install strace"
    source = await world.boot()
    log, trace = world.folder / "log", world.folder / "trace"
    orders = Orders(log=str(log), source=str(source.qmp), source_pid=source.pid)
    traced_calls = f"trace=write,{','.join(SYNCS)}"
    command = (strace, "-f", "--seccomp-bpf", "-ttt", "-s", str(LINE_BYTES), "-e", traced_calls, "-o", str(trace))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(world.folder)}
    process = await asyncio.create_subprocess_exec(
        *command, *command_for(orders), cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            facts = json.loads(await process.stdout.readline())["destination"]
        world.hear(facts)
        await until(lambda: '"kind":"end"' in log.read_text(), "the migration ends")
        # The destination is the manager's child, so strace follows it, and would do so for as long as it lives.
        os.kill(facts["destination_pid"], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert read_log(log)[-1]["report"]["outcome"] == "completed"
    found = (CALL.match(line) for line in trace.read_text(errors="replace").splitlines())
    return [Call(match["name"], match["rest"]) for match in found if match is not None]


def place(calls: list[Call], *words: str) -> int:
    """Where the line of the log with these words is written."""
    return next(number for number, call in enumerate(calls) if call.writes(*words))


@pytest.mark.timeout(60)
async def test_nothing_is_synced_from_arming_until_the_destination_runs(world: World) -> None:
    """Once, at arming, the log and its folder are; a disk that hangs can then hold up no switchover."""
    calls = await traced(world)
    armed = place(calls, '"kind":"command"', '"command":"migrate"')
    stopped = place(calls, '"kind":"command"', '"command":"continue"')
    running = place(calls, '"kind":"signal"', '"signal":"destination-running"')
    assert armed < stopped < running
    before = [call.name for call in calls[:armed] if call.name in SYNCS]
    assert before == ["fdatasync", "fsync"], "strace sees what is synced at arming"
    assert [call for call in calls[armed:running] if call.name in SYNCS] == []
    # The window is a window: the log was written in it, line by line.
    assert sum(call.writes('"kind":') for call in calls[stopped:running]) >= 8
