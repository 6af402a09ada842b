"""The machine that a plain command line describes: only what the other end of a migration and an inspection see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from .contract import Version

KIB = 1 << 10
MIB = 1 << 20

_SUFFIX = {"": MIB, "b": 1, "k": KIB, "m": MIB, "g": 1 << 30, "t": 1 << 40}
_CURRENT = {Version.V7_2: "7.2", Version.V10_0: "10.0", Version.V11_1: "11.1"}
_OLDEST = {Version.V7_2: (2, 4), Version.V10_0: (2, 4), Version.V11_1: (5, 2)}
_RELEASES = (
    *((2, minor) for minor in range(4, 13)),
    *((major, minor) for major in range(3, 12) for minor in range(3)),
)

_ALIGNED = 256 * KIB
"""QEMU begins each block of RAM at a multiple of this."""

ROM_BYTES = {"virtio-net-pci": 256 * KIB, "e1000e": 256 * KIB, "e1000": 256 * KIB, "VGA": 64 * KIB}
"""What the option ROM of a device takes in RAM, of those that have one."""

PCI_IDS = {
    "virtio-blk-pci": (0x1AF4, 0x1001, 256, "SCSI controller"),
    "virtio-net-pci": (0x1AF4, 0x1000, 512, "Ethernet controller"),
    "virtio-rng-pci": (0x1AF4, 0x1005, 255, "Unknown class"),
    "virtio-balloon-pci": (0x1AF4, 0x1002, 255, "Unknown class"),
    "virtio-serial-pci": (0x1AF4, 0x1003, 1920, "Communication controller"),
    "virtio-scsi-pci": (0x1AF4, 0x1004, 256, "SCSI controller"),
    "virtio-vga": (0x1AF4, 0x1050, 768, "VGA controller"),
    "VGA": (0x1234, 0x1111, 768, "VGA controller"),
    "e1000e": (0x8086, 0x10D3, 512, "Ethernet controller"),
    "e1000": (0x8086, 0x100E, 512, "Ethernet controller"),
    "nvme": (0x1B36, 0x0010, 264, "NVMe controller"),
    "qemu-xhci": (0x1B36, 0x000D, 3075, "USB controller"),
    "pcie-root-port": (0x1B36, 0x000C, 1540, "PCI bridge"),
}
"""Vendor, device, class and its description, of devices that sit on PCI."""

Properties = dict[str, str]


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One ``-device``, or one that the machine brings along.

    Attributes:
        type: QEMU's name of its kind.
        name: its id, or ``""``.
        properties: all others, as given.
        slot: on the first PCI bus; ``None``: it sits elsewhere.
        function: of that slot.
        own: the machine's own rather than asked for.
    """

    type: str
    name: str
    properties: Properties
    slot: int | None = None
    function: int = 0
    own: bool = False

    @property
    def address(self) -> str:
        """As the migration stream names it (``0000:00:02.0``)."""
        return f"0000:00:{self.slot or 0:02x}.{self.function:x}"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A block node.

    Attributes:
        name: its node name.
        driver: its driver.
        file: the path that it, or what is below it, opens.
        read_only: whether it is opened without the right to write.
        drive: the id of the ``-drive`` that it belongs to, or ``""``.
    """

    name: str
    driver: str
    file: str
    read_only: bool
    drive: str = ""


@dataclass(slots=True)
class Machine:
    """What a command line describes.

    Attributes:
        type: the machine type in its versioned form.
        known: whether this QEMU has such a type.
        backend: id of the memory backend that is the guest's RAM.
        backend_type: its kind.
        backend_path: the file behind it, or ``""``.
        incoming: what followed ``-incoming``, or ``None``.
        stopped: ``-S``.
        monitors: paths (or addresses) of the QMP sockets, in order.
        objects: ids and kinds of what ``-object`` made.
        sockets: labels of the character devices that are sockets, which ``yank`` can break.
        chardevs: label and text of each ``-serial``.
    """

    type: str = ""
    known: bool = True
    accelerator: str = "tcg"
    dirty_ring: bool = False
    cpu: str = "qemu64"
    cpus: int = 1
    ram_bytes: int = 128 * MIB
    name: str = ""
    backend: str = "pc.ram"
    backend_type: str = "memory-backend-ram"
    backend_path: str = ""
    backend_shared: bool = False
    incoming: str | None = None
    stopped: bool = False
    monitors: list[str] = field(default_factory=list[str])
    devices: list[DeviceSpec] = field(default_factory=list[DeviceSpec])
    nodes: list[NodeSpec] = field(default_factory=list[NodeSpec])
    objects: dict[str, str] = field(default_factory=dict[str, str])
    sockets: list[str] = field(default_factory=list[str])
    chardevs: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def ram_blocks(self) -> list[tuple[str, int, int]]:
        """Name, used and greatest size in bytes of every block that a migration moves, the largest first."""
        return sorted(self._allocated(), key=lambda block: -block[2])

    def ram_offsets(self) -> dict[str, int]:
        """Where each block begins in QEMU's numbering of all of them, in bytes, by its name."""
        offsets: dict[str, int] = {}
        place = 0
        for name, _, most in self._allocated():
            offsets[name] = place
            place = -(-(place + most) // _ALIGNED) * _ALIGNED
        return offsets

    def _allocated(self) -> list[tuple[str, int, int]]:
        """The blocks in the order in which the machine makes them."""
        blocks = [(self.backend, self.ram_bytes, self.ram_bytes)]
        blocks += [("pc.bios", 256 * KIB, 256 * KIB), ("pc.rom", 128 * KIB, 128 * KIB)]
        for device in self.devices:
            if device.type == "VGA":
                blocks.append((f"{device.address}/vga.vram", 16 * MIB, 16 * MIB))
            size = ROM_BYTES.get(device.type, 0)
            if size and device.properties.get("romfile", "there"):
                rom = "vga.rom" if device.type == "VGA" else f"{device.type}.rom"
                blocks.append((f"{device.address}/{rom}", size, size))
        blocks.append(("/rom@etc/acpi/tables", 128 * KIB, 2 * MIB))
        blocks += [("/rom@etc/table-loader", 4 * KIB, 64 * KIB), ("/rom@etc/acpi/rsdp", 4 * KIB, 4 * KIB)]
        return blocks

    @property
    def memory_on_disk(self) -> bool:
        """Whether the guest's RAM is a file on an ordinary file system, which userfaultfd can't serve."""
        memory_systems = ("/dev/shm/", "/dev/hugepages/", "/hugetlbfs/", "/run/")
        return self.backend_type == "memory-backend-file" and not self.backend_path.startswith(memory_systems)


def parse_size(text: str, unit: int = MIB) -> int:
    """Read a size as QEMU does: a number with ``K``, ``M``, ``G``; without one it counts ``unit``.

    Raises:
        ValueError: it is none.
    """
    text = text.strip().lower()
    if text and text[-1] in _SUFFIX:
        return int(float(text[:-1]) * _SUFFIX[text[-1]])
    return int(text) * unit


def split_options(text: str) -> tuple[str, Properties]:
    """Read ``FIRST,key=value,...``; a comma within a value is doubled."""
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    first = ""
    properties: Properties = {}
    for index, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals and index == 0:
            first = part
        else:
            properties[key] = value if equals else "on"
    return first, properties


def read(arguments: Sequence[str], version: Version) -> Machine:
    """Read a command line.

    Args:
        arguments: with or without the program's name. Options that don't matter here are passed over.
        version: decides what ``q35`` and ``pc`` mean.
    """
    machine = Machine()
    options = list(_options(arguments))
    bare = not any(option == "nodefaults" for option, _ in options)
    chardevs = {split_options(value)[1].get("id", ""): value for option, value in options if option == "chardev"}
    machine_name = "pc"
    for option, value in options:
        if option in ("machine", "M"):
            machine_name = _machine_option(machine, machine_name, value)
        elif option == "qmp":
            machine.sockets.append(f"compat_monitor{len(machine.monitors)}")
            machine.monitors.append(_socket(value))
        elif option == "mon":
            name = split_options(value)[1].get("chardev", split_options(value)[0])
            if split_options(value)[1].get("mode") == "control":
                machine.monitors.append(_socket(chardevs.get(name, "")))
        else:
            _plain_option(machine, option, value)
    machine.type, machine.known = versioned(machine_name, version)
    _place_devices(machine, bare)
    return machine


def versioned(name: str, version: Version) -> tuple[str, bool]:
    """A machine type in its versioned form, and whether this QEMU has it."""
    name = {"q35": f"pc-q35-{_CURRENT[version]}", "pc": f"pc-i440fx-{_CURRENT[version]}"}.get(name, name)
    return name, name in machine_types(version)


@cache
def machine_types(version: Version) -> tuple[str, ...]:
    """The PC machine types of a QEMU, newest first."""
    newest = _numbers(_CURRENT[version])
    return tuple(
        f"pc-{kind}-{major}.{minor}"
        for kind in ("q35", "i440fx")
        for major, minor in sorted(_RELEASES, reverse=True)
        if _OLDEST[version] <= (major, minor) <= newest
    )


def deprecated(machine_type: str, version: Version) -> bool:
    """Whether a QEMU warns that it will lose this machine type: from 10.0 on those that are three years old."""
    if version is Version.V7_2:
        return False
    newest, own = _numbers(_CURRENT[version]), _numbers(machine_type.rpartition("-")[2])
    return own <= (newest[0] - 3, newest[1])


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _options(arguments: Sequence[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for index, word in enumerate(arguments):
        if word.startswith("-") and len(word) > 1:
            following = arguments[index + 1] if index + 1 < len(arguments) else "-"
            found.append((word.lstrip("-"), "" if following.startswith("-") and len(following) > 1 else following))
    return found


def _machine_option(machine: Machine, name: str, value: str) -> str:
    first, properties = split_options(value)
    machine.accelerator = properties.get("accel", machine.accelerator)
    machine.backend = properties.get("memory-backend", machine.backend)
    return first or properties.get("type", name)


def _socket(value: str) -> str:
    first, properties = split_options(value)
    if first.startswith("unix:"):
        return first.removeprefix("unix:")
    return properties.get("path", first)


def _plain_option(machine: Machine, option: str, value: str) -> None:
    first, properties = split_options(value) if not value.startswith("{") else ("", {})
    if option == "m":
        machine.ram_bytes = parse_size(first or properties.get("size", "128"))
    elif option == "smp":
        machine.cpus = int(first or properties.get("cpus", "1"))
    elif option == "cpu":
        machine.cpu = first
    elif option == "accel":
        machine.accelerator = first
        machine.dirty_ring = "dirty-ring-size" in properties
    elif option == "enable-kvm":
        machine.accelerator = "kvm"
    elif option == "name":
        machine.name = first or properties.get("guest", "")
    elif option == "incoming":
        machine.incoming = value
    elif option == "S":
        machine.stopped = True
    elif option == "chardev" and first == "socket":
        machine.sockets.append(properties.get("id", ""))
    elif option == "serial":
        if first.startswith(("unix:", "tcp:", "telnet:")):
            machine.sockets.append(f"serial{len(machine.chardevs)}")
        machine.chardevs.append((f"serial{len(machine.chardevs)}", value))
    elif option == "object":
        _object_option(machine, first, properties)
    elif option == "device":
        _device_option(machine, value)
    elif option == "drive":
        _drive_option(machine, properties)
    elif option == "blockdev":
        _blockdev_option(machine, value)


def _object_option(machine: Machine, kind: str, properties: Properties) -> None:
    machine.objects[properties.get("id", "")] = kind
    if kind.startswith("memory-backend-") and machine.backend in ("pc.ram", properties.get("id", "")):
        machine.backend = properties.get("id", "")
        machine.backend_type = kind
        machine.backend_path = properties.get("mem-path", "")
        machine.backend_shared = properties.get("share", "off") == "on"


def _device_option(machine: Machine, value: str) -> None:
    if value.startswith("{"):
        properties = {key: str(each) for key, each in json.loads(value).items()}
        kind = properties.pop("driver", "")
    else:
        kind, properties = split_options(value)
    name = properties.pop("id", "")
    machine.devices.append(DeviceSpec(kind, name, properties))


def _drive_option(machine: Machine, properties: Properties) -> None:
    drive = properties.get("id", f"drive{len(machine.nodes)}")
    read_only = properties.get("read-only", properties.get("readonly", "off")) == "on"
    file = properties.get("file", "")
    number = 117 + 31 * len(machine.nodes)
    format_name = properties.get("format", "raw")
    machine.nodes.append(NodeSpec(f"#block{number:03d}", format_name, file, read_only, drive))
    machine.nodes.append(NodeSpec(f"#block{number + 13:03d}", "file", file, read_only))


def _blockdev_option(machine: Machine, value: str) -> None:
    if value.startswith("{"):
        properties = {key: str(each) for key, each in json.loads(value).items()}
    else:
        first, properties = split_options(value)
        properties.setdefault("driver", first)
    read_only = properties.get("read-only", "off").lower() in ("on", "true")
    below = properties.get("file", "")
    file = properties.get("filename", properties.get("file.filename", ""))
    for node in machine.nodes:
        if node.name == below:
            file = node.file
    driver = properties["driver"]
    if driver.startswith("null-"):
        file = f"{driver}://"
    machine.nodes.insert(0, NodeSpec(properties.get("node-name", ""), driver, file, read_only))


def _place_devices(machine: Machine, bare: bool) -> None:
    """Give each PCI device its slot: the one it asks for, or the next one that is free."""
    own = [DeviceSpec("VGA", "", {}, own=True), DeviceSpec("e1000e", "", {}, own=True)] if bare else []
    taken = {0, 31}
    if "i440fx" in machine.type:
        taken.add(1)
    asked: list[DeviceSpec] = [*own, *machine.devices]
    for device in asked:
        if (address := device.properties.get("addr")) is not None:
            taken.add(int(address.partition(".")[0], 16))
    placed: list[DeviceSpec] = []
    for device in asked:
        slot, function = None, 0
        on_first_bus = device.properties.get("bus", "pcie.0") in ("pcie.0", "pci.0")
        if device.type in PCI_IDS and on_first_bus:
            if (address := device.properties.get("addr")) is not None:
                first, _, second = address.partition(".")
                slot, function = int(first, 16), int(second or "0", 16)
            else:
                slot = next(number for number in range(1, 32) if number not in taken)
                taken.add(slot)
        placed.append(DeviceSpec(device.type, device.name, device.properties, slot, function, device.own))
    machine.devices = placed
