"""The preflight: every finding at once, each with what was seen and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.bare_qemu import BARE, ODD_RAM, QEMU, bare_qemu, left_in
from tests.support.facts import FACTS, MIB, RAM
from tests.support.plans import plan
from whimbrel.engine.errors import PreflightFailed
from whimbrel.engine.negotiation import REQUIRED
from whimbrel.qmp_driver.destination import Existing, FromSource
from whimbrel.qmp_driver.facts import RamBlock
from whimbrel.qmp_driver.findings import Finding, Severity
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.preflight import (
    QEMU_OVERHEAD_BYTES,
    PreflightInputs,
    inspect,
    judge,
    memory_loss,
    raise_if_refused,
)
from whimbrel.qmp_driver.probe import BinaryFacts, probe_binary
from whimbrel.qmp_driver.truth import SourceTruth

BINARY = BinaryFacts(path="/q", version=(7, 2, 22), machines=frozenset({FACTS.machine}), cpus=frozenset({"qemu64"}))
WAITING = replace(FACTS, run_state="inmigrate", pid=2000)
EVEN = replace(RAM, used_bytes=64 * MIB, max_bytes=64 * MIB)


def judged(source: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Severity]:
    """Severity by code of what is found; every refusal and warning has advice."""
    findings = judge(PreflightInputs(source=replace(FACTS, **(source or {})), **inputs))
    assert all(finding.advice for finding in findings if finding.severity is not Severity.INFO)
    return {finding.code: finding.severity for finding in findings}


def test_nothing_to_say() -> None:
    """A running source, a waiting destination that agrees with it, a binary that knows it, memory enough."""
    assert judged(destination=WAITING, binary=BINARY, available_bytes=1 << 40, plan=plan("-m 64")) == {}


@pytest.mark.parametrize(
    ("source", "inputs", "code"),
    [
        ({"version": (6, 1, 0)}, {}, "qemu-too-old"),
        ({"run_state": "inmigrate"}, {}, "source-state"),
        ({"run_state": "shutdown"}, {}, "source-state"),
        ({"run_state": "a-new-word"}, {}, "source-state"),
        ({"migration_status": "active"}, {}, "migration-under-way"),
        ({"migration_status": "a-new-word"}, {}, "migration-under-way"),
        ({"blockers": ("The vdi format used by node 'v0' does not support live migration",)}, {}, "blocker"),
        ({}, {"destination": replace(WAITING, run_state="running")}, "destination-state"),
        ({}, {"destination": replace(WAITING, listening=True)}, "destination-listens"),
        ({}, {"destination": replace(WAITING, migration_status="setup")}, "destination-listens"),
        ({}, {"destination": replace(WAITING, pid=FACTS.pid)}, "same-process"),
        ({}, {"destination": replace(WAITING, machine="pc-q35-7.1")}, "machine-type"),
        ({}, {"source_capabilities": frozenset({"events"})}, "capability-missing"),
        ({}, {"destination_capabilities": frozenset({"events"})}, "capability-missing"),
        ({}, {"plan": plan("-gdb tcp::1")}, "argument"),
        ({}, {"binary": BinaryFacts(path="/q", problem="/q does not exist")}, "destination-binary"),
        ({}, {"binary": replace(BINARY, machines=frozenset({"pc-q35-7.1"}))}, "machine-unknown"),
        ({}, {"binary": replace(BINARY, cpus=frozenset({"486"}))}, "cpu-unknown"),
        (
            {"cpu": "max"},
            {"binary": replace(BINARY, version=(10, 0, 2), cpus=frozenset({"max"}))},
            "cpu-model-of-host",
        ),
        ({}, {"available_bytes": 1 * MIB}, "memory"),
    ],
)
def test_what_forbids(source: dict[str, Any], inputs: dict[str, Any], code: str) -> None:
    """Each of these alone is one finding that forbids the migration."""
    assert judged(source, **inputs) == {code: Severity.REFUSE}


@pytest.mark.parametrize(
    ("inputs", "code", "severity"),
    [
        ({"binary": replace(BINARY, version=(6, 2, 0))}, "older-destination", Severity.WARN),
        ({"available_bytes": 70 * MIB, "source_resident_bytes": 50 * MIB}, "memory-tight", Severity.WARN),
        (
            {"source_capabilities": frozenset(REQUIRED), "destination_capabilities": frozenset({*REQUIRED, "multifd"})},
            "capability-difference",
            Severity.INFO,
        ),
    ],
)
def test_what_only_should_be_known(inputs: dict[str, Any], code: str, severity: Severity) -> None:
    """Each of these alone is one finding that does not stop anything."""
    assert judged(**inputs) == {code: severity}


@pytest.mark.parametrize("status", [None, "", "none", "completed", "failed", "cancelled"])
@pytest.mark.parametrize("run_state", ["running", "paused"])
def test_a_source_that_may_be_moved(status: str | None, run_state: str) -> None:
    """It runs or is paused, and whatever was before is over."""
    assert judged({"migration_status": status, "run_state": run_state}) == {}


def test_all_findings_come_at_once() -> None:
    """Not the first one only; those made while gathering come along."""
    gathered = (Finding(Severity.WARN, "gathered", "x", "y"),)
    source = {"run_state": "shutdown", "blockers": ("b",), "migration_status": "active"}
    codes = judged(source, gathered=gathered, available_bytes=0, plan=plan("-s"))
    assert codes.keys() == {"gathered", "source-state", "migration-under-way", "blocker", "argument", "memory"}


def test_memory_that_the_guest_never_touched_is_not_needed() -> None:
    """A source that occupies little can be moved to where there is little; its whole size is a warning."""
    whole = FACTS.ram_bytes + QEMU_OVERHEAD_BYTES
    assert judged(available_bytes=whole) == {}
    assert judged(available_bytes=whole - 1) == {"memory": Severity.REFUSE}
    assert judged(available_bytes=whole - 1, source_resident_bytes=whole - 1) == {"memory-tight": Severity.WARN}
    assert judged(available_bytes=MIB, source_resident_bytes=MIB + 1) == {"memory": Severity.REFUSE}


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, Severity.REFUSE),
        ({"version": (8, 2, 9)}, Severity.REFUSE),
        ({"version": (9, 0, 0)}, None),
        ({"version": (10, 0, 2)}, None),
        ({"accelerator": "kvm"}, None),
        ({"ram_blocks": (RAM,)}, None),
        ({"ram_blocks": (replace(EVEN, offset_bytes=4096),)}, None),
        ({"memory_backends": ()}, None),
    ],
)
def test_the_trap_that_loses_memory(changes: dict[str, Any], severity: Severity | None) -> None:
    """TCG before 9.0 with RAM of whole 256 KiB, at an offset of whole 256 KiB: nothing else is affected."""
    source = replace(FACTS, **{"ram_blocks": (EVEN,), **changes})
    assert [finding.severity for finding in memory_loss(source, False)] == ([severity] if severity else [])


def test_the_trap_can_be_accepted() -> None:
    """It stays a warning, with a size of RAM that would avoid it."""
    (finding,) = memory_loss(replace(FACTS, ram_blocks=(replace(EVEN, used_bytes=512 * MIB),)), True)
    assert finding.severity is Severity.WARN
    assert "-m 524224K" in finding.advice


def test_hot_plugged_memory_counts_and_roms_do_not() -> None:
    """Every memory backend is guest RAM; ROMs are not written by the guest; video memory is a warning."""
    blocks = (
        RAM,
        RamBlock("/objects/dimm1", 256 * MIB, MIB, MIB, 4096),
        RamBlock("pc.bios", 300 * MIB, 262144, 262144, 4096),
        RamBlock("0000:00:02.0/vga.vram", 320 * MIB, 16 * MIB, 16 * MIB, 4096),
    )
    source = replace(FACTS, ram_blocks=blocks, memory_backends=("pc.ram", "/objects/dimm1"))
    found = {finding.code: finding for finding in memory_loss(source, False)}
    assert found.keys() == {"memory-loss", "video-memory-loss"}
    assert "/objects/dimm1" in found["memory-loss"].seen
    assert "pc.bios" not in found["memory-loss"].seen
    assert found["video-memory-loss"].severity is Severity.WARN


def test_a_socket_path_that_is_too_long_is_found() -> None:
    """A plan that was made elsewhere may have one."""
    made = replace(plan("-m 64"), relocalised={"qmp": "/" + "x" * 120 + ".sock"})
    assert judged(plan=made) == {"socket-path": Severity.REFUSE}


def test_the_error_carries_every_finding() -> None:
    """Its sentence names the first that forbids, and how many more; the warnings are in it too."""
    source = replace(FACTS, run_state="shutdown", blockers=("b",))
    findings = judge(PreflightInputs(source=source, available_bytes=70 * MIB))
    with pytest.raises(PreflightFailed, match=r"shut down.*and 2 more") as caught:
        raise_if_refused(findings)
    assert caught.value.findings == findings
    raise_if_refused(Finding(Severity.WARN, "w", "x") for _ in range(2))


async def test_a_real_source_and_no_destination_yet(tmp_path: Path) -> None:
    """The thorough look asks the binary and finds nothing but that the guest was never started (``-S``)."""
    async with bare_qemu(tmp_path, *BARE, "-machine", "q35", "-m", ODD_RAM, "-S") as qemu:
        findings = await inspect(qemu.socket, FromSource(directory=tmp_path))
    assert [finding.code for finding in findings] == ["source-state"]
    assert "prelaunch" in findings[0].seen
    assert left_in(tmp_path, "whimbrel-*") == []


async def test_a_real_trap(tmp_path: Path) -> None:
    """RAM of whole 256 KiB under TCG: refused on the QEMUs that lose writes, and nothing said on the others."""
    async with bare_qemu(tmp_path, *BARE, "-machine", "q35", "-m", "20M") as qemu:
        strict = await inspect(qemu.socket, FromSource(directory=tmp_path))
        lenient = await inspect(qemu.socket, FromSource(directory=tmp_path), accept_memory_loss=True)
        probe = await FromSource().examine(await truth_of(qemu.socket), thorough=True)
    old = (await probe_binary([QEMU])).version < (9, 0)
    assert [(f.code, f.severity) for f in strict] == ([("memory-loss", Severity.REFUSE)] if old else [])
    assert [(f.code, f.severity) for f in lenient] == ([("memory-loss", Severity.WARN)] if old else [])
    assert probe == strict


async def test_a_real_pair(tmp_path: Path) -> None:
    """Source and waiting destination are compared, and what differs is named."""
    machine = (*BARE, "-machine", "q35", "-m", ODD_RAM)
    folders = [tmp_path / name for name in ("s", "d", "x")]
    for folder in folders:
        folder.mkdir()
    async with (
        bare_qemu(folders[0], *machine) as source,
        bare_qemu(folders[1], *machine, "-S", "-incoming", "defer") as same,
        bare_qemu(folders[2], *machine, "-device", "virtio-rng-pci", "-S", "-incoming", "defer") as other,
    ):
        assert await inspect(source.socket, Existing(same.socket)) == ()
        codes = {finding.code for finding in await inspect(source.socket, Existing(other.socket))}
        assert codes >= {"device-extra", "pci-function"}
        codes = {finding.code for finding in await inspect(source.socket, Existing(source.second_socket))}
        assert codes == {"destination-state", "same-process"}


async def test_monitors_that_do_not_answer_are_findings(tmp_path: Path) -> None:
    """No exception: the answer to "what would stop it" is a list."""
    nowhere = str(tmp_path / "nowhere")
    (finding,) = await inspect(nowhere, FromSource())
    assert (finding.code, finding.severity) == ("source-monitor", Severity.REFUSE)
    async with bare_qemu(tmp_path, *BARE, "-machine", "q35", "-m", ODD_RAM) as qemu:
        (finding,) = await inspect(qemu.socket, Existing(nowhere))
    assert finding.code == "destination-monitor"


async def truth_of(socket: str) -> SourceTruth:
    async with await Monitor.connect(socket, side="source") as monitor:
        return await SourceTruth.read(monitor)
