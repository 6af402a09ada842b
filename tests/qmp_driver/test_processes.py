"""Processes: named beyond doubt, read truly, watched without polling, killed for certain."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from whimbrel.engine.errors import PreparationFailed, WhimbrelError
from whimbrel.qmp_driver.processes import (
    ProcessIdentity,
    QemuProcess,
    binary_of,
    find_waiting_in,
    identify_peer,
    is_alive,
    read_argv,
    read_cwd,
    split_launcher,
)

BOTH_LOOPS = True  # see conftest.py

NO_PID = 2**22 + 1
"""Above the greatest pid that Linux gives out (PID_MAX_LIMIT)."""

SLEEP = shutil.which("sleep") or "sleep"


@contextmanager
def running(*argv: str | bytes | Path, cwd: Path | None = None) -> Generator[subprocess.Popen[bytes]]:
    """A process that somebody else started; it is past its exec when this yields."""
    with subprocess.Popen(argv, cwd=cwd, stdin=subprocess.PIPE) as process:
        try:
            # Popen returns while the kernel is still within exec, which sets the arguments last.
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
                os.sched_yield()
            yield process
        finally:
            process.kill()


def popen(*argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=subprocess.PIPE)


@contextmanager
def zombie() -> Generator[int]:
    """A process that has ended and was not reaped."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


Spawn = Callable[..., Awaitable[QemuProcess]]


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """``QemuProcess.spawn`` with a file for standard error; what it starts is ended with the test."""
    started: list[QemuProcess] = []

    async def start(*argv: str, cwd: Path | None = None) -> QemuProcess:
        process = await QemuProcess.spawn(argv, stderr_path=tmp_path / "stderr", cwd=cwd)
        started.append(process)
        return process

    yield start
    for process in started:
        await process.kill()


def test_a_process_is_named_by_pid_and_start() -> None:
    """Ours lives; another start time with the same pid is another process; a pid that nobody has is an error."""
    me = identify_peer(os.getpid())
    assert me.pid == os.getpid()
    assert me == identify_peer(os.getpid())
    assert is_alive(me)
    assert not is_alive(ProcessIdentity(me.pid, me.start_ticks + 1))
    assert not is_alive(ProcessIdentity(NO_PID, 1))
    with pytest.raises(WhimbrelError, match=f"there is no process {NO_PID}"):
        identify_peer(NO_PID)


def test_a_child_started_later_than_we_did() -> None:
    """The number read is the start time and no other field of the line."""
    with running(SLEEP, "1000") as child:
        mine, its = identify_peer(os.getpid()).start_ticks, identify_peer(child.pid).start_ticks
        uptime_ticks = float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK")
        assert mine <= its <= uptime_ticks + 1


def test_a_program_whose_name_looks_like_the_line_around_it(tmp_path: Path) -> None:
    """Blanks and parentheses in a program's name do not shift the fields behind it."""
    program = tmp_path / ") Z 1 (2) 3"
    shutil.copy(SLEEP, program)
    with running(program, "1000") as odd, running(SLEEP, "1000") as plain:
        assert is_alive(identify_peer(odd.pid))
        assert 0 <= identify_peer(plain.pid).start_ticks - identify_peer(odd.pid).start_ticks <= 1000


def test_a_process_that_ended_and_was_not_reaped_is_not_alive() -> None:
    with zombie() as pid:
        assert not is_alive(identify_peer(pid))
        with pytest.raises(WhimbrelError, match="has no argument vector: it has ended"):
            read_argv(pid)


def test_argument_vectors_come_back_as_they_were_given() -> None:
    """Empty words, blanks, line ends, and bytes that are no UTF-8."""
    argv = ("sh", "-c", "read x", "", "two words", "line\nend", os.fsdecode(b"\xe9"), "")
    with running(*argv) as process:
        assert read_argv(process.pid) == argv


def test_what_cannot_be_read_says_so() -> None:
    for read in (read_argv, binary_of, read_cwd):
        with pytest.raises(WhimbrelError, match=f"there is no process {NO_PID}"):
            read(NO_PID)


def test_a_working_directory(tmp_path: Path) -> None:
    with running(SLEEP, "1000", cwd=tmp_path) as process:
        assert read_cwd(process.pid) == tmp_path


