"""The guardian: it acts when its manager dies, and only then; on pretended settlements first, then on real guests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import PROGRAM, destination_lives, hear_log, running, transfers
from tests.support.guests import Guest, World, lives, read_log, state_of, until
from whimbrel import Migration, Objectives, Options, guardian
from whimbrel.guardian import Guardian
from whimbrel.logbook import report_of
from whimbrel.qmp_driver.journal import is_held

MANAGER, DYING = (Path(__file__).parents[1] / "support" / f"{name}_manager.py" for name in ("guarded", "dying"))

PRETENDED = """
import json, os, pathlib, sys
folder = pathlib.Path(__file__).parents[1]
calls = folder / "calls"
answers = json.loads((folder / "answers").read_text())
done = calls.read_text().count("\\n") if calls.exists() else 0
code, guest = answers[min(done, len(answers) - 1)]
call = {
    "argv": sys.argv[1:], "cwd": os.getcwd(), "session": os.getsid(0),
    "streams": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
}
with calls.open("a") as file:
    file.write(json.dumps(call) + "\\n")
print("attempt", done + 1)
if guest:
    with open(sys.argv[2], "a") as log:
        log.write(json.dumps({"kind": "end", "report": {"guest": guest}}) + "\\n")
sys.exit(code)
"""
"""What the guardian runs in place of ``whimbrel``: notes that it was called, and ends as ``answers`` says."""

HEADER = '{"kind":"header"}\n'


class Place:
    """A folder with a log and a pretended ``whimbrel``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.write_text(HEADER)
        self.told = folder / "log.guardian"
        (folder / "whimbrel").mkdir()
        (folder / "whimbrel" / "__init__.py").touch()
        (folder / "whimbrel" / "__main__.py").write_text(PRETENDED)

    def answer(self, *answers: tuple[int, str]) -> None:
        """Say how the settlements end, one after the other: the exit code, and the guest in the end that is logged."""
        (self.folder / "answers").write_text(json.dumps(answers))

    def calls(self) -> list[dict[str, Any]]:
        """The settlements that were tried."""
        calls = self.folder / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


class Manager:
    """A process with a guardian."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.guardian = int(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, word: str) -> str:
        """Have it do something; what it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self._read()

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()


