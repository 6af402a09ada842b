"""The Linux guest of the tests: it boots, it beats, it finds what is wrong with its memory, and it moves."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.bare_qemu import BARE, BareQemu, bare_qemu
from tests.support.linux_guest import LinuxBeat, LinuxGuest, LinuxGuestUnavailable, cpio_archive, parse_beats, prepare
from whimbrel.qmp_driver import replies
from whimbrel.qmp_driver.monitor import Monitor, QmpEvent

BOOT_TIMEOUT_S = 60
MOVE_TIMEOUT_S = 60


@pytest.fixture(scope="session")
def guest() -> LinuxGuest:
    """The guest's files, fetched and built once per machine."""
    try:
        return prepare()
    except LinuxGuestUnavailable as error:
        pytest.skip(f"no Linux guest on this machine: {error}")


class Line:
    """The serial line of one QEMU: reads beats as they come."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.beats: list[LinuxBeat] = []

    async def next_beat(self) -> LinuxBeat:
        """Wait for the next whole line that is a beat."""
        while not (found := parse_beats(await self._reader.readline())):
            assert not self._reader.at_eof(), "the guest is gone"
        self.beats += found
        return found[-1]

    async def beat_number(self, count: int) -> None:
        """Wait until this many beats were heard."""
        while len(self.beats) < count:
            await self.next_beat()

    async def read_on(self) -> None:
        """Read until cancelled."""
        while True:
            await self.next_beat()


@asynccontextmanager
async def booted(folder: Path, arguments: list[str]) -> AsyncGenerator[tuple[BareQemu, Line]]:
    """A QEMU with the guest's arguments, and its serial line, which is a UNIX socket in ``folder``."""
    async with bare_qemu(folder, *BARE, "-machine", "q35", *arguments) as qemu:
        reader, writer = await asyncio.open_unix_connection(serial_path(folder))
        try:
            yield qemu, Line(reader)
        finally:
            writer.close()
            await writer.wait_closed()


def serial_path(folder: Path) -> str:
    return str(folder / "serial")


def serial(folder: Path) -> str:
    return f"unix:{serial_path(folder)},server=on,wait=off"


async def test_it_boots_and_beats(guest: LinuxGuest, tmp_path: Path) -> None:
    """The sequence has no gap, both of its clocks go on, memory is written at the rate asked for and is right."""
    arguments = guest.arguments(serial=serial(tmp_path), dirtied_bytes_per_s=8 << 20, beat_hz=100)
    async with booted(tmp_path, arguments) as (_, line), asyncio.timeout(BOOT_TIMEOUT_S):
        await line.beat_number(200)
    beats = line.beats
    assert [beat.sequence for beat in beats] == list(range(beats[0].sequence, beats[0].sequence + len(beats)))
    assert all(a.monotonic_ns < b.monotonic_ns for a, b in itertools.pairwise(beats))
    assert all(a.realtime_ns < b.realtime_ns for a, b in itertools.pairwise(beats))
    # 8 MiB/s are 20.48 pages in each beat, whatever the time between two beats was.
    assert beats[-1].pages_written - beats[0].pages_written == pytest.approx(20.48 * (len(beats) - 1), abs=1)
    assert beats[-1].pages_wrong == 0


async def test_it_finds_a_page_that_is_wrong(guest: LinuxGuest, tmp_path: Path) -> None:
    """One page is set back on purpose: it is counted once, and not before."""
    arguments = guest.arguments(serial=serial(tmp_path), working_set_bytes=1 << 20, spoil_after_pages=1000)
    async with booted(tmp_path, arguments) as (_, line), asyncio.timeout(BOOT_TIMEOUT_S):
        while (await line.next_beat()).pages_written <= 2000:
            pass
    assert {beat.pages_wrong for beat in line.beats if beat.pages_written <= 1000} <= {0}
    assert {beat.pages_wrong for beat in line.beats if beat.pages_written > 1000} == {1}


async def test_it_says_what_it_cannot_do(guest: LinuxGuest, tmp_path: Path) -> None:
    """More memory than it has: a line that begins with E, and it switches itself off."""
    arguments = guest.arguments(serial=f"file:{tmp_path / 'serial'}", working_set_bytes=1 << 30)
    async with bare_qemu(tmp_path, *BARE, "-machine", "q35", *arguments) as qemu:
        assert await qemu.process.wait_exit(BOOT_TIMEOUT_S) == 0
    assert b"E there is no memory for 262144 pages" in serial_file(tmp_path)


def serial_file(folder: Path) -> bytes:
    return (folder / "serial").read_bytes()


