"""What a binary says of itself, and what a host has to give."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.bare_qemu import QEMU
from whimbrel.qmp_driver.probe import available_bytes, probe_binary, resident_bytes


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_real_qemu_lists_what_it_knows() -> None:
    """Version, machine types with their versions, CPU models."""
    facts = await probe_binary([QEMU])
    assert facts.problem is None
    assert facts.version >= (6, 2, 0)
    assert {"none", "q35", "pc"} <= facts.machines
    assert {"qemu64", "max", "EPYC-v1"} <= facts.cpus
    assert not {"Available", "x86", "fpu"} & facts.cpus


async def test_a_qemu_behind_a_launcher(tmp_path: Path) -> None:
    """The words before the program are used too."""
    facts = await probe_binary(["/usr/bin/env", QEMU])
    assert (facts.path, facts.problem) == (QEMU, None)


@pytest.mark.parametrize(
    ("text", "problem"), [("echo GNU ls", "is not a QEMU"), ("exit 1", "is not a QEMU"), ("exec /nonexistent", "QEMU")]
)
async def test_what_is_no_qemu_says_so(tmp_path: Path, text: str, problem: str) -> None:
    """One clear clause with the program's name."""
    facts = await probe_binary([script(tmp_path, text)])
    assert problem in (facts.problem or "")
    assert str(tmp_path) in (facts.problem or "")


async def test_what_is_not_there(tmp_path: Path) -> None:
    """Missing, not executable, or of no format that the kernel knows."""
    assert "does not exist" in ((await probe_binary([str(tmp_path / "none")])).problem or "")
    (tmp_path / "plain").write_text("x")
    assert "is not executable" in ((await probe_binary([str(tmp_path / "plain")])).problem or "")
    (tmp_path / "plain").chmod(0o755)
    assert "cannot be run" in ((await probe_binary([str(tmp_path / "plain")])).problem or "")


async def test_a_program_that_does_not_end_is_left_within_the_deadline(tmp_path: Path) -> None:
    """And the loop goes on meanwhile."""
    probing = asyncio.create_task(probe_binary([script(tmp_path, "exec sleep 60")], timeout_s=0.2))
    ticks = 0
    while not probing.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert "does not end" in (probing.result().problem or "")
    assert ticks > 5


def test_memory_of_this_host() -> None:
    """Something between nothing and everything; a process occupies some; nobody occupies what can't be told."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < (available_bytes() or 0) <= total
    assert 1 << 20 < (resident_bytes(os.getpid()) or 0) < total
    assert resident_bytes(2**22 + 1) is None
