"""What a QEMU says about itself, read from a real one, and from answers that are odd."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.bare_qemu import BARE, ODD_RAM, bare_qemu
from whimbrel.engine.errors import QemuRefused, WhimbrelError
from whimbrel.qmp_driver.facts import IN_FLIGHT, BlockNode, Device, RamBlock, SideFacts, parse_ram_blocks, read_facts
from whimbrel.qmp_driver.monitor import Monitor

OF_7_2 = """\
              Block Name    PSize              Offset               Used              Total
                  pc.ram    4 KiB  0x0000000000300000 0x0000000001400000 0x0000000001400000
    /rom@etc/acpi/tables    2 MiB  0x00000000027c0000 0x0000000000020000 0x0000000000200000
"""
LATER = """\
              Block Name    PSize              Offset               Used              Total                HVA  RO
                  pc.ram    4 KiB  0x0000000000300000 0x0000000001400000 0x0000000001400000 0x00007f0000000000  rw
"""


def test_ram_blocks_of_every_version() -> None:
    """The shape of 7.2, and that of later ones with more columns."""
    ram = RamBlock("pc.ram", 0x300000, 0x1400000, 0x1400000, 4096)
    assert parse_ram_blocks(OF_7_2) == (ram, RamBlock("/rom@etc/acpi/tables", 0x27C0000, 0x20000, 0x200000, 2 << 20))
    assert parse_ram_blocks(LATER) == (ram,)
    assert parse_ram_blocks(OF_7_2.splitlines()[0]) == ()


def test_a_ram_block_that_cannot_be_read_is_an_error() -> None:
    """A block that was passed over in silence would be a block that nobody compares."""
    with pytest.raises(WhimbrelError, match=r"pc\.ram of another shape"):
        parse_ram_blocks(OF_7_2 + "pc.ram of another shape\n")


class Scripted:
    """Answers as a small QEMU would, one turn of the loop later, and counts what is in flight."""

    def __init__(self, answers: Mapping[str, object] | None = None) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.asked: list[str] = []
        self.answers: dict[str, object] = {
            "query-version": {"qemu": {"major": 8, "minor": 1, "micro": 0}, "package": ""},
            "query-status": {"status": "running", "running": True},
            "qom-get": "pc-i440fx-8.1-machine",
            "query-cpus-fast": [],
            "human-monitor-command": OF_7_2,
            "query-memdev": [{"id": "pc.ram", "size": 1}, {"size": 2}],
            "qom-list": [{"name": "type", "type": "string"}, {"name": "n0", "type": "child<e1000>"}],
            "query-pci": [],
            "query-kvm": {"enabled": True, "present": True},
            "query-named-block-nodes": [],
            "query-migrate": {},
            **(answers or {}),
        }

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
        oob: bool = False,
    ) -> object:
        self.asked.append(command)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        answer = self.answers[command]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_few_questions_few_at_a_time() -> None:
    """At most 13 with the version, and never more at once than QEMU takes."""
    executor = Scripted()
    facts = await read_facts(executor, pid=None)
    assert len(executor.asked) <= 13
    assert executor.most_in_flight == IN_FLIGHT
    assert facts.version == (8, 1, 0)
    assert facts.machine == "pc-i440fx-8.1"
    assert facts.accelerator == "kvm"
    assert (facts.cpu, facts.cpu_count) == (None, 0)
    assert facts.ram_bytes == 0x1400000


async def test_a_build_without_pci_is_no_obstacle() -> None:
    """It refuses the question, and has no PCI devices."""
    refusal = QemuRefused("query-pci", "CommandNotFound", "no such command")
    assert (await read_facts(Scripted({"query-pci": refusal}), pid=None)).pci == {}


async def test_blockers_and_listening_are_seen() -> None:
    """QEMU's own words, and that it already waits for a stream."""
    answer = {"blocked-reasons": ["it hurts"], "socket-address": [{"type": "unix", "path": "/s"}]}
    facts = await read_facts(Scripted({"query-migrate": answer}), pid=None)
    assert facts.blockers == ("it hurts",)
    assert facts.listening


async def test_an_answer_of_another_shape_is_an_error() -> None:
    """Nothing is guessed."""
    with pytest.raises(WhimbrelError, match="query-kvm"):
        await read_facts(Scripted({"query-kvm": {}}), pid=None)


async def facts_of(folder: Path, *arguments: str) -> SideFacts:
    async with (
        bare_qemu(folder, *BARE, *arguments) as qemu,
        await Monitor.connect(qemu.socket, side="source") as monitor,
    ):
        return await read_facts(monitor, pid=qemu.process.pid)


async def test_a_real_qemu(tmp_path: Path) -> None:
    """Machine, CPU, RAM, devices and disks of a real QEMU, as its command line made them."""
    (tmp_path / "d.raw").write_bytes(bytes(1 << 20))
    facts = await facts_of(
        tmp_path, "-machine", "q35", "-m", ODD_RAM, "-smp", "2", "-S", "-cpu", "max",
        "-drive", "if=none,id=d0,file=d.raw,format=raw", "-device", "virtio-blk-pci,drive=d0,id=v0,addr=5",
        "-device", "virtio-rng-pci",
    )  # fmt: skip
    assert facts.run_state == "prelaunch"
    assert facts.machine.startswith("pc-q35-")
    assert (facts.cpu, facts.cpu_count, len(facts.cpu_threads)) == ("max", 2, 2)
    assert facts.ram_bytes == 20000 * 1024
    assert {block.name for block in facts.ram_blocks} >= {"pc.ram", "pc.bios", "/rom@etc/acpi/tables"}
    assert set(facts.devices) == {Device("v0", "virtio-blk-pci", "00:05.0"), Device("device[0]", "virtio-rng-pci")}
    assert facts.pci["05.0"] == "1af4:1001"
    assert facts.accelerator == "tcg"
    stored = [node for node in facts.block_nodes if node.stores]
    assert stored == [BlockNode(stored[0].name, "file", str(tmp_path / "d.raw"), False)]
    assert (facts.migration_status, facts.listening, facts.blockers) == (None, False, ())


async def test_a_machine_of_nothing(tmp_path: Path) -> None:
    """No CPU, no RAM, no bus: facts all the same."""
    facts = await facts_of(tmp_path, "-machine", "none")
    assert (facts.machine, facts.cpu, facts.ram_bytes, facts.devices) == ("none", None, 0, ())


async def test_it_is_quick(tmp_path: Path) -> None:
    """The median of ten stays far below the 60 ms that a whole migration may cost besides its RAM."""
    arguments = ("-machine", "q35", "-m", ODD_RAM, "-S", "-device", "VGA")
    took_s: list[float] = []
    async with (
        bare_qemu(tmp_path, *BARE, *arguments) as qemu,
        await Monitor.connect(qemu.socket, side="source") as monitor,
    ):
        for _ in range(10):
            start_s = time.perf_counter()
            await read_facts(monitor, pid=qemu.process.pid)
            took_s.append(time.perf_counter() - start_s)
    assert statistics.median(took_s) < 0.03
