"""How the two QEMUs are called: the same in every migration, and no two alike."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.parties import party
from whimbrel.qmp_driver.processes import ProcessIdentity

SOURCE, DESTINATION = SideName.SOURCE, SideName.DESTINATION


def test_a_destination_is_the_source_of_the_next_migration() -> None:
    """It keeps its name, by whichever of its monitors it is spoken to."""
    process = ProcessIdentity(4711, 123456)
    first = party(DESTINATION, Path("/run/private/q"), process)
    then = party(SOURCE, "/run/vm/qmp.sock", process)
    assert first.name == then.name == f"{socket.gethostname()}:4711@123456"
    assert (first.pid, first.address) == (4711, "/run/private/q")


def test_a_pid_that_is_used_again_is_another_qemu() -> None:
    """It started at another time."""
    names = {party(SOURCE, "q", ProcessIdentity(4711, ticks)).name for ticks in (1, 2)}
    assert len(names) == 2


def test_without_a_process_its_monitor_names_it() -> None:
    """A socket's path with the host on which it means something."""
    assert party(SOURCE, "/run/q", None).name == f"{socket.gethostname()}:/run/q"
    there = party(SOURCE, ("fe80::1", 4444), None)
    assert there.name == there.address == "[fe80::1]:4444"
    assert there.pid is None


def test_a_path_that_is_no_text_is_spelt_out() -> None:
    """Names go into files and logs."""
    name = party(SOURCE, os.fsdecode(b"/run/\xff"), None).name
    assert name.endswith("/run/\\udcff")
    assert name.encode()


def test_in_a_sentence() -> None:
    """Which side it is, and who."""
    assert str(party(DESTINATION, ("10.0.0.2", 4444), None)) == "the destination (10.0.0.2:4444)"
