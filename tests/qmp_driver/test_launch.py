"""Starting a destination, taking one on, and ending either: nothing is left behind that should not be."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from tests.support.bare_qemu import BARE, ODD_RAM, QEMU, BareQemu, bare_qemu, left_in
from tests.support.facts import FACTS
from tests.support.qmp_server import QmpServer, Refusal
from whimbrel.engine.errors import BadInput, CannotConnect, PreflightFailed, PreparationFailed, WhimbrelError
from whimbrel.qmp_driver.launch import StartedDestination, adopt, launch, make_directory, runtime_folder
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import is_alive
from whimbrel.qmp_driver.replies import query_status
from whimbrel.qmp_driver.truth import SourceTruth

BOTH_LOOPS = True  # see conftest.py

MACHINE = ("-machine", "q35", "-m", ODD_RAM)
WAITING = (*MACHINE, "-S", "-incoming", "defer")
SOURCE = SourceTruth(facts=FACTS, process=None, no_process_because="this is a test")


async def start(folder: Path, *arguments: str, timeout_s: float = 30.0) -> StartedDestination:
    directory = make_directory(folder)
    found = {name: str(directory / f"{name}.sock") for name in ("qmp", "qmp-human")}
    monitors = [word for path in found.values() for word in ("-qmp", f"unix:{path},server=on,wait=off")]
    return await launch((QEMU, *BARE, *monitors, *arguments), None, directory, found, timeout_s)


def processes_in(folder: Path) -> list[int]:
    """Processes that have this folder in their argument vector."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


async def until_no_process_is_in(folder: Path) -> None:
    """A bounded wait: of a process that nobody has a handle of there is no event."""
    deadline_s = asyncio.get_running_loop().time() + 10
    while left := processes_in(folder):
        assert asyncio.get_running_loop().time() < deadline_s, left
        await asyncio.sleep(0.01)


async def test_a_started_destination_waits_with_a_free_monitor(tmp_path: Path) -> None:
    """In a session of its own, in a private directory, its standard error in a file; ended without a trace."""
    started = await start(tmp_path, *WAITING, "-serial", "tcp:127.0.0.1:0,server=on,wait=off")
    assert started.owned
    assert started.process is not None
    assert started.directory is not None
    try:
        assert os.getsid(started.process.pid) == started.process.pid
        assert stat.S_IMODE(started.directory.stat().st_mode) == 0o700
        assert started.stderr_path == started.directory / "stderr.log"
        async with await Monitor.connect(started.address, side="destination") as monitor:
            assert (await query_status(monitor)).status == "inmigrate"
    finally:
        await started.discard()
    assert not is_alive(started.process.identity)
    assert left_in(tmp_path) == []
    await started.discard()


async def test_a_qemu_that_dies_at_its_start_is_quoted(tmp_path: Path) -> None:
    """The reason stands on standard error and nowhere else; nothing is left, neither process nor directory."""
    with pytest.raises(PreparationFailed, match=r"ended while it was starting \(exit code 1\).*unheard-of") as caught:
        await start(tmp_path, *WAITING, "-device", "unheard-of")
    assert caught.value.side == "destination"
    assert left_in(tmp_path) == []
    assert processes_in(tmp_path) == []


async def test_a_qemu_that_does_not_wait_is_not_taken(tmp_path: Path) -> None:
    """Without ``-incoming`` it would run a guest of its own."""
    with pytest.raises(PreparationFailed, match="prelaunch"):
        await start(tmp_path, *MACHINE, "-S")
    assert processes_in(tmp_path) == []


