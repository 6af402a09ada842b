"""The log: what is written is there at once and whole, or its writer is told."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.qmp_driver.journal import FORMAT, RESERVED_BYTES, Journal, default_directory, is_held, read


def begin(path: Path) -> Journal:
    """A log with its header."""
    journal = Journal.create(path)
    journal.write("header", 0, 1.5, format=FORMAT)
    return journal


def test_a_line_is_there_before_anything_else_happens(tmp_path: Path) -> None:
    """Nothing waits in a buffer: another reader sees each line at once, numbered and stamped."""
    path = tmp_path / "deep" / "er" / "log"
    journal = begin(path)
    journal.write("signal", 7, 2.25, signal="start", where=Path("/x"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"n": 1, "t_ns": 0, "wall_s": 1.5, "kind": "header", "format": FORMAT}
    assert lines[1] == {
        "n": 2, "t_ns": 7, "wall_s": 2.25, "kind": "signal", "signal": "start", "where": "/x",
    }  # fmt: skip
    assert list(read(path)) == lines
    journal.close()


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    """It names paths and addresses that are nobody else's business."""
    begin(tmp_path / "log").close()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_one_writer(tmp_path: Path) -> None:
    """As long as it is open; from then on it holds a log, and is not begun again."""
    path = tmp_path / "log"
    journal = begin(path)
    assert is_held(path)
    with pytest.raises(BadInput, match="no running migration"):
        Journal.create(path)
    journal.close()
    journal.close()
    assert not is_held(path)
    with pytest.raises(BadInput, match="holds something already"):
        Journal.create(path)


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """A manager that was killed leaves a log that nobody holds."""
    path = tmp_path / "log"
    code = (
        "import os, sys; from pathlib import Path; from whimbrel.qmp_driver.journal import Journal\n"
        "journal = Journal.create(Path(sys.argv[1])); journal.write('header', 0, 0.0, format=1)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    manager = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with manager:
        assert manager.stdout is not None
        assert manager.stdout.readline() == "held\n"
        assert is_held(path)
        manager.kill()
    assert not is_held(path)
    assert [line["kind"] for line in read(path)] == ["header"]


def test_nothing_there_is_not_held(tmp_path: Path) -> None:
    """Nor is what can't be opened."""
    assert not is_held(tmp_path / "nowhere")


def test_an_empty_file_may_become_a_log(tmp_path: Path) -> None:
    """As ``mktemp`` makes one."""
    (tmp_path / "log").touch()
    begin(tmp_path / "log").close()


def test_a_place_that_takes_no_file(tmp_path: Path) -> None:
    """Named by the option that it was given with."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "log", tmp_path):
        with pytest.raises(BadInput) as caught:
            Journal.create(path, field="log folder")
        assert caught.value.field == "log folder"


def test_a_full_disk_is_told() -> None:
    """With the log's name and the system's words."""
    journal = Journal(Path("/dev/full"), os.open("/dev/full", os.O_RDWR))
    with pytest.raises(WhimbrelError, match="/dev/full can't be written: No space left"):
        journal.write("signal", 0, 0.0)
    journal.mute()
    journal.write("signal", 0, 0.0)  # what it misses can't be mended: nothing more is tried
    journal.close()


def test_half_a_line_is_told(tmp_path: Path) -> None:
    """A write that was taken in part is no success: a pipe that is nearly full takes only so much."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    journal = Journal(tmp_path / "log", writing)
    with pytest.raises(WhimbrelError, match="took only 4096 of"):
        journal.write("signal", 0, 0.0, detail="x" * 10_000)
    journal.close()
    os.close(reading)


async def test_arming_reserves_room(tmp_path: Path) -> None:
    """Blocks, not length: a reader sees no difference."""
    path = tmp_path / "log"
    journal = begin(path)
    before = path.stat()
    await journal.arm()
    after = path.stat()
    assert after.st_size == before.st_size
    assert (after.st_blocks - before.st_blocks) * 512 >= RESERVED_BYTES
    journal.write("signal", 1, 0.0)
    assert len(list(read(path))) == 2
    journal.close()


async def test_arming_that_fails_is_told(tmp_path: Path) -> None:
    """What can't be made safe against the host's death must stop the migration."""
    reading, writing = os.pipe()
    journal = Journal(tmp_path / "log", writing)
    with pytest.raises(WhimbrelError, match="can't be made safe"):
        await journal.arm()
    journal.close()
    os.close(reading)


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    """Its writer died in the middle of it."""
    path = tmp_path / "log"
    begin(path).close()
    with path.open("ab") as file:
        file.write(b'{"n":2,"t_ns')
    assert [line["n"] for line in read(path)] == [1]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    """All before it can be read."""
    path = tmp_path / "log"
    begin(path).close()
    with path.open("ab") as file:
        file.write(b'{"n":2,"t_\n{"n":3,"t_ns":0,"wall_s":0,"kind":"signal"}\n')
    lines = read(path)
    assert next(lines)["n"] == 1
    with pytest.raises(WhimbrelError, match=r"line 2 of .* is damaged"):
        next(lines)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b'{"kind":"signal"}\n',
        b'{"kind":"header","format":999}\n',
        b"[1]\n",
        b'{"kind":"header"',
        b"\0\0",
    ],
)
def test_what_is_no_log(tmp_path: Path, content: bytes) -> None:
    """Is said to be none."""
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="a log of a migration"):
        list(read(path))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """With the system's words."""
    with pytest.raises(BadInput, match="No such file"):
        list(read(tmp_path / "nowhere"))


