"""The commands that change the machine."""

from __future__ import annotations

import pytest

from tests.sim.qemu.pair import PLAIN, Pair
from whimbrel.sim.qemu.contract import Version

V7, V10 = Version.V7_2, Version.V10_0


def test_stop_and_cont() -> None:
    """Each says so once; a second one changes nothing."""
    pair = Pair()
    for command in ("stop", "stop", "cont", "cont"):
        assert pair.source.ask(command) == {}
    assert pair.source.events == ["STOP", "RESUME"]
    assert pair.source.ask("query-status") == {"status": "running", "singlestep": False, "running": True}


def test_cont_takes_the_time_to_resume() -> None:
    """Other commands do not."""
    pair = Pair()
    pair.source.ask("stop")
    began_ns = pair.clock.now_ns
    pair.source.ask("cont")
    resumed_ns = pair.clock.now_ns - began_ns
    began_ns = pair.clock.now_ns
    pair.source.ask("query-status")
    assert resumed_ns - (pair.clock.now_ns - began_ns) == round(pair.source.qemu.costs.resume_s * 1e9)


def test_on_a_destination_they_set_whether_it_starts() -> None:
    """Without an event and without a change of its state."""
    pair = Pair()
    qemu = pair.destination.qemu
    for command, starts in (("stop", False), ("cont", True)):
        assert pair.destination.ask(command) == {}
        assert (qemu.autostart, qemu.run_state) == (starts, "inmigrate")
    assert pair.destination.events == []


def test_a_reset_comes_with_the_firmware_s_own() -> None:
    """And a press of the power button is only passed on."""
    pair = Pair()
    pair.source.ask("system_reset")
    pair.source.ask("system_powerdown")
    pair.go(0.1)
    assert pair.source.events == ["RESET", "POWERDOWN", "RESET"]
    assert pair.source.qemu.run_state == "running"


def test_objects_come_and_go() -> None:
    """Under names that are free."""
    pair = Pair()
    ask = pair.source.ask
    assert ask("object-add", qom_type="secret", id="s0", data="x") == {}
    duplicate = "attempt to add duplicate property 's0' to object (type 'container')"
    assert ask("object-add", qom_type="secret", id="s0", data="x") == duplicate
    assert ask("object-add", qom_type="secret", id="s1") == "Must provide 'file' or 'data' property"
    assert ask("object-add", qom_type="nope", id="s1") == "Parameter 'qom-type' does not accept value 'nope'"
    assert {"name": "s0", "type": "child<secret>"} in ask("qom-list", path="/objects")
    assert ask("object-del", id="s0") == {}
    assert ask("object-del", id="s0") == "object 's0' not found"
    assert ask("object-del", id="pc.ram") == "object 'pc.ram' is in use, can not be deleted"


def test_nodes_come_and_go() -> None:
    """One of a format that can't be migrated blocks migration while it is there."""
    pair = Pair()
    ask = pair.source.ask
    assert ask("blockdev-add", driver="vdi", node_name="v0", filename="t.vdi") == {}
    assert ask("blockdev-add", driver="raw", node_name="v0") == "Duplicate nodes with node-name='v0'"
    reason = "The vdi format used by node 'v0' does not support live migration"
    assert ask("query-migrate") == {"blocked-reasons": [reason]}
    assert ask("migrate", uri="tcp:127.0.0.1:1") == reason
    assert ask("blockdev-del", node_name="v0") == {}
    assert ask("blockdev-del", node_name="v0") == "Failed to find node with node-name='v0'"
    assert ask("query-migrate") == {}


@pytest.mark.parametrize("version", [V7, V10])
def test_devices_are_plugged_where_the_bus_allows_it(version: Version) -> None:
    """And not while migrating; 7.2 looks at the bus first."""
    root = "-device pcie-root-port,id=r0 -device virtio-rng-pci,id=x0"
    pair = Pair(version, source=f"{PLAIN} {root}")
    ask = pair.source.ask
    bus = "Bus 'pcie.0' does not support hotplugging"
    assert ask("device_add", driver="virtio-rng-pci") == bus
    assert ask("device_add", driver="nope") == "'nope' is not a valid device model name"
    assert ask("device_add", driver="virtio-net-pci", id="n9", bus="r0") == {}
    assert {"name": "n9", "type": "child<virtio-net-pci>"} in ask("qom-list", path="/machine/peripheral")
    assert ask("device_del", id="x0") == bus
    assert ask("device_del", id="n9") == {}
    assert ask("device_del", id="n9") == "Device 'n9' not found"
    assert ask("device_add", driver="virtio-net-pci", id="n9", bus="r0") == {}
    pair.destination.qemu.machine.devices[:] = pair.source.qemu.machine.devices
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    migrating = "device_add not allowed while migrating"
    assert ask("device_add", driver="virtio-rng-pci") == (bus if version is V7 else migrating)
    assert ask("device_add", driver="virtio-rng-pci", bus="r0") == migrating
    assert ask("device_del", id="n9") == "device_del not allowed while migrating"