@contextmanager
def a_manager(place: Place, *pauses_s: float, stdin_closed: bool = False) -> Generator[Manager]:
    """Start one; it and its guardian end with the block."""
    words = [sys.executable, "-P", str(MANAGER), str(place.log), str(place.folder), *map(str, pauses_s)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=place.folder
    )
    manager: Manager | None = None
    try:
        manager = Manager(process)
        yield manager
    finally:
        for pid in (process.pid, manager.guardian if manager is not None else 0):
            if pid and lives(pid):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place in which a settlement succeeds at once."""
    place = Place(tmp_path)
    place.answer((0, "running"))
    return place


async def test_a_manager_that_is_killed_has_its_migration_settled(place: Place) -> None:
    """``resolve`` with the log, once, from a folder and a session of its own; nothing is left behind."""
    with a_manager(place) as manager:
        session = os.getsid(manager.guardian)
        manager.kill()
        await until(lambda: not lives(manager.guardian), "the guardian ends")
    (call,) = place.calls()
    assert call["argv"] == ["resolve", str(place.log)]
    assert (call["cwd"], call["session"]) == ("/", session)
    assert call["streams"] == ["/dev/null", str(place.told), str(place.told)]
    assert session == manager.guardian
    assert not place.told.exists()


async def test_its_whole_process_group_killed_is_the_same(place: Place) -> None:
    with a_manager(place) as manager:
        os.killpg(manager.process.pid, signal.SIGKILL)
        manager.process.wait()
        await until(lambda: not lives(manager.guardian), "the guardian ends")
    assert len(place.calls()) == 1


async def test_after_a_farewell_nothing_happens(place: Place) -> None:
    """The guardian has ended, waited for, when the farewell has been said; saying it again is nothing."""
    with a_manager(place) as manager:
        assert manager.say("farewell") == "done"
        assert state_of(manager.guardian) == ""
        assert manager.say("farewell") == manager.say("abandon") == "done"
        manager.kill()
    assert place.calls() == []


async def test_a_manager_that_lives_but_lost_its_migration_leaves_it(place: Place) -> None:
    with a_manager(place) as manager:
        assert manager.say("abandon") == "done"
        await until(lambda: not lives(manager.guardian), "the guardian ends")
        assert len(place.calls()) == 1


async def test_a_stopped_manager_is_alive(place: Place) -> None:
    """While it stands the guardian sleeps, and it gets its farewell when it goes on."""
    with a_manager(place) as manager:
        await until(lambda: _waits_in_poll(manager.guardian), "the guardian waits")
        os.kill(manager.process.pid, signal.SIGSTOP)
        await until(lambda: state_of(manager.process.pid) == "T", "the manager stands")
        assert _waits_in_poll(manager.guardian)
        os.kill(manager.process.pid, signal.SIGCONT)
        assert manager.say("farewell") == "done"
    assert place.calls() == []


async def test_a_forked_child_that_outlives_the_manager_hides_nothing(place: Place) -> None:
    """It holds a copy of the line, as children of multiprocessing do."""
    with a_manager(place) as manager:
        child = int(manager.say("fork"))
        await until(lambda: _waits_in_poll(manager.guardian), "the guardian waits")
        try:
            manager.kill()
            await until(lambda: not lives(manager.guardian), "the guardian ends")
        finally:
            os.kill(child, signal.SIGKILL)
    assert len(place.calls()) == 1


async def test_a_manager_without_streams_has_one_too(place: Place) -> None:
    """A daemon that closed its own has the line on their numbers."""
    program = (
        "import os, signal, sys; from whimbrel.guardian import Guardian; sys.path.insert(0, sys.argv[2]);"
        "os.closerange(0, 3); guardian = Guardian.start(sys.argv[1], ());"
        "open(sys.argv[2] + '/pid', 'w').write(str(guardian.pid)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", program, place.log, place.folder)
    assert await process.wait() == -signal.SIGKILL
    pid = int((place.folder / "pid").read_text())
    await until(lambda: not lives(pid), "the guardian ends")
    assert len(place.calls()) == 1


async def test_what_cannot_be_settled_is_tried_again(place: Place) -> None:
    """Exit code 5, an interpreter that breaks (1, and the log has no end), one that was killed; then it works."""
    place.answer((5, "held"), (1, ""), (137, ""), (2, ""), (4, "running"))
    with a_manager(place, 0.01, 0.01, 0.01, 0.01, 0.01) as manager:
        manager.kill()
        await until(lambda: not lives(manager.guardian), "the guardian ends")
    assert len(place.calls()) == 5
    assert not place.told.exists()


@pytest.mark.parametrize(("code", "guest"), [(0, "running"), (1, "lost"), (4, "running"), (4, "unconfirmed")])
async def test_what_was_settled_is_not_tried_again(place: Place, code: int, guest: str) -> None:
    """However it ended; unconfirmed and 4: it was called off before anything was begun."""
    place.answer((code, guest))
    with a_manager(place, 0.01) as manager:
        manager.kill()
        await until(lambda: not lives(manager.guardian), "the guardian ends")
    assert len(place.calls()) == 1
    assert not place.told.exists()


async def test_what_stays_unsettled_is_left_to_a_person(place: Place) -> None:
    """With what was said last beside the log."""
    place.answer((5, "held"))
    with a_manager(place, 0.01, 0.01) as manager:
        manager.kill()
        await until(lambda: not lives(manager.guardian), "the guardian ends")
    assert len(place.calls()) == 3
    assert place.told.read_text() == "attempt 3\n"


@pytest.mark.parametrize(("log", "calls"), [("empty", 1), ("gone", 0)])
async def test_where_nothing_was_begun_nothing_is_tried_again(place: Place, log: str, calls: int) -> None:
    """Of an empty log `resolve` has but to clear the control socket away, and says that it is no log."""
    place.log.write_text("") if log == "empty" else place.log.unlink()
    place.answer((2, ""))
    with a_manager(place, 0.01) as manager:
        manager.kill()
        await until(lambda: not lives(manager.guardian), "the guardian ends")
    assert len(place.calls()) == calls
    assert not place.told.exists()


async def test_a_ctrl_c_or_a_closed_terminal_does_not_end_it_and_sigterm_does(place: Place) -> None:
    with a_manager(place) as manager:
        await until(lambda: _waits_in_poll(manager.guardian), "the guardian waits")
        os.kill(manager.guardian, signal.SIGINT)
        os.kill(manager.guardian, signal.SIGHUP)
        assert _ignored(manager.guardian) >= {signal.SIGINT, signal.SIGHUP}
        assert lives(manager.guardian)
        os.kill(manager.guardian, signal.SIGTERM)
        await until(lambda: not lives(manager.guardian), "the guardian ends")
        assert manager.say("farewell") == "done"
    assert place.calls() == []


async def test_it_holds_nothing_of_its_manager(place: Place, tmp_path: Path) -> None:
    """Neither its folder nor its streams nor a file that it lets children inherit; and it has loaded little."""
    with a_manager(place) as manager:
        await until(lambda: _waits_in_poll(manager.guardian), "the guardian waits")
        entry = Path(f"/proc/{manager.guardian}")
        held = {int(each.name): os.readlink(each) for each in (entry / "fd").iterdir()}
        assert [held.pop(number) for number in range(3)] == ["/dev/null"] * 3
        assert sorted(link.partition(":")[0] for link in held.values()) == ["anon_inode", "socket"]
        assert (entry / "cwd").readlink() == Path("/")
        resident_bytes = int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        assert resident_bytes < 16 << 20
        assert manager.say("farewell") == "done"


def test_without_an_interpreter_there_is_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen programs have none, and what can't be started is an `OSError`; no descriptor is left."""
    before = os.listdir("/proc/self/fd")
    for executable in ("", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(OSError, match=r"interpreter|No such file"):
            Guardian.start(place.log)
    assert os.listdir("/proc/self/fd") == before


def test_it_imports_nothing_that_it_does_not_need() -> None:
    """It is run by its path, so anything of ours would not be found, and would cost memory."""
    program = f"import sys; exec(open({guardian.__file__!r}).read(), {{'__name__': 'it'}}); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert not loaded & {"whimbrel", "asyncio", "subprocess", "json", "pathlib", "typing", "msgspec"}


# ---- real guests


def ended(log: Path) -> bool:
    """Whether a log has its end."""
    return bool(read_log(log)[-1]["kind"] == "end")


async def settled(world: World, source: Guest, log: Path) -> dict[str, Any]:
    """Wait until the guardian has settled a migration; the report. Demand that the guest runs on one side only.

    And that nothing is left: no guardian, no settlement, no socket, no file but the log.
    """
    lines = read_log(log)
    guardian_pid = int(lines[0]["guardian_pid"])
    await until(lambda: not lives(guardian_pid), "the guardian ends")
    lines = hear_log(world, log)
    assert lines[-1]["kind"] == "end"
    assert is_held(log) is False
    assert sorted(each.name for each in log.parent.iterdir()) == [log.name]
    report: dict[str, Any] = lines[-1]["report"]
    assert report["guest"] == "running"
    if report["owner"] == "destination":
        await until(lambda: not source.alive, "the source process ends")
    else:
        assert source.status() == "running"
        assert not destination_lives(world)
    await world.check_beats(report["owner"])
    return report


@pytest.mark.parametrize("whole_group", [False, True], ids=["the process", "its group"])
async def test_a_migration_killed_in_its_transfer_is_settled(world: World, tmp_path: Path, whole_group: bool) -> None:
    """By nobody's help, and it is the same migration that is carried on."""
    folder = tmp_path / "logs"
    log = folder / "log"
    source = await world.boot()
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "migrate", source.qmp, "--bandwidth", "3MiB/s", "--log", log),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    await transfers(log)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    await process.wait()
    assert not ended(log)
    report = await settled(world, source, log)
    assert (report["outcome"], report["owner"]) == ("completed", "destination")


