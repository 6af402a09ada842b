"""The socket beside the log: who may ask what, and what happens to those who say nothing."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from whimbrel.engine.errors import CannotConnect
from whimbrel.qmp_driver.control import LONGEST_SOCKET_PATH_BYTES, ControlServer, ask, control_path

BOTH_LOOPS = True


class Manager:
    """What a control socket stands before."""

    def __init__(self, log: Path) -> None:
        self.cancelled = 0
        self.ended = asyncio.Event()
        self.server = ControlServer(log, cancel=self._cancel, status=self._status, ended=self.ended)

    def _cancel(self) -> None:
        self.cancelled += 1

    def _status(self) -> dict[str, object]:
        return {"phase": "completed" if self.ended.is_set() else "precopy"}


@pytest.fixture
def log(short_folder: Path) -> Path:
    """A log's path, short enough for a socket beside it."""
    return short_folder / "move.jsonl"


async def test_the_status_is_told(log: Path) -> None:
    """To anybody who asks, as often as they ask; nothing is called off by it."""
    manager = Manager(log)
    async with manager.server:
        assert await ask(log, "status", timeout_s=5) == {"phase": "precopy"}
        assert await ask(log, "status", timeout_s=5) == {"phase": "precopy"}
    assert manager.cancelled == 0


async def test_a_cancel_is_answered_when_all_is_over(log: Path) -> None:
    """The answer tells the end."""
    manager = Manager(log)
    async with manager.server:
        asking = asyncio.create_task(ask(log, "cancel", timeout_s=5))
        async with asyncio.timeout(5):
            while not manager.cancelled:
                await asyncio.sleep(0)
        assert not asking.done()
        manager.ended.set()
    # Leaving the block closes the socket only after the answer was given.
    assert await asking == {"phase": "completed"}
    assert manager.cancelled == 1


async def test_other_requests_are_refused(log: Path) -> None:
    """With what would be accepted."""
    async with Manager(log).server:
        assert await ask(log, "resume", timeout_s=5) == {"error": "a request is cancel or status"}


@pytest.mark.parametrize("said", [b"", b"x" * 200_000, b"\xff\xfe\n"])
async def test_nonsense_is_survived(log: Path, said: bytes) -> None:
    """A client that hangs up, floods, or speaks no language leaves the next one served."""
    async with Manager(log).server:
        reader, writer = await asyncio.open_unix_connection(control_path(log))
        try:
            writer.write(said)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        except OSError:
            pass  # turned away in the middle of it
        finally:
            writer.close()
        assert await ask(log, "status", timeout_s=5) == {"phase": "precopy"}


async def test_nobody_else_may_connect(log: Path) -> None:
    """The socket is its owner's alone, and is gone with the server."""
    async with Manager(log).server:
        mode = control_path(log).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not control_path(log).exists()


async def test_what_a_dead_manager_left_is_replaced(log: Path) -> None:
    """The log's lock has shown that nobody uses it."""
    control_path(log).write_text("left over")
    async with Manager(log).server:
        assert await ask(log, "status", timeout_s=5) == {"phase": "precopy"}


async def test_no_manager(log: Path) -> None:
    """Said in a sentence that names the log."""
    with pytest.raises(CannotConnect, match=r"move\.jsonl"):
        await ask(log, "status", timeout_s=5)


async def test_a_manager_that_ends_without_an_answer(log: Path) -> None:
    """Is not taken for one that answered."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    server = await asyncio.start_unix_server(hang_up, control_path(log))
    try:
        with pytest.raises(CannotConnect, match="ended without an answer"):
            await ask(log, "status", timeout_s=5)
    finally:
        server.close()
        await server.wait_closed()


async def test_a_manager_that_never_answers(log: Path) -> None:
    """Is waited for as long as was asked."""
    async with Manager(log).server:
        with pytest.raises(CannotConnect, match="gave no answer"):
            await ask(log, "cancel", timeout_s=0.1)


def test_a_long_path_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its own for each log, the same every time, in the folder for such things."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    deep = tmp_path / ("d" * 100)
    first, second = control_path(deep / "a"), control_path(deep / "b")
    assert first != second
    assert first == control_path(deep / "a")
    assert first.parent == Path("/run/user/7")
    assert len(os.fsencode(first)) <= LONGEST_SOCKET_PATH_BYTES


def test_a_short_path_has_it_beside_the_log() -> None:
    """Where whoever has the log looks first."""
    assert control_path(Path("/var/a.jsonl")) == Path("/var/a.jsonl.control")


@pytest.mark.parametrize("obstacle", ["folder", "missing", "long", "zero"])
async def test_a_socket_that_cannot_be_made_stops_nothing(
    short_folder: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a convenience: the block is entered and left, the reason is kept, and what lies there stays."""
    log = {"missing": short_folder / "missing" / "a", "zero": short_folder / "a\0b"}.get(obstacle, short_folder / "a")
    if obstacle == "folder":
        control_path(log).mkdir()
    if obstacle == "long":
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/" + "d" * 100)
        log = short_folder / ("l" * 100)
    manager = Manager(log)
    async with asyncio.timeout(5):
        async with manager.server as server:
            assert server.problem is not None
            assert str(control_path(log)) in server.problem
    assert control_path(short_folder / "a").is_dir() == (obstacle == "folder")


async def test_a_server_that_cannot_be_made_private_does_not_listen(log: Path) -> None:
    """Rather nobody than everybody."""

    class Unchangeable(type(log)):  # type: ignore[misc]
        def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
            raise PermissionError(1, "Operation not permitted")

    manager = Manager(log)
    manager.server.path = Unchangeable(manager.server.path)
    async with manager.server as server:
        assert server.problem is not None
        assert "Operation not permitted" in server.problem
        with pytest.raises(CannotConnect):
            await ask(log, "status", timeout_s=5)
    assert not control_path(log).exists()


async def test_a_server_that_listens_has_no_problem(log: Path) -> None:
    async with Manager(log).server as server:
        assert server.problem is None
