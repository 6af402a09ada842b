"""What a QEMU says about itself: the truth that a destination is made from, and compared by.

Twelve commands, at most six in flight at a time (QEMU queues eight and then stops reading): 2 to 10 ms on an
idle host. Nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import msgspec

from whimbrel.engine.errors import QemuRefused, WhimbrelError

from . import replies
from .argument_table import BLOCK_FORMATS, BLOCK_LOCAL
from .processes import read_cwd
from .replies import Executor, fit

T = TypeVar("T")

IN_FLIGHT = 6

_RAM_BLOCK = re.compile(
    r"^\s*(?P<name>\S+)\s+(?P<page>\d+) (?P<unit>[KMG]?i?B)\s+"
    r"0x(?P<offset>[0-9a-f]+)\s+0x(?P<used>[0-9a-f]+)\s+0x(?P<total>[0-9a-f]+)\b"
)
_UNIT_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CHILD = re.compile(r"child<(?P<type>.+)>")


@dataclass(frozen=True, slots=True)
class RamBlock:
    """A block of memory that a migration moves.

    Attributes:
        name: by which both ends know it.
        offset_bytes: where it begins in QEMU's own numbering of all blocks.
        used_bytes: how much of it is moved.
        max_bytes: how far it can grow; more than ``used_bytes`` for a few of the firmware's tables only.
        page_bytes: of the host's pages behind it.
    """

    name: str
    offset_bytes: int
    used_bytes: int
    max_bytes: int
    page_bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device that was asked for, on the command line or by hot-plug.

    Attributes:
        name: its id, or for one without an id ``device[N]``, numbered in the order of creation.
        type: QEMU's name of its kind (``virtio-net-pci``).
        pci_address: ``BUS:SLOT.FUNCTION`` where it sits on the first PCI bus and has an id, or ``None``.
            Behind a bridge QEMU tells an address only once the guest's firmware has numbered the buses.
    """

    name: str
    type: str
    pci_address: str | None = None


@dataclass(frozen=True, slots=True)
class BlockNode:
    """A node of the block graph.

    Attributes:
        name: its node name; QEMU makes up names with ``#`` anew in each process.
        driver: its block driver.
        file: what it opens, in QEMU's words; a path of this host is absolute where that could be told.
        read_only: whether it was opened without the right to write.
    """

    name: str
    driver: str
    file: str
    read_only: bool

    @property
    def stores(self) -> bool:
        """Whether it stores something itself, rather than in another node."""
        return self.driver not in BLOCK_FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFacts:
    """One QEMU, as it describes itself.

    Attributes:
        version: ``(7, 2, 22)``.
        pid: the process, where it is known.
        cpu_threads: ids of the threads that run the guest's CPUs, as QEMU's own pid namespace numbers them.
        run_state: ``running``, ``paused``, ``inmigrate``, ... open-ended.
        machine: the machine type in its versioned form (``pc-q35-7.2``).
        cpu: the model of the first CPU (``qemu64``), or ``None`` for a machine without one.
        cpu_count: CPUs that are plugged in.
        ram_blocks: every block that a migration moves, ROM and video memory too.
        memory_backends: names of those blocks that are the guest's RAM.
        devices: those that were asked for, hot-plugged ones included.
        pci: the functions on the first PCI bus, ``SLOT.FUNCTION`` to ``VENDOR:DEVICE``.
        accelerator: ``kvm`` or ``tcg``.
        block_nodes: the block graph as it is now, not as it was started.
        migration_status: as in ``query-migrate``, or ``None``.
        listening: whether it already waits for a migration stream at an address.
        blockers: why QEMU itself would not migrate it.
    """

    version: tuple[int, int, int]
    pid: int | None
    cpu_threads: tuple[int, ...]
    run_state: str
    machine: str
    cpu: str | None
    cpu_count: int
    ram_blocks: tuple[RamBlock, ...]
    memory_backends: tuple[str, ...]
    devices: tuple[Device, ...]
    pci: Mapping[str, str]
    accelerator: str
    block_nodes: tuple[BlockNode, ...]
    migration_status: str | None
    listening: bool
    blockers: tuple[str, ...]

    @property
    def guest_ram(self) -> tuple[RamBlock, ...]:
        """The blocks that are the guest's RAM: those of memory backends, which ``-m`` makes too."""
        return tuple(block for block in self.ram_blocks if block.name in self.memory_backends)

    @property
    def ram_bytes(self) -> int:
        """The guest's RAM, hot-plugged memory included."""
        return sum(block.used_bytes for block in self.guest_ram)


class _CpuReply(msgspec.Struct, frozen=True, rename="kebab"):
    qom_path: str
    thread_id: int
    target: str = ""


class _MemdevReply(msgspec.Struct, frozen=True):
    id: str | None = None


class _PropertyReply(msgspec.Struct, frozen=True):
    name: str
    type: str


class _PciIdReply(msgspec.Struct, frozen=True):
    vendor: int
    device: int


class _PciDeviceReply(msgspec.Struct, frozen=True):
    slot: int
    function: int
    id: _PciIdReply
    qdev_id: str = ""


class _PciBusReply(msgspec.Struct, frozen=True):
    bus: int
    devices: tuple[_PciDeviceReply, ...] = ()


class _KvmReply(msgspec.Struct, frozen=True):
    enabled: bool


class _NodeReply(msgspec.Struct, frozen=True, rename="kebab"):
    file: str
    ro: bool
    drv: str
    node_name: str = ""


