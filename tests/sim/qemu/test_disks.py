"""Block nodes of a process."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.disks import Disks
from whimbrel.sim.qemu.errors import Refusal
from whimbrel.sim.qemu.images import Images
from whimbrel.sim.qemu.machine import NodeSpec, read

SHARED = ["-blockdev", "driver=file,node-name=f0,filename=s.img", "-blockdev", "driver=raw,node-name=r0,file=f0"]


def _disks(images: Images, pid: int, *more: str, version: Version = Version.V10_0) -> Disks:
    return Disks(read([*SHARED, *more], version), images, pid, version)


def test_a_destination_opens_its_disks_without_their_locks() -> None:
    """It gets them when the source has let them go."""
    images = Images()
    source, destination = _disks(images, 1), _disks(images, 2, "-incoming", "defer")
    assert (source.active, destination.active) == (True, False)
    with pytest.raises(Refusal, match='Failed to get "write" lock'):
        destination.activate()
    assert destination.lock_line == 'Failed to get "write" lock\nIs another process using the image [s.img]?'
    source.inactivate()
    destination.activate()
    assert (source.active, destination.active) == (False, True)
    with pytest.raises(Refusal):
        source.activate()


def test_a_second_user_of_a_disk_can_t_start() -> None:
    """Unless it only reads."""
    images = Images()
    _disks(images, 1)
    with pytest.raises(Refusal):
        _disks(images, 2)
    reader = ["-drive", "if=none,id=d0,file=s.img,format=raw,read-only=on"]
    assert Disks(read(reader, Version.V7_2), images, 3, Version.V7_2).active


def test_later_versions_say_whether_a_node_is_active() -> None:
    """7.2 does not."""
    old = _disks(Images(), 1, version=Version.V7_2).describe()
    new = _disks(Images(), 1, "-incoming", "defer").describe()
    assert [("active" in node, node["node-name"], node["drv"]) for node in old] == [
        (False, "r0", "raw"),
        (False, "f0", "file"),
    ]
    assert [node["active"] for node in new] == [False, False]


def test_some_formats_can_t_be_migrated() -> None:
    """As long as a node of theirs is open."""
    disks = _disks(Images(), 1)
    assert disks.blockers == []
    disks.add(NodeSpec("v0", "vdi", "t.vdi", False))
    assert disks.blockers == ["The vdi format used by node 'v0' does not support live migration"]
    assert disks.remove("v0")
    assert not disks.remove("v0")
    assert disks.blockers == []


def test_what_a_device_uses_is_listed_by_device() -> None:
    """By drive or by node name."""
    blocks = _disks(Images(), 1).blocks({"r0": "/machine/peripheral/vd0/virtio-backend"})
    assert [(block["device"], block["qdev"]) for block in blocks] == [("", "/machine/peripheral/vd0/virtio-backend")]