async def test_a_migration_killed_while_the_guest_stands_stopped_is_settled(world: World, tmp_path: Path) -> None:
    """Unguarded it would stand until somebody came: QEMU has no time limit for it."""
    log = tmp_path / "logs" / "log"
    source = await world.boot()
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", DYING, source.qmp, log, "guarded")
    assert await process.wait() == -signal.SIGKILL
    assert not ended(log)
    report = await settled(world, source, log)
    assert report["outcome"] in ("completed", "cancelled", "failed")


async def test_a_guardian_tries_again_when_a_side_is_back(world: World, tmp_path: Path) -> None:
    """Somebody else has the source's monitor as soon as the manager is dead, and through the first attempt."""
    log = tmp_path / "logs" / "log"
    source = await world.boot()
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", DYING, source.qmp, log, "guarded")
    with socket.socket(socket.AF_UNIX) as holder:
        await until(lambda: log.exists() and '"command":"prepare"' in log.read_text(), "the manager has the monitor")
        holder.connect(str(source.qmp))  # it waits its turn, and is the first in the queue
        assert await process.wait() == -signal.SIGKILL
        await until(lambda: ended(log), "the end of the first attempt")
        assert read_log(log)[-1]["report"]["guest"] == "unconfirmed"
        await until(lambda: "when the source can be reached again" in log.with_name("log.guardian").read_text(), "told")
    report = await settled(world, source, log)
    assert (report["owner"], report["guest"]) == ("source", "running")


