"""A log says between which hosts a migration was, and what kind of guest it moved."""

from __future__ import annotations

import json
import os

from tests.support.facts import FACTS, MIB
from whimbrel.engine.belief import Kind
from whimbrel.qmp_driver.kinds import host_of, kind_of, summary


def test_the_kind_of_a_guest_is_what_its_qemu_says_of_it() -> None:
    assert kind_of(FACTS) == Kind(
        machine="pc-q35-7.2", ram_bytes=64 * MIB - 65536, vcpus=1, accelerator="tcg", version=(7, 2, 22)
    )


def test_a_host_is_known_by_its_name_where_the_process_was_proven_to_be_here_and_else_by_its_address() -> None:
    assert host_of("/run/qmp.sock", here=True) == os.uname().nodename
    assert host_of(("10.0.0.2", 4444), here=False) == "10.0.0.2"
    assert host_of("/run/qmp.sock", here=False) == "", "it may be forwarded from anywhere"


def test_a_report_keeps_the_kind_with_the_host() -> None:
    assert json.loads(json.dumps(summary(FACTS, "vm"))) == {
        "host": "vm",
        "machine": "pc-q35-7.2",
        "run_state": "running",
        "ram_bytes": 64 * MIB - 65536,
        "vcpus": 1,
        "accelerator": "tcg",
        "version": [7, 2, 22],
    }
