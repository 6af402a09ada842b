"""The process as a whole: how it starts, what it says, how it ends, and the real driver and others against it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.live_watch import Watch
from tests.sim.wire.processes import Herd, herd, say
from tests.support.guests import BRISK, lives
from whimbrel import Migration, Options
from whimbrel.engine.policy import Objectives
from whimbrel.qmp_driver.destination import Existing
from whimbrel.qmp_driver.processes import read_argv
from whimbrel.sim.qemu import machine
from whimbrel.sim.wire.configuration import Configuration
from whimbrel.sim.wire.program import Program, memory_for, run

MIB = 1 << 20


@pytest.fixture
def simulated(short_folder: Path) -> Generator[Herd, None, None]:
    """What is started ends with the test."""
    with herd(short_folder) as it:
        yield it


async def test_it_is_taken_for_the_qemu(simulated: Herd) -> None:
    """Its vCPUs are threads of the process that serves the monitor, as many as were asked for."""
    it = await simulated.started("-smp", "3")
    ((cpus),) = await say(it, "query-cpus-fast")
    threads: list[int] = [each["thread-id"] for each in cpus]  # type: ignore[attr-defined]
    tasks = {int(each) for each in os.listdir(f"/proc/{it.pid}/task")}
    assert len(set(threads)) == 3
    assert set(threads) < tasks
    assert it.pid not in threads


@pytest.mark.parametrize("how", ["quit", "SIGTERM", "SIGKILL"])
async def test_how_it_ends(simulated: Herd, how: str) -> None:
    """In order: the event, an end of file, code 0, no socket left. Killed: nothing is said."""
    it = await simulated.started()
    async with Watch(it.monitors[0]) as watch:
        if how == "quit":
            assert await watch.ask("quit") == {}
        else:
            os.kill(it.pid, getattr(signal, how))
        code = await it.ended()
        await watch.until(lambda: watch.ended, "an end of file")
    reasons = {"quit": "host-qmp-quit", "SIGTERM": "host-signal"}
    told = [(event.name, event.data) for event in watch.events]
    if how == "SIGKILL":
        assert (code, told) == (-signal.SIGKILL, [])
    else:
        assert (code, told) == (0, [("SHUTDOWN", {"guest": False, "reason": reasons[how]})])
        assert not it.monitors[0].exists()


@pytest.mark.parametrize(
    ("arguments", "plan", "words"),
    [
        (
            ("-qmp", "unix:/nowhere/q,server=on,wait=off"),
            "",
            ["-qmp: Failed to bind socket to /nowhere/q: No such file or directory"],
        ),
        (
            (),
            '{"speed": 0, "gest": {}}',
            ["WHIMBREL_SIM.gest: nothing is known by this name", "WHIMBREL_SIM.speed: 0 is not above 0 and up to 1000"],
        ),
        ((), "/nowhere/plan.json", ["WHIMBREL_SIM: /nowhere/plan.json: No such file or directory"]),
        (("-daemonize",), "", ["-daemonize: a simulated QEMU stays in the foreground"]),
        (("-qmp", "stdio"), "", ["-qmp stdio: a simulated QEMU has no such monitor, only unix: and tcp:"]),
    ],
)
def test_what_it_cannot_start_with(
    arguments: tuple[str, ...], plan: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 1, and everything that is wrong, in QEMU's words or ours."""
    assert run(arguments, {"WHIMBREL_SIM": plan}) == 1
    assert capsys.readouterr().err.splitlines() == [f"qemu-system-x86_64: {each}" for each in words]


def test_a_guest_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    """It is larger than the machine."""
    assert run(("-m", "64"), {"WHIMBREL_SIM": '{"guest": {"zero_bytes": 99999998976}}'}) == 1
    assert "qemu-system-x86_64: guest.zero_bytes: " in capsys.readouterr().err


async def test_a_machine_that_it_does_not_have(simulated: Herd) -> None:
    """The process ends, with the words of the QEMU that is simulated."""
    it = simulated.start("-machine", "nonsense")
    assert await it.ended() == 1
    assert it.stderr.startswith("qemu-system-x86_64: unsupported machine type")