@pytest.mark.parametrize("way", ["completed", "cancelled", "failed"])
async def test_a_guardian_ends_with_its_migration(world: World, tmp_path: Path, way: str) -> None:
    """However that ends, and before `run` returns; so it does where the source could not even be reached."""
    log = tmp_path / "log"
    source = await world.boot()
    slow = Objectives(bandwidth_bytes_per_s=1 << 20) if way != "completed" else Objectives()
    monitor = source.qmp if way != "failed" else world.folder / "nobody"
    migration = Migration(monitor, options=Options(log_path=log, guardian=True, objectives=slow))
    run = asyncio.ensure_future(migration.run())
    async for glance in migration.progress():
        if glance.phase == "precopy" and way == "cancelled":
            migration.cancel()
    await asyncio.wait([run])
    error = run.exception()
    assert migration.report is not None
    assert (migration.report.outcome, error is None) == (way, way == "completed")
    (header, *_) = hear_log(world, log)
    assert state_of(header["guardian_pid"]) == ""
    assert not log.with_name("log.guardian").exists()


async def test_where_none_can_be_started_the_migration_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a note; and the log can be read."""
    log = tmp_path / "log"
    source = await world.boot()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    report = await Migration(source.qmp, options=Options(log_path=log, guardian=True)).run()
    hear_log(world, log)
    (note,) = (note for note in report.notes if "guardian" in note)
    assert note == "no guardian, so nobody settles it should this process be killed: No such file or directory"
    assert report_of(log).notes == report.notes
    await world.check_beats("destination")


async def test_a_migration_without_one_has_none(world: World, tmp_path: Path) -> None:
    """The library starts none unless it is told to; the command line can be told not to."""
    log = tmp_path / "log"
    source = await world.boot()
    async with running("migrate", source.qmp, "--no-guardian", "--log", log) as command:
        assert await command.end() == 0
    assert hear_log(world, log)[0]["guardian_pid"] is None
    assert Options().guardian is False


def _waits_in_poll(pid: int) -> bool:
    """Whether a guardian sleeps with all that it watches: the line and its manager."""
    try:
        links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return state_of(pid) == "S" and any("pidfd" in link for link in links) and len(links) == 5


def _ignored(pid: int) -> set[int]:
    """The signals that a process ignores."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn:"))
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
