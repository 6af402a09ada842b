"""Whether two QEMUs are two ends of one migration, before any RAM moves.

QEMU itself finds most differences late or not at all: a missing device after the guest was stopped, a
device too many never. All of this is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .facts import Device, RamBlock, SideFacts
from .findings import Finding, inform, refuse, warn

HOST_CPU_MODELS = frozenset({"host", "max"})
"""Models that are whatever this binary makes of this host, so that the name says nothing by itself."""


def compare(source: SideFacts, destination: SideFacts, *, same_files: bool = True) -> tuple[Finding, ...]:
    """Compare the running source with the waiting destination.

    Args:
        source: the one that runs the guest.
        destination: the one that waits for it.
        same_files: both open their disks by the same names. Without it, other names are a warning only:
            on another host the same storage may be found elsewhere, or it is being mirrored.

    Returns:
        Every difference, and nothing for two that agree.
    """
    return (
        *_machines(source, destination),
        *_ram(source, destination),
        *_devices(source, destination),
        *_disks(source, destination, same_files=same_files),
        *_versions(source, destination),
    )


def _machines(source: SideFacts, destination: SideFacts) -> Iterable[Finding]:
    if source.machine != destination.machine:
        yield refuse(
            "machine-type",
            f"the source is a {source.machine} and the destination a {destination.machine}",
            f"start the destination with -machine {source.machine}",
        )
    if source.accelerator != destination.accelerator:
        yield refuse(
            "accelerator",
            f"the source runs under {source.accelerator} and the destination under {destination.accelerator}",
            f"start the destination with -accel {source.accelerator}",
        )
    if source.cpu != destination.cpu:
        yield refuse(
            "cpu-model",
            f"the source's CPUs are {source.cpu} and the destination's {destination.cpu}",
            f"start the destination with -cpu {source.cpu}",
        )
    elif source.cpu in HOST_CPU_MODELS and source.version[:2] != destination.version[:2]:
        yield refuse(
            "cpu-model-of-host",
            f"the CPU model {source.cpu} means something else in each QEMU, and the two have different versions",
            "restart the guest with a named CPU model, or use the source's QEMU",
        )
    if source.cpu_count != destination.cpu_count:
        yield refuse(
            "cpu-count",
            f"the source has {source.cpu_count} CPUs and the destination {destination.cpu_count}",
            "give the destination what was hot-plugged, on its command line",
        )


def _ram(source: SideFacts, destination: SideFacts) -> Iterable[Finding]:
    there = {block.name: block for block in destination.ram_blocks}
    for block in source.ram_blocks:
        other = there.pop(block.name, None)
        if other is None:
            yield refuse(
                "ram-block-missing",
                f"the destination has no RAM block {block.name}",
                "give it the same memory, devices and ROMs as the source",
            )
        elif not _fits(block, other):
            yield refuse(
                "ram-block-size",
                f"the RAM block {block.name} has {block.used_bytes} bytes in the source and {other.used_bytes} in "
                "the destination",
                "give it the same memory, devices and ROMs as the source",
            )
        elif block.page_bytes != other.page_bytes:
            yield warn(
                "ram-page-size",
                f"the RAM block {block.name} has pages of {block.page_bytes} bytes in the source and of "
                f"{other.page_bytes} in the destination",
                "post-copy is not possible with these",
            )
    for name in there:
        yield warn("ram-block-extra", f"the destination has a RAM block {name} that the source has not")


def _fits(block: RamBlock, other: RamBlock) -> bool:
    # A block that can grow is made to fit by the destination; QEMU refuses any other whose size differs.
    return other.used_bytes == block.used_bytes or block.used_bytes <= other.max_bytes != other.used_bytes


def _devices(source: SideFacts, destination: SideFacts) -> Iterable[Finding]:
    there = {device.name: device for device in destination.devices}
    for device in source.devices:
        other = there.pop(device.name, None)
        if other is None:
            yield refuse(
                "device-missing",
                f"the destination has no device {_name(device)}",
                "if it was hot-plugged, put it on the destination's command line, at the same address",
            )
        elif device.type != other.type:
            yield refuse("device-type", f"the device {_name(device)} is a {other.type} in the destination")
        elif device.pci_address != other.pci_address:
            yield refuse(
                "device-address",
                f"the device {_name(device)} is at PCI address {device.pci_address or 'unknown'} in the source and "
                f"at {other.pci_address or 'unknown'} in the destination",
                "give it an address with addr=",
            )
    for device in there.values():
        yield refuse(
            "device-extra",
            f"the destination has a device {_name(device)} that the source has not",
            "the guest would find a device that it was never told of; leave it out",
        )
    slots = sorted(source.pci.keys() | destination.pci.keys())
    differing = [slot for slot in slots if source.pci.get(slot) != destination.pci.get(slot)]
    for slot in differing:
        yield refuse(
            "pci-function",
            f"PCI 00:{slot} is {source.pci.get(slot, 'empty')} in the source and "
            f"{destination.pci.get(slot, 'empty')} in the destination",
            "give the devices their addresses with addr=",
        )


def _name(device: Device) -> str:
    return f"{device.name} ({device.type})"


def _disks(source: SideFacts, destination: SideFacts, *, same_files: bool) -> Iterable[Finding]:
    def files(side: SideFacts, *, read_only: bool) -> Counter[str]:
        return Counter(node.file for node in side.block_nodes if node.stores and node.read_only is read_only)

    written, written_there = files(source, read_only=False), files(destination, read_only=False)
    missing = sorted((written - written_there).elements())
    if written.total() > written_there.total():
        yield refuse(
            "disk-missing",
            f"the source writes to {', '.join(missing)}, which the destination has not opened for writing",
            "give the destination the same disks",
        )
    elif missing:
        kind = refuse if same_files else warn
        yield kind(
            "disk-file",
            f"the source writes to {', '.join(missing)}, and the destination has "
            f"{', '.join(sorted((written_there - written).elements()))} in its place",
            "a snapshot or a mirror has changed the source's disks since it was started: replace the drive's argument"
            if same_files
            else "make sure that both are the same storage, or that it is mirrored",
        )
    read, read_there = files(source, read_only=True), files(destination, read_only=True)
    lacking = sorted((read - read_there - written_there).elements())
    if lacking:
        seen = f"the source reads from {', '.join(lacking)}, which the destination has not opened"
        yield warn("disk-read-only", seen, "put the same medium in, if the guest still needs it")


def _versions(source: SideFacts, destination: SideFacts) -> Iterable[Finding]:
    if destination.version[:2] < source.version[:2]:
        yield warn(
            "older-destination",
            f"the destination's QEMU {_dotted(destination.version)} is older than the source's "
            f"{_dotted(source.version)}",
            "it may not know what the newer one sends; it is better to move to the same version or a newer one",
        )
    elif destination.version != source.version:
        yield inform(
            "other-version",
            f"the source is QEMU {_dotted(source.version)} and the destination {_dotted(destination.version)}",
        )


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
