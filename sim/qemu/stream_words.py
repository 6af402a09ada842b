"""The migration stream as far as its content matters: what each end says of itself, and where they don't fit.

Messages, source to destination (the pages themselves are only bytes):

* ``hello``: at the very beginning; `Greeting` as a dict, and ``memory``, the guest's memory where both ends share one.
* ``state``: the device state; ``of``: ``precopy`` or ``postcopy``; ``ran``: whether the guest ran before.
* ``end``: post-copy, every page is in the stream before it.
* ``resume``: over a new connection, after post-copy lost its own.

Destination to source, on the return path:

* ``loaded``: it has everything (``ok`` true) or gave up (false); the last that it says.
* ``switchover-ack``: no device has anything against the switchover.
* ``package-loaded``: post-copy, the devices are loaded (QEMU 11).
* ``runs``, ``halts``: post-copy, the vCPUs run or stand still there.
* ``resumed``: the answer to ``resume``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contract import Version
from .line import Message
from .machine import DeviceSpec, Machine
from .values import as_list

_SECTION = {
    "virtio-blk-pci": "virtio-blk",
    "virtio-net-pci": "virtio-net",
    "virtio-rng-pci": "virtio-rng",
    "virtio-balloon-pci": "virtio-balloon",
    "virtio-scsi-pci": "virtio-scsi",
    "virtio-serial-pci": "virtio-console",
    "virtio-vga": "virtio-gpu",
}

HELLO_BYTES = 4096
"""The stream's beginning: header, machine type, the list of RAM blocks."""

NO_USERFAULTFD = (
    "ram_block_enable_notify userfault register: Invalid argument",
    "ram_block_enable_notify failed",
    "cleanup_range: userfault unregister Invalid argument",
    "load of migration failed: Operation not permitted",
)
"""What 7.2 writes when post-copy begins with memory that userfaultfd can't serve."""

_INVALID = "load of migration failed: Invalid argument"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a source says of itself before anything else.

    Attributes:
        machine: the machine type.
        blocks: name and size in bytes of each RAM block.
        sections: name of each device's section, and the number of MSI-X vectors less one that it has.
        postcopy: ``postcopy-ram`` is on.
        return_path: the destination is to answer.
        channels: of multifd; 0 without.
    """

    machine: str
    blocks: tuple[tuple[str, int], ...]
    sections: tuple[tuple[str, int], ...]
    postcopy: bool
    return_path: bool
    channels: int

    def as_message(self) -> Message:
        """As it goes into the stream: JSON types only."""
        return {
            "kind": "hello",
            "machine": self.machine,
            "blocks": [list(block) for block in self.blocks],
            "sections": [list(section) for section in self.sections],
            "postcopy": self.postcopy,
            "return-path": self.return_path,
            "channels": self.channels,
        }


def read_greeting(message: Message) -> Greeting:
    """The `Greeting` in a message.

    Raises:
        KeyError, ValueError: it is none.
    """
    pairs: dict[str, tuple[tuple[str, int], ...]] = {}
    for name in ("blocks", "sections"):
        rows = [as_list(row) for row in as_list(message[name]) or []]
        pairs[name] = tuple((str(row[0]), int(str(row[1]))) for row in rows if row is not None)
    return Greeting(
        machine=str(message["machine"]),
        blocks=pairs["blocks"],
        sections=pairs["sections"],
        postcopy=bool(message["postcopy"]),
        return_path=bool(message["return-path"]),
        channels=int(str(message["channels"])),
    )


def sections(machine: Machine) -> tuple[tuple[str, int], ...]:
    """The sections of a machine's devices in the stream, those only that may be missing at the other end."""
    return tuple(
        (f"{device.address}/{_SECTION.get(device.type, device.type)}", _vectors(device))
        for device in machine.devices
        if device.slot is not None
    )


def blocks(machine: Machine) -> tuple[tuple[str, int], ...]:
    """The RAM blocks of a machine, as the stream lists them."""
    return tuple((name, used) for name, used, _ in machine.ram_blocks)


