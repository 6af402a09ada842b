"""A Linux guest of the user's own, given nothing but its monitor: it beats on at the destination, whole.

`tests/support/linux_guest.py` says what this guest is; it checks each page that it writes by itself.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.guests import BRISK, World, ask, until
from tests.support.linux_guest import LinuxBeat, LinuxGuest, LinuxGuestUnavailable, parse_beats, prepare
from whimbrel import Migration, Options

BOOT_TIMEOUT_S = 60.0
WORKING_SET_BYTES = 4 << 20
PAGES = WORKING_SET_BYTES // 4096


@pytest.fixture(scope="module")
def linux() -> LinuxGuest:
    """The guest's files, fetched and built once per machine."""
    try:
        return prepare()
    except LinuxGuestUnavailable as error:
        pytest.skip(f"no Linux guest on this machine: {error}")


@pytest.fixture
def machine(linux: LinuxGuest, short_folder: Path) -> Generator[subprocess.Popen[bytes], None, None]:
    """The guest in a QEMU with a command line such as its user writes; ended by pid."""
    serial = f"unix:{short_folder / 'serial'},server=on,wait=off"
    argv = ["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-display", "none", "-name", "a-users-guest"]
    argv += ["-nodefaults", "-device", "virtio-rng-pci", "-qmp", f"unix:{short_folder / 'qmp'},server=on,wait=off"]
    argv += linux.arguments(serial=serial, working_set_bytes=WORKING_SET_BYTES, dirtied_bytes_per_s=4 << 20)
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


class Listener:
    """Reads a serial line's beats."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.beats: list[LinuxBeat] = []

    async def read_on(self) -> None:
        """Read until the line ends."""
        while line := await self._reader.readline():
            self.beats += parse_beats(line)


async def test_a_users_linux_guest_is_moved(world: World, machine: subprocess.Popen[bytes]) -> None:
    """Its beats go on without a gap, its clock never goes back, and no page of it is stale or torn."""
    serial = world.folder / "serial"
    await until(serial.exists, "the serial socket is there")
    reader, writer = await asyncio.open_unix_connection(serial)
    here = Listener(reader)
    reading = asyncio.create_task(here.read_on())
    await until(lambda: len(here.beats) >= 100, "it beats", timeout_s=BOOT_TIMEOUT_S)

    migration = Migration(world.folder / "qmp", options=Options(waits=BRISK, log_path=world.folder / "log"))
    there: list[Listener] = []
    tasks = [reading]

    async def listen_there() -> None:
        async for _ in migration.progress():
            if path := dict(migration.facts.get("relocalised", {})).get("serial0"):
                world.hear({"destination_pid": migration.facts["destination_pid"]})
                stream, line = await asyncio.open_unix_connection(path)
                there.append(Listener(stream))
                tasks.append(asyncio.create_task(there[0].read_on()))
                writers.append(line)
                return

    writers = [writer]
    try:
        report, _ = await asyncio.gather(migration.run(), listen_there())
        assert report.moved
        await until(lambda: machine.poll() is not None, "the source process ends")
        # Each page is visited twice more, so that one which was lost on the way would have been found.
        enough = here.beats[-1].pages_written + 2 * PAGES
        await until(lambda: bool(there[0].beats) and there[0].beats[-1].pages_written >= enough, "it writes on")
        assert ask(report.facts["destination_qmp"], "query-name")[0] == {"name": "a-users-guest"}
    finally:
        for each in writers:
            each.close()
        await asyncio.gather(*tasks, return_exceptions=True)
    before, after = here.beats[-1], there[0].beats
    # A beat that was half out when the guest stopped is torn in two, and counts on neither side.
    assert 1 <= after[0].sequence - before.sequence <= 2
    assert [beat.sequence for beat in after] == list(range(after[0].sequence, after[0].sequence + len(after)))
    assert after[0].monotonic_ns > before.monotonic_ns
    assert after[-1].pages_wrong == 0
