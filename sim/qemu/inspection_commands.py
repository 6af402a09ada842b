"""The commands that only look: what a manager asks before it dares to migrate anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import errors, human
from .arguments import Argument
from .contract import QmpMessage, Version
from .errors import Refusal
from .handlers import Arguments, Command, fixed
from .machine import PCI_IDS, DeviceSpec, machine_types, split_options

if TYPE_CHECKING:
    from .monitor import Client
    from .process import Qemu

_CPU_MODELS = ("qemu64", "qemu32", "kvm64", "max", "base", "Haswell", "Skylake-Server", "EPYC", "Nehalem", "host")

_Q35_CHIPS: tuple[tuple[int, int, int, int, str], ...] = (
    (31, 0, 0x2918, 1537, "ISA bridge"),
    (31, 2, 0x2922, 262, "SATA controller"),
    (31, 3, 0x2930, 3077, "SMBus"),
)
_I440FX_CHIPS: tuple[tuple[int, int, int, int, str], ...] = (
    (1, 0, 0x7000, 1537, "ISA bridge"),
    (1, 1, 0x7010, 257, "IDE controller"),
    (1, 3, 0x7113, 1664, "Bridge"),
)
"""Slot, function, device id of Intel's, class and its description, of what the machine itself brings along."""


def _version(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return qemu.version_info()


def _status(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    answer: QmpMessage = {"status": qemu.run_state}
    if qemu.version is Version.V7_2:
        answer["singlestep"] = False
    answer["running"] = qemu.run_state == "running"
    return answer


def _name(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return {"name": qemu.machine.name} if qemu.machine.name else {}


def _cpus(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return [
        {
            "thread-id": qemu.cpu_threads[number],
            "props": {"core-id": number, "thread-id": 0, "socket-id": 0},
            "qom-path": f"/machine/unattached/device[{number}]",
            "cpu-index": number,
            "target": "x86_64",
        }
        for number in range(qemu.machine.cpus)
    ]


def _qom_get(qemu: Qemu, client: Client, arguments: Arguments) -> object:
    path, name = str(arguments["path"]), str(arguments["property"])
    kind = ""
    if path == "/machine":
        kind = f"{qemu.machine.type}-machine"
    elif path.startswith("/machine/unattached/device["):
        kind = f"{qemu.machine.cpu}-x86_64-cpu"
    else:
        kind = dict(_children(qemu)).get(path, "")
    if not kind:
        raise Refusal(f"Device '{path}' not found", errors.NO_DEVICE)
    if name != "type":
        raise Refusal(f"Property '{kind}.{name}' not found")
    return kind


def _children(qemu: Qemu) -> list[tuple[str, str]]:
    """The QOM path and type of each device and object that was asked for."""
    found: list[tuple[str, str]] = []
    anonymous = 0
    for device in qemu.machine.devices:
        if device.own:
            continue
        if device.name:
            found.append((f"/machine/peripheral/{device.name}", device.type))
        else:
            found.append((f"/machine/peripheral-anon/device[{anonymous}]", device.type))
            anonymous += 1
    found += [(f"/objects/{name}", kind) for name, kind in qemu.objects.items()]
    if qemu.machine.backend not in qemu.objects:
        found.append((f"/objects/{qemu.machine.backend}", qemu.machine.backend_type))
    return found


def _qom_list(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    path = str(arguments["path"]).rstrip("/")
    if path not in ("/machine/peripheral", "/machine/peripheral-anon", "/objects", "/machine", "/machine/unattached"):
        raise Refusal(f"Device '{path}' not found", errors.NO_DEVICE)
    found: list[QmpMessage] = [{"name": "type", "type": "string"}]
    for child, kind in _children(qemu):
        folder, _, name = child.rpartition("/")
        if folder == path:
            found.append({"name": name, "type": f"child<{kind}>"})
    return found


def _human(qemu: Qemu, client: Client, arguments: Arguments) -> str:
    return human.answer(qemu, str(arguments["command-line"]))


def _memdevs(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    machine = qemu.machine
    return [
        {
            "share": machine.backend_shared,
            "reserve": True,
            "prealloc": False,
            "host-nodes": [],
            "size": machine.ram_bytes,
            "merge": True,
            "dump": True,
            "policy": "default",
            "id": machine.backend,
        }
    ]


def _memory_size(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return {"base-memory": qemu.machine.ram_bytes, "plugged-memory": 0}


def _pci(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    q35 = "q35" in qemu.machine.type
    bridge = (0, 0, 0x29C0 if q35 else 0x1237, 1536, "Host bridge")
    own = (bridge, *(_Q35_CHIPS if q35 else _I440FX_CHIPS))
    functions = [_function(slot, part, 0x8086, device, kind, words) for slot, part, device, kind, words in own]
    functions += [_device_function(each) for each in qemu.machine.devices if each.slot is not None]
    functions.sort(key=lambda entry: int(str(entry["slot"])))
    return [{"bus": 0, "devices": functions}]


def _device_function(device: DeviceSpec) -> QmpMessage:
    vendor, number, kind, words = PCI_IDS[device.type]
    return _function(device.slot or 0, device.function, vendor, number, kind, words, device.name)


def _function(slot: int, part: int, vendor: int, device: int, kind: int, words: str, name: str = "") -> QmpMessage:
    return {
        "irq_pin": 0,
        "bus": 0,
        "qdev_id": name,
        "slot": slot,
        "class_info": {"class": kind, "desc": words},
        "id": {"device": device, "subsystem-vendor": 0x1AF4, "vendor": vendor, "subsystem": 0x1100},
        "function": part,
        "regions": [],
    }


def _kvm(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return {"enabled": qemu.machine.accelerator == "kvm", "present": True}


def _nodes(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return qemu.disks.describe()


def _blocks(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    paths = [path for path, _ in _children(qemu) if path.startswith("/machine/")]
    devices = [device for device in qemu.machine.devices if not device.own]
    users = {
        device.properties["drive"]: f"{path}/virtio-backend"
        for device, path in zip(devices, paths, strict=True)
        if "drive" in device.properties
    }
    return qemu.disks.blocks(users)


def _chardevs(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    found: list[QmpMessage] = []
    for number, path in enumerate(qemu.monitors):
        state = "" if qemu.is_connected(number) else "disconnected:"
        filename = f"{state}unix:{path},server=on"
        found.append({"frontend-open": True, "filename": filename, "label": f"compat_monitor{number}"})
    for label, value in qemu.machine.chardevs:
        filename = split_options(value)[0].partition(":")[0]
        found.append({"frontend-open": True, "filename": filename, "label": label})
    return found


def _machines(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return [
        {
            "hotpluggable-cpus": True,
            "name": name,
            "numa-mem-supported": False,
            "default-cpu-type": "qemu64-x86_64-cpu",
            "cpu-max": 288 if "q35" in name else 255,
            "deprecated": False,
            "default-ram-id": "pc.ram",
        }
        for name in machine_types(qemu.version)
    ]


def _cpu_definitions(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return [
        {"name": name, "typename": f"{name}-x86_64-cpu", "static": False, "unavailable-features": []}
        for name in _CPU_MODELS
    ]


def _hotpluggable(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return [
        {
            "props": {"core-id": number, "thread-id": 0, "socket-id": 0},
            "vcpus-count": 1,
            "qom-path": f"/machine/unattached/device[{number}]",
            "type": f"{qemu.machine.cpu}-x86_64-cpu",
        }
        for number in range(qemu.machine.cpus)
    ]


COMMANDS: tuple[Command, ...] = (
    Command("query-version", _version),
    Command("query-status", _status),
    Command("query-name", _name),
    Command("query-uuid", fixed({"UUID": "00000000-0000-0000-0000-000000000000"})),
    Command("query-target", fixed({"arch": "x86_64"})),
    Command("query-kvm", _kvm),
    Command("query-cpus-fast", _cpus),
    Command("query-hotpluggable-cpus", _hotpluggable),
    Command("query-cpu-definitions", _cpu_definitions),
    Command("query-machines", _machines),
    Command("query-memdev", _memdevs),
    Command("query-memory-size-summary", _memory_size),
    Command("query-memory-devices", fixed([])),
    Command("query-pci", _pci),
    Command("query-chardev", _chardevs),
    Command("query-named-block-nodes", _nodes, (Argument("flat", "boolean", required=False),)),
    Command("query-block", _blocks),
    Command("query-blockstats", fixed([]), (Argument("query-nodes", "boolean", required=False),)),
    Command("query-block-jobs", fixed([])),
    Command("query-block-exports", fixed([])),
    Command("query-jobs", fixed([])),
    Command("query-iothreads", fixed([])),
    Command("query-fdsets", fixed([])),
    Command("qom-get", _qom_get, (Argument("path"), Argument("property"))),
    Command("qom-list", _qom_list, (Argument("path"),)),
    Command(
        "human-monitor-command", _human, (Argument("command-line"), Argument("cpu-index", "integer", required=False))
    ),
)