async def test_it_moves_and_its_memory_is_whole(guest: LinuxGuest, tmp_path: Path) -> None:
    """Bare QMP takes it to a second QEMU: the beats go on where they ended, and every page is as it was written.

    After the move each page is visited once more, so one that was lost on the way would have been found.
    """
    folders = [tmp_path / "s", tmp_path / "d"]
    for folder in folders:
        folder.mkdir()
    vectors = [
        guest.arguments(serial=serial(folder), working_set_bytes=4 << 20, dirtied_bytes_per_s=4 << 20)
        for folder in folders
    ]
    async with (
        booted(folders[0], vectors[0]) as (source, source_line),
        booted(folders[1], [*vectors[1], "-S", "-incoming", "defer"]) as (destination, destination_line),
        asyncio.timeout(BOOT_TIMEOUT_S + MOVE_TIMEOUT_S),
    ):
        await source_line.beat_number(100)
        reading = asyncio.create_task(source_line.read_on())
        await move(source, destination)
        all_visited_pages = source_line.beats[-1].pages_written + 2 * 1024
        while (await destination_line.next_beat()).pages_written < all_visited_pages:
            pass
        reading.cancel()
    before, after = source_line.beats[-1], destination_line.beats[0]
    # A beat that was half out when the guest stopped is torn in two, and counts on neither side.
    assert 1 <= after.sequence - before.sequence <= 2
    assert after.monotonic_ns > before.monotonic_ns
    assert destination_line.beats[-1].pages_wrong == 0


async def move(source: BareQemu, destination: BareQemu) -> None:
    """Migrate by QMP alone, as the reference sequence has it, and let the destination run."""
    completed = asyncio.Event()

    def listen(event: QmpEvent) -> None:
        assert event.data.get("status") not in ("failed", "cancelled"), event
        if event.data.get("status") == "completed":
            completed.set()

    async with (
        await Monitor.connect(source.socket, side="source", on_event=listen) as giver,
        await Monitor.connect(destination.socket, side="destination") as taker,
    ):
        for side in (taker, giver):
            await replies.set_capabilities(side, {"events": True, "return-path": True})
        await replies.set_parameters(giver, {"max-bandwidth": 0, "downtime-limit": 300})
        await replies.migrate_incoming(taker, "tcp:127.0.0.1:0")
        listening = await replies.query_migrate(taker)
        await replies.migrate(giver, listening.socket_address[0].uri)
        await completed.wait()
        await replies.cont(taker)


def test_a_torn_line_is_no_beat() -> None:
    """Neither the kernel's own words nor half a beat are taken for one; a line end of either kind ends one."""
    output = b"[    0.1] Linux\r\n 2 3\nB 1 2 3 4 5\r\nB 2 3 4 5 6\nE bad\nB 3 4 5 6 7"
    assert parse_beats(output) == [LinuxBeat(1, 2, 3, 4, 5), LinuxBeat(2, 3, 4, 5, 6)]


def test_the_archive_follows_its_format() -> None:
    """Header, name and content each begin at a multiple of four bytes, as cpio(5) has it; the trailer comes last."""
    files = [("dev/console", 0o020600, b"", (5, 1)), ("f", 0o100644, b"12345", (0, 0))]
    archive, found = cpio_archive(files), list[tuple[str, int, bytes, tuple[int, int]]]()
    position = 0
    while position < len(archive):
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[at : at + 8], 16) for at in range(position + 6, position + 110, 8)]
        name = archive[position + 110 : position + 110 + fields[11] - 1].decode()
        content_at = -(-(position + 110 + fields[11]) // 4) * 4
        found.append((name, fields[1], archive[content_at : content_at + fields[6]], (fields[9], fields[10])))
        position = -(-(content_at + fields[6]) // 4) * 4
    assert found == [*files, ("TRAILER!!!", 0, b"", (0, 0))]


def test_the_tool_prints_the_files(guest: LinuxGuest) -> None:
    """``tools/linux-guest`` runs without the virtual environment and names both files."""
    tool = Path(__file__).parents[2] / "tools" / "linux-guest"
    environment = {**os.environ, "WHIMBREL_CACHE": str(guest.kernel.parent.parent)}
    done = subprocess.run([tool], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert f"kernel     {guest.kernel}" in done.stdout
    assert f"initramfs  {guest.initramfs}" in done.stdout
    assert subprocess.run([tool, "--help"], capture_output=True, timeout=60, check=False).returncode == 0
    assert subprocess.run([tool, "what"], capture_output=True, timeout=60, check=False).returncode == 2