@pytest.mark.parametrize(
    ("argv", "launcher"),
    [
        (["qemu-system-x86_64", "-S"], 1),
        (["/usr/bin/qemu-system-x86_64"], 1),
        (["/lib64/ld-linux-x86-64.so.2", "/opt/qemu", "-S"], 2),
        (["ld-linux-x86-64.so.2", "--library-path", "/opt/lib", "/opt/qemu", "-L", "x"], 4),
        (["ld.so", "--inhibit-cache", "--argv0", "qemu", "/opt/qemu"], 5),
    ],
)
def test_what_starts_the_program_is_told_from_its_arguments(argv: list[str], launcher: int) -> None:
    assert split_launcher(argv) == (tuple(argv[:launcher]), tuple(argv[launcher:]))


@pytest.mark.parametrize("argv", [[], ["ld-linux-x86-64.so.2"], ["ld-linux-x86-64.so.2", "--library-path", "x"]])
def test_no_program_is_an_error(argv: list[str]) -> None:
    with pytest.raises(WhimbrelError, match="no program in the argument vector"):
        split_launcher(argv)


def test_the_program_file_of_a_process(tmp_path: Path) -> None:
    """Links are followed, and a file that was replaced under its process is named without the kernel's remark."""
    assert binary_of(os.getpid()) == Path(sys.executable).resolve()
    program = tmp_path / "program"
    shutil.copy(SLEEP, program)
    with running(program, "1000") as process:
        program.unlink()
        assert binary_of(process.pid) == program


def test_the_program_behind_the_dynamic_loader(tmp_path: Path) -> None:
    """A QEMU that a wrapper starts through ld.so is found, also by a path relative to its own directory."""
    loader = next(Path("/lib64").glob("ld-linux-*.so.*"))
    shutil.copy(SLEEP, tmp_path / "program")
    with running(loader, "--library-path", "/nowhere", "./program", "1000", cwd=tmp_path) as process:
        assert binary_of(process.pid) == tmp_path / "program"


async def test_exit_codes(spawn: Spawn) -> None:
    """A code, or minus the signal; both waits for it agree, as often as they ask."""
    process = await spawn("sh", "-c", "exit 3")
    assert set(await asyncio.gather(process.wait_exit(10), process.wait_exit(None))) == {3}
    assert (process.exited, process.exit_code) == (True, 3)
    process = await spawn("sh", "-c", "kill -TERM $$")
    assert await process.wait_exit(10) == -signal.SIGTERM


async def test_a_child_has_a_session_of_its_own_and_nothing_of_ours(spawn: Spawn, tmp_path: Path) -> None:
    """No descriptor of ours but its standard error; the directory is the one that was asked for."""
    kept = os.pipe()
    os.set_inheritable(kept[0], True)
    report = "echo $$; cut -d' ' -f6 /proc/$$/stat; pwd; cd /proc/$$/fd; echo *; readlink 0 1 2"
    process = await spawn("sh", "-c", f"({report}) >&2", cwd=tmp_path)
    assert await process.wait_exit(10) == 0
    pid, session, folder, descriptors, *targets = process.stderr_tail().splitlines()
    assert (pid, session) == (str(process.pid), str(process.pid))
    assert folder == str(tmp_path)
    assert descriptors == "0 1 2"
    assert targets == ["/dev/null", "/dev/null", str(tmp_path / "stderr")]
    assert (tmp_path / "stderr").stat().st_mode & 0o777 == 0o600
    for each in kept:
        os.close(each)


async def test_a_deadline_passes_while_it_runs(spawn: Spawn) -> None:
    process = await spawn(SLEEP, "1000")
    with pytest.raises(TimeoutError):
        await process.wait_exit(0.01)
    assert not process.exited
    assert process.exit_code is None
    assert is_alive(process.identity)


async def test_killing_waits_for_the_end_and_may_be_repeated(spawn: Spawn) -> None:
    """After kill() the process is gone from the system: not even a zombie has its pid."""
    process = await spawn("sh", "-c", "trap '' TERM HUP INT; exec sleep 1000")
    assert set(await asyncio.gather(process.kill(), process.kill())) == {-signal.SIGKILL}
    with pytest.raises(WhimbrelError, match="there is no process"):
        identify_peer(process.pid)
    assert await process.kill() == -signal.SIGKILL


