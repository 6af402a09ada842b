"""A Linux guest for tests: Debian's cloud kernel and one static program, up in seconds under TCG.

It stands for "a guest that the user started": a kernel that we did not write, with its own timers, its own
idea of the time, and memory everywhere. The kernel comes from the package archive that this machine's apt
is set up for, is unpacked and never installed, and is kept in a folder; no root is needed. The program,
``linux_init.c``, says what it does.

Needs ``apt-get``, ``apt-cache``, ``dpkg``, and ``gcc`` with the static C library (``libc6-dev``).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

META_PACKAGE = "linux-image-cloud-amd64"
"""Depends on the current kernel for clouds: small, with drivers for virtual machines only."""

INIT_SOURCE = Path(__file__).with_name("linux_init.c")

DEFAULT_RAM = "196544K"
"""72 MiB is the least that boots. No multiple of 256 KiB: there QEMU before 9.0 loses writes under TCG."""

DOWNLOAD_TIMEOUT_S = 300


class LinuxGuestUnavailable(Exception):
    """The guest cannot be made on this machine; the text says what is missing."""


@dataclass(frozen=True)
class LinuxBeat:
    """One line of the guest.

    Attributes:
        sequence: 0, 1, 2, ... without a gap.
        monotonic_ns: the guest's CLOCK_MONOTONIC.
        realtime_ns: the guest's CLOCK_REALTIME.
        pages_written: since it began.
        pages_wrong: found stale or torn since it began.
    """

    sequence: int
    monotonic_ns: int
    realtime_ns: int
    pages_written: int
    pages_wrong: int


@dataclass(frozen=True)
class LinuxGuest:
    """The two files that the guest is made of."""

    kernel: Path
    initramfs: Path

    def arguments(
        self,
        *,
        serial: str,
        working_set_bytes: int = 64 << 20,
        dirtied_bytes_per_s: int = 8 << 20,
        beat_hz: int = 100,
        spoil_after_pages: int | None = None,
    ) -> list[str]:
        """Give QEMU's arguments for this guest; machine, accelerator and monitors are the caller's.

        Args:
            serial: where its lines go, as ``-serial`` takes it (``file:PATH``).
            working_set_bytes: memory that is written round and round; at least a page.
            dirtied_bytes_per_s: how fast, in whole pages.
            beat_hz: lines per second, 1 to 1000.
            spoil_after_pages: after this many pages the guest spoils one on purpose; ``None``: never.
        """
        settings = {
            "WORK_PAGES": working_set_bytes // 4096,
            "RATE_PAGES": dirtied_bytes_per_s // 4096,
            "BEAT_HZ": beat_hz,
        }
        if spoil_after_pages is not None:
            settings["SPOIL_AFTER"] = spoil_after_pages
        words = ["console=ttyS0", "quiet", "panic=-1", *(f"{name}={value}" for name, value in settings.items())]
        kernel = ["-kernel", str(self.kernel), "-initrd", str(self.initramfs), "-append", " ".join(words)]
        return ["-m", DEFAULT_RAM, *kernel, "-serial", serial, "-no-reboot"]


_BEAT = re.compile(rb"B (\d+) (\d+) (\d+) (\d+) (\d+)\r?\n")


def parse_beats(output: bytes) -> list[LinuxBeat]:
    """Find the beats in what came over the serial line; the kernel's own words and a torn end are left out."""
    return [LinuxBeat(*map(int, match.groups())) for match in _BEAT.finditer(output)]


