"""Builds the guest's image: ``python -m whimbrel.guest.build [--check]``.

Needs gcc (with ``-m32``; no 32-bit C library is used) and binutils. The image that is shipped was built by Debian
12's gcc 12.2 and ld 2.40, and those give the same bytes again. Other versions give other bytes, which work as well.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from whimbrel.engine.errors import WhimbrelError

from .boot import image_path

__all__ = ["REFERENCE_TOOLS", "build_image", "main", "tool_versions"]

#: gcc and ld that built the shipped image.
REFERENCE_TOOLS: Final = ("12.2.0", "2.40")
_UNITS: Final = ("start.S", "main.c", "schedule.c", "verify.c", "pages.c", "config.c", "serial.c", "clock.c", "sleep.c")
_FLAGS: Final = (
    *("-m32", "-march=i686", "-msse2", "-mfpmath=sse", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns"),  # no calls of memcpy and memset
    *("-fno-pic", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none", "-fno-strict-aliasing"),
    *("-fno-asynchronous-unwind-tables", "-fno-ident"),
    "-ffixed-xmm7",  # the anchor lives there
)
_LINK: Final = (
    *("-m", "elf_i386", "-nostdlib", "-static", "--build-id=none"),
    *("-z", "noexecstack", "--nmagic"),  # sections need not begin on a page of the file
)


def _run(*arguments: str) -> str:
    """Runs a tool; returns what it printed."""
    try:
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise WhimbrelError(f"{arguments[0]} is not installed", advice="install gcc and binutils") from None
    except subprocess.CalledProcessError as error:
        raise WhimbrelError(f"{' '.join(arguments)} failed:\n{error.stderr}") from None
    return done.stdout


def tool_versions() -> tuple[str, str]:
    """The versions of the gcc and the ld at hand, such as ``("12.2.0", "2.40")``.

    Raises:
        WhimbrelError: there is none.
    """
    linker = _run("ld", "--version").splitlines()[0].rpartition(" ")[2]
    return _run("gcc", "-dumpfullversion").strip(), linker


def build_image(target: Path) -> None:
    """Compiles and links the image into ``target``.

    Raises:
        WhimbrelError: a tool is missing or refuses; carries what it said.
    """
    source = Path(__file__).parent / "src"
    with tempfile.TemporaryDirectory() as folder:
        objects = [str(Path(folder) / f"{unit}.o") for unit in _UNITS]
        for unit, built in zip(_UNITS, objects, strict=True):
            _run("gcc", *_FLAGS, "-c", str(source / unit), "-o", built)
        linked = str(Path(folder) / "guest.elf")
        _run("ld", *_LINK, "-T", str(source / "guest.ld"), "-o", linked, *objects)
        _run("strip", "--strip-all", linked)
        shutil.copyfile(linked, target)


def main(arguments: list[str] | None = None) -> int:
    """Builds the image in place, or with ``--check`` compares it with what would be built. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m whimbrel.guest.build", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the image is not up to date")
    chosen = parser.parse_args(arguments)
    target = image_path()
    if not chosen.check:
        target.parent.mkdir(exist_ok=True)
        build_image(target)
        print(f"built {target.name}: {target.stat().st_size} bytes, gcc {tool_versions()[0]}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "guest.elf"
        build_image(fresh)
        same = fresh.read_bytes() == target.read_bytes()
    print(f"{target.name} is {'what' if same else 'NOT what'} gcc {tool_versions()[0]} makes of the sources")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
