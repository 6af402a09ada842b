"""What holds for every test: folders of its own, the loops, and no QEMU left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.guests import World


def pytest_configure() -> None:
    """Hear signals that whoever started the tests (``nohup``, a shell's ``&``) had ignored: programs inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


TOGETHER = (
    "tests/engine/",
    "tests/sim/",
    "tests/conformance/test_golden.py",
    "tests/whimbrel/commands/test_plan_text.py",
    "tests/whimbrel/laboratory/",
    "tests/whimbrel/test_plan_",
    "tests/whimbrel/test_plots.py",
    "tests/whimbrel/test_policies.py",
    "tests/whimbrel/test_policy_text.py",
    "tests/whimbrel/test_s",
)
"""These tests wait for nobody and for no clock: several processes may run them side by side."""
APART = (
    "tests/sim/wire/",
    *(f"tests/whimbrel/laboratory/test_{name}.py" for name in ("crews", "link", "load", "real", "relay", "stage")),
    "tests/whimbrel/laboratory/test_sweeping.py",
    "tests/whimbrel/test_shielding.py",
)
"""These among them do: they start QEMUs, real ones or simulated ones that keep the time of the wall, or workers."""
ALONE = (
    "tests/benchmarks/",
    "tests/conformance/test_live",
    "tests/qmp_driver/test_outside",
    "tests/qmp_driver/test_policy_moves.py",
    "tests/whimbrel/laboratory/test_link.py",
    "tests/whimbrel/laboratory/test_load.py",
    "tests/whimbrel/laboratory/test_real.py",
    "tests/whimbrel/laboratory/test_stage.py",
)
"""These measure what a guest or a processor gets done in a time of the wall, or have a processor to themselves."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a part of the tests be asked for."""
    parser.addoption("--part", choices=("pure", "real", "alone"), help="only these tests; see tests/conftest.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what belongs to another part; files are not even read."""
    wanted: str | None = config.getoption("--part")
    if wanted is None or not collection_path.name.startswith("test_"):
        return None
    return True if part_of(collection_path.relative_to(config.rootpath).as_posix()) != wanted else None


def part_of(place: str) -> str:
    """``alone``: needs the machine to itself; ``real``: starts processes, waits for them; ``pure``: neither."""
    if place.startswith(ALONE):
        return "alone"
    return "pure" if place.startswith(TOGETHER) and not place.startswith(APART) else "real"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the asynchronous tests of a module that says ``BOTH_LOOPS = True`` on asyncio's loop and on uvloop."""
    module = item.getparent(pytest.Module)
    if module is not None and getattr(module.obj, "BOTH_LOOPS", False):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def short_folder(tmp_path: Path) -> Generator[Path, None, None]:
    """A folder whose name leaves room for a socket's (107 bytes), unlike that of ``tmp_path``."""
    folder = Path(tempfile.mkdtemp(prefix="wt-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """Logs, sockets and caches go to folders of the test; whoever still runs out of them at its end is a failure."""
    places = {
        "XDG_STATE_HOME": short_folder / "state",
        "XDG_CACHE_HOME": short_folder / "cache",
        "XDG_RUNTIME_DIR": short_folder / "run",
        "TMPDIR": short_folder / "tmp",
    }
    for name, folder in places.items():
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(places["TMPDIR"]))
    yield
    left = _still_running((str(tmp_path), str(short_folder)))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"the test left processes running: {left}"


def _still_running(folders: tuple[str, ...]) -> dict[int, str]:
    """Processes whose command line names a folder of this test: nobody else's does."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue  # it has ended meanwhile
        if any(folder in words for folder in folders):
            found[int(entry.name)] = words[:200]
    return found


@pytest.fixture
async def world(short_folder: Path) -> AsyncGenerator[World, None]:
    """A place to boot guests in; everything in it ends with the test."""
    place = World(short_folder)
    try:
        yield place
    finally:
        place.end()