async def test_a_child_is_reaped_though_nobody_waits(spawn: Spawn) -> None:
    process = await spawn("true")
    await QemuProcess.attach(process.identity).wait_exit(10)
    for _ in range(1000):  # turns of the loop: the two watchers may be told one after the other
        if not process.exited:
            await asyncio.sleep(0)
    assert process.exited
    with pytest.raises(WhimbrelError, match="there is no process"):
        identify_peer(process.pid)


def reap(pid: int) -> None:
    os.waitpid(pid, 0)


async def test_a_child_that_others_reap_has_no_code(spawn: Spawn) -> None:
    """An embedder that waits for all children takes the code; the end is seen all the same."""
    process = await spawn("true")
    reap(process.pid)
    assert await process.wait_exit(10) is None
    assert process.exited


async def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    cases: list[tuple[list[str], Path, Path | None, str]] = [
        (
            ["no-such-program-here"],
            tmp_path / "e",
            None,
            "cannot start no-such-program-here: No such file or directory",
        ),
        ([str(plain)], tmp_path / "e", None, f"cannot start {plain}: Permission denied"),
        (["true"], tmp_path / "missing" / "e", None, "missing/e: No such file or directory"),
        (["true"], tmp_path / "e", tmp_path / "missing", "missing: No such file or directory"),
        (["true", "zero\0byte"], tmp_path / "e", None, "embedded null byte"),
        ([], tmp_path / "e", None, "cannot start a process: no program was given"),
    ]
    for argv, stderr_path, cwd, reason in cases:
        with pytest.raises(PreparationFailed, match="destination: cannot start") as failed:
            await QemuProcess.spawn(argv, stderr_path=stderr_path, cwd=cwd)
        assert reason in str(failed.value)