def cache_folder() -> Path:
    """Where fetched and built files are kept: ``$WHIMBREL_CACHE``, or ``whimbrel`` in the user's cache folder."""
    if chosen := os.environ.get("WHIMBREL_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "whimbrel"


def prepare(folder: Path | None = None) -> LinuxGuest:
    """Fetch and build what is not there yet.

    Args:
        folder: where to keep it; ``cache_folder() / "linux-guest"`` if not given.

    Raises:
        LinuxGuestUnavailable: something is missing, and what.
    """
    folder = folder or cache_folder() / "linux-guest"
    folder.mkdir(parents=True, exist_ok=True)
    kernels = sorted(folder.glob("vmlinuz-*"))
    kernel = kernels[-1] if kernels else _fetch_kernel(folder)
    return LinuxGuest(kernel, _build_initramfs(folder))


def _fetch_kernel(folder: Path) -> Path:
    package = _kernel_package()
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        if os.geteuid() == 0:
            os.chmod(temporary, 0o777)  # apt gives up root for the download, if it can write here without
        print(f"fetching {package}", file=sys.stderr)
        _run("apt-get", "download", package, cwd=temporary)
        archives = list(Path(temporary).glob("*.deb"))
        if len(archives) != 1:
            raise LinuxGuestUnavailable(f"apt-get download {package} left {len(archives)} packages, not one")
        _run("dpkg", "-x", str(archives[0]), f"{temporary}/root")
        found = sorted(Path(temporary, "root", "boot").glob("vmlinuz-*"))
        if not found:
            raise LinuxGuestUnavailable(f"there is no kernel in {archives[0].name}")
        # Renamed within one file system: a kernel is here whole, or not at all.
        return found[-1].rename(folder / found[-1].name)


def _kernel_package() -> str:
    answer = _run("apt-cache", "depends", META_PACKAGE)
    match = re.search(r"Depends: (linux-image-\S+-cloud-amd64)\s*$", answer, re.MULTILINE)
    if match is None:
        raise LinuxGuestUnavailable(
            f"apt knows no {META_PACKAGE} here: run `apt-get update` (as root), or use a Debian of this architecture"
        )
    return match[1]


def _build_initramfs(folder: Path) -> Path:
    source = INIT_SOURCE.read_bytes()
    target = folder / f"initramfs-{hashlib.sha256(source).hexdigest()[:12]}.cpio.gz"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        program = Path(temporary, "init")
        _run("gcc", "-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(INIT_SOURCE))
        entries = [
            ("dev", stat.S_IFDIR | 0o755, b"", (0, 0)),
            ("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),  # the kernel opens it as init's three descriptors
            ("init", stat.S_IFREG | 0o755, program.read_bytes(), (0, 0)),
        ]
        packed = Path(temporary, "initramfs")
        packed.write_bytes(gzip.compress(cpio_archive(entries), mtime=0))
        return packed.rename(target)


def cpio_archive(entries: Iterable[tuple[str, int, bytes, tuple[int, int]]]) -> bytes:
    """Pack files into the archive format of the kernel's initramfs: cpio "newc", as cpio(5) has it.

    Args:
        entries: of each file its path, its mode with the kind of file, its content, and its device number.
    """
    archive = bytearray()
    for number, (name, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))], start=1):
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device of the file system (2), own device (2), name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (path, content):
            archive += part
            archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def _run(*argv: str, cwd: str | None = None) -> str:
    if shutil.which(argv[0]) is None:
        raise LinuxGuestUnavailable(f"{argv[0]} is missing")
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LinuxGuestUnavailable(f"{' '.join(argv)}: no end after {DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise LinuxGuestUnavailable(f"{' '.join(argv)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def main(arguments: Sequence[str]) -> int:
    """Prepare the guest and print its files, and a command that boots it; the exit code is 1 if it can't be made."""
    if arguments:
        print("usage: linux-guest\n\nFetches and builds the Linux guest of the tests, and prints where it is.")
        return 0 if set(arguments) <= {"-h", "--help"} else 2
    try:
        guest = prepare()
    except LinuxGuestUnavailable as error:
        print(f"linux-guest: {error}", file=sys.stderr)
        return 1
    print(f"kernel     {guest.kernel}\ninitramfs  {guest.initramfs}\n\nTo boot it:\n")
    words = ["qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-display", "none", *guest.arguments(serial="stdio")]
    print("  " + " ".join(f"'{word}'" if " " in word else word for word in words))
    return 0
