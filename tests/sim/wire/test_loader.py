"""A command line that starts the same program again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from whimbrel.qmp_driver.processes import split_launcher
from whimbrel.sim.wire.loader import MODULE, by_loader, interpreter_of


def test_the_loader_of_a_program() -> None:
    """What it asks for is there, and starts it."""
    program = Path(os.path.realpath(sys.executable))
    loader = interpreter_of(program)
    assert loader is not None
    said = subprocess.run([loader, str(program), "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
    assert said.stdout == "42\n"


def test_what_is_no_program_has_none(tmp_path: Path) -> None:
    """A script, an empty file."""
    for content in (b"#!/bin/sh\n", b""):
        file = tmp_path / "f"
        file.write_bytes(content)
        assert interpreter_of(file) is None


def test_inside_a_virtual_environment_the_loader_is_called_by_name() -> None:
    """The driver takes it for what starts the program, and the rest for QEMU's arguments."""
    vector = by_loader(["-m", "64"])
    if sys.prefix == sys.base_prefix:
        assert vector is None
    else:
        assert vector is not None
        launcher, arguments = split_launcher(vector)
        assert launcher[-1] == os.path.realpath(sys.executable)
        assert arguments == ("-m", MODULE, "-m", "64")
        said = subprocess.run([*launcher, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
        assert said.stdout.strip() == sys.prefix
