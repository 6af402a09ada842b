"""Facts about a QEMU as a test wants them."""

from __future__ import annotations

from whimbrel.qmp_driver.facts import BlockNode, Device, RamBlock, SideFacts

MIB = 1 << 20

RAM = RamBlock("pc.ram", 0, 64 * MIB - 65536, 64 * MIB - 65536, 4096)
TABLES = RamBlock("/rom@etc/acpi/tables", 512 * MIB, 131072, 2 * MIB, 4096)

FACTS = SideFacts(
    version=(7, 2, 22),
    pid=1000,
    cpu_threads=(1001,),
    run_state="running",
    machine="pc-q35-7.2",
    cpu="qemu64",
    cpu_count=1,
    ram_blocks=(RAM, TABLES),
    memory_backends=("pc.ram", "/objects/pc.ram"),
    devices=(Device("net0", "virtio-net-pci", "00:02.0"), Device("device[0]", "virtio-rng-pci")),
    pci={"00.0": "8086:29c0", "02.0": "1af4:1000"},
    accelerator="tcg",
    block_nodes=(BlockNode("#block1", "raw", "/d.raw", False), BlockNode("#block2", "file", "/d.raw", False)),
    migration_status=None,
    listening=False,
    blockers=(),
)
"""A running source that nothing speaks against, and that agrees with itself."""