async def test_a_child_born_after_its_parent_was_cancelled_is_ended(tmp_path: Path) -> None:
    """Opening a pipe holds the start up until the task is cancelled; the pipe's end shows that the child is dead."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    starting = asyncio.create_task(QemuProcess.spawn([SLEEP, "1000"], stderr_path=pipe))
    await asyncio.sleep(0)  # it has handed its work to a thread, which waits for a reader
    starting.cancel()
    await asyncio.sleep(0)  # it knows that it was cancelled, and only now the start can go on
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await reading == b""


async def test_standard_error_is_kept_and_quoted_from_its_end(spawn: Spawn, tmp_path: Path) -> None:
    """What the file held stays; the tail begins with a whole line; what is no UTF-8 is marked, not an error."""
    (tmp_path / "stderr").write_text("before\n")
    process = await spawn("sh", "-c", r"echo first >&2; echo second >&2; printf '\377last\n\n' >&2")
    await process.wait_exit(10)
    assert process.stderr_tail() == "before\nfirst\nsecond\n�last"
    assert process.stderr_tail(max_bytes=17) == "second\n�last"
    (tmp_path / "stderr").unlink()
    assert process.stderr_tail() == ""


async def test_a_child_of_others_is_watched_and_left_to_be_reaped() -> None:
    """Its end is seen, without a code, and its parent still gets the code."""
    with popen("sh", "-c", "read line; exit 4") as other:
        process = QemuProcess.attach(identify_peer(other.pid))
        assert not process.exited
        other.communicate(b"go\n", timeout=10)
        assert await process.wait_exit(10) is None
        assert process.exited
        assert process.stderr_tail() == ""
    assert other.returncode == 4


async def test_a_process_of_others_can_be_killed() -> None:
    with running(SLEEP, "1000") as other:
        process = QemuProcess.attach(identify_peer(other.pid))
        assert await process.kill() is None
        assert other.wait(10) == -signal.SIGKILL


async def test_attaching_to_what_has_ended_says_so_at_once() -> None:
    """Gone, a zombie, or another process under the same pid, which must not come to harm."""
    gone = QemuProcess.attach(ProcessIdentity(NO_PID, 1))
    assert gone.exited
    assert await gone.wait_exit(0.01) is None
    with zombie() as pid:
        assert QemuProcess.attach(identify_peer(pid)).exited
    with running(SLEEP, "1000") as other:
        now = identify_peer(other.pid)
        earlier = QemuProcess.attach(ProcessIdentity(now.pid, now.start_ticks - 1))
        assert earlier.exited
        assert await earlier.kill() is None
        assert is_alive(now)


async def test_closing_leaves_the_process_alone(spawn: Spawn) -> None:
    process = await spawn(SLEEP, "1000")
    watcher = QemuProcess.attach(process.identity)
    watcher.close()
    watcher.close()
    assert is_alive(process.identity)
    with pytest.raises(WhimbrelError, match="is not watched any more"):
        await watcher.kill()
    assert is_alive(process.identity)


def test_a_loop_that_is_not_in_the_main_thread(tmp_path: Path) -> None:
    """No signal handler and no child watcher is needed."""

    async def work() -> int | None:
        process = await QemuProcess.spawn(["sh", "-c", "exit 5"], stderr_path=tmp_path / "stderr")
        return await process.wait_exit(10)

    async def elsewhere() -> int | None:
        return await asyncio.to_thread(asyncio.run, work())

    assert asyncio.run(elsewhere()) == 5


async def test_a_real_qemu_that_refuses_its_arguments(spawn: Spawn) -> None:
    """Its exit code is known, and its own words can be quoted."""
    process = await spawn("qemu-system-x86_64", "-display", "none", "-no-such-option")
    assert await process.wait_exit(30) == 1
    assert "-no-such-option: invalid option" in process.stderr_tail()


def test_a_child_that_is_let_go_is_reaped_without_a_loop(tmp_path: Path) -> None:
    """The loop is closed, the child ends later: neither a zombie nor a descriptor is left."""

    async def begin() -> ProcessIdentity:
        process = await QemuProcess.spawn([SLEEP, "1000"], stderr_path=tmp_path / "stderr")
        process.close()
        return process.identity

    before = set(os.listdir("/proc/self/fd"))
    child = asyncio.run(begin())
    (reaper,) = [each for each in threading.enumerate() if each.name == f"whimbrel-reaper-{child.pid}"]
    assert reaper.daemon  # so it does not keep our own process from ending
    assert is_alive(child)
    os.kill(child.pid, signal.SIGKILL)
    reaper.join(10)
    assert not reaper.is_alive()
    with pytest.raises(WhimbrelError, match="there is no process"):
        identify_peer(child.pid)
    assert set(os.listdir("/proc/self/fd")) == before


def test_closing_after_the_loop_was_closed(tmp_path: Path) -> None:
    """An embedder that comes too late does no harm, and the child is still reaped."""

    async def begin() -> QemuProcess:
        return await QemuProcess.spawn([SLEEP, "1000"], stderr_path=tmp_path / "stderr")

    process = asyncio.run(begin())
    process.close()
    os.kill(process.pid, signal.SIGKILL)
    for each in threading.enumerate():
        if each.name == f"whimbrel-reaper-{process.pid}":
            each.join(10)
    assert not is_alive(process.identity)
    with pytest.raises(WhimbrelError, match="there is no process"):
        identify_peer(process.pid)


def test_what_waits_in_a_folder_is_found(tmp_path: Path) -> None:
    """By its arguments; who only reads what lies there, or waits elsewhere, is left alone."""
    wait = (sys.executable, "-c", "input()", "-incoming", "defer", "-qmp")
    place = tmp_path / "whimbrel-1234"
    with (
        running(*wait, f"unix:{place}/qmp.sock,server=on") as ours,
        running(*wait, f"unix:{place}567/qmp.sock,server=on"),
        running(sys.executable, "-c", "input()", f"{place}/stderr.log"),
    ):
        assert find_waiting_in(place) == (identify_peer(ours.pid),)
        assert find_waiting_in(str(place)) == (identify_peer(ours.pid),)
    assert find_waiting_in(place) == ()


async def test_a_process_of_an_earlier_boot_has_ended() -> None:
    """Whoever has its pid now is somebody else, and is not killed."""
    me = identify_peer(os.getpid())
    process = QemuProcess.ended(me)
    assert process.exited
    assert process.identity == me
    assert await process.kill() is None