def _vectors(device: DeviceSpec) -> int:
    """The size of the MSI-X table as PCI's configuration space has it: the vectors less one."""
    properties = device.properties
    if "vectors" in properties:
        return int(properties["vectors"]) - 1
    return int(properties.get("num-queues", "1"))


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a destination gives up.

    Attributes:
        stderr: the lines that it writes, the last one among them as ``error-desc`` has it.
        early: before the return path is open, so that the source is told nothing by it.
    """

    stderr: tuple[str, ...]
    early: bool = False


def misfit_at_the_start(greeting: Greeting, machine: Machine, version: Version, *, postcopy: bool) -> Misfit | None:
    """What a destination finds wrong as the stream begins.

    Args:
        greeting: what the source says.
        machine: its own.
        version: its own; decides the words.
        postcopy: whether its own ``postcopy-ram`` is on.
    """
    if greeting.machine != machine.type:
        words = f"Machine type received is '{greeting.machine}' and local is '{machine.type}'"
        chain = f"post load hook failed for: configuration, version_id: 1, minimum_version: 0: {words}"
        return Misfit(_two(version, words, chain), early=True)
    if greeting.postcopy and not postcopy:
        words = "RAM postcopy is disabled but have 16 byte advise"
        return Misfit(_two(version, words, words))
    mine = dict(blocks(machine))
    for name, size in greeting.blocks:
        words = ""
        if name not in mine:
            words = f'Unknown ramblock "{name}", cannot accept migration'
        elif mine[name] != size:
            words = f"Size mismatch: {name}: {size:#x} != {mine[name]:#x}: Invalid argument"
        if words:
            loading = "error while loading state for instance 0x0 of device 'ram'"
            if version is Version.V11_1:
                return Misfit((words, f"{_INVALID}: {loading}: Failed to load vmstate version_id: 4, ret: -22"))
            return Misfit((words, loading, _INVALID))
    return None


def misfit_of_devices(greeting: Greeting, machine: Machine, version: Version) -> Misfit | None:
    """What a destination finds wrong with the device state, when the source's guest stands still already."""
    mine = dict(sections(machine))
    for name, vectors in greeting.sections:
        if name not in mine:
            kind = "section" if version is Version.V11_1 else "savevm section"
            hint = "Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices"
            words = f"Unknown {kind} or instance '{name}' 0. {hint}"
            return Misfit(_two(version, words, words))
        if mine[name] != vectors:
            return Misfit(_bad_config(name, vectors, mine[name], version))
    return None


def cut_off(version: Version) -> tuple[str, ...]:
    """What a destination writes when the stream ends in the middle."""
    footer = "check_section_footer: Read section footer failed: -5"
    if version is Version.V11_1:
        return (footer, f"{_INVALID}: Section footer error, section_id: 1")
    return (footer, _INVALID)


def stray(version: Version) -> tuple[str, ...]:
    """What a destination writes when somebody connects who is no source."""
    if version is Version.V11_1:
        return ("Failed to peek at channel",)
    return ("Not a migration stream", _INVALID)


def _two(version: Version, words: str, chain: str) -> tuple[str, ...]:
    """11.1 says it in one line, with the whole chain of causes; the others in two."""
    return (f"{_INVALID}: {chain}",) if version is Version.V11_1 else (words, _INVALID)


def _bad_config(name: str, read: int, own: int, version: Version) -> tuple[str, ...]:
    kind = name.partition("/")[2]
    first = (
        f"get_pci_config_device: Bad config data: i=0x9a read: {read:x} device: {own:x} cmask: ff wmask: 0 w1cmask:0"
    )
    loading = f"error while loading state for instance 0x0 of device '{name}'"
    if version is Version.V11_1:
        element = "Failed to load element of type pci config for config"
        return (first, element, f"{_INVALID}: {loading}: Failed to load element of type virtio for virtio")
    return (first, "Failed to load PCIDevice:config", f"Failed to load {kind}:virtio", loading, _INVALID)
