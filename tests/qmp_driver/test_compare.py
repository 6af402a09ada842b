"""The comparison: nothing for two that agree, a name for each difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.facts import FACTS, MIB, RAM, TABLES
from whimbrel.qmp_driver.compare import compare
from whimbrel.qmp_driver.facts import BlockNode, Device
from whimbrel.qmp_driver.findings import Severity

DISK = BlockNode("#b", "file", "/d.raw", False)


def found(source: dict[str, Any], destination: dict[str, Any], **options: bool) -> list[tuple[Severity, str]]:
    """Severity and code of every finding for two that differ from the common facts so."""
    findings = compare(replace(FACTS, **source), replace(FACTS, pid=2, **destination), **options)
    assert all(finding.seen for finding in findings)
    return [(finding.severity, finding.code) for finding in findings]


def test_two_that_agree_give_no_finding() -> None:
    """Not even a note; process, run state and made-up node names may differ."""
    nodes = tuple(replace(node, name="#other") for node in FACTS.block_nodes)
    assert found({}, {"run_state": "inmigrate", "block_nodes": nodes, "cpu_threads": (7,)}) == []


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ({"machine": "pc-q35-7.1"}, "machine-type"),
        ({"accelerator": "kvm"}, "accelerator"),
        ({"cpu": "max"}, "cpu-model"),
        ({"cpu_count": 2}, "cpu-count"),
        ({"ram_blocks": (TABLES,)}, "ram-block-missing"),
        ({"ram_blocks": (replace(RAM, used_bytes=MIB, max_bytes=MIB), TABLES)}, "ram-block-size"),
        ({"ram_blocks": (RAM, replace(TABLES, max_bytes=65536, used_bytes=65536))}, "ram-block-size"),
        ({"devices": FACTS.devices[1:]}, "device-missing"),
        ({"devices": (*FACTS.devices, Device("x", "e1000"))}, "device-extra"),
        ({"devices": (replace(FACTS.devices[0], type="e1000"), FACTS.devices[1])}, "device-type"),
        ({"devices": (replace(FACTS.devices[0], pci_address="00:03.0"), FACTS.devices[1])}, "device-address"),
        ({"pci": {"00.0": "8086:29c0"}}, "pci-function"),
        ({"block_nodes": ()}, "disk-missing"),
    ],
)
def test_each_difference_is_refused_by_name(destination: dict[str, Any], code: str) -> None:
    """One difference, one finding that forbids the migration."""
    assert found({}, destination) == [(Severity.REFUSE, code)]


@pytest.mark.parametrize(
    ("destination", "code", "severity"),
    [
        ({"ram_blocks": (RAM, TABLES, replace(TABLES, name="extra"))}, "ram-block-extra", Severity.WARN),
        ({"ram_blocks": (replace(RAM, page_bytes=2 * MIB), TABLES)}, "ram-page-size", Severity.WARN),
        ({"version": (6, 2, 0)}, "older-destination", Severity.WARN),
        ({"version": (7, 2, 9)}, "other-version", Severity.INFO),
        ({"version": (10, 0, 2)}, "other-version", Severity.INFO),
    ],
)
def test_what_may_differ_is_said(destination: dict[str, Any], code: str, severity: Severity) -> None:
    """Differences that a migration survives do not stop it."""
    assert found({}, destination) == [(severity, code)]


def test_a_block_that_can_grow_is_made_to_fit() -> None:
    """The firmware's tables have another size before the guest's firmware has run: QEMU resizes them."""
    smaller = replace(TABLES, used_bytes=65536)
    assert found({}, {"ram_blocks": (RAM, smaller)}) == []


@pytest.mark.parametrize("model", ["host", "max"])
def test_a_model_that_the_host_defines_needs_one_version(model: str) -> None:
    """``max`` of QEMU 7.2 and of 10.0 are not one CPU; the same version makes the same of the same host."""
    codes = [code for _, code in found({"cpu": model}, {"cpu": model, "version": (10, 0, 2)})]
    assert "cpu-model-of-host" in codes
    assert found({"cpu": model}, {"cpu": model}) == []


def test_a_disk_that_changed_since_the_start_is_refused() -> None:
    """A live snapshot moves the source to another file, which no command line shows."""
    source = {"block_nodes": (replace(DISK, file="/overlay.qcow2"),)}
    destination = {"block_nodes": (DISK,)}
    assert found(source, destination) == [(Severity.REFUSE, "disk-file")]
    assert found(source, destination, same_files=False) == [(Severity.WARN, "disk-file")]


def test_fewer_disks_are_refused_whatever_their_names() -> None:
    """What the source writes has to be somewhere at the other end."""
    two = {"block_nodes": (DISK, replace(DISK, file="/e.raw"))}
    assert found(two, {"block_nodes": (DISK,)}, same_files=False) == [(Severity.REFUSE, "disk-missing")]


def test_another_medium_is_a_warning() -> None:
    """A CD that was changed while the guest ran."""
    cd = replace(DISK, file="/new.iso", read_only=True)
    other = replace(cd, file="/old.iso")
    assert found({"block_nodes": (cd,)}, {"block_nodes": (other,)}) == [(Severity.WARN, "disk-read-only")]