async def read_facts(executor: Executor, *, pid: int | None) -> SideFacts:
    """Ask one QEMU for everything that its other end has to agree with.

    Args:
        executor: its monitor.
        pid: its process, where it is on this host: tells what the relative paths of its images mean.

    Raises:
        QemuRefused: it does not know a command, or refuses it.
        OutcomeUnknown, CannotConnect: the monitor is gone.
        WhimbrelError: an answer has not the documented shape.

    If cancelled: nothing was changed.
    """
    asker = _Asker(executor)
    # Two halves only because the type of gather() counts no further than six.
    first = asyncio.gather(
        asker.cpus(),  # asks twice, one after the other: begun first
        asker.version(),
        asker.ask(replies.RunStatus, "query-status"),
        asker.ask(str, "qom-get", {"path": "/machine", "property": "type"}),
        asker.ask(str, "human-monitor-command", {"command-line": "info ramblock"}),
        asker.ask(list[_MemdevReply], "query-memdev"),
    )
    second = asyncio.gather(
        asker.devices(),
        asker.buses(),
        asker.ask(_KvmReply, "query-kvm"),
        asker.ask(list[_NodeReply], "query-named-block-nodes", {"flat": True}),
        asker.ask(replies.MigrationInfo, "query-migrate"),
    )
    answers, more = await asyncio.gather(first, second)
    (model, cpus), version, status, machine, ram, memdevs = answers
    devices, buses, kvm, nodes, info = more
    first_bus = tuple(device for bus in buses if bus.bus == 0 for device in bus.devices)
    backends = tuple(memdev.id for memdev in memdevs if memdev.id is not None)
    return SideFacts(
        version=version,
        pid=pid,
        cpu_threads=tuple(cpu.thread_id for cpu in cpus),
        run_state=status.status,
        machine=machine.removesuffix("-machine"),
        cpu=model,
        cpu_count=len(cpus),
        ram_blocks=parse_ram_blocks(ram),
        memory_backends=(*backends, *(f"/objects/{backend}" for backend in backends)),
        devices=tuple(_devices(devices, first_bus)),
        pci={f"{each.slot:02x}.{each.function}": f"{each.id.vendor:04x}:{each.id.device:04x}" for each in first_bus},
        accelerator="kvm" if kvm.enabled else "tcg",
        block_nodes=tuple(_nodes(nodes, pid)),
        migration_status=info.status,
        listening=bool(info.socket_address),
        blockers=info.blocked_reasons,
    )


def parse_ram_blocks(text: str) -> tuple[RamBlock, ...]:
    """Read the human monitor's ``info ramblock``, which says more than any QMP command.

    The heading is passed over, and so are columns that later QEMUs add at the end of a line.

    Raises:
        WhimbrelError: a line has not the known shape: a block that was missed would go unchecked.
    """
    blocks: list[RamBlock] = []
    for line in text.splitlines():
        match = _RAM_BLOCK.match(line)
        if match is not None:
            offset, used, total = (int(match[column], 16) for column in ("offset", "used", "total"))
            page_bytes = int(match["page"]) * _UNIT_BYTES[match["unit"]]
            blocks.append(RamBlock(match["name"], offset, used, total, page_bytes))
        elif line.strip() and "Block Name" not in line:
            raise WhimbrelError(f"the answer to info ramblock cannot be read: {line.strip()!r}")
    return tuple(blocks)


class _Asker:
    """Asks, with a limit on how much is asked at once."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def ask(self, reply_type: type[T], command: str, arguments: Mapping[str, object] | None = None) -> T:
        async with self._slots:
            reply = await self._executor.execute(command, arguments)
        return fit(reply_type, command, reply, side=getattr(self._executor, "side", None))

    async def version(self) -> tuple[int, int, int]:
        known = getattr(self._executor, "version", None)  # a monitor has it from the greeting
        if known is not None:
            return cast("tuple[int, int, int]", known)
        return (await self.ask(replies.VersionInfo, "query-version")).triple

    async def cpus(self) -> tuple[str | None, list[_CpuReply]]:
        cpus = await self.ask(list[_CpuReply], "query-cpus-fast")
        if not cpus:
            return None, cpus
        kind = await self.ask(str, "qom-get", {"path": cpus[0].qom_path, "property": "type"})
        return kind.removesuffix(f"-{cpus[0].target}-cpu"), cpus

    async def devices(self) -> list[_PropertyReply]:
        folders = ("/machine/peripheral", "/machine/peripheral-anon")
        found = await asyncio.gather(*(self.ask(list[_PropertyReply], "qom-list", {"path": path}) for path in folders))
        return [each for folder in found for each in folder]

    async def buses(self) -> list[_PciBusReply]:
        try:
            return await self.ask(list[_PciBusReply], "query-pci")
        except QemuRefused:
            return []  # a build without PCI


def _devices(properties: Iterable[_PropertyReply], first_bus: Iterable[_PciDeviceReply]) -> Iterable[Device]:
    addresses = {each.qdev_id: f"00:{each.slot:02x}.{each.function}" for each in first_bus if each.qdev_id}
    for each in properties:
        match = _CHILD.fullmatch(each.type)
        if match:
            yield Device(each.name, match["type"], addresses.get(each.name))


def _nodes(nodes: Iterable[_NodeReply], pid: int | None) -> Iterable[BlockNode]:
    try:
        cwd = None if pid is None else str(read_cwd(pid))
    except WhimbrelError:
        cwd = None  # another user's process: its relative paths stay relative
    for node in nodes:
        is_path = node.drv in BLOCK_LOCAL and ":" not in node.file.partition("/")[0]
        file = posixpath.join(cwd, node.file) if cwd is not None and is_path else node.file
        yield BlockNode(node.node_name, node.drv, file, node.ro)