def test_where_logs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the desktop's conventions have it."""
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    assert default_directory() == Path("/s/whimbrel/log")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert default_directory() == Path("/h/.local/state/whimbrel/log")


def test_a_log_is_taken_over_at_its_end(tmp_path: Path) -> None:
    """What is there stays, lines are numbered on, and the lock is the new writer's."""
    path = tmp_path / "log"
    begin(path).close()
    journal = Journal.reopen(path)
    assert is_held(path)
    journal.write("note", 9, 2.0, text="mine")
    journal.close()
    assert [(line["n"], line["kind"]) for line in read(path)] == [(1, "header"), (2, "note")]


def test_a_torn_tail_is_cut_off_when_it_is_taken_over(tmp_path: Path) -> None:
    """Otherwise the next line would be damaged by it."""
    path = tmp_path / "log"
    begin(path).close()
    with path.open("a") as file:
        file.write('{"n":2,"kind":"comm')
    journal = Journal.reopen(path)
    journal.write("note", 9, 2.0, text="mine")
    journal.close()
    assert [line["kind"] for line in read(path)] == ["header", "note"]


def test_a_log_that_cannot_be_taken_over(tmp_path: Path) -> None:
    """Held, missing, alien, damaged, or no file at all: each is said, and nothing is changed."""
    path = tmp_path / "log"
    journal = begin(path)
    with pytest.raises(BadInput, match="being looked after"):
        Journal.reopen(path)
    journal.close()
    content = path.read_text() + "damage\n{}\n"
    path.write_text(content)
    with pytest.raises(WhimbrelError, match="line 2"):
        Journal.reopen(path)
    assert path.read_text() == content
    assert not is_held(path)
    with pytest.raises(BadInput, match="No such file"):
        Journal.reopen(tmp_path / "missing")
    with pytest.raises(BadInput, match="a file"):
        Journal.reopen(tmp_path)
    (tmp_path / "alien").write_text("hello\n")
    with pytest.raises(BadInput, match="a log of a migration"):
        Journal.reopen(tmp_path / "alien")


def test_who_only_asks_whether_it_is_held_keeps_nobody_out(tmp_path: Path) -> None:
    """Asking takes the lock for an instant; a writer that comes just then waits that long."""
    path = tmp_path / "log"
    begin(path).close()
    asking = os.open(path, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    timer = threading.Timer(0.015, os.close, (asking,))
    timer.start()
    Journal.reopen(path).close()
    timer.join()