async def test_a_mistake_of_the_model_is_no_silence(short_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It dies as of a failed assertion, and says where."""
    words = ("-m", "64", "-qmp", f"unix:{short_folder}/q,server=on,wait=off")
    plan = Configuration()
    described = machine.read(list(words), plan.version)
    memory = memory_for(plan, described)
    program = Program(words, plan, memory, [])
    program.listen(described.monitors)
    running = asyncio.create_task(program.run())

    def mistaken(now_ns: int) -> None:
        raise ZeroDivisionError("a mistake")

    memory.halt = mistaken  # type: ignore[method-assign]
    _, writer = await asyncio.open_unix_connection(f"{short_folder}/q")
    writer.write(b'{"execute":"qmp_capabilities"}{"execute":"stop"}')
    async with asyncio.timeout(10):
        assert await running == -signal.SIGABRT
    assert "ZeroDivisionError: a mistake" in capfd.readouterr().err
    writer.close()
    await writer.wait_closed()


async def test_qmp_shell(simulated: Herd) -> None:
    """The shell of QEMU's own client library: commands typed in, answers and events read."""
    it = await simulated.started()
    shell = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "qemu.qmp.qmp_shell", str(it.monitors[0]),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    typed = b"query-status\nmigrate-set-parameters downtime-limit=77\nnosuch\nstop\nquery-migrate-parameters\nquit\n"
    async with asyncio.timeout(20):
        said = (await shell.communicate(typed))[0].decode()
    assert '"status": "running"' in said, said
    assert "The command nosuch has not been found" in said, said
    assert '"downtime-limit": 77' in said, said
    assert await it.ended() == 0


def options(folder: Path, **wanted: Any) -> Options:
    """Of a migration with a log in the test's folder."""
    return Options(waits=BRISK, reconnect_s=1.0, log_path=folder / "log", **wanted)


async def test_the_driver_starts_a_destination_from_its_command_line(simulated: Herd, short_folder: Path) -> None:
    """From what stands in /proc, in the virtual environment and with the plan of the command line."""
    plan = json.dumps({"link": {"bandwidth_bytes_per_s": 2e8}, "seed": 5}).replace(",", ",,")
    it = await simulated.started("-fw_cfg", f"name=opt/whimbrel.sim,string={plan}")
    migration = Migration(it.monitors[0], options=options(short_folder))
    report = await migration.run()
    pid = int(report.facts["destination_pid"])
    try:
        words = read_argv(pid)
        assert report.moved
        assert words[words.index("-fw_cfg") + 1] == f"name=opt/whimbrel.sim,string={plan}"
        assert await it.ended() == 0
    finally:
        os.kill(pid, signal.SIGKILL)
    while lives(pid):
        await asyncio.sleep(0.001)  # its end is under way


@pytest.mark.parametrize(
    ("version", "course"),
    [
        ("10.0", r"setup p1 active STOP pre-switchover device p\+ completed"),
        ("11.1", r"setup active STOP pre-switchover device completed"),
    ],
)
async def test_later_qemus(simulated: Herd, short_folder: Path, version: str, course: str) -> None:
    """The driver moves a guest between them, and their events come in their own order."""
    plan = json.dumps({"version": version})
    machine = f"pc-i440fx-{version}"
    source = simulated.start("-machine", machine, plan=plan)
    destination = simulated.start("-machine", machine, "-S", "-incoming", "defer", plan=plan)
    await source.up()
    await destination.up()
    wanted = options(short_folder, keep_source=True)
    async with Watch(source.monitors[1]) as here:
        report = await Migration(source.monitors[0], Existing(destination.monitors[0]), wanted).run()
        await here.until_event("completed")
    assert report.moved
    assert re.fullmatch(course, here.course), here.course
    numbers = here.greeting["QMP"]["version"]["qemu"]
    assert f"{numbers['major']}.{numbers['minor']}" == version


@pytest.mark.parametrize("speed", [10, 100])
async def test_time_runs_as_fast_as_it_is_told(simulated: Herd, short_folder: Path, speed: int) -> None:
    """By QEMU's own account a second and more passed, in a fraction of it; both sides' times of day agree."""
    guest = {"writers": [{"name": "cold", "size_bytes": 8 * MIB}], "zero_bytes": 12 * MIB}
    plan = json.dumps({"speed": speed, "guest": guest})
    source, destination = simulated.start(plan=plan), simulated.start("-S", "-incoming", "defer", plan=plan)
    await source.up()
    await destination.up()
    goal = Objectives(bandwidth_bytes_per_s=8 * MIB, downtime_s=2.0)
    wanted = options(short_folder, objectives=goal, keep_source=True)
    began_s = asyncio.get_running_loop().time()
    async with Watch(source.monitors[1]) as here, Watch(destination.monitors[1]) as there:
        report = await Migration(source.monitors[0], Existing(destination.monitors[0]), wanted).run()
        spent_s = asyncio.get_running_loop().time() - began_s
        info = await here.ask("query-migrate")
        await there.until_event("RESUME")
        (stopped_s,), (resumed_s,) = here.stamps("STOP"), there.stamps("RESUME")
    assert report.moved
    assert info["total-time"] > 900
    assert info["total-time"] / 1000 < spent_s * speed
    assert 0 < resumed_s - stopped_s < spent_s * speed