async def test_a_program_that_never_answers_is_ended(tmp_path: Path) -> None:
    """The deadline is kept, what it said is quoted, and it is gone."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho I wait >&2\nexec sleep 100\n")
    program.chmod(0o755)
    directory = make_directory(tmp_path)
    found = {name: str(directory / f"{name}.sock") for name in ("qmp", "qmp-human")}
    with pytest.raises(PreparationFailed, match=r"within 0\.5 s; it said: I wait"):
        await launch((str(program), str(tmp_path)), None, directory, found, 0.5)
    assert not directory.exists()
    assert processes_in(tmp_path) == []


async def test_a_program_that_is_missing(tmp_path: Path) -> None:
    """A sentence, and no directory left."""
    directory = make_directory(tmp_path)
    found = {name: str(directory / f"{name}.sock") for name in ("qmp", "qmp-human")}
    with pytest.raises(PreparationFailed, match="nowhere/qemu"):
        await launch(("/nowhere/qemu",), None, directory, found, 1.0)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("turns", [0, 1, 3, 50, 2000])
async def test_a_cancelled_start_leaves_nothing(tmp_path: Path, turns: int) -> None:
    """Wherever in the start it is cancelled: the process is gone and so is its directory when it returns."""
    starting = asyncio.create_task(start(tmp_path, *WAITING))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    try:
        started = await starting
    except asyncio.CancelledError:
        pass
    else:
        await started.discard()  # it had come up before the cancellation was seen
    await until_no_process_is_in(tmp_path)
    assert left_in(tmp_path) == []


async def test_one_that_others_started_is_taken_on(tmp_path: Path) -> None:
    """Its process is watched; told to quit, it ends, and its own directory is left alone."""
    async with bare_qemu(tmp_path, *BARE, *WAITING) as qemu:
        started = await adopt(qemu.socket, SOURCE)
        assert not started.owned
        assert started.process is not None
        assert started.process.identity == qemu.process.identity
        async with await Monitor.connect(qemu.socket, side="destination") as monitor:
            await started.discard(monitor)
        assert await qemu.process.wait_exit(5) == 0
    assert left_in(tmp_path) != []


async def test_one_that_others_started_is_ended_without_a_monitor_too(tmp_path: Path) -> None:
    """Its process is killed: a destination serves one attempt."""
    async with bare_qemu(tmp_path, *BARE, *WAITING) as qemu:
        started = await adopt(qemu.socket, SOURCE)
        await started.discard()
        assert await qemu.process.wait_exit(5) == -9


async def test_one_out_of_reach_cannot_be_said_to_have_ended(tmp_path: Path) -> None:
    """Neither a monitor nor a process: that is an error, not a success."""
    started = StartedDestination(("198.51.100.1", 4444), None, owned=False)
    with pytest.raises(WhimbrelError, match=r"198\.51\.100\.1:4444 can't be reached"):
        await started.discard()


async def listening(qemu: BareQemu) -> None:
    async with await Monitor.connect(qemu.second_socket, side="destination") as monitor:
        await monitor.execute("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})


async def test_one_that_already_listens_is_refused(tmp_path: Path) -> None:
    """Its capabilities can no longer be set. QEMU 7.2 shows it only by its address."""
    async with bare_qemu(tmp_path, *BARE, *WAITING) as qemu:
        await listening(qemu)
        with pytest.raises(PreflightFailed, match="already listens") as caught:
            await adopt(qemu.socket, SOURCE)
    assert [finding.code for finding in caught.value.findings] == ["destination-listens"]


async def test_one_that_runs_a_guest_is_refused(tmp_path: Path) -> None:
    """It was never a destination, or has been one already."""
    async with bare_qemu(tmp_path, *BARE, *MACHINE) as qemu:
        with pytest.raises(PreflightFailed, match="does not wait"):
            await adopt(qemu.socket, SOURCE)


async def test_a_refusal_by_qemu_is_passed_on(tmp_path: Path) -> None:
    """Whatever answers there is no destination."""
    async with QmpServer(tmp_path / "q") as server:
        server.on("query-status", Refusal("no"))
        server.on("query-migrate", {})
        with pytest.raises(WhimbrelError, match="query-status"):
            await adopt(server.address, SOURCE)
    with pytest.raises(CannotConnect):
        await adopt(str(tmp_path / "nowhere"), SOURCE)


def test_private_directories(tmp_path: Path) -> None:
    """Made in the chosen folder, mode 0700, never the same one twice."""
    made = [make_directory(tmp_path) for _ in range(3)]
    assert len(set(made)) == 3
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o700}
    assert {each.parent for each in made} == {tmp_path}


def test_the_folder_for_private_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's runtime folder if it can be used, the one for temporary files otherwise."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder(None) == tmp_path
    for unusable in (tmp_path / "missing", tmp_path / ("x" * 90)):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(unusable))
        assert runtime_folder(None) not in (unusable, tmp_path)
        assert len(str(runtime_folder(None))) < 70


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Missing, too long for sockets below it, or a file."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "missing", long, tmp_path / "file"):
        with pytest.raises(BadInput, match="directory"):
            make_directory(folder)
