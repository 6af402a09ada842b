"""The machine that a command line describes."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.machine import deprecated, machine_types, parse_size, read, split_options, versioned

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1
MIB = 1 << 20


def test_a_plain_command_line() -> None:
    """Machine, memory, CPUs, monitors, what it waits for."""
    line = (
        "qemu-system-x86_64 -accel tcg -machine q35 -cpu Haswell,+x2apic -smp 4 -m 1G -nodefaults -name guest=g1"
        " -qmp unix:/a,,b.sock,server=on -qmp unix:b.sock -incoming defer -S"
    )
    machine = read(line.split(), V10)
    assert (machine.type, machine.known, machine.cpu, machine.cpus) == ("pc-q35-10.0", True, "Haswell", 4)
    assert (machine.ram_bytes, machine.name, machine.accelerator) == (1 << 30, "g1", "tcg")
    assert machine.monitors == ["/a,b.sock", "b.sock"]
    assert (machine.incoming, machine.stopped) == ("defer", True)


def test_ram_blocks_are_those_of_the_real_one() -> None:
    """Read from a QEMU 7.2 with a network card behind a disk: names, sizes, order, offsets."""
    line = "-machine q35 -m 64 -nodefaults -device virtio-blk-pci,drive=d0 -device virtio-net-pci,id=n0"
    machine = read(line.split(), V7)
    offsets = machine.ram_offsets()
    assert [(name, offsets[name], used, most) for name, used, most in machine.ram_blocks] == [
        ("pc.ram", 0, 0x4000000, 0x4000000),
        ("/rom@etc/acpi/tables", 0x40C0000, 0x20000, 0x200000),
        ("pc.bios", 0x4000000, 0x40000, 0x40000),
        ("0000:00:02.0/virtio-net-pci.rom", 0x4080000, 0x40000, 0x40000),
        ("pc.rom", 0x4040000, 0x20000, 0x20000),
        ("/rom@etc/table-loader", 0x42C0000, 0x1000, 0x10000),
        ("/rom@etc/acpi/rsdp", 0x4300000, 0x1000, 0x1000),
    ]


def test_a_network_card_without_a_rom_file_has_no_block() -> None:
    """``romfile=`` is how it is switched off."""
    machine = read(["-nodefaults", "-device", "virtio-net-pci,romfile="], V7)
    assert not any("virtio-net" in name for name, _, _ in machine.ram_blocks)


def test_devices_get_slots_in_order_or_where_they_are_told() -> None:
    """The host bridge has 0, on the old board a chip 1, on the new one the chips 31."""
    line = "-nodefaults -device virtio-blk-pci,addr=2 -device virtio-net-pci -device virtio-rng-pci,addr=5.1 -device X"
    new = read(["-machine", "q35", *line.split()], V7)
    assert [(device.type, device.slot, device.function) for device in new.devices] == [
        ("virtio-blk-pci", 2, 0),
        ("virtio-net-pci", 1, 0),
        ("virtio-rng-pci", 5, 1),
        ("X", None, 0),
    ]
    assert read(line.split(), V7).devices[1].slot == 3


def test_without_nodefaults_it_has_a_screen_and_a_card() -> None:
    """Video memory is a block that a migration moves."""
    machine = read(["-machine", "q35"], V7)
    assert [device.type for device in machine.devices] == ["VGA", "e1000e"]
    assert ("0000:00:01.0/vga.vram", 16 * MIB, 16 * MIB) in machine.ram_blocks


def test_memory_backends() -> None:
    """Whichever the machine names is the guest's RAM; a file on a disk is told from memory."""
    line = "-object memory-backend-file,id=m0,size=64M,share=on,mem-path={} -machine q35,memory-backend=m0"
    disk, memory = (read(line.format(path).split(), V7) for path in ("/var/m", "/dev/shm/m"))
    assert (disk.backend, disk.backend_type, disk.backend_shared) == ("m0", "memory-backend-file", True)
    assert (disk.memory_on_disk, memory.memory_on_disk) == (True, False)
    assert disk.ram_blocks[0][0] == "m0"


def test_block_nodes_know_their_file() -> None:
    """Through the node below, in either way to write it."""
    line = [
        "-blockdev", "driver=file,node-name=f0,filename=s.qcow2", "-blockdev", "driver=qcow2,node-name=q0,file=f0",
        "-blockdev", '{"driver": "raw", "node-name": "r0", "file.filename": "r.img", "read-only": true}',
        "-drive", "if=none,id=d0,file=b.img,format=raw,read-only=on", "-blockdev", "driver=null-co,node-name=n0",
    ]  # fmt: skip
    nodes = {node.name: node for node in read(line, V7).nodes}
    assert (nodes["q0"].file, nodes["q0"].read_only) == ("s.qcow2", False)
    assert (nodes["r0"].file, nodes["r0"].read_only) == ("r.img", True)
    assert nodes["n0"].file == "null-co://"
    drive = [node for node in nodes.values() if node.file == "b.img"]
    assert [(node.driver, node.drive, node.read_only) for node in drive] == [("raw", "d0", True), ("file", "", True)]


def test_sockets_that_yank_can_break_are_in_the_order_of_the_command_line() -> None:
    """Monitors and character devices together."""
    line = "-qmp unix:a -chardev socket,id=s0,path=p -chardev file,id=f0,path=q -serial unix:x -qmp unix:b"
    assert read(line.split(), V7).sockets == ["compat_monitor0", "s0", "serial0", "compat_monitor1"]


def test_a_monitor_may_be_given_in_two_parts() -> None:
    """``-chardev`` and ``-mon``; one for people is none."""
    line = "-chardev socket,id=c0,path=m.sock -mon chardev=c0,mode=control -mon chardev=c0,mode=readline"
    assert read(line.split(), V7).monitors == ["m.sock"]


def test_which_machine_types_there_are() -> None:
    """Short names mean the newest; 11 has lost the oldest, and warns of those that it will lose."""
    assert versioned("q35", V7) == ("pc-q35-7.2", True)
    assert versioned("pc", V11) == ("pc-i440fx-11.1", True)
    assert versioned("pc-q35-10.0", V7) == ("pc-q35-10.0", False)
    assert versioned("pc-q35-4.0", V11) == ("pc-q35-4.0", False)
    assert machine_types(V10)[0] == "pc-q35-10.0"
    assert [deprecated("pc-q35-7.2", version) for version in (V7, V10, V11)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "size"), [("256", 256 * MIB), ("524224K", 524224 << 10), ("1.5G", 3 << 29), ("8b", 8)]
)
def test_sizes(text: str, size: int) -> None:
    """A bare number counts MiB."""
    assert parse_size(text) == size


def test_options_are_split_at_single_commas() -> None:
    """A doubled one belongs to the value; a word without a value is on."""
    assert split_options("first,a=1,b,c=x,,y") == ("first", {"a": "1", "b": "on", "c": "x,y"})
