"""The human monitor's few lines."""

from __future__ import annotations

import pytest

from tests.sim.qemu.pair import Pair
from whimbrel.qmp_driver.facts import parse_ram_blocks
from whimbrel.sim.qemu.contract import Version


@pytest.mark.parametrize("version", list(Version))
def test_the_ram_blocks_can_be_read_by_whoever_reads_the_real_ones(version: Version) -> None:
    """Later versions have more columns."""
    pair = Pair(version)
    text = pair.source.ask("human-monitor-command", command_line="info ramblock")
    blocks = parse_ram_blocks(text.replace("\r\n", "\n"))
    machine = pair.source.qemu.machine
    assert [(block.name, block.used_bytes, block.max_bytes) for block in blocks] == machine.ram_blocks
    assert {block.name: block.offset_bytes for block in blocks} == machine.ram_offsets()
    assert ("HVA" in text) == (version is not Version.V7_2)


def test_the_first_lines_are_those_of_the_real_7_2() -> None:
    """To the blank."""
    lines = Pair().source.ask("human-monitor-command", command_line="info ramblock").split("\r\n")
    assert lines[0] == "              Block Name    PSize              Offset               Used              Total"
    assert lines[1] == "                  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000"


def test_other_lines() -> None:
    """What is not known is said to be unknown."""
    pair = Pair()
    ask = {line: pair.source.ask("human-monitor-command", command_line=line) for line in ("info status", "foo bar", "")}
    assert ask == {"info status": "VM status: running\r\n", "foo bar": "unknown command: 'foo'\r\n",
                   "": "unknown command: ''\r\n"}  # fmt: skip
    pair.source.ask("stop")
    assert "paused" in pair.source.ask("human-monitor-command", command_line="info status")
    assert pair.source.ask("human-monitor-command", command_line="info version").startswith("7.2.22Debian")
    assert pair.source.ask("human-monitor-command", command_line='qemu-io d0 "write 0 64k"') == ""
