"""Starting a destination, taking one on, and ending either: nothing is left behind that should not be."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.support.bare_qemu import BARE, ODD_RAM, QEMU, BareQemu, bare_qemu, left_in
from tests.support.facts import FACTS
from tests.support.qmp_server import Drop, QmpServer, Refusal
from tests.support.relay import relay
from whimbrel.engine.errors import BadInput, CannotConnect, PreflightFailed, PreparationFailed, WhimbrelError
from whimbrel.qmp_driver.launch import (
    StartedDestination,
    adopt,
    end_in,
    launch,
    make_directory,
    quit_if_waiting,
    runtime_folder,
)
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import ProcessIdentity, identify_peer, is_alive
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


async def test_a_relay_is_neither_watched_nor_killed(short_folder: Path) -> None:
    """One that was taken on through a relay is ended by its monitor; the relay lives."""
    path = short_folder / "relay"
    async with bare_qemu(short_folder, *BARE, *WAITING) as qemu, relay(path, qemu.socket) as between:
        started = await adopt(path, SOURCE)
        assert started.process is None
        async with await Monitor.connect(path, side="destination") as monitor:
            await started.discard(monitor)
        assert await qemu.process.wait_exit(5) == 0
        assert is_alive(between.identity)
        await started.discard()  # it is known to have ended


async def test_one_unseen_that_is_cut_off_while_it_quits_is_not_taken_for_ended() -> None:
    """The connection went without an answer: a relay may have died, and the destination not."""
    async with QmpServer() as server:
        server.on("quit", Drop())
        started = StartedDestination(server.address, None, owned=False)
        monitor = await Monitor.connect(server.address, side="destination")
        with pytest.raises(WhimbrelError, match="nobody can say whether it ended"):
            await started.discard(monitor)
        await monitor.close()


async def test_one_unseen_that_agrees_to_quit_and_stays_is_not_taken_for_ended() -> None:
    """Its monitor stands when the time is up; once that is closed too, it has ended."""
    async with QmpServer() as server:
        server.on("quit", {})
        server.on("query-status", {"status": "inmigrate", "running": False})
        started = StartedDestination(server.address, None, owned=False, quit_timeout_s=0.1)
        async with await Monitor.connect(server.address, side="destination") as monitor:
            with pytest.raises(WhimbrelError, match="nobody can say whether it ended"):
                await started.discard(monitor)
            started.quit_timeout_s = 10.0
            again = asyncio.create_task(started.discard(monitor))
            await server.until_received("quit", 2)
            await query_status(monitor)  # answered in order: so was the quit
            assert not again.done()
            server.vanish()
            await again


async def test_a_wrapper_is_not_taken_for_the_qemu(tmp_path: Path) -> None:
    """What was started has QEMU as its child: QEMU is held and killed, and the wrapper ends with it."""
    directory = make_directory(tmp_path)
    found = {name: str(directory / f"{name}.sock") for name in ("qmp", "qmp-human")}
    monitors = [word for path in found.values() for word in ("-qmp", f"unix:{path},server=on,wait=off")]
    argv = ("/bin/sh", "-c", '"$@"; exit 7', "wrapper", QEMU, *BARE, *monitors, *WAITING)
    started = await launch(argv, None, directory, found, 30.0)
    assert started.process is not None
    async with await Monitor.connect(started.address, side="destination") as monitor:
        assert monitor.peer_pid == started.process.pid
    await started.discard()
    await until_no_process_is_in(tmp_path)


async def test_one_that_was_let_go_lives_and_can_be_discarded(tmp_path: Path) -> None:
    """Nothing is held any more, as often as it is let go; ending it works as before."""
    started = await start(tmp_path, *WAITING)
    assert started.process is not None
    identity = started.process.identity
    started.release()
    started.release()
    assert is_alive(identity)
    await started.discard()
    assert not is_alive(identity)
    assert left_in(tmp_path) == []
    started.release()
    await started.discard()


async def until_reaped(identity: ProcessIdentity) -> None:
    """A bounded wait for a process to be gone, not even a zombie."""
    async with asyncio.timeout(10):
        while True:
            try:
                if identify_peer(identity.pid) != identity:
                    return
            except WhimbrelError:
                return
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_many_successes_leave_neither_descriptors_nor_zombies(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Each on a loop of its own that is closed while the destination lives on; it dies much later."""

    async def succeed() -> ProcessIdentity:
        started = await start(tmp_path, *WAITING)
        assert started.process is not None
        started.release()
        return started.process.identity

    async def fail_later(identity: ProcessIdentity) -> None:
        os.kill(identity.pid, signal.SIGKILL)
        await until_reaped(identity)

    async def elsewhere(work: Callable[[], ProcessIdentity]) -> ProcessIdentity:
        return await asyncio.to_thread(work)

    def run() -> ProcessIdentity:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(succeed())

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        identity = asyncio.run(elsewhere(run))
        assert is_alive(identity)
        asyncio.run(fail_later(identity))
    asyncio.run(until_descriptors(before))


async def until_descriptors(count: int) -> None:
    """A bounded wait: the thread that reaped closes its descriptor a moment later."""
    async with asyncio.timeout(10):
        # The loop that looks has descriptors of its own: its selector and the pair it is woken by.
        while len(os.listdir("/proc/self/fd")) > count + 3:
            await asyncio.sleep(0.005)


async def test_only_one_that_waits_for_a_guest_is_made_to_quit(tmp_path: Path) -> None:
    """One that runs a guest is left alone, for the address may be wrong; so is one that nobody reaches."""
    async with bare_qemu(tmp_path, *BARE, *MACHINE) as running:
        assert not await quit_if_waiting(running.socket)
        async with await Monitor.connect(running.socket, side="destination") as monitor:
            assert (await query_status(monitor)).running
    async with bare_qemu(tmp_path, *BARE, *WAITING) as waiting:
        assert await quit_if_waiting(waiting.socket)
        assert await waiting.process.wait_exit(5) == 0
    assert not await quit_if_waiting(str(tmp_path / "nowhere"))


def test_a_directory_is_announced_before_it_is_made(tmp_path: Path) -> None:
    """Whoever comes after us knows of it, whenever we die; where it can't be announced none is made."""
    announced: list[tuple[Path, bool]] = []
    made = make_directory(tmp_path, lambda directory: announced.append((directory, directory.exists())))
    assert announced == [(made, False)]
    assert stat.S_IMODE(made.stat().st_mode) == 0o700

    def refuse(directory: Path) -> None:
        raise WhimbrelError("disk full")

    with pytest.raises(WhimbrelError, match="disk full"):
        make_directory(tmp_path, refuse)
    assert list(tmp_path.iterdir()) == [made]


async def test_what_was_being_started_is_ended_by_its_directory(tmp_path: Path) -> None:
    """Its starter died before it could say more than that; nothing there is as good."""
    started = await start(tmp_path, *WAITING)
    assert started.process is not None
    assert started.directory is not None
    await end_in(started.directory)
    assert await started.process.wait_exit(10) == -signal.SIGKILL
    assert not started.directory.exists()
    await end_in(started.directory)


async def test_an_owned_one_without_a_process_is_not_taken_for_dead() -> None:
    """From another host nobody sees it: it has to say itself that it ends."""
    started = StartedDestination("/nowhere", None, owned=True)
    with pytest.raises(WhimbrelError, match="can't be reached to end it"):
        await started.discard()
