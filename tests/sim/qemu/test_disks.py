"""Block nodes of a process."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.disks import Disks
from whimbrel.sim.qemu.errors import Refusal
from whimbrel.sim.qemu.images import Images
from whimbrel.sim.qemu.machine import NodeSpec, read

SHARED = ["-blockdev", "driver=file,node-name=f0,filename=s.img", "-blockdev", "driver=raw,node-name=r0,file=f0"]


def _disks(images: Images, pid: int, *, version: Version = Version.V10_0) -> Disks:
    return Disks(read(SHARED, version), images, pid, version)


def test_disks_are_opened_without_their_locks() -> None:
    """A destination gets them when the source has let them go."""
    images = Images()
    source, destination = _disks(images, 1), _disks(images, 2)
    source.activate()
    source.activate()
    assert (source.active, destination.active) == (True, False)
    with pytest.raises(Refusal, match='Failed to get "write" lock'):
        destination.activate()
    assert destination.lock_line == 'Failed to get "write" lock\nIs another process using the image [s.img]?'
    source.inactivate()
    destination.activate()
    assert (source.active, destination.active) == (False, True)
    with pytest.raises(Refusal):
        source.activate()


def test_whoever_only_reads_needs_no_lock() -> None:
    """And takes none."""
    images = Images()
    _disks(images, 1).activate()
    line = ["-drive", "if=none,id=d0,file=s.img,format=raw,read-only=on"]
    reader = Disks(read(line, Version.V7_2), images, 3, Version.V7_2)
    reader.activate()
    assert reader.active
    assert reader.lock_line is None


def test_later_versions_say_whether_a_node_is_active() -> None:
    """7.2 does not."""
    old = _disks(Images(), 1, version=Version.V7_2).describe()
    new = _disks(Images(), 1).describe()
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
