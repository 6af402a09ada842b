"""The commands that change the machine: its guest's run, its objects, devices and block nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel.sim.clock import MILLISECOND_NS

from . import errors
from .arguments import Argument
from .contract import QmpMessage, Version
from .errors import Refusal
from .handlers import Arguments, Command
from .machine import PCI_IDS, DeviceSpec, NodeSpec

if TYPE_CHECKING:
    from .monitor import Client
    from .process import Qemu

FIRMWARE_RESET_NS = 24 * MILLISECOND_NS
"""From a reset to SeaBIOS's own, which it makes when it finds itself started in the middle of things."""


def _cont(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    if qemu.run_state in ("shutdown", "internal-error"):
        raise Refusal("Resetting the Virtual Machine is required")
    if qemu.run_state == "finish-migrate":
        raise Refusal("Migration is not finalized yet")
    if qemu.run_state == "inmigrate":
        qemu.autostart = True
        return {}
    try:
        qemu.disks.activate()
    except Refusal:
        if qemu.version is not Version.V7_2 and qemu.disks.lock_line is not None:
            qemu.say_plainly(qemu.disks.lock_line)
        raise
    qemu.start_guest()
    return {}


def _stop(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    if qemu.run_state == "inmigrate":
        qemu.autostart = False
    elif qemu.run_state == "running":
        qemu.stop_guest("paused")
    return {}


def _quit(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.quit("host-qmp-quit")
    return {}


def _reset(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.emit("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
    if qemu.run_state == "running":
        qemu.time.after(FIRMWARE_RESET_NS, lambda: qemu.emit("RESET", {"guest": True, "reason": "guest-reset"}))
    return {}


def _powerdown(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.emit("POWERDOWN")
    return {}


def _device_add(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    driver = str(arguments["driver"])
    if driver not in PCI_IDS:
        raise Refusal(f"'{driver}' is not a valid device model name")
    bus = str(arguments.get("bus", "pcie.0" if "q35" in qemu.machine.type else "pci.0"))
    old, migrating = qemu.version is Version.V7_2, qemu.outgoing.running
    if migrating and not old:
        raise Refusal("device_add not allowed while migrating")
    if bus == "pcie.0":
        raise Refusal(f"Bus '{bus}' does not support hotplugging")
    if migrating:
        raise Refusal("device_add not allowed while migrating")
    properties = {key: str(value) for key, value in arguments.items() if key not in ("driver", "id")}
    qemu.machine.devices.append(DeviceSpec(driver, str(arguments.get("id", "")), properties))
    return {}


def _device_del(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    name = str(arguments["id"])
    found = next((device for device in qemu.machine.devices if device.name == name), None)
    if found is None:
        raise Refusal(f"Device '{name}' not found", errors.NO_DEVICE)
    if qemu.outgoing.running:
        raise Refusal("device_del not allowed while migrating")
    if found.properties.get("bus", "pcie.0") == "pcie.0":
        raise Refusal("Bus 'pcie.0' does not support hotplugging")
    qemu.machine.devices.remove(found)
    qemu.emit("DEVICE_DELETED", {"device": name, "path": f"/machine/peripheral/{name}"})
    return {}


def _object_add(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    kind, name = str(arguments["qom-type"]), str(arguments["id"])
    known = ("secret", "iothread", "throttle-group", "authz-", "tls-creds-", "memory-backend-", "rng-", "filter-")
    if not kind.startswith(known):
        raise errors.wrong_value("qom-type", kind)
    if kind == "secret" and "data" not in arguments and "file" not in arguments:
        raise Refusal("Must provide 'file' or 'data' property")
    if name in qemu.objects or name == qemu.machine.backend:
        raise Refusal(f"attempt to add duplicate property '{name}' to object (type 'container')")
    qemu.objects[name] = kind
    return {}


def _object_del(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    name = str(arguments["id"])
    if name == qemu.machine.backend:
        raise Refusal(f"object '{name}' is in use, can not be deleted")
    if qemu.objects.pop(name, None) is None:
        raise Refusal(f"object '{name}' not found")
    return {}


def _blockdev_add(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    name = str(arguments.get("node-name", ""))
    if any(node.name == name for node in qemu.disks.nodes):
        raise Refusal(f"Duplicate nodes with node-name='{name}'")
    driver = str(arguments["driver"])
    file = f"{driver}://" if driver.startswith("null-") else str(arguments.get("filename", ""))
    qemu.disks.add(NodeSpec(name, driver, file, bool(arguments.get("read-only", False))))
    return {}


def _blockdev_del(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    name = str(arguments["node-name"])
    if not qemu.disks.remove(name):
        raise Refusal(f"Failed to find node with node-name='{name}'")
    return {}


COMMANDS: tuple[Command, ...] = (
    Command("cont", _cont),
    Command("stop", _stop),
    Command("quit", _quit),
    Command("system_reset", _reset),
    Command("system_powerdown", _powerdown),
    Command(
        "device_add",
        _device_add,
        (Argument("driver"), Argument("bus", required=False), Argument("id", required=False)),
        free=True,
    ),
    Command("device_del", _device_del, (Argument("id"),)),
    Command("object-add", _object_add, (Argument("qom-type"), Argument("id")), free=True),
    Command("object-del", _object_del, (Argument("id"),)),
    Command("blockdev-add", _blockdev_add, (Argument("driver"), Argument("node-name", required=False)), free=True),
    Command("blockdev-del", _blockdev_del, (Argument("node-name"),)),
)
